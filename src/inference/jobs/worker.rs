//! Those who work on jobs: claim one, score it chunk by chunk, end it.

use std::{
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    task,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    ChunkResult, ClaimRequest, ClaimedJob, Hold, JobEnd, JobError, Jobs, PredictionJob,
    chunk::{Storing, is_away},
    codec,
    pin::Pin,
    queue::log_end,
};
use crate::{
    error::{Error, ErrorKind, Result},
    inference::{Model, Subject},
};

/// A lease is renewed so often while it lasts.
const RENEWALS_A_LEASE: u32 = 3;

/// The wait between attempts is doubled so often at the most.
const DOUBLINGS_MAX: u32 = 6;

/// As `DOUBLINGS_MAX`, where a database or a model is away for a moment.
const DOUBLINGS_AWAY_MAX: u32 = 2;

/// A question for a job that is under way at a stop gets so much time: a job could be ours without our knowing else.
const TAKE_GRACE: Duration = Duration::from_secs(1);

/// Jobs of one kind that one look for expired ones changes at once.
const EXPIRED_TOGETHER_MAX: u32 = 100;

/// Works on jobs, one at a time, until the stop; `worker` is its name, for people.
pub async fn work(jobs: Jobs, worker: String, stop: CancellationToken) {
    let mut is_failing = false;
    while !stop.is_cancelled() {
        match jobs.take_in_time(&worker, &stop).await {
            Ok(Some(claimed)) => {
                is_failing = false;
                Box::pin(jobs.attend(claimed, &stop)).await;
            }
            Ok(None) => {
                is_failing = false;
                jobs.rest(&stop).await;
            }
            Err(fault) => {
                // Said once: health tells whether the store is away.
                if !is_failing {
                    tracing::warn!(%fault, "prediction jobs cannot be taken; trying on");
                }
                is_failing = true;
                let pause = time::sleep(jobs.options.poll_interval);
                stop.run_until_cancelled(pause).await;
            }
        }
    }
}

/// Looks again and again for jobs whose time is up, until the stop.
pub async fn sweep(jobs: Jobs, stop: CancellationToken) {
    let pause = jobs.options.sweep_interval;
    while stop.run_until_cancelled(time::sleep(pause)).await.is_some() {
        // Each step is a transaction: whoever gives one up has changed all of it or nothing.
        let expired = stop.run_until_cancelled(jobs.expire(&stop)).await;
        if let Some(Err(fault)) = expired {
            tracing::debug!(%fault, "prediction jobs cannot be looked through; trying on");
        }
    }
}

/// How an attempt ended.
enum Outcome {
    /// Every row is scored and stored.
    Done,
    /// Somebody else has the job, or it is no longer wanted.
    Lost,
    /// The server stops.
    Stopped,
    /// This server has not the version that it needs; another one may.
    Absent(Error),
    /// It failed.
    Failed(Failure),
}

struct Failure {
    error: Error,
    /// Whether the next attempt would fail in the same way.
    is_final: bool,
}

impl From<Error> for Failure {
    /// Of the database, of the models that this server has: another attempt may find them otherwise.
    fn from(error: Error) -> Failure {
        Failure {
            error,
            is_final: false,
        }
    }
}

/// What becomes of a job after an attempt.
enum Settlement {
    End(JobEnd),
    /// Later, and whether the attempt counts.
    Retry(Duration, JobError, bool),
    /// At once, by another server.
    Decline(JobError),
    GiveBack,
}

/// One worker's time with a job.
struct Attempt {
    job: PredictionJob,
    hold: Hold,
    /// Attempts since a chunk was last stored, this one among them.
    tries: AtomicU32,
    storing: Storing,
}

impl Jobs {
    /// As `take`; at a stop there is none.
    async fn take_in_time(
        &self,
        worker: &str,
        stop: &CancellationToken,
    ) -> Result<Option<ClaimedJob>> {
        let late = async {
            stop.cancelled().await;
            time::sleep(TAKE_GRACE).await;
        };
        tokio::select! {
            biased;
            taken = self.take(worker) => taken,
            () = late => Ok(None),
        }
    }

    /// The next job of a model that this server has.
    async fn take(&self, worker: &str) -> Result<Option<ClaimedJob>> {
        let attempts_max = self.options.attempts_max;
        let lost = JobError {
            kind: ErrorKind::Unavailable,
            message: format!(
                "given up after {attempts_max} attempts (jobs.attempts_max): its worker was not heard of any more, as when a server is killed"
            ),
        };
        let retention = self.options.retention;
        let lost = self
            .store
            .fail_lost_jobs(attempts_max, &lost, retention)
            .await?;
        for job in &lost {
            log_end(job);
        }
        let models = self.predictor.models.snapshot();
        let request = ClaimRequest {
            worker: worker.to_owned(),
            models: models
                .values()
                .filter(|model| is_served(model))
                .map(|model| model.name.clone())
                .collect(),
            declined: self.declined.now(),
            lease: self.options.lease,
            attempts_max,
        };
        self.store.claim_job(&request).await
    }

    /// Until there may be a job.
    async fn rest(&self, stop: &CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.wake.notified() => {}
            () = time::sleep(self.options.poll_interval) => {}
        }
    }

    /// Makes one attempt at a job, and settles what becomes of it.
    async fn attend(&self, claimed: ClaimedJob, stop: &CancellationToken) {
        let attempt = Attempt {
            tries: AtomicU32::new(claimed.job.tries),
            job: claimed.job,
            hold: claimed.hold,
            storing: Storing::default(),
        };
        let scored = AssertUnwindSafe(Box::pin(self.score(&attempt, stop))).catch_unwind();
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => Outcome::Stopped,
            () = self.keep_lease(&attempt.hold) => Outcome::Lost,
            scored = scored => scored.unwrap_or_else(|_| Err(panicked())).unwrap_or_else(Outcome::Failed),
        };
        // What is on its way to the store gets there, and into the ledger, before the job is anybody else's.
        attempt.storing.finished().await;
        let id = attempt.job.id;
        let settlement = match outcome {
            Outcome::Done => Settlement::End(JobEnd::Succeeded),
            Outcome::Stopped => Settlement::GiveBack,
            Outcome::Absent(error) => {
                self.declined.add(id, self.options.retry_wait);
                Settlement::Decline(JobError::new(&error))
            }
            Outcome::Failed(failure) => self.judge(&attempt, &failure),
            Outcome::Lost => {
                tracing::info!(job = %id, "a prediction job was lost to another worker, cancelled or expired");
                return;
            }
        };
        match self.settle(&attempt.hold, &settlement, stop).await {
            Ok(true) => self.tell(&attempt, &settlement).await,
            // It was lost at the last moment.
            Ok(false) => {}
            Err(fault) => {
                tracing::warn!(job = %id, %fault, "a prediction job waits until its lease ends");
            }
        }
    }

    /// Scores what is left of a job.
    async fn score(&self, attempt: &Attempt, stop: &CancellationToken) -> Result<Outcome, Failure> {
        let job = &attempt.job;
        let (pinned, mut done) = match self.pin(job, &attempt.hold).await? {
            Pin::Version(pinned, done) => (pinned, done),
            Pin::Absent(error) => return Ok(Outcome::Absent(error)),
            Pin::Lost => return Ok(Outcome::Lost),
        };
        let subject = self.input(job).await?;
        let chunk_rows = job.chunk_rows.max(1);
        while done < job.total {
            let end = done.saturating_add(chunk_rows).min(job.total);
            let (model, version) = match self.pinned_version(&job.model, &pinned) {
                Err(error) if self.may_be_elsewhere(&job.model, &pinned.version) => {
                    return Ok(Outcome::Absent(error));
                }
                found => found?,
            };
            let rows = position(done)..position(end);
            let scored = self
                .predictor
                .predict_part(&model, version, &subject, rows)
                .await;
            let scored = scored.map_err(|error| Failure {
                is_final: is_final(error.kind()),
                error,
            })?;
            let chunk = ChunkResult {
                chunk: done / chunk_rows,
                done_before: done,
                done: end,
                result: codec::encode_result(&scored)?,
            };
            // What was scored in vain was never predicted.
            let kept = self.keep_chunk(&attempt.storing, attempt.hold, (chunk, scored), stop);
            if !kept.await? {
                return Ok(Outcome::Lost);
            }
            self.declined.forget(job.id);
            attempt.tries.store(1, Ordering::Relaxed);
            done = end;
        }
        Ok(Outcome::Done)
    }

    /// What is to be scored.
    async fn input(&self, job: &PredictionJob) -> Result<Subject> {
        let chunks = self.store.job_input(job.id).await?;
        // Tens of thousands of rows.
        let decoded = task::spawn_blocking(move || codec::decode_input(&chunks)).await;
        let subject = decoded
            .map_err(|fault| Error::internal("reading a job ended early").with_source(fault))??;
        check_length(&subject, job)?;
        Ok(subject)
    }

    /// Renews the lease; returns once it is lost, or may be.
    async fn keep_lease(&self, hold: &Hold) {
        let lease = self.options.lease;
        let mut ends_at = Instant::now() + lease;
        while Instant::now() < ends_at {
            time::sleep(lease / RENEWALS_A_LEASE).await;
            // Counted from before the question: the database may have answered it long ago.
            let asked_at = Instant::now();
            match self.store.renew_job(hold, lease).await {
                Ok(true) => ends_at = asked_at + lease,
                Ok(false) => return,
                Err(fault) => {
                    tracing::debug!(job = %hold.id, %fault, "a lease could not be renewed");
                }
            }
        }
    }

    fn judge(&self, attempt: &Attempt, failure: &Failure) -> Settlement {
        let error = &failure.error;
        if error.kind() == ErrorKind::Internal {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(job = %attempt.job.id, cause, "a prediction job failed: {error}");
        }
        let mut told = JobError::new(error);
        if failure.is_final {
            return Settlement::End(JobEnd::Failed(told));
        }
        if is_away(error) {
            // The rows are not at fault, however often: until the job's time is up.
            let doublings = attempt.job.attempts.saturating_sub(1);
            let wait = self.options.retry_wait;
            let wait = wait.saturating_mul(1 << doublings.min(DOUBLINGS_AWAY_MAX));
            return Settlement::Retry(wait, told, false);
        }
        let tries = attempt.tries.load(Ordering::Relaxed);
        if tries >= self.options.attempts_max {
            told.message = format!("given up after {tries} attempts: {}", told.message);
            return Settlement::End(JobEnd::Failed(told));
        }
        let doublings = tries.saturating_sub(1).min(DOUBLINGS_MAX);
        let wait = self.options.retry_wait.saturating_mul(1 << doublings);
        Settlement::Retry(wait, told, true)
    }

    /// Writes down what becomes of a job: tries on while the database is away, until the lease ends anyway. A stop gets one
    /// try.
    async fn settle(
        &self,
        hold: &Hold,
        settlement: &Settlement,
        stop: &CancellationToken,
    ) -> Result<bool> {
        let give_up_at = Instant::now() + self.options.lease;
        loop {
            let retention = self.options.retention;
            let settled = match settlement {
                Settlement::End(end) => self.store.end_job(hold, end, retention).await,
                Settlement::Retry(wait, error, is_counted) => {
                    let retried = self.store.retry_job(hold, *wait, error, *is_counted);
                    retried.await
                }
                Settlement::Decline(error) => {
                    let declined = self.store.retry_job(hold, Duration::ZERO, error, false);
                    declined.await
                }
                Settlement::GiveBack => self.store.give_back_job(hold).await,
            };
            if settled.is_ok() || stop.is_cancelled() || Instant::now() >= give_up_at {
                return settled;
            }
            let pause = time::sleep(self.options.poll_interval);
            stop.run_until_cancelled(pause).await;
        }
    }

    /// Says what became of a job.
    async fn tell(&self, attempt: &Attempt, settlement: &Settlement) {
        let id = attempt.job.id;
        match settlement {
            Settlement::End(_) => match self.store.prediction_job(id).await {
                Ok(Some(job)) => log_end(&job),
                Ok(None) | Err(_) => tracing::info!(job = %id, "prediction job ended"),
            },
            Settlement::Decline(error) => {
                let error = &error.message;
                tracing::info!(job = %id, error, "a prediction job is left to other servers for a while");
            }
            Settlement::Retry(wait, error, _) => {
                let (wait_ms, error) = (wait.as_millis(), &error.message);
                tracing::warn!(job = %id, error, wait_ms, "an attempt at a prediction job failed");
            }
            Settlement::GiveBack => {
                tracing::info!(job = %id, "prediction job given back at the stop");
            }
        }
    }

    async fn expire(&self, stop: &CancellationToken) -> Result<()> {
        let retention = self.options.retention;
        let hours = self.options.bounds.run_max.as_secs() / 3_600;
        let error = JobError {
            kind: ErrorKind::Timeout,
            message: format!(
                "it had not ended {hours} hours after its submission (jobs.run_hours_max)"
            ),
        };
        while !stop.is_cancelled() {
            let expired = self
                .store
                .expire_jobs(EXPIRED_TOGETHER_MAX, &error, retention)
                .await?;
            for job in &expired.unended {
                log_end(job);
            }
            if expired.unended.is_empty() && expired.emptied == 0 && expired.forgotten == 0 {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Whether a version of the model answers here; the jobs of another wait for a server where one does.
fn is_served(model: &Model) -> bool {
    model
        .versions
        .iter()
        .any(|version| model.resolve(&version.version).is_ok())
}

/// Whether what the scoring of rows answers comes again: the rows are at fault, not the moment.
fn is_final(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::InvalidArgument
        | ErrorKind::Unauthenticated
        | ErrorKind::PermissionDenied
        | ErrorKind::NotFound
        | ErrorKind::FailedPrecondition => true,
        ErrorKind::Conflict
        | ErrorKind::Overloaded
        | ErrorKind::Timeout
        | ErrorKind::Unavailable
        | ErrorKind::Internal => false,
    }
}

fn check_length(subject: &Subject, job: &PredictionJob) -> Result<()> {
    if subject.len() == position(job.total) {
        return Ok(());
    }
    Err(Error::internal(format!(
        "{} rows are stored of a job of {}",
        subject.len(),
        job.total
    )))
}

fn panicked() -> Failure {
    Error::internal("a worker on prediction jobs panicked").into()
}

fn position(row: u32) -> usize {
    usize::try_from(row).unwrap_or(usize::MAX)
}
