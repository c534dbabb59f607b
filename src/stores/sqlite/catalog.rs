//! The catalog's own tables: what is defined, and what was loaded.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use serde::de::DeserializeOwned;

use super::{fault::Fault, notices, tables};
use crate::{
    catalog::{
        Action, Catalog, Entity, FeatureService, FeatureView, Plan, TableChange, ViewChange,
    },
    features::{Materialization, MaterializationRecord, Timestamp, WriteCounts},
    stores::{definition, notices::Notices, table::revision_conflict},
};

/// Reads the catalog at one moment.
pub(super) fn load(connection: &mut Connection) -> Result<Catalog, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    read(&transaction)
}

fn read(transaction: &Transaction<'_>) -> Result<Catalog, Fault> {
    let entities: Vec<Entity> = definitions(transaction, "ferrocast_entities")?;
    let views: Vec<FeatureView> = definitions(transaction, "ferrocast_feature_views")?;
    let mut services: BTreeMap<String, BTreeMap<u32, Arc<FeatureService>>> = BTreeMap::new();
    let found: Vec<FeatureService> = definitions(transaction, "ferrocast_feature_services")?;
    for service in found {
        let versions = services.entry(service.name.clone()).or_default();
        versions.insert(service.version, Arc::new(service));
    }
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
        services,
    })
}

/// The revision of the catalog.
pub(super) fn revision(connection: &Connection) -> Result<i64, Fault> {
    let sql = "SELECT revision FROM ferrocast_catalog";
    Ok(connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))?)
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
pub(super) fn apply(
    connection: &mut Connection,
    own: &Notices,
    plan: &Plan,
) -> Result<Catalog, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = revision(&transaction)?;
    if found != plan.revision {
        return Err(revision_conflict(plan.revision, found).into());
    }
    let now_micros = Timestamp::now().micros();
    apply_entities(&transaction, plan, now_micros)?;
    for change in &plan.views {
        apply_view(&transaction, change, now_micros)?;
        notices::add(&transaction, &own.of(&change.view, None))?;
    }
    apply_services(&transaction, plan, now_micros)?;
    transaction.execute("UPDATE ferrocast_catalog SET revision = revision + 1", [])?;
    let applied = read(&transaction)?;
    transaction.commit()?;
    Ok(applied)
}

fn apply_entities(
    transaction: &Transaction<'_>,
    plan: &Plan,
    now_micros: i64,
) -> Result<(), Fault> {
    for name in &plan.dropped_entities {
        transaction.execute("DELETE FROM ferrocast_entities WHERE name = ?", [name])?;
    }
    for entity in &plan.entities {
        transaction.execute(
            "INSERT INTO ferrocast_entities (name, definition, updated_at) VALUES (?, ?, ?) \
             ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, updated_at = excluded.updated_at",
            (&entity.name, definition::text(entity.as_ref())?, now_micros),
        )?;
    }
    Ok(())
}

fn apply_view(
    transaction: &Transaction<'_>,
    change: &ViewChange,
    now_micros: i64,
) -> Result<(), Fault> {
    tables::apply(transaction, change)?;
    let view = change.view.as_ref();
    if matches!(
        change.table,
        TableChange::Create | TableChange::Drop | TableChange::Recreate
    ) {
        // What was loaded is gone, and has to be loaded again.
        let sql = "DELETE FROM ferrocast_materializations WHERE view = ?";
        transaction.execute(sql, [&view.name])?;
    }
    if change.action == Action::Drop {
        let sql = "DELETE FROM ferrocast_feature_views WHERE name = ?";
        transaction.execute(sql, [&view.name])?;
        return Ok(());
    }
    transaction.execute(
        "INSERT INTO ferrocast_feature_views (name, project, definition, updated_at) VALUES (?, ?, ?, ?) \
         ON CONFLICT (name) DO UPDATE SET project = excluded.project, definition = excluded.definition, \
         updated_at = excluded.updated_at",
        (&view.name, &view.project, definition::text(view)?, now_micros),
    )?;
    Ok(())
}

fn apply_services(
    transaction: &Transaction<'_>,
    plan: &Plan,
    now_micros: i64,
) -> Result<(), Fault> {
    for service in &plan.dropped_services {
        transaction.execute(
            "DELETE FROM ferrocast_feature_services WHERE name = ? AND version = ?",
            (&service.name, service.version),
        )?;
    }
    for service in &plan.services {
        transaction.execute(
            "INSERT INTO ferrocast_feature_services (name, version, project, definition, updated_at) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (name, version) DO UPDATE SET project = excluded.project, definition = excluded.definition, \
             updated_at = excluded.updated_at",
            (
                &service.name,
                service.version,
                &service.project,
                definition::text(service.as_ref())?,
                now_micros,
            ),
        )?;
    }
    Ok(())
}

/// What was loaded into a view, by the source's name.
pub(super) fn materializations(
    connection: &Connection,
    view: &str,
) -> Result<Vec<MaterializationRecord>, Fault> {
    let sql = "SELECT source, digest, watermark, rows_written, rows_late, finished_at \
               FROM ferrocast_materializations WHERE view = ? ORDER BY source";
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query([view])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let watermark: Option<i64> = row.get(2)?;
        let counted = |index| -> rusqlite::Result<u64> {
            let stored: i64 = row.get(index)?;
            Ok(u64::try_from(stored).unwrap_or_default())
        };
        found.push(MaterializationRecord {
            note: Materialization {
                view: view.to_owned(),
                source: row.get(0)?,
                digest: row.get(1)?,
            },
            watermark: watermark.and_then(Timestamp::from_micros),
            counts: WriteCounts {
                written: counted(3)?,
                late: counted(4)?,
            },
            finished_at: Timestamp::from_micros(row.get(5)?).unwrap_or(Timestamp::EPOCH),
        });
    }
    Ok(found)
}
