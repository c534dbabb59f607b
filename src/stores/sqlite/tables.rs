//! The tables of views: made, changed, dropped; and the tables of somebody else that views read, looked at.

use rusqlite::{OptionalExtension, Transaction};

use super::{
    fault::{Fault, is_refusal, said},
    sql::existing_parts,
    values::{column_definition, time_definition},
};
use crate::{
    catalog::{Action, ExistingTable, FeatureView, Field, TableChange, ViewChange},
    error::Error,
    stores::{
        feature_times::{FEATURE_TIMES, GENERATION},
        table::{
            column_names, existing_columns, history_index_name, history_name, key_names,
            name_differs_in_case, name_taken, quoted, quoted_list, table_name, table_unlike_view,
        },
    },
};

/// The definitions of the columns that every table of ours has beside keys, times and features. A row that comes by plain
/// SQL has no generation, and is then of the view as it is.
const OWN_COLUMNS: [(&str, &str); 2] = [(FEATURE_TIMES, "TEXT"), (GENERATION, "INTEGER")];

/// Makes the tables of a view as a plan says.
pub(super) fn apply(transaction: &Transaction<'_>, change: &ViewChange) -> Result<(), Fault> {
    let view = change.view.as_ref();
    let (newest, history) = (table_name(view), history_name(view));
    match &change.table {
        TableChange::Keep => {}
        TableChange::Create => create_newest(transaction, view)?,
        TableChange::Alter { dropped, added } => alter(transaction, view, &newest, dropped, added)?,
        TableChange::Drop => drop_table(transaction, &newest)?,
        TableChange::Recreate => {
            drop_table(transaction, &newest)?;
            create_newest(transaction, view)?;
        }
    }
    match &change.history {
        TableChange::Keep => {}
        TableChange::Create => {
            create_history(transaction, view)?;
            copy_to_history(transaction, view)?;
        }
        TableChange::Alter { dropped, added } => {
            alter(transaction, view, &history, dropped, added)?;
        }
        TableChange::Drop => drop_table(transaction, &history)?,
        TableChange::Recreate => {
            drop_table(transaction, &history)?;
            create_history(transaction, view)?;
        }
    }
    if let Some(table) = view
        .table
        .as_ref()
        .filter(|_| change.action != Action::Drop)
    {
        check_existing(transaction, view, table)?;
    }
    Ok(())
}

fn create_newest(transaction: &Transaction<'_>, view: &FeatureView) -> Result<(), Fault> {
    let name = table_name(view);
    check_free(transaction, "table", &name)?;
    let key = format!(", PRIMARY KEY ({})", quoted_list(key_names(view)));
    Ok(transaction.execute_batch(&create_table(view, &name, &key))?)
}

fn create_history(transaction: &Transaction<'_>, view: &FeatureView) -> Result<(), Fault> {
    let (name, index) = (history_name(view), history_index_name(view));
    check_free(transaction, "table", &name)?;
    check_free(transaction, "index", &index)?;
    transaction.execute_batch(&create_table(view, &name, ""))?;
    Ok(transaction.execute_batch(&format!(
        "CREATE INDEX {} ON {} ({}, event_timestamp)",
        quoted(&index),
        quoted(&name),
        quoted_list(key_names(view))
    ))?)
}

/// A history begins with the rows that are there.
fn copy_to_history(transaction: &Transaction<'_>, view: &FeatureView) -> Result<(), Fault> {
    let columns = quoted_list(column_names(view));
    transaction.execute_batch(&format!(
        "INSERT INTO {} ({columns}) SELECT {columns} FROM {}",
        quoted(&history_name(view)),
        quoted(&table_name(view))
    ))?;
    Ok(())
}

/// A STRICT table refuses values of another type, whoever writes them. Not WITHOUT ROWID, which is for narrow rows.
fn create_table(view: &FeatureView, name: &str, key: &str) -> String {
    let not_null = |definition: String| format!("{definition} NOT NULL");
    let keys = view.join_keys.iter().map(column_definition).map(not_null);
    let times = ["event_timestamp", "created_at"]
        .into_iter()
        .map(time_definition)
        .map(not_null);
    let own = OWN_COLUMNS.map(|(name, definition)| format!("{name} {definition}"));
    let features = view.features.iter().map(column_definition);
    let columns: Vec<String> = keys.chain(times).chain(own).chain(features).collect();
    format!(
        "CREATE TABLE {} ({}{key}) STRICT",
        quoted(name),
        columns.join(", ")
    )
}

/// What is gone already need not go.
fn drop_table(transaction: &Transaction<'_>, name: &str) -> Result<(), Fault> {
    Ok(transaction.execute_batch(&format!("DROP TABLE IF EXISTS {}", quoted(name)))?)
}

fn alter(
    transaction: &Transaction<'_>,
    view: &FeatureView,
    table: &str,
    dropped: &[String],
    added: &[Field],
) -> Result<(), Fault> {
    // Rows without a generation are of the one that ends here.
    transaction.execute(
        &format!(
            "UPDATE {} SET {GENERATION} = ? WHERE {GENERATION} IS NULL",
            quoted(table)
        ),
        [view.generation.saturating_sub(1)],
    )?;
    for name in dropped {
        if column_like(transaction, table, name)?.as_ref() == Some(name) {
            drop_column(transaction, table, name)?;
        }
    }
    for field in added {
        if let Some(found) = column_like(transaction, table, &field.name)? {
            let column = |name: &str| format!("{table}.{name}");
            return Err(in_the_way("column", &column(&field.name), &column(&found)).into());
        }
        add_column(transaction, table, field)?;
    }
    Ok(())
}

/// SQLite has names of its own for a row's number, as `rowid`; a table can be made with a column of such a name, but not
/// get one later.
fn add_column(transaction: &Transaction<'_>, table: &str, field: &Field) -> Result<(), Fault> {
    let sql = format!(
        "ALTER TABLE {} ADD COLUMN {}",
        quoted(table),
        column_definition(field)
    );
    let done = transaction.execute_batch(&sql);
    done.map_err(|error| unchanged(error, table, &field.name, "added"))
}

/// An index, trigger or view of the operator's may hold on to a column.
fn drop_column(transaction: &Transaction<'_>, table: &str, name: &str) -> Result<(), Fault> {
    let sql = format!("ALTER TABLE {} DROP COLUMN {}", quoted(table), quoted(name));
    let done = transaction.execute_batch(&sql);
    done.map_err(|error| unchanged(error, table, name, "dropped"))
}

/// What SQLite says of the change of a column, as opposed to what ails the file.
fn unchanged(error: rusqlite::Error, table: &str, name: &str, change: &str) -> Fault {
    if !is_refusal(&error) {
        return Fault::Sql(error);
    }
    let sentence = format!(
        "the column {table}.{name} cannot be {change}: {}",
        said(&error)
    );
    Fault::Own(Error::failed_precondition(sentence).with_source(error))
}

/// The column of a name, as the table spells it.
fn column_like(
    transaction: &Transaction<'_>,
    table: &str,
    name: &str,
) -> Result<Option<String>, Fault> {
    let sql = "SELECT name FROM pragma_table_info(?) WHERE name = ? COLLATE NOCASE";
    let found = transaction.query_row(sql, [table, name], |row| row.get(0));
    Ok(found.optional()?)
}

fn check_free(transaction: &Transaction<'_>, what: &str, name: &str) -> Result<(), Fault> {
    let sql = "SELECT name FROM sqlite_master WHERE name = ? COLLATE NOCASE";
    let found = transaction.query_row(sql, [name], |row| row.get(0));
    let found: Option<String> = found.optional()?;
    match found {
        Some(found) => Err(in_the_way(what, name, &found).into()),
        None => Ok(()),
    }
}

/// SQLite's names know no upper and lower case, the names of views do.
fn in_the_way(what: &str, name: &str, found: &str) -> Error {
    if found == name {
        name_taken(&format!("a {what} {name}"))
    } else {
        name_differs_in_case(what, name, found)
    }
}

fn check_existing(
    transaction: &Transaction<'_>,
    view: &FeatureView,
    table: &ExistingTable,
) -> Result<(), Fault> {
    let (schema, name) = existing_parts(table);
    let mut select = transaction.prepare("SELECT name FROM pragma_table_xinfo(?, ?)")?;
    let found = select.query_map([name, schema], |row| row.get(0))?;
    let found: Vec<String> = found.collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Err(table_unlike_view(view, &table.name, &[]).into());
    }
    let missing: Vec<&str> = existing_columns(view, table)
        .filter(|name| !found.iter().any(|own| own.eq_ignore_ascii_case(name)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(table_unlike_view(view, &table.name, &missing).into())
}

/// Gives the tables that an older binary made the columns that they lack; returns nothing to do the second time.
pub(super) fn add_own_columns(transaction: &Transaction<'_>) -> Result<(), Fault> {
    let sql = "SELECT tables.name FROM ferrocast_feature_views AS views \
               JOIN sqlite_master AS tables ON tables.type = 'table' AND tables.name = 'fv_' || views.name \
               WHERE json_extract(views.definition, '$.table') IS NULL";
    let mut select = transaction.prepare(sql)?;
    let found = select.query_map([], |row| row.get(0))?;
    let tables: Vec<String> = found.collect::<Result<_, _>>()?;
    drop(select);
    for table in tables {
        for (name, definition) in OWN_COLUMNS {
            if column_like(transaction, &table, name)?.is_none() {
                transaction.execute_batch(&format!(
                    "ALTER TABLE {} ADD COLUMN {name} {definition}",
                    quoted(&table)
                ))?;
            }
        }
    }
    Ok(())
}
