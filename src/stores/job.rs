//! Prediction jobs as the databases keep them: what is the same in both.

use std::{ops::Range, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::Store;
use crate::{
    error::{Error, ErrorKind, Result},
    inference::{
        ChunkResult, ClaimRequest, ClaimedJob, Expired, Hold, JobBounds, JobEnd, JobError,
        JobFilter, JobState, JobStore, NewJob, PinnedVersion, PredictionJob,
    },
};

/// The columns of a job, in the order in which both read them.
pub(super) const COLUMNS: &str = "id, request_id, model, wanted_version, version, version_digest, state, rows_total, \
     rows_done, chunk_rows, attempts, tries, submitted_at, started_at, ended_at, expires_at, error_kind, error";

/// How many jobs wait, how many are kept, and the bytes of them all.
pub(super) const ROOM: &str = "SELECT count(*) FILTER (WHERE state = 'QUEUED'), count(*), \
     CAST(coalesce(sum(input_bytes + result_bytes), 0) AS bigint) FROM ferrocast_prediction_jobs";

/// What there is of jobs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Jobs that wait.
    pub(super) queued: i64,
    /// Jobs that are kept.
    pub(super) kept: i64,
    /// Bytes of inputs and results.
    pub(super) bytes: i64,
}

impl Room {
    /// Whether one more job fits.
    ///
    /// # Errors
    /// `Overloaded`, naming the setting.
    pub(super) fn check(self, bounds: &JobBounds, input_bytes: i64) -> Result<()> {
        let bytes = u64::try_from(self.bytes.saturating_add(input_bytes)).unwrap_or(u64::MAX);
        let full = if self.queued >= i64::from(bounds.queued_max) {
            format!(
                "{} prediction jobs wait already (jobs.queued_max)",
                self.queued
            )
        } else if self.kept >= i64::from(bounds.kept_max) {
            format!("{} prediction jobs are kept (jobs.kept_max)", self.kept)
        } else if bytes > bounds.bytes_max {
            format!(
                "inputs and predictions of jobs would take {bytes} bytes of the {} that they may (jobs.bytes_max)",
                bounds.bytes_max
            )
        } else {
            return Ok(());
        };
        Err(Error::new(
            ErrorKind::Overloaded,
            format!("{full}; try again later"),
        ))
    }
}

/// Refuses a request id under which something else was submitted.
///
/// # Errors
/// `Conflict`.
pub(super) fn check_same(known_digest: &str, new: &NewJob) -> Result<()> {
    if known_digest == new.input_digest {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Conflict,
        format!(
            "requestId: \"{}\" is that of another submission, with another model, version or input",
            new.request_id.as_deref().unwrap_or_default()
        ),
    ))
}

/// Bytes of all chunks.
pub(super) fn bytes_of(chunks: &[Vec<u8>]) -> i64 {
    let bytes = chunks.iter().map(Vec::len).sum::<usize>();
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A duration as the databases count.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A count that a database keeps.
///
/// # Errors
/// `FailedPrecondition` where it is none.
pub(super) fn count(value: i64) -> Result<u32> {
    u32::try_from(value).map_err(|_| strange(&value.to_string()))
}

/// The state of a name.
///
/// # Errors
/// `FailedPrecondition` where it is none that this binary knows.
pub(super) fn state(name: &str) -> Result<JobState> {
    JobState::of_name(name).ok_or_else(|| strange(name))
}

/// An id that a database keeps as text.
///
/// # Errors
/// `FailedPrecondition` where it is none.
pub(super) fn id(text: &str) -> Result<Uuid> {
    Uuid::parse_str(text).map_err(|_| strange(text))
}

/// Who scores, of two columns.
pub(super) fn pinned(version: Option<String>, digest: Option<String>) -> Option<PinnedVersion> {
    let (version, digest) = version.zip(digest)?;
    Some(PinnedVersion { version, digest })
}

/// What went wrong, of two columns.
pub(super) fn job_error(kind: Option<&str>, message: Option<String>) -> Option<JobError> {
    let message = message?;
    let kind = ErrorKind::ALL
        .into_iter()
        .find(|known| Some(known.reason()) == kind);
    Some(JobError {
        kind: kind.unwrap_or(ErrorKind::Internal),
        message,
    })
}

fn strange(found: &str) -> Error {
    Error::failed_precondition(format!(
        "ferrocast_prediction_jobs has \"{found}\", which this ferrocast does not understand"
    ))
}

#[async_trait]
impl JobStore for Store {
    async fn submit_job(&self, job: &NewJob, bounds: &JobBounds) -> Result<PredictionJob> {
        self.record().submit_job(job, bounds).await
    }

    async fn prediction_job(&self, id: Uuid) -> Result<Option<PredictionJob>> {
        self.record().prediction_job(id).await
    }

    async fn prediction_jobs(&self, filter: &JobFilter) -> Result<Vec<PredictionJob>> {
        self.record().prediction_jobs(filter).await
    }

    async fn claim_job(&self, request: &ClaimRequest) -> Result<Option<ClaimedJob>> {
        self.record().claim_job(request).await
    }

    async fn fail_lost_jobs(
        &self,
        attempts_max: u32,
        error: &JobError,
        retention: Duration,
    ) -> Result<Vec<PredictionJob>> {
        let record = self.record();
        record.fail_lost_jobs(attempts_max, error, retention).await
    }

    async fn renew_job(&self, hold: &Hold, lease: Duration) -> Result<bool> {
        self.record().renew_job(hold, lease).await
    }

    async fn job_input(&self, id: Uuid) -> Result<Vec<Vec<u8>>> {
        self.record().job_input(id).await
    }

    async fn pin_job(&self, hold: &Hold, version: &PinnedVersion) -> Result<bool> {
        self.record().pin_job(hold, version).await
    }

    async fn append_result(
        &self,
        hold: &Hold,
        chunk: &ChunkResult,
        lease: Duration,
    ) -> Result<bool> {
        self.record().append_result(hold, chunk, lease).await
    }

    async fn end_job(&self, hold: &Hold, end: &JobEnd, retention: Duration) -> Result<bool> {
        self.record().end_job(hold, end, retention).await
    }

    async fn retry_job(
        &self,
        hold: &Hold,
        wait: Duration,
        error: &JobError,
        is_counted: bool,
    ) -> Result<bool> {
        let record = self.record();
        record.retry_job(hold, wait, error, is_counted).await
    }

    async fn give_back_job(&self, hold: &Hold) -> Result<bool> {
        self.record().give_back_job(hold).await
    }

    async fn cancel_job(&self, id: Uuid, retention: Duration) -> Result<Option<PredictionJob>> {
        self.record().cancel_job(id, retention).await
    }

    async fn job_results(&self, id: Uuid, chunks: Range<u32>) -> Result<Vec<Vec<u8>>> {
        self.record().job_results(id, chunks).await
    }

    async fn expire_jobs(
        &self,
        limit: u32,
        error: &JobError,
        retention: Duration,
    ) -> Result<Expired> {
        self.record().expire_jobs(limit, error, retention).await
    }
}
