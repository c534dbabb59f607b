//! Loading: binary COPY into a table that ends with the transaction, then one statement into the view's table.

use std::pin::pin;

use deadpool_postgres::Transaction;
use tokio_postgres::{
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
};

use super::{
    fault::Fault,
    pool::Database,
    rows::{contention_wait, times},
    values::{Bound, driver_type, sql_type},
};
use crate::{
    catalog::{FeatureView, ValueType},
    error::Result,
    features::{Materialization, RowBatches, Value, WriteCounts},
    stores::table::{
        check_rows, column_types, key_names, quoted, quoted_list, signed, source_gone, table_name,
        upsert_tail, value_names,
    },
};

/// How often the last statement is tried that others got in the way of; the rows need not be sent again.
const MERGE_ATTEMPTS_MAX: u32 = 4;

/// Loads batches in one transaction.
pub(super) async fn load(
    database: &Database,
    view: &FeatureView,
    batches: RowBatches,
    note: &Materialization,
) -> Result<WriteCounts> {
    let bound = database.options().load_timeout;
    let mut lease = database.lease().await?;
    let client = lease.client()?;
    let work = Box::pin(async {
        let mut transaction = client.transaction().await?;
        transaction
            .batch_execute(&format!(
                "SET LOCAL statement_timeout = {}; {}",
                bound.as_millis(),
                create_stage(view)
            ))
            .await?;
        let row_count = copy(&transaction, view, batches).await?;
        let written = merge(&mut transaction, view).await?;
        let counts = WriteCounts {
            written,
            late: row_count - written,
        };
        write_note(&transaction, note, counts).await?;
        transaction.commit().await?;
        Ok(counts)
    });
    let done = database.bounded_as_load(work).await;
    let done = lease.settle(done);
    done.map_err(|fault| fault.at_view(database.target(), &view.name))
}

fn create_stage(view: &FeatureView) -> String {
    let columns: Vec<String> = key_names(view)
        .chain(value_names(view))
        .zip(column_types(view))
        .map(|(name, value_type)| format!("{} {}", quoted(name), sql_type(value_type)))
        .collect();
    // The row's number in its source, so that of equally new rows the first is kept. It has a space: no column can be called so.
    format!(
        "CREATE TEMPORARY TABLE ferrocast_stage (\"row number\" bigint, {}) ON COMMIT DROP",
        columns.join(", ")
    )
}

/// Sends the batches as they come; returns how many rows there were.
async fn copy(
    transaction: &Transaction<'_>,
    view: &FeatureView,
    mut batches: RowBatches,
) -> Result<u64, Fault> {
    let sink = transaction
        .copy_in("COPY ferrocast_stage FROM STDIN BINARY")
        .await?;
    let types: Vec<Type> = [ValueType::Int64]
        .into_iter()
        .chain(column_types(view))
        .map(driver_type)
        .collect();
    // Dropped before its end, the writer takes the copy back.
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    let mut row_count = 0_u64;
    loop {
        let rows = match batches.recv().await {
            Some(Some(batch)) => batch?,
            Some(None) => break,
            None => return Err(source_gone().into()),
        };
        check_rows(view, &rows, row_count)?;
        for write in &rows {
            let number = Value::Int64(signed(row_count));
            let times = times(write);
            let cells = std::iter::once(&number)
                .chain(write.key.values())
                .chain(&times)
                .chain(&write.row.values);
            let bound: Vec<Bound<'_>> = cells.map(Bound).collect();
            let bound: Vec<&(dyn ToSql + Sync)> = bound
                .iter()
                .map(|value| value as &(dyn ToSql + Sync))
                .collect();
            writer.as_mut().write(&bound).await?;
            row_count += 1;
        }
    }
    writer.finish().await?;
    Ok(row_count)
}

/// Upserts the newest row of each entity, in the order in which other writers lock rows; returns how many took effect.
async fn merge(transaction: &mut Transaction<'_>, view: &FeatureView) -> Result<u64, Fault> {
    let columns = quoted_list(key_names(view).chain(value_names(view)));
    let keys: Vec<String> = view
        .join_keys
        .iter()
        .map(|key| match key.value_type {
            // By bytes, as Rust sorts text, whatever the database's collation.
            ValueType::String => format!("{} COLLATE \"C\"", quoted(&key.name)),
            ValueType::Bool
            | ValueType::Int32
            | ValueType::Int64
            | ValueType::Float
            | ValueType::Double
            | ValueType::Bytes
            | ValueType::Timestamp
            | ValueType::List(_) => quoted(&key.name),
        })
        .collect();
    let keys = keys.join(", ");
    let sql = format!(
        "INSERT INTO {} AS stored ({columns}) SELECT {columns} FROM (\
         SELECT DISTINCT ON ({keys}) * FROM ferrocast_stage \
         ORDER BY {keys}, event_timestamp DESC, created_at DESC, \"row number\") AS newest {}",
        quoted(&table_name(view)),
        upsert_tail(view)
    );
    for attempt in 1_u32.. {
        let savepoint = transaction.savepoint("merge").await?;
        match savepoint.execute(&sql, &[]).await.map_err(Fault::from) {
            Ok(written) => {
                savepoint.commit().await?;
                return Ok(written);
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

async fn write_note(
    transaction: &Transaction<'_>,
    note: &Materialization,
    counts: WriteCounts,
) -> Result<(), Fault> {
    transaction
        .execute(
            "INSERT INTO ferrocast_materializations (view, source, digest, rows_written, rows_late) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (view, source) DO UPDATE SET digest = excluded.digest, \
             rows_written = excluded.rows_written, rows_late = excluded.rows_late, finished_at = now()",
            &[
                &note.view,
                &note.source,
                &note.digest,
                &signed(counts.written),
                &signed(counts.late),
            ],
        )
        .await?;
    Ok(())
}
