//! Writing rows: all or none, each merged into what is stored.
//!
//! One statement writes what takes effect as a whole, which is nearly everything, and locks the rest. That is merged here,
//! by `StoredRow::merge`, and written back before the commit, with which other servers are told.

use deadpool_postgres::ClientWrapper;
use futures_util::future::{join_all, join3};
use tokio_postgres::{Client, Statement};

use super::{
    fault::Fault,
    listen,
    pool::Database,
    rows::{
        ATTEMPTS_MAX, Columns, Times, asked, contention_wait, parameters, read_row, transposed,
    },
};
use crate::{
    catalog::FeatureView,
    error::Result,
    features::{StoredRow, WriteCounts, WriteRow},
    stores::{
        notices::Notices,
        statements::Statements,
        table::{Combined, combined, definition_changed},
    },
};

/// Rows to write, as parameters.
struct Batch<'a> {
    statements: &'a Statements,
    /// The rows of each entity as one, sorted by key.
    entities: &'a [Combined],
    /// The same as parameters.
    columns: Columns<'a>,
    /// The rows as they were given, as parameters; none where the view keeps no history.
    given: Columns<'a>,
    /// What other servers are told.
    notice: &'a str,
}

/// What a transaction has done.
struct Done {
    /// Rows that took effect.
    in_effect: u64,
    /// Whether every entity's row is stored now as it came.
    is_as_given: bool,
    /// Rows that were merged, as they are stored now.
    merged: Vec<WriteRow>,
}

/// Writes checked rows; with what is stored now, as far as that is known without reading it.
pub(super) async fn write(
    database: &Database,
    statements: &Statements,
    notices: &Notices,
    rows: Vec<WriteRow>,
) -> Result<(WriteCounts, Vec<WriteRow>)> {
    let view = &statements.view;
    let row_count = count(rows.len());
    let given = if view.history {
        rows.clone()
    } else {
        Vec::new()
    };
    let given_times = times(view, given.iter())?;
    let entities = combined(rows);
    let entity_times = times(view, entities.iter().map(|entity| &entity.write))?;
    let keys = entities.iter().map(|entity| &entity.write.key);
    let (writing, notice) = notices.write(view, keys);
    let batch = Batch {
        statements,
        notice: &notice,
        columns: asked(entities.iter().map(|e| &e.write).zip(&entity_times)),
        entities: &entities,
        given: asked(given.iter().zip(&given_times)),
    };
    for attempt in 1_u32.. {
        let mut lease = database.lease().await?;
        let work = Box::pin(batch.attempt(lease.client()?));
        let done = database.bounded(work).await;
        match lease.settle(done) {
            Ok(done) => {
                let counts = WriteCounts {
                    written: done.in_effect,
                    late: row_count.saturating_sub(done.in_effect),
                };
                // Where nothing took effect nothing was told.
                if done.in_effect > 0 {
                    writing.settle();
                }
                let stored = match done.is_as_given {
                    true => entities.into_iter().map(|entity| entity.write).collect(),
                    false => done.merged,
                };
                return Ok((counts, stored));
            }
            Err(fault) => {
                let is_undone = fault.is_contention() || fault.is_of_plan();
                if !is_undone || attempt >= ATTEMPTS_MAX {
                    return Err(fault.at_view(database.target(), view));
                }
                contention_wait(attempt).await;
            }
        }
    }
    Ok((WriteCounts::default(), Vec::new()))
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn times<'a>(view: &FeatureView, rows: impl Iterator<Item = &'a WriteRow>) -> Result<Vec<Times>> {
    rows.map(|write| Times::of(view, write)).collect()
}

impl Batch<'_> {
    /// One transaction; a fault leaves the connection outside of it.
    async fn attempt(&self, client: &ClientWrapper) -> Result<Done, Fault> {
        let upsert = client.prepare_cached(&self.statements.write).await?;
        let mut remember = Vec::new();
        for sql in &self.statements.history {
            remember.push(client.prepare_cached(sql).await?);
        }
        let done = self.run(client, &upsert, &remember).await;
        if done.is_err() {
            // Without an answer the connection is of no more use, and its transaction ends with it.
            let _ = client.batch_execute("ROLLBACK").await;
        }
        done
    }

    async fn run(
        &self,
        client: &ClientWrapper,
        upsert: &Statement,
        remember: &[Statement],
    ) -> Result<Done, Fault> {
        let affected = self.upsert(client, upsert, remember).await?;
        let done = match affected == count(self.entities.len()) {
            true => Done {
                in_effect: self.entities.iter().map(|entity| entity.in_effect).sum(),
                is_as_given: true,
                merged: Vec::new(),
            },
            false => self.merge(client, affected).await?,
        };
        match done.in_effect {
            0 => client.batch_execute("COMMIT").await?,
            _ => {
                let told = format!("{}; COMMIT", listen::tell(self.notice));
                client.batch_execute(&told).await?;
            }
        }
        Ok(done)
    }

    /// Begins the transaction and writes, in one round trip; returns how many entities' rows took effect as they are.
    async fn upsert(
        &self,
        client: &ClientWrapper,
        upsert: &Statement,
        remember: &[Statement],
    ) -> Result<u64, tokio_postgres::Error> {
        // Each future sends when it is first polled, in this order. Each statement has to see what was committed while
        // the one before waited for a lock.
        let begin = client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED");
        let values = parameters(&self.columns);
        let write = client.execute(upsert, &values);
        let given = parameters(&self.given);
        let remember = remember.iter().map(|sql| client.execute(sql, &given));
        let (begun, written, remembered) = join3(begin, write, join_all(remember)).await;
        begun?;
        let affected = written?;
        for done in remembered {
            done?;
        }
        Ok(affected)
    }

    /// Merges what did not take effect as it is into what is stored; tells how many rows took effect altogether.
    async fn merge(&self, client: &ClientWrapper, affected: u64) -> Result<Done, Fault> {
        let view = &self.statements.view;
        let is_told: Vec<bool> = self
            .entities
            .iter()
            .map(|entity| !entity.write.row.is_whole() || entity.in_effect != 1)
            .collect();
        let keys = transposed(self.entities.iter().map(|e| e.write.key.values().iter()));
        let mut values = parameters(&keys);
        values.push(&is_told);
        let statement = client.prepare_cached(&self.statements.merge).await?;
        let found = client.query(&statement, &values).await?;

        let total: u64 = self.entities.iter().map(|entity| entity.in_effect).sum();
        // Of those that are not told each is one whole row, so that to count them is enough.
        let untold = count(self.entities.len()).saturating_sub(affected + count(found.len()));
        let mut in_effect = total.saturating_sub(untold);
        let mut merged = Vec::new();
        for row in &found {
            let position: i64 = row.try_get(0)?;
            let position = usize::try_from(position).unwrap_or_default();
            let (Some(entity), Some((mut stored, generation))) = (
                position.checked_sub(1).and_then(|at| self.entities.get(at)),
                read_row(row, 1, view)?,
            ) else {
                continue;
            };
            if merge_into(view, &mut stored, generation, &entity.write.row)? {
                let key = entity.write.key.clone();
                merged.push(WriteRow { key, row: stored });
            } else {
                in_effect = in_effect.saturating_sub(entity.in_effect);
            }
        }
        if !merged.is_empty() {
            let statement = client.prepare_cached(&self.statements.replace).await?;
            replace(client, &statement, view, &merged).await?;
        }
        Ok(Done {
            in_effect,
            is_as_given: false,
            merged,
        })
    }
}

/// Merges a row into the stored one; says whether that has changed.
///
/// # Errors
/// Where the stored one is of a newer definition, with features that this server does not know yet: to write it back
/// would lose them.
pub(super) fn merge_into(
    view: &FeatureView,
    stored: &mut StoredRow,
    generation: u32,
    row: &StoredRow,
) -> Result<bool, Fault> {
    if generation > view.generation {
        return Err(definition_changed(view).into());
    }
    Ok(stored.merge(row))
}

/// Writes merged rows back, by `Statements::replace`; they are locked.
pub(super) async fn replace(
    client: &Client,
    statement: &Statement,
    view: &FeatureView,
    merged: &[WriteRow],
) -> Result<(), Fault> {
    let times = times(view, merged.iter())?;
    let columns = asked(merged.iter().zip(&times));
    client.execute(statement, &parameters(&columns)).await?;
    Ok(())
}
