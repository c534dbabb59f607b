//! The ledger: one table, in the order of ids, which is that of time.

use std::{sync::Arc, time::Duration};

use rusqlite::{Connection, Row, TransactionBehavior};
use uuid::Uuid;

use super::{
    fault::Fault,
    pool::{Pool, Work},
};
use crate::{
    error::Result,
    features::Timestamp,
    inference::{LedgerEntry, LedgerPage, LedgerSpan, RecordedVersion, day_at, first_id_of_day},
    stores::ledger::{Found, LedgerRow, VersionCache, versions_of},
};

/// Predictions that are deleted in one transaction, and how long others have the file to themselves after it.
const DELETE_ROWS: usize = 1_000;
const DELETE_PAUSE: Duration = Duration::from_millis(20);

const COLUMNS: &str = "id, version_key, at, latency_us, score, role, label, entity, record";

pub(super) fn append(connection: &mut Connection, entries: &[LedgerEntry]) -> Result<(), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO ferrocast_prediction_versions (key, model, version, digest, description) \
             VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
        )?;
        for (version, text) in versions_of(entries)? {
            insert.execute((
                version.key.as_bytes(),
                &version.model,
                &version.version,
                &version.digest,
                text,
            ))?;
        }
        let mut insert = transaction.prepare_cached(&format!(
            "INSERT INTO ferrocast_predictions ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (id) DO NOTHING"
        ))?;
        for entry in entries {
            let row = LedgerRow::of(entry)?;
            insert.execute((
                row.id.as_bytes(),
                row.version_key.as_bytes(),
                row.at.micros(),
                row.latency_us,
                row.score,
                row.role,
                row.label,
                row.entity,
                row.record,
            ))?;
        }
    }
    Ok(transaction.commit()?)
}

pub(super) fn one(
    connection: &mut Connection,
    versions: &VersionCache,
    id: Uuid,
) -> Result<Option<LedgerEntry>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM ferrocast_predictions WHERE id = ?");
    let found = {
        let mut select = connection.prepare_cached(&sql)?;
        let mut rows = select.query([id.as_bytes()])?;
        match rows.next()? {
            Some(row) => read_row(row)?,
            None => return Ok(None),
        }
    };
    learn(connection, versions, [found.version_key])?;
    Ok(Some(versions.entry(found)?))
}

pub(super) fn page(
    connection: &mut Connection,
    versions: &VersionCache,
    span: &LedgerSpan,
    limit: usize,
) -> Result<LedgerPage, Fault> {
    let wanted = match &span.model {
        Some(model) => Some(keys_of(connection, model)?),
        None => None,
    };
    let mut found = Found {
        looked_at: 0,
        last: None,
        rows: Vec::new(),
    };
    {
        let sql = format!(
            "SELECT {COLUMNS} FROM ferrocast_predictions WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
        );
        let mut select = connection.prepare_cached(&sql)?;
        let count = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = select.query((span.first.as_bytes(), span.end.as_bytes(), count))?;
        while let Some(row) = rows.next()? {
            found.looked_at += 1;
            found.last = Some(id_of(row, 0)?);
            let key = id_of(row, 1)?;
            if wanted.as_ref().is_none_or(|keys| keys.contains(&key)) {
                found.rows.push(read_row(row)?);
            }
        }
    }
    let keys: Vec<Uuid> = found.rows.iter().map(|row| row.version_key).collect();
    learn(connection, versions, keys)?;
    Ok(found.into_page(versions, span, limit)?)
}

pub(super) fn versions(
    connection: &mut Connection,
    versions: &VersionCache,
    model: &str,
) -> Result<Vec<Arc<RecordedVersion>>, Fault> {
    let sql = "SELECT key, description FROM ferrocast_prediction_versions WHERE model = ?";
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query([model])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get(1)?;
        found.push(versions.learn(id_of(row, 0)?, &text)?);
    }
    Ok(found)
}

/// Deletes some rows after the other, so that nobody waits for all of them.
pub(super) async fn drop_before(pool: &Pool, before: Timestamp) -> Result<bool> {
    let end = first_id_of_day(day_at(before));
    let mut is_any = false;
    loop {
        let deleted = pool.run(Work::Statement, move |connection| delete(connection, end));
        match deleted.await? {
            0 => return Ok(is_any),
            deleted => is_any = deleted > 0,
        }
        tokio::time::sleep(DELETE_PAUSE).await;
    }
}

fn delete(connection: &mut Connection, end: Uuid) -> Result<usize, Fault> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM ferrocast_predictions WHERE id IN \
         (SELECT id FROM ferrocast_predictions WHERE id < ? ORDER BY id LIMIT ?)",
    )?;
    let count = i64::try_from(DELETE_ROWS).unwrap_or(i64::MAX);
    Ok(delete.execute((end.as_bytes(), count))?)
}

fn keys_of(connection: &Connection, model: &str) -> Result<Vec<Uuid>, Fault> {
    let sql = "SELECT key FROM ferrocast_prediction_versions WHERE model = ?";
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query([model])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(id_of(row, 0)?);
    }
    Ok(keys)
}

/// Reads the versions of some keys that have not been read yet.
fn learn(
    connection: &Connection,
    versions: &VersionCache,
    keys: impl IntoIterator<Item = Uuid>,
) -> Result<(), Fault> {
    let sql = "SELECT description FROM ferrocast_prediction_versions WHERE key = ?";
    for key in versions.unknown(keys) {
        let mut select = connection.prepare_cached(sql)?;
        let mut rows = select.query([key.as_bytes()])?;
        if let Some(row) = rows.next()? {
            let text: String = row.get(0)?;
            versions.learn(key, &text)?;
        }
    }
    Ok(())
}

fn id_of(row: &Row<'_>, column: usize) -> Result<Uuid, Fault> {
    let bytes: [u8; 16] = row.get(column)?;
    Ok(Uuid::from_bytes(bytes))
}

fn read_row(row: &Row<'_>) -> Result<LedgerRow, Fault> {
    Ok(LedgerRow {
        id: id_of(row, 0)?,
        version_key: id_of(row, 1)?,
        at: Timestamp::from_micros(row.get(2)?).unwrap_or(Timestamp::EPOCH),
        latency_us: row.get(3)?,
        score: row.get::<_, Option<f64>>(4)?.unwrap_or(f64::NAN),
        role: row.get(5)?,
        label: row.get(6)?,
        entity: row.get(7)?,
        record: row.get(8)?,
    })
}
