//! Values as Postgres keeps them, in its binary form.

use std::error::Error as StdError;

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::{
    catalog::ValueType,
    features::{Timestamp, Value},
};

/// 2000-01-01T00:00:00Z, from which Postgres counts, in microseconds since 1970.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

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
        ValueType::List(_) => "text[]",
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
        ValueType::List(_) => Type::TEXT_ARRAY,
    }
}

fn value_type(sql: &Type) -> Option<ValueType> {
    ValueType::all().find(|value_type| driver_type(*value_type) == *sql)
}

/// A value on its way into a statement; it must have been checked against the column's type.
#[derive(Debug)]
pub(super) struct Bound<'a>(pub(super) &'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(
        &self,
        sql: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self.0 {
            Value::Null => Ok(IsNull::Yes),
            Value::Bool(value) => value.to_sql(sql, out),
            Value::Int32(value) => value.to_sql(sql, out),
            Value::Int64(value) => value.to_sql(sql, out),
            Value::Float(value) => value.to_sql(sql, out),
            Value::Double(value) => value.to_sql(sql, out),
            Value::String(value) => value.to_sql(sql, out),
            Value::Bytes(value) => value.to_sql(sql, out),
            Value::List(_) => Err("not yet".into()),
            Value::Timestamp(value) => {
                (value.micros() - POSTGRES_EPOCH_MICROS).to_sql(&Type::INT8, out)
            }
        }
    }

    fn accepts(sql: &Type) -> bool {
        value_type(sql).is_some()
    }

    to_sql_checked!();
}

/// A value on its way out of a row; of the type that the column has.
pub(super) struct Cell(pub(super) Value);

impl<'a> FromSql<'a> for Cell {
    fn from_sql(sql: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        let value = match value_type(sql).ok_or("a type that no feature has")? {
            ValueType::Bool => Value::Bool(bool::from_sql(sql, raw)?),
            ValueType::Int32 => Value::Int32(i32::from_sql(sql, raw)?),
            ValueType::Int64 => Value::Int64(i64::from_sql(sql, raw)?),
            ValueType::Float => Value::Float(f32::from_sql(sql, raw)?),
            ValueType::Double => Value::Double(f64::from_sql(sql, raw)?),
            ValueType::String => Value::String(String::from_sql(sql, raw)?),
            ValueType::Bytes => Value::Bytes(Vec::from_sql(sql, raw)?),
            ValueType::List(_) => return Err("not yet".into()),
            ValueType::Timestamp => {
                let micros = i64::from_sql(&Type::INT8, raw)?.checked_add(POSTGRES_EPOCH_MICROS);
                let timestamp = micros.and_then(Timestamp::from_micros);
                Value::Timestamp(timestamp.ok_or("a time outside the years 1 to 9999")?)
            }
        };
        Ok(Cell(value))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Cell(Value::Null))
    }

    fn accepts(_: &Type) -> bool {
        // A column of a type that no feature has is told apart in `from_sql`, where the message is ours.
        true
    }
}
