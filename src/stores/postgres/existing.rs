//! Views on tables of somebody else's: the check of the table, and the SQL that reads it.
//!
//! A table is looked at when a view on it is applied, and by each server before it first reads it; it is read as it was
//! found until a statement says that it has changed.

use std::sync::Arc;

use tokio_postgres::Client;

use super::{
    columns::Found,
    fault::{self, Fault},
    pool::Database,
    rows,
    sql::{key_aliases, key_carriers, unnest},
};
use crate::{
    catalog::{ExistingTable, FeatureView, PerView, ValueType},
    error::{Error, Result},
    features::{EntityKey, RowSink, Scan, StoredRow},
    stores::table::{existing_columns, quoted},
};

/// The SQL of the views on existing tables, as their tables were found.
#[derive(Default)]
pub(super) struct ExistingTables {
    found: PerView<Arc<TableSql>>,
}

/// The SQL that reads a view's table.
pub(super) struct TableSql {
    /// For `rows::read`.
    read: String,
    /// Every entity's newest row, key first; the parameter is the oldest event timestamp, or null.
    scan: String,
    /// The same of every row.
    scan_all: String,
}

impl ExistingTables {
    /// The SQL of a view on an existing table; looks at the table where that was not done yet.
    async fn sql(
        &self,
        database: &Database,
        view: &FeatureView,
        table: &ExistingTable,
    ) -> Result<Arc<TableSql>> {
        match self.found.get(view) {
            Some(known) => Ok(known),
            None => self.look_again(database, view, table).await,
        }
    }

    async fn look_again(
        &self,
        database: &Database,
        view: &FeatureView,
        table: &ExistingTable,
    ) -> Result<Arc<TableSql>> {
        let mut lease = database.lease().await?;
        let looked = Box::pin(look_at(lease.client()?, view, table));
        let found = database.bounded(looked).await;
        let found = lease.settle(found);
        let sql = Arc::new(found.map_err(|fault| fault.at(database.target()))?);
        self.found.set(view, Arc::clone(&sql));
        Ok(sql)
    }

    /// Goes through the rows: the newest of each entity, or all of them, which are the table's history.
    pub(super) async fn scan(
        &self,
        database: &Database,
        view: &FeatureView,
        table: &ExistingTable,
        scan: Scan,
        sink: RowSink,
    ) -> Result<()> {
        // That is long enough to look at the table each time.
        let sql = self.look_again(database, view, table).await?;
        let text = if scan.history {
            &sql.scan_all
        } else {
            &sql.scan
        };
        let done = super::scan::scan(database, view, text, scan.since, sink).await;
        done.map_err(|fault| fault.at_table(database.target(), table))
    }

    /// Reads rows in the order of the keys.
    pub(super) async fn read(
        &self,
        database: &Database,
        view: &FeatureView,
        table: &ExistingTable,
        keys: &[EntityKey],
    ) -> Result<Vec<Option<StoredRow>>> {
        let sql = self.sql(database, view, table).await?;
        match rows::read(database, view, &sql.read, keys).await {
            Err(fault) if fault.is_of_schema() || fault.is_of_values() => {
                // Looked at again, a table that does not fit any more is told with all that is wrong.
                let again = self.look_again(database, view, table).await?;
                if fault.is_of_values() && again.read == sql.read {
                    return Err(fault.at_table(database.target(), table));
                }
                let read = rows::read(database, view, &again.read, keys).await;
                read.map_err(|fault| fault.at_table(database.target(), table))
            }
            read => read.map_err(|fault| fault.at_table(database.target(), table)),
        }
    }
}

/// The table's name as SQL text: as it is written, part by part, unless it is written with quotes, as SQL does.
fn table_text(table: &ExistingTable) -> String {
    if table.name.contains('"') {
        return table.name.clone();
    }
    let parts: Vec<String> = table.name.split('.').map(quoted).collect();
    parts.join(".")
}

/// Checks that a table is there and has every column that a view reads, of a type that can become the declared one; the
/// SQL that reads it.
///
/// # Errors
/// `Own` with `FailedPrecondition` and every fault.
pub(super) async fn look_at(
    client: &Client,
    view: &FeatureView,
    table: &ExistingTable,
) -> Result<TableSql, Fault> {
    let text = table_text(table);
    let what = format!("the table {}", table.name);
    let at_fault = |faults: &str| {
        Error::failed_precondition(format!("feature view \"{}\": {faults}", view.name))
    };
    let row = client
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&text])
        .await
        .map_err(|error| match fault::refused_name(&error) {
            Some(said) => Fault::Own(at_fault(&format!("{what} cannot be looked up: {said}"))),
            None => Fault::Driver(error),
        })?;
    if !row.try_get::<_, bool>(0)? {
        return Err(at_fault(&format!("{what} does not exist")).into());
    }
    let statement = client.prepare(&format!("SELECT * FROM {text}")).await?;
    let mut found = Found {
        what,
        columns: statement.columns(),
        faults: Vec::new(),
    };
    let parts = Parts::of(view, table, &mut found);
    if !found.faults.is_empty() {
        return Err(at_fault(&found.faults.join("; ")).into());
    }
    if !may_read(client, view, table, &text).await? {
        return Err(at_fault(&format!(
            "the login has no right to SELECT from {}, or not all the columns that the view reads",
            found.what
        ))
        .into());
    }
    Ok(parts.sql(view, &text))
}

/// Whether the login may read the columns of a table that is there and has them.
async fn may_read(
    client: &Client,
    view: &FeatureView,
    table: &ExistingTable,
    text: &str,
) -> Result<bool, Fault> {
    let columns: Vec<&str> = existing_columns(view, table).collect();
    let sql = "SELECT has_table_privilege(found, 'SELECT') OR (SELECT bool_and(has_column_privilege(found, name, 'SELECT')) \
               FROM unnest($2::text[]) AS wanted(name)) FROM (SELECT to_regclass($1)::oid) AS looked_up(found)";
    let row = client.query_one(sql, &[&text, &columns]).await?;
    Ok(row.try_get(0)?)
}

/// The pieces of SQL that both statements are made of.
struct Parts {
    /// Expressions of the join keys, of a row `found`.
    keys: Vec<String>,
    /// Expressions of all that `rows::read_row` reads.
    values: Vec<String>,
    /// That a row is of the entity asked for.
    is_asked: String,
    /// That a row has a time at all, and that it is no older than a parameter.
    has_time: String,
    is_recent: String,
    /// The newest first.
    order: String,
}

impl Parts {
    fn of(view: &FeatureView, table: &ExistingTable, found: &mut Found<'_>) -> Parts {
        let mut keys = Vec::new();
        let mut conditions = Vec::new();
        for (index, key) in view.join_keys.iter().enumerate() {
            let name = table.column(&key.name);
            keys.extend(found.read_as("found", name, key.value_type));
            let parameter = found.key_as(name, &format!("asked.k{index}"));
            conditions.push(format!("found.{} = {parameter}", quoted(name)));
        }
        let time = found.store_as("found", &table.timestamp_field, ValueType::Timestamp);
        let is_recent = format!(
            "($1::timestamptz IS NULL OR {} >= $1)",
            time.as_deref().unwrap_or_default()
        );
        let created = match &table.created_timestamp_field {
            Some(name) => found.read_as("found", name, ValueType::Timestamp),
            // As old as its event, where nothing tells when it was made.
            None => time.clone(),
        };
        let mut values: Vec<String> = time.into_iter().chain(created).collect();
        for feature in &view.features {
            let name = table.column(&feature.name);
            values.extend(found.read_as("found", name, feature.value_type));
        }
        values.push("NULL::text".to_owned());
        values.push(view.generation.to_string());
        let time = format!("found.{}", quoted(&table.timestamp_field));
        let mut order = format!("{time} DESC");
        if let Some(created) = &table.created_timestamp_field {
            order = format!("{order}, found.{} DESC NULLS LAST", quoted(created));
        }
        Parts {
            keys,
            values,
            is_asked: conditions.join(" AND "),
            has_time: format!("{time} IS NOT NULL"),
            is_recent,
            order,
        }
    }

    fn sql(&self, view: &FeatureView, table: &str) -> TableSql {
        let named = |values: &[String], prefix: &str| {
            let values = values.iter().enumerate();
            let named: Vec<String> = values
                .map(|(index, value)| format!("{value} AS {prefix}{index}"))
                .collect();
            named.join(", ")
        };
        let values = named(&self.values, "v");
        let keys = self.keys.join(", ");
        // The newest row of an entity by the index of its key: a row at a time, however many it has.
        let read = format!(
            "SELECT newest.* FROM {} WITH ORDINALITY AS asked({}, n) LEFT JOIN LATERAL \
             (SELECT {values} FROM {table} AS found WHERE {} AND {} ORDER BY {} LIMIT 1) AS newest ON true ORDER BY asked.n",
            unnest(&key_carriers(view)),
            key_aliases(view),
            self.is_asked,
            self.has_time,
            self.order
        );
        let scan_all = |distinct: &str, order: &str| {
            let are_keys: Vec<String> = self
                .keys
                .iter()
                .map(|k| format!("{k} IS NOT NULL"))
                .collect();
            format!(
                "SELECT {distinct} {}, {values} FROM {table} AS found WHERE {} AND {} AND {} {order}",
                named(&self.keys, "k"),
                self.has_time,
                are_keys.join(" AND "),
                self.is_recent
            )
        };
        TableSql {
            read,
            scan: scan_all(
                &format!("DISTINCT ON ({keys})"),
                &format!("ORDER BY {keys}, {}", self.order),
            ),
            scan_all: scan_all("", ""),
        }
    }
}
