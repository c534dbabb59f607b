//! Rows of a view's table: reading by key in one statement; rows as parameters.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Row, types::ToSql};

use super::{
    fault::Fault,
    pool::Database,
    values::{Bound, Cell},
};
use crate::{
    catalog::{FeatureView, ValueType},
    error::Result,
    features::{EntityKey, RowTime, StoredRow, Timestamp, Value, WriteRow},
    stores::{
        feature_times,
        table::{CREATED_AT, EVENT_TIMESTAMP, is_storable, unfit_cell},
    },
};

/// How often a statement is tried that others got in the way of, or that met a connection gone dead.
pub(super) const ATTEMPTS_MAX: u32 = 4;

/// After each failed attempt the wait grows by this, so that whoever was let through has got on by then.
const CONTENTION_WAIT: Duration = Duration::from_millis(10);

/// Reads rows in the order of the keys, by SQL whose parameters are theirs, an array a join key.
pub(super) async fn read(
    database: &Database,
    view: &FeatureView,
    sql: &str,
    keys: &[EntityKey],
) -> Result<Vec<Option<StoredRow>>, Fault> {
    // Postgres refuses a NUL character in a parameter, and can hold no row that has one.
    let asked: Vec<&EntityKey> = keys.iter().filter(|key| is_storable(key)).collect();
    let mut found = if asked.is_empty() {
        Vec::new()
    } else {
        read_storable(database, view, sql, &asked).await?
    }
    .into_iter();
    Ok(keys
        .iter()
        .map(|key| is_storable(key).then(|| found.next().flatten()).flatten())
        .collect())
}

async fn read_storable(
    database: &Database,
    view: &FeatureView,
    sql: &str,
    keys: &[&EntityKey],
) -> Result<Vec<Option<StoredRow>>, Fault> {
    let columns = transposed(keys.iter().map(|key| key.values().iter()));
    for attempt in 1_u32.. {
        // A second attempt goes by the pool, so that pinned connections at fault are not met one after the other.
        let asked = match attempt {
            1 => ask(database, sql, &columns).await,
            _ => ask_pool(database, sql, &columns).await,
        };
        match asked {
            Ok(rows) => {
                return rows
                    .iter()
                    .zip(keys)
                    .map(|(row, key)| {
                        let found = read_row(row, 0, view).map_err(|fault| fault.of_entity(key))?;
                        Ok(found.map(|(row, _)| row))
                    })
                    .collect();
            }
            Err(fault) => {
                // Reading twice does no harm, so a connection that the server has closed is not the caller's concern.
                let is_worth_it =
                    fault.is_of_connection() || fault.is_of_plan() || fault.is_contention();
                let is_timeout = matches!(fault, Fault::Timeout(_));
                if !is_worth_it || is_timeout || attempt >= ATTEMPTS_MAX {
                    return Err(fault);
                }
            }
        }
    }
    Ok(Vec::new())
}

/// Asks on a pinned connection or, where none has room, on one of the pool.
async fn ask(database: &Database, sql: &str, columns: &Columns<'_>) -> Result<Vec<Row>, Fault> {
    if let Some(place) = database.place().await {
        let asked = database.bounded(query(place.client(), sql, columns));
        if let Some(answer) = place.wait(asked).await {
            return place.settle(answer);
        }
    }
    ask_pool(database, sql, columns).await
}

async fn ask_pool(
    database: &Database,
    sql: &str,
    columns: &Columns<'_>,
) -> Result<Vec<Row>, Fault> {
    let mut lease = database.lease().await?;
    let asked = query(lease.client()?, sql, columns);
    let answer = database.bounded(asked).await;
    if answer.is_ok() {
        database.adopt(lease);
        return answer;
    }
    lease.settle(answer)
}

async fn query(
    client: &ClientWrapper,
    sql: &str,
    columns: &[Vec<Bound<'_>>],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    client.query(&statement, &parameters(columns)).await
}

/// A stored row whose columns begin at `first`, with the generation that it was written in; none where an outer join
/// found no row.
pub(super) fn read_row(
    row: &Row,
    first: usize,
    view: &FeatureView,
) -> Result<Option<(StoredRow, u32)>, Fault> {
    let time = |index, name| match cell(row, index, view, name, ValueType::Timestamp) {
        Ok(Value::Timestamp(timestamp)) => Ok(Some(timestamp)),
        Ok(_) => Ok(None),
        Err(fault) => Err(fault),
    };
    let Some(event_timestamp) = time(first, EVENT_TIMESTAMP)? else {
        return Ok(None);
    };
    let own = RowTime {
        event_timestamp,
        created_at: time(first + 1, CREATED_AT)?.unwrap_or(Timestamp::EPOCH),
    };
    let mut values = Vec::with_capacity(view.features.len());
    for (index, field) in view.features.iter().enumerate() {
        let index = first + 2 + index;
        values.push(cell(row, index, view, &field.name, field.value_type)?);
    }
    let after = first + 2 + view.features.len();
    let text: Option<&str> = row.try_get(after)?;
    let generation: i32 = row.try_get(after + 1)?;
    let generation = u32::try_from(generation).unwrap_or_default();
    let stored = StoredRow {
        feature_times: feature_times::decode(view, own, text, generation)?,
        ..StoredRow::whole(own, values)
    };
    Ok(Some((stored, generation)))
}

/// A value of a column of the view, or why it is none of the column's type.
pub(super) fn cell(
    row: &Row,
    index: usize,
    view: &FeatureView,
    name: &str,
    value_type: ValueType,
) -> Result<Value, Fault> {
    let unfit = || unfit_cell(view, name, value_type);
    match row.try_get(index) {
        Ok(Cell(value)) if value.fits(value_type) => Ok(value),
        Ok(Cell(_)) => Err(unfit().into()),
        Err(error) => Err(unfit().with_source(error).into()),
    }
}

/// What a row brings beside its key and its features, as values: both times, and those of its features.
pub(super) struct Times {
    row: [Value; 2],
    features: Value,
}

impl Times {
    /// The times of a row.
    pub(super) fn of(view: &FeatureView, write: &WriteRow) -> Result<Times> {
        let features = feature_times::encode(view, &write.row)?;
        Ok(Times {
            row: [
                Value::Timestamp(write.row.event_timestamp),
                Value::Timestamp(write.row.created_at),
            ],
            features: features.map_or(Value::Null, |text| Value::String(text.into())),
        })
    }
}

/// Rows with their times as the parameters that `sql` speaks of as `asked`.
pub(super) fn asked<'a>(rows: impl Iterator<Item = (&'a WriteRow, &'a Times)>) -> Columns<'a> {
    transposed(rows.map(|(write, times)| {
        let key = write.key.values().iter();
        key.chain(&times.row)
            .chain(&write.row.values)
            .chain([&times.features])
    }))
}

/// Columns of values, one an array parameter.
pub(super) type Columns<'a> = Vec<Vec<Bound<'a>>>;

/// The columns as the driver takes them.
pub(super) fn parameters<'a>(columns: &'a [Vec<Bound<'a>>]) -> Vec<&'a (dyn ToSql + Sync)> {
    columns
        .iter()
        .map(|column| column as &(dyn ToSql + Sync))
        .collect()
}

/// Rows of values as columns of values.
pub(super) fn transposed<'a, R: Iterator<Item = &'a Value>>(
    rows: impl Iterator<Item = R>,
) -> Columns<'a> {
    let mut columns: Columns<'a> = Vec::new();
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

/// Waits before the next attempt, longer each time.
pub(super) async fn contention_wait(attempt: u32) {
    tokio::time::sleep(CONTENTION_WAIT * attempt).await;
}
