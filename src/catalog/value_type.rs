//! The types that a feature or a join key can have.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The type of a feature or of a join key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
}

impl ValueType {
    /// Every type, for tests and messages.
    pub const ALL: [ValueType; 8] = [
        ValueType::Bool,
        ValueType::Int32,
        ValueType::Int64,
        ValueType::Float,
        ValueType::Double,
        ValueType::String,
        ValueType::Bytes,
        ValueType::Timestamp,
    ];

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
        }
    }

    /// Whether an entity can be named by a value of this type: one that compares exactly.
    pub fn can_be_key(self) -> bool {
        match self {
            ValueType::String | ValueType::Int32 | ValueType::Int64 | ValueType::Bytes => true,
            ValueType::Bool | ValueType::Float | ValueType::Double | ValueType::Timestamp => false,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
