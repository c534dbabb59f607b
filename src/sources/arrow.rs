//! Arrow columns as values: which types fit which, and each value without loss. A column is converted at once.

use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray,
    cast::AsArray,
    types::{
        ArrowTimestampType, Date32Type, Date64Type, Float16Type, Float32Type, Float64Type,
        Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
        UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::{DataType, TimeUnit};
use arrow_select::take::{TakeOptions, take};

use super::lists;
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

/// The values of a column of one type; none where there is no value.
pub(super) type Cells<T> = Result<Vec<Option<T>>, CellFault>;

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
        ValueType::List(element) => {
            let (D::List(field) | D::LargeList(field) | D::FixedSizeList(field, _)) = data_type
            else {
                return false;
            };
            fits(field.data_type(), element.value_type())
        }
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
    if let Some(plain) = plain(array)? {
        return column_values(plain.as_ref(), value_type);
    }
    if matches!(array.data_type(), DataType::Null) {
        return Ok(vec![Value::Null; array.len()]);
    }
    match value_type {
        ValueType::Bool => Ok(values(bools(array)?, Value::Bool)),
        ValueType::Int32 => Ok(values(int32s(array)?, Value::Int32)),
        ValueType::Int64 => Ok(values(int64s(array)?, Value::Int64)),
        ValueType::Float => Ok(values(floats(array)?, Value::Float)),
        ValueType::Double => Ok(values(doubles(array)?, Value::Double)),
        ValueType::String => Ok(values(strings(array)?, Value::String)),
        ValueType::Bytes => Ok(values(bytes(array)?, Value::Bytes)),
        ValueType::Timestamp => Ok(values(timestamps(array)?, Value::Timestamp)),
        ValueType::List(element) => Ok(values(lists::lists(array, element)?, Value::List)),
    }
}

fn values<T>(cells: Vec<Option<T>>, value: impl Fn(T) -> Value) -> Vec<Value> {
    let cells = cells.into_iter();
    cells.map(|cell| cell.map_or(Value::Null, &value)).collect()
}

/// The column without its dictionary, so that a fault is that of the row that uses the value; none where it has none.
pub(super) fn plain(array: &dyn Array) -> Result<Option<ArrayRef>, CellFault> {
    let Some(dictionary) = array.as_any_dictionary_opt() else {
        return Ok(None);
    };
    let options = TakeOptions { check_bounds: true };
    take(
        dictionary.values().as_ref(),
        dictionary.keys(),
        Some(options),
    )
    .map(Some)
    .map_err(|fault| CellFault {
        index: 0,
        sentence: format!("a dictionary that cannot be read: {fault}"),
    })
}

/// Only where `fits` was not asked.
pub(super) fn unfit(array: &dyn Array, value_type: ValueType) -> CellFault {
    CellFault {
        index: 0,
        sentence: format!("{} cannot become a {value_type}", array.data_type()),
    }
}

pub(super) fn bools(array: &dyn Array) -> Cells<bool> {
    let array = array
        .as_boolean_opt()
        .ok_or_else(|| unfit(array, ValueType::Bool))?;
    Ok(array.iter().collect())
}

pub(super) fn int32s(array: &dyn Array) -> Cells<i32> {
    match array.as_primitive_opt::<Int32Type>() {
        Some(array) => Ok(array.iter().collect()),
        None => integers(array, ValueType::Int32, |integer| {
            i32::try_from(integer).ok()
        }),
    }
}

pub(super) fn int64s(array: &dyn Array) -> Cells<i64> {
    match array.as_primitive_opt::<Int64Type>() {
        Some(array) => Ok(array.iter().collect()),
        None => integers(array, ValueType::Int64, |integer| {
            i64::try_from(integer).ok()
        }),
    }
}

pub(super) fn floats(array: &dyn Array) -> Cells<f32> {
    if let Some(array) = array.as_primitive_opt::<Float32Type>() {
        return Ok(array.iter().collect());
    }
    if let Some(array) = array.as_primitive_opt::<Float16Type>() {
        let cells = array.iter();
        return Ok(cells.map(|cell| cell.map(|half| half.to_f32())).collect());
    }
    integers(array, ValueType::Float, |integer| {
        let small = i16::try_from(integer).map(f32::from);
        small
            .or_else(|_| u16::try_from(integer).map(f32::from))
            .ok()
    })
}

pub(super) fn doubles(array: &dyn Array) -> Cells<f64> {
    if let Some(array) = array.as_primitive_opt::<Float64Type>() {
        return Ok(array.iter().collect());
    }
    if matches!(array.data_type(), DataType::Float32 | DataType::Float16) {
        let narrow = floats(array)?.into_iter();
        return Ok(narrow.map(|cell| cell.map(f64::from)).collect());
    }
    integers(array, ValueType::Double, exact_double)
}

fn exact_double(integer: i128) -> Option<f64> {
    let is_exact = integer.unsigned_abs() <= u128::from(EXACT_WHOLE_MAX);
    #[expect(clippy::cast_precision_loss, reason = "checked in the line before")]
    is_exact.then_some(integer as f64)
}

pub(super) fn strings<T: for<'a> From<&'a str>>(array: &dyn Array) -> Cells<T> {
    fn of<'a, T: From<&'a str>>(cells: impl Iterator<Item = Option<&'a str>>) -> Cells<T> {
        Ok(cells.map(|cell| cell.map(T::from)).collect())
    }
    if let Some(array) = array.as_string_opt::<i32>() {
        return of(array.iter());
    }
    if let Some(array) = array.as_string_opt::<i64>() {
        return of(array.iter());
    }
    match array.as_string_view_opt() {
        Some(array) => of(array.iter()),
        None => Err(unfit(array, ValueType::String)),
    }
}

pub(super) fn bytes(array: &dyn Array) -> Cells<Vec<u8>> {
    fn of<'a>(cells: impl Iterator<Item = Option<&'a [u8]>>) -> Cells<Vec<u8>> {
        Ok(cells.map(|cell| cell.map(<[u8]>::to_vec)).collect())
    }
    if let Some(array) = array.as_binary_opt::<i32>() {
        return of(array.iter());
    }
    if let Some(array) = array.as_binary_opt::<i64>() {
        return of(array.iter());
    }
    if let Some(array) = array.as_binary_view_opt() {
        return of(array.iter());
    }
    match array.as_fixed_size_binary_opt() {
        Some(array) => of(array.iter()),
        None => Err(unfit(array, ValueType::Bytes)),
    }
}

/// A time without a zone is UTC; nanoseconds below a microsecond are cut; a date is its midnight.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "arrow has some forty types; three hold times"
)]
pub(super) fn timestamps(array: &dyn Array) -> Cells<Timestamp> {
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            of_unit::<TimestampSecondType>(array, |time| time.checked_mul(1_000_000))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            of_unit::<TimestampMillisecondType>(array, |time| time.checked_mul(1_000))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            of_unit::<TimestampMicrosecondType>(array, Some)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            of_unit::<TimestampNanosecondType>(array, |time| Some(time.div_euclid(1_000)))
        }
        DataType::Date32 => {
            let to_micros = |day| i64::from(day).checked_mul(DAY_MICROS);
            checked::<Date32Type, _>(array, |day| time(to_micros(day)), outside_years)
        }
        DataType::Date64 => checked::<Date64Type, _>(
            array,
            |millis| time(millis.checked_mul(1_000)),
            outside_years,
        ),
        _ => Err(unfit(array, ValueType::Timestamp)),
    }
}

fn of_unit<T: ArrowTimestampType>(
    array: &dyn Array,
    to_micros: impl Fn(i64) -> Option<i64>,
) -> Cells<Timestamp> {
    checked::<T, _>(array, |given| time(to_micros(given)), outside_years)
}

fn time(micros: Option<i64>) -> Option<Timestamp> {
    micros.and_then(Timestamp::from_micros)
}

fn outside_years<T>(_: T) -> String {
    "a time outside the years 1 to 9999".to_owned()
}

/// Integers of any width, each converted or a fault.
fn integers<V>(
    array: &dyn Array,
    value_type: ValueType,
    convert: impl Fn(i128) -> Option<V>,
) -> Cells<V> {
    fn of<T: ArrowPrimitiveType, V>(
        array: &dyn Array,
        value_type: ValueType,
        convert: impl Fn(i128) -> Option<V>,
    ) -> Cells<V>
    where
        i128: From<T::Native>,
        T::Native: std::fmt::Display,
    {
        let lossy = |given: T::Native| format!("{given} is no {value_type} without loss");
        checked::<T, V>(array, |given| convert(i128::from(given)), lossy)
    }
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "arrow has some forty types; eight are integers"
    )]
    match array.data_type() {
        DataType::Int8 => of::<Int8Type, V>(array, value_type, convert),
        DataType::Int16 => of::<Int16Type, V>(array, value_type, convert),
        DataType::Int32 => of::<Int32Type, V>(array, value_type, convert),
        DataType::Int64 => of::<Int64Type, V>(array, value_type, convert),
        DataType::UInt8 => of::<UInt8Type, V>(array, value_type, convert),
        DataType::UInt16 => of::<UInt16Type, V>(array, value_type, convert),
        DataType::UInt32 => of::<UInt32Type, V>(array, value_type, convert),
        DataType::UInt64 => of::<UInt64Type, V>(array, value_type, convert),
        _ => Err(unfit(array, value_type)),
    }
}

/// The cells of a column that a conversion accepts, or its first fault.
fn checked<T: ArrowPrimitiveType, V>(
    array: &dyn Array,
    convert: impl Fn(T::Native) -> Option<V>,
    sentence: impl Fn(T::Native) -> String,
) -> Cells<V> {
    let array: &PrimitiveArray<T> = array.as_primitive_opt().ok_or_else(|| CellFault {
        index: 0,
        sentence: format!("{} is not what its type says", array.data_type()),
    })?;
    let cells = array.iter().enumerate();
    cells
        .map(|(index, cell)| match cell {
            None => Ok(None),
            Some(given) => convert(given).map(Some).ok_or_else(|| CellFault {
                index,
                sentence: sentence(given),
            }),
        })
        .collect()
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
