//! Loading: into temporary tables as the rows come, which locks nothing, then into the view's tables at once.

use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    fault::Fault,
    notices,
    pool::{begin_write, unwatch},
    query,
    rows::{Merger, bind_row, count, read_write_row},
    sql::{insert, upsert_tail},
};
use crate::{
    catalog::FeatureView,
    error::Error,
    features::{LoadInput, Materialization, RowBatches, Timestamp, WriteCounts, WriteRow},
    stores::{
        statements::Statements,
        table::{
            check_rows, check_whole, column_names, history_name, key_names, quoted, quoted_list,
            signed, source_gone, table_name,
        },
    },
};

/// The newest row of each entity. The row's number has a space in its name: no column of a view can be called so.
const STAGE: &str = "temp.ferrocast_stage";

/// Every row, for the history.
const STAGE_HISTORY: &str = "temp.ferrocast_stage_history";

/// Staged rows that are in memory at once.
const REST_ROWS: usize = 1_000;

/// What has been staged.
#[derive(Default)]
struct Staged {
    row_count: u64,
    newest: Option<Timestamp>,
}

/// What is written down with a load.
pub(super) struct Notes {
    /// What was loaded.
    pub(super) load: Materialization,
    /// What others are told where any row took effect.
    pub(super) notice: String,
}

/// Loads rows, or those of the source's query; nothing where the caller is gone before the end.
pub(super) fn load(
    connection: &mut Connection,
    statements: &Statements,
    input: LoadInput,
    notes: &Notes,
    limit: Duration,
    gone: &CancellationToken,
) -> Result<WriteCounts, Fault> {
    let give_up_at = Instant::now().checked_add(limit);
    let staged = stage(connection, &statements.view, input, give_up_at);
    let merged = staged.and_then(|staged| merge(connection, statements, &staged, notes, gone));
    // Whatever ended the load, it leaves nothing behind.
    unwatch(connection)?;
    connection.execute_batch(&format!(
        "DROP TABLE IF EXISTS {STAGE}; DROP TABLE IF EXISTS {STAGE_HISTORY}"
    ))?;
    merged.map_err(|fault| fault.of_view(&statements.view))
}

fn stage(
    connection: &mut Connection,
    view: &FeatureView,
    input: LoadInput,
    give_up_at: Option<Instant>,
) -> Result<Staged, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let mut staged = Staged::default();
    let statements = create_stage(&transaction, view)?;
    let mut add = |rows: Vec<WriteRow>| {
        check_rows(view, &rows, staged.row_count)?;
        check_whole(view, &rows)?;
        for sql in &statements {
            let mut statement = transaction.prepare_cached(sql)?;
            for write in &rows {
                bind_row(&mut statement, view, write)?;
                statement.raw_execute()?;
            }
        }
        let newest = rows.iter().map(|write| write.row.event_timestamp).max();
        staged.newest = staged.newest.max(newest);
        staged.row_count += count(rows.len());
        Ok(())
    };
    match input {
        LoadInput::Rows(mut batches) => loop {
            match next_batch(&mut batches, give_up_at)? {
                Some(Some(batch)) => add(batch?)?,
                Some(None) => break,
                None => return Err(source_gone().into()),
            }
        },
        LoadInput::Query { since } => query::read(&transaction, view, since, add)?,
    }
    transaction.commit()?;
    Ok(staged)
}

/// Makes the tables; returns what stages a row.
fn create_stage(transaction: &Transaction<'_>, view: &FeatureView) -> Result<Vec<String>, Fault> {
    let columns = quoted_list(column_names(view));
    let keys = quoted_list(key_names(view));
    transaction.execute_batch(&format!(
        "CREATE TEMP TABLE ferrocast_stage (\"row number\" INTEGER PRIMARY KEY, {columns}, UNIQUE ({keys}))"
    ))?;
    let mut statements = vec![format!("{} {}", insert(view, STAGE), upsert_tail(view))];
    if view.history {
        let unique = format!("{keys}, event_timestamp, created_at");
        transaction.execute_batch(&format!(
            "CREATE TEMP TABLE ferrocast_stage_history ({columns}, UNIQUE ({unique}))"
        ))?;
        let insert = insert(view, STAGE_HISTORY);
        statements.push(format!("{insert} ON CONFLICT ({unique}) DO NOTHING"));
    }
    Ok(statements)
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
    statements: &Statements,
    staged: &Staged,
    notes: &Notes,
    gone: &CancellationToken,
) -> Result<WriteCounts, Fault> {
    let view = &statements.view;
    let columns = quoted_list(column_names(view));
    let transaction = begin_write(connection)?;
    if view.history {
        add_history(&transaction, view)?;
    }
    // Without a WHERE the parser takes ON CONFLICT for a join's ON.
    let sql = format!(
        "INSERT INTO {} AS stored ({columns}) SELECT {columns} FROM {STAGE} WHERE true {}",
        quoted(&table_name(view)),
        upsert_tail(view)
    );
    let mut written = count(transaction.execute(&sql, [])?);
    if written < staged.row_count {
        written += merge_rest(&transaction, statements)?;
    }
    let counts = WriteCounts {
        written,
        late: staged.row_count - written,
    };
    write_note(&transaction, &notes.load, counts, staged.newest)?;
    if written > 0 {
        notices::add(&transaction, &notes.notice)?;
    }
    // A small load may be done before SQLite has looked once whether it is to stop.
    if gone.is_cancelled() {
        return Err(Error::unavailable("nobody waits for this load; nothing was written").into());
    }
    transaction.commit()?;
    Ok(counts)
}

/// Adds the staged rows to the history but those that are there; a row from before features were added goes first.
fn add_history(transaction: &Transaction<'_>, view: &FeatureView) -> Result<(), Fault> {
    let table = quoted(&history_name(view));
    let columns = quoted_list(column_names(view));
    let keys = quoted_list(key_names(view));
    let same = format!("({keys}, event_timestamp, created_at)");
    if !view.added.is_empty() {
        let sql = format!(
            "DELETE FROM {table} WHERE _feature_times IS NULL AND _generation < ? \
             AND {same} IN (SELECT {keys}, event_timestamp, created_at FROM {STAGE_HISTORY})"
        );
        transaction.execute(&sql, [view.generation])?;
    }
    let conditions: Vec<String> = key_names(view)
        .chain(["event_timestamp", "created_at"])
        .map(|name| format!("kept.{0} = staged.{0}", quoted(name)))
        .collect();
    let sql = format!(
        "INSERT INTO {table} ({columns}) SELECT {columns} FROM {STAGE_HISTORY} AS staged WHERE NOT EXISTS \
         (SELECT 1 FROM {table} AS kept WHERE {} AND kept._feature_times IS NULL)",
        conditions.join(" AND ")
    );
    transaction.execute(&sql, [])?;
    Ok(())
}

/// Merges what could not be written at once: rows that meet a partial row, or one from before features were added.
fn merge_rest(transaction: &Transaction<'_>, statements: &Statements) -> Result<u64, Fault> {
    let view = &statements.view;
    let conditions: Vec<String> = key_names(view)
        .map(|name| format!("stored.{0} = staged.{0}", quoted(name)))
        .collect();
    let sql = format!(
        "SELECT \"row number\", {} FROM {STAGE} AS staged WHERE \"row number\" > ? AND EXISTS \
         (SELECT 1 FROM {} AS stored WHERE {} AND (stored._feature_times IS NOT NULL OR stored._generation <> ?)) \
         ORDER BY \"row number\" LIMIT {REST_ROWS}",
        quoted_list(column_names(view)),
        quoted(&table_name(view)),
        conditions.join(" AND "),
    );
    let mut select = transaction.prepare(&sql)?;
    let mut merger = Merger::new(transaction, statements)?;
    let mut last = 0_i64;
    let mut written = 0;
    loop {
        let mut rows = Vec::new();
        let mut found = select.query((last, view.generation))?;
        while let Some(row) = found.next()? {
            last = row.get(0)?;
            rows.push(read_write_row(row, 1, view)?);
        }
        drop(found);
        if rows.is_empty() {
            return Ok(written);
        }
        for write in rows {
            written += u64::from(merger.merge(write)?.is_some());
        }
    }
}

fn write_note(
    transaction: &Transaction<'_>,
    note: &Materialization,
    counts: WriteCounts,
    newest: Option<Timestamp>,
) -> Result<(), Fault> {
    // A watermark never goes back.
    transaction.execute(
        "INSERT INTO ferrocast_materializations AS known \
         (view, source, digest, rows_written, rows_late, finished_at, watermark) VALUES (?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (view, source) DO UPDATE SET digest = excluded.digest, \
         rows_written = excluded.rows_written, rows_late = excluded.rows_late, finished_at = excluded.finished_at, \
         watermark = max(ifnull(known.watermark, excluded.watermark), ifnull(excluded.watermark, known.watermark))",
        (
            &note.view,
            &note.source,
            &note.digest,
            signed(counts.written),
            signed(counts.late),
            Timestamp::now().micros(),
            newest.map(Timestamp::micros),
        ),
    )?;
    Ok(())
}
