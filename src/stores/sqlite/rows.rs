//! Rows of a view's table: reading by key, conditional upserts, loading through a temporary table.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params_from_iter};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};

use super::{
    fault::Fault,
    pool::unwatch,
    values::{Bound, read_cell, read_time},
};
use crate::{
    catalog::FeatureView,
    features::{
        EntityKey, Materialization, RowBatches, StoredRow, Timestamp, Value, WriteCounts, WriteRow,
    },
    stores::{
        statements::Statements,
        table::{
            check_rows, combined, key_names, quoted, quoted_list, signed, source_gone, table_name,
            upsert_tail, value_names,
        },
    },
};

/// The SQL of a view.
pub(super) fn build_statements(view: &FeatureView) -> Statements {
    let table = quoted(&table_name(view));
    let conditions: Vec<String> = key_names(view)
        .map(|name| format!("{} = ?", quoted(name)))
        .collect();
    Statements {
        view: view.clone(),
        read: format!(
            "SELECT {} FROM {table} WHERE {}",
            quoted_list(value_names(view)),
            conditions.join(" AND ")
        ),
        write: insert(view, &table),
    }
}

/// An upsert of one row.
fn insert(view: &FeatureView, table: &str) -> String {
    let columns = quoted_list(key_names(view).chain(value_names(view)));
    let count = view.join_keys.len() + 2 + view.features.len();
    format!(
        "INSERT INTO {table} AS stored ({columns}) VALUES ({}) {}",
        vec!["?"; count].join(", "),
        upsert_tail(view)
    )
}

/// Reads the rows of keys in one transaction, so that they are of one moment.
pub(super) fn read(
    connection: &mut Connection,
    statements: &Statements,
    keys: &[EntityKey],
) -> Result<Vec<Option<StoredRow>>, Fault> {
    let table = table_name(&statements.view);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let mut select = transaction.prepare_cached(&statements.read)?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let bound = params_from_iter(key.values().iter().map(Bound));
        let mut rows = select.query(bound)?;
        let row = rows.next()?;
        found.push(
            row.map(|row| read_row(row, &table, &statements.view))
                .transpose()?,
        );
    }
    Ok(found)
}

fn read_row(row: &Row<'_>, table: &str, view: &FeatureView) -> Result<StoredRow, Fault> {
    let mut values = Vec::with_capacity(view.features.len());
    for (index, field) in view.features.iter().enumerate() {
        values.push(read_cell(row, index + 2, table, field)?);
    }
    Ok(StoredRow {
        event_timestamp: read_time(row, 0, table, "event_timestamp")?,
        created_at: read_time(row, 1, table, "created_at")?,
        values,
        feature_times: None,
    })
}

/// Writes checked rows in one transaction.
pub(super) fn write(
    connection: &mut Connection,
    statements: &Statements,
    rows: Vec<WriteRow>,
) -> Result<WriteCounts, Fault> {
    let row_count = count(rows.len());
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let written = upsert(
        &transaction,
        &statements.write,
        &combined(rows)
            .into_iter()
            .map(|c| c.write)
            .collect::<Vec<_>>(),
    )
    .map_err(|fault| fault.of_view(&statements.view.name))?;
    transaction.commit()?;
    Ok(WriteCounts {
        written,
        late: row_count - written,
    })
}

/// Upserts rows one by one; returns how many took effect.
fn upsert(connection: &Connection, sql: &str, rows: &[WriteRow]) -> Result<u64, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut written = 0;
    for write in rows {
        let times = [
            Value::Timestamp(write.row.event_timestamp),
            Value::Timestamp(write.row.created_at),
        ];
        let values = write.key.values().iter().chain(&times);
        let bound = values.chain(&write.row.values).map(Bound);
        written += count(statement.execute(params_from_iter(bound))?);
    }
    Ok(written)
}

/// Loads batches: into a temporary table as they come, which locks nothing, then into the view's table at once.
pub(super) fn load(
    connection: &mut Connection,
    statements: &Statements,
    batches: RowBatches,
    note: &Materialization,
    limit: Duration,
) -> Result<WriteCounts, Fault> {
    let give_up_at = Instant::now().checked_add(limit);
    let staged = stage(connection, &statements.view, batches, give_up_at);
    let merged = staged.and_then(|row_count| merge(connection, &statements.view, row_count, note));
    // Whatever ended the load, it leaves nothing behind.
    unwatch(connection)?;
    connection.execute_batch("DROP TABLE IF EXISTS temp.ferrocast_stage")?;
    merged.map_err(|fault| fault.of_view(&statements.view.name))
}

/// The temporary table has the view's key, so that the newest row of each entity is all that it keeps.
fn stage(
    connection: &mut Connection,
    view: &FeatureView,
    mut batches: RowBatches,
    give_up_at: Option<Instant>,
) -> Result<u64, Fault> {
    let keys = quoted_list(key_names(view));
    let values = quoted_list(value_names(view));
    connection.execute_batch(&format!(
        "CREATE TEMP TABLE ferrocast_stage ({keys}, {values}, PRIMARY KEY ({keys}))"
    ))?;
    let sql = insert(view, "temp.ferrocast_stage");
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let mut row_count = 0;
    loop {
        let rows = match next_batch(&mut batches, give_up_at)? {
            Some(Some(batch)) => batch?,
            Some(None) => break,
            None => return Err(source_gone().into()),
        };
        check_rows(view, &rows, row_count)?;
        upsert(&transaction, &sql, &rows)?;
        row_count += count(rows.len());
    }
    transaction.commit()?;
    Ok(row_count)
}

/// What a source sends; none where it went away.
type Message = Option<Option<crate::error::Result<Vec<WriteRow>>>>;

/// Waits for the source, which may be slower than the load's bound.
fn next_batch(batches: &mut RowBatches, give_up_at: Option<Instant>) -> Result<Message, Fault> {
    let Some(give_up_at) = give_up_at else {
        return Ok(batches.blocking_recv());
    };
    let received = Handle::current().block_on(timeout_at(give_up_at, batches.recv()));
    received.map_err(|_| Fault::Late)
}

fn merge(
    connection: &mut Connection,
    view: &FeatureView,
    row_count: u64,
    note: &Materialization,
) -> Result<WriteCounts, Fault> {
    let columns = quoted_list(key_names(view).chain(value_names(view)));
    let table = quoted(&table_name(view));
    // Without a WHERE the parser takes ON CONFLICT for a join's ON.
    let sql = format!(
        "INSERT INTO {table} AS stored ({columns}) SELECT {columns} FROM temp.ferrocast_stage WHERE true {}",
        upsert_tail(view)
    );
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let written = count(transaction.execute(&sql, [])?);
    let counts = WriteCounts {
        written,
        late: row_count - written,
    };
    transaction.execute(
        "INSERT INTO ferrocast_materializations (view, source, digest, rows_written, rows_late, finished_at) \
         VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (view, source) DO UPDATE SET digest = excluded.digest, \
         rows_written = excluded.rows_written, rows_late = excluded.rows_late, finished_at = excluded.finished_at",
        (
            &note.view,
            &note.source,
            &note.digest,
            signed(counts.written),
            signed(counts.late),
            Timestamp::now().micros(),
        ),
    )?;
    transaction.commit()?;
    Ok(counts)
}

/// The last materialization of a view from a source.
pub(super) fn last_materialization(
    connection: &Connection,
    view: &str,
    source: &str,
) -> Result<Option<Materialization>, Fault> {
    let sql = "SELECT digest FROM ferrocast_materializations WHERE view = ? AND source = ?";
    let digest: Option<String> = connection
        .prepare_cached(sql)?
        .query_row((view, source), |row| row.get(0))
        .optional()?;
    Ok(digest.map(|digest| Materialization {
        view: view.to_owned(),
        source: source.to_owned(),
        digest,
    }))
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
