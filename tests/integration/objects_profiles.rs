//! A model in S3, asked for with what a profile of AWS's programs leads to: by a program of its own, a role, a token. S3 and
//! STS are moto's.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Output};

use tempfile::TempDir;

use crate::{
    objects::InS3,
    support::{command, text},
};

const BASE: &str = "[base]\naws_access_key_id = AKIDBASE\naws_secret_access_key = hunter2\n";
const ROLE: &str = "role_arn = arn:aws:iam::123456789012:role/reader\n";

/// The profile `work` of a user, beside one with keys, and the model that he may read.
struct User {
    stored: InS3,
    home: TempDir,
}

impl User {
    async fn new(profile: &str) -> User {
        let user = User {
            stored: InS3::new().await,
            home: tempfile::tempdir().unwrap(),
        };
        user.writes("config", &format!("[profile work]\n{profile}"));
        user.writes("credentials", BASE);
        user
    }

    fn writes(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(".aws").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Has the model checked, which fetches it. STS is asked at a URL.
    fn check(&self, sts: &str) -> Output {
        let models = self.stored.models.path().display().to_string();
        let cache = self.home.path().join("cache").display().to_string();
        let settings = [
            format!(
                "artifacts.allowed_hosts=127.0.0.1:{}",
                self.stored.front.port()
            ),
            format!("artifacts.cache_dir={cache}"),
        ];
        let mut command = command(&[
            "check",
            "--models",
            &models,
            "--set",
            &settings[0],
            "--set",
            &settings[1],
            "--set",
            "telemetry.log_filter=trace,aws_config::profile::credentials=trace",
        ]);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                command.env_remove(&name);
            }
        }
        command
            .env("HOME", self.home.path())
            .env("AWS_PROFILE", "work")
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_ENDPOINT_URL", self.stored.front.url())
            .env("AWS_ENDPOINT_URL_STS", sts);
        let done = tokio::task::block_in_place(|| command.output().unwrap());
        for told in [&done.stdout, &done.stderr] {
            assert!(!text(told).contains("hunter2"), "{}", text(told));
        }
        done
    }

    /// All that was asked, where the check went well.
    fn checked(&self) -> String {
        let done = self.check(&self.stored.front.url());
        assert!(done.status.success(), "{}", text(&done.stderr));
        self.stored.front.requests()
    }
}

/// Whether S3 was asked with keys that begin so.
fn has_asked_s3(requests: &str, keys: &str) -> bool {
    let signed = requests.split("Credential=").skip(1);
    let lines = signed.filter_map(|rest| rest.lines().next());
    lines
        .into_iter()
        .any(|line| line.starts_with(keys) && line.contains("/s3/aws4_request"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_the_profile_may_give_the_keys() {
    let user = User::new("").await;
    let keys = r#"{"Version":1,"AccessKeyId":"AKIDPROGRAM","SecretAccessKey":"hunter2"}"#;
    let program = user.writes("keys.sh", &format!("#!/bin/sh\necho '{keys}'\n"));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    user.writes(
        "config",
        &format!("[profile work]\ncredential_process = {program} hunter2\n"),
    );
    assert!(has_asked_s3(&user.checked(), "AKIDPROGRAM/"));
    user.writes("keys.sh", "#!/bin/sh\necho hunter2 >&2\nexit 3\n");
    let done = user.check(&user.stored.front.url());
    let told = text(&done.stderr) + &text(&done.stdout);
    assert!(
        !done.status.success() && told.contains("exit status: 3"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_assumed_with_the_keys_of_another_profile() {
    let user = User::new(&format!("{ROLE}source_profile = base\n")).await;
    let requests = user.checked();
    assert!(requests.contains("Action=AssumeRole&"), "{requests}");
    let base = requests.lines().any(|line| {
        line.contains("Credential=AKIDBASE/") && line.contains("/eu-central-1/sts/aws4_request")
    });
    assert!(base, "{requests}");
    assert!(has_asked_s3(&requests, "ASIA") && !has_asked_s3(&requests, "AKIDBASE"));
    assert!(requests.to_lowercase().contains("x-amz-security-token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_assumed_with_a_token_in_a_file() {
    let user = User::new("").await;
    let token = user.writes("token", "hunter2");
    let profile = format!("[profile work]\n{ROLE}web_identity_token_file = {token}\n");
    user.writes("config", &profile);
    let requests = user.checked();
    assert!(
        requests.contains("Action=AssumeRoleWithWebIdentity"),
        "{requests}"
    );
    assert!(has_asked_s3(&requests, "ASIA"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sts_is_not_asked_where_that_is_not_allowed() {
    let user = User::new(&format!("{ROLE}source_profile = base\n")).await;
    // The very service, on a port that is not on the list.
    let done = user.check(&user.stored.s3.url());
    assert!(!done.status.success());
    let told = text(&done.stderr) + &text(&done.stdout);
    assert!(told.contains("artifacts.allowed_hosts"), "{told}");
    assert_eq!(user.stored.front.requests(), "");
    assert!(Path::new(user.home.path()).join(".aws/config").is_file());
}
