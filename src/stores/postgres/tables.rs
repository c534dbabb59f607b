//! The tables of views: making, changing and dropping them, as a plan says, within its transaction.

use deadpool_postgres::Transaction;
use tokio_postgres::error::SqlState;

use super::{fault::Fault, values::sql_type};
use crate::{
    catalog::{FeatureView, Field, TableChange, ViewChange},
    error::Error,
    stores::{
        feature_times::{FEATURE_TIMES, GENERATION},
        table::{
            column_names, history_index_name, history_name, key_names, name_taken, quoted,
            quoted_list, table_name,
        },
    },
};

/// Pages are left a fifth empty, so that an update finds room beside the row and touches no index.
const FILLFACTOR_PERCENT: u8 = 80;

/// Makes a view's table and its history as they are to be.
pub(super) async fn apply(transaction: &Transaction<'_>, change: &ViewChange) -> Result<(), Fault> {
    let view = change.view.as_ref();
    let table = table_name(view);
    let history = history_name(view);
    let create_table = format!(
        "CREATE TABLE {} ({}, PRIMARY KEY ({})) WITH (fillfactor = {FILLFACTOR_PERCENT})",
        quoted(&table),
        columns(view),
        quoted_list(key_names(view))
    );
    // No index but the primary key on the one: updates then touch none. The other is never updated.
    let create_history = format!(
        "CREATE TABLE {name} ({}); CREATE INDEX {} ON {name} ({})",
        columns(view),
        quoted(&history_index_name(view)),
        quoted_list(key_names(view).chain(["event_timestamp"])),
        name = quoted(&history),
    );
    change_table(transaction, view, &change.table, &table, &create_table).await?;
    change_table(
        transaction,
        view,
        &change.history,
        &history,
        &create_history,
    )
    .await?;
    if matches!(change.table, TableChange::Drop | TableChange::Recreate) {
        // What was loaded into the table is gone with it, and may be loaded again.
        let sql = "DELETE FROM ferrocast_materializations WHERE view = $1";
        transaction.execute(sql, &[&view.name]).await?;
    }
    if change.history == TableChange::Create && view.table.is_none() {
        let columns = quoted_list(column_names(view));
        let sql = format!(
            "INSERT INTO {} ({columns}) SELECT {columns} FROM {}",
            quoted(&history),
            quoted(&table)
        );
        transaction.batch_execute(&sql).await?;
    }
    Ok(())
}

async fn change_table(
    transaction: &Transaction<'_>,
    view: &FeatureView,
    change: &TableChange,
    table: &str,
    create: &str,
) -> Result<(), Fault> {
    let drop = format!("DROP TABLE IF EXISTS {}", quoted(table));
    match change {
        TableChange::Keep => {}
        TableChange::Drop => transaction.batch_execute(&drop).await?,
        TableChange::Create => make(transaction, table, create).await?,
        TableChange::Recreate => {
            transaction.batch_execute(&drop).await?;
            make(transaction, table, create).await?;
        }
        TableChange::Alter { dropped, added } => {
            alter(transaction, view, table, dropped, added).await?;
        }
    }
    Ok(())
}

async fn make(transaction: &Transaction<'_>, table: &str, create: &str) -> Result<(), Fault> {
    let made = transaction.batch_execute(create).await;
    made.map_err(|error| taken(error, &format!("a table {table}")))
}

/// No row is rewritten: a column more is null in all of them, and the generation that they have says that it is none.
async fn alter(
    transaction: &Transaction<'_>,
    view: &FeatureView,
    table: &str,
    dropped: &[String],
    added: &[Field],
) -> Result<(), Fault> {
    let name = quoted(table);
    let mut steps: Vec<String> = dropped
        .iter()
        .map(|column| format!("DROP COLUMN IF EXISTS {}", quoted(column)))
        .collect();
    steps.push(format!(
        "ALTER COLUMN {GENERATION} SET DEFAULT {}",
        view.generation
    ));
    let sql = format!("ALTER TABLE {name} {}", steps.join(", "));
    transaction.batch_execute(&sql).await?;
    for field in added {
        let sql = format!("ALTER TABLE {name} ADD COLUMN {}", column(field));
        let done = transaction.batch_execute(&sql).await;
        done.map_err(|error| unfit_column(error, view, &format!("{table}.{}", field.name)))?;
    }
    Ok(())
}

fn unfit_column(error: tokio_postgres::Error, view: &FeatureView, column: &str) -> Fault {
    if error.code() != Some(&SqlState::TOO_MANY_COLUMNS) {
        return taken(error, &format!("a column {column}"));
    }
    let sentence = format!(
        "the column {column} cannot be added: a table of PostgreSQL has 1600 columns in its life at the most, and those \
         that were dropped or got another type count; drop the feature view \"{}\", define it anew and load it again",
        view.name
    );
    Fault::Own(Error::failed_precondition(sentence).with_source(error))
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

/// The columns of a view's table, and of its history.
fn columns(view: &FeatureView) -> String {
    let keys = view
        .join_keys
        .iter()
        .map(|key| format!("{} NOT NULL", column(key)));
    let times = ["event_timestamp", "created_at"]
        .into_iter()
        .map(|name| format!("{name} timestamptz NOT NULL"));
    let own = [
        format!("{FEATURE_TIMES} jsonb"),
        format!("{GENERATION} integer NOT NULL DEFAULT {}", view.generation),
    ];
    let columns: Vec<String> = keys
        .chain(times)
        .chain(view.features.iter().map(column))
        .chain(own)
        .collect();
    columns.join(", ")
}
