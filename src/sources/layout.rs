//! Which columns of a file become which parts of a row.

use crate::{
    catalog::{FeatureView, ScalarType, ValueType},
    error::{Error, Result, Violation},
    features::{
        EntityKey, KeyValues, RowTime, StoredRow, Timestamp, Value, WriteRow, key_fault,
        value_fault,
    },
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

impl Wanted {
    /// Whether its values can hold what no store can keep.
    fn holds_text(&self) -> bool {
        matches!(
            self.value_type,
            ValueType::String | ValueType::List(ScalarType::String)
        )
    }
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
    /// The layout of a view's source; `file` is how faults name it.
    pub(super) fn new(file: String, view: &FeatureView, now: Timestamp) -> Self {
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
            file,
            now,
            columns,
            key_count: view.join_keys.len(),
            has_created: created.is_some(),
        }
    }

    /// The columns, in the order in which `rows` wants their values.
    pub(super) fn columns(&self) -> &[Wanted] {
        &self.columns
    }

    /// Makes rows of columns, which stand in the order of `columns()` and are all as long as each other. `first_row` is
    /// the number of the first one in the file; rows of data are counted from 1.
    ///
    /// # Errors
    /// `InvalidArgument`, with the place, where a key or time has no value, or for what no store can keep: a store would
    /// know no more than the row's number.
    pub(super) fn rows(&self, first_row: u64, columns: Vec<Vec<Value>>) -> Result<Vec<WriteRow>> {
        let row_count = columns.first().map_or(0, Vec::len);
        let required = self.key_count + 1 + usize::from(self.has_created);
        for (position, (wanted, values)) in self.columns.iter().zip(&columns).enumerate() {
            if position < required
                && let Some(index) = values.iter().position(Value::is_null)
            {
                let fault = "no value, and every row needs one";
                return Err(self.cell_fault(row_number(first_row, index), &wanted.name, fault));
            }
            self.check_storable(first_row, wanted, values)?;
        }
        let mut columns = columns.into_iter().map(Vec::into_iter);
        let mut keys: Vec<_> = columns.by_ref().take(self.key_count).collect();
        let mut event_times = columns.next().unwrap_or_default();
        let mut created_times = if self.has_created {
            columns.next()
        } else {
            None
        };
        let mut features: Vec<_> = columns.collect();
        let mut rows = Vec::with_capacity(row_count);
        for index in 0..row_count {
            let key = EntityKey::new(next_of_each::<KeyValues>(&mut keys))?;
            if let Some((position, fault)) = key_fault(&key) {
                let name = self.columns.get(position).map_or("", |key| &key.name);
                return Err(self.cell_fault(row_number(first_row, index), name, fault));
            }
            let time = RowTime {
                event_timestamp: time(event_times.next())?,
                created_at: match &mut created_times {
                    Some(times) => time(times.next())?,
                    None => self.now,
                },
            };
            let row = StoredRow::whole(time, next_of_each(&mut features));
            rows.push(WriteRow { key, row });
        }
        Ok(rows)
    }

    fn check_storable(&self, first_row: u64, wanted: &Wanted, values: &[Value]) -> Result<()> {
        if !wanted.holds_text() {
            return Ok(());
        }
        for (index, value) in values.iter().enumerate() {
            if let Some(fault) = value_fault(value) {
                return Err(self.cell_fault(row_number(first_row, index), &wanted.name, fault));
            }
        }
        Ok(())
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

fn row_number(first_row: u64, index: usize) -> u64 {
    first_row + u64::try_from(index).unwrap_or_default()
}

fn next_of_each<T: FromIterator<Value>>(columns: &mut [std::vec::IntoIter<Value>]) -> T {
    let cells = columns.iter_mut().map(Iterator::next);
    cells.map(|cell| cell.unwrap_or(Value::Null)).collect()
}

fn time(value: Option<Value>) -> Result<Timestamp> {
    if let Some(Value::Timestamp(time)) = value {
        return Ok(time);
    }
    Err(Error::internal("a time that is none"))
}
