//! Loading: rows, or the result of a query, into a table that ends with the transaction, then one statement into the
//! view's table.

use deadpool_postgres::Transaction;
use tokio_postgres::{IsolationLevel, Row};

use super::{
    fault::Fault,
    history::{self, Incoming},
    listen,
    pool::Database,
    query_load,
    rows::{cell, contention_wait, read_row},
    sql,
    stage::{self, STAGE, Staged},
    values::{Bound, Cell},
    write::{merge_into, replace},
};
use crate::{
    catalog::FeatureView,
    error::Result,
    features::{
        EntityKey, KeyValues, LoadInput, Materialization, MaterializationRecord, Timestamp, Value,
        WriteCounts, WriteRow,
    },
    stores::{
        notices::Notices,
        statements::Statements,
        table::{column_names, key_names, quoted, quoted_list, signed, table_name, value_names},
    },
};

/// How often the last statement is tried that others got in the way of; the rows need not be sent again.
const MERGE_ATTEMPTS_MAX: u32 = 4;

/// Rows that are merged in Rust at once.
const MERGE_ROWS: i32 = 1_000;

/// Loads in one transaction.
pub(super) async fn load(
    database: &Database,
    statements: &Statements,
    notices: &Notices,
    input: LoadInput,
    note: &Materialization,
) -> Result<WriteCounts> {
    let view = &statements.view;
    let bound_ms = database.options().load_timeout.as_millis();
    let mut lease = database.lease().await?;
    let client = lease.client()?;
    let work = Box::pin(async {
        let mut transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::ReadCommitted)
            .start()
            .await?;
        let setup = format!(
            "SET LOCAL statement_timeout = {bound_ms}; {}",
            stage::create(view)
        );
        transaction.batch_execute(&setup).await?;
        let staged = match input {
            LoadInput::Rows(batches) => stage::copy(&transaction, view, batches).await?,
            LoadInput::Query { since } => query_load::fill(&transaction, view, since).await?,
        };
        let mut written = upsert(&mut transaction, view, &staged).await?;
        if written < staged.row_count {
            written += merge_late(&transaction, statements, &staged).await?;
        }
        if view.history {
            for sql in remember(view, &staged) {
                transaction.execute(&sql, &[]).await?;
            }
        }
        let counts = WriteCounts {
            written,
            late: staged.row_count.saturating_sub(written),
        };
        write_note(&transaction, note, counts, staged.newest).await?;
        if written > 0 {
            let notice = notices.of(view, None);
            transaction.batch_execute(&listen::tell(&notice)).await?;
        }
        transaction.commit().await?;
        Ok(counts)
    });
    let done = database.bounded_as_load(work).await;
    let done = lease.settle(done);
    done.map_err(|fault| fault.at_view(database.target(), view))
}

/// The newest row of each entity in the stage, as SQL that can stand after FROM, in the order in which other writers lock
/// rows. Of equally new ones the first.
fn newest_staged(view: &FeatureView, staged: &Staged) -> String {
    if staged.is_in_order {
        return STAGE.to_owned();
    }
    let keys = ordered_keys(view);
    format!(
        "(SELECT DISTINCT ON ({keys}) {} FROM {STAGE} ORDER BY {keys}, event_timestamp DESC, created_at DESC, ctid)",
        stage::columns(view)
    )
}

/// The join keys in the order of `Combined`.
fn ordered_keys(view: &FeatureView) -> String {
    let keys: Vec<String> = key_names(view).map(quoted).collect();
    sql::by_bytes(view, &keys).join(", ")
}

/// Writes the rows that take effect as they are, and locks the others; returns how many took effect.
async fn upsert(
    transaction: &mut Transaction<'_>,
    view: &FeatureView,
    staged: &Staged,
) -> Result<u64, Fault> {
    let table = quoted(&table_name(view));
    let insert = format!(
        "INSERT INTO {table} AS stored ({}) SELECT {}, NULL, {} FROM {} AS newest",
        quoted_list(column_names(view)),
        stage::columns(view),
        view.generation,
        newest_staged(view, staged)
    );
    let upsert = format!("{insert} {}", sql::upsert_tail(view));
    let is_empty = format!("SELECT NOT EXISTS (SELECT FROM {table})");
    // Not to look for a row before each one takes half the time. Should somebody write meanwhile, the server says so.
    let mut is_empty: bool = transaction.query_one(&is_empty, &[]).await?.try_get(0)?;
    for attempt in 1_u32.. {
        let sql = if is_empty { &insert } else { &upsert };
        let savepoint = transaction.savepoint("upsert").await?;
        match savepoint.execute(sql, &[]).await.map_err(Fault::from) {
            Ok(written) => {
                savepoint.commit().await?;
                return Ok(written);
            }
            Err(fault) if is_empty && fault.is_of_duplicate() => {
                savepoint.rollback().await?;
                is_empty = false;
            }
            Err(fault) if fault.is_contention() && attempt < MERGE_ATTEMPTS_MAX => {
                savepoint.rollback().await?;
                contention_wait(attempt).await;
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(0)
}

/// Merges late rows into stored ones of which some features are older than the row; returns how many took effect.
async fn merge_late(
    transaction: &Transaction<'_>,
    statements: &Statements,
    staged: &Staged,
) -> Result<u64, Fault> {
    let view = &statements.view;
    let join = |newest: &str| {
        format!(
            "FROM {newest} AS newest JOIN {} AS stored ON {} WHERE {}",
            quoted(&table_name(view)),
            sql::same_keys(view, "stored", "newest"),
            sql::needs_merge(view)
        )
    };
    let any = format!("SELECT EXISTS (SELECT {})", join(STAGE));
    let is_any: bool = transaction.query_one(&any, &[]).await?.try_get(0)?;
    if !is_any {
        return Ok(0);
    }
    let columns: Vec<String> = key_names(view)
        .chain(value_names(view))
        .map(|name| format!("newest.{}", quoted(name)))
        .collect();
    let sql = format!(
        "SELECT {}, NULL::text, {}, {} {}",
        columns.join(", "),
        view.generation,
        sql::stored_columns(view, "stored"),
        join(&newest_staged(view, staged))
    );
    let statement = transaction.prepare(&sql).await?;
    let portal = transaction.bind(&statement, &[]).await?;
    let rewrite = transaction.prepare(&statements.replace).await?;
    let mut written = 0;
    loop {
        let found = transaction.query_portal(&portal, MERGE_ROWS).await?;
        if found.is_empty() {
            return Ok(written);
        }
        let merged = found
            .iter()
            .filter_map(|row| merged_row(view, row).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        if !merged.is_empty() {
            replace(transaction.client(), &rewrite, view, &merged).await?;
        }
        written += u64::try_from(merged.len()).unwrap_or(u64::MAX);
    }
}

/// A row with what a late one brings; none where it brings nothing.
fn merged_row(view: &FeatureView, row: &Row) -> Result<Option<WriteRow>, Fault> {
    let key_count = view.join_keys.len();
    let mut key = KeyValues::with_capacity(key_count);
    for (index, field) in view.join_keys.iter().enumerate() {
        key.push(cell(row, index, view, &field.name, field.value_type)?);
    }
    // Both times and two columns of ours.
    let row_columns = view.features.len() + 4;
    let (Some((late, _)), Some((mut stored, generation))) = (
        read_row(row, key_count, view)?,
        read_row(row, key_count + row_columns, view)?,
    ) else {
        return Ok(None);
    };
    let is_changed = merge_into(view, &mut stored, generation, &late)?;
    let key = EntityKey::new(key)?;
    Ok(is_changed.then_some(WriteRow { key, row: stored }))
}

/// The SQL that adds the staged rows to the history.
fn remember(view: &FeatureView, staged: &Staged) -> Vec<String> {
    let column = |name: &str| format!("staged.{}", quoted(name));
    let identity = key_names(view).chain(["event_timestamp", "created_at"]);
    let incoming = Incoming {
        relation: format!("{STAGE} AS staged"),
        identity: identity.map(column).collect(),
        values: view.features.iter().map(|f| column(&f.name)).collect(),
        feature_times: None,
        order: (!staged.is_in_order).then(|| "staged.ctid".to_owned()),
    };
    history::remember(view, &incoming)
}

async fn write_note(
    transaction: &Transaction<'_>,
    note: &Materialization,
    counts: WriteCounts,
    newest: Option<Timestamp>,
) -> Result<(), Fault> {
    let newest = newest.map_or(Value::Null, Value::Timestamp);
    transaction
        .execute(
            "INSERT INTO ferrocast_materializations AS known \
             (view, source, digest, rows_written, rows_late, watermark, finished_at) \
             VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp()) ON CONFLICT (view, source) DO UPDATE SET \
             digest = excluded.digest, rows_written = excluded.rows_written, rows_late = excluded.rows_late, \
             watermark = greatest(known.watermark, excluded.watermark), finished_at = excluded.finished_at",
            &[
                &note.view,
                &note.source,
                &note.digest,
                &signed(counts.written),
                &signed(counts.late),
                &Bound(&newest),
            ],
        )
        .await?;
    Ok(())
}

/// What was loaded into a view, by source.
pub(super) async fn records(database: &Database, view: &str) -> Result<Vec<MaterializationRecord>> {
    let mut lease = database.lease().await?;
    let asked = async {
        let client = lease.client()?;
        let sql = "SELECT source, digest, rows_written, rows_late, watermark, finished_at \
                   FROM ferrocast_materializations WHERE view = $1 ORDER BY source COLLATE \"C\"";
        let statement = client.prepare_cached(sql).await?;
        let found = client.query(&statement, &[&view]).await?;
        found.iter().map(|row| record(view, row)).collect()
    };
    let answer = database.bounded::<Vec<_>, Fault>(asked).await;
    let answer = lease.settle(answer);
    answer.map_err(|fault| fault.at(database.target()))
}

fn record(view: &str, row: &Row) -> Result<MaterializationRecord, Fault> {
    let count = |index| {
        let count: i64 = row.try_get(index)?;
        Ok::<_, Fault>(u64::try_from(count).unwrap_or_default())
    };
    let time = |index| {
        let cell: Cell = row.try_get(index)?;
        Ok::<_, Fault>(cell.timestamp())
    };
    Ok(MaterializationRecord {
        note: Materialization {
            view: view.to_owned(),
            source: row.try_get(0)?,
            digest: row.try_get(1)?,
        },
        counts: WriteCounts {
            written: count(2)?,
            late: count(3)?,
        },
        watermark: time(4)?,
        finished_at: time(5)?.unwrap_or(Timestamp::EPOCH),
    })
}
