//! Reading the past of entities: their history, the newest row first, until all is said.

use deadpool_postgres::Transaction;
use tokio_postgres::{IsolationLevel, Statement};

use super::{
    fault::Fault,
    pool::Database,
    rows::{parameters, read_row, transposed},
    sql,
    values::Bound,
};
use crate::{
    catalog::FeatureView,
    features::{AsOf, EntityKey, StoredRow, Timestamp, Value},
    stores::table::is_storable,
};

/// Rows that are asked for first. A whole row says all; after it, more are asked for.
const FIRST_ROWS: i32 = 1;
const MORE_ROWS: i32 = 500;

/// Reads what was true of keys at a moment, in their order, in one transaction.
pub(super) async fn read(
    database: &Database,
    view: &FeatureView,
    keys: &[EntityKey],
    at: Timestamp,
) -> Result<Vec<Option<StoredRow>>, Fault> {
    let mut lease = database.lease().await?;
    let client = lease.client()?;
    let work = Box::pin(async {
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let statement = transaction.prepare_cached(&sql::as_of(view)).await?;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            found.push(if is_storable(key) {
                find(&transaction, &statement, view, key, at).await?
            } else {
                None
            });
        }
        transaction.rollback().await?;
        Ok::<_, Fault>(found)
    });
    let done = database.bounded(work).await;
    lease.settle(done)
}

async fn find(
    transaction: &Transaction<'_>,
    statement: &Statement,
    view: &FeatureView,
    key: &EntityKey,
    at: Timestamp,
) -> Result<Option<StoredRow>, Fault> {
    let columns = transposed([key.values().iter()].into_iter());
    let at_value = Value::Timestamp(at);
    let moment = Bound(&at_value);
    let mut bound = parameters(&columns);
    bound.push(&moment);
    let portal = transaction.bind(statement, &bound).await?;
    let mut known = AsOf::new(at);
    let mut wanted = FIRST_ROWS;
    loop {
        let rows = transaction.query_portal(&portal, wanted).await?;
        if rows.is_empty() {
            return Ok(known.finish());
        }
        for row in &rows {
            let read = read_row(row, 0, view).map_err(|fault| fault.of_entity(key))?;
            if let Some((row, _)) = read
                && !known.add(row)
            {
                return Ok(known.finish());
            }
        }
        wanted = MORE_ROWS;
    }
}
