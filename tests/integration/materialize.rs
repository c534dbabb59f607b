//! Materialize through the wire: progress, newer rows only, a folder that breaks off, callers who go away.

use std::{fs, path::PathBuf, time::Duration};

use ferrocast::grpc::pb;
use serde_json::{Value as Json, json};
use tonic::Code;

use crate::support::{Running, ferrocast, sqlite_url, text};

const DEFINITIONS: &str = r#"
    project = "demo"
    [[entities]]
    name = "user"
    join_keys = [{ name = "user_id", type = "int64" }]
    [[feature_views]]
    name = "visits"
    entity = "user"
    source = { path = "visits/" }
    features = [{ name = "pages", type = "int32" }, { name = "tags", type = "list<string>" }]
    [[feature_views]]
    name = "profile"
    entity = "user"
    source = { path = "profile.csv" }
    features = [{ name = "age", type = "int32" }]
    [[feature_views]]
    name = "doubled"
    entity = "user"
    source = { query = "SELECT user_id, event_timestamp, 2 * age AS twice FROM fv_profile" }
    features = [{ name = "twice", type = "int64" }]
    [[feature_views]]
    name = "written"
    entity = "user"
    features = [{ name = "x", type = "double" }]
"#;

const ROUTE: &str = "/v1/featureViews:materialize";

/// A bound on waiting for something that has to come, on a machine however slow.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// A server on a repository of its own.
struct Project {
    running: Running,
    folder: PathBuf,
    _models: tempfile::TempDir,
}

fn visits(rows: &[(i64, &str, i64)]) -> String {
    let lines = rows
        .iter()
        .map(|(user, time, pages)| format!("{user},{time},{pages},\"[\"\"a\"\"]\"\n"));
    format!(
        "user_id,event_timestamp,pages,tags\n{}",
        lines.collect::<String>()
    )
}

impl Project {
    async fn start(settings: &[(&str, &str)]) -> Project {
        let models = tempfile::tempdir().unwrap();
        let folder = models.path().join("demo");
        fs::create_dir_all(folder.join("visits/2026")).unwrap();
        fs::write(folder.join("features.toml"), DEFINITIONS).unwrap();
        let profile = "user_id,event_timestamp,age\n1,2026-01-01T00:00:00Z,41\n";
        fs::write(folder.join("profile.csv"), profile).unwrap();
        let day = visits(&[
            (1, "2026-01-01T00:00:00Z", 3),
            (2, "2026-01-01T00:00:00Z", 4),
        ]);
        fs::write(folder.join("visits/2026/01.csv"), day).unwrap();

        let dir = tempfile::tempdir().unwrap();
        let url = sqlite_url(dir.path());
        let path = models.path().display().to_string();
        let done = tokio::task::block_in_place(|| {
            ferrocast(&["apply", "--database-url", &url, "--models", &path])
        });
        assert!(done.status.success(), "{}", text(&done.stderr));
        let mut all = vec![("models.path", path.as_str())];
        all.extend(settings);
        Project {
            running: Running::on(&url, &all, dir).await,
            folder,
            _models: models,
        }
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.folder.join(name), content).unwrap();
    }

    /// The messages of a load through REST, one a line.
    async fn load(&self, request: Json) -> Vec<Json> {
        let response = self.running.http.post(self.running.url(ROUTE));
        let response = response.json(&request).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.text().await.unwrap();
        body.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    async fn feature(&self, feature: &str, user: i64) -> Json {
        let request = json!({ "features": [feature], "entities": [{ "user_id": user }] });
        let (status, answer) = self.running.post("/v1/features:get", request).await;
        assert_eq!(status, 200, "{answer}");
        answer["columns"][0]["values"][0].clone()
    }

    async fn view(&self, name: &str) -> Json {
        let (status, view) = self.running.get(&format!("/v1/featureViews/{name}")).await;
        assert_eq!(status, 200, "{view}");
        view
    }
}

fn done<'a>(messages: &'a [Json], source: &str) -> &'a Json {
    let last = messages.iter().rfind(|message| message["source"] == source);
    let last = last.unwrap_or_else(|| panic!("nothing of {source}: {messages:?}"));
    assert_eq!(last["isDone"], true, "{messages:?}");
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn every_source_is_told_to_its_end() {
    let project = Project::start(&[]).await;
    let more = visits(&[(2, "2026-01-02T00:00:00Z", 5)]);
    project.write("visits/2026/02.CSV", &more);
    project.write("visits/_unfinished.csv", "nonsense");
    let messages = project.load(json!({})).await;
    let first = done(&messages, "visits/2026/01.csv");
    assert_eq!(first["rowsRead"], "2", "{messages:?}");
    assert_eq!(first["result"]["written"], "2");
    assert_eq!(first["watermark"], "2026-01-01T00:00:00Z");
    let second = done(&messages, "visits/2026/02.CSV");
    assert_eq!(second["watermark"], "2026-01-02T00:00:00Z");
    assert_eq!(done(&messages, "profile.csv")["view"], "profile");
    assert!(
        messages
            .iter()
            .all(|message| message["source"] != "visits/_unfinished.csv")
    );
    assert_eq!(project.feature("visits:pages", 2).await, 5);
    assert_eq!(project.feature("visits:tags", 2).await, json!(["a"]));

    // A query is read whenever it is asked for; files that have not changed are not.
    let messages = project
        .load(json!({ "views": ["doubled", "visits"] }))
        .await;
    assert_eq!(done(&messages, "query")["result"]["written"], "1");
    assert_eq!(done(&messages, "visits/2026/01.csv")["isUnchanged"], true);
    assert_eq!(project.feature("doubled:twice", 1).await, 82);
    let request = json!({ "views": ["profile"], "force": true });
    let messages = project.load(request).await;
    assert_eq!(done(&messages, "profile.csv")["isUnchanged"], false);

    let loads = &project.view("visits").await["materializations"];
    assert_eq!(loads.as_array().unwrap().len(), 2, "{loads}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_load_leaves_out_what_is_older_and_a_whole_one_brings_it() {
    let project = Project::start(&[]).await;
    let request = json!({ "views": ["visits"], "incremental": true });
    project.load(request.clone()).await;
    assert_eq!(project.feature("visits:pages", 1).await, 3);

    let grown = visits(&[
        (1, "2026-01-01T00:00:00Z", 3),
        (7, "2025-12-31T00:00:00Z", 7),
        (8, "2026-01-01T00:00:00Z", 8),
        (9, "2026-01-02T00:00:00Z", 9),
    ]);
    project.write("visits/2026/01.csv", &grown);
    // A file that is new is loaded whole, whatever its times.
    let late = visits(&[(6, "2020-01-01T00:00:00Z", 6)]);
    project.write("visits/2026/00.csv", &late);
    let messages = project.load(request.clone()).await;
    let last = done(&messages, "visits/2026/01.csv");
    assert_eq!(last["rowsRead"], "4");
    for (user, pages) in [(6, json!(6)), (7, Json::Null), (8, json!(8)), (9, json!(9))] {
        assert_eq!(project.feature("visits:pages", user).await, pages, "{user}");
    }
    let messages = project.load(request).await;
    assert_eq!(done(&messages, "visits/2026/01.csv")["isUnchanged"], true);

    let messages = project.load(json!({ "views": ["visits"] })).await;
    assert_eq!(done(&messages, "visits/2026/01.csv")["isUnchanged"], false);
    assert_eq!(done(&messages, "visits/2026/00.csv")["isUnchanged"], true);
    assert_eq!(project.feature("visits:pages", 7).await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_breaks_off_goes_on_where_it_was() {
    let project = Project::start(&[]).await;
    let broken = visits(&[(5, "2026-01-02T00:00:00Z", 5)]) + "6,2026-01-02T00:00:00Z,many,[]\n";
    project.write("visits/2026/02.csv", &broken);
    let third = visits(&[(7, "2026-01-03T00:00:00Z", 7)]);
    project.write("visits/2026/03.csv", &third);
    let request = json!({ "views": ["visits"], "incremental": true });
    let messages = project.load(request.clone()).await;
    done(&messages, "visits/2026/01.csv");
    let error = &messages.last().unwrap()["error"];
    let said = error["message"].as_str().unwrap();
    for part in ["visits/2026/02.csv", "row 2", "pages", "many"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(
        !said.contains(&project.folder.display().to_string()),
        "{said}"
    );
    assert_eq!(project.feature("visits:pages", 1).await, 3);
    assert_eq!(project.feature("visits:pages", 5).await, Json::Null);
    assert_eq!(project.feature("visits:pages", 7).await, Json::Null);

    project.write("visits/2026/02.csv", &broken.replace("many", "6"));
    let messages = project.load(request).await;
    assert_eq!(done(&messages, "visits/2026/01.csv")["isUnchanged"], true);
    assert_eq!(done(&messages, "visits/2026/02.csv")["isUnchanged"], false);
    for user in [5, 6, 7] {
        assert_eq!(project.feature("visits:pages", user).await, user);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_more_is_refused_and_a_caller_who_goes_away_takes_the_load_along() {
    let project = Project::start(&[("limits.materializations_max", "1")]).await;
    let mut many = String::from("user_id,event_timestamp,age\n");
    for user in 0..400_000 {
        many.push_str(&format!("{user},2026-01-01T00:00:00Z,1\n"));
    }
    project.write("profile.csv", &many);
    let request = pb::MaterializeRequest {
        views: vec!["profile".into()],
        ..Default::default()
    };
    let mut client = project.running.features().await;
    let answer = client.materialize(request).await.unwrap();
    let mut messages = answer.into_inner();
    let begun = messages.message().await.unwrap().unwrap();
    assert!(!begun.is_done);

    let visits = json!({ "views": ["visits"] });
    let (status, refused) = project.running.post(ROUTE, visits.clone()).await;
    assert_eq!(status, 429, "{refused}");
    assert!(
        refused.to_string().contains("limits.materializations_max"),
        "{refused}"
    );

    drop((messages, client));
    let taken = async {
        while project.running.post(ROUTE, visits.clone()).await.0 == 429 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, taken).await.unwrap();
    // The embedded store loads one after the other: what was given up has ended.
    let loads = &project.view("visits").await["materializations"];
    assert_eq!(loads.as_array().unwrap().len(), 1, "{loads}");
    let loads = &project.view("profile").await["materializations"];
    assert_eq!(loads.as_array().unwrap().len(), 0, "{loads}");
    assert_eq!(project.feature("profile:age", 0).await, Json::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_loaded_is_told_at_once() {
    let project = Project::start(&[]).await;
    let mut client = project.running.features().await;
    for (views, code, said) in [
        (vec!["nobody"], Code::NotFound, "nobody"),
        (
            vec!["visits", "written"],
            Code::FailedPrecondition,
            "written",
        ),
    ] {
        let request = pb::MaterializeRequest {
            views: views.into_iter().map(str::to_owned).collect(),
            ..Default::default()
        };
        let fault = client.materialize(request).await.unwrap_err();
        assert_eq!(fault.code(), code, "{fault:?}");
        assert!(fault.message().contains(said), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_reads_nothing_outside_the_repository() {
    let project = Project::start(&[]).await;
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret.csv");
    fs::write(
        &secret,
        "user_id,event_timestamp,age\n1,2026-01-01T00:00:00Z,99\n",
    )
    .unwrap();
    std::os::unix::fs::symlink(&secret, project.folder.join("link.csv")).unwrap();
    fs::create_dir(project.folder.join("linked")).unwrap();
    std::os::unix::fs::symlink(outside.path(), project.folder.join("linked/more")).unwrap();
    let absolute = secret.display().to_string();
    let nowhere = outside.path().join("nowhere.csv").display().to_string();
    for path in [
        absolute.as_str(),
        nowhere.as_str(),
        "../../../../../../etc/passwd.csv",
        "a/../../../secret.csv",
        "link.csv",
        "linked/",
    ] {
        let definitions = DEFINITIONS.replace("profile.csv", path);
        let body = json!({ "definitions": definitions });
        let (status, answer) = project.running.post("/v1/definitions:apply", body).await;
        assert_eq!(status, 200, "{answer}");
        let request = json!({ "views": ["profile"] });
        let (status, answer) = project.running.post(ROUTE, request).await;
        assert_eq!(status, 403, "{path}: {answer}");
    }
    assert_eq!(project.feature("profile:age", 1).await, Json::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_tell_what_the_rows_are_like() {
    let project = Project::start(&[]).await;
    let mut rows = String::from("user_id,event_timestamp,age\n");
    for user in 0..1_000 {
        let age = if user % 10 == 0 {
            String::new()
        } else {
            (user % 10).to_string()
        };
        rows.push_str(&format!("{user},2026-01-01T00:00:00Z,{age}\n"));
    }
    project.write("profile.csv", &rows);
    project.load(json!({ "views": ["profile"] })).await;
    let plain = project.view("profile").await;
    assert_eq!(plain["statistics"], Json::Null);
    let view = project.view("profile?statistics=true").await;
    let statistics = &view["statistics"];
    assert_eq!(statistics["rows"], "1000");
    assert_eq!(statistics["newestEventTimestamp"], "2026-01-01T00:00:00Z");
    let age = &statistics["features"][0];
    assert_eq!(age["nullShare"], 0.1);
    assert_eq!(age["distinct"], "9");
    let mean = age["distribution"]["mean"].as_f64().unwrap();
    assert!((mean - 5.0).abs() < 1e-9, "{mean}");
    assert_eq!(age["distribution"]["quantiles"][3], 5.0);
    assert_eq!(age["frequent"][0], json!({ "value": 1, "count": "100" }));
}
