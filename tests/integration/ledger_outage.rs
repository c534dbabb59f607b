//! The database hangs, or is killed, under load: answers go on, what is lost to the ledger is counted, and it recovers.

use std::time::{Duration, Instant};

use ferrocast::grpc::pb::{self, prediction_service_client::PredictionServiceClient};
use serde_json::json;
use tonic::{Code, transport::Channel};

use crate::{
    postgres::Postgres,
    support::{Running, fill, object},
};

const ROWS: u64 = 100;

/// Whatever has to happen is waited for so long.
const WAIT_MAX: Duration = Duration::from_secs(120);

struct Caller {
    client: PredictionServiceClient<Channel>,
    predicted: u64,
}

impl Caller {
    /// Predicts rows that need no database; returns the last one's id.
    async fn predict(&mut self) -> String {
        let row = object(&json!({ "annual_inc": 52_000, "term": "term_36" }));
        let request = pb::PredictRequest {
            model: "credit_risk".into(),
            rows: vec![row; usize::try_from(ROWS).unwrap()],
            ..Default::default()
        };
        let answer = self.client.predict(request).await.unwrap().into_inner();
        self.predicted += ROWS;
        answer.predictions.last().unwrap().prediction_id.clone()
    }

    async fn status(&mut self) -> pb::LedgerStatus {
        let request = pb::GetLedgerStatusRequest {};
        self.client
            .get_ledger_status(request)
            .await
            .unwrap()
            .into_inner()
    }

    /// Predicts until the ledger is as it should be.
    async fn predict_until(&mut self, is_so: impl Fn(&pb::LedgerStatus) -> bool) {
        let give_up_at = Instant::now() + WAIT_MAX;
        loop {
            self.predict().await;
            let status = self.status().await;
            assert!(status.queued_bytes <= 1 << 20, "{status:?}");
            if is_so(&status) {
                return;
            }
            assert!(Instant::now() < give_up_at, "{status:?}");
        }
    }

    /// Waits until a prediction is in the ledger.
    async fn await_recorded(&mut self) {
        let give_up_at = Instant::now() + WAIT_MAX;
        loop {
            // The one before may have been lost.
            let prediction_id = self.predict().await;
            let request = pb::GetPredictionRequest { prediction_id };
            match self.client.get_prediction(request).await {
                Ok(_) => return,
                Err(status) => {
                    assert!(
                        matches!(
                            status.code(),
                            Code::Unavailable | Code::NotFound | Code::ResourceExhausted
                        ),
                        "{status:?}"
                    );
                    assert!(Instant::now() < give_up_at, "{status:?}");
                }
            }
        }
    }

    /// Waits until nothing is in the queue: then each prediction was written, or is counted among the lost.
    async fn await_balance(&mut self) -> pb::LedgerStatus {
        let give_up_at = Instant::now() + WAIT_MAX;
        loop {
            let status = self.status().await;
            if status.queued == 0 {
                let lost = status.dropped_full + status.dropped_away + status.dropped_refused;
                assert_eq!(status.written + lost, self.predicted, "{status:?}");
                assert_eq!((status.dropped_refused, status.queued_bytes), (0, 0));
                return status;
            }
            assert!(Instant::now() < give_up_at, "{status:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_and_one_that_is_killed() {
    let postgres = tokio::task::block_in_place(|| Postgres::start(None));
    let url = postgres.fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    let settings = [
        ("ledger.queue_bytes_max", "1048576"),
        ("ledger.batch_max", "200"),
        ("ledger.flush_ms_max", "10"),
        ("ledger.retry_ms_max", "1000"),
        ("database.statement_ms_max", "2000"),
        ("database.connect_ms_max", "2000"),
    ];
    let running = Running::on(&url, &settings, tempfile::tempdir().unwrap()).await;
    let mut caller = Caller {
        client: running.predictions().await,
        predicted: 0,
    };
    caller.await_recorded().await;
    let before = caller.await_balance().await;

    // Connections stay open and nobody answers: the queue fills up, and the oldest give up.
    postgres.pause_all();
    caller
        .predict_until(|now| {
            now.dropped_full > before.dropped_full && now.dropped_away > before.dropped_away
        })
        .await;
    postgres.resume_all();
    caller.await_recorded().await;
    let between = caller.await_balance().await;
    assert!(between.written > before.written, "{between:?}");

    tokio::task::block_in_place(|| postgres.kill());
    caller
        .predict_until(|now| {
            now.dropped_full > between.dropped_full && now.dropped_away > between.dropped_away
        })
        .await;
    tokio::task::block_in_place(|| postgres.start_again());
    caller.await_recorded().await;
    let after = caller.await_balance().await;
    assert!(after.written > between.written, "{after:?}");

    assert!(running.server.stop().await);

    // A stop while nobody answers ends in its time, whatever waits for an answer, and loses what is in the queue.
    let settings = [
        ("server.drain_ms_max", "1000"),
        ("jobs.poll_ms", "10"),
        ("jobs.sweep_ms", "10"),
        ("database.statement_ms_max", "60000"),
        ("ledger.flush_ms_max", "10"),
    ];
    let running = Running::on(&url, &settings, tempfile::tempdir().unwrap()).await;
    let mut caller = Caller {
        client: running.predictions().await,
        predicted: 0,
    };
    postgres.pause_all();
    caller.predict().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (server, began) = (running.server, Instant::now());
    let _ = server.stop().await;
    let took = began.elapsed();
    postgres.resume_all();
    // For requests and for the ledger, and as much again for a busy machine.
    assert!(took < Duration::from_secs(4), "{took:?}");
}
