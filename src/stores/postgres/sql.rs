//! The SQL of a view's own tables: names, reading, the conditional upsert, what a merge in Rust reads and writes back.
//!
//! Knows no connection; `rows`, `write`, `load` and `scan` run it.

use super::{
    history::{self, Incoming},
    values::sql_type,
};
use crate::{
    catalog::{FeatureView, ValueType},
    stores::{
        feature_times::{FEATURE_TIMES, GENERATION},
        statements::Statements,
        table::{
            column_names, column_types, history_name, key_names, quoted, quoted_list, row_names,
            table_name, value_names,
        },
    },
};

/// The SQL of a view that every request runs.
pub(super) fn build_statements(view: &FeatureView) -> Statements {
    Statements {
        view: view.clone(),
        read: read(view),
        write: write(view),
        merge: rows_to_merge(view),
        replace: replace(view),
        history: match view.history {
            true => remember(view),
            false => Vec::new(),
        },
    }
}

/// The type of the parameter that brings a column of many rows, and whether it is that of the column.
///
/// Postgres takes an array of arrays for one array of more dimensions. So lists come as texts.
fn carrier(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::List(_) => "text",
        scalar @ (ValueType::Bool
        | ValueType::Int32
        | ValueType::Int64
        | ValueType::Float
        | ValueType::Double
        | ValueType::String
        | ValueType::Bytes
        | ValueType::Timestamp) => sql_type(scalar),
    }
}

/// Whole rows as parameters, an array a column, the last one with the times of features; in SQL they are the table
/// `asked`, with the columns c0, c1 and so on.
struct Asked {
    /// `unnest(…)`.
    unnest: String,
    /// `c0, c1, …`.
    aliases: String,
    /// One expression a column of `column_names`, of the column's type.
    cells: Vec<String>,
}

impl Asked {
    fn new(view: &FeatureView) -> Asked {
        let mut carriers = Vec::new();
        let mut cells = Vec::new();
        for (index, value_type) in column_types(view).enumerate() {
            let (own, carried) = (sql_type(value_type), carrier(value_type));
            let cast = if own == carried {
                String::new()
            } else {
                format!("::{own}")
            };
            cells.push(format!("asked.c{index}{cast}"));
            carriers.push(carried);
        }
        cells.push(format!("asked.c{}::jsonb", carriers.len()));
        cells.push(view.generation.to_string());
        carriers.push("text");
        let aliases: Vec<String> = (0..carriers.len()).map(|i| format!("c{i}")).collect();
        Asked {
            unnest: unnest(&carriers),
            aliases: aliases.join(", "),
            cells,
        }
    }
}

/// Parameters of these types as the columns of a table.
pub(super) fn unnest(types: &[&str]) -> String {
    let parameters: Vec<String> = (1..)
        .zip(types)
        .map(|(number, name)| format!("${number}::{name}[]"))
        .collect();
    format!("unnest({})", parameters.join(", "))
}

/// Keys as parameters, an array a join key.
pub(super) fn key_carriers(view: &FeatureView) -> Vec<&'static str> {
    let types = view.join_keys.iter().map(|key| key.value_type);
    types.map(carrier).collect()
}

/// `k0, k1, …`, one a join key.
pub(super) fn key_aliases(view: &FeatureView) -> String {
    let aliases: Vec<String> = (0..view.join_keys.len()).map(|i| format!("k{i}")).collect();
    aliases.join(", ")
}

/// That two tables speak of the same entity: the join keys of `left` and the columns `right` and a number.
fn same_entity(view: &FeatureView, left: &str, right: &str) -> String {
    let pairs: Vec<String> = key_names(view)
        .enumerate()
        .map(|(index, name)| format!("{left}.{} = {right}{index}", quoted(name)))
        .collect();
    pairs.join(" AND ")
}

/// That two tables that have the view's join keys speak of the same entity.
pub(super) fn same_keys(view: &FeatureView, left: &str, right: &str) -> String {
    let pairs: Vec<String> = key_names(view)
        .map(|name| format!("{left}.{0} = {right}.{0}", quoted(name)))
        .collect();
    pairs.join(" AND ")
}

/// The columns of a stored row that `rows::read_row` reads, in its order.
pub(super) fn stored_columns(view: &FeatureView, table: &str) -> String {
    let values: Vec<String> = value_names(view)
        .map(|name| format!("{table}.{}", quoted(name)))
        .collect();
    format!(
        "{}, {table}.{FEATURE_TIMES}::text, {table}.{GENERATION}",
        values.join(", ")
    )
}

fn read(view: &FeatureView) -> String {
    format!(
        "SELECT {} FROM {} WITH ORDINALITY AS asked({}, n) LEFT JOIN {} AS stored ON {} ORDER BY asked.n",
        stored_columns(view, "stored"),
        unnest(&key_carriers(view)),
        key_aliases(view),
        quoted(&table_name(view)),
        same_entity(view, "stored", "asked.k")
    )
}

/// Reads an entity's history, the newest row first: the join keys are the first parameters, arrays of one, the moment is
/// the last. Rows after it count only where features of them can be older than they are.
pub(super) fn as_of(view: &FeatureView) -> String {
    let keys = key_carriers(view);
    format!(
        "SELECT {} FROM {} AS asked({}) JOIN {} AS stored ON {} \
         WHERE stored.event_timestamp <= ${} OR stored.{FEATURE_TIMES} IS NOT NULL \
         ORDER BY stored.event_timestamp DESC, stored.created_at DESC",
        stored_columns(view, "stored"),
        unnest(&keys),
        key_aliases(view),
        quoted(&history_name(view)),
        same_entity(view, "stored", "asked.k"),
        keys.len() + 1
    )
}

fn write(view: &FeatureView) -> String {
    let asked = Asked::new(view);
    format!(
        "INSERT INTO {} AS stored ({}) SELECT {} FROM {} AS asked({}) {}",
        quoted(&table_name(view)),
        quoted_list(column_names(view)),
        asked.cells.join(", "),
        asked.unnest,
        asked.aliases,
        upsert_tail(view)
    )
}

/// What follows `INSERT INTO … AS stored …`: a whole row replaces one that is older, and not of a newer definition. All
/// rows that are there already are locked, whatever becomes of them.
pub(super) fn upsert_tail(view: &FeatureView) -> String {
    let sets: Vec<String> = row_names(view)
        .map(|name| format!("{0} = excluded.{0}", quoted(name)))
        .collect();
    format!(
        "ON CONFLICT ({}) DO UPDATE SET {} WHERE excluded.{FEATURE_TIMES} IS NULL \
         AND stored.{GENERATION} <= {} \
         AND (excluded.event_timestamp, excluded.created_at) > (stored.event_timestamp, stored.created_at)",
        quoted_list(key_names(view)),
        sets.join(", "),
        view.generation
    )
}

/// The generation that brought the view's newest feature: an older row says nothing about it.
pub(super) fn newest_addition(view: &FeatureView) -> u32 {
    view.added.values().copied().max().unwrap_or_default()
}

/// That a stored row is one into which even an older row may bring something, or one of a newer definition.
pub(super) fn needs_merge(view: &FeatureView) -> String {
    let mut cases = vec![
        format!("stored.{FEATURE_TIMES} IS NOT NULL"),
        format!("stored.{GENERATION} > {}", view.generation),
    ];
    match newest_addition(view) {
        0 => {}
        added => cases.push(format!("stored.{GENERATION} < {added}")),
    }
    format!("({})", cases.join(" OR "))
}

/// Of rows that were just upserted: the position of each that did not take effect as a whole and has to be merged, and
/// what is stored. The upsert has locked them. The parameters are those of the keys, and whether to tell of a row that
/// cannot bring anything either.
fn rows_to_merge(view: &FeatureView) -> String {
    let mut carriers = key_carriers(view);
    carriers.push("boolean");
    format!(
        "SELECT asked.n, {} FROM {} WITH ORDINALITY AS asked({}, is_told, n) JOIN {} AS stored ON {} \
         WHERE stored.xmin <> pg_current_xact_id()::xid AND (asked.is_told OR {}) ORDER BY asked.n",
        stored_columns(view, "stored"),
        unnest(&carriers),
        key_aliases(view),
        quoted(&table_name(view)),
        same_entity(view, "stored", "asked.k"),
        needs_merge(view)
    )
}

/// Writes merged rows back; they are locked.
fn replace(view: &FeatureView) -> String {
    let asked = Asked::new(view);
    let key_count = view.join_keys.len();
    let sets: Vec<String> = row_names(view)
        .zip(asked.cells.iter().skip(key_count))
        .map(|(name, cell)| format!("{} = {cell}", quoted(name)))
        .collect();
    format!(
        "UPDATE {} AS stored SET {} FROM {} AS asked({}) WHERE {}",
        quoted(&table_name(view)),
        sets.join(", "),
        asked.unnest,
        asked.aliases,
        same_entity(view, "stored", "asked.c")
    )
}

/// The SQL that adds written rows to the history.
fn remember(view: &FeatureView) -> Vec<String> {
    let asked = Asked::new(view);
    let mut cells = asked.cells.into_iter();
    let identity = cells.by_ref().take(view.join_keys.len() + 2).collect();
    let values = cells.by_ref().take(view.features.len()).collect();
    let incoming = Incoming {
        relation: format!(
            "{} WITH ORDINALITY AS asked({}, n)",
            asked.unnest, asked.aliases
        ),
        identity,
        values,
        feature_times: cells.next(),
        order: Some("asked.n".to_owned()),
    };
    history::remember(view, &incoming)
}

/// Expressions of which the first are the join keys', so that they sort by bytes, as Rust sorts text, whatever the
/// database's collation.
pub(super) fn by_bytes(view: &FeatureView, cells: &[String]) -> Vec<String> {
    let is_text = |index: usize| {
        let key = view.join_keys.get(index);
        key.is_some_and(|key| key.value_type == ValueType::String)
    };
    let cells = cells.iter().enumerate();
    cells
        .map(|(index, cell)| match is_text(index) {
            true => format!("{cell} COLLATE \"C\""),
            false => cell.clone(),
        })
        .collect()
}

/// Deletes entities from one of a view's tables; the parameters are those of the keys.
pub(super) fn delete(view: &FeatureView, table: &str) -> String {
    format!(
        "DELETE FROM {} AS stored USING {} AS asked({}) WHERE {}",
        quoted(table),
        unnest(&key_carriers(view)),
        key_aliases(view),
        same_entity(view, "stored", "asked.k")
    )
}

/// Every row of one of a view's tables, key first; the parameter is the oldest event timestamp, or null.
pub(super) fn scan(view: &FeatureView, table: &str) -> String {
    let keys: Vec<String> = key_names(view)
        .map(|name| format!("stored.{}", quoted(name)))
        .collect();
    format!(
        "SELECT {}, {} FROM {} AS stored WHERE $1::timestamptz IS NULL OR stored.event_timestamp >= $1",
        keys.join(", "),
        stored_columns(view, "stored"),
        quoted(table)
    )
}
