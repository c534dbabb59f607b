//! The catalog's tables: reading them, and applying a plan. The tables of the views are `tables`'.

use std::{collections::BTreeMap, sync::Arc};

use deadpool_postgres::Transaction;
use serde::de::DeserializeOwned;
use tokio_postgres::IsolationLevel;

use super::{
    existing,
    fault::{Fault, too_many_tables},
    listen,
    pool::Database,
    tables,
};
use crate::{
    catalog::{Action, Catalog, Entity, FeatureService, FeatureView, Plan, ViewChange},
    error::{Error, Result},
    stores::{definition, notices::Notices, table::revision_conflict},
};

/// Held while a plan is applied; any number that nobody else takes ("ferrocat").
const APPLY_LOCK: i64 = 0x6665_7272_6f63_6174;

const READ_REVISION: &str = "SELECT revision FROM ferrocast_catalog";

/// A change of a table waits for its readers, and new readers wait for it: it has to give up soon.
pub(super) const TABLE_LOCK_WAIT_MS: u64 = 3_000;

/// Reads the catalog at one moment.
pub(super) async fn load(database: &Database) -> Result<Catalog> {
    let mut lease = database.lease().await?;
    let client = lease.client()?;
    let work = async {
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let catalog = read(&transaction).await?;
        transaction.commit().await?;
        Ok::<_, Fault>(catalog)
    };
    let done = database.bounded(work).await;
    let done = lease.settle(done);
    done.map_err(|fault| fault.at(database.target()))
}

async fn read(transaction: &Transaction<'_>) -> Result<Catalog, Fault> {
    let entities: Vec<Entity> = definitions(transaction, "ferrocast_entities").await?;
    let views: Vec<FeatureView> = definitions(transaction, "ferrocast_feature_views").await?;
    Ok(Catalog {
        revision: revision(transaction).await?,
        entities: entities
            .into_iter()
            .map(|entity| (entity.name.clone(), Arc::new(entity)))
            .collect(),
        views: views
            .into_iter()
            .map(|view| (view.name.clone(), Arc::new(view)))
            .collect(),
        services: services(transaction).await?,
    })
}

async fn services(
    transaction: &Transaction<'_>,
) -> Result<BTreeMap<String, BTreeMap<u32, Arc<FeatureService>>>, Fault> {
    let all: Vec<FeatureService> = definitions(transaction, "ferrocast_feature_services").await?;
    let mut by_name: BTreeMap<String, BTreeMap<u32, Arc<FeatureService>>> = BTreeMap::new();
    for service in all {
        let versions = by_name.entry(service.name.clone()).or_default();
        versions.insert(service.version, Arc::new(service));
    }
    Ok(by_name)
}

/// Reads the revision alone.
pub(super) async fn load_revision(database: &Database) -> Result<i64> {
    let mut lease = database.lease().await?;
    let asked = async {
        let client = lease.client()?;
        let statement = client.prepare_cached(READ_REVISION).await?;
        let row = client.query_one(&statement, &[]).await?;
        Ok::<_, Fault>(row.try_get(0)?)
    };
    let answer = database.bounded(asked).await;
    let answer = lease.settle(answer);
    answer.map_err(|fault| fault.at(database.target()))
}

async fn revision(transaction: &Transaction<'_>) -> Result<i64, Fault> {
    let row = transaction.query_one(READ_REVISION, &[]).await?;
    Ok(row.try_get(0)?)
}

async fn definitions<T: DeserializeOwned>(
    transaction: &Transaction<'_>,
    table: &str,
) -> Result<Vec<T>, Fault> {
    let sql = format!("SELECT name, definition FROM {table}");
    let mut found = Vec::new();
    for row in transaction.query(&sql, &[]).await? {
        let name: String = row.try_get(0)?;
        let text: String = row.try_get(1)?;
        found.push(definition::parse(table, &name, &text)?);
    }
    Ok(found)
}

/// Applies a plan: tables, columns, definitions, revision.
pub(super) async fn apply(database: &Database, notices: &Notices, plan: &Plan) -> Result<Catalog> {
    let mut lease = database.lease().await?;
    let client = lease.client()?;
    let bound_ms = database.options().load_timeout.as_millis();
    let work = Box::pin(async {
        let transaction = client.transaction().await?;
        let bounds = format!(
            "SET LOCAL statement_timeout = {bound_ms}; SET LOCAL lock_timeout = {TABLE_LOCK_WAIT_MS}"
        );
        transaction.batch_execute(&bounds).await?;
        let applied = apply_in(&transaction, plan).await?;
        for change in &plan.views {
            let notice = notices.of(&change.view, None);
            transaction.batch_execute(&listen::tell(&notice)).await?;
        }
        transaction.commit().await?;
        Ok::<_, Fault>(applied)
    });
    let done = database.bounded_as_load(work).await;
    let done = lease.settle(done);
    done.map_err(|fault| {
        if fault.is_of_many_locks() {
            return too_many_tables(database.target()).with_source(fault.at(database.target()));
        }
        fault.at(database.target())
    })
}

async fn apply_in(transaction: &Transaction<'_>, plan: &Plan) -> Result<Catalog, Fault> {
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&APPLY_LOCK])
        .await?;
    let found = revision(transaction).await?;
    if found != plan.revision {
        return Err(revision_conflict(plan.revision, found).into());
    }
    check_existing_tables(transaction, plan).await?;
    for service in &plan.dropped_services {
        transaction
            .execute(
                "DELETE FROM ferrocast_feature_services WHERE name = $1 AND version = $2",
                &[&service.name, &i64::from(service.version)],
            )
            .await?;
    }
    for change in &plan.views {
        apply_view(transaction, change).await?;
    }
    for name in &plan.dropped_entities {
        transaction
            .execute("DELETE FROM ferrocast_entities WHERE name = $1", &[name])
            .await?;
    }
    write_entities_and_services(transaction, plan).await?;
    transaction
        .execute("UPDATE ferrocast_catalog SET revision = revision + 1", &[])
        .await?;
    read(transaction).await
}

async fn write_entities_and_services(
    transaction: &Transaction<'_>,
    plan: &Plan,
) -> Result<(), Fault> {
    for entity in &plan.entities {
        transaction
            .execute(
                "INSERT INTO ferrocast_entities (name, definition) VALUES ($1, $2) \
                 ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, updated_at = now()",
                &[&entity.name, &definition::text(entity.as_ref())?],
            )
            .await?;
    }
    for service in &plan.services {
        transaction
            .execute(
                "INSERT INTO ferrocast_feature_services (name, version, project, definition) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (name, version) DO UPDATE SET project = excluded.project, definition = excluded.definition, \
                 updated_at = now()",
                &[
                    &service.name,
                    &i64::from(service.version),
                    &service.project,
                    &definition::text(service.as_ref())?,
                ],
            )
            .await?;
    }
    Ok(())
}

/// Looks at somebody else's tables before anything is changed, so that all that is wrong with them is told at once.
async fn check_existing_tables(transaction: &Transaction<'_>, plan: &Plan) -> Result<(), Fault> {
    let client = transaction.client();
    let mut faults = Vec::new();
    for change in &plan.views {
        let Some(table) = &change.view.table else {
            continue;
        };
        if change.action == Action::Drop {
            continue;
        }
        client.batch_execute("SAVEPOINT look").await?;
        match existing::look_at(client, &change.view, table).await {
            Ok(_) => {}
            Err(Fault::Own(error)) => {
                faults.push(error.message().to_owned());
                // What the server refused to look at has undone the transaction so far.
                client.batch_execute("ROLLBACK TO SAVEPOINT look").await?;
            }
            Err(fault) => return Err(fault),
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::failed_precondition(faults.join("; ")).into())
}

async fn apply_view(transaction: &Transaction<'_>, change: &ViewChange) -> Result<(), Fault> {
    tables::apply(transaction, change).await?;
    let view = change.view.as_ref();
    if change.action == Action::Drop {
        let sql = "DELETE FROM ferrocast_feature_views WHERE name = $1";
        transaction.execute(sql, &[&view.name]).await?;
        return Ok(());
    }
    transaction
        .execute(
            "INSERT INTO ferrocast_feature_views (name, project, definition) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET project = excluded.project, definition = excluded.definition, updated_at = now()",
            &[&view.name, &view.project, &definition::text(view)?],
        )
        .await?;
    Ok(())
}
