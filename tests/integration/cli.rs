//! The commands, as a person runs them.

use std::fs;

use tempfile::TempDir;

use crate::support::{command, ferrocast, sqlite_url, text};

const DEFINITIONS: &str = r#"
    project = "demo"
    [[entities]]
    name = "user"
    join_keys = [{ name = "user_id", type = "int64" }]
    [[feature_views]]
    name = "profile"
    entity = "user"
    source = { path = "users.csv" }
    features = [{ name = "age", type = "int32" }, { name = "city", type = "string" }]
"#;

struct Project {
    dir: TempDir,
    url: String,
}

impl Project {
    fn new(csv: &str) -> Project {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("models/demo");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("features.toml"), DEFINITIONS).unwrap();
        fs::write(folder.join("users.csv"), csv).unwrap();
        let url = sqlite_url(dir.path());
        Project { dir, url }
    }

    /// Exit code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let models = self.dir.path().join("models").display().to_string();
        let data = self.dir.path().display().to_string();
        let mut all = arguments.to_vec();
        all.extend([
            "--models",
            &models,
            "--database-url",
            &self.url,
            "--data-dir",
            &data,
        ]);
        let done = ferrocast(&all);
        (
            done.status.code().unwrap(),
            text(&done.stdout),
            text(&done.stderr),
        )
    }
}

const GOOD: &str = "user_id,event_timestamp,age,city\n\
    9007199254740993,2026-01-01T00:00:00Z,41,Delft\n\
    2,2026-01-01T00:00:00Z,,\n\
    2,2026-01-02T00:00:00Z,7,\"a, b\"\n";

#[test]
fn apply_and_materialize_once() {
    let project = Project::new(GOOD);
    let (code, stdout, _) = project.run(&["apply", "--dry-run"]);
    assert_eq!(code, 0);
    assert!(!project.dir.path().join("store.db").exists());
    assert!(
        stdout.contains("would create feature_view profile"),
        "{stdout}"
    );
    let (code, _, stderr) = project.run(&["materialize"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("ferrocast apply"), "{stderr}");

    let (_, stdout, _) = project.run(&["apply"]);
    assert!(stdout.contains("created feature_view profile"), "{stdout}");
    let (_, stdout, _) = project.run(&["apply"]);
    assert!(stdout.contains("everything is as defined"), "{stdout}");

    let (_, stdout, _) = project.run(&["materialize"]);
    assert!(stdout.contains("2 rows written, 1 late"), "{stdout}");
    let (_, stdout, _) = project.run(&["materialize"]);
    assert!(stdout.contains("loaded already"), "{stdout}");
    let (_, stdout, _) = project.run(&["materialize", "profile", "--force"]);
    assert!(stdout.contains("2 rows written, 1 late"), "{stdout}");
}

#[test]
fn older_rows_of_a_view_with_a_history_are_told_as_kept() {
    let project = Project::new(GOOD);
    let path = project.dir.path().join("models/demo/features.toml");
    let text = DEFINITIONS.replace("source", "history = true\nsource");
    fs::write(path, text).unwrap();
    project.run(&["apply"]);
    let (_, stdout, _) = project.run(&["materialize"]);
    let told = "2 rows written, 1 older and kept in the history";
    assert!(stdout.contains(told), "{stdout}");
}

#[test]
fn materialize_goes_on_from_the_newest_rows() {
    let project = Project::new(GOOD);
    project.run(&["apply"]);
    let (_, stdout, _) = project.run(&["materialize", "--incremental"]);
    assert!(stdout.contains("2 rows written, 1 late"), "{stdout}");
    let grown = format!("{GOOD}3,2025-12-31T00:00:00Z,1,x\n4,2026-01-03T00:00:00Z,2,y\n");
    fs::write(project.dir.path().join("models/demo/users.csv"), grown).unwrap();
    let (_, stdout, _) = project.run(&["materialize", "--incremental"]);
    // Of the newest time before, and newer.
    assert!(stdout.contains("2 rows written, 0 late"), "{stdout}");
    let (_, stdout, _) = project.run(&["materialize"]);
    assert!(stdout.contains("from users.csv"), "{stdout}");
    let (_, stdout, _) = project.run(&["describe", "profile"]);
    assert!(stdout.contains("4 rows"), "{stdout}");
}

#[test]
fn materialize_takes_another_file_or_a_folder_of_them() {
    let project = Project::new(GOOD);
    project.run(&["apply"]);
    let folder = project.dir.path().join("more");
    fs::create_dir_all(folder.join("deep")).unwrap();
    for (name, user) in [("deep/b.csv", 2), ("a.CSV", 1), ("deep/c.csv.tmp", 3)] {
        let text = format!("user_id,event_timestamp,age,city\n{user},2026-01-01T00:00:00Z,3,x\n");
        fs::write(folder.join(name), text).unwrap();
    }
    std::os::unix::fs::symlink(&folder, folder.join("deep/again")).unwrap();
    let from = folder.display().to_string();
    let (code, stdout, stderr) = project.run(&["materialize", "profile", "--from", &from]);
    assert_eq!(code, 0, "{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{stdout}");
    assert!(lines[0].ends_with("/a.CSV") && lines[1].ends_with("/deep/b.csv"));
    let (_, stdout, _) = project.run(&["materialize", "profile", "--from", &from]);
    assert_eq!(stdout.matches("loaded already").count(), 2, "{stdout}");
    let (code, _, stderr) = project.run(&["materialize", "--from", &from]);
    assert_eq!(code, 64, "{stderr}");
}

#[test]
fn what_was_not_applied_is_not_loaded() {
    let project = Project::new(GOOD);
    project.run(&["apply"]);
    let path = project.dir.path().join("models/demo/features.toml");
    let (age, more) = (
        r#"{ name = "age""#,
        r#"{ name = "height", type = "int32" }, "#,
    );
    for (changed, part) in [
        (DEFINITIONS.replace("users.csv", "others.csv"), "source"),
        (
            DEFINITIONS.replace(age, &format!("{more}{age}")),
            "features",
        ),
        (DEFINITIONS.replace("int64", "string"), "join keys"),
        (
            DEFINITIONS.replace("source", "history = true\nsource"),
            "history",
        ),
    ] {
        fs::write(&path, changed).unwrap();
        let (code, _, stderr) = project.run(&["materialize"]);
        assert_eq!(code, 1);
        for part in [part, "profile", "ferrocast apply"] {
            assert!(stderr.contains(part), "{part} in {stderr}");
        }
    }
}

#[test]
fn what_one_file_cannot_do_keeps_the_others_from_being_applied() {
    let project = Project::new(GOOD);
    let folder = project.dir.path().join("models/later");
    fs::create_dir(&folder).unwrap();
    let same_view = DEFINITIONS.replace("project = \"demo\"", "project = \"later\"");
    fs::write(folder.join("features.toml"), same_view).unwrap();
    for arguments in [&["apply", "--dry-run"][..], &["apply"], &["check"]] {
        let (code, _, stderr) = project.run(arguments);
        assert_eq!(code, 1, "{arguments:?}");
        let named = stderr.contains("later/features.toml") && stderr.contains("profile");
        assert!(named, "{stderr}");
    }
    let (_, _, stderr) = project.run(&["describe", "profile"]);
    assert!(stderr.contains("no feature view"), "{stderr}");
}

#[test]
fn describe_shows_definition_loads_and_statistics() {
    let project = Project::new(GOOD);
    let (code, _, stderr) = project.run(&["describe", "profile"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("ferrocast apply"), "{stderr}");
    assert!(!project.dir.path().join("store.db").exists());
    project.run(&["apply"]);
    let (_, stdout, _) = project.run(&["describe", "profile"]);
    assert!(stdout.contains("0 rows"), "{stdout}");
    project.run(&["materialize"]);
    let (_, stdout, _) = project.run(&["describe", "profile"]);
    for part in [
        "user (user_id int64)",
        "users.csv: 2 rows written, 1 late",
        "up to 2026-01-02T00:00:00Z",
        "2 rows, from 2026-01-01T00:00:00Z to 2026-01-02T00:00:00Z",
        "string (length)",
    ] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    let (_, stdout, _) = project.run(&["describe", "profile", "--json"]);
    let described: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(described["statistics"]["rows"], "2");
    assert_eq!(
        described["statistics"]["features"][0]["distribution"]["max"],
        41.0
    );
    assert_eq!(described["materializations"][0]["source"], "users.csv");
    assert_eq!(described["watermark"], "2026-01-02T00:00:00Z");
    let (code, _, stderr) = project.run(&["describe", "nobody"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("profile"), "{stderr}");
}

#[test]
fn a_bad_file_names_row_and_column_and_loads_nothing() {
    for (csv, named) in [
        (
            "user_id,event_timestamp,age\n1,2026-01-01T00:00:00Z,3\n",
            vec!["users.csv", "city"],
        ),
        (
            "user_id,event_timestamp,age,city\n1,2026-01-01T00:00:00Z,3,x\n2,2026-01-01T00:00:00Z,old,x\n",
            vec!["users.csv", "row 2", "age", "old"],
        ),
        (
            "user_id,event_timestamp,age,city\n,2026-01-01T00:00:00Z,3,x\n",
            vec!["users.csv", "row 1", "user_id"],
        ),
        (
            "user_id,event_timestamp,age,city\n1,yesterday,3,x\n",
            vec!["users.csv", "row 1", "event_timestamp", "yesterday"],
        ),
    ] {
        let project = Project::new(csv);
        project.run(&["apply"]);
        let (code, _, stderr) = project.run(&["materialize"]);
        assert_ne!(code, 0, "{csv}");
        for part in named {
            assert!(stderr.contains(part), "{part} in {stderr}");
        }
        // The mended file is loaded whole: nothing of the bad one is there, and it is not taken for loaded.
        fs::write(project.dir.path().join("models/demo/users.csv"), GOOD).unwrap();
        let (_, stdout, _) = project.run(&["materialize"]);
        assert!(stdout.contains("2 rows written, 1 late"), "{stdout}");
    }
}

#[test]
fn configuration_faults_come_at_once_with_exit_64() {
    let project = Project::new(GOOD);
    let (code, _, stderr) = project.run(&[
        "check",
        "--set",
        "server.grpc_addr=nowhere",
        "--set",
        "limits.entities_max=many",
        "--set",
        "limits.entitys_max=1",
        "--set",
        "gateway.aliases=POST /old; POST /older -> POST /nowhere",
        "--set",
        "gateway.cors_allowed_origins=not an origin",
        "--set",
        "telemetry.log_filter=a=b=c",
    ]);
    assert_eq!(code, 64);
    for part in [
        "server.grpc_addr",
        "limits.entities_max",
        "limits.entitys_max",
        "POST /old",
        "/nowhere",
        "gateway.cors_allowed_origins",
        "telemetry.log_filter",
    ] {
        assert!(stderr.contains(part), "{part} in {stderr}");
    }
    let done = ferrocast(&["check", "--database-url", "postgres://u@h/d?sslmode=bogus"]);
    assert_eq!(done.status.code(), Some(64));
    assert!(
        text(&done.stderr).contains("sslmode"),
        "{}",
        text(&done.stderr)
    );
    let (code, _, stderr) = project.run(&["serve", "--grpc-adr", "x"]);
    assert_eq!(code, 64);
    assert!(stderr.contains("--grpc-addr"), "{stderr}");
}

#[test]
fn every_command_helps_with_examples() {
    for command in [
        "serve",
        "migrate",
        "apply",
        "materialize",
        "describe",
        "check",
    ] {
        let done = ferrocast(&[command, "--help"]);
        assert!(done.status.success());
        let help = text(&done.stdout);
        assert!(help.contains("Examples:"), "{help}");
    }
}

#[test]
fn check_starts_nothing_and_passes_the_repository() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let done = ferrocast(&["check", "--data-dir", &data]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let stdout = text(&done.stdout);
    assert!(stdout.contains("model credit_risk version 1"), "{stdout}");
    assert!(!dir.path().join("data").exists());
}

#[test]
fn check_opens_the_sources() {
    let project = Project::new("user_id,event_timestamp,age\n");
    let (code, _, stderr) = project.run(&["check"]);
    assert_ne!(code, 0);
    assert!(
        stderr.contains("users.csv") && stderr.contains("city"),
        "{stderr}"
    );
    fs::remove_file(project.dir.path().join("models/demo/users.csv")).unwrap();
    let (code, _, stderr) = project.run(&["check"]);
    assert_ne!(code, 0);
    assert!(stderr.contains("users.csv"), "{stderr}");

    // Every file of a folder is opened.
    let folder = project.dir.path().join("models/demo/users");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("good.csv"), GOOD).unwrap();
    fs::write(folder.join("worse.csv"), "user_id,event_timestamp,city\n").unwrap();
    let definitions = DEFINITIONS.replace("users.csv", "users/");
    let path = project.dir.path().join("models/demo/features.toml");
    fs::write(path, definitions).unwrap();
    let (code, _, stderr) = project.run(&["check"]);
    assert_ne!(code, 0);
    assert!(
        stderr.contains("users/worse.csv") && stderr.contains("age"),
        "{stderr}"
    );
}

#[test]
fn definitions_with_faults_change_nothing() {
    let project = Project::new(GOOD);
    let path = project.dir.path().join("models/demo/features.toml");
    let two_faults = DEFINITIONS
        .replace("\"age\"", "\"1age\"")
        .replace("\"city\"", "\"a-b\"");
    fs::write(&path, two_faults).unwrap();
    let (_, _, stderr) = project.run(&["apply"]);
    for (line, name) in stderr.lines().zip(["1age", "a-b"]) {
        assert!(
            line.contains("features.toml") && line.contains(name),
            "{stderr}"
        );
    }
    fs::write(&path, DEFINITIONS.replace("int32", "number")).unwrap();
    let (code, _, stderr) = project.run(&["apply"]);
    assert_ne!(code, 0);
    assert!(
        stderr.contains("features.toml") && stderr.contains("number"),
        "{stderr}"
    );
    fs::write(&path, DEFINITIONS).unwrap();
    let (_, stdout, _) = project.run(&["apply"]);
    assert!(stdout.contains("created entity user"), "{stdout}");
}

#[test]
fn nobody_is_told_that_a_model_was_loaded() {
    let home = tempfile::tempdir().unwrap();
    let output = command(&["check"])
        .env("HOME", home.path())
        .env_remove("XDG_CACHE_HOME")
        .env_remove("ORT_DISABLE_TELEMETRY")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
