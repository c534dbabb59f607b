//! Arrow columns as values: which types fit which, and each value without loss.

use arrow_array::{
    Array, ArrowPrimitiveType, PrimitiveArray,
    cast::AsArray,
    types::{
        ArrowTimestampType, Date32Type, Date64Type, Float16Type, Float32Type, Float64Type,
        Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
        UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::{DataType, TimeUnit};

use crate::{
    catalog::ValueType,
    features::{EXACT_WHOLE_MAX, Timestamp, Value},
};

const DAY_MICROS: i64 = 86_400_000_000;

/// A value that does not fit, by its position in the column.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CellFault {
    /// Counted from 0.
    pub(super) index: usize,
    /// What is wrong with it.
    pub(super) sentence: String,
}

/// Whether a column can become a type. An integer column can become doubles where each value is exact.
pub(super) fn fits(data_type: &DataType, value_type: ValueType) -> bool {
    use DataType as D;
    if let D::Dictionary(_, values) = data_type {
        return fits(values, value_type);
    }
    if matches!(data_type, D::Null) {
        return true;
    }
    let is_small = matches!(data_type, D::Int8 | D::Int16 | D::UInt8 | D::UInt16);
    match value_type {
        ValueType::Bool => matches!(data_type, D::Boolean),
        ValueType::Int32 => is_small || matches!(data_type, D::Int32),
        ValueType::Int64 => is_small || matches!(data_type, D::Int32 | D::UInt32 | D::Int64),
        ValueType::Float => is_small || matches!(data_type, D::Float16 | D::Float32),
        ValueType::Double => {
            is_small
                || matches!(
                    data_type,
                    D::Int32
                        | D::UInt32
                        | D::Int64
                        | D::UInt64
                        | D::Float16
                        | D::Float32
                        | D::Float64
                )
        }
        ValueType::String => matches!(data_type, D::Utf8 | D::LargeUtf8 | D::Utf8View),
        ValueType::Bytes => matches!(
            data_type,
            D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_)
        ),
        ValueType::Timestamp => {
            matches!(data_type, D::Timestamp(_, _) | D::Date32 | D::Date64)
        }
        ValueType::List(_) => false,
    }
}

/// The values of a column whose type fits.
///
/// # Errors
/// The first value that does not fit exactly.
pub(super) fn column_values(
    array: &dyn Array,
    value_type: ValueType,
) -> Result<Vec<Value>, CellFault> {
    let cells = converted_cells(array, value_type)?.into_iter().enumerate();
    cells
        .map(|(index, cell)| cell.map_err(|sentence| CellFault { index, sentence }))
        .collect()
}

/// A value, or why it cannot be one.
type Converted = Result<Value, String>;

/// A fault stays with its cell here: the values of a dictionary have no row of their own, and some none at all.
fn converted_cells(array: &dyn Array, value_type: ValueType) -> Result<Vec<Converted>, CellFault> {
    if let Some(dictionary) = array.as_any_dictionary_opt() {
        let distinct = converted_cells(dictionary.values().as_ref(), value_type)?;
        let keys = integers(dictionary.keys())
            .ok_or_else(|| unfit(array, value_type))?
            .into_iter();
        return Ok(keys
            .map(|key| {
                key.and_then(|key| usize::try_from(key).ok())
                    .and_then(|key| distinct.get(key).cloned())
                    .unwrap_or(Ok(Value::Null))
            })
            .collect());
    }
    if matches!(array.data_type(), DataType::Null) {
        return Ok(vec![Ok(Value::Null); array.len()]);
    }
    let lossless = match value_type {
        ValueType::Bool => array
            .as_boolean_opt()
            .map(|array| array.iter().map(|cell| cell.map(Value::Bool)).collect()),
        ValueType::Float => floats(array),
        ValueType::Double => doubles(array),
        ValueType::String => strings(array),
        ValueType::Bytes => bytes(array),
        ValueType::Int32 | ValueType::Int64 | ValueType::List(_) => None,
        ValueType::Timestamp => return timestamps(array),
    };
    match lossless {
        Some(cells) => Ok(cells
            .into_iter()
            .map(|cell| Ok(cell.unwrap_or(Value::Null)))
            .collect()),
        None => from_integers(array, value_type),
    }
}

type Cells = Vec<Option<Value>>;

/// Only where `fits` was not asked.
fn unfit(array: &dyn Array, value_type: ValueType) -> CellFault {
    CellFault {
        index: 0,
        sentence: format!("{} cannot become a {value_type}", array.data_type()),
    }
}

fn from_integers(array: &dyn Array, value_type: ValueType) -> Result<Vec<Converted>, CellFault> {
    let integers = integers(array).ok_or_else(|| unfit(array, value_type))?;
    let convert = |integer| {
        from_integer(integer, value_type)
            .ok_or_else(|| format!("{integer} is no {value_type} without loss"))
    };
    Ok(integers
        .into_iter()
        .map(|cell| cell.map_or(Ok(Value::Null), convert))
        .collect())
}

fn from_integer(integer: i128, value_type: ValueType) -> Option<Value> {
    match value_type {
        ValueType::Int32 => i32::try_from(integer).ok().map(Value::Int32),
        ValueType::Int64 => i64::try_from(integer).ok().map(Value::Int64),
        ValueType::Float => i16::try_from(integer)
            .map(f32::from)
            .or_else(|_| u16::try_from(integer).map(f32::from))
            .ok()
            .map(Value::Float),
        ValueType::Double => exact_double(integer),
        ValueType::Bool
        | ValueType::String
        | ValueType::Bytes
        | ValueType::Timestamp
        | ValueType::List(_) => None,
    }
}

fn exact_double(integer: i128) -> Option<Value> {
    let is_exact = integer.unsigned_abs() <= u128::from(EXACT_WHOLE_MAX);
    #[expect(clippy::cast_precision_loss, reason = "checked in the line before")]
    is_exact.then_some(Value::Double(integer as f64))
}

fn integers(array: &dyn Array) -> Option<Vec<Option<i128>>> {
    fn of<T: ArrowPrimitiveType>(array: &dyn Array) -> Option<Vec<Option<i128>>>
    where
        i128: From<T::Native>,
    {
        let array: &PrimitiveArray<T> = array.as_primitive_opt()?;
        Some(array.iter().map(|cell| cell.map(i128::from)).collect())
    }
    of::<Int64Type>(array)
        .or_else(|| of::<Int32Type>(array))
        .or_else(|| of::<Int16Type>(array))
        .or_else(|| of::<Int8Type>(array))
        .or_else(|| of::<UInt64Type>(array))
        .or_else(|| of::<UInt32Type>(array))
        .or_else(|| of::<UInt16Type>(array))
        .or_else(|| of::<UInt8Type>(array))
}

fn floats(array: &dyn Array) -> Option<Cells> {
    let of_f32 = array.as_primitive_opt::<Float32Type>().map(|array| {
        let cells = array.iter().map(|cell| cell.map(Value::Float));
        cells.collect()
    });
    of_f32.or_else(|| {
        let array = array.as_primitive_opt::<Float16Type>()?;
        let cells = array.iter();
        Some(
            cells
                .map(|cell| cell.map(|half| Value::Float(half.to_f32())))
                .collect(),
        )
    })
}

fn doubles(array: &dyn Array) -> Option<Cells> {
    if let Some(array) = array.as_primitive_opt::<Float64Type>() {
        return Some(array.iter().map(|cell| cell.map(Value::Double)).collect());
    }
    let narrow = floats(array)?.into_iter();
    Some(
        narrow
            .map(|cell| match cell {
                Some(Value::Float(float)) => Some(Value::Double(f64::from(float))),
                other => other,
            })
            .collect(),
    )
}

fn strings(array: &dyn Array) -> Option<Cells> {
    fn of<'a>(cells: impl Iterator<Item = Option<&'a str>>) -> Cells {
        cells
            .map(|cell| cell.map(|text| Value::String(text.to_owned())))
            .collect()
    }
    if let Some(array) = array.as_string_opt::<i32>() {
        return Some(of(array.iter()));
    }
    if let Some(array) = array.as_string_opt::<i64>() {
        return Some(of(array.iter()));
    }
    array.as_string_view_opt().map(|array| of(array.iter()))
}

fn bytes(array: &dyn Array) -> Option<Cells> {
    fn of<'a>(cells: impl Iterator<Item = Option<&'a [u8]>>) -> Cells {
        cells
            .map(|cell| cell.map(|bytes| Value::Bytes(bytes.to_vec())))
            .collect()
    }
    if let Some(array) = array.as_binary_opt::<i32>() {
        return Some(of(array.iter()));
    }
    if let Some(array) = array.as_binary_opt::<i64>() {
        return Some(of(array.iter()));
    }
    if let Some(array) = array.as_binary_view_opt() {
        return Some(of(array.iter()));
    }
    array
        .as_fixed_size_binary_opt()
        .map(|array| of(array.iter()))
}

/// A time without a zone is UTC; nanoseconds below a microsecond are cut; a date is its midnight.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "arrow has some forty types; three hold times"
)]
fn timestamps(array: &dyn Array) -> Result<Vec<Converted>, CellFault> {
    let micros = match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            scaled::<TimestampSecondType>(array, |t| t.checked_mul(1_000_000))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            scaled::<TimestampMillisecondType>(array, |t| t.checked_mul(1_000))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            scaled::<TimestampMicrosecondType>(array, Some)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            scaled::<TimestampNanosecondType>(array, |t| Some(t.div_euclid(1_000)))
        }
        DataType::Date32 => array.as_primitive_opt::<Date32Type>().map(|array| {
            let days = array.iter();
            days.map(|day| day.map(|day| i64::from(day).checked_mul(DAY_MICROS)))
                .collect()
        }),
        DataType::Date64 => array.as_primitive_opt::<Date64Type>().map(|array| {
            let times = array.iter();
            times
                .map(|time| time.map(|ms| ms.checked_mul(1_000)))
                .collect()
        }),
        _ => None,
    };
    let micros: Vec<Option<Option<i64>>> =
        micros.ok_or_else(|| unfit(array, ValueType::Timestamp))?;
    let convert = |micros: Option<i64>| {
        let timestamp = micros.and_then(Timestamp::from_micros);
        let timestamp = timestamp.map(Value::Timestamp);
        timestamp.ok_or_else(|| "a time outside the years 1 to 9999".to_owned())
    };
    Ok(micros
        .into_iter()
        .map(|cell| cell.map_or(Ok(Value::Null), convert))
        .collect())
}

fn scaled<T: ArrowTimestampType>(
    array: &dyn Array,
    scale: impl Fn(i64) -> Option<i64>,
) -> Option<Vec<Option<Option<i64>>>> {
    let array = array.as_primitive_opt::<T>()?;
    Some(array.iter().map(|cell| cell.map(&scale)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow_array::{DictionaryArray, Int8Array, Int64Array};

    use super::*;

    #[test]
    fn a_dictionarys_fault_is_that_of_the_row_that_uses_it() {
        let lossy = (1 << 53) + 1;
        let column = |keys: Vec<Option<i8>>| {
            let distinct = Arc::new(Int64Array::from(vec![7, lossy]));
            let array = DictionaryArray::try_new(Int8Array::from(keys), distinct).unwrap();
            column_values(&array, ValueType::Double)
        };
        let unused = column(vec![Some(0), None, Some(0)]).unwrap();
        let seven = Value::Double(7.0);
        assert_eq!(unused, [seven.clone(), Value::Null, seven]);
        let fault = column(vec![Some(0), None, Some(0), Some(1)]).unwrap_err();
        assert_eq!(fault.index, 3);
        assert!(fault.sentence.contains("9007199254740993"), "{fault:?}");
    }
}
