//! The types of join keys and features: their names, the Arrow types that they become, and which columns fit them.
//!
//! The rules are those by which the server reads a Parquet file, so that training sees what serving sees.

use std::{fmt, str::FromStr, sync::Arc};

use arrow_schema::{DataType, Field, TimeUnit};
use serde::Deserialize;

/// A scalar type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    /// true or false.
    Bool,
    /// A signed 32-bit integer.
    Int32,
    /// A signed 64-bit integer.
    Int64,
    /// A 32-bit float.
    Float,
    /// A 64-bit float.
    Double,
    /// UTF-8 text.
    String,
    /// Bytes.
    Bytes,
    /// A point in time, to the microsecond.
    Timestamp,
}

const NAMES: [(&str, Scalar); 8] = [
    ("bool", Scalar::Bool),
    ("int32", Scalar::Int32),
    ("int64", Scalar::Int64),
    ("float", Scalar::Float),
    ("double", Scalar::Double),
    ("string", Scalar::String),
    ("bytes", Scalar::Bytes),
    ("timestamp", Scalar::Timestamp),
];

/// The type of a feature: a scalar or a list of scalars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum ValueType {
    /// One value.
    One(Scalar),
    /// A list of values, each of which may be null.
    List(Scalar),
}

impl Scalar {
    /// The Arrow type of a column of it.
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Scalar::Bool => DataType::Boolean,
            Scalar::Int32 => DataType::Int32,
            Scalar::Int64 => DataType::Int64,
            Scalar::Float => DataType::Float32,
            Scalar::Double => DataType::Float64,
            Scalar::String => DataType::Utf8,
            Scalar::Bytes => DataType::Binary,
            Scalar::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// Whether a column can become it. An integer column can become doubles where each value is exact.
    pub(crate) fn accepts(self, data_type: &DataType) -> bool {
        use DataType as D;
        if let D::Dictionary(_, values) = data_type {
            return self.accepts(values);
        }
        if matches!(data_type, D::Null) {
            return true;
        }
        let is_small = matches!(data_type, D::Int8 | D::Int16 | D::UInt8 | D::UInt16);
        let is_integer = is_small || matches!(data_type, D::Int32 | D::UInt32 | D::Int64);
        match self {
            Scalar::Bool => matches!(data_type, D::Boolean),
            Scalar::Int32 => is_small || matches!(data_type, D::Int32),
            Scalar::Int64 => is_integer,
            Scalar::Float => is_small || matches!(data_type, D::Float16 | D::Float32),
            Scalar::Double => {
                is_integer || matches!(data_type, D::UInt64 | D::Float16 | D::Float32 | D::Float64)
            }
            Scalar::String => matches!(data_type, D::Utf8 | D::LargeUtf8 | D::Utf8View),
            Scalar::Bytes => matches!(
                data_type,
                D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_)
            ),
            Scalar::Timestamp => {
                matches!(data_type, D::Timestamp(_, _) | D::Date32 | D::Date64)
            }
        }
    }
}

impl ValueType {
    /// The Arrow type of a column of it.
    pub(crate) fn data_type(self) -> DataType {
        match self {
            ValueType::One(scalar) => scalar.data_type(),
            ValueType::List(scalar) => {
                DataType::List(Arc::new(Field::new("item", scalar.data_type(), true)))
            }
        }
    }

    /// Whether a column can become it.
    pub(crate) fn accepts(self, data_type: &DataType) -> bool {
        use DataType as D;
        match (self, data_type) {
            (ValueType::One(scalar), _) => scalar.accepts(data_type),
            (ValueType::List(_), D::Null) => true,
            (
                ValueType::List(scalar),
                D::List(item) | D::LargeList(item) | D::FixedSizeList(item, _),
            ) => scalar.accepts(item.data_type()),
            (ValueType::List(_), _) => false,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, scalar)| scalar == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueType::One(scalar) => scalar.fmt(f),
            ValueType::List(scalar) => write!(f, "list<{scalar}>"),
        }
    }
}

impl FromStr for ValueType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let scalar = |name: &str| NAMES.iter().find(|(own, _)| *own == name).map(|own| own.1);
        let of_list = text
            .strip_prefix("list<")
            .and_then(|rest| rest.strip_suffix('>'));
        let found = match of_list {
            Some(item) => scalar(item).map(ValueType::List),
            None => scalar(text).map(ValueType::One),
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            let names = names.join(", ");
            format!("\"{text}\" is no type; expected one of {names}, or list<one of them>")
        })
    }
}

impl TryFrom<String> for ValueType {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
