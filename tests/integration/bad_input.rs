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

/// Every case: path, body, HTTP status, gRPC status, what the message has to name. MANY is 10,001 objects.
const CASES: &str = r#"
/v1/models/nope:predict {"rows": [{}]} -> 404 NOT_FOUND nope
/v1/models/credit_risk/versions/9:predict {"rows": [{}]} -> 404 NOT_FOUND 9
/v1/models/credit_risk:predict {"rows": [{"anual_inc": 1}]} -> 400 INVALID_ARGUMENT rows[0].anual_inc
/v1/models/credit_risk:predict {"rows": [{}, {"annual_inc": "rich"}]} -> 400 INVALID_ARGUMENT rows[1].annual_inc
/v1/models/credit_risk:predict {"rows": [{"annual_inc": "NaN"}]} -> 400 INVALID_ARGUMENT rows[0].annual_inc
/v1/models/credit_risk:predict {"rows": [{"annual_inc": 1e300}]} -> 400 INVALID_ARGUMENT 32-bit float
/v1/models/credit_risk:predict {"rows": [{"term": 36}]} -> 400 INVALID_ARGUMENT rows[0].term
/v1/models/credit_risk:predict {"rows": [{"term": ["term_36"]}]} -> 400 INVALID_ARGUMENT rows[0].term
/v1/models/credit_risk:predict {"rows": []} -> 400 INVALID_ARGUMENT rows
/v1/models/credit_risk:predict {"row": [{}]} -> 400 INVALID_ARGUMENT row
/v1/models/credit_risk:predict {"dense": {"values": [1.0], "rowCount": 1}} -> 400 INVALID_ARGUMENT dense.values
/v1/models/credit_risk:predict {"rows": MANY} -> 400 INVALID_ARGUMENT 10001
/v1/models/credit_risk:predictByEntity {"entities": [{}]} -> 400 INVALID_ARGUMENT entities[0].loan_id
/v1/models/credit_risk:predictByEntity {"entities": [{"loan_id": 7}]} -> 400 INVALID_ARGUMENT entities[0].loan_id
/v1/models/credit_risk:predictByEntity {"entities": [{"loan_id": null}]} -> 400 INVALID_ARGUMENT entities[0].loan_id
/v1/models/credit_risk:predictByEntity {"entities": [{"loan_id": "a", "user": "b"}]} -> 400 INVALID_ARGUMENT entities[0].user
/v1/models/credit_risk:predictByEntity {"entities": MANY} -> 400 INVALID_ARGUMENT 10001
/v1/features:get {"features": ["nope:x"], "entities": [{"loan_id": "LC00001"}]} -> 404 NOT_FOUND nope
/v1/features:get {"features": ["applicant:nope"], "entities": [{"loan_id": "LC00001"}]} -> 404 NOT_FOUND nope
/v1/features:get {"features": ["annual_inc"], "entities": [{"loan_id": "LC00001"}]} -> 400 INVALID_ARGUMENT features[0]
/v1/features:get {"features": [], "entities": [{"loan_id": "LC00001"}]} -> 400 INVALID_ARGUMENT features
/v1/features:get {"features": ["applicant:annual_inc"], "entities": []} -> 400 INVALID_ARGUMENT entities
/v1/features:get {"features": ["applicant:annual_inc"], "entities": MANY} -> 400 INVALID_ARGUMENT 10001
/v1/featureViews/nope:write {"rows": [{"loan_id": "LC00001"}]} -> 404 NOT_FOUND nope
/v1/featureViews/applicant:write {"rows": [{"annual_inc": 1}]} -> 400 INVALID_ARGUMENT rows[0].loan_id
/v1/featureViews/applicant:write {"rows": [{"loan_id": "x", "annual_inc": true}]} -> 400 INVALID_ARGUMENT rows[0].annual_inc
/v1/featureViews/applicant:write {"rows": [{"loan_id": "x", "anual_inc": 1}]} -> 400 INVALID_ARGUMENT rows[0].anual_inc
/v1/featureViews/applicant:write {"rows": [{"loan_id": "x", "delinq_2yrs": 1.5}]} -> 400 INVALID_ARGUMENT rows[0].delinq_2yrs
/v1/featureViews/applicant:write {"rows": [{"loan_id": "x", "eventTimestamp": "now"}]} -> 400 INVALID_ARGUMENT rows[0].eventTimestamp
/v1/features:get {"features": ["applicant:annual_inc"], "featureService": "x", "entities": [{"loan_id": "x"}]} -> 400 INVALID_ARGUMENT featureService
/v1/features:get {"featureService": "nope", "entities": [{"loan_id": "x"}]} -> 404 NOT_FOUND nope
/v1/features:get {"features": ["applicant:annual_inc"], "entities": [{"loan_id": "x"}], "maxAge": "-1s"} -> 400 INVALID_ARGUMENT maxAge
/v1/features:get {"features": ["applicant:annual_inc"], "entities": [{"loan_id": "x"}], "maxAge": "1h"} -> 400 INVALID_ARGUMENT maxAge
/v1/features:get {"features": ["applicant:annual_inc"], "entities": [{"loan_id": "x"}], "format": 9} -> 400 INVALID_ARGUMENT format
/v1/features:get {"features": ["applicant:annual_inc"], "entities": [{"loan_id": "x"}], "format": "CSV"} -> 400 INVALID_ARGUMENT format
/v1/features:get {"features": ["applicant:annual_inc"], "entityColumns": [{"name": "loan_id"}]} -> 400 INVALID_ARGUMENT entityColumns[0]
/v1/features:get {"features": ["applicant:annual_inc"], "entityColumns": [{"name": "id", "strings": ["x"]}]} -> 400 INVALID_ARGUMENT entityColumns[0].name
/v1/features:get {"features": ["applicant:annual_inc"], "entityColumns": [{"name": "loan_id", "int64s": [1]}]} -> 400 INVALID_ARGUMENT entityColumns[0].int64s
/v1/features:get {"features": ["applicant:annual_inc"], "entityColumns": [{"name": "loan_id", "type": "INT64", "int64s": [1]}]} -> 400 INVALID_ARGUMENT entityColumns[0].type
/v1/features:get {"features": ["applicant:annual_inc"], "entityColumns": [{"name": "loan_id", "strings": ["x"], "nullRows": [0]}]} -> 400 INVALID_ARGUMENT entityColumns[0].nullRows
/v1/features:get {"features": ["applicant:annual_inc"], "entityColumns": [{"name": "loan_id", "strings": ["x"]}], "entities": [{}]} -> 400 INVALID_ARGUMENT entityColumns
/v1/featureViews/applicant:write {"rows": [{"loan_id": "x"}]} -> 400 INVALID_ARGUMENT rows[0]
/v1/featureViews/applicant:write {"rows": [{"loan_id": "a\u0000b", "annual_inc": 1}]} -> 400 INVALID_ARGUMENT rows[0].loan_id
/v1/featureViews/applicant:write {"rows": [{"loan_id": "x", "annual_inc": 1}], "columns": [{"name": "loan_id"}]} -> 400 INVALID_ARGUMENT columns
/v1/featureViews/applicant:write {"columns": [{"name": "loan_id", "strings": ["x"]}]} -> 400 INVALID_ARGUMENT columns
/v1/featureViews/applicant:write {"columns": [{"name": "loan_id", "strings": ["x"]}, {"name": "annual_inc", "doubles": [1, 2]}]} -> 400 INVALID_ARGUMENT columns[1].doubles
/v1/featureViews/applicant:write {"columns": [{"name": "loan_id", "strings": ["x"]}, {"name": "annual_inc", "doubles": [1], "nullRows": [1]}]} -> 400 INVALID_ARGUMENT columns[1].nullRows[0]
/v1/featureViews/applicant:write {"columns": [{"name": "loan_id", "strings": ["x"]}, {"name": "anual_inc", "doubles": [1]}]} -> 400 INVALID_ARGUMENT columns[1].name
/v1/entities/nope:delete {"key": {"loan_id": "x"}} -> 404 NOT_FOUND nope
/v1/entities/loan:delete {} -> 400 INVALID_ARGUMENT key.loan_id
/v1/entities/loan:delete {"key": {"loan_id": 7}} -> 400 INVALID_ARGUMENT key.loan_id
/v1/entities/loan:delete {"key": {"loan_id": "x", "user": "y"}} -> 400 INVALID_ARGUMENT key.user
/v1/definitions:apply {"definitions": "project = "} -> 400 INVALID_ARGUMENT definitions
/v1/nothing:here {} -> 404 NOT_FOUND /v1/nothing:here
"#;

struct Case {
    path: &'static str,
    body: Json,
    http: u16,
    status: &'static str,
    named: &'static str,
}

fn cases() -> Vec<Case> {
    let many: Vec<Json> = (0..10_001)
        .map(|i| json!({"loan_id": i.to_string()}))
        .collect();
    let many = Json::from(many).to_string();
    CASES
        .trim()
        .lines()
        .map(|line| {
            let (request, answer) = line.split_once(" -> ").unwrap();
            let (path, body) = request.split_once(' ').unwrap();
            let mut answer = answer.splitn(3, ' ');
            Case {
                path,
                body: serde_json::from_str(&body.replace("MANY", &many)).unwrap(),
                http: answer.next().unwrap().parse().unwrap(),
                status: answer.next().unwrap(),
                named: answer.next().unwrap(),
            }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_has_its_code_and_names_the_field() {
    let running = Running::start().await;
    for Case {
        path,
        body,
        http,
        status,
        named,
    } in cases()
    {
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
async fn a_long_value_does_not_make_an_error_that_clients_refuse() {
    let running = Running::start().await;
    let long = "é".repeat(500_000);
    let rows = vec![object(&json!({ "annual_inc": long, (long.as_str()): 1 })); 2];
    let request = pb::PredictRequest {
        model: "credit_risk".into(),
        rows,
        ..Default::default()
    };
    let mut client = running.predictions().await;
    let refused = client.predict(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_another_message_are_a_wrong_argument() {
    let running = Running::start().await;
    let mut client = tonic::client::Grpc::new(running.channel().await);
    client.ready().await.unwrap();
    // Its third field is packed numbers where PredictRequest has objects.
    let other = pb::FeatureColumn {
        statuses: vec![1, 2, 3],
        ..Default::default()
    };
    let codec = tonic_prost::ProstCodec::<pb::FeatureColumn, pb::PredictResponse>::default();
    let path = "/ferrocast.v1.PredictionService/Predict".parse().unwrap();
    let refused = client.unary(tonic::Request::new(other), path, codec).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("decode"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_values_than_one_request_may_have() {
    let running = Running::with(&[("limits.values_max", "100")]).await;
    let body = json!({"entities": vec![json!({"loan_id": "LC00001"}); 10]});
    let (status, answer) = running.post(BY_ENTITY, body).await;
    assert_eq!(status, 400);
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("limits.values_max"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_bytes_than_one_answer_may_have() {
    const TEXT_BYTES: usize = 1 << 20;
    let running = Running::with(&[("server.answer_bytes_max", "8000000")]).await;
    let text = "x".repeat(TEXT_BYTES);
    let (status, _) = running
        .post(
            WRITE,
            json!({"rows": [{"loan_id": "W1", "emp_length": text}]}),
        )
        .await;
    assert_eq!(status, 200);
    let mut features = running.features().await.max_decoding_message_size(64 << 20);
    for format in [
        pb::AnswerFormat::Columns,
        pb::AnswerFormat::Rows,
        pb::AnswerFormat::Packed,
    ] {
        let request = |count: usize| pb::GetOnlineFeaturesRequest {
            features: vec!["applicant:emp_length".into(), "applicant:annual_inc".into()],
            entities: vec![loan("W1"); count],
            format: format.into(),
            ..Default::default()
        };
        // Each time it is named it is answered, out of the one row that was read.
        let answer = features.get_online_features(request(5)).await.unwrap();
        let bytes = prost::Message::encoded_len(answer.get_ref());
        assert!(bytes > 5 * TEXT_BYTES, "{bytes}");
        let refused = features.get_online_features(request(5_000)).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(
            refused.message().contains("server.answer_bytes_max"),
            "{refused:?}"
        );
    }
    let (status, answer) = running
        .post(
            BY_ENTITY,
            json!({"entities": vec![json!({"loan_id": "W1"}); 5_000]}),
        )
        .await;
    assert_eq!(status, 400);
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("server.answer_bytes_max"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_values_than_one_write_may_have() {
    let running = Running::with(&[("limits.values_max", "40")]).await;
    let row = |id: usize| json!({"loan_id": id.to_string(), "annual_inc": 1});
    let rows: Vec<Json> = (0..10).map(row).collect();
    let ids: Vec<String> = (0..10).map(|id| id.to_string()).collect();
    let columns = json!([
        {"name": "loan_id", "strings": ids},
        {"name": "annual_inc", "doubles": vec![1; 10]},
    ]);
    for body in [json!({ "rows": rows }), json!({ "columns": columns })] {
        let (status, answer) = running.post(WRITE, body).await;
        assert_eq!(status, 400, "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains("limits.values_max"), "{message}");
    }
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
        features: vec!["applicant:annual_inc".into(); 30],
        entities: (0..10_000)
            .map(|i| object(&json!({"loan_id": i.to_string()})))
            .collect(),
        ..Default::default()
    };
    let mut client = running.features().await;
    let late = client.get_online_features(request).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
}
