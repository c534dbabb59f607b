//! The catalog's tables, and the making of views' tables.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use serde::de::DeserializeOwned;

use super::{
    fault::Fault,
    values::{column_definition, time_definition},
};
use crate::{
    catalog::{Catalog, Entity, FeatureView, Field, Plan, TableChange, ViewChange},
    error::Error,
    features::Timestamp,
    stores::{
        definition,
        table::{
            key_names, name_differs_in_case, name_taken, quoted, quoted_list, revision_conflict,
            table_name,
        },
    },
};

/// Reads the catalog at one moment.
pub(super) fn load(connection: &mut Connection) -> Result<Catalog, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    read(&transaction)
}

fn read(transaction: &Transaction<'_>) -> Result<Catalog, Fault> {
    let entities: Vec<Entity> = definitions(transaction, "ferrocast_entities")?;
    let views: Vec<FeatureView> = definitions(transaction, "ferrocast_feature_views")?;
    Ok(Catalog {
        revision: revision(transaction)?,
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

fn revision(transaction: &Transaction<'_>) -> Result<i64, Fault> {
    let sql = "SELECT revision FROM ferrocast_catalog";
    Ok(transaction.query_row(sql, [], |row| row.get(0))?)
}

fn definitions<T: DeserializeOwned>(
    transaction: &Transaction<'_>,
    table: &str,
) -> Result<Vec<T>, Fault> {
    let mut select = transaction.prepare(&format!("SELECT name, definition FROM {table}"))?;
    let mut rows = select.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let text: String = row.get(1)?;
        found.push(definition::parse(table, &name, &text)?);
    }
    Ok(found)
}

/// Applies a plan: tables, columns, definitions, revision.
pub(super) fn apply(connection: &mut Connection, plan: &Plan) -> Result<Catalog, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = revision(&transaction)?;
    if found != plan.revision {
        return Err(revision_conflict(plan.revision, found).into());
    }
    let now_micros = Timestamp::now().micros();
    for entity in &plan.entities {
        transaction.execute(
            "INSERT INTO ferrocast_entities (name, definition, updated_at) VALUES (?, ?, ?) \
             ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, updated_at = excluded.updated_at",
            (&entity.name, definition::text(entity.as_ref())?, now_micros),
        )?;
    }
    for change in &plan.views {
        apply_view(&transaction, change)?;
        let view = change.view.as_ref();
        transaction.execute(
            "INSERT INTO ferrocast_feature_views (name, project, definition, updated_at) VALUES (?, ?, ?, ?) \
             ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, updated_at = excluded.updated_at",
            (&view.name, &view.project, definition::text(view)?, now_micros),
        )?;
    }
    transaction.execute("UPDATE ferrocast_catalog SET revision = revision + 1", [])?;
    let applied = read(&transaction)?;
    transaction.commit()?;
    Ok(applied)
}

fn apply_view(transaction: &Transaction<'_>, change: &ViewChange) -> Result<(), Fault> {
    let table = table_name(&change.view);
    if change.table == TableChange::Create {
        let sql = "SELECT name FROM sqlite_master WHERE name = ? COLLATE NOCASE";
        let found = transaction.query_row(sql, [&table], |row| row.get(0));
        let found: Option<String> = found.optional()?;
        if let Some(found) = found {
            return Err(in_the_way("table", &table, &found).into());
        }
        transaction.execute_batch(&create_table(&change.view))?;
    }
    for field in added(change) {
        let sql = "SELECT name FROM pragma_table_info(?) WHERE name = ? COLLATE NOCASE";
        let found = transaction.query_row(sql, [&table, &field.name], |row| row.get(0));
        let found: Option<String> = found.optional()?;
        if let Some(found) = found {
            let column = |name: &str| format!("{table}.{name}");
            return Err(in_the_way("column", &column(&field.name), &column(&found)).into());
        }
        transaction.execute_batch(&format!(
            "ALTER TABLE {} ADD COLUMN {}",
            quoted(&table),
            column_definition(field)
        ))?;
    }
    Ok(())
}

/// SQLite's names know no upper and lower case, the names of views do.
fn in_the_way(what: &str, name: &str, found: &str) -> Error {
    if found == name {
        name_taken(&format!("a {what} {name}"))
    } else {
        name_differs_in_case(what, name, found)
    }
}

/// A STRICT table refuses values of another type, whoever writes them. Not WITHOUT ROWID, which is for narrow rows.
fn create_table(view: &FeatureView) -> String {
    let not_null = |definition: String| format!("{definition} NOT NULL");
    let keys = view.join_keys.iter().map(column_definition).map(not_null);
    let times = ["event_timestamp", "created_at"]
        .into_iter()
        .map(time_definition)
        .map(not_null);
    let features = view.features.iter().map(column_definition);
    let columns: Vec<String> = keys.chain(times).chain(features).collect();
    format!(
        "CREATE TABLE {} ({}, PRIMARY KEY ({})) STRICT",
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
