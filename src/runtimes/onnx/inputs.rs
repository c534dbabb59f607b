//! Rows of a batch as the inputs of a graph: numbers where they are, texts as copies.

use std::ops::Range;

use compact_str::CompactString;
use ort::{
    session::SessionInputValue,
    value::{Tensor as OrtTensor, TensorRef},
};

use super::failed;
use crate::{
    error::Result,
    inference::{Batch, Tensor, TensorData},
};

/// Places that texts are copied into: ONNX Runtime's crate takes none but its own kind. Their memory is kept from run to run,
/// and none of what was in it.
#[derive(Default)]
pub(super) struct Texts(Vec<String>);

/// What a place keeps between runs, bytes: more than categories have.
const TEXT_KEPT_BYTES_MAX: usize = 64;

impl Texts {
    /// Copies of texts.
    fn hold(&mut self, texts: &[CompactString]) -> &[String] {
        let missing = texts.len().saturating_sub(self.0.len());
        self.0.extend((0..missing).map(|_| String::new()));
        for (place, text) in self.0.iter_mut().zip(texts) {
            place.push_str(text);
        }
        self.0.get(..texts.len()).unwrap_or_default()
    }

    fn forget(&mut self) {
        for place in &mut self.0 {
            place.clear();
            place.shrink_to(TEXT_KEPT_BYTES_MAX);
        }
    }
}

/// Some rows of a batch, as the graph's inputs.
pub(super) fn graph_inputs<'a>(
    tensors: &'a [Tensor],
    batch: &'a Batch,
    rows: &Range<usize>,
    texts: &mut Texts,
) -> Result<Vec<(&'a str, SessionInputValue<'a>)>> {
    let pairs = tensors.iter().zip(&batch.tensors);
    pairs
        .map(|(tensor, data)| {
            let value = input_value(data, rows, tensor.columns, texts);
            let value = value.map_err(|fault| failed(&fault))?;
            Ok((tensor.name.as_str(), value))
        })
        .collect()
}

/// Some rows of a tensor, without a copy except for text.
fn input_value<'a>(
    data: &'a TensorData,
    rows: &Range<usize>,
    columns: usize,
    texts: &mut Texts,
) -> ort::Result<SessionInputValue<'a>> {
    let shape = [rows.len(), columns];
    let elements = rows.start * columns..rows.end * columns;
    Ok(match data {
        TensorData::Float(data) => {
            TensorRef::from_array_view((shape, part(data, elements)))?.into()
        }
        TensorData::Double(data) => {
            TensorRef::from_array_view((shape, part(data, elements)))?.into()
        }
        TensorData::Int64(data) => {
            TensorRef::from_array_view((shape, part(data, elements)))?.into()
        }
        TensorData::Bool(data) => TensorRef::from_array_view((shape, part(data, elements)))?.into(),
        TensorData::String(data) => {
            let held = texts.hold(part(data, elements));
            let tensor = OrtTensor::from_string_array((shape, held));
            texts.forget();
            tensor?.into()
        }
    })
}

/// A part of a slice; an empty one, which ONNX Runtime refuses, where it is beyond the end.
pub(super) fn part<T>(data: &[T], elements: Range<usize>) -> &[T] {
    data.get(elements).unwrap_or_default()
}
