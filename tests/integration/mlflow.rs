//! Models of a registry: a real MLflow says what the champion is, by polling and by webhook.

use std::{fs, time::Duration};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::{
    front::{Front, Mood},
    models_support::{add_opposite, copy_of_models, edit_text},
    services::Mlflow,
    support::{Running, expected_scores, ferrocast, text},
};

pub const MODEL: &str = "/v1/models/credit_risk";
const PREDICT: &str = "/v1/models/credit_risk:predictByEntity";

/// Another process that is busy makes everything slow.
pub const WAIT_MAX: Duration = Duration::from_secs(120);

/// A registered model with the versions 1 and 2, of which 2 scores the other class, a model repository that refers to it,
/// and a folder for what is fetched.
pub struct Registered {
    pub mlflow: &'static Mlflow,
    pub name: String,
    pub versions: TempDir,
    pub models: TempDir,
    pub cache: TempDir,
}

impl Registered {
    pub async fn new() -> Registered {
        let mlflow = tokio::task::block_in_place(Mlflow::shared);
        let versions = copy_of_models();
        add_opposite(versions.path(), "2");
        let name = mlflow.new_model().await;
        let registered = Registered {
            mlflow,
            models: models_from(&format!("mlflow:/{name}@champion")),
            name,
            versions,
            cache: tempfile::tempdir().unwrap(),
        };
        for version in ["1", "2"] {
            assert_eq!(registered.register(version).await, version);
        }
        registered.champion("1").await;
        registered
    }

    /// Registers a folder of `versions` as the next version.
    pub async fn register(&self, folder: &str) -> String {
        self.mlflow.register(&self.name, &self.folder(folder)).await
    }

    pub fn folder(&self, version: &str) -> std::path::PathBuf {
        self.versions.path().join("credit_risk").join(version)
    }

    pub async fn champion(&self, version: &str) {
        self.mlflow.set_alias(&self.name, "champion", version).await;
    }

    /// A server that asks the registry at an address, ten times a second unless the settings say otherwise.
    pub async fn serve(&self, tracking_uri: &str, settings: &[(&str, &str)]) -> Running {
        let models = self.models.path().display().to_string();
        let cache = self.cache.path().display().to_string();
        let all = [
            ("models.path", models.as_str()),
            ("artifacts.cache_dir", cache.as_str()),
            ("artifacts.poll_ms", "100"),
            ("models.watch_interval_ms", "50"),
            ("mlflow.tracking_uri", tracking_uri),
        ];
        Running::with(&[all.as_slice(), settings].concat()).await
    }
}

/// A model repository whose model comes from elsewhere.
pub fn models_from(source: &str) -> TempDir {
    let models = copy_of_models();
    let folder = models.path().join("credit_risk");
    fs::remove_dir_all(folder.join("1")).unwrap();
    let path = folder.join("model.toml");
    edit_text(&path, "champion = \"1\"", "");
    let name = "name = \"credit_risk\"";
    edit_text(&path, name, &format!("{name}\nsource = \"{source}\""));
    models
}

pub async fn becomes(running: &Running, what: &str, is_so: impl Fn(&Json) -> bool) -> Json {
    let polled = async {
        loop {
            let (_, model) = running.get(MODEL).await;
            if is_so(&model) {
                return model;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    match tokio::time::timeout(WAIT_MAX, polled).await {
        Ok(model) => model,
        Err(_) => panic!("never {what}: {}", running.get(MODEL).await.1),
    }
}

/// The version that answers, after its scores were held against the trainer's own.
pub async fn answers(running: &Running) -> String {
    let expected = expected_scores();
    let entities: Vec<Json> = expected[..20]
        .iter()
        .map(|(id, _)| json!({ "loan_id": id }))
        .collect();
    let (status, answer) = running.post(PREDICT, json!({ "entities": entities })).await;
    assert_eq!(status, 200, "{answer}");
    let version = answer["version"].as_str().unwrap().to_owned();
    for (prediction, (id, score)) in answer["predictions"]
        .as_array()
        .unwrap()
        .iter()
        .zip(&expected)
    {
        let wanted = if version == "2" { 1.0 - score } else { *score };
        let found = prediction["score"].as_f64().unwrap();
        assert!((found - wanted).abs() < 1e-5, "{id}: {prediction}");
    }
    version
}

pub fn problem(model: &Json) -> &str {
    model["source"]["problem"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_champion_of_the_registry_answers_and_is_followed() {
    let registered = Registered::new().await;
    let running = registered.serve(&registered.mlflow.url(), &[]).await;
    assert_eq!(answers(&running).await, "1");
    let (_, model) = running.get(MODEL).await;
    assert_eq!(
        model["source"]["location"],
        format!("mlflow:/{}@champion", registered.name)
    );
    assert_eq!(model["source"]["aliases"], json!(["champion"]));
    assert!(
        model["source"]["reachedAt"].as_str().unwrap() > "2026",
        "{model}"
    );
    assert_eq!(problem(&model), "");

    registered.champion("2").await;
    becomes(&running, "version 2", |model| {
        model["defaultVersion"] == "2"
    })
    .await;
    assert_eq!(answers(&running).await, "2");
    // What answered before stays, for a way back, and other aliases come along.
    registered
        .mlflow
        .set_alias(&registered.name, "challenger", "1")
        .await;
    let model = becomes(&running, "a challenger", |model| {
        model["aliases"]["challenger"] == "1"
    })
    .await;
    assert_eq!(model["versions"][0]["state"], "READY");
    registered
        .mlflow
        .delete_alias(&registered.name, "challenger")
        .await;
    becomes(&running, "no challenger", |model| {
        model["aliases"].get("challenger").is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_numbers_versions_and_owns_its_aliases() {
    let registered = Registered::new().await;
    // The trainer calls it 1, as the first; MLflow calls it 3.
    assert_eq!(registered.register("1").await, "3");
    registered.champion("3").await;
    let running = registered.serve(&registered.mlflow.url(), &[]).await;
    let (_, model) = running.get(MODEL).await;
    assert_eq!(
        (&model["defaultVersion"], &model["versions"][0]["version"]),
        (&json!("3"), &json!("3"))
    );
    assert_eq!(answers(&running).await, "3");

    let (status, answer) = running
        .put(
            &format!("{MODEL}/aliases/champion"),
            json!({ "version": "3" }),
        )
        .await;
    assert_eq!(
        (status, &answer["status"]),
        (400, &json!("FAILED_PRECONDITION")),
        "{answer}"
    );
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.contains("champion") && message.contains(&registered.name),
        "{message}"
    );
    let (status, answer) = running
        .post(&format!("{MODEL}/aliases/champion:rollback"), json!({}))
        .await;
    assert_eq!(
        (status, &answer["status"]),
        (400, &json!("FAILED_PRECONDITION")),
        "{answer}"
    );
    // One of our own is as ever, and one that the registry gets later becomes the registry's.
    let (status, model) = running
        .put(&format!("{MODEL}/aliases/ours"), json!({ "version": "3" }))
        .await;
    assert_eq!(
        (status, &model["aliases"]["ours"]),
        (200, &json!("3")),
        "{model}"
    );
    registered
        .mlflow
        .set_alias(&registered.name, "ours", "1")
        .await;
    becomes(&running, "the registry's", |model| {
        model["aliases"]["ours"] == "1"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_version_can_be_named_and_no_alias_moves_it() {
    let registered = Registered::new().await;
    let models = models_from(&format!("mlflow:/{}/2", registered.name));
    let registered = Registered {
        models,
        ..registered
    };
    let running = registered.serve(&registered.mlflow.url(), &[]).await;
    assert_eq!(answers(&running).await, "2");
    let (_, model) = running.get(MODEL).await;
    assert_eq!(model["source"]["aliases"], json!([]));
    let (status, _) = running
        .put(
            &format!("{MODEL}/aliases/champion"),
            json!({ "version": "2" }),
        )
        .await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_followed_at_once_and_only_with_its_signature() {
    let registered = Registered::new().await;
    let settings = [
        ("artifacts.poll_ms", "3600000"),
        ("mlflow.webhook_secret", "hunter2"),
    ];
    let front = Front::before(registered.mlflow.port()).await;
    let running = registered.serve(&front.url(), &settings).await;
    assert_eq!(answers(&running).await, "1");
    // Nobody has told us, and the next look is in an hour.
    registered.champion("2").await;
    let asked = front.requests().len();
    for headers in [
        vec![],
        vec![
            ("x-mlflow-signature", "v1,AAAA"),
            ("x-mlflow-timestamp", "1790000000"),
            ("x-mlflow-delivery-id", "a"),
        ],
    ] {
        let body = json!({"entity": "model_version_alias", "action": "created", "data": {"name": registered.name}});
        let mut request = running
            .http
            .post(running.url("/webhooks/mlflow"))
            .json(&body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(front.requests().len(), asked);
    assert_eq!(answers(&running).await, "1");

    registered
        .mlflow
        .add_webhook(&running.url("/webhooks/mlflow"), "hunter2")
        .await;
    registered.champion("2").await;
    becomes(&running, "version 2", |model| {
        model["defaultVersion"] == "2"
    })
    .await;
    // With another secret than ours it is somebody else's.
    let other = registered
        .serve(
            &front.url(),
            &[settings[0], ("mlflow.webhook_secret", "other")],
        )
        .await;
    registered
        .mlflow
        .add_webhook(&other.url("/webhooks/mlflow"), "hunter2")
        .await;
    registered.champion("1").await;
    becomes(&running, "version 1", |model| {
        model["defaultVersion"] == "1"
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(other.get(MODEL).await.1["defaultVersion"], "2");
    // Without a secret nothing is taken at all.
    let deaf = registered.serve(&front.url(), &[]).await;
    let unasked = deaf
        .http
        .post(deaf.url("/webhooks/mlflow"))
        .send()
        .await
        .unwrap();
    assert_eq!(unasked.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_asks_the_registry_without_waiting_for_the_next_look() {
    let registered = Registered::new().await;
    let running = registered
        .serve(
            &registered.mlflow.url(),
            &[("artifacts.poll_ms", "3600000")],
        )
        .await;
    registered.champion("2").await;
    let (status, model) = running.post(&format!("{MODEL}:load"), json!({})).await;
    assert_eq!(
        (status, &model["defaultVersion"]),
        (200, &json!("2")),
        "{model}"
    );
    assert_eq!(answers(&running).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_is_told_to_the_registry_as_mlflow_does() {
    let registered = Registered::new().await;
    let front = Front::before(registered.mlflow.port()).await;
    let models = registered.models.path().display().to_string();
    let cache = registered.cache.path().display().to_string();
    let settings = [
        ("models.path", models.as_str()),
        ("artifacts.cache_dir", cache.as_str()),
    ];
    let url = front.url();
    let tracking = ("MLFLOW_TRACKING_URI", url.as_str());
    let token = ("MLFLOW_TRACKING_TOKEN", "t0ken");
    let running = Running::within(&[tracking, token], &settings).await;
    assert_eq!(answers(&running).await, "1");
    assert!(
        front.requests().contains("authorization: Bearer t0ken"),
        "{}",
        front.requests()
    );
    // ada:hunter2
    let named = [
        ("MLFLOW_TRACKING_USERNAME", "ada"),
        ("MLFLOW_TRACKING_PASSWORD", "hunter2"),
    ];
    let _running = Running::within(&[tracking, token, named[0], named[1]], &settings).await;
    assert!(
        front
            .requests()
            .contains("authorization: Basic YWRhOmh1bnRlcjI="),
        "{}",
        front.requests()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_fetches_what_a_server_would() {
    let registered = Registered::new().await;
    let front = Front::before(registered.mlflow.port()).await;
    let models = registered.models.path().display().to_string();
    let uri = format!("mlflow.tracking_uri={}", front.url());
    let check = || {
        tokio::task::block_in_place(|| ferrocast(&["check", "--models", &models, "--set", &uri]))
    };
    let checked = check();
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(
        text(&checked.stdout).contains("model credit_risk version 1:"),
        "{}",
        text(&checked.stdout)
    );
    front.behaves(Mood::Away);
    let checked = check();
    assert!(!checked.status.success());
    assert!(
        text(&checked.stderr).contains("the tracking server"),
        "{}",
        text(&checked.stderr)
    );
}
