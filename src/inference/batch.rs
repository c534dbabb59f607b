//! Rows laid out as a signature says, ready for a runtime.

use std::ops::Range;

use compact_str::CompactString;

/// The elements of one tensor, row after row.
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData {
    /// 32-bit floats.
    Float(Vec<f32>),
    /// 64-bit floats.
    Double(Vec<f64>),
    /// 64-bit integers.
    Int64(Vec<i64>),
    /// Text.
    String(Vec<CompactString>),
    /// true or false.
    Bool(Vec<bool>),
}

/// Rows, one tensor an input of the graph, in the order of the signature's tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// How many rows every tensor has.
    pub rows: usize,
    /// The tensors.
    pub tensors: Vec<TensorData>,
}

impl TensorData {
    /// An empty tensor of the same kind.
    fn empty(&self) -> TensorData {
        match self {
            TensorData::Float(_) => TensorData::Float(Vec::new()),
            TensorData::Double(_) => TensorData::Double(Vec::new()),
            TensorData::Int64(_) => TensorData::Int64(Vec::new()),
            TensorData::String(_) => TensorData::String(Vec::new()),
            TensorData::Bool(_) => TensorData::Bool(Vec::new()),
        }
    }

    fn len(&self) -> usize {
        match self {
            TensorData::Float(data) => data.len(),
            TensorData::Double(data) => data.len(),
            TensorData::Int64(data) => data.len(),
            TensorData::String(data) => data.len(),
            TensorData::Bool(data) => data.len(),
        }
    }

    /// Adds some elements of a tensor of the same kind.
    fn extend(&mut self, other: &TensorData, elements: Range<usize>) {
        match (self, other) {
            (TensorData::Float(all), TensorData::Float(more)) => extend(all, more, elements),
            (TensorData::Double(all), TensorData::Double(more)) => extend(all, more, elements),
            (TensorData::Int64(all), TensorData::Int64(more)) => extend(all, more, elements),
            (TensorData::String(all), TensorData::String(more)) => extend(all, more, elements),
            (TensorData::Bool(all), TensorData::Bool(more)) => extend(all, more, elements),
            // Batches of one layout are of one kind.
            (
                TensorData::Float(_)
                | TensorData::Double(_)
                | TensorData::Int64(_)
                | TensorData::String(_)
                | TensorData::Bool(_),
                _,
            ) => {}
        }
    }
}

fn extend<T: Clone>(all: &mut Vec<T>, more: &[T], elements: Range<usize>) {
    all.extend_from_slice(more.get(elements).unwrap_or_default());
}

impl Batch {
    /// One batch of the rows of several, which are of one layout, in their order.
    pub(crate) fn joined(parts: &[(&Batch, Range<usize>)]) -> Batch {
        let tensors = parts.first().map(|(batch, _)| batch.tensors.as_slice());
        let mut joined = Batch {
            rows: 0,
            tensors: tensors
                .unwrap_or_default()
                .iter()
                .map(TensorData::empty)
                .collect(),
        };
        for (batch, rows) in parts {
            joined.rows += rows.len();
            for (all, more) in joined.tensors.iter_mut().zip(&batch.tensors) {
                let columns = more.len().checked_div(batch.rows).unwrap_or_default();
                all.extend(more, rows.start * columns..rows.end * columns);
            }
        }
        joined
    }
}
