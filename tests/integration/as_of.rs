//! Features and predictions as of a moment in the past, and the shortest way to a prediction.

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::{
    models_support::{copy_of_models, edit_text},
    support::{Running, ferrocast, sqlite_url, text},
};

const LOAN: &str = "/predict/loan";

/// The repository's model over views that keep their history.
struct Past {
    running: Running,
    _models: TempDir,
}

async fn start() -> Past {
    let models = copy_of_models();
    let definitions = models.path().join("credit_risk/features.toml");
    edit_text(&definitions, "ttl = \"0s\"", "ttl = \"0s\"\nhistory = true");
    let dir = tempfile::tempdir().unwrap();
    let (url, path) = (sqlite_url(dir.path()), models.path().display().to_string());
    tokio::task::block_in_place(|| {
        for command in ["apply", "materialize"] {
            let done = ferrocast(&[command, "--database-url", &url, "--models", &path]);
            assert!(done.status.success(), "{}", text(&done.stderr));
        }
    });
    Past {
        running: Running::on(&url, &[("models.path", &path)], dir).await,
        _models: models,
    }
}

async fn score(past: &Past, body: Json) -> f64 {
    let (status, answer) = past.running.post(LOAN, body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["model"], "credit_risk");
    answer["prediction"]["score"].as_f64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_is_scored_as_of_now_or_as_of_then() {
    let past = start().await;
    let running = &past.running;
    let by_entity = "/v1/models/credit_risk:predictByEntity";
    let entities = json!([{"loan_id": "LC00001"}]);
    let (_, now) = running.post(by_entity, json!({"entities": entities})).await;
    let before = now["predictions"][0]["score"].as_f64().unwrap();
    // Null, or left out, is the newest.
    for body in [
        json!({"loan_id": "LC00001", "timestamp": null}),
        json!({"loan_id": "LC00001"}),
    ] {
        assert_eq!(score(&past, body).await.to_bits(), before.to_bits());
    }

    let row = json!({"loan_id": "LC00001", "annual_inc": 1000.0, "event_timestamp": "2020-01-01T00:00:00Z"});
    let (status, answer) = running
        .post("/v1/featureViews/applicant:write", json!({"rows": [row]}))
        .await;
    assert_eq!(status, 200, "{answer}");
    let after = score(&past, json!({"loan_id": "LC00001"})).await;
    assert_ne!(after, before);
    let then = |timestamp: &str| json!({"loan_id": "LC00001", "timestamp": timestamp});
    assert_eq!(score(&past, then("2019-12-31T23:59:59Z")).await, before);
    assert_eq!(score(&past, then("2020-01-01T00:00:00Z")).await, after);
    let body = json!({"entities": entities, "asOf": "2019-12-31T00:00:00Z"});
    let (_, answer) = running.post(by_entity, body).await;
    assert_eq!(answer["predictions"][0]["score"], json!(before));

    // Before the first row nothing was known.
    let (status, answer) = running.post(LOAN, then("2015-01-01T00:00:00Z")).await;
    assert_eq!(status, 404, "{answer}");

    let features = json!({
        "features": ["applicant:annual_inc"],
        "entities": entities,
        "format": "ROWS",
        "asOf": "2019-12-31T00:00:00Z",
    });
    let (_, answer) = running.post("/v1/features:get", features).await;
    let value = &answer["rows"][0]["values"]["applicant:annual_inc"];
    assert_ne!(value, &json!(1000.0), "{answer}");
    assert!(value.is_number(), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_scored_by_an_entity_says_why() {
    let past = start().await;
    for (path, body, status, named) in [
        (
            "/predict/ticker",
            json!({"ticker": "AAPL"}),
            404,
            "there are models for: \"loan\"",
        ),
        (LOAN, json!({"loan_id": "nobody"}), 404, "nobody"),
        (LOAN, json!({"ticker": "AAPL"}), 400, "loan_id"),
        (LOAN, json!({}), 400, "loan_id"),
        (
            LOAN,
            json!({"loan_id": "LC00001", "timestamp": "yesterday"}),
            400,
            "key.timestamp",
        ),
        (
            "/predict/loan?model=nobody",
            json!({"loan_id": "LC00001"}),
            404,
            "nobody",
        ),
    ] {
        let (told, answer) = past.running.post(path, body).await;
        assert_eq!(told, status, "{path} {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(named), "{path}: {message}");
        assert!(!message.contains("entities["), "{path}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_of_a_view_without_history_is_refused() {
    let running = Running::start().await;
    let body = json!({"loan_id": "LC00001", "timestamp": "2020-01-01T00:00:00Z"});
    let (status, answer) = running.post(LOAN, body).await;
    assert_eq!(status, 400, "{answer}");
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("history = true"), "{message}");
}
