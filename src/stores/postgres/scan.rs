//! Going through the rows of a view, as of one moment, some at a time.

use deadpool_postgres::Transaction;
use tokio_postgres::{IsolationLevel, Row};

use super::{
    fault::Fault,
    pool::Database,
    rows::{cell, read_row},
    values::Bound,
};
use crate::{
    catalog::FeatureView,
    features::{EntityKey, KeyValues, RowSink, Timestamp, Value, WriteRow},
};

/// Rows that are asked for, and handed on, at once.
const BATCH_ROWS: i32 = 1_000;

/// Sends the rows of a query of `sql` or `existing` until they or the receiver end.
pub(super) async fn scan(
    database: &Database,
    view: &FeatureView,
    sql: &str,
    since: Option<Timestamp>,
    sink: RowSink,
) -> Result<(), Fault> {
    let bound_ms = database.options().load_timeout.as_millis();
    let mut lease = database.lease().await?;
    let client = lease.client()?;
    let work = Box::pin(async {
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        // The connection's own bound is that of a request.
        let bound = format!("SET LOCAL statement_timeout = {bound_ms}");
        transaction.batch_execute(&bound).await?;
        send_rows(&transaction, view, sql, since, &sink).await?;
        transaction.rollback().await?;
        Ok::<_, Fault>(())
    });
    let done = database.bounded_as_load(work).await;
    lease.settle(done)
}

async fn send_rows(
    transaction: &Transaction<'_>,
    view: &FeatureView,
    sql: &str,
    since: Option<Timestamp>,
    sink: &RowSink,
) -> Result<(), Fault> {
    let since = since.map_or(Value::Null, Value::Timestamp);
    let statement = transaction.prepare(sql).await?;
    let portal = transaction.bind(&statement, &[&Bound(&since)]).await?;
    loop {
        let found = transaction.query_portal(&portal, BATCH_ROWS).await?;
        if found.is_empty() {
            return Ok(());
        }
        let batch = found
            .iter()
            .filter_map(|row| write_row(row, view).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        if sink.send(batch).await.is_err() {
            return Ok(());
        }
    }
}

fn write_row(row: &Row, view: &FeatureView) -> Result<Option<WriteRow>, Fault> {
    let mut values = KeyValues::with_capacity(view.join_keys.len());
    for (index, key) in view.join_keys.iter().enumerate() {
        values.push(cell(row, index, view, &key.name, key.value_type)?);
    }
    let key = EntityKey::new(values)?;
    let found = read_row(row, view.join_keys.len(), view);
    let found = found.map_err(|fault| fault.of_entity(&key))?;
    Ok(found.map(|(row, _)| WriteRow { key, row }))
}
