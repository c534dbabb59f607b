//! The rows of a source's SQL query, which runs on the file itself and cannot change it.

use rusqlite::{Row, Transaction};

use super::{fault::Fault, pool::notice_schema, values::to_value};
use crate::{
    catalog::{FeatureView, Field, Origin, Source, ValueType},
    error::{Error, Result},
    features::{
        EntityKey, KeyValues, ROW_BATCH_ROWS, RowTime, StoredRow, Timestamp, Value, WriteRow,
    },
    stores::table::quoted,
};

/// Runs the query of a view's source and hands its rows on in batches.
///
/// # Errors
/// `FailedPrecondition` where the query cannot be run, or naming the columns that it lacks; `InvalidArgument` with row and
/// column of a value that does not fit. Also what `sink` answers.
pub(super) fn read(
    transaction: &Transaction<'_>,
    view: &FeatureView,
    since: Option<Timestamp>,
    mut sink: impl FnMut(Vec<WriteRow>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let (source, query) = query_of(view)?;
    notice_schema(transaction)?;
    let of_query = |fault: Fault| fault.of_query(&view.name);
    // Within brackets there can be a query and nothing else. A comment at its end ends with the line.
    let query = query.trim_end().trim_end_matches(';');
    let mut sql = format!("SELECT * FROM (\n{query}\n)");
    if since.is_some() {
        sql = format!("{sql} WHERE {} >= ?1", quoted(&source.timestamp_field));
    }
    let mut select = transaction.prepare(&sql).map_err(|e| of_query(e.into()))?;
    // As it was written, for the names: brackets make a column that is there twice another one.
    let names = transaction.prepare(query).map_err(|e| of_query(e.into()))?;
    let names: Vec<&str> = names.column_names().collect();
    let columns = Columns::find(view, source, &names)?;
    if let Some(since) = since {
        select.raw_bind_parameter(1, since.micros())?;
    }
    let mut found = select.raw_query();
    let mut batch = Vec::new();
    let mut row_count = 0;
    while let Some(row) = found.next().map_err(|e| of_query(e.into()))? {
        batch.push(columns.read(row, row_count)?);
        row_count += 1;
        if batch.len() >= ROW_BATCH_ROWS {
            sink(std::mem::take(&mut batch))?;
        }
    }
    sink(batch)
}

fn query_of(view: &FeatureView) -> Result<(&Source, &str)> {
    let source = view.source.as_ref();
    match source.map(|source| (source, &source.origin)) {
        Some((source, Origin::Query(query))) => Ok((source, query)),
        Some((_, Origin::Path(_))) | None => Err(Error::internal(format!(
            "a load by a query of the feature view \"{}\", whose source is none",
            view.name
        ))),
    }
}

/// A column of the query and what it becomes.
struct Column<'a> {
    index: usize,
    name: &'a str,
    value_type: ValueType,
}

/// The columns of the query that a view needs.
struct Columns<'a> {
    keys: Vec<Column<'a>>,
    features: Vec<Column<'a>>,
    event_timestamp: Column<'a>,
    created_at: Option<Column<'a>>,
    /// The time at which a row was made, where the query has none.
    now: Timestamp,
}

impl<'a> Columns<'a> {
    fn find(view: &'a FeatureView, source: &'a Source, names: &[&str]) -> Result<Columns<'a>> {
        let mut faults = Vec::new();
        let mut column = |name: &'a str, value_type| {
            let mut found = names.iter().enumerate().filter(|(_, own)| **own == name);
            let index = found.next().map(|(index, _)| index);
            if index.is_none() {
                faults.push(format!("the query has no column \"{name}\""));
            } else if found.next().is_some() {
                faults.push(format!("the query has the column \"{name}\" twice"));
            }
            Column {
                index: index.unwrap_or_default(),
                name,
                value_type,
            }
        };
        let mut all = |fields: &'a [Field]| -> Vec<Column<'a>> {
            let fields = fields.iter();
            fields
                .map(|field| column(&field.name, field.value_type))
                .collect()
        };
        let (keys, features) = (all(&view.join_keys), all(&view.features));
        let created = source.created_timestamp_field.as_deref();
        let columns = Columns {
            keys,
            features,
            event_timestamp: column(&source.timestamp_field, ValueType::Timestamp),
            created_at: created.map(|name| column(name, ValueType::Timestamp)),
            now: Timestamp::now(),
        };
        if faults.is_empty() {
            return Ok(columns);
        }
        Err(Error::failed_precondition(format!(
            "feature view \"{}\": {}",
            view.name,
            faults.join("; ")
        )))
    }

    fn read(&self, row: &Row<'_>, number: u64) -> Result<WriteRow, Fault> {
        let mut time = RowTime {
            event_timestamp: self.event_timestamp.time(row, number)?,
            created_at: self.now,
        };
        if let Some(created_at) = &self.created_at {
            time.created_at = created_at.time(row, number)?;
        }
        let keys = self.keys.iter().map(|key| key.needed(row, number));
        let features = self.features.iter().map(|column| column.cell(row, number));
        Ok(WriteRow {
            key: EntityKey::new(keys.collect::<Result<KeyValues, Fault>>()?)?,
            row: StoredRow::whole(time, features.collect::<Result<_, Fault>>()?),
        })
    }
}

impl Column<'_> {
    fn cell(&self, row: &Row<'_>, number: u64) -> Result<Value, Fault> {
        let value = to_value(row.get_ref(self.index)?, self.value_type);
        value.ok_or_else(|| {
            self.unfit(
                number,
                format!("gives a value that is no {}", self.value_type),
            )
        })
    }

    /// A value that must be there.
    fn needed(&self, row: &Row<'_>, number: u64) -> Result<Value, Fault> {
        let value = self.cell(row, number)?;
        if value.is_null() {
            return Err(self.unfit(number, "gives null, which this column cannot be".to_owned()));
        }
        Ok(value)
    }

    fn time(&self, row: &Row<'_>, number: u64) -> Result<Timestamp, Fault> {
        let Value::Timestamp(timestamp) = self.needed(row, number)? else {
            return Err(self.unfit(number, "gives no point in time".to_owned()));
        };
        Ok(timestamp)
    }

    fn unfit(&self, number: u64, fault: String) -> Fault {
        Fault::Own(Error::invalid(
            format!("rows[{number}].{}", self.name),
            format!("the query {fault}"),
        ))
    }
}
