//! The SQL of a view: on its own tables, or on the table of somebody else that it reads.

use crate::{
    catalog::{ExistingTable, FeatureView, Field},
    features::{Scan, Timestamp},
    stores::{
        feature_times::{FEATURE_TIMES, GENERATION},
        statements::Statements,
        table::{
            column_names, history_name, key_names, quoted, quoted_list, row_names, table_name,
        },
    },
};

/// The only schema of a SQLite file.
const MAIN: &str = "main";

/// The SQL of a view.
pub(super) fn build_statements(view: &FeatureView) -> Statements {
    let table = quoted(&table_name(view));
    let mut history = Vec::new();
    if view.history {
        if !view.added.is_empty() {
            history.push(supersede_history(view));
        }
        history.push(add_history(view));
    }
    Statements {
        view: view.clone(),
        read: read(view),
        write: format!("{} {}", insert(view, &table), upsert_tail(view)),
        merge: read(view),
        replace: format!("{} {}", insert(view, &table), replace_tail(view)),
        history,
    }
}

/// `INSERT INTO … AS stored (…) VALUES (…)` of one row, in the order of `column_names`.
pub(super) fn insert(view: &FeatureView, table: &str) -> String {
    let columns = quoted_list(column_names(view));
    let count = column_names(view).count();
    format!(
        "INSERT INTO {table} AS stored ({columns}) VALUES ({})",
        vec!["?"; count].join(", ")
    )
}

/// What follows `INSERT INTO … AS stored …`: a whole row takes effect at once where it is newer than everything that is
/// stored. What is left over has to be read and merged.
///
/// A row of a newer generation stays: it says something about features that the writer does not know.
pub(super) fn upsert_tail(view: &FeatureView) -> String {
    let newer = "(excluded.event_timestamp, excluded.created_at) > (stored.event_timestamp, stored.created_at)";
    format!(
        "{} WHERE {newer} AND coalesce(stored.{GENERATION}, 0) <= excluded.{GENERATION}",
        replace_tail(view)
    )
}

/// The same for a row that takes the place of what is stored, whatever that is.
fn replace_tail(view: &FeatureView) -> String {
    let sets: Vec<String> = row_names(view)
        .map(|name| format!("{0} = excluded.{0}", quoted(name)))
        .collect();
    format!(
        "ON CONFLICT ({}) DO UPDATE SET {}",
        quoted_list(key_names(view)),
        sets.join(", ")
    )
}

/// Reads one row by its key, in the order of `row_names`.
fn read(view: &FeatureView) -> String {
    let condition = |column: &dyn Fn(&Field) -> String| {
        let keys = view.join_keys.iter();
        let conditions: Vec<String> = keys.map(|key| format!("{} = ?", column(key))).collect();
        conditions.join(" AND ")
    };
    match &view.table {
        None => format!(
            "SELECT {} FROM {} WHERE {}",
            quoted_list(row_names(view)),
            quoted(&table_name(view)),
            condition(&|key| quoted(&key.name))
        ),
        Some(table) => format!(
            "SELECT {} FROM {} WHERE {} AND {} IS NOT NULL {} LIMIT 1",
            existing_row(view, table),
            existing_name(table),
            condition(&|key| quoted(table.column(&key.name))),
            quoted(&table.timestamp_field),
            newest_first(table)
        ),
    }
}

/// Reads an entity's history, the newest row first: the join keys are the first parameters, the moment is the last. Rows
/// after it count only where features of them can be older than they are.
pub(super) fn as_of(view: &FeatureView) -> String {
    let keys: Vec<String> = key_names(view)
        .map(|name| format!("{} = ?", quoted(name)))
        .collect();
    format!(
        "SELECT {} FROM {} WHERE {} AND (event_timestamp <= ? OR {FEATURE_TIMES} IS NOT NULL) \
         ORDER BY event_timestamp DESC, created_at DESC",
        quoted_list(row_names(view)),
        quoted(&history_name(view)),
        keys.join(" AND ")
    )
}

/// Reads all rows, or those from `?1` on: the join keys, then as `read`.
pub(super) fn scan(view: &FeatureView, scan: Scan) -> String {
    let Some(table) = &view.table else {
        let name = if scan.history {
            history_name(view)
        } else {
            table_name(view)
        };
        let since = since("event_timestamp", scan);
        return format!(
            "SELECT {} FROM {} WHERE {since}",
            quoted_list(column_names(view)),
            quoted(&name),
        );
    };
    let keys: Vec<String> = view
        .join_keys
        .iter()
        .map(|key| quoted(table.column(&key.name)))
        .collect();
    let named: Vec<String> = keys
        .iter()
        .map(|key| format!("{key} IS NOT NULL"))
        .collect();
    let (keys, row) = (keys.join(", "), existing_row(view, table));
    let rows = format!(
        "FROM {} WHERE {} IS NOT NULL AND {} AND {}",
        existing_name(table),
        quoted(&table.timestamp_field),
        named.join(" AND "),
        since(&table.timestamp_field, scan),
    );
    if scan.history {
        // All its rows are the history that somebody else keeps.
        return format!("SELECT {keys}, {row} {rows}");
    }
    let order = newest_first(table);
    format!(
        "SELECT * FROM (SELECT {keys}, {row}, row_number() OVER (PARTITION BY {keys} {order}) AS \"row number\" {rows}) \
         WHERE \"row number\" = 1"
    )
}

fn since(time: &str, scan: Scan) -> String {
    match scan.since {
        Some(_) => format!("{} >= ?1", quoted(time)),
        None => "true".to_owned(),
    }
}

fn newest_first(table: &ExistingTable) -> String {
    let created = table.created_timestamp_field.as_deref();
    // A row that does not say when it was made is the oldest of equals.
    let times = [table.timestamp_field.as_str()].into_iter().chain(created);
    let order: Vec<String> = times.map(|name| format!("{} DESC", quoted(name))).collect();
    format!("ORDER BY {}", order.join(", "))
}

/// Rows of somebody else say something about every feature, of whatever generation. Where nothing can tell when they were
/// made, they are as old as their event.
fn existing_row(view: &FeatureView, table: &ExistingTable) -> String {
    let time = quoted(&table.timestamp_field);
    let created = match &table.created_timestamp_field {
        Some(name) => format!("ifnull({}, {})", quoted(name), Timestamp::EPOCH.micros()),
        None => time.clone(),
    };
    let features = view.features.iter().map(|field| table.column(&field.name));
    let features = quoted_list(features);
    format!("{time}, {created}, {features}, NULL, NULL")
}

/// The name of somebody else's table, with its schema where it has one.
fn existing_name(table: &ExistingTable) -> String {
    let (schema, name) = existing_parts(table);
    format!("{}.{}", quoted(schema), quoted(name))
}

/// The schema and the name of somebody else's table. A file has one schema only; any other word before a dot is a part of
/// the name.
pub(super) fn existing_parts(table: &ExistingTable) -> (&str, &str) {
    match table.name.split_once('.') {
        Some((schema, name)) if schema.eq_ignore_ascii_case(MAIN) => (MAIN, name),
        Some(_) | None => (MAIN, &table.name),
    }
}

/// Adds a row to the history, in the order of `column_names`, unless the very same one is there.
fn add_history(view: &FeatureView) -> String {
    let table = quoted(&history_name(view));
    let parameters: Vec<String> = (1..=column_names(view).count())
        .map(|number| format!("?{number}"))
        .collect();
    format!(
        "INSERT INTO {table} ({}) SELECT {} WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {})",
        quoted_list(column_names(view)),
        parameters.join(", "),
        same_row(view)
    )
}

/// Takes out of the history the very same row as it was written before features were added; it is written anew with them.
fn supersede_history(view: &FeatureView) -> String {
    let count = column_names(view).count();
    format!(
        "DELETE FROM {} WHERE {} AND \"_generation\" < ?{count}",
        quoted(&history_name(view)),
        same_row(view)
    )
}

/// Finds a row of the history by its key, its times and those of its features.
fn same_row(view: &FeatureView) -> String {
    let key_count = view.join_keys.len();
    let names = key_names(view).chain(["event_timestamp", "created_at"]);
    let mut conditions: Vec<String> = (1..)
        .zip(names)
        .map(|(number, name)| format!("{} = ?{number}", quoted(name)))
        .collect();
    let times_at = key_count + 2 + view.features.len() + 1;
    conditions.push(format!("\"_feature_times\" IS ?{times_at}"));
    conditions.join(" AND ")
}
