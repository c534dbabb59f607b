//! Taking an entity out of views and their histories.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use tokio_postgres::IsolationLevel;

use super::{
    fault::Fault,
    listen,
    pool::Database,
    rows::{ATTEMPTS_MAX, contention_wait, parameters, transposed},
    sql,
};
use crate::{
    catalog::FeatureView,
    error::Result,
    features::EntityKey,
    stores::{
        notices::Notices,
        table::{history_name, is_storable, table_name},
    },
};

/// Deletes an entity from views of which each has been checked; returns how many had something of it.
pub(super) async fn delete(
    database: &Database,
    notices: &Notices,
    views: &[Arc<FeatureView>],
    key: &EntityKey,
) -> Result<u64> {
    if !is_storable(key) {
        return Ok(0);
    }
    // One order for all, so that two that delete the same do not wait for each other.
    let mut views: Vec<&FeatureView> = views.iter().map(Arc::as_ref).collect();
    views.sort_by(|a, b| a.name.cmp(&b.name));
    for attempt in 1_u32.. {
        let mut lease = database.lease().await?;
        let client = lease.client()?;
        let work = Box::pin(async {
            let transaction = client
                .build_transaction()
                .isolation_level(IsolationLevel::ReadCommitted)
                .start()
                .await?;
            let mut count = 0;
            for view in &views {
                let of_view = delete_from(&transaction, view, key).await;
                let had_any = of_view.map_err(|fault| fault.of(view))?;
                if had_any {
                    let notice = notices.of(view, Some(std::slice::from_ref(key)));
                    transaction.batch_execute(&listen::tell(&notice)).await?;
                }
                count += u64::from(had_any);
            }
            transaction.commit().await?;
            Ok::<_, Fault>(count)
        });
        let done = database.bounded(work).await;
        match lease.settle(done) {
            Ok(count) => return Ok(count),
            Err(fault) if fault.is_contention() && attempt < ATTEMPTS_MAX => {
                contention_wait(attempt).await;
            }
            Err(fault) => return Err(fault.at(database.target())),
        }
    }
    Ok(0)
}

/// The history goes by a statement of its own, after the row is locked: it sees what a writer that held the lock has added.
async fn delete_from(
    transaction: &Transaction<'_>,
    view: &FeatureView,
    key: &EntityKey,
) -> Result<bool, Fault> {
    let columns = transposed(std::iter::once(key.values().iter()));
    let mut deleted = 0;
    let tables = [
        Some(table_name(view)),
        view.history.then(|| history_name(view)),
    ];
    for table in tables.into_iter().flatten() {
        let statement = transaction
            .prepare_cached(&sql::delete(view, &table))
            .await?;
        deleted += transaction
            .execute(&statement, &parameters(&columns))
            .await?;
    }
    Ok(deleted > 0)
}
