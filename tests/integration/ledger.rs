//! The ledger: what was predicted is found again, and replayed to the bit; on another version the difference is told.

use std::{fs, path::Path, time::Duration};

use ferrocast::grpc::pb;
use prost_types::{Value, value::Kind};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::{
    models_support::{add_opposite, copy_of_models, edit_json, edit_text, sha256},
    postgres::Postgres,
    support::{Running, expected_scores, fill, filled_sqlite, loan, sqlite_url},
};

const PREDICT: &str = "/v1/models/credit_risk:predict";
pub(crate) const PREDICT_BY_ENTITY: &str = "/v1/models/credit_risk:predictByEntity";

/// Nothing is written before somebody asks, or the server stops.
pub(crate) const NEVER_BY_ITSELF: (&str, &str) = ("ledger.flush_ms_max", "600000");

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite() {
    what_was_predicted_is_replayed_to_the_bit(&Running::with(&[("ledger.batch_max", "64")]).await)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres() {
    let url = Postgres::shared().fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    let settings = [("ledger.batch_max", "64")];
    let running = Running::on(&url, &settings, tempfile::tempdir().unwrap()).await;
    what_was_predicted_is_replayed_to_the_bit(&running).await;
}

async fn what_was_predicted_is_replayed_to_the_bit(running: &Running) {
    let mut client = running.predictions().await;
    let request = pb::PredictByEntityRequest {
        model: "credit_risk".into(),
        entities: expected_scores().iter().map(|(id, _)| loan(id)).collect(),
        include_features: true,
        ..Default::default()
    };
    let answer = client
        .predict_by_entity(request)
        .await
        .unwrap()
        .into_inner();
    for (served, (loan_id, _)) in answer.predictions.iter().zip(expected_scores()).step_by(20) {
        let prediction_id = served.prediction_id.clone();
        let request = pb::GetPredictionRequest {
            prediction_id: prediction_id.clone(),
        };
        // A moment ago it was answered; it may be in the queue.
        let recorded = client.get_prediction(request).await.unwrap().into_inner();
        assert_eq!(recorded.prediction_id, prediction_id);
        assert_eq!(recorded.entity, Some(loan(&loan_id)));
        assert_eq!((&*recorded.model, &*recorded.version), ("credit_risk", "1"));
        assert_eq!(recorded.role(), pb::recorded_prediction::Role::Answer);
        assert_eq!(recorded.score.to_bits(), served.score.to_bits());
        assert_eq!(recorded.label, served.label);
        assert_eq!(recorded.probabilities, served.probabilities);
        assert!(recorded.time.is_some() && recorded.latency.is_some());
        assert_inputs(&recorded, served);

        let request = pb::ReplayPredictionRequest {
            prediction_id,
            version: String::new(),
        };
        let replayed = client
            .replay_prediction(request)
            .await
            .unwrap()
            .into_inner();
        assert!(replayed.same_version && replayed.identical, "{replayed:?}");
        assert_eq!(replayed.outputs, recorded.outputs);
        assert_eq!(replayed.score.to_bits(), served.score.to_bits());
        assert_eq!(
            (replayed.score_difference, replayed.label_changed),
            (0.0, false)
        );
        assert_eq!(replayed.recorded, Some(recorded));
    }
    let status = client
        .get_ledger_status(pb::GetLedgerStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    let lost = status.dropped_full + status.dropped_away + status.dropped_refused;
    assert_eq!(
        (status.written + status.queued, lost),
        (500, 0),
        "{status:?}"
    );
    assert!(status.enabled);
}

/// Each input is what the answer showed of its feature, rounded as the model's tensors are.
fn assert_inputs(recorded: &pb::RecordedPrediction, served: &pb::Prediction) {
    assert_eq!(recorded.inputs.len(), 22);
    for input in &recorded.inputs {
        let shown = &served.features[&input.feature];
        assert_eq!(served.feature_statuses[&input.feature], input.status);
        assert!(input.feature.ends_with(&format!(":{}", input.name)));
        let is_stored = input.status() != pb::FeatureStatus::NotFound;
        assert_eq!(input.event_timestamp.is_some(), is_stored);
        assert_eq!(
            rounded(input.value.as_ref().unwrap()),
            rounded(shown),
            "{input:?}"
        );
    }
}

#[expect(clippy::cast_possible_truncation, reason = "as the model's tensors do")]
fn rounded(value: &Value) -> String {
    match value.kind.as_ref().unwrap() {
        Kind::NumberValue(number) => format!("{:?}", *number as f32),
        Kind::NullValue(_) => "null".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The id of the only prediction of an answer.
fn id_of((status, answer): &(u16, Json)) -> String {
    assert_eq!(*status, 200, "{answer}");
    let predictions = answer["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), 1);
    predictions[0]["predictionId"].as_str().unwrap().to_owned()
}

pub(crate) async fn predict_loan(running: &Running) -> String {
    let body = json!({ "entities": [{ "loan_id": "LC00001" }] });
    id_of(&running.post(PREDICT_BY_ENTITY, body).await)
}

async fn replay(running: &Running, id: &str, version: &str) -> (u16, Json) {
    let body = json!({ "version": version });
    running
        .post(&format!("/v1/predictions/{id}:replay"), body)
        .await
}

/// Whoever asks at once meets the writer at every step of its work.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_a_moment_ago_is_there() {
    let running = Running::with(&[("ledger.flush_ms_max", "5")]).await;
    let mut client = running.predictions().await;
    let request = pb::PredictByEntityRequest {
        model: "credit_risk".into(),
        entities: vec![loan("LC00001")],
        ..Default::default()
    };
    for turn in 0..1_500_u32 {
        let answer = client.predict_by_entity(request.clone()).await.unwrap();
        let prediction_id = answer.into_inner().predictions[0].prediction_id.clone();
        tokio::time::sleep(Duration::from_micros(u64::from(turn % 80) * 100)).await;
        let request = pb::GetPredictionRequest { prediction_id };
        let found = client.get_prediction(request).await;
        assert!(found.is_ok(), "turn {turn}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_request_brought_are_recorded_as_the_model_saw_them() {
    let running = Running::with(&[NEVER_BY_ITSELF]).await;
    let row = json!({ "annual_inc": 0.1, "term": "term_60", "int_rate": null });
    let answered = running.post(PREDICT, json!({ "rows": [row] })).await;
    let id = id_of(&answered);
    let (status, recorded) = running.get(&format!("/v1/predictions/{id}")).await;
    assert_eq!(status, 200, "{recorded}");
    assert_eq!(recorded["score"], answered.1["predictions"][0]["score"]);
    assert!(
        recorded.get("entity").is_none_or(Json::is_null),
        "{recorded}"
    );
    let input = |name: &str| {
        let inputs = recorded["inputs"].as_array().unwrap();
        inputs.iter().find(|input| input["name"] == name).unwrap()
    };
    // A 32-bit float, written as the one who sent it wrote it.
    assert_eq!(input("annual_inc")["value"], json!(0.1));
    assert_eq!(input("term")["value"], json!("term_60"));
    for missing in ["int_rate", "emp_length"] {
        assert_eq!(input(missing)["value"], Json::Null, "{recorded}");
    }
    let (status, replayed) = replay(&running, &id, "").await;
    assert_eq!(status, 200, "{replayed}");
    assert_eq!(replayed["identical"], true, "{replayed}");

    // Packed numbers, the same values: the index of term_60 is 1.
    let mut dense = vec![json!("NaN"); 22];
    (dense[1], dense[4]) = (json!(1.0), json!(0.1));
    let body = json!({ "dense": { "rowCount": 1, "values": dense } });
    let id = id_of(&running.post(PREDICT, body).await);
    let (_, packed) = running.get(&format!("/v1/predictions/{id}")).await;
    assert_eq!(packed["inputs"], recorded["inputs"]);
    assert_eq!(packed["outputs"], recorded["outputs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_found_says_why() {
    let running = Running::start().await;
    let (status, answer) = running.get("/v1/predictions/nonsense").await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.to_string().contains("predictionId"), "{answer}");
    let nobodys = "01a1fd2d-9681-75cd-a006-b7ab72c235c5";
    let (status, answer) = running.get(&format!("/v1/predictions/{nobodys}")).await;
    assert_eq!(status, 404, "{answer}");
    for part in [nobodys, "ledger.retention_days", "ledger.flush_ms_max"] {
        assert!(
            answer["message"].as_str().unwrap().contains(part),
            "{answer}"
        );
    }
    assert_eq!(replay(&running, nobodys, "").await.0, 404);
    let id = predict_loan(&running).await;
    let (status, answer) = replay(&running, &id, "77").await;
    assert_eq!(status, 404, "{answer}");
    assert!(
        answer["message"].as_str().unwrap().contains("\"77\""),
        "{answer}"
    );
}

pub(crate) async fn serve(models: &Path, store: &TempDir) -> Running {
    let path = models.display().to_string();
    let settings = [
        ("models.path", path.as_str()),
        ("models.watch_interval_ms", "50"),
    ];
    let url = sqlite_url(store.path());
    Running::on(&url, &settings, tempfile::tempdir().unwrap()).await
}

pub(crate) fn filled_store() -> TempDir {
    let store = tempfile::tempdir().unwrap();
    let _ = tokio::task::block_in_place(|| filled_sqlite(store.path()));
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_scores_the_same_inputs_and_the_difference_is_told() {
    let models = copy_of_models();
    add_opposite(models.path(), "2");
    let store = filled_store();
    let running = serve(models.path(), &store).await;
    let id = predict_loan(&running).await;
    let (status, replayed) = replay(&running, &id, "2").await;
    assert_eq!(status, 200, "{replayed}");
    assert_eq!(replayed["sameVersion"], false);
    let number = |name: &str| replayed[name].as_f64().unwrap();
    let then = replayed["recorded"]["score"].as_f64().unwrap();
    assert!((number("score") + then - 1.0).abs() < 1e-6, "{replayed}");
    assert!((number("scoreDifference") - (number("score") - then)).abs() < 1e-12);
    // By an alias.
    let (_, replayed) = replay(&running, &id, "champion").await;
    assert_eq!(replayed["sameVersion"], true, "{replayed}");

    // Trained anew under the same number: another file, which says the same.
    retrain(&models.path().join("credit_risk/1"));
    let replayed = loop {
        let (status, replayed) = replay(&running, &id, "").await;
        assert_eq!(status, 200, "{replayed}");
        if replayed["digest"] != replayed["recorded"]["digest"] {
            break replayed;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(replayed["version"], "1");
    assert_eq!(replayed["sameVersion"], false, "{replayed}");
    assert_eq!(replayed["identical"], true, "{replayed}");
}

/// Adds a documentation text to the model file, which changes its digest and nothing else.
fn retrain(version: &Path) {
    let path = version.join("model.onnx");
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend([0x32, 3, b'n', b'e', b'w']);
    let digest = sha256(&bytes);
    fs::write(&path, bytes).unwrap();
    edit_json(&version.join("signature.json"), |signature| {
        signature["sha256"] = json!(digest);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_that_only_one_of_two_versions_has_are_named() {
    let store = filled_store();
    let models = copy_of_models();
    let running = serve(models.path(), &store).await;
    let id = predict_loan(&running).await;
    assert!(running.server.stop().await);

    // A version that calls one of its inputs by another name.
    let model = models.path().join("credit_risk");
    fs::rename(model.join("1"), model.join("2")).unwrap();
    edit_json(&model.join("2/signature.json"), |signature| {
        signature["version"] = json!("2");
        let inputs = signature["inputs"].as_array_mut().unwrap();
        let input = inputs
            .iter_mut()
            .find(|input| input["name"] == "annual_inc");
        input.unwrap()["name"] = json!("income");
    });
    edit_json(&model.join("2/golden.json"), |golden| {
        let inputs = golden["inputs"].as_array_mut().unwrap();
        let input = inputs.iter_mut().find(|input| **input == "annual_inc");
        *input.unwrap() = json!("income");
    });
    let toml = model.join("model.toml");
    edit_text(&toml, "champion = \"1\"", "champion = \"2\"");
    edit_text(
        &toml,
        "[aliases]",
        "[inputs.income]\nfeature = \"applicant:annual_inc\"\n[aliases]",
    );
    let running = serve(models.path(), &store).await;
    let (status, replayed) = replay(&running, &id, "2").await;
    assert_eq!(status, 200, "{replayed}");
    assert_eq!(replayed["missingInputs"], json!(["income"]));
    assert_eq!(replayed["unusedInputs"], json!(["annual_inc"]));
    assert_eq!(replayed["sameVersion"], false);
    // The version that made it is gone.
    let (status, answer) = replay(&running, &id, "").await;
    assert_eq!(status, 404, "{answer}");
    assert!(
        answer["message"].as_str().unwrap().contains("\"1\""),
        "{answer}"
    );
}
