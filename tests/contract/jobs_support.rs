//! What tests of prediction jobs share: a job of 25 rows, and what a worker does with it.

use std::time::Duration;

use ferrocast::{
    error::ErrorKind,
    inference::{
        ChunkResult, ClaimRequest, ClaimedJob, Hold, JobBounds, JobEnd, JobError, JobState,
        JobStore, NewJob, PinnedVersion, PredictionJob,
    },
    stores::Store,
};
use uuid::Uuid;

pub const LONG: Duration = Duration::from_secs(600);

pub const BOUNDS: JobBounds = JobBounds {
    queued_max: 1_000,
    kept_max: 1_000,
    bytes_max: 1 << 30,
    run_max: LONG,
};

/// A job of 25 rows in chunks of 10.
pub fn new_job() -> NewJob {
    NewJob {
        id: Uuid::now_v7(),
        request_id: None,
        input_digest: "digest".to_owned(),
        model: "one".to_owned(),
        wanted_version: "chämpion".to_owned(),
        total: 25,
        chunk_rows: 10,
        input: vec![(0..=255).collect(), Vec::new(), vec![7; 100_000]],
    }
}

pub fn named(request_id: &str) -> NewJob {
    NewJob {
        request_id: Some(request_id.to_owned()),
        ..new_job()
    }
}

pub async fn submit(store: &Store) -> Uuid {
    let kept = store.submit_job(&new_job(), &BOUNDS).await.unwrap();
    assert_eq!(kept.state, JobState::Queued);
    kept.id
}

pub fn request(lease: Duration) -> ClaimRequest {
    ClaimRequest {
        worker: "here".to_owned(),
        models: vec!["other".to_owned(), "one".to_owned()],
        declined: Vec::new(),
        lease,
        attempts_max: 3,
    }
}

pub async fn claim(store: &Store, lease: Duration) -> Option<ClaimedJob> {
    store.claim_job(&request(lease)).await.unwrap()
}

pub async fn claimed(store: &Store) -> ClaimedJob {
    claim(store, LONG).await.expect("a job waits")
}

pub async fn job(store: &Store, id: Uuid) -> PredictionJob {
    store.prediction_job(id).await.unwrap().unwrap()
}

pub fn version(version: &str) -> PinnedVersion {
    PinnedVersion {
        version: version.to_owned(),
        digest: format!("digest of {version}"),
    }
}

/// The predictions of a chunk, which begins at a tenth row.
pub fn chunk(number: u32, content: &str) -> ChunkResult {
    ChunkResult {
        chunk: number,
        done_before: number * 10,
        done: (number * 10 + 10).min(25),
        result: content.as_bytes().to_vec(),
    }
}

pub async fn append(store: &Store, hold: &Hold, chunk: &ChunkResult) -> bool {
    store.append_result(hold, chunk, LONG).await.unwrap()
}

pub async fn results(store: &Store, id: Uuid) -> Vec<String> {
    let found = store.job_results(id, 0..100).await.unwrap();
    let found = found.into_iter();
    found
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .collect()
}

pub fn fault() -> JobError {
    JobError {
        kind: ErrorKind::InvalidArgument,
        message: "entities[3]: it's \"wrong\"".to_owned(),
    }
}

pub async fn end(store: &Store, hold: &Hold, end: JobEnd) -> bool {
    store.end_job(hold, &end, LONG).await.unwrap()
}

/// Scores all of a job.
pub async fn complete(store: &Store, claimed: &ClaimedJob) {
    for number in 0..3 {
        let chunk = chunk(number, &format!("chunk {number}"));
        assert!(append(store, &claimed.hold, &chunk).await);
    }
    assert!(end(store, &claimed.hold, JobEnd::Succeeded).await);
}

/// Whatever a hold allows is refused.
pub async fn assert_worthless(store: &Store, hold: &Hold) {
    assert!(!store.renew_job(hold, LONG).await.unwrap());
    assert!(!store.pin_job(hold, &version("9")).await.unwrap());
    for number in 0..3 {
        assert!(!append(store, hold, &chunk(number, "stale")).await);
    }
    assert!(!end(store, hold, JobEnd::Succeeded).await);
    assert!(!end(store, hold, JobEnd::Failed(fault())).await);
    assert!(!store.retry_job(hold, LONG, &fault(), true).await.unwrap());
    assert!(!store.give_back_job(hold).await.unwrap());
}
