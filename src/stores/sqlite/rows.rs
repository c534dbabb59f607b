//! Rows of a view's tables: reading by key, writing, deleting.

use std::sync::Arc;

use rusqlite::{
    CachedStatement, Connection, Row, Statement, Transaction, TransactionBehavior, params_from_iter,
};

use super::{
    fault::Fault,
    notices,
    pool::begin_write,
    sql,
    values::{Bound, read_cell, read_time},
};
use crate::{
    catalog::{FeatureView, ValueType},
    features::{AsOf, EntityKey, KeyValues, StoredRow, Timestamp, Value, WriteCounts, WriteRow},
    stores::{
        feature_times::{self, FEATURE_TIMES, GENERATION},
        notices::Notices,
        statements::Statements,
        table::{
            CREATED_AT, Combined, EVENT_TIMESTAMP, combined, definition_changed, history_name,
            key_names, quoted, table_name, unfit_cell,
        },
    },
};

/// Reads the rows of keys in one transaction, so that they are of one moment.
pub(super) fn read(
    connection: &mut Connection,
    statements: &Statements,
    keys: &[EntityKey],
) -> Result<Vec<Option<StoredRow>>, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let found = read_in(&transaction, statements, keys);
    found.map_err(|fault| fault.of_view(&statements.view))
}

fn read_in(
    transaction: &Transaction<'_>,
    statements: &Statements,
    keys: &[EntityKey],
) -> Result<Vec<Option<StoredRow>>, Fault> {
    let mut select = transaction.prepare_cached(&statements.read)?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let stored = find(&mut select, &statements.view, key)?;
        found.push(stored.map(|(row, _)| row));
    }
    Ok(found)
}

/// Reads what was true of keys at a moment, in one transaction.
pub(super) fn read_as_of(
    connection: &mut Connection,
    view: &FeatureView,
    keys: &[EntityKey],
    at: Timestamp,
) -> Result<Vec<Option<StoredRow>>, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let mut select = transaction.prepare_cached(&sql::as_of(view))?;
    let found = keys.iter().map(|key| {
        let found = find_as_of(&mut select, view, key, at);
        found.map_err(|fault| fault.of_view(view))
    });
    found.collect()
}

fn find_as_of(
    select: &mut CachedStatement<'_>,
    view: &FeatureView,
    key: &EntityKey,
    at: Timestamp,
) -> Result<Option<StoredRow>, Fault> {
    let at_value = Value::Timestamp(at);
    let bound = key.values().iter().chain([&at_value]).map(Bound);
    let mut rows = select.query(params_from_iter(bound))?;
    let mut known = AsOf::new(at);
    while let Some(row) = rows.next()? {
        let (row, _) = read_row(row, 0, view).map_err(|fault| fault.of_entity(key))?;
        if !known.add(row) {
            break;
        }
    }
    Ok(known.finish())
}

/// The row of a key, with the generation that it was written in.
fn find(
    select: &mut CachedStatement<'_>,
    view: &FeatureView,
    key: &EntityKey,
) -> Result<Option<(StoredRow, u32)>, Fault> {
    let bound = params_from_iter(key.values().iter().map(Bound));
    let mut rows = select.query(bound)?;
    let row = rows.next()?;
    let read = |row| read_row(row, 0, view).map_err(|fault| fault.of_entity(key));
    row.map(read).transpose()
}

/// Reads a key and a row from columns in the order of `column_names`, of which `first` is the first.
pub(super) fn read_write_row(
    row: &Row<'_>,
    first: usize,
    view: &FeatureView,
) -> Result<WriteRow, Fault> {
    let mut key = KeyValues::with_capacity(view.join_keys.len());
    for (index, field) in view.join_keys.iter().enumerate() {
        key.push(read_cell(row, first + index, view, field)?);
    }
    let key = EntityKey::new(key)?;
    let stored = read_row(row, first + view.join_keys.len(), view);
    let (stored, _) = stored.map_err(|fault| fault.of_entity(&key))?;
    Ok(WriteRow { key, row: stored })
}

/// Reads a row from columns in the order of `row_names`, of which `first` is the first, and its generation.
pub(super) fn read_row(
    row: &Row<'_>,
    first: usize,
    view: &FeatureView,
) -> Result<(StoredRow, u32), Fault> {
    let mut values = Vec::with_capacity(view.features.len());
    for (index, field) in view.features.iter().enumerate() {
        values.push(read_cell(row, first + 2 + index, view, field)?);
    }
    let times_at = first + 2 + values.len();
    let generation = generation(row, times_at + 1, view)?;
    let times = row.get_ref(times_at)?.as_str_or_null();
    let times = times.map_err(|_| unfit_cell(view, FEATURE_TIMES, ValueType::String))?;
    let mut stored = StoredRow {
        event_timestamp: read_time(row, first, view, EVENT_TIMESTAMP)?,
        created_at: read_time(row, first + 1, view, CREATED_AT)?,
        values,
        feature_times: None,
    };
    stored.feature_times = feature_times::decode(view, stored.time(), times, generation)?;
    Ok((stored, generation))
}

/// Rows that came by plain SQL name no generation: they are of the view as it is.
fn generation(row: &Row<'_>, index: usize, view: &FeatureView) -> Result<u32, Fault> {
    let unfit = |_| unfit_cell(view, GENERATION, ValueType::Int64);
    let stored: Option<u32> = row.get(index).map_err(unfit)?;
    Ok(stored.unwrap_or(view.generation))
}

/// Binds a row to a statement whose parameters are in the order of `column_names`.
pub(super) fn bind_row(
    statement: &mut Statement<'_>,
    view: &FeatureView,
    write: &WriteRow,
) -> Result<(), Fault> {
    let mut index = 0;
    let mut next = || {
        index += 1;
        index
    };
    for value in write.key.values() {
        statement.raw_bind_parameter(next(), Bound(value))?;
    }
    statement.raw_bind_parameter(next(), write.row.event_timestamp.micros())?;
    statement.raw_bind_parameter(next(), write.row.created_at.micros())?;
    for value in &write.row.values {
        statement.raw_bind_parameter(next(), Bound(value))?;
    }
    statement.raw_bind_parameter(next(), feature_times::encode(view, &write.row)?)?;
    statement.raw_bind_parameter(next(), view.generation)?;
    Ok(())
}

/// Writes checked rows in one transaction, with a notice where any takes effect; returns those that did as they are
/// stored now.
pub(super) fn write(
    connection: &mut Connection,
    statements: &Statements,
    rows: Vec<WriteRow>,
    notice: &str,
) -> Result<(WriteCounts, Vec<WriteRow>), Fault> {
    let row_count = count(rows.len());
    let transaction = begin_write(connection)?;
    let (written, stored) = write_in(&transaction, statements, rows)
        .map_err(|fault| fault.of_view(&statements.view))?;
    if written > 0 {
        notices::add(&transaction, notice)?;
    }
    transaction.commit()?;
    let counts = WriteCounts {
        written,
        late: row_count - written,
    };
    Ok((counts, stored))
}

fn write_in(
    transaction: &Transaction<'_>,
    statements: &Statements,
    rows: Vec<WriteRow>,
) -> Result<(u64, Vec<WriteRow>), Fault> {
    for sql in &statements.history {
        let mut statement = transaction.prepare_cached(sql)?;
        for write in &rows {
            bind_row(&mut statement, &statements.view, write)?;
            statement.raw_execute()?;
        }
    }
    let mut merger = Merger::new(transaction, statements)?;
    let mut upsert = transaction.prepare_cached(&statements.write)?;
    let (mut written, mut stored) = (0, Vec::new());
    for Combined { write, in_effect } in combined(rows) {
        // Mostly a row is whole and newer than what is stored: one statement then.
        let mut is_changed = false;
        if write.row.is_whole() {
            bind_row(&mut upsert, &statements.view, &write)?;
            is_changed = upsert.raw_execute()? > 0;
        }
        let changed = match is_changed {
            true => Some(write),
            false => merger.merge(write)?,
        };
        if let Some(write) = changed {
            written += in_effect;
            stored.push(write);
        }
    }
    Ok((written, stored))
}

/// Merges rows into what is stored, one by one, by reading it first.
pub(super) struct Merger<'a> {
    view: &'a FeatureView,
    select: CachedStatement<'a>,
    replace: CachedStatement<'a>,
}

impl<'a> Merger<'a> {
    pub(super) fn new(
        transaction: &'a Transaction<'_>,
        statements: &'a Statements,
    ) -> Result<Merger<'a>, Fault> {
        Ok(Merger {
            view: &statements.view,
            select: transaction.prepare_cached(&statements.merge)?,
            replace: transaction.prepare_cached(&statements.replace)?,
        })
    }

    /// The row as it is stored now; none where it has not changed.
    pub(super) fn merge(&mut self, mut write: WriteRow) -> Result<Option<WriteRow>, Fault> {
        if let Some((mut stored, generation)) = find(&mut self.select, self.view, &write.key)? {
            if generation > self.view.generation {
                return Err(definition_changed(self.view).into());
            }
            if !stored.merge(&write.row) {
                return Ok(None);
            }
            write.row = stored;
        }
        bind_row(&mut self.replace, self.view, &write)?;
        self.replace.raw_execute()?;
        Ok(Some(write))
    }
}

/// Takes an entity out of views and their histories; returns how many of them knew it.
pub(super) fn delete(
    connection: &mut Connection,
    own: &Notices,
    views: &[Arc<FeatureView>],
    key: &EntityKey,
) -> Result<u64, Fault> {
    let transaction = begin_write(connection)?;
    let mut known = 0;
    for view in views {
        let tables = [
            Some(table_name(view)),
            view.history.then(|| history_name(view)),
        ];
        let mut deleted = 0;
        for table in tables.into_iter().flatten() {
            let of_table = delete_from(&transaction, view, &table, key);
            deleted += of_table.map_err(|fault| fault.of_view(view))?;
        }
        if deleted > 0 {
            let notice = own.of(view, Some(std::slice::from_ref(key)));
            notices::add(&transaction, &notice)?;
        }
        known += u64::from(deleted > 0);
    }
    transaction.commit()?;
    Ok(known)
}

fn delete_from(
    transaction: &Transaction<'_>,
    view: &FeatureView,
    table: &str,
    key: &EntityKey,
) -> Result<usize, Fault> {
    let conditions: Vec<String> = key_names(view)
        .map(|name| format!("{} = ?", quoted(name)))
        .collect();
    let sql = format!(
        "DELETE FROM {} WHERE {}",
        quoted(table),
        conditions.join(" AND ")
    );
    let bound = params_from_iter(key.values().iter().map(Bound));
    Ok(transaction.prepare_cached(&sql)?.execute(bound)?)
}

pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
