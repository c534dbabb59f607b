//! What a job has predicted is in the ledger: however large the job is, and whenever its server stops.

use std::{collections::BTreeSet, time::Duration};

use ferrocast::grpc::pb;
use serde_json::json;
use tokio_postgres::Client as Database;

use crate::{
    jobs_support::{
        Client, all_loans, is_halfway, job, predictions, submission, submit, succeeded, until,
    },
    postgres::Postgres,
    support::{Running, fill, object},
};

/// So many that a job can be met halfway.
const ROWS: usize = 6_000;

/// As wide as a row of the model is when all of it is sent.
fn wide_row() -> prost_types::Struct {
    object(&json!({
        "annual_inc": 52_000, "term": "term_36", "int_rate": 11.2, "addr_state": "NY", "emp_length": "emp_5",
        "sub_grade": "B2", "home_ownership": "RENT", "verification_status": "Verified", "purpose": "credit_card",
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

/// Waits until so many statements wait for a lock.
async fn until_blocked(database: &Database) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
               AND query LIKE '%ferrocast_prediction_job_results%' AND datname = current_database()";
    let blocked = async {
        while database.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), blocked).await;
    waited.expect("a chunk on its way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_on_its_way_at_the_stop_is_recorded() {
    let url = Postgres::shared().fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    let settings = [
        ("jobs.chunk_rows_max", "10"),
        ("jobs.poll_ms", "50"),
        ("jobs.lease_ms", "600000"),
    ];
    let serve = async |settings: &[(&str, &str)]| {
        Running::on(&url, settings, tempfile::tempdir().unwrap()).await
    };
    let watching = serve(&[("jobs.workers", "0")]).await;
    let mut watcher = watching.predictions().await;
    let name = url.rsplit('/').next().unwrap();
    let (holder, looking) = (
        Postgres::shared().connect(name).await,
        Postgres::shared().connect(name).await,
    );
    let first = serve(&settings).await;
    let id = submit(&mut watcher, submission(&all_loans()[..ROWS])).await;
    until(&mut watcher, &id, is_halfway).await;

    // Its job's row is held while the server stops: the chunk is committed once it is let go.
    holder
        .batch_execute("BEGIN; SELECT id FROM ferrocast_prediction_jobs FOR UPDATE")
        .await
        .unwrap();
    until_blocked(&looking).await;
    let stopping = tokio::spawn(first.server.stop());
    tokio::time::sleep(Duration::from_millis(500)).await;
    holder.batch_execute("COMMIT").await.unwrap();
    assert!(stopping.await.unwrap());
    assert!(is_halfway(&job(&mut watcher, &id).await));

    let second = serve(&settings).await;
    succeeded(&mut watcher, &id).await;
    assert!(second.server.stop().await);
    assert_eq!(missing(&mut watcher, &id).await, [""; 0]);
    let ids: BTreeSet<String> = predictions(&mut watcher, &id, 1_000)
        .await
        .into_iter()
        .map(|prediction| prediction.prediction_id)
        .collect();
    assert_eq!(ids.len(), ROWS);
}
