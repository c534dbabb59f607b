//! Served scores are XGBoost's own, for 500 loans, on both stores, through gRPC and through REST.

use ferrocast::grpc::pb;
use serde_json::{Value as Json, json};

use crate::{
    postgres::Postgres,
    support::{Running, expected_scores, fill, loan},
};

const TOLERANCE: f64 = 1e-5;

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite() {
    scores_are_xgboosts(&Running::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres() {
    let url = Postgres::shared().fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    let running = Running::on(&url, &[], tempfile::tempdir().unwrap()).await;
    scores_are_xgboosts(&running).await;
}

async fn scores_are_xgboosts(running: &Running) {
    let expected = expected_scores();
    let request = pb::PredictByEntityRequest {
        model: "credit_risk".into(),
        entities: expected.iter().map(|(id, _)| loan(id)).collect(),
        include_features: true,
        ..Default::default()
    };
    let answer = running
        .predictions()
        .await
        .predict_by_entity(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.predictions.len(), expected.len());
    for ((id, score), served) in expected.iter().zip(&answer.predictions) {
        close(id, *score, served.score);
        close(id, *score, served.probabilities["bad"]);
        close(id, 1.0 - *score, served.probabilities["good"]);
        assert_eq!(served.features.len(), 22);
    }

    let ids: Vec<Json> = expected
        .iter()
        .map(|(id, _)| json!({ "loan_id": id }))
        .collect();
    let (status, answer) = running
        .post(
            "/v1/models/credit_risk:predictByEntity",
            json!({ "entities": ids, "includeFeatures": true }),
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    let predictions = answer["predictions"].as_array().unwrap();
    let mut rows = Vec::new();
    for ((id, score), served) in expected.iter().zip(predictions) {
        close(id, *score, served["score"].as_f64().unwrap());
        rows.push(row_of(served));
    }

    // The same loans once more, as rows that the caller brings.
    let (status, answer) = running
        .post("/v1/models/credit_risk:predict", json!({ "rows": rows }))
        .await;
    assert_eq!(status, 200, "{answer}");
    for ((id, score), served) in expected
        .iter()
        .zip(answer["predictions"].as_array().unwrap())
    {
        close(id, *score, served["score"].as_f64().unwrap());
    }
}

/// The features of an answer as a row for Predict.
fn row_of(prediction: &Json) -> Json {
    prediction["features"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.split_once(':').unwrap().1.to_owned(), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn close(id: &str, expected: f64, served: f64) {
    assert!(
        (expected - served).abs() <= TOLERANCE,
        "{id}: XGBoost says {expected}, the server {served}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dense_form_gives_the_same_scores() {
    let running = Running::start().await;
    let model = running
        .models()
        .await
        .get_model(pb::GetModelRequest {
            model: "credit_risk".into(),
        })
        .await
        .unwrap()
        .into_inner();
    let inputs = &model.versions[0].inputs;
    let request = |entities| pb::PredictByEntityRequest {
        model: "credit_risk".into(),
        entities,
        include_features: true,
        ..Default::default()
    };
    let ids: Vec<_> = expected_scores().into_iter().take(50).collect();
    let mut client = running.predictions().await;
    let by_entity = client
        .predict_by_entity(request(ids.iter().map(|(id, _)| loan(id)).collect()))
        .await
        .unwrap()
        .into_inner();
    let mut values = Vec::new();
    for prediction in &by_entity.predictions {
        for input in inputs {
            values.push(dense(input, &prediction.features[&input.feature]));
        }
    }
    let answer = client
        .predict(pb::PredictRequest {
            model: "credit_risk".into(),
            dense: Some(pb::DenseRows {
                values,
                row_count: 50,
            }),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    for ((id, score), served) in ids.iter().zip(&answer.predictions) {
        close(id, *score, served.score);
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn dense(input: &pb::ModelInput, value: &prost_types::Value) -> f32 {
    use prost_types::value::Kind;
    match value.kind.as_ref().unwrap() {
        Kind::NullValue(_) => f32::NAN,
        Kind::NumberValue(number) => *number as f32,
        Kind::StringValue(text) => {
            let index = input.categories.iter().position(|known| known == text);
            index.unwrap() as f32
        }
        other => panic!("unexpected {other:?}"),
    }
}
