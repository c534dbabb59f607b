//! Going through all rows of a view.

use std::time::Duration;

use rusqlite::Connection;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};

use super::{fault::Fault, rows::read_write_row, sql};
use crate::{
    catalog::FeatureView,
    features::{RowSink, Scan, Timestamp, WriteRow},
};

/// Rows that are sent at once.
const BATCH_ROWS: usize = 1_000;

/// Sends the rows of a view, as of one moment, until nobody takes them any more.
pub(super) fn scan(
    connection: &Connection,
    view: &FeatureView,
    scan: Scan,
    sink: &RowSink,
    limit: Duration,
) -> Result<(), Fault> {
    let give_up_at = Instant::now().checked_add(limit);
    let mut select = connection.prepare(&sql::scan(view, scan))?;
    if let Some(since) = scan.since {
        select.raw_bind_parameter(1, Timestamp::micros(since))?;
    }
    let mut rows = select.raw_query();
    let mut batch = Vec::with_capacity(BATCH_ROWS);
    while let Some(row) = rows.next()? {
        batch.push(read_write_row(row, 0, view)?);
        if batch.len() < BATCH_ROWS {
            continue;
        }
        let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_ROWS));
        if !send(sink, full, give_up_at)? {
            return Ok(());
        }
    }
    if !batch.is_empty() {
        send(sink, batch, give_up_at)?;
    }
    Ok(())
}

/// Waits for whoever takes the rows, who may be slower than the bound; says whether there is anybody.
fn send(sink: &RowSink, batch: Vec<WriteRow>, give_up_at: Option<Instant>) -> Result<bool, Fault> {
    let Some(give_up_at) = give_up_at else {
        return Ok(sink.blocking_send(batch).is_ok());
    };
    let sent = Handle::current().block_on(timeout_at(give_up_at, sink.send(batch)));
    sent.map(|sent| sent.is_ok()).map_err(|_| Fault::Late)
}
