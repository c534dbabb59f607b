//! What is released of models, and the changes of it.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, TransactionBehavior};

use super::fault::Fault;
use crate::{
    features::Timestamp,
    inference::{Author, Release, ReleaseEvent},
    stores::release,
};

pub(super) fn all(connection: &mut Connection) -> Result<BTreeMap<String, Release>, Fault> {
    let sql = "SELECT model, revision, release FROM ferrocast_model_releases";
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query([])?;
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (model, text): (String, String) = (row.get(0)?, row.get(2)?);
        let release = release::parse(&model, row.get(1)?, &text)?;
        found.insert(model, release);
    }
    Ok(found)
}

pub(super) fn revision(connection: &mut Connection) -> Result<i64, Fault> {
    let mut select = connection.prepare_cached(release::REVISION)?;
    Ok(select.query_row([], |row| row.get(0))?)
}

pub(super) fn put(
    connection: &mut Connection,
    release: &Release,
    event: &ReleaseEvent,
) -> Result<bool, Fault> {
    let text = release::text(release)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let kept = if release.revision == 1 {
        transaction.execute(
            "INSERT INTO ferrocast_model_releases (model, revision, release) VALUES (?, 1, ?) \
             ON CONFLICT (model) DO NOTHING",
            (&event.model, text),
        )?
    } else {
        transaction.execute(
            "UPDATE ferrocast_model_releases SET revision = revision + 1, release = ? \
             WHERE model = ? AND revision = ?",
            (text, &event.model, release.revision - 1),
        )?
    };
    if kept == 0 {
        return Ok(false);
    }
    transaction.execute(
        "INSERT INTO ferrocast_model_release_events \
         (model, revision, at, actor, peer, reason, kind, name, value_before, value_after) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            &event.model,
            event.revision,
            event.at.micros(),
            &event.author.actor,
            &event.author.peer,
            &event.author.reason,
            event.kind.name(),
            &event.name,
            &event.before,
            &event.after,
        ),
    )?;
    transaction.commit()?;
    Ok(true)
}

pub(super) fn events(
    connection: &mut Connection,
    model: &str,
    limit: usize,
) -> Result<Vec<ReleaseEvent>, Fault> {
    let mut select = connection.prepare_cached(
        "SELECT model, revision, at, actor, peer, reason, kind, name, value_before, value_after \
         FROM ferrocast_model_release_events WHERE model = ? ORDER BY revision DESC LIMIT ?",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = select.query((model, limit))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(event(row)?);
    }
    Ok(found)
}

fn event(row: &Row<'_>) -> Result<ReleaseEvent, Fault> {
    let kind: String = row.get(6)?;
    Ok(ReleaseEvent {
        model: row.get(0)?,
        revision: row.get(1)?,
        at: Timestamp::from_micros(row.get(2)?).unwrap_or(Timestamp::EPOCH),
        author: Author {
            actor: row.get(3)?,
            peer: row.get(4)?,
            reason: row.get(5)?,
        },
        kind: release::kind(&kind)?,
        name: row.get(7)?,
        before: row.get(8)?,
        after: row.get(9)?,
    })
}
