//! The types that a feature or a join key can have.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The type of one value, or of each element of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScalarType {
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

impl ScalarType {
    /// Every scalar type.
    pub const ALL: [ScalarType; 8] = [
        ScalarType::Bool,
        ScalarType::Int32,
        ScalarType::Int64,
        ScalarType::Float,
        ScalarType::Double,
        ScalarType::String,
        ScalarType::Bytes,
        ScalarType::Timestamp,
    ];

    /// The same as the type of a column.
    pub fn value_type(self) -> ValueType {
        match self {
            ScalarType::Bool => ValueType::Bool,
            ScalarType::Int32 => ValueType::Int32,
            ScalarType::Int64 => ValueType::Int64,
            ScalarType::Float => ValueType::Float,
            ScalarType::Double => ValueType::Double,
            ScalarType::String => ValueType::String,
            ScalarType::Bytes => ValueType::Bytes,
            ScalarType::Timestamp => ValueType::Timestamp,
        }
    }
}

/// The type of a feature or of a join key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
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
    /// Any number of values of one type, in order; none of them is null.
    List(ScalarType),
}

impl ValueType {
    /// Every type, for tests and messages.
    pub fn all() -> impl Iterator<Item = ValueType> {
        let scalars = ScalarType::ALL.into_iter().map(ScalarType::value_type);
        scalars.chain(ScalarType::ALL.into_iter().map(ValueType::List))
    }

    /// The name that definitions use.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::Bool => "bool",
            ValueType::Int32 => "int32",
            ValueType::Int64 => "int64",
            ValueType::Float => "float",
            ValueType::Double => "double",
            ValueType::String => "string",
            ValueType::Bytes => "bytes",
            ValueType::Timestamp => "timestamp",
            ValueType::List(ScalarType::Bool) => "list<bool>",
            ValueType::List(ScalarType::Int32) => "list<int32>",
            ValueType::List(ScalarType::Int64) => "list<int64>",
            ValueType::List(ScalarType::Float) => "list<float>",
            ValueType::List(ScalarType::Double) => "list<double>",
            ValueType::List(ScalarType::String) => "list<string>",
            ValueType::List(ScalarType::Bytes) => "list<bytes>",
            ValueType::List(ScalarType::Timestamp) => "list<timestamp>",
        }
    }

    /// Whether an entity can be named by a value of this type: one that compares exactly.
    pub fn can_be_key(self) -> bool {
        match self {
            ValueType::String | ValueType::Int32 | ValueType::Int64 | ValueType::Bytes => true,
            ValueType::Bool
            | ValueType::Float
            | ValueType::Double
            | ValueType::Timestamp
            | ValueType::List(_) => false,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ValueType {
    type Err = String;

    fn from_str(name: &str) -> Result<ValueType, String> {
        ValueType::all()
            .find(|value_type| value_type.name() == name)
            .ok_or_else(|| {
                let scalars = ScalarType::ALL.map(|scalar| scalar.value_type().name());
                format!(
                    "\"{name}\" is no type; there are {}, and lists of them, as list<double>",
                    scalars.join(", ")
                )
            })
    }
}

impl Serialize for ValueType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ValueType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_type_reads_back_from_its_name() {
        assert_eq!(ValueType::all().count(), 16);
        for value_type in ValueType::all() {
            assert_eq!(value_type.name().parse(), Ok(value_type));
        }
        let fault = "decimal".parse::<ValueType>().unwrap_err();
        assert!(fault.contains("list<double>"), "{fault}");
    }
}
