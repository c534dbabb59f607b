//! What rows weigh in memory.
//!
//! Knows arrays only. Spools, blocks and matches ask it, so that their bounds hold for long values also.

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray};
use arrow_schema::DataType;

/// The bytes that a batch holds, without what its arrays share with others.
pub(crate) fn batch_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns.map(array_bytes).sum()
}

fn array_bytes(array: &ArrayRef) -> usize {
    let mut bytes = vec![0_usize; 1];
    add_range_bytes(array.as_ref(), &|_| (0, array.len()), &mut bytes);
    bytes.first().copied().unwrap_or_default()
}

/// Adds to each entry what that row of the array weighs.
pub(crate) fn add_row_bytes(array: &dyn Array, bytes: &mut [usize]) {
    add_range_bytes(array, &|row| (row, row + 1), bytes);
}

/// Adds to each entry what its range of the array weighs.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "arrow has some forty types; all but these have one width"
)]
fn add_range_bytes(
    array: &dyn Array,
    range: &dyn Fn(usize) -> (usize, usize),
    bytes: &mut [usize],
) {
    match array.data_type() {
        DataType::Utf8 => {
            let offsets = array.as_string::<i32>().value_offsets();
            add_spans(offsets, range, bytes);
        }
        DataType::Binary => {
            let offsets = array.as_binary::<i32>().value_offsets();
            add_spans(offsets, range, bytes);
        }
        DataType::LargeBinary => {
            let offsets = array.as_binary::<i64>().value_offsets();
            add_spans(offsets, range, bytes);
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let offsets = list.value_offsets();
            add_spans::<i32>(&[], range, bytes);
            let items = |row: usize| {
                let (from, to) = range(row);
                (at(offsets, from), at(offsets, to))
            };
            add_range_bytes(list.values().as_ref(), &items, bytes);
        }
        other => {
            let width = other.primitive_width().unwrap_or(1);
            for (row, bytes) in bytes.iter_mut().enumerate() {
                let (from, to) = range(row);
                *bytes += width * to.saturating_sub(from);
            }
        }
    }
}

/// The bytes between two offsets, and the offsets' own.
fn add_spans<O: Copy + TryInto<usize>>(
    offsets: &[O],
    range: &dyn Fn(usize) -> (usize, usize),
    bytes: &mut [usize],
) {
    for (row, bytes) in bytes.iter_mut().enumerate() {
        let (from, to) = range(row);
        let own = size_of::<O>() * to.saturating_sub(from);
        *bytes += own + at(offsets, to).saturating_sub(at(offsets, from));
    }
}

fn at<O: Copy + TryInto<usize>>(offsets: &[O], index: usize) -> usize {
    let offset = offsets.get(index).copied();
    offset
        .and_then(|offset| offset.try_into().ok())
        .unwrap_or_default()
}
