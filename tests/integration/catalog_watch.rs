//! A running server follows what another process applies: new views, dropped ones, and the models that need them.

use std::time::Duration;

use serde_json::json;

use crate::support::{Running, ferrocast, models, text};

/// The repository's own definitions without what one model input needs, and with a view more.
fn definitions(with_rate: bool, with_more: bool) -> String {
    let path = models().join("credit_risk/features.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let (views, _service) = text.split_once("[[feature_services]]").unwrap();
    let kept = views
        .lines()
        .filter(|line| with_rate || !line.contains("name = \"int_rate\""));
    let mut changed: String = kept.map(|line| format!("{line}\n")).collect();
    if with_more {
        changed.push_str(
            "[[feature_views]]\nname = \"more\"\nentity = \"loan\"\nfeatures = [{ name = \"x\", type = \"int64\" }]\n",
        );
    }
    changed
}

fn apply(url: &str, definitions: &str, further: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("features.toml");
    std::fs::write(&file, definitions).unwrap();
    let mut arguments = vec!["apply", file.to_str().unwrap(), "--database-url", url];
    arguments.extend(further);
    let done = tokio::task::block_in_place(|| ferrocast(&arguments));
    assert!(done.status.success(), "{}", text(&done.stderr));
}

/// Waits until a path answers with a status.
async fn becomes(running: &Running, path: &str, wanted: u16) {
    let polled = async {
        while running.get(path).await.0 != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), polled).await;
    waited.unwrap_or_else(|_| panic!("{path} does not become {wanted}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_applies_is_known_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let url = crate::support::filled_sqlite(folder.path());
    let settings = [("database.catalog_interval_ms", "50")];
    let running = Running::on(&url, &settings, folder).await;
    assert_eq!(running.get("/v1/featureViews/more").await.0, 404);
    // Without the feature service that the sample has.
    apply(&url, &definitions(true, true), &["--allow-data-loss"]);
    becomes(&running, "/v1/featureViews/more", 200).await;
    apply(&url, &definitions(true, false), &["--allow-data-loss"]);
    becomes(&running, "/v1/featureViews/more", 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_checked_again_against_new_definitions() {
    let folder = tempfile::tempdir().unwrap();
    let url = crate::support::filled_sqlite(folder.path());
    let settings = [("database.catalog_interval_ms", "50")];
    let running = Running::on(&url, &settings, folder).await;
    let predict = || async {
        let body = json!({"entities": [{"loan_id": "LC00001"}]});
        let path = "/v1/models/credit_risk:predictByEntity";
        running.post(path, body).await.0
    };
    assert_eq!(predict().await, 200);
    apply(&url, &definitions(false, false), &["--allow-data-loss"]);
    model_becomes(&running, "REFUSED").await;
    assert_eq!(predict().await, 400);
    // The feature comes back, without values: the model takes them for missing.
    apply(&url, &definitions(true, false), &[]);
    model_becomes(&running, "READY").await;
    assert_eq!(predict().await, 200);
}

async fn model_becomes(running: &Running, wanted: &str) {
    let polled = async {
        loop {
            let (_, model) = running.get("/v1/models/credit_risk").await;
            if model["versions"][0]["state"] == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), polled).await;
    waited.unwrap_or_else(|_| panic!("the model does not become {wanted}"));
}
