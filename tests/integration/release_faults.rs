//! Releases that go wrong: what answers goes on, and whoever asked is told.

use std::{fs, path::PathBuf, time::Duration};

use ferrocast::grpc::pb;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tonic::Request;

use crate::{
    models_support::{add_opposite, copy_of_models, edit_json, edit_text},
    support::{Running, filled_sqlite, sqlite_url},
};

const MODEL: &str = "/v1/models/credit_risk";
const PREDICT: &str = "/v1/models/credit_risk:predictByEntity";

/// A server with some versions beside the first, which is the champion; each scores the other class.
struct Server {
    running: Running,
    models: TempDir,
    store: TempDir,
}

impl Server {
    async fn with(versions: &[&str]) -> Server {
        let models = copy_of_models();
        for version in versions {
            add_opposite(models.path(), version);
        }
        let store = tempfile::tempdir().unwrap();
        let _ = tokio::task::block_in_place(|| filled_sqlite(store.path()));
        let running = serve(&models, &store, 50).await;
        Server {
            running,
            models,
            store,
        }
    }

    fn folder(&self) -> PathBuf {
        self.models.path().join("credit_risk")
    }

    async fn model(&self) -> Json {
        self.running.get(MODEL).await.1
    }

    async fn post(&self, path: &str, body: Json) -> (u16, Json) {
        self.running.post(&format!("{MODEL}{path}"), body).await
    }

    async fn champion(&self, version: &str) {
        let path = format!("{MODEL}/aliases/champion");
        let (status, answer) = self.running.put(&path, json!({"version": version})).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["aliases"]["champion"], version, "{answer}");
    }

    async fn rollback(&self, body: Json) -> (u16, Json) {
        self.post("/aliases/champion:rollback", body).await
    }

    /// Which version answers.
    async fn answers(&self) -> String {
        answers(&self.running).await
    }

    async fn becomes(&self, what: &str, is_so: impl Fn(&Json) -> bool) {
        let polled = async {
            while !is_so(&self.model().await) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), polled).await;
        let model = self.model().await;
        waited.unwrap_or_else(|_| panic!("never {what}: {model}"));
    }
}

async fn serve(models: &TempDir, store: &TempDir, watch_interval_ms: u32) -> Running {
    let path = models.path().display().to_string();
    let interval = watch_interval_ms.to_string();
    let settings = [
        ("models.path", path.as_str()),
        ("models.watch_interval_ms", &interval),
    ];
    let url = sqlite_url(store.path());
    Running::on(&url, &settings, tempfile::tempdir().unwrap()).await
}

async fn answers(running: &Running) -> String {
    let body = json!({"entities": [{"loan_id": "LC00001"}]});
    let (status, answer) = running.post(PREDICT, body).await;
    assert_eq!(status, 200, "{answer}");
    answer["version"].as_str().unwrap().to_owned()
}

fn says(text: &Json, part: &str) -> bool {
    text.as_str().unwrap_or_default().contains(part)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_leads_to_what_answers_or_nowhere() {
    let server = Server::with(&["2"]).await;
    server.champion("2").await;
    let (status, answer) = server.post(":unload", json!({"version": "1"})).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = server.rollback(json!({})).await;
    assert_eq!(status, 400, "{answer}");
    assert!(says(&answer["message"], "version 1") && says(&answer["message"], "LoadModel"));
    assert_eq!(server.answers().await, "2");

    fs::rename(server.folder().join("1"), server.models.path().join("away")).unwrap();
    server
        .becomes("without version 1", |model| {
            model["versions"][0]["version"] == "2"
        })
        .await;
    let (status, answer) = server.rollback(json!({})).await;
    assert_eq!(status, 404, "{answer}");
    assert!(says(&answer["message"], "\"1\""), "{answer}");
    assert_eq!(server.answers().await, "2");

    fs::rename(server.models.path().join("away"), server.folder().join("1")).unwrap();
    let (status, answer) = server.post(":load", json!({"version": "1"})).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = server.rollback(json!({"expectedVersion": "7"})).await;
    assert_eq!(status, 409, "{answer}");
    let expected = json!({"expectedVersion": "2"});
    assert_eq!(server.rollback(expected.clone()).await.0, 200);
    assert_eq!(server.answers().await, "1");
    // Sent twice, it is done once.
    assert_eq!(server.rollback(expected).await.0, 409);
    assert_eq!(server.answers().await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_that_is_set_twice_is_rolled_back_once() {
    let server = Server::with(&["2"]).await;
    server.champion("2").await;
    server.champion("2").await;
    assert_eq!(server.rollback(json!({})).await.0, 200);
    assert_eq!(server.answers().await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_toml_that_makes_no_sense_changes_nothing() {
    let server = Server::with(&["2"]).await;
    let toml = server.folder().join("model.toml");
    let whole = fs::read_to_string(&toml).unwrap();
    for (fault, named) in [
        ("[inputs.annual_inc]\nmin = 2\nmax = 1", "min to max"),
        ("[inputs.annual_income]\nmin = 2", "annual_income"),
        (
            "[inputs.annual_inc]\non_missing = \"default\"\ndefault = 1e39",
            "annual_inc",
        ),
        ("[fallback]", "neither model nor score"),
    ] {
        fs::write(&toml, format!("{whole}\n{fault}\n")).unwrap();
        server
            .becomes(named, |model| {
                let versions = model["versions"].as_array().unwrap();
                let is_ready = versions.iter().all(|version| version["state"] == "READY");
                let told = versions
                    .iter()
                    .any(|version| says(&version["reason"], named));
                is_ready && (told || says(&model["reason"], named))
            })
            .await;
        assert_eq!(server.answers().await, "1");
        let (status, answer) = server.post(":load", json!({})).await;
        assert_eq!(status, 400, "{answer}");
        assert!(says(&answer["message"], "goes on as it was"), "{answer}");
    }
    // What is released takes effect all the same.
    fs::write(&toml, "name = ").unwrap();
    server
        .becomes("a reason", |model| says(&model["reason"], "model.toml"))
        .await;
    server.champion("2").await;
    assert_eq!(server.answers().await, "2");
    // Away for a moment, as while it is replaced.
    fs::remove_file(&toml).unwrap();
    server
        .becomes("gone", |model| says(&model["reason"], "gone"))
        .await;
    assert_eq!(server.answers().await, "2");
    assert_eq!(server.rollback(json!({})).await.0, 200);
    assert_eq!(server.answers().await, "1");
    fs::write(&toml, &whole).unwrap();
    server
        .becomes("whole again", |model| model["reason"] == "")
        .await;
    // Who wants it gone unloads it.
    fs::remove_dir_all(server.folder()).unwrap();
    server
        .becomes("gone", |model| says(&model["reason"], "gone"))
        .await;
    assert_eq!(server.post(":unload", json!({})).await.0, 200);
    server
        .becomes("unknown", |model| model["status"] == "NOT_FOUND")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_may_be_for_an_input_that_only_one_version_has() {
    let server = Server::with(&["2"]).await;
    // Version 2 without the input.
    let signature = server.folder().join("2/signature.json");
    edit_json(&signature, |signature| {
        let inputs = signature["inputs"].as_array_mut().unwrap();
        inputs.retain(|input| input["name"] != "annual_inc");
    });
    edit_text(
        &server.folder().join("model.toml"),
        "[example]",
        "[inputs.annual_inc]\nmin = 0\n[example]",
    );
    // It is refused, but for what it is.
    server
        .becomes("version 2 refused", |model| {
            let second = &model["versions"][1];
            second["state"] == "REFUSED" || !says(&second["reason"], "no such input")
        })
        .await;
    let model = server.model().await;
    assert_eq!(
        (&model["reason"], &model["versions"][0]["reason"]),
        (&json!(""), &json!(""))
    );
    assert_eq!(server.answers().await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_of_model_toml_that_means_something_else_by_now_needs_no_version() {
    let server = Server::with(&["2"]).await;
    server.champion("2").await;
    fs::remove_dir_all(server.folder().join("1")).unwrap();
    server
        .becomes("version 2 alone", |model| {
            model["versions"].as_array().unwrap().len() == 1 && model["reason"] == ""
        })
        .await;
    // A server that starts now.
    let other = serve(&server.models, &server.store, 50).await;
    assert_eq!(answers(&other).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_tried_again_when_it_has_changed_or_is_asked_for() {
    let server = Server::with(&["2"]).await;
    let golden = server.folder().join("2/golden.json");
    let right = fs::read_to_string(&golden).unwrap();
    edit_json(&golden, |golden| {
        golden["scores"][7] = json!(0.123_456_789_012_345_67)
    });
    server
        .becomes("a reason", |model| {
            says(&model["versions"][1]["reason"], "golden row 7")
        })
        .await;
    // Right again, and it looks as it did: nobody reads it until he is asked to.
    let wrong = fs::read(&golden).unwrap();
    let seen = fs::metadata(&golden).unwrap().modified().unwrap();
    let padded = format!("{right:<width$}", width = wrong.len());
    assert_eq!(padded.len(), wrong.len(), "the right one is no longer");
    fs::write(&golden, padded).unwrap();
    let file = fs::File::options().append(true).open(&golden).unwrap();
    file.set_modified(seen).unwrap();
    for version in ["2", "1"] {
        server.champion(version).await;
    }
    assert!(says(
        &server.model().await["versions"][1]["reason"],
        "golden row 7"
    ));
    let (status, answer) = server.post(":load", json!({"version": "2"})).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["versions"][1]["reason"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_share_of_a_canary_that_is_gone_is_nobody_elses() {
    let server = Server::with(&["2", "3"]).await;
    let shares = |versions: &[&str]| {
        let canary: Vec<Json> = versions
            .iter()
            .map(|version| json!({"version": version, "percent": 20}))
            .collect();
        json!({"traffic": {"canary": canary}})
    };
    let path = format!("{MODEL}/traffic");
    assert_eq!(server.running.put(&path, shares(&["2", "3"])).await.0, 200);
    let rows: Vec<Json> = (0..400)
        .map(|income| json!({"annual_inc": income}))
        .collect();
    let scored = async || -> Vec<String> {
        let (status, answer) = server.post(":predict", json!({"rows": rows})).await;
        assert_eq!(status, 200, "{answer}");
        let told = answer["predictions"].as_array().unwrap().iter();
        told.map(|one| one["version"].as_str().unwrap().to_owned())
            .collect()
    };
    let before = scored().await;
    assert!(before.iter().any(|version| version == "2"));
    fs::remove_dir_all(server.folder().join("2")).unwrap();
    server
        .becomes("without version 2", |model| {
            model["versions"].as_array().unwrap().len() == 2
        })
        .await;
    let after = scored().await;
    for (before, after) in before.iter().zip(&after) {
        let expected = if before == "2" { "1" } else { before };
        assert_eq!(after, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_model_is_unloaded_whatever_became_of_its_folders() {
    let server = Server::with(&[]).await;
    fs::remove_dir_all(server.folder().join("1")).unwrap();
    server
        .becomes("a folder that is gone", |model| {
            says(&model["versions"][0]["reason"], "gone")
        })
        .await;
    assert_eq!(server.answers().await, "1");
    let (status, answer) = server.post(":unload", json!({})).await;
    assert_eq!(status, 200, "{answer}");
    let body = json!({"entities": [{"loan_id": "LC00001"}]});
    assert_eq!(server.running.post(PREDICT, body).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unload_is_held_against_what_others_have_released() {
    let server = Server::with(&["2"]).await;
    // One that looks but once an hour.
    let other = serve(&server.models, &server.store, 3_600_000).await;
    server.champion("2").await;
    assert_eq!(answers(&other).await, "1");
    let (status, answer) = other
        .post(&format!("{MODEL}:unload"), json!({"version": "2"}))
        .await;
    assert_eq!(status, 400, "{answer}");
    assert!(says(&answer["message"], "the default"), "{answer}");
    assert_eq!(server.answers().await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_hides_where_he_calls_from() {
    let server = Server::with(&["2"]).await;
    let mut client = server.running.models().await;
    let mut request = Request::new(pb::SetAliasRequest {
        model: "credit_risk".into(),
        alias: "champion".into(),
        version: "2".into(),
        ..pb::SetAliasRequest::default()
    });
    let told = "10.0.0.99".parse().unwrap();
    request.metadata_mut().insert("x-forwarded-for", told);
    client.set_alias(request).await.unwrap();
    let (_, listed) = server.running.get(&format!("{MODEL}/releaseEvents")).await;
    assert_eq!(listed["events"][0]["peer"], "10.0.0.99, 127.0.0.1");
}
