//! What is done in the file, each piece on a connection that it has to itself.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Params, Row, Transaction, TransactionBehavior};
use uuid::Uuid;

use crate::{
    features::Timestamp,
    inference::{
        ChunkResult, ClaimedJob, Expired, Hold, JobBounds, JobError, JobState, NewJob,
        PredictionJob,
    },
    stores::{
        job::{self, COLUMNS, ROOM, Room, micros},
        sqlite::fault::Fault,
    },
};

/// A job that a worker may take: the clock is ?1, the number of tries ?2, the models as a JSON array ?3, and so ?4 the jobs
/// that he declines.
pub(super) const CLAIMABLE: &str = "SELECT id FROM ferrocast_prediction_jobs WHERE state IN ('QUEUED', 'RUNNING') \
     AND claim_at <= ?1 AND tries < ?2 AND model IN (SELECT value FROM json_each(?3)) \
     AND id NOT IN (SELECT value FROM json_each(?4)) ORDER BY claim_at, id LIMIT 1";

/// Jobs whose attempts are used up: the clock is ?1, the number of tries ?2.
pub(super) const LOST: &str = "SELECT id FROM ferrocast_prediction_jobs WHERE state IN ('QUEUED', 'RUNNING') \
     AND claim_at <= ?1 AND tries >= ?2";

/// What ending writes into a job.
pub(super) struct Ending {
    state: JobState,
    error_kind: Option<&'static str>,
    error: Option<String>,
    retention: i64,
}

impl Ending {
    pub(super) fn new(state: JobState, error: Option<&JobError>, retention: Duration) -> Ending {
        Ending {
            state,
            error_kind: error.map(|error| error.kind.reason()),
            error: error.map(|error| error.message.clone()),
            retention: micros(retention),
        }
    }
}

pub(super) fn begin(connection: &mut Connection) -> Result<Transaction<'_>, Fault> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

pub(super) fn submit(
    connection: &mut Connection,
    new: &NewJob,
    bounds: &JobBounds,
) -> Result<PredictionJob, Fault> {
    let transaction = begin(connection)?;
    if let Some(known) = known(&transaction, new)? {
        return Ok(known);
    }
    let room = transaction.query_row(ROOM, [], |row| {
        Ok(Room {
            queued: row.get(0)?,
            kept: row.get(1)?,
            bytes: row.get(2)?,
        })
    })?;
    let bytes = job::bytes_of(&new.input);
    room.check(bounds, bytes)?;
    let now = now();
    transaction.execute(
        "INSERT INTO ferrocast_prediction_jobs (id, request_id, input_digest, model, wanted_version, state, \
         rows_total, chunk_rows, input_bytes, claim_at, submitted_at, expires_at) \
         VALUES (?, ?, ?, ?, ?, 'QUEUED', ?, ?, ?, ?, ?, ?)",
        (
            text(new.id),
            &new.request_id,
            &new.input_digest,
            &new.model,
            &new.wanted_version,
            new.total,
            new.chunk_rows,
            bytes,
            now,
            now,
            now + micros(bounds.run_max),
        ),
    )?;
    let sql = "INSERT INTO ferrocast_prediction_job_inputs (job_id, chunk, input) VALUES (?, ?, ?)";
    let mut insert = transaction.prepare_cached(sql)?;
    for (chunk, input) in (0_i64..).zip(&new.input) {
        insert.execute((text(new.id), chunk, input))?;
    }
    drop(insert);
    let kept = one(&transaction, new.id)?;
    transaction.commit()?;
    Ok(kept.ok_or(rusqlite::Error::QueryReturnedNoRows)?)
}

/// The job that the same request has made already.
fn known(connection: &Connection, new: &NewJob) -> Result<Option<PredictionJob>, Fault> {
    if new.request_id.is_none() {
        return Ok(None);
    }
    let sql = "SELECT id, input_digest FROM ferrocast_prediction_jobs WHERE request_id = ?";
    let known = connection
        .query_row(sql, [&new.request_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((id, digest)): Option<(String, String)> = known else {
        return Ok(None);
    };
    job::check_same(&digest, new)?;
    one(connection, uuid(&id)?)
}

pub(super) fn claim(
    connection: &mut Connection,
    choice: (i64, u32, String, String),
    worker: &str,
    lease_micros: i64,
) -> Result<Option<ClaimedJob>, Fault> {
    let transaction = begin(connection)?;
    let Some(id) = ids(&transaction, CLAIMABLE, choice)?.into_iter().next() else {
        return Ok(None);
    };
    let (lease, now) = (Uuid::now_v7(), now());
    transaction.execute(
        "UPDATE ferrocast_prediction_jobs SET state = 'RUNNING', attempts = attempts + 1, tries = tries + 1, \
         lease = ?, worker = ?, started_at = coalesce(started_at, ?), claim_at = ? WHERE id = ?",
        (text(lease), worker, now, now + lease_micros, text(id)),
    )?;
    let job = one(&transaction, id)?;
    transaction.commit()?;
    Ok(job.map(|job| ClaimedJob {
        job,
        hold: Hold { id, lease },
    }))
}

pub(super) fn append(
    connection: &mut Connection,
    hold: Hold,
    chunk: &ChunkResult,
    lease_micros: i64,
) -> Result<bool, Fault> {
    let transaction = begin(connection)?;
    let bytes = i64::try_from(chunk.result.len()).unwrap_or(i64::MAX);
    let changed = transaction.execute(
        "UPDATE ferrocast_prediction_jobs SET rows_done = ?, tries = 1, result_bytes = result_bytes + ?, claim_at = ? \
         WHERE id = ? AND lease = ? AND state = 'RUNNING' AND rows_done = ?",
        (
            chunk.done,
            bytes,
            now() + lease_micros,
            text(hold.id),
            text(hold.lease),
            chunk.done_before,
        ),
    )?;
    if changed == 0 {
        return Ok(false);
    }
    transaction.execute(
        "INSERT INTO ferrocast_prediction_job_results (job_id, chunk, result) VALUES (?, ?, ?)",
        (text(hold.id), chunk.chunk, &chunk.result),
    )?;
    transaction.commit()?;
    Ok(true)
}

pub(super) fn expire(
    connection: &mut Connection,
    limit: u32,
    end: &Ending,
) -> Result<Expired, Fault> {
    let transaction = begin(connection)?;
    let now = now();
    let due = |states: &str| {
        format!(
            "SELECT id FROM ferrocast_prediction_jobs WHERE state IN ({states}) AND expires_at <= ? \
             ORDER BY expires_at LIMIT ?"
        )
    };
    let mut expired = Expired::default();
    for id in ids(&transaction, &due("'EXPIRED'"), (now, limit))? {
        let sql = "DELETE FROM ferrocast_prediction_jobs WHERE id = ?";
        transaction.execute(sql, [text(id)])?;
        expired.forgotten += 1;
    }
    let ended = due("'SUCCEEDED', 'FAILED', 'CANCELLED'");
    for id in ids(&transaction, &ended, (now, limit))? {
        transaction.execute(
            "UPDATE ferrocast_prediction_jobs SET state = 'EXPIRED', result_bytes = 0, expires_at = ? WHERE id = ?",
            (now + end.retention, text(id)),
        )?;
        forget_results(&transaction, id)?;
        expired.emptied += 1;
    }
    let unended = ids(&transaction, &due("'QUEUED', 'RUNNING'"), (now, limit))?;
    expired.unended = end_all(&transaction, end, &unended)?;
    transaction.commit()?;
    Ok(expired)
}

/// Ends jobs, whatever their state.
pub(super) fn end_all(
    transaction: &Transaction<'_>,
    end: &Ending,
    ids: &[Uuid],
) -> Result<Vec<PredictionJob>, Fault> {
    let now = now();
    let mut ended = Vec::with_capacity(ids.len());
    for id in ids {
        transaction.execute(
            "UPDATE ferrocast_prediction_jobs SET state = ?1, error_kind = ?2, error = ?3, ended_at = ?4, \
             expires_at = ?5, lease = NULL, input_bytes = 0, \
             result_bytes = CASE WHEN ?1 = 'SUCCEEDED' THEN result_bytes ELSE 0 END WHERE id = ?6",
            (
                end.state.name(),
                end.error_kind,
                &end.error,
                now,
                now + end.retention,
                text(*id),
            ),
        )?;
        let sql = "DELETE FROM ferrocast_prediction_job_inputs WHERE job_id = ?";
        transaction.execute(sql, [text(*id)])?;
        if end.state != JobState::Succeeded {
            forget_results(transaction, *id)?;
        }
        ended.extend(one(transaction, *id)?);
    }
    Ok(ended)
}

pub(super) fn forget_results(transaction: &Transaction<'_>, id: Uuid) -> Result<(), Fault> {
    let sql = "DELETE FROM ferrocast_prediction_job_results WHERE job_id = ?";
    transaction.execute(sql, [text(id)])?;
    Ok(())
}

/// Changes a job of which the hold, the last two values, is still good.
pub(super) fn update_held(
    connection: &Connection,
    set: &str,
    values: impl Params,
) -> Result<bool, Fault> {
    let sql = format!(
        "UPDATE ferrocast_prediction_jobs SET {set} WHERE id = ? AND lease = ? AND state = 'RUNNING'"
    );
    let mut update = connection.prepare_cached(&sql)?;
    Ok(update.execute(values)? > 0)
}

pub(super) fn one(connection: &Connection, id: Uuid) -> Result<Option<PredictionJob>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM ferrocast_prediction_jobs WHERE id = ?");
    Ok(jobs(connection, &sql, [text(id)])?.into_iter().next())
}

pub(super) fn jobs(
    connection: &Connection,
    sql: &str,
    values: impl Params,
) -> Result<Vec<PredictionJob>, Fault> {
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(job_of(row)?);
    }
    Ok(found)
}

pub(super) fn ids(
    connection: &Connection,
    sql: &str,
    values: impl Params,
) -> Result<Vec<Uuid>, Fault> {
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(uuid(&row.get::<_, String>(0)?)?);
    }
    Ok(found)
}

pub(super) fn chunks(
    connection: &Connection,
    sql: &str,
    values: impl Params,
) -> Result<Vec<Vec<u8>>, Fault> {
    let mut select = connection.prepare_cached(sql)?;
    let found = select.query_map(values, |row| row.get(0))?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn job_of(row: &Row<'_>) -> Result<PredictionJob, Fault> {
    let time = |micros: i64| Timestamp::from_micros(micros).unwrap_or(Timestamp::EPOCH);
    let maybe = |column: usize| Ok::<_, Fault>(row.get::<_, Option<i64>>(column)?.map(time));
    let count = |column: usize| Ok::<_, Fault>(job::count(row.get(column)?)?);
    let state: String = row.get(6)?;
    let error_kind: Option<String> = row.get(16)?;
    Ok(PredictionJob {
        id: uuid(&row.get::<_, String>(0)?)?,
        request_id: row.get(1)?,
        model: row.get(2)?,
        wanted_version: row.get(3)?,
        version: job::pinned(row.get(4)?, row.get(5)?),
        state: job::state(&state)?,
        total: count(7)?,
        done: count(8)?,
        chunk_rows: count(9)?,
        attempts: count(10)?,
        tries: count(11)?,
        submitted_at: time(row.get(12)?),
        started_at: maybe(13)?,
        ended_at: maybe(14)?,
        expires_at: time(row.get(15)?),
        error: job::job_error(error_kind.as_deref(), row.get(17)?),
    })
}

pub(super) fn now() -> i64 {
    Timestamp::now().micros()
}

/// An id as the file has it; in the order of time, as the ids are.
pub(super) fn text(id: Uuid) -> String {
    id.hyphenated().to_string()
}

fn uuid(text: &str) -> Result<Uuid, Fault> {
    Ok(job::id(text)?)
}
