//! Values as Postgres keeps them, in its binary form: what a row brings, what a parameter or a cell of COPY takes.

use std::error::Error as StdError;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::arrays;
use crate::{
    catalog::{ScalarType, ValueType},
    features::{Timestamp, Value},
};

/// 2000-01-01T00:00:00Z, from which Postgres counts, in microseconds since 1970.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// What the driver's traits call a fault.
pub(super) type Unfit = Box<dyn StdError + Sync + Send>;

/// The SQL type of a column.
pub(super) fn sql_type(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Bool => "boolean",
        ValueType::Int32 => "integer",
        ValueType::Int64 => "bigint",
        ValueType::Float => "real",
        ValueType::Double => "double precision",
        ValueType::String => "text",
        ValueType::Bytes => "bytea",
        ValueType::Timestamp => "timestamptz",
        ValueType::List(ScalarType::Bool) => "boolean[]",
        ValueType::List(ScalarType::Int32) => "integer[]",
        ValueType::List(ScalarType::Int64) => "bigint[]",
        ValueType::List(ScalarType::Float) => "real[]",
        ValueType::List(ScalarType::Double) => "double precision[]",
        ValueType::List(ScalarType::String) => "text[]",
        ValueType::List(ScalarType::Bytes) => "bytea[]",
        ValueType::List(ScalarType::Timestamp) => "timestamptz[]",
    }
}

/// The driver's name for the same type.
pub(super) fn driver_type(value_type: ValueType) -> Type {
    match value_type {
        ValueType::Bool => Type::BOOL,
        ValueType::Int32 => Type::INT4,
        ValueType::Int64 => Type::INT8,
        ValueType::Float => Type::FLOAT4,
        ValueType::Double => Type::FLOAT8,
        ValueType::String => Type::TEXT,
        ValueType::Bytes => Type::BYTEA,
        ValueType::Timestamp => Type::TIMESTAMPTZ,
        ValueType::List(ScalarType::Bool) => Type::BOOL_ARRAY,
        ValueType::List(ScalarType::Int32) => Type::INT4_ARRAY,
        ValueType::List(ScalarType::Int64) => Type::INT8_ARRAY,
        ValueType::List(ScalarType::Float) => Type::FLOAT4_ARRAY,
        ValueType::List(ScalarType::Double) => Type::FLOAT8_ARRAY,
        ValueType::List(ScalarType::String) => Type::TEXT_ARRAY,
        ValueType::List(ScalarType::Bytes) => Type::BYTEA_ARRAY,
        ValueType::List(ScalarType::Timestamp) => Type::TIMESTAMPTZ_ARRAY,
    }
}

/// The type of a column as a row brings it. A timestamp without a zone is one in UTC, and has the same binary form.
///
/// Every cell of every row asks: a match, and no search.
fn value_type(sql: &Type) -> Option<ValueType> {
    Some(match *sql {
        Type::BOOL => ValueType::Bool,
        Type::INT4 => ValueType::Int32,
        Type::INT8 => ValueType::Int64,
        Type::FLOAT4 => ValueType::Float,
        Type::FLOAT8 => ValueType::Double,
        Type::TEXT => ValueType::String,
        Type::BYTEA => ValueType::Bytes,
        Type::TIMESTAMPTZ | Type::TIMESTAMP => ValueType::Timestamp,
        Type::BOOL_ARRAY => ValueType::List(ScalarType::Bool),
        Type::INT4_ARRAY => ValueType::List(ScalarType::Int32),
        Type::INT8_ARRAY => ValueType::List(ScalarType::Int64),
        Type::FLOAT4_ARRAY => ValueType::List(ScalarType::Float),
        Type::FLOAT8_ARRAY => ValueType::List(ScalarType::Double),
        Type::TEXT_ARRAY => ValueType::List(ScalarType::String),
        Type::BYTEA_ARRAY => ValueType::List(ScalarType::Bytes),
        Type::TIMESTAMPTZ_ARRAY | Type::TIMESTAMP_ARRAY => ValueType::List(ScalarType::Timestamp),
        _ => return None,
    })
}

/// Adds a value as COPY takes it: its length, then its bytes; a null is the length -1.
///
/// # Errors
/// A value of more than 2 GiB.
#[inline]
pub(super) fn put_cell(value: &Value, out: &mut BytesMut) -> Result<(), Unfit> {
    match value {
        Value::Null => out.put_i32(-1),
        Value::Bool(_) => put_fixed(1, value, out),
        Value::Int32(_) | Value::Float(_) => put_fixed(4, value, out),
        Value::Int64(_) | Value::Double(_) | Value::Timestamp(_) => put_fixed(8, value, out),
        Value::String(text) => put_bytes(text.as_bytes(), out)?,
        Value::Bytes(bytes) => put_bytes(bytes, out)?,
        Value::List(list) => {
            out.put_i32(i32::try_from(arrays::body_bytes(list))?);
            arrays::put_body(list, out)?;
        }
    }
    Ok(())
}

fn put_fixed(length: i32, value: &Value, out: &mut BytesMut) {
    out.put_i32(length);
    put_scalar(value, out);
}

/// Adds bytes with their length in front.
pub(super) fn put_bytes(bytes: &[u8], out: &mut BytesMut) -> Result<(), Unfit> {
    out.put_i32(i32::try_from(bytes.len())?);
    out.put_slice(bytes);
    Ok(())
}

/// Adds a value's bytes alone; nothing for a null or a list.
fn put_scalar(value: &Value, out: &mut BytesMut) {
    match value {
        Value::Null | Value::List(_) => {}
        Value::Bool(value) => out.put_u8(u8::from(*value)),
        Value::Int32(value) => out.put_i32(*value),
        Value::Int64(value) => out.put_i64(*value),
        Value::Float(value) => out.put_f32(*value),
        Value::Double(value) => out.put_f64(*value),
        Value::String(value) => out.put_slice(value.as_bytes()),
        Value::Bytes(value) => out.put_slice(value),
        Value::Timestamp(value) => out.put_i64(postgres_micros(*value)),
    }
}

/// A point in time as Postgres counts.
pub(super) fn postgres_micros(timestamp: Timestamp) -> i64 {
    timestamp.micros() - POSTGRES_EPOCH_MICROS
}

/// A point in time from its eight bytes.
pub(super) fn read_timestamp(raw: &[u8]) -> Result<Timestamp, Unfit> {
    let micros = i64::from_sql(&Type::INT8, raw)?.checked_add(POSTGRES_EPOCH_MICROS);
    let timestamp = micros.and_then(Timestamp::from_micros);
    timestamp.ok_or_else(|| "a time outside the years 1 to 9999".into())
}

/// A value on its way into a statement; it must have been checked against the column's type. A list goes into a text
/// parameter as the text of an array.
#[derive(Debug)]
pub(super) struct Bound<'a>(pub(super) &'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self, sql: &Type, out: &mut BytesMut) -> Result<IsNull, Unfit> {
        match self.0 {
            Value::Null => return Ok(IsNull::Yes),
            Value::List(list) if *sql == Type::TEXT => {
                out.put_slice(arrays::literal(list).as_bytes());
            }
            Value::List(list) => arrays::put_body(list, out)?,
            scalar @ (Value::Bool(_)
            | Value::Int32(_)
            | Value::Int64(_)
            | Value::Float(_)
            | Value::Double(_)
            | Value::String(_)
            | Value::Bytes(_)
            | Value::Timestamp(_)) => put_scalar(scalar, out),
        }
        Ok(IsNull::No)
    }

    fn accepts(sql: &Type) -> bool {
        value_type(sql).is_some()
    }

    to_sql_checked!();
}

/// A value on its way out of a row; of the type that the column has.
pub(super) struct Cell(pub(super) Value);

impl Cell {
    /// The point in time; none where it is null, or no time.
    pub(super) fn timestamp(&self) -> Option<Timestamp> {
        match self {
            Cell(Value::Timestamp(timestamp)) => Some(*timestamp),
            Cell(_) => None,
        }
    }
}

impl<'a> FromSql<'a> for Cell {
    fn from_sql(sql: &Type, raw: &'a [u8]) -> Result<Self, Unfit> {
        let value = match value_type(sql).ok_or("a type that no feature has")? {
            ValueType::Bool => Value::Bool(bool::from_sql(sql, raw)?),
            ValueType::Int32 => Value::Int32(i32::from_sql(sql, raw)?),
            ValueType::Int64 => Value::Int64(i64::from_sql(sql, raw)?),
            ValueType::Float => Value::Float(f32::from_sql(sql, raw)?),
            ValueType::Double => Value::Double(f64::from_sql(sql, raw)?),
            ValueType::String => Value::String(<&str>::from_sql(sql, raw)?.into()),
            ValueType::Bytes => Value::Bytes(Vec::from_sql(sql, raw)?),
            ValueType::Timestamp => Value::Timestamp(read_timestamp(raw)?),
            ValueType::List(element) => Value::List(arrays::read(element, raw)?),
        };
        Ok(Cell(value))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Unfit> {
        Ok(Cell(Value::Null))
    }

    fn accepts(_: &Type) -> bool {
        // A column of a type that no feature has is told apart in `from_sql`, where the message is ours.
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_comes_back_as_it_went() {
        for known in ValueType::all() {
            assert_eq!(value_type(&driver_type(known)), Some(known));
        }
        assert_eq!(value_type(&Type::JSONB), None);
    }
}
