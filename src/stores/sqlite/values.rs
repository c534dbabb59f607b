//! Values as SQLite keeps them.
//!
//! | type | column | form |
//! |---|---|---|
//! | bool | INTEGER | 0 or 1 |
//! | int32, int64 | INTEGER | |
//! | float, double | ANY | a number, or the text `NaN`, which SQLite's REAL cannot hold: it makes NULL of it |
//! | string | TEXT | |
//! | bytes | BLOB | |
//! | timestamp | INTEGER | microseconds since 1970-01-01T00:00:00Z: exact, in order, and one form only. |
//! | list | TEXT | a JSON array: int64 as digits in quotes, bytes in base64, points in time in RFC 3339, and the texts `NaN`, `Infinity` and `-Infinity` for floats |
//!
//! Plain SQL writes a time as `unixepoch('2016-01-04') * 1000000` and shows it by `datetime(t / 1000000, 'unixepoch')`.
//! Text in RFC 3339 would read better, but two spellings of one moment would not compare as equal.

use rusqlite::{
    Row, ToSql,
    types::{ToSqlOutput, Value as SqlValue, ValueRef},
};

use super::fault::Fault;
use crate::{
    catalog::{FeatureView, Field, ValueType},
    features::{ListValue, Timestamp, Value},
    stores::table::{quoted, unfit_cell},
};

/// How a NaN is written down.
const NAN_TEXT: &str = "NaN";

/// A value on its way into a statement.
pub(super) struct Bound<'a>(pub(super) &'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let bound = match self.0 {
            Value::Null => ValueRef::Null,
            Value::Bool(value) => ValueRef::Integer(i64::from(*value)),
            Value::Int32(value) => ValueRef::Integer(i64::from(*value)),
            Value::Int64(value) => ValueRef::Integer(*value),
            Value::Float(value) => real(f64::from(*value)),
            Value::Double(value) => real(*value),
            Value::String(value) => ValueRef::Text(value.as_bytes()),
            Value::Bytes(value) => ValueRef::Blob(value),
            Value::List(list) => return Ok(ToSqlOutput::Owned(SqlValue::Text(list.to_json()))),
            Value::Timestamp(value) => {
                return Ok(ToSqlOutput::Owned(SqlValue::Integer(value.micros())));
            }
        };
        Ok(ToSqlOutput::Borrowed(bound))
    }
}

fn real(value: f64) -> ValueRef<'static> {
    if value.is_nan() {
        ValueRef::Text(NAN_TEXT.as_bytes())
    } else {
        ValueRef::Real(value)
    }
}

/// The definition of a feature's column: type and check, without the name's quotes.
pub(super) fn column_definition(field: &Field) -> String {
    let name = quoted(&field.name);
    match field.value_type {
        ValueType::Bool => format!("{name} INTEGER CHECK ({name} IN (0, 1))"),
        ValueType::Int32 => {
            format!("{name} INTEGER CHECK ({name} BETWEEN -2147483648 AND 2147483647)")
        }
        ValueType::Int64 => format!("{name} INTEGER"),
        ValueType::Float | ValueType::Double => format!(
            "{name} ANY CHECK (typeof({name}) IN ('real', 'integer', 'null') OR {name} = '{NAN_TEXT}')"
        ),
        ValueType::String => format!("{name} TEXT"),
        ValueType::Bytes => format!("{name} BLOB"),
        ValueType::Timestamp => time_definition(&field.name),
        // json_type fails on text that is no JSON.
        ValueType::List(_) => format!(
            "{name} TEXT CHECK (CASE json_valid({name}) WHEN 1 THEN json_type({name}) = 'array' WHEN 0 THEN 0 END)"
        ),
    }
}

/// The definition of a column with a point in time: years 1 to 9999.
pub(super) fn time_definition(name: &str) -> String {
    let name = quoted(name);
    format!(
        "{name} INTEGER CHECK ({name} BETWEEN {} AND {})",
        Timestamp::MICROS_MIN,
        Timestamp::MICROS_MAX
    )
}

/// Reads a column of a row.
///
/// # Errors
/// `FailedPrecondition` where it holds what the type cannot: somebody has changed the table.
pub(super) fn read_cell(
    row: &Row<'_>,
    index: usize,
    view: &FeatureView,
    field: &Field,
) -> Result<Value, Fault> {
    let value = to_value(row.get_ref(index)?, field.value_type);
    value.ok_or_else(|| Fault::Own(unfit_cell(view, &field.name, field.value_type)))
}

/// What SQLite holds as a value of a type; none where it is none of that type.
pub(super) fn to_value(stored: ValueRef<'_>, value_type: ValueType) -> Option<Value> {
    if matches!(stored, ValueRef::Null) {
        return Some(Value::Null);
    }
    match value_type {
        ValueType::Bool => match integer(stored) {
            Some(0) => Some(Value::Bool(false)),
            Some(1) => Some(Value::Bool(true)),
            _ => None,
        },
        ValueType::Int32 => integer(stored)
            .and_then(|value| i32::try_from(value).ok())
            .map(Value::Int32),
        ValueType::Int64 => integer(stored).map(Value::Int64),
        ValueType::Float => number(stored).and_then(narrow).map(Value::Float),
        ValueType::Double => number(stored).map(Value::Double),
        ValueType::String => stored.as_str().ok().map(|text| Value::String(text.into())),
        ValueType::Bytes => stored
            .as_blob()
            .ok()
            .map(|bytes| Value::Bytes(bytes.to_vec())),
        ValueType::List(element) => stored
            .as_str()
            .ok()
            .and_then(|text| ListValue::parse(text, element).ok())
            .map(Value::List),
        ValueType::Timestamp => integer(stored)
            .and_then(Timestamp::from_micros)
            .map(Value::Timestamp),
    }
}

/// Reads a time that must be there.
pub(super) fn read_time(
    row: &Row<'_>,
    index: usize,
    view: &FeatureView,
    name: &str,
) -> Result<Timestamp, Fault> {
    let stored = row.get_ref(index)?;
    integer(stored)
        .and_then(Timestamp::from_micros)
        .ok_or_else(|| Fault::Own(unfit_cell(view, name, ValueType::Timestamp)))
}

fn integer(stored: ValueRef<'_>) -> Option<i64> {
    stored.as_i64().ok()
}

/// A number that a person may have written as an integer.
fn number(stored: ValueRef<'_>) -> Option<f64> {
    match stored {
        ValueRef::Real(value) => Some(value),
        #[expect(clippy::cast_precision_loss, reason = "what REAL would have stored")]
        ValueRef::Integer(value) => Some(value as f64),
        ValueRef::Text(text) if text == NAN_TEXT.as_bytes() => Some(f64::NAN),
        ValueRef::Text(_) | ValueRef::Blob(_) | ValueRef::Null => None,
    }
}

/// The nearest 32-bit float; none where a finite number would become infinite.
fn narrow(value: f64) -> Option<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "checked on the next line")]
    let narrowed = value as f32;
    (narrowed.is_finite() || !value.is_finite()).then_some(narrowed)
}
