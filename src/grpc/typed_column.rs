//! `TypedColumn` as an answer carries it: the domain's values as packed lists, without a map or a tag a value.
//!
//! Which list holds the values is told by the column's type. `column_reader` reads those of requests.

use super::{convert::wire_type, pb};
use crate::{
    catalog::ValueType,
    error::{Error, Result},
    features::{ListValue, Value},
};

/// A column in the making.
#[derive(Debug)]
pub(super) struct ColumnWriter {
    column: pb::TypedColumn,
    value_type: ValueType,
    row_count: u32,
}

impl ColumnWriter {
    /// An empty column that is going to have so many rows.
    pub(super) fn new(name: String, value_type: ValueType, row_count: usize) -> ColumnWriter {
        let mut column = pb::TypedColumn {
            name,
            r#type: wire_type(value_type).into(),
            ..pb::TypedColumn::default()
        };
        match value_type {
            ValueType::Bool => column.bools.reserve(row_count),
            ValueType::Int32 => column.int32s.reserve(row_count),
            ValueType::Int64 => column.int64s.reserve(row_count),
            ValueType::Float => column.floats.reserve(row_count),
            ValueType::Double => column.doubles.reserve(row_count),
            ValueType::String => column.strings.reserve(row_count),
            ValueType::Bytes => column.bytes.reserve(row_count),
            ValueType::Timestamp => column.timestamps.reserve(row_count),
            ValueType::List(_) => column.lengths.reserve(row_count),
        }
        ColumnWriter {
            column,
            value_type,
            row_count: 0,
        }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// `Internal` for a value of another type.
    pub(super) fn push(&mut self, value: Value) -> Result<()> {
        let column = &mut self.column;
        match (self.value_type, value) {
            (_, Value::Null) => {
                column.null_rows.push(self.row_count);
                self.push_nothing();
            }
            (ValueType::Bool, Value::Bool(value)) => column.bools.push(value),
            (ValueType::Int32, Value::Int32(value)) => column.int32s.push(value),
            (ValueType::Int64, Value::Int64(value)) => column.int64s.push(value),
            (ValueType::Float, Value::Float(value)) => column.floats.push(value),
            (ValueType::Double, Value::Double(value)) => column.doubles.push(value),
            (ValueType::String, Value::String(value)) => column.strings.push(value.into()),
            (ValueType::Bytes, Value::Bytes(value)) => column.bytes.push(value),
            (ValueType::Timestamp, Value::Timestamp(value)) => {
                column.timestamps.push(value.micros());
            }
            (ValueType::List(element), Value::List(list)) if list.element_type() == element => {
                column
                    .lengths
                    .push(u32::try_from(list.len()).unwrap_or(u32::MAX));
                self.push_elements(list);
            }
            (value_type, value) => {
                return Err(Error::internal(format!(
                    "{value} in a column of {value_type}, {}",
                    self.column.name
                )));
            }
        }
        self.row_count = self.row_count.saturating_add(1);
        Ok(())
    }

    /// What takes the place of a value that is not there.
    fn push_nothing(&mut self) {
        let column = &mut self.column;
        match self.value_type {
            ValueType::Bool => column.bools.push(false),
            ValueType::Int32 => column.int32s.push(0),
            ValueType::Int64 => column.int64s.push(0),
            ValueType::Float => column.floats.push(0.0),
            ValueType::Double => column.doubles.push(0.0),
            ValueType::String => column.strings.push(String::new()),
            ValueType::Bytes => column.bytes.push(Vec::new()),
            ValueType::Timestamp => column.timestamps.push(0),
            ValueType::List(_) => column.lengths.push(0),
        }
    }

    fn push_elements(&mut self, list: ListValue) {
        let column = &mut self.column;
        match list {
            ListValue::Bool(values) => column.bools.extend(values),
            ListValue::Int32(values) => column.int32s.extend(values),
            ListValue::Int64(values) => column.int64s.extend(values),
            ListValue::Float(values) => column.floats.extend(values),
            ListValue::Double(values) => column.doubles.extend(values),
            ListValue::String(values) => column.strings.extend(values),
            ListValue::Bytes(values) => column.bytes.extend(values),
            ListValue::Timestamp(values) => {
                column.timestamps.extend(values.iter().map(|v| v.micros()));
            }
        }
    }

    /// The column.
    pub(super) fn finish(self) -> pb::TypedColumn {
        self.column
    }
}
