//! Asynchronous prediction: jobs that outlive the request, the connection and the server that took them.
//!
//! A job is kept in the database with its input in chunks. A worker of any server claims it under a lease, scores chunk
//! after chunk with one version, and stores each with the progress in one transaction; whoever has lost the lease writes
//! nothing. Another worker goes on after the last stored chunk, so that each row of the result was scored once.

mod chunk;
mod codec;
mod declined;
mod pin;
mod queue;
mod store;
mod worker;

use std::time::Duration;

use uuid::Uuid;

pub use self::{
    codec::JobPrediction,
    queue::{JobPage, Jobs, Submission},
    store::{
        ChunkResult, ClaimRequest, ClaimedJob, Expired, Hold, JobBounds, JobEnd, JobFilter,
        JobStore, NewJob,
    },
    worker::{sweep, work},
};
use crate::{error::ErrorKind, features::Timestamp};

/// The longest sentence that is kept of what went wrong.
const ERROR_BYTES_MAX: usize = 4_000;

/// How jobs are bounded and worked on.
#[derive(Debug, Clone)]
pub struct JobOptions {
    /// Entities or rows of one job.
    pub entities_max: usize,
    /// Entities or rows that are scored and stored together.
    pub chunk_rows_max: usize,
    /// Attempts that may be taken without getting on.
    pub attempts_max: u32,
    /// How long a failed attempt waits for the next; doubled with each.
    pub retry_wait: Duration,
    /// How long a worker that is not heard of keeps its job.
    pub lease: Duration,
    /// How often an idle worker asks for a job.
    pub poll_interval: Duration,
    /// How often jobs are looked through for those whose time is up.
    pub sweep_interval: Duration,
    /// How long an ended job's predictions are kept.
    pub retention: Duration,
    /// What there is room for.
    pub bounds: JobBounds,
}

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// It waits for a worker, the first one or, after a failed attempt, the next.
    Queued,
    /// A worker has it.
    Running,
    /// Every row is scored; the predictions are there.
    Succeeded,
    /// It was given up, for the reason that it tells.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// Its time was up before it ended, or that of its predictions after it.
    Expired,
}

/// The version that scores a job, all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedVersion {
    /// The version.
    pub version: String,
    /// The SHA-256 of its model file, in hex.
    pub digest: String,
}

/// Why a job, or its last attempt, failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    /// What sort of error it is.
    pub kind: ErrorKind,
    /// The sentence for the caller.
    pub message: String,
}

/// A job as it is at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredictionJob {
    /// Names it.
    pub id: Uuid,
    /// What the caller named its submission; the same name is the same job.
    pub request_id: Option<String>,
    /// The model.
    pub model: String,
    /// The version or alias that was asked for; empty: the default.
    pub wanted_version: String,
    /// Who scores; none before the first chunk.
    pub version: Option<PinnedVersion>,
    /// Where it is in its life.
    pub state: JobState,
    /// How many rows or entities it has.
    pub total: u32,
    /// How many of them are scored and stored.
    pub done: u32,
    /// How many are scored and stored together.
    pub chunk_rows: u32,
    /// How often a worker took it.
    pub attempts: u32,
    /// How often a worker took it since it last got on.
    pub tries: u32,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When a worker first took it.
    pub started_at: Option<Timestamp>,
    /// When it reached a state that it does not leave but by age.
    pub ended_at: Option<Timestamp>,
    /// When it expires: an unended one, or the predictions of an ended one; an expired one is forgotten then.
    pub expires_at: Timestamp,
    /// Why it failed or, where it waits or runs, why its last attempt did.
    pub error: Option<JobError>,
}

impl JobState {
    /// Every state.
    pub const ALL: [JobState; 6] = [
        JobState::Queued,
        JobState::Running,
        JobState::Succeeded,
        JobState::Failed,
        JobState::Cancelled,
        JobState::Expired,
    ];

    /// The name that stores keep.
    pub fn name(self) -> &'static str {
        match self {
            JobState::Queued => "QUEUED",
            JobState::Running => "RUNNING",
            JobState::Succeeded => "SUCCEEDED",
            JobState::Failed => "FAILED",
            JobState::Cancelled => "CANCELLED",
            JobState::Expired => "EXPIRED",
        }
    }

    /// The state of a name.
    pub fn of_name(name: &str) -> Option<JobState> {
        JobState::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl JobError {
    /// What is kept of an error. That of a bug keeps its text for the log.
    pub fn new(error: &crate::error::Error) -> JobError {
        let message = match error.kind() {
            ErrorKind::Internal => "an internal error; the server's log has it under the job's id",
            ErrorKind::InvalidArgument
            | ErrorKind::Unauthenticated
            | ErrorKind::PermissionDenied
            | ErrorKind::NotFound
            | ErrorKind::FailedPrecondition
            | ErrorKind::Conflict
            | ErrorKind::Overloaded
            | ErrorKind::Timeout
            | ErrorKind::Unavailable => error.message(),
        };
        JobError {
            kind: error.kind(),
            message: storable(message),
        }
    }
}

impl PredictionJob {
    /// The chunks of some of its rows.
    fn chunks_of(&self, rows: std::ops::Range<u32>) -> std::ops::Range<u32> {
        let size = self.chunk_rows.max(1);
        rows.start / size..rows.end.div_ceil(size)
    }
}

/// A sentence that a database can keep: bounded, and without the one character that Postgres has no text for.
fn storable(text: &str) -> String {
    let text = text.replace('\0', "\u{fffd}");
    if text.len() <= ERROR_BYTES_MAX {
        return text;
    }
    let whole = text.char_indices();
    let cut = whole.take_while(|(at, c)| at + c.len_utf8() <= ERROR_BYTES_MAX);
    cut.map(|(_, c)| c).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn what_is_kept_of_an_error_is_bounded_and_tells_no_secret() {
        let kept = JobError::new(&Error::not_found(format!("a\0{}", "ä".repeat(9_000))));
        assert!(kept.message.starts_with("a\u{fffd}ä"));
        assert!(kept.message.len() <= ERROR_BYTES_MAX + '…'.len_utf8());
        let kept = JobError::new(&Error::internal("the password is hunter2"));
        assert!(!kept.message.contains("hunter2"));
        assert_eq!(kept.kind, ErrorKind::Internal);
    }

    #[test]
    fn every_state_has_a_name_of_its_own() {
        for state in JobState::ALL {
            assert_eq!(JobState::of_name(state.name()), Some(state));
        }
        assert_eq!(JobState::of_name("queued"), None);
    }
}
