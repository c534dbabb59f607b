//! Rows of a view's table: reading by key in one statement, conditional upserts in one statement.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Row, types::ToSql};

use super::{
    fault::Fault,
    pool::Database,
    values::{Bound, Cell, sql_type},
};
use crate::{
    catalog::{FeatureView, ValueType},
    error::Result,
    features::{EntityKey, StoredRow, Timestamp, Value, WriteCounts, WriteRow},
    stores::{
        statements::Statements,
        table::{
            column_types, combined, is_storable, key_names, quoted, quoted_list, table_name,
            unfit_cell, upsert_tail, value_names,
        },
    },
};

/// How often a statement is tried that others got in the way of, or that met a connection gone dead.
const ATTEMPTS_MAX: u32 = 4;

/// After each failed attempt the wait grows by this, so that whoever was let through has got on by then.
const CONTENTION_WAIT: Duration = Duration::from_millis(10);

/// The SQL of a view.
pub(super) fn build_statements(view: &FeatureView) -> Statements {
    let table = quoted(&table_name(view));
    let arrays = |types: &mut dyn Iterator<Item = ValueType>| {
        let parameters = types
            .enumerate()
            .map(|(index, value_type)| format!("${}::{}[]", index + 1, sql_type(value_type)));
        parameters.collect::<Vec<_>>().join(", ")
    };
    let selected: Vec<String> = value_names(view)
        .map(|name| format!("stored.{}", quoted(name)))
        .collect();
    let aliases: Vec<String> = (0..view.join_keys.len())
        .map(|index| format!("k{index}"))
        .collect();
    let conditions: Vec<String> = key_names(view)
        .zip(&aliases)
        .map(|(name, alias)| format!("stored.{} = asked.{alias}", quoted(name)))
        .collect();
    Statements {
        view: view.clone(),
        read: format!(
            "SELECT {} FROM unnest({}) WITH ORDINALITY AS asked({}, n) LEFT JOIN {table} AS stored ON {} ORDER BY asked.n",
            selected.join(", "),
            arrays(&mut view.join_keys.iter().map(|key| key.value_type)),
            aliases.join(", "),
            conditions.join(" AND ")
        ),
        write: format!(
            "INSERT INTO {table} AS stored ({}) SELECT * FROM unnest({}) {}",
            quoted_list(key_names(view).chain(value_names(view))),
            arrays(&mut column_types(view)),
            upsert_tail(view)
        ),
        replace: String::new(),
        history: Vec::new(),
    }
}

/// Reads rows in the order of the keys.
pub(super) async fn read(
    database: &Database,
    statements: &Statements,
    keys: &[EntityKey],
) -> Result<Vec<Option<StoredRow>>> {
    // Postgres refuses a NUL character in a parameter, and can hold no row that has one.
    let asked: Vec<&EntityKey> = keys.iter().filter(|key| is_storable(key)).collect();
    let mut found = if asked.is_empty() {
        Vec::new()
    } else {
        read_storable(database, statements, &asked).await?
    }
    .into_iter();
    Ok(keys
        .iter()
        .map(|key| is_storable(key).then(|| found.next().flatten()).flatten())
        .collect())
}

async fn read_storable(
    database: &Database,
    statements: &Statements,
    keys: &[&EntityKey],
) -> Result<Vec<Option<StoredRow>>> {
    let columns = transposed(keys.iter().map(|key| key.values().iter()));
    for attempt in 1_u32.. {
        let mut lease = database.lease().await?;
        let asked = query(lease.client()?, &statements.read, &columns);
        let answer = database.bounded(asked).await;
        match lease.settle(answer) {
            Ok(rows) => {
                return rows
                    .iter()
                    .map(|row| read_row(row, &statements.view))
                    .collect::<Result<_, Fault>>()
                    .map_err(|fault| fault.at(database.target()));
            }
            Err(fault) => {
                // Reading twice does no harm, so a connection that the server has closed is not the caller's concern.
                let is_worth_it =
                    fault.is_of_connection() || fault.is_of_plan() || fault.is_contention();
                let is_timeout = matches!(fault, Fault::Timeout(_));
                if !is_worth_it || is_timeout || attempt >= ATTEMPTS_MAX {
                    return Err(fault.at(database.target()));
                }
            }
        }
    }
    Ok(Vec::new())
}

async fn query(
    client: &ClientWrapper,
    sql: &str,
    columns: &[Vec<Bound<'_>>],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    client.query(&statement, &parameters(columns)).await
}

fn read_row(row: &Row, view: &FeatureView) -> Result<Option<StoredRow>, Fault> {
    let Cell(Value::Timestamp(event_timestamp)) = cell(row, 0, view, "event_timestamp")? else {
        return Ok(None);
    };
    let created_at = match cell(row, 1, view, "created_at")? {
        Cell(Value::Timestamp(created_at)) => created_at,
        Cell(_) => Timestamp::EPOCH,
    };
    let mut values = Vec::with_capacity(view.features.len());
    for (index, field) in view.features.iter().enumerate() {
        let Cell(value) = cell(row, index + 2, view, &field.name)?;
        if !value.fits(field.value_type) {
            return Err(unfit_cell(&table_name(view), &field.name, field.value_type).into());
        }
        values.push(value);
    }
    Ok(Some(StoredRow {
        event_timestamp,
        created_at,
        values,
        feature_times: None,
    }))
}

fn cell(row: &Row, index: usize, view: &FeatureView, name: &str) -> Result<Cell, Fault> {
    row.try_get(index).map_err(|error| {
        let value_type = view
            .feature_index(name)
            .and_then(|position| view.features.get(position))
            .map_or(ValueType::Timestamp, |field| field.value_type);
        Fault::Own(unfit_cell(&table_name(view), name, value_type).with_source(error))
    })
}

/// Writes checked rows in one statement.
pub(super) async fn write(
    database: &Database,
    statements: &Statements,
    rows: Vec<WriteRow>,
) -> Result<WriteCounts> {
    let row_count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    let rows: Vec<WriteRow> = combined(rows).into_iter().map(|c| c.write).collect();
    let times: Vec<[Value; 2]> = rows.iter().map(times).collect();
    let cells = rows.iter().zip(&times);
    let columns = transposed(cells.map(|(write, times)| {
        let key = write.key.values().iter();
        key.chain(times).chain(&write.row.values)
    }));
    for attempt in 1_u32.. {
        let mut lease = database.lease().await?;
        let work = execute(lease.client()?, &statements.write, &columns);
        let done = database.bounded(work).await;
        match lease.settle(done) {
            Ok(written) => {
                return Ok(WriteCounts {
                    written,
                    late: row_count - written,
                });
            }
            Err(fault) => {
                let is_undone = fault.is_contention() || fault.is_of_plan();
                if !is_undone || attempt >= ATTEMPTS_MAX {
                    return Err(fault.at_view(database.target(), &statements.view.name));
                }
                contention_wait(attempt).await;
            }
        }
    }
    Ok(WriteCounts::default())
}

/// Waits before the next attempt, longer each time.
pub(super) async fn contention_wait(attempt: u32) {
    tokio::time::sleep(CONTENTION_WAIT * attempt).await;
}

/// Both times of a row, as values.
pub(super) fn times(write: &WriteRow) -> [Value; 2] {
    [
        Value::Timestamp(write.row.event_timestamp),
        Value::Timestamp(write.row.created_at),
    ]
}

async fn execute(
    client: &ClientWrapper,
    sql: &str,
    columns: &[Vec<Bound<'_>>],
) -> Result<u64, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    client.execute(&statement, &parameters(columns)).await
}

fn parameters<'a>(columns: &'a [Vec<Bound<'a>>]) -> Vec<&'a (dyn ToSql + Sync)> {
    columns
        .iter()
        .map(|column| column as &(dyn ToSql + Sync))
        .collect()
}

/// Rows of values as columns of values, one an array parameter.
fn transposed<'a, R: Iterator<Item = &'a Value>>(
    rows: impl Iterator<Item = R>,
) -> Vec<Vec<Bound<'a>>> {
    let mut columns: Vec<Vec<Bound<'a>>> = Vec::new();
    for row in rows {
        for (index, value) in row.enumerate() {
            match columns.get_mut(index) {
                Some(column) => column.push(Bound(value)),
                None => columns.push(vec![Bound(value)]),
            }
        }
    }
    columns
}
