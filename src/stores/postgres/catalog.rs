//! The catalog's tables, and the making of views' tables.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use serde::de::DeserializeOwned;
use tokio_postgres::{IsolationLevel, error::SqlState};

use super::{fault::Fault, pool::Database, values::sql_type};
use crate::{
    catalog::{Catalog, Entity, FeatureView, Field, Plan, TableChange, ViewChange},
    error::Result,
    stores::{
        definition,
        table::{key_names, name_taken, quoted, quoted_list, revision_conflict, table_name},
    },
};

/// Held while a plan is applied; any number that nobody else takes ("ferrocat").
const APPLY_LOCK: i64 = 0x6665_7272_6f63_6174;

/// A change of a table waits for its readers, and new readers wait for it: it has to give up soon.
const TABLE_LOCK_WAIT_MS: u64 = 3_000;

/// Pages are left a fifth empty, so that an update finds room beside the row and touches no index.
const FILLFACTOR_PERCENT: u8 = 80;

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
        services: std::collections::BTreeMap::new(),
    })
}

async fn revision(transaction: &Transaction<'_>) -> Result<i64, Fault> {
    let sql = "SELECT revision FROM ferrocast_catalog";
    let row = transaction.query_one(sql, &[]).await?;
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
pub(super) async fn apply(database: &Database, plan: &Plan) -> Result<Catalog> {
    let mut lease = database.lease().await?;
    let client = lease.client()?;
    let work = Box::pin(async {
        let transaction = client.transaction().await?;
        let applied = apply_in(&transaction, plan).await?;
        transaction.commit().await?;
        Ok::<_, Fault>(applied)
    });
    let done = database.bounded_as_load(work).await;
    let done = lease.settle(done);
    done.map_err(|fault| fault.at(database.target()))
}

async fn apply_in(transaction: &Transaction<'_>, plan: &Plan) -> Result<Catalog, Fault> {
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&APPLY_LOCK])
        .await?;
    let found = revision(transaction).await?;
    if found != plan.revision {
        return Err(revision_conflict(plan.revision, found).into());
    }
    transaction
        .batch_execute(&format!("SET LOCAL lock_timeout = {TABLE_LOCK_WAIT_MS}"))
        .await?;
    for entity in &plan.entities {
        transaction
            .execute(
                "INSERT INTO ferrocast_entities (name, definition) VALUES ($1, $2) \
                 ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, updated_at = now()",
                &[&entity.name, &definition::text(entity.as_ref())?],
            )
            .await?;
    }
    for change in &plan.views {
        apply_view(transaction, change).await?;
        let view = change.view.as_ref();
        transaction
            .execute(
                "INSERT INTO ferrocast_feature_views (name, project, definition) VALUES ($1, $2, $3) \
                 ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, updated_at = now()",
                &[&view.name, &view.project, &definition::text(view)?],
            )
            .await?;
    }
    transaction
        .execute("UPDATE ferrocast_catalog SET revision = revision + 1", &[])
        .await?;
    read(transaction).await
}

async fn apply_view(transaction: &Transaction<'_>, change: &ViewChange) -> Result<(), Fault> {
    let table = table_name(&change.view);
    if change.table == TableChange::Create {
        let made = transaction.batch_execute(&create_table(&change.view)).await;
        made.map_err(|error| taken(error, &format!("a table {table}")))?;
    }
    for field in added(change) {
        let sql = format!(
            "ALTER TABLE {} ADD COLUMN {}",
            quoted(&table),
            column(field)
        );
        let added = transaction.batch_execute(&sql).await;
        added.map_err(|error| taken(error, &format!("a column {table}.{}", field.name)))?;
    }
    Ok(())
}

fn taken(error: tokio_postgres::Error, what: &str) -> Fault {
    let is_taken = error.code().is_some_and(|code| {
        // A type of the name, because every table has one.
        *code == SqlState::DUPLICATE_TABLE
            || *code == SqlState::DUPLICATE_OBJECT
            || *code == SqlState::DUPLICATE_COLUMN
    });
    if is_taken {
        Fault::Own(name_taken(what).with_source(error))
    } else {
        Fault::Driver(error)
    }
}

fn column(field: &Field) -> String {
    format!("{} {}", quoted(&field.name), sql_type(field.value_type))
}

/// No index but the primary key: updates then touch none.
fn create_table(view: &FeatureView) -> String {
    let keys = view
        .join_keys
        .iter()
        .map(|key| format!("{} NOT NULL", column(key)));
    let times = ["event_timestamp", "created_at"]
        .into_iter()
        .map(|name| format!("{name} timestamptz NOT NULL"));
    let columns: Vec<String> = keys
        .chain(times)
        .chain(view.features.iter().map(column))
        .collect();
    format!(
        "CREATE TABLE {} ({}, PRIMARY KEY ({})) WITH (fillfactor = {FILLFACTOR_PERCENT})",
        quoted(&table_name(view)),
        columns.join(", "),
        quoted_list(key_names(view))
    )
}

fn added(change: &ViewChange) -> &[Field] {
    match &change.table {
        TableChange::Alter { added, .. } => added,
        _ => &[],
    }
}
