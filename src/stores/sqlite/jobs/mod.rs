//! Prediction jobs. Who writes has the file to himself, so that two workers never take the same job; an idle worker only
//! reads.

mod statements;

use std::{ops::Range, time::Duration};

use async_trait::async_trait;
use rusqlite::{Params, ToSql, params_from_iter};
use uuid::Uuid;

use self::statements::{
    CLAIMABLE, Ending, LOST, append, begin, chunks, claim, end_all, expire, forget_results, ids,
    jobs, now, one, submit, text, update_held,
};
use super::{SqliteStore, pool::Work};
use crate::{
    error::Result,
    inference::{
        ChunkResult, ClaimRequest, ClaimedJob, Expired, Hold, JobBounds, JobEnd, JobError,
        JobFilter, JobState, JobStore, NewJob, PinnedVersion, PredictionJob,
    },
    stores::job::{COLUMNS, micros},
};

#[async_trait]
impl JobStore for SqliteStore {
    async fn submit_job(&self, job: &NewJob, bounds: &JobBounds) -> Result<PredictionJob> {
        let (job, bounds) = (job.clone(), *bounds);
        let kept = self.writer.run(Work::Statement, move |connection| {
            submit(connection, &job, &bounds)
        });
        kept.await
    }

    async fn prediction_job(&self, id: Uuid) -> Result<Option<PredictionJob>> {
        let found = self
            .readers
            .run(Work::Statement, move |connection| one(connection, id));
        found.await
    }

    async fn prediction_jobs(&self, filter: &JobFilter) -> Result<Vec<PredictionJob>> {
        let filter = filter.clone();
        let found = self.readers.run(Work::Statement, move |connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM ferrocast_prediction_jobs WHERE (?1 IS NULL OR model = ?1) \
                 AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR id < ?3) ORDER BY id DESC LIMIT ?4"
            );
            let state = filter.state.map(JobState::name);
            let before = filter.before.map(text);
            jobs(connection, &sql, (filter.model, state, before, filter.limit))
        });
        found.await
    }

    async fn claim_job(&self, request: &ClaimRequest) -> Result<Option<ClaimedJob>> {
        let models = serde_json::Value::from(request.models.clone()).to_string();
        let declined: Vec<String> = request.declined.iter().map(|id| text(*id)).collect();
        let declined = serde_json::Value::from(declined).to_string();
        let choice = (now(), request.attempts_max, models, declined);
        if !self.has_any(CLAIMABLE, choice.clone()).await? {
            return Ok(None);
        }
        let (worker, lease) = (request.worker.clone(), micros(request.lease));
        let claimed = self.writer.run(Work::Statement, move |connection| {
            claim(connection, choice, &worker, lease)
        });
        claimed.await
    }

    async fn fail_lost_jobs(
        &self,
        attempts_max: u32,
        error: &JobError,
        retention: Duration,
    ) -> Result<Vec<PredictionJob>> {
        if !self.has_any(LOST, (now(), attempts_max)).await? {
            return Ok(Vec::new());
        }
        let end = Ending::new(JobState::Failed, Some(error), retention);
        let failed = self.writer.run(Work::Statement, move |connection| {
            let transaction = begin(connection)?;
            let ids = ids(&transaction, LOST, (now(), attempts_max))?;
            let failed = end_all(&transaction, &end, &ids)?;
            transaction.commit()?;
            Ok(failed)
        });
        failed.await
    }

    async fn renew_job(&self, hold: &Hold, lease: Duration) -> Result<bool> {
        let sql = "claim_at = ?";
        self.change_held(hold, sql, vec![Box::new(now() + micros(lease))])
            .await
    }

    async fn job_input(&self, id: Uuid) -> Result<Vec<Vec<u8>>> {
        let sql =
            "SELECT input FROM ferrocast_prediction_job_inputs WHERE job_id = ? ORDER BY chunk";
        let found = self.readers.run(Work::Statement, move |connection| {
            chunks(connection, sql, [text(id)])
        });
        found.await
    }

    async fn pin_job(&self, hold: &Hold, version: &PinnedVersion) -> Result<bool> {
        let (hold, version) = (*hold, version.clone());
        let pinned = self.writer.run(Work::Statement, move |connection| {
            let transaction = begin(connection)?;
            let sql = "version = ?, version_digest = ?, rows_done = 0, result_bytes = 0";
            let values = (
                version.version,
                version.digest,
                text(hold.id),
                text(hold.lease),
            );
            if !update_held(&transaction, sql, values)? {
                return Ok(false);
            }
            forget_results(&transaction, hold.id)?;
            transaction.commit()?;
            Ok(true)
        });
        pinned.await
    }

    async fn append_result(
        &self,
        hold: &Hold,
        chunk: &ChunkResult,
        lease: Duration,
    ) -> Result<bool> {
        let (hold, chunk, lease) = (*hold, chunk.clone(), micros(lease));
        let appended = self.writer.run(Work::Statement, move |connection| {
            append(connection, hold, &chunk, lease)
        });
        appended.await
    }

    async fn end_job(&self, hold: &Hold, end: &JobEnd, retention: Duration) -> Result<bool> {
        let (state, error) = match end {
            JobEnd::Succeeded => (JobState::Succeeded, None),
            JobEnd::Failed(error) => (JobState::Failed, Some(error)),
        };
        let end = Ending::new(state, error, retention);
        let hold = *hold;
        let ended = self.writer.run(Work::Statement, move |connection| {
            let transaction = begin(connection)?;
            let held = "SELECT id FROM ferrocast_prediction_jobs WHERE id = ?1 AND lease = ?2 AND state = 'RUNNING' \
                        AND (?3 <> 'SUCCEEDED' OR rows_done = rows_total)";
            let which = (text(hold.id), text(hold.lease), state.name());
            let ids = ids(&transaction, held, which)?;
            let ended = end_all(&transaction, &end, &ids)?;
            transaction.commit()?;
            Ok(!ended.is_empty())
        });
        ended.await
    }

    async fn retry_job(
        &self,
        hold: &Hold,
        wait: Duration,
        error: &JobError,
        is_counted: bool,
    ) -> Result<bool> {
        let sql = "state = 'QUEUED', lease = NULL, claim_at = ?, error_kind = ?, error = ?, \
                   tries = max(tries - ?, 0)";
        let values: Vec<Box<dyn ToSql + Send>> = vec![
            Box::new(now() + micros(wait)),
            Box::new(error.kind.reason()),
            Box::new(error.message.clone()),
            Box::new(i64::from(!is_counted)),
        ];
        self.change_held(hold, sql, values).await
    }

    async fn give_back_job(&self, hold: &Hold) -> Result<bool> {
        let sql =
            "state = 'QUEUED', lease = NULL, claim_at = submitted_at, tries = max(tries - 1, 0)";
        self.change_held(hold, sql, Vec::new()).await
    }

    async fn cancel_job(&self, id: Uuid, retention: Duration) -> Result<Option<PredictionJob>> {
        let end = Ending::new(JobState::Cancelled, None, retention);
        let cancelled = self.writer.run(Work::Statement, move |connection| {
            let transaction = begin(connection)?;
            let unended = "SELECT id FROM ferrocast_prediction_jobs WHERE id = ? AND state IN ('QUEUED', 'RUNNING')";
            let ids = ids(&transaction, unended, [text(id)])?;
            end_all(&transaction, &end, &ids)?;
            let job = one(&transaction, id)?;
            transaction.commit()?;
            Ok(job)
        });
        cancelled.await
    }

    async fn job_results(&self, id: Uuid, range: Range<u32>) -> Result<Vec<Vec<u8>>> {
        let sql = "SELECT result FROM ferrocast_prediction_job_results \
                   WHERE job_id = ? AND chunk >= ? AND chunk < ? ORDER BY chunk";
        let found = self.readers.run(Work::Statement, move |connection| {
            chunks(connection, sql, (text(id), range.start, range.end))
        });
        found.await
    }

    async fn expire_jobs(
        &self,
        limit: u32,
        error: &JobError,
        retention: Duration,
    ) -> Result<Expired> {
        let due = "SELECT 1 FROM ferrocast_prediction_jobs WHERE expires_at <= ? LIMIT 1";
        if !self.has_any(due, [now()]).await? {
            return Ok(Expired::default());
        }
        let end = Ending::new(JobState::Expired, Some(error), retention);
        let expired = self.writer.run(Work::Statement, move |connection| {
            expire(connection, limit, &end)
        });
        expired.await
    }
}

impl SqliteStore {
    /// Whether a query finds anything: asked before writing, which waits for other writers.
    async fn has_any(
        &self,
        sql: &'static str,
        values: impl Params + Send + 'static,
    ) -> Result<bool> {
        let found = self.readers.run(Work::Statement, move |connection| {
            let mut select = connection.prepare_cached(sql)?;
            Ok(select.exists(values)?)
        });
        found.await
    }

    /// Changes a job of which the hold is still good.
    async fn change_held(
        &self,
        hold: &Hold,
        set: &'static str,
        mut values: Vec<Box<dyn ToSql + Send>>,
    ) -> Result<bool> {
        values.push(Box::new(text(hold.id)));
        values.push(Box::new(text(hold.lease)));
        let changed = self.writer.run(Work::Statement, move |connection| {
            let values = params_from_iter(values.iter().map(|value| value.as_ref() as &dyn ToSql));
            update_held(connection, set, values)
        });
        changed.await
    }
}
