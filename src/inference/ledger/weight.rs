//! How much memory scored rows keep while they wait for the ledger: about, and never less than they do by much.

use std::{mem::size_of, time::Duration};

use crate::{
    features::{FeatureTable, RawRow, RawValue},
    inference::{Batch, Output, ScoredBatch, Subject, TensorData, policy::InputViolation},
};

/// Of a batch as such: its parts, the place in the queue, what the allocator adds.
const OVERHEAD_BYTES: usize = 512;

/// The memory of scored rows, bytes.
pub(super) fn bytes_of(scored: &ScoredBatch) -> usize {
    OVERHEAD_BYTES
        + size_of::<ScoredBatch>()
        + scored.ids.len() * size_of::<uuid::Uuid>()
        // The second time in the queue itself.
        + scored.positions.len() * 2 * size_of::<usize>()
        + scored.violations.len() * size_of::<InputViolation>()
        + batch_bytes(&scored.batch)
        + output_bytes(&scored.output)
        + scored.features.as_ref().map_or(0, features_bytes)
        + subject_bytes(&scored.subject)
}

fn batch_bytes(batch: &Batch) -> usize {
    let tensors = batch.tensors.iter().map(|tensor| match tensor {
        TensorData::Float(data) => size_of_val(data.as_slice()),
        TensorData::Double(data) => size_of_val(data.as_slice()),
        TensorData::Int64(data) => size_of_val(data.as_slice()),
        TensorData::Bool(data) => size_of_val(data.as_slice()),
        TensorData::String(data) => {
            let texts = data.iter().filter(|text| text.is_heap_allocated());
            size_of_val(data.as_slice()) + texts.map(|text| text.len()).sum::<usize>()
        }
    });
    tensors.sum()
}

fn output_bytes(output: &Output) -> usize {
    match output {
        Output::Float(values) => size_of_val(values.as_slice()),
        Output::Double(values) => size_of_val(values.as_slice()),
    }
}

fn features_bytes(features: &FeatureTable) -> usize {
    let texts = features.values().iter();
    let texts = texts.map(|feature| feature.value.heap_bytes());
    size_of_val(features.values())
        + features.names().len() * size_of::<Duration>()
        + texts.sum::<usize>()
}

/// All of a request's rows, also where this version scored some of them: the request is kept whole.
fn subject_bytes(subject: &Subject) -> usize {
    match subject {
        Subject::Dense { values, .. } => size_of_val(values.as_ref()),
        Subject::Rows(rows) | Subject::Entities { rows, .. } => rows.iter().map(row_bytes).sum(),
    }
}

fn row_bytes(row: &RawRow) -> usize {
    let places = match row.fields.spilled() {
        true => row.fields.capacity() * size_of::<(String, RawValue)>(),
        false => 0,
    };
    let fields = row.fields.iter();
    let held = fields.map(|(name, value)| name.capacity() + value_bytes(value));
    size_of::<RawRow>() + places + held.sum::<usize>()
}

fn value_bytes(value: &RawValue) -> usize {
    match value {
        RawValue::Null | RawValue::Bool(_) | RawValue::Number(_) | RawValue::Object => 0,
        RawValue::Text(text) => text.capacity(),
        RawValue::List(values) => {
            values.len() * size_of::<RawValue>() + values.iter().map(value_bytes).sum::<usize>()
        }
    }
}
