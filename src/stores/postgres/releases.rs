//! What is released of models, and the changes of it.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use super::{
    fault::Fault,
    pool::Database,
    values::{Bound, Cell},
};
use crate::{
    error::Result,
    features::{Timestamp, Value},
    inference::{Author, Release, ReleaseEvent},
    stores::release,
};

pub(super) async fn all(database: &Database) -> Result<BTreeMap<String, Release>> {
    let mut lease = database.lease().await?;
    let asked = async {
        let client = lease.client()?;
        let sql = "SELECT model, revision, release FROM ferrocast_model_releases";
        let statement = client.prepare_cached(sql).await?;
        let mut found = BTreeMap::new();
        for row in client.query(&statement, &[]).await? {
            let model: String = row.try_get(0)?;
            let text: String = row.try_get(2)?;
            let release = release::parse(&model, row.try_get(1)?, &text)?;
            found.insert(model, release);
        }
        Ok::<_, Fault>(found)
    };
    let answer = database.bounded(asked).await;
    let answer = lease.settle(answer);
    answer.map_err(|fault| fault.at(database.target()))
}

pub(super) async fn revision(database: &Database) -> Result<i64> {
    let mut lease = database.lease().await?;
    let asked = async {
        let client = lease.client()?;
        let statement = client.prepare_cached(release::REVISION).await?;
        let row = client.query_one(&statement, &[]).await?;
        Ok::<_, Fault>(row.try_get(0)?)
    };
    let answer = database.bounded(asked).await;
    let answer = lease.settle(answer);
    answer.map_err(|fault| fault.at(database.target()))
}

pub(super) async fn put(
    database: &Database,
    release: &Release,
    event: &ReleaseEvent,
) -> Result<bool> {
    let text = release::text(release)?;
    let mut lease = database.lease().await?;
    let asked = async {
        let transaction = lease.client()?.transaction().await?;
        let before = release.revision - 1;
        let kept = if before == 0 {
            let sql = "INSERT INTO ferrocast_model_releases (model, revision, release) \
                       VALUES ($1, 1, $2) ON CONFLICT (model) DO NOTHING";
            transaction.execute(sql, &[&event.model, &text]).await?
        } else {
            let sql = "UPDATE ferrocast_model_releases SET revision = revision + 1, release = $2 \
                       WHERE model = $1 AND revision = $3";
            transaction
                .execute(sql, &[&event.model, &text, &before])
                .await?
        };
        if kept == 0 {
            return Ok(false);
        }
        let at = Value::Timestamp(event.at);
        transaction
            .execute(
                "INSERT INTO ferrocast_model_release_events \
                 (model, revision, at, actor, peer, reason, kind, name, value_before, value_after) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                &[
                    &event.model,
                    &event.revision,
                    &Bound(&at),
                    &event.author.actor,
                    &event.author.peer,
                    &event.author.reason,
                    &event.kind.name(),
                    &event.name,
                    &event.before,
                    &event.after,
                ],
            )
            .await?;
        transaction.commit().await?;
        Ok::<_, Fault>(true)
    };
    let answer = database.bounded(asked).await;
    let answer = lease.settle(answer);
    answer.map_err(|fault| fault.at(database.target()))
}

pub(super) async fn events(
    database: &Database,
    model: &str,
    limit: usize,
) -> Result<Vec<ReleaseEvent>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut lease = database.lease().await?;
    let asked = async {
        let client = lease.client()?;
        let sql = "SELECT model, revision, at, actor, peer, reason, kind, name, value_before, value_after \
                   FROM ferrocast_model_release_events WHERE model = $1 ORDER BY revision DESC LIMIT $2";
        let statement = client.prepare_cached(sql).await?;
        let found = client.query(&statement, &[&model, &limit]).await?;
        found.iter().map(event).collect()
    };
    let answer = database.bounded::<Vec<_>, Fault>(asked).await;
    let answer = lease.settle(answer);
    answer.map_err(|fault| fault.at(database.target()))
}

fn event(row: &Row) -> Result<ReleaseEvent, Fault> {
    let kind: String = row.try_get(6)?;
    let at: Cell = row.try_get(2)?;
    Ok(ReleaseEvent {
        model: row.try_get(0)?,
        revision: row.try_get(1)?,
        at: at.timestamp().unwrap_or(Timestamp::EPOCH),
        author: Author {
            actor: row.try_get(3)?,
            peer: row.try_get(4)?,
            reason: row.try_get(5)?,
        },
        kind: release::kind(&kind)?,
        name: row.try_get(7)?,
        before: row.try_get(8)?,
        after: row.try_get(9)?,
    })
}
