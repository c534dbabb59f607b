//! Notices of changes between processes that share a file, in a table: written in the transaction of the change, looked at
//! again and again by whoever keeps rows in memory.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};
use tokio_util::sync::CancellationToken;

use super::{
    fault::Fault,
    pool::{Pool, Work, begin_write},
};
use crate::{error::Result, stores::notices::Follower};

/// Notices that are kept. Who has missed some that are gone forgets everything.
const NOTICES_KEPT: i64 = 1_000;

/// Looks within the bound, so that one late one does no harm.
const LOOKS_PER_BOUND: u32 = 4;

/// Adds a notice to a change.
pub(super) fn add(transaction: &Transaction<'_>, notice: &str) -> Result<(), Fault> {
    let mut insert =
        transaction.prepare_cached("INSERT INTO ferrocast_notices (notice) VALUES (?)")?;
    let id = insert.insert([notice])?;
    let mut trim = transaction.prepare_cached("DELETE FROM ferrocast_notices WHERE id <= ?")?;
    trim.execute([id - NOTICES_KEPT])?;
    Ok(())
}

/// Writes a notice by itself.
pub(super) fn tell(connection: &mut Connection, notice: &str) -> Result<(), Fault> {
    let transaction = begin_write(connection)?;
    add(&transaction, notice)?;
    Ok(transaction.commit()?)
}

/// What a look has found.
enum Look {
    /// The notices since the last look, and the last one's id.
    New(Vec<String>, i64),
    /// Some were missed.
    Missed,
}

fn last_id(connection: &mut Connection) -> Result<i64, Fault> {
    let sql = "SELECT ifnull(max(id), 0) FROM ferrocast_notices";
    let mut select = connection.prepare_cached(sql)?;
    Ok(select.query_row([], |row| row.get(0))?)
}

/// The last known notice is looked for, too: where it is gone others may be.
fn look(connection: &mut Connection, last: i64) -> Result<Look, Fault> {
    let sql = "SELECT id, notice FROM ferrocast_notices WHERE id >= ? ORDER BY id";
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query([last])?;
    let (mut notices, mut newest) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        if newest.is_none() && last > 0 && id != last {
            return Ok(Look::Missed);
        }
        newest = Some(id);
        if id > last {
            notices.push(row.get(1)?);
        }
    }
    match newest {
        Some(newest) => Ok(Look::New(notices, newest)),
        None if last == 0 => Ok(Look::New(notices, 0)),
        None => Ok(Look::Missed),
    }
}

/// Tells a cache what changes, until the stop; while the file cannot be read the cache answers nothing for long.
pub(super) async fn follow(
    watcher: &Pool,
    follower: &Follower,
    stale_max: Duration,
    stop: &CancellationToken,
) {
    let interval = (stale_max / LOOKS_PER_BOUND).max(Duration::from_millis(1));
    let mut last = None;
    let mut is_failing = false;
    loop {
        let asked_at = Instant::now();
        match follow_once(watcher, follower, last).await {
            Ok(newest) => {
                (last, is_failing) = (newest, false);
                if newest.is_some() {
                    follower.cache.told_up_to(asked_at);
                }
            }
            // Said once: health tells whether the store is away.
            Err(fault) if !is_failing => {
                is_failing = true;
                tracing::warn!(%fault, "changes of rows cannot be followed, so the cache is not used; trying on");
            }
            Err(_) => {}
        }
        let waiting = stop.run_until_cancelled(tokio::time::sleep(interval));
        if waiting.await.is_none() {
            follower.cache.lost_touch();
            return;
        }
    }
}

/// Heeds what is new; returns the last notice's id, none where some were missed and everything is forgotten.
async fn follow_once(
    watcher: &Pool,
    follower: &Follower,
    last: Option<i64>,
) -> Result<Option<i64>> {
    let Some(last) = last else {
        let newest = watcher.run(Work::Statement, last_id).await?;
        follower.begin();
        return Ok(Some(newest));
    };
    let looking = watcher.run(Work::Statement, move |connection| look(connection, last));
    match looking.await? {
        Look::New(notices, newest) => {
            for notice in notices {
                follower.heed(&notice);
            }
            Ok(Some(newest))
        }
        Look::Missed => {
            follower.cache.lost_touch();
            Ok(None)
        }
    }
}
