//! Which columns of a file become which parts of a row.

use std::path::Path;

use crate::{
    catalog::{FeatureView, ValueType},
    error::{Error, Result, Violation},
    features::{EntityKey, StoredRow, Timestamp, Value, WriteRow},
};

/// The column that holds the event timestamp where the view's source does not say.
const EVENT_TIMESTAMP: &str = "event_timestamp";

/// A column that a file has to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its name in the file.
    pub(super) name: String,
    /// What it becomes.
    pub(super) value_type: ValueType,
}

/// The columns that make a row: join keys, event timestamp, creation time where it is named, features.
pub(super) struct Layout {
    file: String,
    now: Timestamp,
    columns: Vec<Wanted>,
    key_count: usize,
    has_created: bool,
}

impl Layout {
    /// The layout of a view's source.
    pub(super) fn new(path: &Path, view: &FeatureView, now: Timestamp) -> Self {
        let source = view.source.as_ref();
        let event = source.map_or(EVENT_TIMESTAMP, |source| source.timestamp_field.as_str());
        let created = source.and_then(|source| source.created_timestamp_field.as_deref());
        let times = [Some(event), created].into_iter().flatten();
        let fields = |fields: &[crate::catalog::Field]| -> Vec<Wanted> {
            let wanted = fields.iter().map(|field| Wanted {
                name: field.name.clone(),
                value_type: field.value_type,
            });
            wanted.collect()
        };
        let mut columns = fields(&view.join_keys);
        columns.extend(times.map(|name| Wanted {
            name: name.to_owned(),
            value_type: ValueType::Timestamp,
        }));
        columns.extend(fields(&view.features));
        Layout {
            file: path.display().to_string(),
            now,
            columns,
            key_count: view.join_keys.len(),
            has_created: created.is_some(),
        }
    }

    /// The columns, in the order in which `row` wants their values.
    pub(super) fn columns(&self) -> &[Wanted] {
        &self.columns
    }

    /// Makes a row of one value a column. `row` counts the rows of data from 1.
    pub(super) fn row(
        &self,
        row: u64,
        mut values: impl Iterator<Item = Value>,
    ) -> Result<WriteRow> {
        let mut columns = self.columns.iter();
        let mut required = || -> Result<Value> {
            let value = values.next().unwrap_or(Value::Null);
            let name = columns.next().map_or("", |column| column.name.as_str());
            if value.is_null() {
                return Err(self.cell_fault(row, name, "no value, and every row needs one"));
            }
            Ok(value)
        };
        let key: Result<Vec<Value>> = (0..self.key_count).map(|_| required()).collect();
        let key = EntityKey::new(key?)?;
        let event_timestamp = time(required()?)?;
        let created_at = if self.has_created {
            time(required()?)?
        } else {
            self.now
        };
        Ok(WriteRow {
            key,
            row: StoredRow {
                event_timestamp,
                created_at,
                values: values.collect(),
            },
        })
    }

    /// A fault of the file as a whole, or of a row of it.
    pub(super) fn fault(&self, fault: impl Into<String>) -> Error {
        Error::invalid(self.file.clone(), fault)
    }

    /// Faults of columns, each with the file, as one error; none where there are none.
    pub(super) fn column_faults(&self, faults: Vec<(String, String)>) -> Result<()> {
        if faults.is_empty() {
            return Ok(());
        }
        let violations = faults.into_iter().map(|(column, description)| Violation {
            field: format!("{}, column \"{column}\"", self.file),
            description,
        });
        Err(Error::violations(violations.collect()))
    }

    /// A fault of a cell, with its place.
    pub(super) fn cell_fault(&self, row: u64, column: &str, fault: impl Into<String>) -> Error {
        Error::invalid(
            format!("{}, row {row}, column \"{column}\"", self.file),
            fault,
        )
    }
}

fn time(value: Value) -> Result<Timestamp> {
    if let Value::Timestamp(time) = value {
        return Ok(time);
    }
    Err(Error::internal(format!("a time that is {value}")))
}
