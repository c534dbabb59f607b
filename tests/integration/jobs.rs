//! Prediction jobs on one server: what comes of them, what is refused, how they end.

use std::collections::BTreeMap;

use ferrocast::grpc::pb::{self, prediction_job::State};
use prost_types::{Struct, value::Kind};
use serde_json::{Value as Json, json};
use tonic::Code;

use crate::{
    jobs_support::{
        all_loans, assert_same, at_once, has_ended, is_halfway, job, predictions, submission,
        submit, succeeded, until,
    },
    models_support::{add_opposite, copy_of_models, edit_text},
    support::{Running, loan, object},
};

/// So small that a job can be met halfway.
const SLOW: (&str, &str) = ("jobs.chunk_rows_max", "2");

/// So many rows of it take seconds.
const SLOW_ROWS: usize = 3_000;

fn slow_loans() -> Vec<String> {
    let mut loans = all_loans();
    loans.truncate(SLOW_ROWS);
    loans
}

#[tokio::test(flavor = "multi_thread")]
async fn all_loans_in_one_job_score_as_they_do_at_once_bit_for_bit() {
    let running = Running::start().await;
    let mut client = running.predictions().await;
    let loans = all_loans();
    let expected = at_once(&mut client, &loans).await;

    let request = submission(&loans);
    let submitted = client.submit_prediction(request).await.unwrap();
    let submitted = submitted.into_inner();
    assert_eq!(submitted.state(), State::Queued);
    assert_eq!((submitted.total, submitted.done), (9_857, 0));
    let done = succeeded(&mut client, &submitted.job_id).await;
    assert_eq!(
        (done.version.as_str(), done.wanted_version.as_str()),
        ("1", "")
    );
    assert_eq!((done.attempts, done.error.as_str()), (1, ""));
    let times = [
        &done.submitted_at,
        &done.started_at,
        &done.ended_at,
        &done.expires_at,
    ];
    let times = times.map(|time| time.map(|time| (time.seconds, time.nanos)).unwrap());
    assert!(times.is_sorted(), "{times:?}");

    for page_size in [10_000, 1_000, 777] {
        let found = predictions(&mut client, &submitted.job_id, page_size).await;
        assert_same(&found, &expected);
    }
    // A page that nobody asked for is none.
    for (page_token, rows) in [("9856", 1), ("9857", 0), ("4000000000", 0)] {
        let request = pb::GetPredictionJobRequest {
            job_id: submitted.job_id.clone(),
            page_token: page_token.into(),
            ..Default::default()
        };
        let page = client.get_prediction_job(request).await.unwrap();
        assert_eq!(page.get_ref().predictions.len(), rows);
        assert_eq!(page.get_ref().next_page_token, "");
    }
}

/// The values of some loans' features, as a caller would send them.
async fn rows_of(running: &Running, loans: &[String]) -> Vec<Struct> {
    let request = pb::PredictByEntityRequest {
        model: "credit_risk".into(),
        entities: loans.iter().map(|id| loan(id)).collect(),
        include_features: true,
        ..Default::default()
    };
    let answer = running.predictions().await.predict_by_entity(request).await;
    let predictions = answer.unwrap().into_inner().predictions.into_iter();
    let row = |prediction: pb::Prediction| Struct {
        fields: prediction
            .features
            .into_iter()
            .map(|(name, value)| (name.split(':').nth(1).unwrap().to_owned(), value))
            .collect::<BTreeMap<_, _>>(),
    };
    predictions.map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_request_brings_score_as_they_do_at_once() {
    let running = Running::with(&[("jobs.chunk_rows_max", "30")]).await;
    let mut client = running.predictions().await;
    let rows = rows_of(&running, &all_loans()[..100]).await;
    let inputs = inputs(&running).await;
    // Text would be an index in the packed form; it is left out there.
    let number = |row: &Struct, name: &str| match &row.fields[name].kind {
        #[expect(clippy::cast_possible_truncation, reason = "as a caller would")]
        Some(Kind::NumberValue(number)) => *number as f32,
        _ => f32::NAN,
    };
    let numbers = rows
        .iter()
        .flat_map(|row| inputs.iter().map(move |name| number(row, name)));
    let dense = pb::DenseRows {
        values: numbers.collect(),
        row_count: 100,
    };
    for (rows, dense) in [(rows, None), (Vec::new(), Some(dense))] {
        let request = pb::PredictRequest {
            model: "credit_risk".into(),
            rows: rows.clone(),
            dense: dense.clone(),
            ..Default::default()
        };
        let expected = client.predict(request).await.unwrap().into_inner();
        let request = pb::SubmitPredictionRequest {
            model: "credit_risk".into(),
            version: "champion".into(),
            rows,
            dense,
            ..Default::default()
        };
        let id = submit(&mut client, request).await;
        let done = succeeded(&mut client, &id).await;
        assert_eq!(done.wanted_version, "champion");
        let found = predictions(&mut client, &id, 45).await;
        assert_same(&found, &expected.predictions);
    }
}

/// The model's inputs, in the order of the packed form.
async fn inputs(running: &Running) -> Vec<String> {
    let (_, model) = running.get("/v1/models/credit_risk").await;
    let inputs = model["versions"][0]["inputs"].as_array().unwrap().iter();
    inputs
        .map(|input| input["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_in_json() {
    let running = Running::start().await;
    let body =
        json!({"entities": [{"loan_id": "LC00001"}, {"loan_id": "LC00020"}], "requestId": "mine"});
    let path = "/v1/models/credit_risk/versions/champion:submitPrediction";
    let (status, submitted) = running.post(path, body.clone()).await;
    assert_eq!(status, 200, "{submitted}");
    let id = submitted["jobId"].as_str().unwrap().to_owned();
    assert_eq!(
        (&submitted["total"], &submitted["state"]),
        (&json!(2), &json!("QUEUED"))
    );
    let (_, again) = running.post(path, body).await;
    assert_eq!(again["jobId"], id.as_str());

    let path = format!("/v1/predictionJobs/{id}");
    let client = &mut running.predictions().await;
    succeeded(client, &id).await;
    let (status, page) = running.get(&format!("{path}?pageSize=1")).await;
    assert_eq!(status, 200, "{page}");
    assert_eq!(page["job"]["state"], "SUCCEEDED");
    assert_eq!(page["job"]["wantedVersion"], "champion");
    assert_eq!(page["job"]["requestId"], "mine");
    assert_eq!(page["predictions"].as_array().unwrap().len(), 1);
    let prediction = &page["predictions"][0];
    assert!(prediction["probabilities"]["bad"].is_number());
    // The ledger has it a moment later.
    let recorded = format!(
        "/v1/predictions/{}",
        prediction["predictionId"].as_str().unwrap()
    );
    let mut found = running.get(&recorded).await;
    while found.0 == 404 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        found = running.get(&recorded).await;
    }
    assert_eq!(
        (found.0, &found.1["score"]),
        (200, &prediction["score"]),
        "{found:?}"
    );
    let token = page["nextPageToken"].as_str().unwrap();
    let (_, rest) = running.get(&format!("{path}?pageToken={token}")).await;
    assert_eq!(rest["predictions"].as_array().unwrap().len(), 1);
    assert_eq!(rest["nextPageToken"], "");

    // What has succeeded is not cancelled.
    let (status, cancelled) = running.post(&format!("{path}:cancel"), json!({})).await;
    assert_eq!((status, &cancelled["state"]), (200, &json!("SUCCEEDED")));

    let body = json!({"entities": [{"loan_id": "LC00001"}]});
    let path = "/v1/models/credit_risk:submitPrediction";
    let (_, newest) = running.post(path, body).await;
    let list = async |query: &str| -> Vec<Json> {
        let (status, listed) = running.get(&format!("/v1/predictionJobs{query}")).await;
        assert_eq!(status, 200, "{listed}");
        listed["jobs"].as_array().unwrap().clone()
    };
    let ids = |jobs: Vec<Json>| -> Vec<Json> {
        jobs.into_iter()
            .map(|mut job| job["jobId"].take())
            .collect()
    };
    assert_eq!(ids(list("").await), [newest["jobId"].clone(), json!(id)]);
    assert_eq!(ids(list("?model=nope").await), [""; 0]);
    assert_eq!(ids(list("?model=%00").await), [""; 0]);
    assert_eq!(ids(list("?state=FAILED").await), [""; 0]);
    let (_, first) = running.get("/v1/predictionJobs?pageSize=1").await;
    let token = first["nextPageToken"].as_str().unwrap();
    assert_eq!(ids(list(&format!("?pageToken={token}")).await), [json!(id)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_to_be_wrong_is_refused_at_once() {
    // Rows of 22 inputs are looked at two by two.
    let settings = [("jobs.entities_max", "3"), ("limits.values_max", "44")];
    let running = Running::with(&settings).await;
    let loan = json!({"loan_id": "LC00001"});
    for (model, body, status, part) in [
        ("nope", json!({"entities": [loan]}), 404, "nope"),
        (
            "credit_risk/versions/9",
            json!({"entities": [loan]}),
            404,
            "9",
        ),
        ("credit_risk", json!({}), 400, "entities"),
        (
            "credit_risk",
            json!({"entities": [loan, loan, loan, loan]}),
            400,
            "the 3",
        ),
        (
            "credit_risk",
            json!({"entities": [loan, {"loan_id": 7}]}),
            400,
            "entities[1].loan_id",
        ),
        (
            "credit_risk",
            json!({"entities": [loan, {"user": "a"}]}),
            400,
            "entities[1].user",
        ),
        (
            "credit_risk",
            json!({"rows": [{}, {}, {"annual_inc": "rich"}]}),
            400,
            "rows[2].annual_inc",
        ),
        (
            "credit_risk",
            json!({"rows": [{}], "entities": [loan]}),
            400,
            "entities",
        ),
        (
            "credit_risk",
            json!({"dense": {"values": [1.0], "rowCount": 1}}),
            400,
            "dense.values",
        ),
        (
            "credit_risk",
            json!({"entities": [loan], "requestId": "a\u{0}"}),
            400,
            "requestId",
        ),
        (
            "credit_risk",
            json!({"entities": [loan], "requestId": "x".repeat(129)}),
            400,
            "requestId",
        ),
    ] {
        let path = format!("/v1/models/{model}:submitPrediction");
        let (answered, answer) = running.post(&path, body).await;
        assert_eq!(answered, status, "{model} {part}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(part), "{part}: {message}");
    }
    let unknown = "/v1/predictionJobs/01a1fd2d-9681-75cd-a006-b7ab72c235c5";
    assert_eq!(running.get(unknown).await.0, 404);
    assert_eq!(
        running
            .post(&format!("{unknown}:cancel"), json!({}))
            .await
            .0,
        404
    );
    for path in [
        "/v1/predictionJobs/seven",
        &format!("{unknown}?pageToken=x"),
        &format!("{unknown}?pageToken=-1"),
        "/v1/predictionJobs?pageToken=x",
        "/v1/predictionJobs?state=9",
    ] {
        assert_eq!(running.get(path).await.0, 400, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_that_cannot_be_scored_fails_its_job_and_is_named() {
    let models = copy_of_models();
    let model = models.path().join("credit_risk/model.toml");
    let inputs = "[inputs.open_il_24m]\non_missing = \"reject\"\n[example]";
    edit_text(&model, "[example]", inputs);
    let path = models.path().display().to_string();
    let running = Running::with(&[("models.path", &path), ("jobs.chunk_rows_max", "7")]).await;
    let mut client = running.predictions().await;
    let mut features = running.features().await;
    let write = pb::WriteFeaturesRequest {
        view: "applicant".into(),
        rows: vec![object(
            &json!({"loan_id": "LC00004", "open_il_24m": null, "eventTimestamp": "2030-01-01T00:00:00Z"}),
        )],
        ..Default::default()
    };
    features.write_features(write).await.unwrap();
    // Loans that have the value.
    let good: Vec<String> = (0..33).map(|_| "LC00001".to_owned()).collect();
    for (bad, code, said) in [
        ("LC-nobody", Code::NotFound, "LC-nobody"),
        ("LC00004", Code::FailedPrecondition, "open_il_24m is null"),
    ] {
        let mut loans = good.clone();
        loans.insert(23, bad.to_owned());
        let id = submit(&mut client, submission(&loans)).await;
        let failed = until(&mut client, &id, has_ended).await;
        assert_eq!(failed.state(), State::Failed, "{failed:?}");
        assert_eq!((failed.attempts, failed.done), (1, 21));
        assert_eq!(failed.error_code, i32::from(code));
        assert!(failed.error.starts_with("entities[23]: "), "{failed:?}");
        assert!(failed.error.contains(said), "{failed:?}");
        assert!(predictions(&mut client, &id, 100).await.is_empty());
    }
    // The worker goes on.
    let id = submit(&mut client, submission(&good)).await;
    succeeded(&mut client, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_stops_halfway_and_the_next_one_runs() {
    let running = Running::with(&[SLOW]).await;
    let mut client = running.predictions().await;
    let id = submit(&mut client, submission(&slow_loans())).await;
    let next = submit(&mut client, submission(&all_loans()[..10])).await;
    until(&mut client, &id, is_halfway).await;
    assert_eq!(job(&mut client, &next).await.state(), State::Queued);
    let request = pb::CancelPredictionJobRequest { job_id: id.clone() };
    let cancelled = client.cancel_prediction_job(request).await.unwrap();
    assert_eq!(cancelled.get_ref().state(), State::Cancelled);
    succeeded(&mut client, &next).await;
    let after = job(&mut client, &id).await;
    assert_eq!(after, cancelled.into_inner());
    assert!(predictions(&mut client, &id, 1_000).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_wait_than_may_and_a_request_sent_again_is_the_same_job() {
    let running = Running::with(&[("jobs.workers", "0"), ("jobs.queued_max", "1")]).await;
    let mut client = running.predictions().await;
    let named = |loans: &[String]| pb::SubmitPredictionRequest {
        request_id: "mine".into(),
        ..submission(loans)
    };
    let loans = all_loans();
    let first = submit(&mut client, named(&loans[..2])).await;
    let full = client.submit_prediction(submission(&loans[..2])).await;
    let full = full.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    assert!(full.message().contains("jobs.queued_max"), "{full}");
    assert_eq!(submit(&mut client, named(&loans[..2])).await, first);
    let other = client.submit_prediction(named(&loans[..3])).await;
    assert_eq!(other.unwrap_err().code(), Code::Aborted);
}

/// Two versions; the second one scores the other class.
async fn two_versions(settings: &[(&str, &str)]) -> (Running, tempfile::TempDir) {
    let models = copy_of_models();
    add_opposite(models.path(), "2");
    let path = models.path().display().to_string();
    let mut all = vec![("models.path", path.as_str()), SLOW];
    all.extend(settings);
    (Running::with(&all).await, models)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_version_scores_a_job_whatever_is_released_meanwhile() {
    let (running, _models) = two_versions(&[]).await;
    let mut client = running.predictions().await;
    let loans = slow_loans();
    let expected = at_once(&mut client, &loans).await;
    let id = submit(&mut client, submission(&loans)).await;
    until(&mut client, &id, is_halfway).await;
    let alias = "/v1/models/credit_risk/aliases/champion";
    let (status, _) = running.put(alias, json!({"version": "2"})).await;
    assert_eq!(status, 200);
    let at_once = at_once(&mut client, &loans[..1]).await;
    assert_eq!(at_once[0].version, "2");
    assert_eq!(succeeded(&mut client, &id).await.version, "1");
    assert_same(&predictions(&mut client, &id, 1_000).await, &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_goes_away_leaves_the_whole_job_to_another() {
    let (running, _models) = two_versions(&[("jobs.retry_ms", "10")]).await;
    let mut client = running.predictions().await;
    let loans = slow_loans();
    let id = submit(&mut client, submission(&loans)).await;
    // Whoever names the version waits for it.
    let pinned = pb::SubmitPredictionRequest {
        version: "1".into(),
        ..submission(&loans[..4])
    };
    let pinned = submit(&mut client, pinned).await;
    until(&mut client, &id, is_halfway).await;
    let model = "/v1/models/credit_risk";
    let body = json!({"version": "2"});
    let (status, _) = running
        .put(&format!("{model}/aliases/champion"), body)
        .await;
    assert_eq!(status, 200);
    let (status, answer) = running
        .post(&format!("{model}:unload"), json!({"version": "1"}))
        .await;
    assert_eq!(status, 200, "{answer}");

    let done = succeeded(&mut client, &id).await;
    assert_eq!((done.version.as_str(), done.attempts), ("2", 2));
    let expected = at_once(&mut client, &loans).await;
    assert_eq!(expected[0].version, "2");
    assert_same(&predictions(&mut client, &id, 1_000).await, &expected);

    let failed = until(&mut client, &pinned, has_ended).await;
    assert_eq!((failed.state(), failed.attempts), (State::Failed, 3));
    assert!(
        failed.error.contains("given up after 3 attempts"),
        "{failed:?}"
    );
    assert!(failed.error.contains("is unloaded"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn predictions_are_kept_for_a_while_and_then_the_job_for_another() {
    let running = Running::with(&[("jobs.sweep_ms", "20")]).await;
    let mut client = running.predictions().await;
    let id = submit(&mut client, submission(&all_loans()[..10])).await;
    succeeded(&mut client, &id).await;
    let age = || {
        let file = rusqlite::Connection::open(running.store_file()).unwrap();
        file.busy_timeout(std::time::Duration::from_secs(60))
            .unwrap();
        let sql = "UPDATE ferrocast_prediction_jobs SET expires_at = 1";
        assert_eq!(file.execute(sql, []).unwrap(), 1);
    };
    age();
    let expired = until(&mut client, &id, |job| job.state() == State::Expired).await;
    assert_eq!(expired.done, 10);
    assert!(predictions(&mut client, &id, 100).await.is_empty());
    age();
    loop {
        let request = pb::GetPredictionJobRequest {
            job_id: id.clone(),
            ..Default::default()
        };
        if let Err(gone) = client.get_prediction_job(request).await {
            assert_eq!(gone.code(), Code::NotFound);
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
