//! The callers' side of jobs: submit, look, page, cancel.

use std::{ops::Range, sync::Arc};

use sha2::{Digest, Sha256};
use tokio::{sync::Notify, task};
use uuid::Uuid;

use super::{
    JobFilter, JobOptions, JobPrediction, JobState, JobStore, NewJob, PredictionJob, codec,
    declined::Declined,
};
use crate::{
    error::{Error, ErrorKind, Result},
    inference::{Predictor, Subject, Target},
};

/// The longest name that a caller gives a submission.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// What a caller wants scored, some time.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The model.
    pub model: String,
    /// The version or alias; empty: the default.
    pub version: String,
    /// What to score.
    pub subject: Subject,
    /// The caller's name for this submission; none: every submission is a job of its own.
    pub request_id: Option<String>,
}

/// A job, and some of its predictions.
#[derive(Debug, Clone, PartialEq)]
pub struct JobPage {
    /// The job.
    pub job: PredictionJob,
    /// The predictions, in the order of what was submitted.
    pub predictions: Vec<JobPrediction>,
    /// The row that the next page begins with; none: this was the last one, or there are none.
    pub next: Option<u32>,
}

/// The queue of jobs that all servers of a database share. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    pub(super) store: Arc<dyn JobStore>,
    pub(super) predictor: Predictor,
    pub(super) options: Arc<JobOptions>,
    /// Wakes a worker of this server.
    pub(super) wake: Arc<Notify>,
    /// What this server leaves to others.
    pub(super) declined: Arc<Declined>,
}

impl Jobs {
    /// Over the store that keeps them, and what scores them.
    pub fn new(store: Arc<dyn JobStore>, predictor: Predictor, options: JobOptions) -> Jobs {
        Jobs {
            store,
            predictor,
            options: Arc::new(options),
            wake: Arc::new(Notify::new()),
            declined: Arc::default(),
        }
    }

    /// How jobs are bounded.
    pub fn options(&self) -> &JobOptions {
        &self.options
    }

    /// Keeps a job. What can be known to be wrong with it without scoring is refused at once.
    ///
    /// # Errors
    /// `InvalidArgument` naming row and field; `NotFound` and `FailedPrecondition` as `Predictor::check`; `Conflict` where
    /// the request id is that of another submission; `Overloaded` where there is no room; `Unavailable` where the database
    /// is away.
    pub async fn submit(&self, submission: Submission) -> Result<PredictionJob> {
        check_request_id(submission.request_id.as_deref())?;
        let jobs = self.clone();
        // Tens of thousands of rows are checked and written here.
        let made = task::spawn_blocking(move || jobs.new_job(submission)).await;
        let job =
            made.map_err(|fault| Error::internal("making a job ended early").with_source(fault))??;
        let kept = self.store.submit_job(&job, &self.options.bounds).await?;
        self.wake.notify_one();
        Ok(kept)
    }

    /// A job.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable` where the database is away.
    pub async fn job(&self, id: Uuid) -> Result<PredictionJob> {
        let found = self.store.prediction_job(id).await?;
        found.ok_or_else(|| unknown(id))
    }

    /// A job and, once it has succeeded, some of its predictions: up to `size` from the row `first` on.
    ///
    /// # Errors
    /// As `job`; `Conflict` where it expired just now.
    pub async fn page(&self, id: Uuid, first: u32, size: u32) -> Result<JobPage> {
        let job = self.job(id).await?;
        let rows = first.min(job.total)..first.saturating_add(size).min(job.total);
        if job.state != JobState::Succeeded || rows.is_empty() {
            return Ok(JobPage {
                job,
                predictions: Vec::new(),
                next: None,
            });
        }
        let predictions = self.predictions(&job, rows.clone()).await?;
        Ok(JobPage {
            next: (rows.end < job.total).then_some(rows.end),
            job,
            predictions,
        })
    }

    /// Some jobs, the newest first.
    ///
    /// # Errors
    /// `Unavailable` where the database is away.
    pub async fn list(&self, filter: &JobFilter) -> Result<Vec<PredictionJob>> {
        // No model is called so, and Postgres has no text for it.
        if filter
            .model
            .as_ref()
            .is_some_and(|model| model.contains('\0'))
        {
            return Ok(Vec::new());
        }
        self.store.prediction_jobs(filter).await
    }

    /// Cancels a job; one that has ended stays as it is.
    ///
    /// # Errors
    /// As `job`.
    pub async fn cancel(&self, id: Uuid) -> Result<PredictionJob> {
        let before = self.job(id).await?;
        let cancelled = self.store.cancel_job(id, self.options.retention).await?;
        let job = cancelled.ok_or_else(|| unknown(id))?;
        if job.state != before.state {
            log_end(&job);
        }
        Ok(job)
    }

    async fn predictions(
        &self,
        job: &PredictionJob,
        rows: Range<u32>,
    ) -> Result<Vec<JobPrediction>> {
        let chunks = job.chunks_of(rows.clone());
        let skipped = rows.start - chunks.start * job.chunk_rows;
        let stored = self.store.job_results(job.id, chunks).await?;
        let mut predictions = Vec::with_capacity(rows.len());
        for chunk in &stored {
            predictions.extend(codec::decode_result(chunk)?);
        }
        let predictions: Vec<JobPrediction> = predictions
            .into_iter()
            .skip(usize::try_from(skipped).unwrap_or(usize::MAX))
            .take(rows.len())
            .collect();
        if predictions.len() == rows.len() {
            return Ok(predictions);
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "the predictions of the job {} have expired meanwhile",
                job.id
            ),
        ))
    }

    /// Takes its time.
    fn new_job(&self, submission: Submission) -> Result<NewJob> {
        let Submission {
            model,
            version,
            subject,
            request_id,
        } = submission;
        let target = Target {
            model: &model,
            version: &version,
        };
        let inputs = self.predictor.check(target, &subject)?.inputs.len();
        let whole = codec::encode_input(&subject, 0..subject.len())?;
        let rows = chunk_rows(&self.options, self.predictor.values_max, inputs);
        let chunks = (0..subject.len()).step_by(rows);
        let input = chunks.map(|first| {
            let end = subject.len().min(first + rows);
            codec::encode_input(&subject, first..end)
        });
        Ok(NewJob {
            id: Uuid::now_v7(),
            request_id,
            input_digest: digest(&model, &version, &whole),
            total: u32::try_from(subject.len()).unwrap_or(u32::MAX),
            chunk_rows: u32::try_from(rows).unwrap_or(u32::MAX),
            input: input.collect::<Result<_>>()?,
            model,
            wanted_version: version,
        })
    }
}

/// As many rows as one request may have of the model.
fn chunk_rows(options: &JobOptions, values_max: usize, inputs: usize) -> usize {
    let most = values_max.checked_div(inputs).unwrap_or(usize::MAX);
    options.chunk_rows_max.min(most).max(1)
}

/// Tells submissions apart, whatever the size of their chunks.
fn digest(model: &str, version: &str, input: &[u8]) -> String {
    let mut hasher = Sha256::new();
    for part in [model.as_bytes(), version.as_bytes(), input] {
        // A length before each, so that no two run together into the same bytes.
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    hex::encode(hasher.finalize())
}

fn check_request_id(request_id: Option<&str>) -> Result<()> {
    let Some(request_id) = request_id else {
        return Ok(());
    };
    let is_good = (1..=REQUEST_ID_BYTES_MAX).contains(&request_id.len())
        && request_id.chars().all(|c| !c.is_control());
    if is_good {
        return Ok(());
    }
    Err(Error::invalid(
        "requestId",
        format!("has 1 to {REQUEST_ID_BYTES_MAX} bytes, without control characters"),
    ))
}

fn unknown(id: Uuid) -> Error {
    Error::not_found(format!(
        "there is no prediction job {id}; it may have been forgotten (jobs.result_retention_hours)"
    ))
}

/// The one line of a job's end.
pub(super) fn log_end(job: &PredictionJob) {
    let ended_at = job.ended_at.unwrap_or(job.submitted_at);
    let micros = ended_at.micros().saturating_sub(job.submitted_at.micros());
    let version = job
        .version
        .as_ref()
        .map_or("", |pinned| pinned.version.as_str());
    let error = job.error.as_ref().map(|error| error.message.as_str());
    tracing::info!(
        job = %job.id,
        model = job.model,
        version,
        state = job.state.name(),
        rows = job.total,
        done = job.done,
        attempts = job.attempts,
        elapsed_ms = micros / 1_000,
        error,
        "prediction job ended"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submissions_that_differ_in_anything_have_other_digests() {
        let digests = [
            digest("one", "", b"input"),
            digest("on", "e", b"input"),
            digest("one", "", b"inpu"),
            digest("one", "i", b"nput"),
        ];
        for (at, one) in digests.iter().enumerate() {
            assert!(digests.iter().skip(at + 1).all(|other| other != one));
        }
        assert_eq!(digest("one", "", b"input"), digest("one", "", b"input"));
    }

    #[test]
    fn a_request_id_is_short_and_plain() {
        for good in [None, Some("a"), Some("nightly, \u{1f600}")] {
            assert!(check_request_id(good).is_ok(), "{good:?}");
        }
        let long = "x".repeat(129);
        for bad in ["", "a\nb", "\0", &long] {
            assert!(check_request_id(Some(bad)).is_err(), "{bad:?}");
        }
    }
}
