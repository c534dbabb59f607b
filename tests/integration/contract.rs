//! The contract in JSON, that callers rely on by name.

use serde_json::{Value as Json, json};

use crate::support::Running;

fn keys(object: &Json) -> Vec<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn predict_by_entity() {
    let running = Running::start().await;
    let body = json!({"entities": [{"loan_id": "LC00001"}], "includeFeatures": true});
    let path = "/v1/models/credit_risk:predictByEntity";
    let (status, answer) = running.post(path, body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["model"], "credit_risk");
    assert_eq!(answer["version"], "1");
    let prediction = &answer["predictions"][0];
    assert_eq!(
        keys(prediction),
        [
            "featureStatuses",
            "features",
            "label",
            "predictionId",
            "probabilities",
            "score",
            "version",
            "violations"
        ]
    );
    let score = prediction["score"].as_f64().unwrap();
    let bad = prediction["probabilities"]["bad"].as_f64().unwrap();
    assert_eq!(score.to_bits(), bad.to_bits());
    assert!(["good", "bad"].contains(&prediction["label"].as_str().unwrap()));
    assert!(prediction["features"]["applicant:annual_inc"].is_number());
    assert_eq!(
        prediction["featureStatuses"]["applicant:annual_inc"],
        "PRESENT"
    );

    // Without the features, the answer does not carry empty ones; a version and an alias can be named.
    for path in [
        path,
        "/v1/models/credit_risk/versions/1:predictByEntity",
        "/v1/models/credit_risk/versions/champion:predictByEntity",
    ] {
        let body = json!({"entities": [{"loan_id": "LC00001"}]});
        let (status, answer) = running.post(path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        assert_eq!(
            keys(&answer["predictions"][0]),
            [
                "label",
                "predictionId",
                "probabilities",
                "score",
                "version",
                "violations"
            ]
        );
        assert_eq!(answer["version"], "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn predict_takes_a_missing_key_as_a_missing_value() {
    let running = Running::start().await;
    let body = json!({"rows": [{"annual_inc": 52000, "term": "term_36"}, {}, {"term": null}]});
    let (status, answer) = running.post("/v1/models/credit_risk:predict", body).await;
    assert_eq!(status, 200, "{answer}");
    let scores: Vec<f64> = answer["predictions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|prediction| prediction["score"].as_f64().unwrap())
        .collect();
    assert_eq!(scores.len(), 3);
    assert_eq!(scores[1].to_bits(), scores[2].to_bits());
}

#[tokio::test(flavor = "multi_thread")]
async fn get_write_and_get_again() {
    let running = Running::start().await;
    let get = json!({"features": ["applicant:annual_inc"], "entities": [{"loan_id": "LC00001"}]});
    let (status, answer) = running.post("/v1/features:get", get.clone()).await;
    assert_eq!(status, 200, "{answer}");
    let column = &answer["columns"][0];
    assert_eq!(
        keys(column),
        [
            "ageBound",
            "eventTimestamps",
            "feature",
            "statuses",
            "values"
        ]
    );
    assert_eq!(column["feature"], "applicant:annual_inc");
    assert_eq!(column["statuses"], json!(["PRESENT"]));
    assert_eq!(column["eventTimestamps"], json!(["2016-01-04T00:00:00Z"]));
    assert!(column["values"][0].is_number());

    let write = json!({"rows": [{
        "loan_id": "LC00001", "annual_inc": 1, "eventTimestamp": "2030-01-01T00:00:00.5Z"
    }]});
    let path = "/v1/featureViews/applicant:write";
    let (status, answer) = running.post(path, write).await;
    assert_eq!(
        (status, &answer),
        (200, &json!({"written": "1", "late": "0"}))
    );
    let older = json!({"rows": [{
        "loan_id": "LC00001", "annual_inc": 2, "eventTimestamp": "2030-01-01T00:00:00.4Z"
    }]});
    let (_, answer) = running.post(path, older).await;
    assert_eq!(answer, json!({"written": "0", "late": "1"}));

    let (_, answer) = running.post("/v1/features:get", get).await;
    assert_eq!(answer["columns"][0]["values"], json!([1]));
    assert_eq!(
        answer["columns"][0]["eventTimestamps"],
        json!(["2030-01-01T00:00:00.500Z"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_entity_is_a_status_or_an_error_as_the_model_says() {
    let running = Running::start().await;
    let body = json!({"features": ["applicant:annual_inc"], "entities": [{"loan_id": "nobody"}]});
    let (status, answer) = running.post("/v1/features:get", body).await;
    assert_eq!(status, 200);
    assert_eq!(answer["columns"][0]["statuses"], json!(["NOT_FOUND"]));
    assert_eq!(answer["columns"][0]["values"], json!([null]));

    let body = json!({"entities": [{"loan_id": "LC00001"}, {"loan_id": "nobody"}]});
    let (status, answer) = running
        .post("/v1/models/credit_risk:predictByEntity", body)
        .await;
    assert_eq!(
        (status, answer["status"].as_str()),
        (404, Some("NOT_FOUND"))
    );
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.contains("entities[1]") && message.contains("nobody"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn models_and_views_are_described() {
    let running = Running::start().await;
    let (_, answer) = running.get("/v1/models").await;
    assert_eq!(answer["models"][0]["name"], "credit_risk");
    let (_, model) = running.get("/v1/models/credit_risk").await;
    assert_eq!(model["defaultVersion"], "1");
    assert_eq!(model["aliases"]["champion"], "1");
    let version = &model["versions"][0];
    assert_eq!(version["state"], "READY");
    assert_eq!(version["inputs"].as_array().unwrap().len(), 22);
    assert!(version["goldenRows"].as_u64().unwrap() >= 200);
    assert_eq!(version["digest"].as_str().unwrap().len(), 64);

    let (_, answer) = running.get("/v1/featureViews").await;
    let names: Vec<&str> = answer["featureViews"]
        .as_array()
        .unwrap()
        .iter()
        .map(|view| view["name"].as_str().unwrap())
        .collect();
    for view in ["applicant", "loan_terms"] {
        assert!(names.contains(&view), "{view} in {names:?}");
    }
    assert!(names.is_sorted(), "{names:?}");
    let (_, view) = running.get("/v1/featureViews/applicant").await;
    assert_eq!(view["joinKeys"][0]["name"], "loan_id");
    assert_eq!(view["joinKeys"][0]["type"], "STRING");
    assert_eq!(view["project"], "credit_risk");
}
