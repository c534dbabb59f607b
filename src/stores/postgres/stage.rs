//! The rows of a load on their way in: a table that ends with the transaction, filled by binary COPY.

use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use deadpool_postgres::Transaction;
use futures_util::SinkExt;

use super::{
    fault::Fault,
    values::{postgres_micros, put_cell, sql_type},
};
use crate::{
    catalog::FeatureView,
    error::Error,
    features::{EntityKey, RowBatches, Timestamp, Value, WriteRow},
    stores::table::{
        check_rows, check_whole, column_types, key_names, key_order, quoted, quoted_list,
        source_gone, value_names,
    },
};

/// The table's name.
pub(super) const STAGE: &str = "ferrocast_stage";

/// How much is sent at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// What begins a binary COPY: the signature, no flags, no extension.
const COPY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What ends one.
const COPY_END: i16 = -1;

/// What is in the table.
#[derive(Debug, Default)]
pub(super) struct Staged {
    /// How many rows.
    pub(super) row_count: u64,
    /// Whether they are in the order of their keys, with one row an entity.
    pub(super) is_in_order: bool,
    /// The newest event timestamp.
    pub(super) newest: Option<Timestamp>,
}

/// The SQL that makes the table.
pub(super) fn create(view: &FeatureView) -> String {
    let columns: Vec<String> = key_names(view)
        .chain(value_names(view))
        .zip(column_types(view))
        .map(|(name, value_type)| format!("{} {}", quoted(name), sql_type(value_type)))
        .collect();
    format!(
        "CREATE TEMPORARY TABLE {STAGE} ({}) ON COMMIT DROP",
        columns.join(", ")
    )
}

/// Sends batches of rows as they come.
pub(super) async fn copy(
    transaction: &Transaction<'_>,
    view: &FeatureView,
    mut batches: RowBatches,
) -> Result<Staged, Fault> {
    let sql = format!("COPY {STAGE} FROM STDIN BINARY");
    // Dropped before its end, the sink takes the copy back.
    let mut sink = pin!(transaction.copy_in::<_, Bytes>(&sql).await?);
    let mut encoder = Encoder::new(view)?;
    let mut staged = Staged {
        is_in_order: true,
        ..Staged::default()
    };
    let mut last_key: Option<EntityKey> = None;
    loop {
        let rows = match batches.recv().await {
            Some(Some(batch)) => batch?,
            Some(None) => break,
            None => return Err(source_gone().into()),
        };
        check_rows(view, &rows, staged.row_count)?;
        check_whole(view, &rows)?;
        for write in &rows {
            encoder.add(write)?;
            if encoder.out.len() >= CHUNK_BYTES {
                sink.send(encoder.out.split().freeze()).await?;
            }
        }
        staged.row_count += u64::try_from(rows.len()).unwrap_or(u64::MAX);
        let newest = rows.iter().map(|write| write.row.event_timestamp).max();
        staged.newest = staged.newest.max(newest);
        staged.is_in_order = staged.is_in_order && are_in_order(last_key.as_ref(), &rows);
        last_key = rows
            .into_iter()
            .next_back()
            .map(|write| write.key)
            .or(last_key);
    }
    encoder.out.put_i16(COPY_END);
    sink.send(encoder.out.split().freeze()).await?;
    sink.finish().await?;
    Ok(staged)
}

/// Whether each key comes after the one before.
fn are_in_order(before: Option<&EntityKey>, rows: &[WriteRow]) -> bool {
    let mut keys = before
        .into_iter()
        .chain(rows.iter().map(|write| &write.key));
    let Some(mut last) = keys.next() else {
        return true;
    };
    keys.all(|key| {
        let is_after = key_order(last, key).is_lt();
        last = key;
        is_after
    })
}

/// Rows as COPY takes them, without a call or an allocation a cell.
struct Encoder {
    column_count: i16,
    out: BytesMut,
}

impl Encoder {
    fn new(view: &FeatureView) -> Result<Encoder, Fault> {
        let column_count = i16::try_from(column_types(view).count())
            .map_err(|fault| Error::internal("a view of too many columns").with_source(fault))?;
        let mut out = BytesMut::with_capacity(2 * CHUNK_BYTES);
        out.put_slice(COPY_HEAD);
        Ok(Encoder { column_count, out })
    }

    fn add(&mut self, write: &WriteRow) -> Result<(), Fault> {
        self.out.put_i16(self.column_count);
        self.add_cells(write.key.values())?;
        for time in [write.row.event_timestamp, write.row.created_at] {
            self.out.put_i32(8);
            self.out.put_i64(postgres_micros(time));
        }
        self.add_cells(&write.row.values)
    }

    fn add_cells(&mut self, values: &[Value]) -> Result<(), Fault> {
        for value in values {
            put_cell(value, &mut self.out).map_err(|fault| {
                Error::invalid("rows", "a value that is too large to be stored").with_source(fault)
            })?;
        }
        Ok(())
    }
}

/// The columns of the table, as SQL text.
pub(super) fn columns(view: &FeatureView) -> String {
    quoted_list(key_names(view).chain(value_names(view)))
}
