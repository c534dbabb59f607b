//! What a job has predicted is in the ledger: however large the job is, and whenever its server stops.

use std::time::Duration;

use ferrocast::grpc::pb;
use serde_json::json;

use crate::{
    jobs_support::{
        Client, all_loans, is_halfway, predictions, submission, submit, succeeded, until,
    },
    support::{Running, filled_sqlite, object},
};

/// So many that a job can be met halfway.
const ROWS: usize = 6_000;

/// As wide as a row of the model is when all of it is sent.
fn wide_row() -> prost_types::Struct {
    object(&json!({
        "annual_inc": 52_000, "term": "term_36", "int_rate": 11.2, "addr_state": "NY", "emp_length": "emp_5",
        "sub_grade": "B2", "verification_status": "Verified", "revol_util": 33.1, "all_util": 12,
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_job_waits_for_room_and_none_of_it_is_lost() {
    // Less than the job weighs, and less than is scored of it between two writes.
    let settings = [
        ("ledger.queue_bytes_max", "1048576"),
        ("ledger.batch_max", "10000"),
        ("ledger.flush_ms_max", "2000"),
        ("jobs.chunk_rows_max", "100"),
    ];
    let running = Running::with(&settings).await;
    let mut client = running.predictions().await;
    let request = pb::SubmitPredictionRequest {
        model: "credit_risk".into(),
        rows: vec![wide_row(); 8_000],
        ..Default::default()
    };
    let id = submit(&mut client, request).await;
    succeeded(&mut client, &id).await;
    let status = client
        .get_ledger_status(pb::GetLedgerStatusRequest {})
        .await;
    let status = status.unwrap().into_inner();
    assert_eq!(status.dropped_full, 0, "{status:?}");
    assert_eq!(status.written + status.queued, 8_000, "{status:?}");
}

/// Predictions that are answered and not in the ledger.
async fn missing(client: &mut Client, job_id: &str) -> Vec<String> {
    let mut missing = Vec::new();
    for prediction in predictions(client, job_id, 1_000).await {
        let prediction_id = prediction.prediction_id;
        let request = pb::GetPredictionRequest {
            prediction_id: prediction_id.clone(),
        };
        if client.get_prediction(request).await.is_err() {
            missing.push(prediction_id);
        }
    }
    missing
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_on_its_way_at_the_stop_is_recorded() {
    let store = tempfile::tempdir().unwrap();
    let url = tokio::task::block_in_place(|| filled_sqlite(store.path()));
    let settings = [("jobs.chunk_rows_max", "10"), ("jobs.poll_ms", "50")];
    let serve = async || Running::on(&url, &settings, tempfile::tempdir().unwrap()).await;
    let first = serve().await;
    let mut client = first.predictions().await;
    let id = submit(&mut client, submission(&all_loans()[..ROWS])).await;
    until(&mut client, &id, is_halfway).await;
    drop(client);

    // Whoever writes waits, so that the server stops with a chunk on its way, which is stored once it is let go.
    let holder = rusqlite::Connection::open(store.path().join("store.db")).unwrap();
    holder.busy_timeout(Duration::from_secs(60)).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let stopping = tokio::spawn(first.server.stop());
    tokio::time::sleep(Duration::from_millis(500)).await;
    holder.execute_batch("COMMIT").unwrap();
    assert!(stopping.await.unwrap());

    let second = serve().await;
    let mut client = second.predictions().await;
    let done = succeeded(&mut client, &id).await;
    assert_eq!(done.attempts, 2);
    assert_eq!(missing(&mut client, &id).await, [""; 0]);
}
