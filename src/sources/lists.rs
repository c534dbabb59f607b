//! Arrow lists as values: a row's elements are a slice of one array, converted like a column.

use std::ops::Range;

use arrow_array::{Array, ArrayRef, OffsetSizeTrait, cast::AsArray};
use arrow_schema::DataType;

use super::arrow::{
    CellFault, Cells, bools, bytes, doubles, floats, int32s, int64s, plain, strings, timestamps,
    unfit,
};
use crate::{
    catalog::{ScalarType, ValueType},
    features::ListValue,
};

/// The lists of a column of `List`, `LargeList` or `FixedSizeList`, whole or sliced.
///
/// # Errors
/// The first list with an element that is null or does not fit exactly; elements are counted from 0. What stands below
/// a row that is null is not looked at.
pub(super) fn lists(array: &dyn Array, element: ScalarType) -> Cells<ListValue> {
    if let Some(list) = array.as_list_opt::<i32>() {
        return rows(array, list.values(), element, |row| {
            bounds(list.value_offsets(), row)
        });
    }
    if let Some(list) = array.as_list_opt::<i64>() {
        return rows(array, list.values(), element, |row| {
            bounds(list.value_offsets(), row)
        });
    }
    let list = array
        .as_fixed_size_list_opt()
        .ok_or_else(|| unfit(array, ValueType::List(element)))?;
    let length = usize::try_from(list.value_length()).unwrap_or_default();
    rows(array, list.values(), element, |row| {
        let start = list.value_offset_at(row);
        Some(start..start + length)
    })
}

fn bounds<O: OffsetSizeTrait>(offsets: &[O], row: usize) -> Option<Range<usize>> {
    Some(offsets.get(row)?.as_usize()..offsets.get(row + 1)?.as_usize())
}

fn rows(
    array: &dyn Array,
    elements: &ArrayRef,
    element: ScalarType,
    bounds: impl Fn(usize) -> Option<Range<usize>>,
) -> Cells<ListValue> {
    let mut found = Vec::with_capacity(array.len());
    for row in 0..array.len() {
        if array.is_null(row) {
            found.push(None);
            continue;
        }
        let bounds = bounds(row).unwrap_or_default();
        let part = elements.slice(bounds.start, bounds.len());
        let list = list_value(part.as_ref(), element).map_err(|fault| CellFault {
            index: row,
            sentence: format!("element {}: {}", fault.index, fault.sentence),
        })?;
        found.push(Some(list));
    }
    Ok(found)
}

fn list_value(elements: &dyn Array, element: ScalarType) -> Result<ListValue, CellFault> {
    if let Some(plain) = plain(elements)? {
        return list_value(plain.as_ref(), element);
    }
    if matches!(elements.data_type(), DataType::Null) {
        // Whoever wrote only empty lists had no type to give them.
        return present::<()>(vec![None; elements.len()]).map(|_| ListValue::empty(element));
    }
    match element {
        ScalarType::Bool => present(bools(elements)?).map(ListValue::Bool),
        ScalarType::Int32 => present(int32s(elements)?).map(ListValue::Int32),
        ScalarType::Int64 => present(int64s(elements)?).map(ListValue::Int64),
        ScalarType::Float => present(floats(elements)?).map(ListValue::Float),
        ScalarType::Double => present(doubles(elements)?).map(ListValue::Double),
        ScalarType::String => present(strings(elements)?).map(ListValue::String),
        ScalarType::Bytes => present(bytes(elements)?).map(ListValue::Bytes),
        ScalarType::Timestamp => present(timestamps(elements)?).map(ListValue::Timestamp),
    }
}

fn present<T>(cells: Vec<Option<T>>) -> Result<Vec<T>, CellFault> {
    let cells = cells.into_iter().enumerate();
    cells
        .map(|(index, cell)| {
            cell.ok_or_else(|| CellFault {
                index,
                sentence: "an element of a list cannot be null".to_owned(),
            })
        })
        .collect()
}
