//! Bad input over the wire: the right code, the field named, nothing lost, and the server goes on.

use ferrocast::grpc::pb;
use prost_types::{Struct, Value, value::Kind};
use serde_json::{Value as Json, json};
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{Running, loan, object};

const PREDICT: &str = "/v1/models/credit_risk:predict";
const BY_ENTITY: &str = "/v1/models/credit_risk:predictByEntity";
const GET: &str = "/v1/features:get";
const WRITE: &str = "/v1/featureViews/applicant:write";

/// Every case: path, body, HTTP status, gRPC status, what the message has to name.
fn cases() -> Vec<(&'static str, Json, u16, &'static str, &'static str)> {
    let one = json!([{"loan_id": "LC00001"}]);
    let many: Vec<Json> = (0..10_001)
        .map(|i| json!({"loan_id": i.to_string()}))
        .collect();
    vec![
        (
            "/v1/models/nope:predict",
            json!({"rows": [{}]}),
            404,
            "NOT_FOUND",
            "nope",
        ),
        (
            "/v1/models/credit_risk/versions/9:predict",
            json!({"rows": [{}]}),
            404,
            "NOT_FOUND",
            "9",
        ),
        (
            PREDICT,
            json!({"rows": [{"anual_inc": 1}]}),
            400,
            "INVALID_ARGUMENT",
            "rows[0].anual_inc",
        ),
        (
            PREDICT,
            json!({"rows": [{}, {"annual_inc": "rich"}]}),
            400,
            "INVALID_ARGUMENT",
            "rows[1].annual_inc",
        ),
        (
            PREDICT,
            json!({"rows": [{"annual_inc": "NaN"}]}),
            400,
            "INVALID_ARGUMENT",
            "rows[0].annual_inc",
        ),
        (
            PREDICT,
            json!({"rows": [{"annual_inc": 1e300}]}),
            400,
            "INVALID_ARGUMENT",
            "32-bit float",
        ),
        (
            PREDICT,
            json!({"rows": [{"term": 36}]}),
            400,
            "INVALID_ARGUMENT",
            "rows[0].term",
        ),
        (
            PREDICT,
            json!({"rows": [{"term": ["term_36"]}]}),
            400,
            "INVALID_ARGUMENT",
            "rows[0].term",
        ),
        (
            PREDICT,
            json!({"rows": []}),
            400,
            "INVALID_ARGUMENT",
            "rows",
        ),
        (
            PREDICT,
            json!({"row": [{}]}),
            400,
            "INVALID_ARGUMENT",
            "row",
        ),
        (
            PREDICT,
            json!({"dense": {"values": [1.0], "rowCount": 1}}),
            400,
            "INVALID_ARGUMENT",
            "dense.values",
        ),
        (
            PREDICT,
            json!({"rows": many}),
            400,
            "INVALID_ARGUMENT",
            "10001",
        ),
        (
            BY_ENTITY,
            json!({"entities": [{}]}),
            400,
            "INVALID_ARGUMENT",
            "entities[0].loan_id",
        ),
        (
            BY_ENTITY,
            json!({"entities": [{"loan_id": 7}]}),
            400,
            "INVALID_ARGUMENT",
            "entities[0].loan_id",
        ),
        (
            BY_ENTITY,
            json!({"entities": [{"loan_id": null}]}),
            400,
            "INVALID_ARGUMENT",
            "entities[0].loan_id",
        ),
        (
            BY_ENTITY,
            json!({"entities": [{"loan_id": "a", "user": "b"}]}),
            400,
            "INVALID_ARGUMENT",
            "entities[0].user",
        ),
        (
            BY_ENTITY,
            json!({"entities": many}),
            400,
            "INVALID_ARGUMENT",
            "10001",
        ),
        (
            GET,
            json!({"features": ["nope:x"], "entities": one}),
            404,
            "NOT_FOUND",
            "nope",
        ),
        (
            GET,
            json!({"features": ["applicant:nope"], "entities": one}),
            404,
            "NOT_FOUND",
            "nope",
        ),
        (
            GET,
            json!({"features": ["annual_inc"], "entities": one}),
            400,
            "INVALID_ARGUMENT",
            "features[0]",
        ),
        (
            GET,
            json!({"features": [], "entities": one}),
            400,
            "INVALID_ARGUMENT",
            "features",
        ),
        (
            GET,
            json!({"features": ["applicant:annual_inc"], "entities": []}),
            400,
            "INVALID_ARGUMENT",
            "entities",
        ),
        (
            GET,
            json!({"features": ["applicant:annual_inc"], "entities": many}),
            400,
            "INVALID_ARGUMENT",
            "10001",
        ),
        (
            "/v1/featureViews/nope:write",
            json!({"rows": one}),
            404,
            "NOT_FOUND",
            "nope",
        ),
        (
            WRITE,
            json!({"rows": [{"annual_inc": 1}]}),
            400,
            "INVALID_ARGUMENT",
            "rows[0].loan_id",
        ),
        (
            WRITE,
            json!({"rows": [{"loan_id": "x", "annual_inc": true}]}),
            400,
            "INVALID_ARGUMENT",
            "rows[0].annual_inc",
        ),
        (
            WRITE,
            json!({"rows": [{"loan_id": "x", "anual_inc": 1}]}),
            400,
            "INVALID_ARGUMENT",
            "rows[0].anual_inc",
        ),
        (
            WRITE,
            json!({"rows": [{"loan_id": "x", "delinq_2yrs": 1.5}]}),
            400,
            "INVALID_ARGUMENT",
            "rows[0].delinq_2yrs",
        ),
        (
            WRITE,
            json!({"rows": [{"loan_id": "x", "eventTimestamp": "now"}]}),
            400,
            "INVALID_ARGUMENT",
            "rows[0].eventTimestamp",
        ),
        (
            "/v1/definitions:apply",
            json!({"definitions": "project = "}),
            400,
            "INVALID_ARGUMENT",
            "definitions",
        ),
        (
            "/v1/nothing:here",
            json!({}),
            404,
            "NOT_FOUND",
            "/v1/nothing:here",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_has_its_code_and_names_the_field() {
    let running = Running::start().await;
    for (path, body, http, status, named) in cases() {
        let shown: String = body.to_string().chars().take(120).collect();
        let (code, answer) = running.post(path, body).await;
        let place = format!("{path} {shown} answered {code} {answer}");
        assert_eq!(code, http, "{place}");
        assert_eq!(answer["code"], http, "{place}");
        assert_eq!(answer["status"], status, "{place}");
        assert!(
            answer["message"].as_str().unwrap().contains(named),
            "{place}"
        );
        assert!(!answer["requestId"].as_str().unwrap().is_empty(), "{place}");
        assert!(answer["details"].is_array(), "{place}");
    }
    let (status, _) = running
        .post(BY_ENTITY, json!({"entities": [{"loan_id": "LC00001"}]}))
        .await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_is_said_so() {
    let running = Running::with(&[("server.message_bytes_max", "65536")]).await;
    for body in [
        "",
        "{",
        "loan_id=LC00001",
        r#"{"rows": [{"annual_inc": NaN}]}"#,
        r#"{"rows": [{"annual_inc": Infinity}]}"#,
        r#"{"rows": [{"annual_inc": -Infinity}]}"#,
        r#"{"rows": [{"annual_inc": 1e999}]}"#,
        "\u{0}\u{1}",
        "[]",
    ] {
        let (status, answer) = running.post_text(PREDICT, body).await;
        assert_eq!(
            (status, &answer["status"]),
            (400, &json!("INVALID_ARGUMENT")),
            "{body}: {answer}"
        );
    }
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let (status, _) = running.post_text(PREDICT, &deep).await;
    assert_eq!(status, 400);
    let large = format!(r#"{{"rows": [{{"term": "{}"}}]}}"#, "x".repeat(100_000));
    let (status, answer) = running.post_text(PREDICT, &large).await;
    assert_eq!(status, 413, "{answer}");
    assert!(
        answer["message"].as_str().unwrap().contains("65536"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_message_over_the_limit_is_a_wrong_argument() {
    let running = Running::with(&[("server.message_bytes_max", "1000")]).await;
    let request = pb::PredictByEntityRequest {
        model: "credit_risk".into(),
        entities: (0..200).map(|i| loan(&i.to_string())).collect(),
        ..Default::default()
    };
    let mut client = running.predictions().await;
    let refused = client.predict_by_entity(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("server.message_bytes_max"));
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_none_come_over_grpc_and_are_refused() {
    let running = Running::start().await;
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let value = Value {
            kind: Some(Kind::NumberValue(number)),
        };
        let row = Struct {
            fields: [("annual_inc".to_owned(), value)].into_iter().collect(),
        };
        let request = pb::PredictRequest {
            model: "credit_risk".into(),
            rows: vec![row],
            ..Default::default()
        };
        let mut client = running.predictions().await;
        let refused = client.predict(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let details = refused.get_error_details();
        assert_eq!(details.error_info().unwrap().domain, "ferrocast");
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "rows[0].annual_inc");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_one_bad_row_writes_nothing() {
    let running = Running::start().await;
    let rows = json!({"rows": [
        {"loan_id": "fresh", "annual_inc": 1},
        {"loan_id": "fresher", "annual_inc": "much"},
    ]});
    let (status, _) = running.post(WRITE, rows).await;
    assert_eq!(status, 400);
    let get = json!({"features": ["applicant:annual_inc"], "entities": [{"loan_id": "fresh"}]});
    let (_, answer) = running.post(GET, get).await;
    assert_eq!(answer["columns"][0]["statuses"], json!(["NOT_FOUND"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_runs_out_is_not_a_cancellation() {
    let running = Running::with(&[("server.request_ms_max", "1")]).await;
    let request = pb::GetOnlineFeaturesRequest {
        features: vec!["applicant:annual_inc".into(); 500],
        entities: (0..10_000)
            .map(|i| object(&json!({"loan_id": i.to_string()})))
            .collect(),
    };
    let mut client = running.features().await;
    let late = client.get_online_features(request).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
}
