//! What is served against what was trained on, as GetModel tells it.

use serde_json::{Value as Json, json};

use crate::support::Running;

const PREDICT: &str = "/v1/models/credit_risk:predict";

async fn drift(running: &Running, input: &str) -> Json {
    let (_, model) = running.get("/v1/models/credit_risk").await;
    let inputs = model["versions"][0]["inputs"].as_array().unwrap();
    let found = inputs.iter().find(|found| found["name"] == input);
    found.unwrap()["drift"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_has_not_drifted_and_other_rows_have() {
    let running = Running::start().await;
    let fresh = drift(&running, "annual_inc").await;
    assert_eq!(
        (&fresh["rows"], fresh.get("stabilityIndex")),
        (&json!("0"), None)
    );

    // The rows that the model was trained on are among these.
    let entities: Vec<Json> = (1..=9_857)
        .map(|number| json!({ "loan_id": format!("LC{number:05}") }))
        .collect();
    let path = "/v1/models/credit_risk:predictByEntity";
    let (status, answer) = running.post(path, json!({ "entities": entities })).await;
    assert_eq!(status, 200, "{}", answer["message"]);
    for input in [
        "annual_inc",
        "term",
        "sub_grade",
        "addr_state",
        "funded_amnt",
        "emp_length",
    ] {
        let told = drift(&running, input).await;
        assert_eq!(told["rows"], "9857");
        assert!(
            told["stabilityIndex"].as_f64().unwrap() < 0.01,
            "{input}: {told}"
        );
        let missing = |field: &str| told[field].as_f64().unwrap();
        let difference = missing("missingShare") - missing("trainedMissingShare");
        assert!(difference.abs() < 0.01, "{input}: {told}");
    }

    // As many rows again, of rich people whose state nobody knows.
    let rows: Vec<Json> = (0..9_857).map(|_| json!({"annual_inc": 1e6})).collect();
    let (status, _) = running.post(PREDICT, json!({ "rows": rows })).await;
    assert_eq!(status, 200);
    let told = drift(&running, "annual_inc").await;
    assert!(told["stabilityIndex"].as_f64().unwrap() > 0.25, "{told}");
    let told = drift(&running, "addr_state").await;
    assert!(told["stabilityIndex"].as_f64().unwrap() < 0.01, "{told}");
    assert!(
        (told["missingShare"].as_f64().unwrap() - 0.5).abs() < 0.01,
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_served_long_ago_is_forgotten() {
    let settings = [
        ("models.drift_window_ms", "5000"),
        ("models.watch_interval_ms", "50"),
    ];
    let running = Running::with(&settings).await;
    let (status, _) = running
        .post(PREDICT, json!({"rows": [{"annual_inc": 1}]}))
        .await;
    assert_eq!(status, 200);
    assert_eq!(drift(&running, "annual_inc").await["rows"], "1");
    let forgotten = async {
        while drift(&running, "annual_inc").await["rows"] != "0" {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(60), forgotten).await;
    assert!(waited.is_ok(), "{}", drift(&running, "annual_inc").await);
}
