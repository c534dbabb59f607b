//! Columns of files as columns of declared types, each value without loss.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, Float32Array, Float64Array, GenericListArray,
    Int64Array, ListArray, OffsetSizeTrait, PrimitiveArray, StringArray, UInt64Array,
    cast::AsArray,
    new_null_array,
    types::{
        Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field};
use arrow_select::take::take;

use crate::{
    times::micros,
    value_type::{Scalar, ValueType},
};

/// Up to here a double holds every whole number: 2^53.
const EXACT_WHOLE_MAX: u64 = 1 << 53;
/// More than this in one column of one batch cannot be addressed by the offsets that the output has.
const BATCH_VALUES_BYTES_MAX: usize = i32::MAX as usize;

/// A value that does not fit, by its position in the column.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CellFault {
    /// Counted from 0.
    pub(crate) index: usize,
    /// What is wrong with it.
    pub(crate) sentence: String,
}

impl CellFault {
    /// A fault of no row in particular.
    pub(crate) fn whole(sentence: impl Into<String>) -> Self {
        CellFault {
            index: 0,
            sentence: sentence.into(),
        }
    }
}

/// Only where `accepts` was not asked.
pub(crate) fn unfit(array: &dyn Array, wanted: &str) -> CellFault {
    CellFault::whole(format!("{} cannot become a {wanted}", array.data_type()))
}

/// The column as one of the declared type, which accepts its own.
///
/// # Errors
/// The first value that does not fit exactly.
pub(crate) fn convert(array: &ArrayRef, value_type: ValueType) -> Result<ArrayRef, CellFault> {
    if *array.data_type() == value_type.data_type() && !is_time(value_type) {
        return Ok(Arc::clone(array));
    }
    if matches!(array.data_type(), DataType::Null) {
        return Ok(new_null_array(&value_type.data_type(), array.len()));
    }
    match value_type {
        ValueType::One(scalar) => convert_scalar(&unpacked(array)?, scalar),
        ValueType::List(item) => convert_list(array, item),
    }
}

/// Times are looked at even where their type is right: the years have bounds.
fn is_time(value_type: ValueType) -> bool {
    matches!(
        value_type,
        ValueType::One(Scalar::Timestamp) | ValueType::List(Scalar::Timestamp)
    )
}

/// A dictionary's values, row by row: those that no row uses are nobody's fault.
pub(crate) fn unpacked(array: &ArrayRef) -> Result<ArrayRef, CellFault> {
    match array.as_any_dictionary_opt() {
        None => Ok(Arc::clone(array)),
        Some(dictionary) => take(dictionary.values().as_ref(), dictionary.keys(), None)
            .map_err(|fault| CellFault::whole(format!("an unreadable dictionary: {fault}"))),
    }
}

fn convert_scalar(array: &ArrayRef, scalar: Scalar) -> Result<ArrayRef, CellFault> {
    if matches!(array.data_type(), DataType::Null) {
        return Ok(new_null_array(&scalar.data_type(), array.len()));
    }
    match scalar {
        Scalar::Bool => array.as_boolean_opt().map(|_| Arc::clone(array)),
        Scalar::Int32 => return int32s(array),
        Scalar::Int64 => signed(array).map(|array| Arc::new(array) as ArrayRef),
        Scalar::Float => floats(array).map(|array| Arc::new(array) as ArrayRef),
        Scalar::Double => return doubles(array),
        Scalar::String => return strings(array),
        Scalar::Bytes => return bytes(array),
        Scalar::Timestamp => {
            let times =
                micros(array)?.reinterpret_cast::<arrow_array::types::TimestampMicrosecondType>();
            return Ok(Arc::new(times.with_timezone("UTC")));
        }
    }
    .ok_or_else(|| unfit(array, &scalar.to_string()))
}

/// Integers of any width that a signed 64-bit one holds.
pub(crate) fn signed(array: &dyn Array) -> Option<Int64Array> {
    fn of<T: ArrowPrimitiveType>(array: &dyn Array) -> Option<Int64Array>
    where
        i64: From<T::Native>,
    {
        let array: &PrimitiveArray<T> = array.as_primitive_opt()?;
        Some(array.unary(i64::from))
    }
    of::<Int64Type>(array)
        .or_else(|| of::<Int32Type>(array))
        .or_else(|| of::<Int16Type>(array))
        .or_else(|| of::<Int8Type>(array))
        .or_else(|| of::<UInt32Type>(array))
        .or_else(|| of::<UInt16Type>(array))
        .or_else(|| of::<UInt8Type>(array))
}

/// Integers of any type as signed 64-bit ones, where each of them is one.
///
/// # Errors
/// The first value that is too great.
pub(crate) fn any_integers(array: &dyn Array) -> Option<Result<Int64Array, CellFault>> {
    if let Some(array) = array.as_primitive_opt::<UInt64Type>() {
        return Some(each(array, "int64", |value| i64::try_from(value).ok()));
    }
    signed(array).map(Ok)
}

/// Each value by a conversion that may refuse it.
pub(crate) fn each<T: ArrowPrimitiveType, U: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    wanted: &str,
    convert: impl Fn(T::Native) -> Option<U::Native>,
) -> Result<PrimitiveArray<U>, CellFault>
where
    T::Native: std::fmt::Display,
{
    let refused = |(index, cell): (usize, Option<T::Native>)| {
        cell.filter(|value| convert(*value).is_none())
            .map(|value| CellFault {
                index,
                sentence: format!("{value} is no {wanted} without loss"),
            })
    };
    // Looked for before, as the conversion itself does not say where it stopped.
    if let Some(fault) = array.iter().enumerate().find_map(refused) {
        return Err(fault);
    }
    Ok(array.unary_opt(convert))
}

fn int32s(array: &ArrayRef) -> Result<ArrayRef, CellFault> {
    let wide = signed(array).ok_or_else(|| unfit(array, "int32"))?;
    let narrow: PrimitiveArray<Int32Type> = each(&wide, "int32", |value| value.try_into().ok())?;
    Ok(Arc::new(narrow))
}

fn floats(array: &dyn Array) -> Option<Float32Array> {
    if let Some(array) = array.as_primitive_opt::<Float32Type>() {
        return Some(array.clone());
    }
    if let Some(array) = array.as_primitive_opt::<Float16Type>() {
        return Some(array.unary(|half| half.to_f32()));
    }
    // Only integers of 16 bits and less come here: a float holds each of them.
    #[expect(clippy::cast_precision_loss, reason = "see the line before")]
    signed(array).map(|array| array.unary(|value| value as f32))
}

fn doubles(array: &ArrayRef) -> Result<ArrayRef, CellFault> {
    let unsigned: Option<&UInt64Array> = array.as_primitive_opt();
    let converted: Float64Array = if let Some(array) = unsigned {
        each(array, "double", exact_unsigned)?
    } else if let Some(array) = signed(array) {
        each(&array, "double", exact_signed)?
    } else if let Some(array) = array.as_primitive_opt::<Float64Type>() {
        array.clone()
    } else {
        floats(array)
            .ok_or_else(|| unfit(array, "double"))?
            .unary(f64::from)
    };
    Ok(Arc::new(converted))
}

#[expect(clippy::cast_precision_loss, reason = "checked before the cast")]
fn exact_unsigned(value: u64) -> Option<f64> {
    (value <= EXACT_WHOLE_MAX).then_some(value as f64)
}

#[expect(clippy::cast_precision_loss, reason = "checked before the cast")]
fn exact_signed(value: i64) -> Option<f64> {
    (value.unsigned_abs() <= EXACT_WHOLE_MAX).then_some(value as f64)
}

fn strings(array: &ArrayRef) -> Result<ArrayRef, CellFault> {
    fn of<'a>(cells: impl Iterator<Item = Option<&'a str>> + Clone) -> Result<ArrayRef, CellFault> {
        bounded(cells.clone().flatten().map(str::len))?;
        Ok(Arc::new(cells.collect::<StringArray>()))
    }
    if let Some(array) = array.as_string_opt::<i32>() {
        return Ok(Arc::new(array.clone()));
    }
    if let Some(array) = array.as_string_opt::<i64>() {
        return of(array.iter());
    }
    let array = array
        .as_string_view_opt()
        .ok_or_else(|| unfit(array, "string"))?;
    of(array.iter())
}

fn bytes(array: &ArrayRef) -> Result<ArrayRef, CellFault> {
    fn of<'a>(
        cells: impl Iterator<Item = Option<&'a [u8]>> + Clone,
    ) -> Result<ArrayRef, CellFault> {
        bounded(cells.clone().flatten().map(<[u8]>::len))?;
        Ok(Arc::new(cells.collect::<BinaryArray>()))
    }
    if let Some(array) = array.as_binary_opt::<i32>() {
        return Ok(Arc::new(array.clone()));
    }
    if let Some(array) = array.as_binary_opt::<i64>() {
        return of(array.iter());
    }
    if let Some(array) = array.as_binary_view_opt() {
        return of(array.iter());
    }
    let array = array
        .as_fixed_size_binary_opt()
        .ok_or_else(|| unfit(array, "bytes"))?;
    of(array.iter())
}

fn bounded(lengths: impl Iterator<Item = usize>) -> Result<(), CellFault> {
    let total = lengths.fold(0_usize, usize::saturating_add);
    if total > BATCH_VALUES_BYTES_MAX {
        return Err(CellFault::whole(format!(
            "this row and those after it hold {total} bytes; {BATCH_VALUES_BYTES_MAX} is the most at once; \
             write the file with shorter values"
        )));
    }
    Ok(())
}

/// A list as offsets into its items.
struct Spans {
    lengths: Vec<usize>,
    items: ArrayRef,
    nulls: Option<NullBuffer>,
}

fn convert_list(array: &ArrayRef, item: Scalar) -> Result<ArrayRef, CellFault> {
    let wanted = || unfit(array, &ValueType::List(item).to_string());
    let spans = spans(array).ok_or_else(wanted)?;
    bounded(spans.lengths.iter().copied())?;
    let items = convert(&spans.items, ValueType::One(item)).map_err(|fault| CellFault {
        index: row_of(&spans.lengths, fault.index),
        sentence: format!("in the list: {}", fault.sentence),
    })?;
    let field = Arc::new(Field::new("item", item.data_type(), true));
    let offsets = OffsetBuffer::from_lengths(spans.lengths);
    ListArray::try_new(field, offsets, items, spans.nulls)
        .map(|list| Arc::new(list) as ArrayRef)
        .map_err(|fault| CellFault::whole(format!("an unreadable list: {fault}")))
}

fn spans(array: &ArrayRef) -> Option<Spans> {
    fn of<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> Spans {
        let offsets = list.offsets();
        // A slice of a list still holds all items.
        let (first, last) = (offsets.first().as_usize(), offsets.last().as_usize());
        Spans {
            lengths: offsets.lengths().collect(),
            items: list.values().slice(first, last.saturating_sub(first)),
            nulls: list.nulls().cloned(),
        }
    }
    if let Some(list) = array.as_list_opt::<i32>() {
        return Some(of(list));
    }
    if let Some(list) = array.as_list_opt::<i64>() {
        return Some(of(list));
    }
    let list = array.as_fixed_size_list_opt()?;
    let width = usize::try_from(list.value_length()).ok()?;
    Some(Spans {
        lengths: vec![width; list.len()],
        items: Arc::clone(list.values()),
        nulls: list.nulls().cloned(),
    })
}

/// The row whose list holds an item.
fn row_of(lengths: &[usize], item: usize) -> usize {
    let mut ends = lengths.iter().scan(0_usize, |end, length| {
        *end += length;
        Some(*end)
    });
    ends.position(|end| item < end).unwrap_or_default()
}
