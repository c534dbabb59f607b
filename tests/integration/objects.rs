//! Models of object stores: S3 by moto, folders of this machine, and an MLflow whose artifacts are in S3.

use std::{fs, path::Path};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::{
    front::Front,
    mlflow::{MODEL, Registered, answers, becomes, models_from, problem},
    models_support::{add_opposite, copy, copy_of_models, edit_json},
    services::{S3, files_of},
    support::{Running, command, models, text},
};

const KEYS: [(&str, &str); 4] = [
    ("AWS_ACCESS_KEY_ID", "AKIDTEST"),
    ("AWS_SECRET_ACCESS_KEY", "hunter2"),
    ("AWS_REGION", "eu-central-1"),
    ("AWS_ALLOW_HTTP", "true"),
];

/// A model with the versions 1 and 2 in a bucket of its own, of which 2 scores the other class.
pub(crate) struct InS3 {
    pub(crate) s3: &'static S3,
    pub(crate) front: Front,
    prefix: String,
    versions: TempDir,
    pub(crate) models: TempDir,
    cache: TempDir,
}

impl InS3 {
    pub(crate) async fn new() -> InS3 {
        let s3 = tokio::task::block_in_place(S3::shared);
        let versions = copy_of_models();
        add_opposite(versions.path(), "2");
        let prefix = format!("{}/models/credit_risk", s3.new_bucket().await);
        let front = Front::before(s3.port()).await;
        let stored = InS3 {
            models: models_from(&format!("s3://{prefix}")),
            s3,
            front,
            prefix,
            versions,
            cache: tempfile::tempdir().unwrap(),
        };
        stored.upload("1").await;
        stored
    }

    fn folder(&self, version: &str) -> std::path::PathBuf {
        self.versions.path().join("credit_risk").join(version)
    }

    async fn upload(&self, version: &str) {
        let key = format!("{}/{version}", self.prefix);
        self.s3.upload(&self.folder(version), &key).await;
    }

    async fn serve(&self, environment: &[(&str, &str)], settings: &[(&str, &str)]) -> Running {
        let models = self.models.path().display().to_string();
        let cache = self.cache.path().display().to_string();
        let host = format!("127.0.0.1:{}", self.front.port());
        let all = [
            ("models.path", models.as_str()),
            ("artifacts.cache_dir", cache.as_str()),
            ("artifacts.poll_ms", "100"),
            ("artifacts.allowed_hosts", host.as_str()),
            ("models.watch_interval_ms", "50"),
        ];
        let url = self.front.url();
        let endpoint = [("AWS_ENDPOINT_URL", url.as_str())];
        Running::within(
            &[&endpoint, environment].concat(),
            &[all.as_slice(), settings].concat(),
        )
        .await
    }
}

fn reason<'a>(model: &'a Json, version: &str) -> &'a str {
    let versions = model["versions"].as_array().unwrap();
    let found = versions.iter().find(|found| found["version"] == version);
    found.map_or("", |found| found["reason"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_version_of_a_bucket_answers() {
    let stored = InS3::new().await;
    let running = stored.serve(&KEYS, &[]).await;
    assert_eq!(answers(&running).await, "1");
    assert!(
        stored.front.requests().contains("Credential=AKIDTEST/"),
        "{}",
        stored.front.requests()
    );
    stored.upload("2").await;
    becomes(&running, "version 2", |model| {
        model["defaultVersion"] == "2"
    })
    .await;
    assert_eq!(answers(&running).await, "2");
    // Its aliases are ours: it has none.
    let alias = json!({ "version": "1" });
    assert_eq!(
        running
            .put(&format!("{MODEL}/aliases/champion"), alias)
            .await
            .0,
        200
    );
    assert_eq!(answers(&running).await, "1");
    // What is taken away there goes away here.
    for (name, _) in files_of(&stored.folder("2")) {
        stored
            .s3
            .delete(&format!("{}/2/{name}", stored.prefix))
            .await;
    }
    becomes(&running, "one version", |model| {
        model["versions"].as_array().unwrap().len() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_has_not_ended_is_told_and_taken_when_it_has() {
    let stored = InS3::new().await;
    let running = stored.serve(&KEYS, &[]).await;
    let file = |name: &str| fs::read(stored.folder("2").join(name)).unwrap();
    let key = |name: &str| format!("{}/2/{name}", stored.prefix);
    stored.s3.put(&key("model.onnx"), file("model.onnx")).await;
    let model = becomes(&running, "no signature", |model| {
        reason(model, "2").contains("signature.json")
    })
    .await;
    assert_eq!(model["defaultVersion"], "1");
    // The model that the signature means is not the one that is there.
    stored.s3.put(&key("model.onnx"), b"another".to_vec()).await;
    for name in ["signature.json", "golden.json", "trees.json"] {
        stored.s3.put(&key(name), file(name)).await;
    }
    becomes(&running, "another digest", |model| {
        reason(model, "2").contains("SHA-256")
    })
    .await;
    assert_eq!(answers(&running).await, "1");
    stored.s3.put(&key("model.onnx"), file("model.onnx")).await;
    becomes(&running, "version 2", |model| {
        model["defaultVersion"] == "2"
    })
    .await;
    assert_eq!(answers(&running).await, "2");

    // Replaced by what must not be served, it goes on as it was.
    stored.s3.put(&key("golden.json"), b"{}".to_vec()).await;
    let model = becomes(&running, "a problem", |model| {
        reason(model, "2").contains("golden.json")
    })
    .await;
    assert_eq!(model["versions"][1]["state"], "READY");
    assert_eq!(answers(&running).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_allowed_is_not_asked() {
    let stored = InS3::new().await;
    let other = [(
        "artifacts.allowed_hosts",
        "models.example.com;*.amazonaws.com",
    )];
    let running = stored.serve(&KEYS, &other).await;
    let (_, model) = running.get(MODEL).await;
    let reason = model["reason"].as_str().unwrap();
    let host = format!("the host 127.0.0.1:{} is not among", stored.front.port());
    assert!(
        reason.contains(&host) && reason.contains("artifacts.allowed_hosts"),
        "{reason}"
    );
    assert_eq!(stored.front.requests(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_a_store_has_to_be_of_a_known_authority() {
    let folder = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    fs::write(&certificate, issued.cert.pem()).unwrap();
    fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    let s3 = tokio::task::block_in_place(|| S3::start_tls(&certificate, &key));
    let prefix = format!("{}/credit_risk", s3.new_bucket().await);
    s3.upload(&models().join("credit_risk/1"), &format!("{prefix}/1"))
        .await;
    let repository = models_from(&format!("s3://{prefix}"));
    let path = repository.path().display().to_string();
    let allowed = "artifacts.allowed_hosts=127.0.0.1";
    let check = |authorities: &Path| {
        let mut command = command(&["check", "--models", &path, "--set", allowed]);
        command.envs(KEYS).env("AWS_ENDPOINT_URL", s3.url());
        let checked = command.env("SSL_CERT_FILE", authorities);
        tokio::task::block_in_place(|| checked.output().unwrap())
    };
    let checked = check(&certificate);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let others = folder.path().join("other.pem");
    fs::write(&others, other.cert.pem()).unwrap();
    let checked = check(&others);
    assert!(!checked.status.success());
    let stderr = text(&checked.stderr);
    assert!(stderr.contains("certificate"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_read_from_the_users_own_file() {
    let stored = InS3::new().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let keys = "[work]\naws_access_key_id = AKIDFILE\naws_secret_access_key = hunter2\n";
    fs::write(file.path(), keys).unwrap();
    let path = file.path().display().to_string();
    let shared = ("AWS_SHARED_CREDENTIALS_FILE", path.as_str());
    let running = stored
        .serve(&[shared, ("AWS_PROFILE", "work"), KEYS[2], KEYS[3]], &[])
        .await;
    assert_eq!(answers(&running).await, "1");
    assert!(stored.front.requests().contains("Credential=AKIDFILE/"));
    let running = stored
        .serve(&[shared, ("AWS_PROFILE", "home"), KEYS[2], KEYS[3]], &[])
        .await;
    let (_, model) = running.get(MODEL).await;
    assert!(problem(&model).contains("`home`"), "{model}");
    assert!(!model.to_string().contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_place_and_an_unknown_kind_of_place_say_so() {
    let stored = InS3::new().await;
    for (source, part) in [
        (
            format!("s3://{}/nothing", stored.prefix),
            "no version is there",
        ),
        ("ftp://host/models".to_owned(), "it is no location"),
        (
            "file:///nonexistent/models".to_owned(),
            "no version is there",
        ),
    ] {
        let models = models_from(&source);
        let path = models.path().display().to_string();
        let running = stored.serve(&KEYS, &[("models.path", path.as_str())]).await;
        let (_, model) = running.get(MODEL).await;
        assert!(
            model["reason"].as_str().unwrap().contains(part),
            "{part} in {model}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_this_machine_is_followed() {
    let stored = copy_of_models();
    add_opposite(stored.path(), "2");
    let folder = stored.path().join("credit_risk");
    fs::rename(folder.join("2"), stored.path().join("later")).unwrap();
    let models = models_from(&format!("file://{}", folder.display()));
    let path = models.path().display().to_string();
    let cache = stored.path().join("cache").display().to_string();
    let settings = [
        ("models.path", path.as_str()),
        ("artifacts.cache_dir", cache.as_str()),
        ("artifacts.poll_ms", "100"),
    ];
    let running = Running::with(&settings).await;
    assert_eq!(answers(&running).await, "1");
    fs::rename(stored.path().join("later"), folder.join("2")).unwrap();
    becomes(&running, "version 2", |model| {
        model["defaultVersion"] == "2"
    })
    .await;
    // Away, as a share of the network may be: what was copied goes on.
    fs::rename(&folder, stored.path().join("away")).unwrap();
    becomes(&running, "away", |model| !problem(model).is_empty()).await;
    assert_eq!(answers(&running).await, "2");
}

/// A tracking server that leaves artifacts where they are.
#[tokio::test(flavor = "multi_thread")]
async fn artifacts_of_mlflow_may_be_in_s3() {
    let stored = InS3::new().await;
    let registered = Registered::new().await;
    copy(&stored.folder("1"), &registered.folder("7"));
    edit_json(
        &registered.folder("7").join("signature.json"),
        |signature| {
            signature["version"] = json!("7");
        },
    );
    let key = format!("{}/7", stored.prefix);
    stored.s3.upload(&registered.folder("7"), &key).await;
    let number = registered
        .mlflow
        .register_at(&registered.name, &format!("s3://{key}"), "")
        .await;
    registered.champion(&number).await;
    let models = registered.models.path().display().to_string();
    let uri = registered.mlflow.url();
    let settings = [
        ("models.path", models.as_str()),
        ("mlflow.tracking_uri", uri.as_str()),
    ];
    let running = stored.serve(&KEYS, &settings).await;
    assert_eq!(answers(&running).await, number);
    // The registry may name any host; only those that are allowed are asked.
    let refused = TempDir::new().unwrap();
    let cache = Path::new(refused.path()).display().to_string();
    let strict = [
        settings[0],
        settings[1],
        ("artifacts.allowed_hosts", ""),
        ("artifacts.cache_dir", &cache),
    ];
    let running = stored.serve(&KEYS, &strict).await;
    let (_, model) = running.get(MODEL).await;
    assert!(
        reason(&model, &number).contains("artifacts.allowed_hosts"),
        "{model}"
    );
}
