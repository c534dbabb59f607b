//! Which columns of a file become which parts of a row.

use std::path::Path;

use crate::{
    catalog::{FeatureView, ValueType},
    error::{Error, Result, Violation},
    features::{EntityKey, RowTime, StoredRow, Timestamp, Value, WriteRow, key_fault, value_fault},
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
    ///
    /// # Errors
    /// `InvalidArgument`, with the place, where a key or time has no value, or for what no store can keep: a store would
    /// know no more than the row's number.
    pub(super) fn row(
        &self,
        row: u64,
        mut values: impl Iterator<Item = Value>,
    ) -> Result<WriteRow> {
        let required = self.key_count + 1 + usize::from(self.has_created);
        let mut cells = Vec::with_capacity(self.columns.len());
        for (position, column) in self.columns.iter().enumerate() {
            let value = values.next().unwrap_or(Value::Null);
            if value.is_null() && position < required {
                let fault = "no value, and every row needs one";
                return Err(self.cell_fault(row, &column.name, fault));
            }
            if let Some(fault) = value_fault(&value) {
                return Err(self.cell_fault(row, &column.name, fault));
            }
            cells.push(value);
        }
        let mut cells = cells.into_iter();
        let key = EntityKey::new(cells.by_ref().take(self.key_count).collect())?;
        if let Some((position, fault)) = key_fault(&key) {
            let name = self.columns.get(position).map_or("", |key| &key.name);
            return Err(self.cell_fault(row, name, fault));
        }
        let mut next_time = || time(cells.next().unwrap_or(Value::Null));
        let event_timestamp = next_time()?;
        let created_at = if self.has_created {
            next_time()?
        } else {
            self.now
        };
        Ok(WriteRow {
            key,
            row: StoredRow::whole(
                RowTime {
                    event_timestamp,
                    created_at,
                },
                cells.collect(),
            ),
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
