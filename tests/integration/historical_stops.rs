//! A join that is told to stop, or takes too long, leaves nothing behind, and its process is given the time for that.

use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use ferrocast::grpc::pb;
use tonic::Code;

use crate::support::{Running, command, ferrocast, text};

const DEFINITIONS: &str = r#"
    project = "shops"
    [[entities]]
    name = "shop"
    join_keys = [{ name = "shop_id", type = "int64" }]
    [[feature_views]]
    name = "prices"
    entity = "shop"
    source = { path = "prices.csv" }
    features = [{ name = "price", type = "double" }]
"#;

const PRICES: &str = "shop_id,event_timestamp,price\n1,1970-01-01T01:00:00Z,1.5\n";

/// As long as a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store, and a program in the place of `ferrocast-historical` that never comes to its end.
struct Joins {
    folder: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Joins {
    /// With what the program does when it is told to end.
    fn new(at_end: &str) -> Joins {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("models/shops")).unwrap();
        fs::create_dir(path("work")).unwrap();
        fs::write(path("models/shops/features.toml"), DEFINITIONS).unwrap();
        fs::write(path("models/shops/prices.csv"), PRICES).unwrap();
        let here = folder.path().display();
        let script = format!(
            "#!/bin/sh\ntrap '{at_end}' TERM\ncd {here}\ncat >plan\necho $$ >began\nwhile :; do sleep 0.05; done\n"
        );
        fs::write(path("program"), script).unwrap();
        fs::set_permissions(path("program"), fs::Permissions::from_mode(0o755)).unwrap();
        let models = path("models").display().to_string();
        let url = format!("sqlite:{}", path("store.db").display());
        let common = ["--models", models.as_str(), "--database-url", url.as_str()];
        let done = ferrocast(&[&["apply"], common.as_slice()].concat());
        assert!(done.status.success(), "{}", text(&done.stderr));
        let program = format!("historical.program={here}/program");
        let work = format!("historical.work_dir={here}/work");
        let (spine, out) = (format!("{here}/labels.parquet"), format!("{here}/out"));
        let own = [
            "historical",
            "--set",
            &program,
            "--set",
            &work,
            "--spine",
            &spine,
            "--features",
            "prices:price",
            "--out",
            &out,
        ];
        let arguments = own.iter().chain(&common).map(|word| (*word).to_owned());
        let arguments = arguments.collect();
        Joins { folder, arguments }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, further: &[&str]) -> Child {
        let arguments = self.arguments.iter().map(String::as_str);
        let all: Vec<&str> = arguments.chain(further.iter().copied()).collect();
        let child = command(&all).stderr(Stdio::piped()).spawn();
        child.unwrap()
    }

    /// Starts the command, and waits until the program has its plan.
    fn begin(&self) -> Child {
        let child = self.start(&[]);
        self.wait_for("began");
        assert_eq!(self.work_folders(), 1);
        child
    }

    /// Waits until the program has written a file.
    fn wait_for(&self, name: &str) {
        let since = Instant::now();
        while !self.path(name).exists() {
            assert!(since.elapsed() < PATIENCE, "there is no {name}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn work_folders(&self) -> usize {
        fs::read_dir(self.path("work")).unwrap().count()
    }

    async fn serve(&self) -> Running {
        let path = |name: &str| self.path(name).display().to_string();
        let url = format!("sqlite:{}", path("store.db"));
        let (models, program, work) = (path("models"), path("program"), path("work"));
        let settings = [
            ("models.path", models.as_str()),
            ("historical.program", program.as_str()),
            ("historical.work_dir", work.as_str()),
        ];
        Running::on(&url, &settings, tempfile::tempdir().unwrap()).await
    }

    /// Waits for the command; says why it failed, and that nothing is left.
    fn end(&self, mut child: Child) -> String {
        let mut said = String::new();
        let mut stderr = child.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
        assert_eq!(self.work_folders(), 0);
        let id = fs::read_to_string(self.path("began")).unwrap();
        assert!(
            !Path::new("/proc").join(id.trim()).exists(),
            "it still runs"
        );
        said
    }
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let mut kill = std::process::Command::new("kill");
    let done = kill.args([&format!("-{name}"), &id]).status();
    assert!(done.unwrap().success());
}

#[test]
fn a_signal_to_the_command_reaches_its_process_and_removes_its_files() {
    for name in ["INT", "TERM"] {
        let joins = Joins::new("echo it >ended; exit 1");
        let child = joins.begin();
        signal(&child, name);
        let said = joins.end(child);
        assert!(said.contains("told to stop"), "{said}");
        assert!(joins.path("ended").exists());
    }
}

#[test]
fn a_join_that_takes_too_long_may_clean_up_behind_itself() {
    let joins = Joins::new("echo it >ended; exit 1");
    let said = joins.end(joins.start(&["--set", "historical.join_ms_max=4000"]));
    assert!(said.contains("historical.join_ms_max"), "{said}");
    assert!(joins.path("ended").exists());
}

#[test]
fn a_process_that_does_not_end_is_killed() {
    let joins = Joins::new("");
    let child = joins.begin();
    signal(&child, "TERM");
    let since = Instant::now();
    joins.end(child);
    assert!(since.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_ends_with_its_caller_and_with_the_server() {
    let joins = Joins::new("echo it >ended; exit 1");
    let running = joins.serve().await;
    let mut client = running.features().await;
    let request = pb::GetHistoricalFeaturesRequest {
        features: vec!["prices:price".into()],
        spine: b"anything".to_vec(),
        ..Default::default()
    };
    let answer = client.get_historical_features(request.clone()).await;
    joins.wait_for("began");
    drop(answer);
    joins.wait_for("ended");
    let since = Instant::now();
    while joins.work_folders() > 0 {
        assert!(since.elapsed() < PATIENCE, "its files are still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for name in ["began", "ended"] {
        fs::remove_file(joins.path(name)).unwrap();
    }

    let answer = client.get_historical_features(request).await.unwrap();
    joins.wait_for("began");
    assert!(running.server.stop().await);
    assert!(joins.path("ended").exists());
    assert_eq!(joins.work_folders(), 0);
    let fault = answer.into_inner().message().await.unwrap_err();
    assert_eq!(fault.code(), Code::Unavailable, "{fault}");
}
