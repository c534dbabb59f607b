//! Prediction jobs: taken with `FOR UPDATE SKIP LOCKED`, so that workers of many servers never wait for one another.

use std::{ops::Range, time::Duration};

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use tokio_postgres::{IsolationLevel, Row, types::ToSql};
use uuid::Uuid;

use super::{PostgresStore, fault::Fault, lease::Lease, pool::Database, values::Cell};
use crate::{
    error::Result,
    features::Timestamp,
    inference::{
        ChunkResult, ClaimRequest, ClaimedJob, Expired, Hold, JobBounds, JobEnd, JobError,
        JobFilter, JobState, JobStore, NewJob, PinnedVersion, PredictionJob,
    },
    stores::job::{self, COLUMNS, ROOM, Room, micros},
};

/// Held for the last moment of a submission, while jobs are counted; any number that nobody else takes ("predjobs").
const SUBMIT_LOCK: i64 = 0x7072_6564_6a6f_6273;

/// A parameter in microseconds as a length of time.
const INTERVAL: &str = "::bigint * interval '1 microsecond'";

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

#[async_trait]
impl JobStore for PostgresStore {
    async fn submit_job(&self, job: &NewJob, bounds: &JobBounds) -> Result<PredictionJob> {
        let database = &self.database;
        let mut lease = database.lease().await?;
        let kept = database.bounded(submit(&mut lease, job, bounds)).await;
        settled(database, lease, kept)
    }

    async fn prediction_job(&self, id: Uuid) -> Result<Option<PredictionJob>> {
        let sql = format!("SELECT {COLUMNS} FROM ferrocast_prediction_jobs WHERE id = $1");
        let found = jobs(&self.database, &sql, &[&id]).await?;
        Ok(found.into_iter().next())
    }

    async fn prediction_jobs(&self, filter: &JobFilter) -> Result<Vec<PredictionJob>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM ferrocast_prediction_jobs WHERE ($1::text IS NULL OR model = $1) \
             AND ($2::text IS NULL OR state = $2) AND ($3::uuid IS NULL OR id < $3) ORDER BY id DESC LIMIT $4"
        );
        let state = filter.state.map(JobState::name);
        let limit = i64::from(filter.limit);
        let parameters: Parameters<'_> = &[&filter.model, &state, &filter.before, &limit];
        jobs(&self.database, &sql, parameters).await
    }

    async fn claim_job(&self, request: &ClaimRequest) -> Result<Option<ClaimedJob>> {
        let sql = format!(
            "UPDATE ferrocast_prediction_jobs SET state = 'RUNNING', attempts = attempts + 1, tries = tries + 1, \
             lease = $1, worker = $2, started_at = coalesce(started_at, now()), claim_at = now() + $3{INTERVAL} \
             WHERE id = (SELECT id FROM ferrocast_prediction_jobs WHERE state IN ('QUEUED', 'RUNNING') \
             AND claim_at <= now() AND tries < $4 AND model = ANY($5) AND id <> ALL($6) ORDER BY claim_at, id LIMIT 1 \
             FOR UPDATE SKIP LOCKED) RETURNING {COLUMNS}"
        );
        let lease = Uuid::now_v7();
        let parameters: Parameters<'_> = &[
            &lease,
            &request.worker,
            &micros(request.lease),
            &i64::from(request.attempts_max),
            &request.models,
            &request.declined,
        ];
        let claimed = jobs(&self.database, &sql, parameters).await?;
        Ok(claimed.into_iter().next().map(|job| ClaimedJob {
            hold: Hold { id: job.id, lease },
            job,
        }))
    }

    async fn fail_lost_jobs(
        &self,
        attempts_max: u32,
        error: &JobError,
        retention: Duration,
    ) -> Result<Vec<PredictionJob>> {
        let which = "id = ANY(ARRAY(SELECT id FROM ferrocast_prediction_jobs WHERE state IN ('QUEUED', 'RUNNING') \
                     AND claim_at <= now() AND tries >= $5 FOR UPDATE SKIP LOCKED))";
        let end = Ending::new(JobState::Failed, Some(error), retention);
        self.end_jobs(&end, which, &[&i64::from(attempts_max)])
            .await
    }

    async fn renew_job(&self, hold: &Hold, lease: Duration) -> Result<bool> {
        let sql = format!(
            "UPDATE ferrocast_prediction_jobs SET claim_at = now() + $3{INTERVAL} \
             WHERE id = $1 AND lease = $2 AND state = 'RUNNING'"
        );
        let parameters: Parameters<'_> = &[&hold.id, &hold.lease, &micros(lease)];
        changes(&self.database, &sql, parameters).await
    }

    async fn job_input(&self, id: Uuid) -> Result<Vec<Vec<u8>>> {
        let sql =
            "SELECT input FROM ferrocast_prediction_job_inputs WHERE job_id = $1 ORDER BY chunk";
        chunks(&self.database, sql, &[&id]).await
    }

    async fn pin_job(&self, hold: &Hold, version: &PinnedVersion) -> Result<bool> {
        let database = &self.database;
        let mut lease = database.lease().await?;
        let pinned = async {
            let transaction = lease.client()?.transaction().await?;
            let sql = "UPDATE ferrocast_prediction_jobs SET version = $3, version_digest = $4, rows_done = 0, \
                       result_bytes = 0 WHERE id = $1 AND lease = $2 AND state = 'RUNNING'";
            let statement = transaction.prepare_cached(sql).await?;
            let parameters: Parameters<'_> =
                &[&hold.id, &hold.lease, &version.version, &version.digest];
            if transaction.execute(&statement, parameters).await? == 0 {
                return Ok(false);
            }
            forget_results(&transaction, &[hold.id]).await?;
            transaction.commit().await?;
            Ok::<_, Fault>(true)
        };
        let pinned = database.bounded(pinned).await;
        settled(database, lease, pinned)
    }

    async fn append_result(
        &self,
        hold: &Hold,
        chunk: &ChunkResult,
        lease: Duration,
    ) -> Result<bool> {
        let sql = format!(
            "WITH held AS (UPDATE ferrocast_prediction_jobs SET rows_done = $3, tries = 1, \
             result_bytes = result_bytes + $4, claim_at = now() + $5{INTERVAL} WHERE id = $1 AND lease = $2 \
             AND state = 'RUNNING' AND rows_done = $6 RETURNING id) \
             INSERT INTO ferrocast_prediction_job_results (job_id, chunk, result) SELECT id, $7, $8 FROM held"
        );
        let bytes = i64::try_from(chunk.result.len()).unwrap_or(i64::MAX);
        let parameters: Parameters<'_> = &[
            &hold.id,
            &hold.lease,
            &i64::from(chunk.done),
            &bytes,
            &micros(lease),
            &i64::from(chunk.done_before),
            &i64::from(chunk.chunk),
            &chunk.result,
        ];
        changes(&self.database, &sql, parameters).await
    }

    async fn end_job(&self, hold: &Hold, end: &JobEnd, retention: Duration) -> Result<bool> {
        let (state, error) = match end {
            JobEnd::Succeeded => (JobState::Succeeded, None),
            JobEnd::Failed(error) => (JobState::Failed, Some(error)),
        };
        let which = "id = $5 AND lease = $6 AND state = 'RUNNING' AND ($1 <> 'SUCCEEDED' OR rows_done = rows_total)";
        let end = Ending::new(state, error, retention);
        let ended = self.end_jobs(&end, which, &[&hold.id, &hold.lease]).await?;
        Ok(!ended.is_empty())
    }

    async fn retry_job(
        &self,
        hold: &Hold,
        wait: Duration,
        error: &JobError,
        is_counted: bool,
    ) -> Result<bool> {
        let sql = format!(
            "UPDATE ferrocast_prediction_jobs SET state = 'QUEUED', lease = NULL, claim_at = now() + $3{INTERVAL}, \
             error_kind = $4, error = $5, tries = greatest(tries - $6::bigint, 0) \
             WHERE id = $1 AND lease = $2 AND state = 'RUNNING'"
        );
        let parameters: Parameters<'_> = &[
            &hold.id,
            &hold.lease,
            &micros(wait),
            &error.kind.reason(),
            &error.message,
            &i64::from(!is_counted),
        ];
        changes(&self.database, &sql, parameters).await
    }

    async fn give_back_job(&self, hold: &Hold) -> Result<bool> {
        let sql = "UPDATE ferrocast_prediction_jobs SET state = 'QUEUED', lease = NULL, claim_at = submitted_at, \
                   tries = greatest(tries - 1, 0) WHERE id = $1 AND lease = $2 AND state = 'RUNNING'";
        changes(&self.database, sql, &[&hold.id, &hold.lease]).await
    }

    async fn cancel_job(&self, id: Uuid, retention: Duration) -> Result<Option<PredictionJob>> {
        let which = "id = $5 AND state IN ('QUEUED', 'RUNNING')";
        let end = Ending::new(JobState::Cancelled, None, retention);
        let cancelled = self.end_jobs(&end, which, &[&id]).await?;
        match cancelled.into_iter().next() {
            Some(job) => Ok(Some(job)),
            None => self.prediction_job(id).await,
        }
    }

    async fn job_results(&self, id: Uuid, range: Range<u32>) -> Result<Vec<Vec<u8>>> {
        let sql = "SELECT result FROM ferrocast_prediction_job_results \
                   WHERE job_id = $1 AND chunk >= $2 AND chunk < $3 ORDER BY chunk";
        let (first, end) = (i64::from(range.start), i64::from(range.end));
        chunks(&self.database, sql, &[&id, &first, &end]).await
    }

    async fn expire_jobs(
        &self,
        limit: u32,
        error: &JobError,
        retention: Duration,
    ) -> Result<Expired> {
        let limit = i64::from(limit);
        let forgotten = self.forget_expired(limit).await?;
        let emptied = self.empty_ended(limit, retention).await?;
        let which = "id = ANY(ARRAY(SELECT id FROM ferrocast_prediction_jobs WHERE state IN ('QUEUED', 'RUNNING') \
                     AND expires_at <= now() ORDER BY expires_at LIMIT $5 FOR UPDATE SKIP LOCKED))";
        let end = Ending::new(JobState::Expired, Some(error), retention);
        let unended = self.end_jobs(&end, which, &[&limit]).await?;
        Ok(Expired {
            unended,
            emptied,
            forgotten,
        })
    }
}

/// What ending writes into a job.
struct Ending {
    state: JobState,
    error_kind: Option<&'static str>,
    error: Option<String>,
    retention_micros: i64,
}

impl Ending {
    fn new(state: JobState, error: Option<&JobError>, retention: Duration) -> Ending {
        Ending {
            state,
            error_kind: error.map(|error| error.kind.reason()),
            error: error.map(|error| error.message.clone()),
            retention_micros: micros(retention),
        }
    }
}

impl PostgresStore {
    /// Ends jobs. `which` chooses them; its parameters begin with `$5`.
    async fn end_jobs(
        &self,
        end: &Ending,
        which: &str,
        chosen: Parameters<'_>,
    ) -> Result<Vec<PredictionJob>> {
        let sql = format!(
            "UPDATE ferrocast_prediction_jobs SET state = $1::text, error_kind = $2, error = $3, ended_at = now(), \
             expires_at = now() + $4{INTERVAL}, lease = NULL, input_bytes = 0, \
             result_bytes = CASE WHEN $1 = 'SUCCEEDED' THEN result_bytes ELSE 0 END WHERE {which} RETURNING {COLUMNS}"
        );
        let state = end.state.name();
        let own: Parameters<'_> = &[&state, &end.error_kind, &end.error, &end.retention_micros];
        let parameters = [own, chosen].concat();
        let database = &self.database;
        let mut lease = database.lease().await?;
        let ended = async {
            let transaction = lease.client()?.transaction().await?;
            let statement = transaction.prepare_cached(&sql).await?;
            let rows = transaction.query(&statement, &parameters).await?;
            let jobs: Vec<PredictionJob> = rows.iter().map(job_of).collect::<Result<_, _>>()?;
            if jobs.is_empty() {
                return Ok(jobs);
            }
            // By statements of their own, which see what a worker stored until now.
            let ids: Vec<Uuid> = jobs.iter().map(|job| job.id).collect();
            let sql = "DELETE FROM ferrocast_prediction_job_inputs WHERE job_id = ANY($1)";
            let statement = transaction.prepare_cached(sql).await?;
            transaction.execute(&statement, &[&ids]).await?;
            if end.state != JobState::Succeeded {
                forget_results(&transaction, &ids).await?;
            }
            transaction.commit().await?;
            Ok::<_, Fault>(jobs)
        };
        let ended = database.bounded(ended).await;
        settled(database, lease, ended)
    }

    async fn forget_expired(&self, limit: i64) -> Result<u64> {
        let sql = "DELETE FROM ferrocast_prediction_jobs WHERE id = ANY(ARRAY(SELECT id FROM ferrocast_prediction_jobs \
                   WHERE state = 'EXPIRED' AND expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))";
        changed(&self.database, sql, &[&limit]).await
    }

    /// Takes the predictions of ended jobs away.
    async fn empty_ended(&self, limit: i64, retention: Duration) -> Result<u64> {
        let sql = format!(
            "WITH emptied AS (UPDATE ferrocast_prediction_jobs SET state = 'EXPIRED', result_bytes = 0, \
             expires_at = now() + $2{INTERVAL} WHERE id = ANY(ARRAY(SELECT id FROM ferrocast_prediction_jobs \
             WHERE state IN ('SUCCEEDED', 'FAILED', 'CANCELLED') AND expires_at <= now() ORDER BY expires_at LIMIT $1 \
             FOR UPDATE SKIP LOCKED)) RETURNING id), \
             results AS (DELETE FROM ferrocast_prediction_job_results WHERE job_id IN (SELECT id FROM emptied)) \
             SELECT id FROM emptied"
        );
        changed(&self.database, &sql, &[&limit, &micros(retention)]).await
    }
}

async fn submit(
    lease: &mut Lease,
    new: &NewJob,
    bounds: &JobBounds,
) -> Result<PredictionJob, Fault> {
    // What was committed before the lock was ours has to be seen after it.
    let transaction = lease
        .client()?
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .start()
        .await?;
    if let Some(known) = admit(&transaction, new, bounds).await? {
        return Ok(known);
    }
    let sql = "INSERT INTO ferrocast_prediction_job_inputs (job_id, chunk, input) \
               SELECT $1, position - 1, input FROM unnest($2::bytea[]) WITH ORDINALITY AS chunks (input, position)";
    let statement = transaction.prepare_cached(sql).await?;
    transaction
        .execute(&statement, &[&new.id, &new.input])
        .await?;
    let sql = "SELECT pg_advisory_xact_lock($1)";
    transaction.execute(sql, &[&SUBMIT_LOCK]).await?;
    if let Some(known) = admit(&transaction, new, bounds).await? {
        return Ok(known);
    }
    let sql = format!(
        "INSERT INTO ferrocast_prediction_jobs (id, request_id, input_digest, model, wanted_version, state, \
         rows_total, chunk_rows, input_bytes, claim_at, submitted_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, 'QUEUED', $6, $7, $8, now(), now(), now() + $9{INTERVAL}) RETURNING {COLUMNS}"
    );
    let statement = transaction.prepare_cached(&sql).await?;
    let parameters: Parameters<'_> = &[
        &new.id,
        &new.request_id,
        &new.input_digest,
        &new.model,
        &new.wanted_version,
        &i64::from(new.total),
        &i64::from(new.chunk_rows),
        &job::bytes_of(&new.input),
        &micros(bounds.run_max),
    ];
    let row = transaction.query_one(&statement, parameters).await?;
    let kept = job_of(&row)?;
    transaction.commit().await?;
    Ok(kept)
}

/// The job that the same request has made already; none: there is room for it.
async fn admit(
    transaction: &Transaction<'_>,
    new: &NewJob,
    bounds: &JobBounds,
) -> Result<Option<PredictionJob>, Fault> {
    if new.request_id.is_some() {
        let sql = format!(
            "SELECT {COLUMNS}, input_digest FROM ferrocast_prediction_jobs WHERE request_id = $1"
        );
        let statement = transaction.prepare_cached(&sql).await?;
        let known = transaction
            .query_opt(&statement, &[&new.request_id])
            .await?;
        if let Some(row) = known {
            let digest: String = row.try_get("input_digest")?;
            job::check_same(&digest, new)?;
            return Ok(Some(job_of(&row)?));
        }
    }
    let statement = transaction.prepare_cached(ROOM).await?;
    let row = transaction.query_one(&statement, &[]).await?;
    let room = Room {
        queued: row.try_get(0)?,
        kept: row.try_get(1)?,
        bytes: row.try_get(2)?,
    };
    room.check(bounds, job::bytes_of(&new.input))?;
    Ok(None)
}

async fn forget_results(transaction: &Transaction<'_>, ids: &[Uuid]) -> Result<(), Fault> {
    let sql = "DELETE FROM ferrocast_prediction_job_results WHERE job_id = ANY($1)";
    let statement = transaction.prepare_cached(sql).await?;
    transaction.execute(&statement, &[&ids]).await?;
    Ok(())
}

/// The rows of one statement.
async fn rows(database: &Database, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>> {
    let mut lease = database.lease().await?;
    let asked = async {
        let client = lease.client()?;
        let statement = client.prepare_cached(sql).await?;
        Ok::<_, Fault>(client.query(&statement, parameters).await?)
    };
    let found = database.bounded(asked).await;
    settled(database, lease, found)
}

async fn jobs(
    database: &Database,
    sql: &str,
    parameters: Parameters<'_>,
) -> Result<Vec<PredictionJob>> {
    let found = rows(database, sql, parameters).await?;
    let found = found.iter().map(job_of).collect::<Result<Vec<_>, Fault>>();
    found.map_err(|fault| fault.at(database.target()))
}

async fn chunks(
    database: &Database,
    sql: &str,
    parameters: Parameters<'_>,
) -> Result<Vec<Vec<u8>>> {
    let found = rows(database, sql, parameters).await?;
    let found = found
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>();
    found.map_err(|fault| Fault::Driver(fault).at(database.target()))
}

/// How many rows one statement changes.
async fn changed(database: &Database, sql: &str, parameters: Parameters<'_>) -> Result<u64> {
    let mut lease = database.lease().await?;
    let asked = async {
        let client = lease.client()?;
        let statement = client.prepare_cached(sql).await?;
        Ok::<_, Fault>(client.execute(&statement, parameters).await?)
    };
    let done = database.bounded(asked).await;
    settled(database, lease, done)
}

async fn changes(database: &Database, sql: &str, parameters: Parameters<'_>) -> Result<bool> {
    Ok(changed(database, sql, parameters).await? > 0)
}

fn settled<T>(database: &Database, lease: Lease, done: Result<T, Fault>) -> Result<T> {
    let done = lease.settle(done);
    done.map_err(|fault| fault.at(database.target()))
}

fn job_of(row: &Row) -> Result<PredictionJob, Fault> {
    let time = |column: usize| Ok::<_, Fault>(row.try_get::<_, Cell>(column)?.timestamp());
    let count = |column: usize| Ok::<_, Fault>(job::count(row.try_get(column)?)?);
    let state: String = row.try_get(6)?;
    let error_kind: Option<String> = row.try_get(16)?;
    Ok(PredictionJob {
        id: row.try_get(0)?,
        request_id: row.try_get(1)?,
        model: row.try_get(2)?,
        wanted_version: row.try_get(3)?,
        version: job::pinned(row.try_get(4)?, row.try_get(5)?),
        state: job::state(&state)?,
        total: count(7)?,
        done: count(8)?,
        chunk_rows: count(9)?,
        attempts: count(10)?,
        tries: count(11)?,
        submitted_at: time(12)?.unwrap_or(Timestamp::EPOCH),
        started_at: time(13)?,
        ended_at: time(14)?,
        expires_at: time(15)?.unwrap_or(Timestamp::EPOCH),
        error: job::job_error(error_kind.as_deref(), row.try_get(17)?),
    })
}
