//! What has to be able to keep jobs.

use std::{ops::Range, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::{JobError, JobState, PinnedVersion, PredictionJob};
use crate::error::Result;

/// A job to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Names it; of version 7, so that ids are in the order of time.
    pub id: Uuid,
    /// What the caller names the submission.
    pub request_id: Option<String>,
    /// The SHA-256 of all that is to be scored, in hex.
    pub input_digest: String,
    /// The model.
    pub model: String,
    /// The version or alias; empty: the default.
    pub wanted_version: String,
    /// How many rows or entities it has.
    pub total: u32,
    /// How many a chunk has, but for the last.
    pub chunk_rows: u32,
    /// What is to be scored, a chunk each.
    pub input: Vec<Vec<u8>>,
}

/// What there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobBounds {
    /// Jobs that may wait.
    pub queued_max: u32,
    /// Jobs that are kept.
    pub kept_max: u32,
    /// Bytes of inputs and results that are kept.
    pub bytes_max: u64,
    /// How long a job may take from its submission to its end.
    pub run_max: Duration,
}

/// Which jobs a worker takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Who asks, for people.
    pub worker: String,
    /// The models that he has.
    pub models: Vec<String>,
    /// Jobs that he leaves to others.
    pub declined: Vec<Uuid>,
    /// How long he keeps a job without being heard of.
    pub lease: Duration,
    /// A job that was taken so often without getting on is not taken any more.
    pub attempts_max: u32,
}

/// The right to write to a job, for as long as nobody has claimed it anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// The job.
    pub id: Uuid,
    /// Of one claim.
    pub lease: Uuid,
}

/// A job that a worker has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedJob {
    /// The job.
    pub job: PredictionJob,
    /// The right to write to it.
    pub hold: Hold,
}

/// The predictions of one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkResult {
    /// Which chunk.
    pub chunk: u32,
    /// Rows of the chunks before it.
    pub done_before: u32,
    /// Rows up to its end.
    pub done: u32,
    /// The predictions.
    pub result: Vec<u8>,
}

/// How a job ended under its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// Every row is scored.
    Succeeded,
    /// No retry would mend it, or there were enough.
    Failed(JobError),
}

/// Which jobs to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFilter {
    /// Only those of this model; none: all.
    pub model: Option<String>,
    /// Only those in this state; none: all.
    pub state: Option<JobState>,
    /// Only those with a smaller id, which are older; none: from the newest on.
    pub before: Option<Uuid>,
    /// So many at the most.
    pub limit: u32,
}

/// What a look for jobs whose time is up has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expired {
    /// Jobs that had not ended.
    pub unended: Vec<PredictionJob>,
    /// How many ended jobs lost their predictions.
    pub emptied: u64,
    /// How many expired jobs were forgotten.
    pub forgotten: u64,
}

/// Keeps jobs. Points in time are the store's own: servers that share it need no common clock.
///
/// What takes a `Hold` answers false, and changes nothing, where the hold is no longer the job's: its lease ran out and
/// another worker has it, or it was cancelled or has expired.
///
/// Every method answers `Unavailable` or `Overloaded` where the database is away or busy; nothing has changed then, or, where
/// the answer alone was lost, all of it.
#[async_trait]
pub trait JobStore: Send + Sync {
    /// Keeps a job that waits. One with the same request id and input that is there already is answered instead.
    ///
    /// # Errors
    /// `Conflict` where the request id is that of another input, model or version; `Overloaded` where there is no room.
    async fn submit_job(&self, job: &NewJob, bounds: &JobBounds) -> Result<PredictionJob>;

    /// The job of an id.
    async fn prediction_job(&self, id: Uuid) -> Result<Option<PredictionJob>>;

    /// Some jobs, the newest first.
    async fn prediction_jobs(&self, filter: &JobFilter) -> Result<Vec<PredictionJob>>;

    /// Takes the job that has waited longest, or whose worker was not heard of for its lease; no other worker gets it.
    async fn claim_job(&self, request: &ClaimRequest) -> Result<Option<ClaimedJob>>;

    /// Lets jobs fail whose attempts are used up, because their workers went away or fewer are allowed than were; returns
    /// them.
    async fn fail_lost_jobs(
        &self,
        attempts_max: u32,
        error: &JobError,
        retention: Duration,
    ) -> Result<Vec<PredictionJob>>;

    /// Keeps the lease from running out for as long again.
    async fn renew_job(&self, hold: &Hold, lease: Duration) -> Result<bool>;

    /// What is to be scored, chunk after chunk.
    async fn job_input(&self, id: Uuid) -> Result<Vec<Vec<u8>>>;

    /// Notes who scores. What another version has scored is forgotten.
    async fn pin_job(&self, hold: &Hold, version: &PinnedVersion) -> Result<bool>;

    /// Stores the predictions of the chunk that comes next, with the progress, and renews the lease.
    async fn append_result(
        &self,
        hold: &Hold,
        chunk: &ChunkResult,
        lease: Duration,
    ) -> Result<bool>;

    /// Ends a job. Its input is forgotten and, unless it succeeded, what was scored of it; one that lacks rows does not
    /// succeed.
    async fn end_job(&self, hold: &Hold, end: &JobEnd, retention: Duration) -> Result<bool>;

    /// Lets a job wait for its next attempt, and says why. `is_counted`: whether this one was one of those that it has.
    async fn retry_job(
        &self,
        hold: &Hold,
        wait: Duration,
        error: &JobError,
        is_counted: bool,
    ) -> Result<bool>;

    /// Gives a job back at once; the attempt does not count.
    async fn give_back_job(&self, hold: &Hold) -> Result<bool>;

    /// Cancels a job that has not ended; returns it as it is then. None: there is no such job.
    async fn cancel_job(&self, id: Uuid, retention: Duration) -> Result<Option<PredictionJob>>;

    /// Stored predictions, a chunk each, in order.
    async fn job_results(&self, id: Uuid, chunks: Range<u32>) -> Result<Vec<Vec<u8>>>;

    /// Expires jobs whose time is up, up to `limit` of each kind: those that have not ended, with `error`; those that
    /// have, whose predictions are forgotten; and those that expired before, which are forgotten themselves.
    async fn expire_jobs(
        &self,
        limit: u32,
        error: &JobError,
        retention: Duration,
    ) -> Result<Expired>;
}
