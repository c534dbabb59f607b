//! Join keys as bytes: two rows have the same key where their bytes are the same.
//!
//! Spine and history may hold a key in different types (a string and a dictionary of strings, integers of two widths);
//! the bytes are those of the declared type.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, Int64Array, LargeBinaryArray, StringArray,
    builder::LargeBinaryBuilder, cast::AsArray, types::Int32Type, types::Int64Type,
};
use arrow_schema::DataType;

use crate::{
    convert::{CellFault, any_integers, convert, each, unfit, unpacked},
    value_type::{Scalar, ValueType},
};

/// Whether a column of the spine can be a key of a type: a value that the type cannot hold is found when it is read.
pub(crate) fn spine_accepts(key_type: Scalar, data_type: &DataType) -> bool {
    let is_integer_key = matches!(key_type, Scalar::Int32 | Scalar::Int64);
    if let DataType::Dictionary(_, values) = data_type {
        return spine_accepts(key_type, values);
    }
    key_type.accepts(data_type) || (is_integer_key && data_type.is_integer())
}

/// One join key's column, typed.
pub(crate) enum KeyColumn {
    Integers(Int64Array),
    Strings(StringArray),
    Bytes(BinaryArray),
}

impl KeyColumn {
    /// Types a column.
    ///
    /// # Errors
    /// The first value that the type does not hold.
    pub(crate) fn new(array: &ArrayRef, key_type: Scalar) -> Result<Self, CellFault> {
        let array = unpacked(array)?;
        let unfit = || unfit(&array, &key_type.to_string());
        match key_type {
            Scalar::Int32 | Scalar::Int64 if !matches!(array.data_type(), DataType::Null) => {
                let wide = any_integers(&array).ok_or_else(unfit)??;
                if key_type == Scalar::Int32 {
                    each::<Int64Type, Int32Type>(&wide, "int32", |value| value.try_into().ok())?;
                }
                Ok(KeyColumn::Integers(wide))
            }
            Scalar::Int32 | Scalar::Int64 => {
                Ok(KeyColumn::Integers(Int64Array::new_null(array.len())))
            }
            Scalar::String => {
                let array = convert(&array, ValueType::One(Scalar::String))?;
                let array = array.as_string_opt::<i32>().ok_or_else(unfit)?;
                Ok(KeyColumn::Strings(array.clone()))
            }
            Scalar::Bytes => {
                let array = convert(&array, ValueType::One(Scalar::Bytes))?;
                let array = array.as_binary_opt::<i32>().ok_or_else(unfit)?;
                Ok(KeyColumn::Bytes(array.clone()))
            }
            Scalar::Bool | Scalar::Float | Scalar::Double | Scalar::Timestamp => Err(unfit()),
        }
    }

    fn array(&self) -> &dyn Array {
        match self {
            KeyColumn::Integers(array) => array,
            KeyColumn::Strings(array) => array,
            KeyColumn::Bytes(array) => array,
        }
    }

    /// The first row without a value.
    pub(crate) fn first_null(&self) -> Option<usize> {
        let array = self.array();
        (0..array.len()).find(|row| array.is_null(*row))
    }

    /// Appends a row's bytes. The length in front keeps ("a", "bc") and ("ab", "c") apart.
    fn append(&self, row: usize, key: &mut Vec<u8>) {
        let text = match self {
            KeyColumn::Integers(array) => {
                key.extend_from_slice(&array.value(row).to_le_bytes());
                return;
            }
            KeyColumn::Strings(array) => array.value(row).as_bytes(),
            KeyColumn::Bytes(array) => array.value(row),
        };
        key.extend_from_slice(&text.len().to_le_bytes());
        key.extend_from_slice(text);
    }
}

/// The bytes of each row's key; null where one of its columns is.
pub(crate) fn key_bytes(columns: &[KeyColumn], row_count: usize) -> Arc<LargeBinaryArray> {
    let mut keys = LargeBinaryBuilder::with_capacity(row_count, row_count * 8 * columns.len());
    let mut key = Vec::new();
    for row in 0..row_count {
        if columns.iter().any(|column| column.array().is_null(row)) {
            keys.append_null();
            continue;
        }
        key.clear();
        for column in columns {
            column.append(row, &mut key);
        }
        keys.append_value(&key);
    }
    Arc::new(keys.finish())
}
