//! The fields of an ONNX file that trees are made of, by their numbers in onnx.proto; the decoder passes over the rest.

use prost::Message;

use crate::error::{Error, Result};

/// `TensorProto.DataType.FLOAT`.
pub(super) const FLOAT: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<TensorProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub(super) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) output: Vec<String>,
    #[prost(string, tag = "4")]
    pub(super) op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    pub(super) domain: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AttributeProto {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(float, tag = "2")]
    pub(super) f: f32,
    #[prost(int64, tag = "3")]
    pub(super) i: i64,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) s: Vec<u8>,
    #[prost(float, repeated, tag = "7")]
    pub(super) floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub(super) ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub(super) strings: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    pub(super) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    #[prost(float, repeated, tag = "4")]
    pub(super) float_data: Vec<f32>,
    #[prost(string, tag = "8")]
    pub(super) name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub(super) raw_data: Vec<u8>,
}

/// Reads a model file's graph.
///
/// # Errors
/// `FailedPrecondition` where it is no ONNX file.
pub(super) fn read(model: &[u8]) -> Result<GraphProto> {
    ModelProto::decode(model)
        .ok()
        .and_then(|model| model.graph)
        .ok_or_else(|| Error::failed_precondition("it is no ONNX file, or a broken one"))
}

impl NodeProto {
    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|one| one.name == name)
    }

    /// Whether an attribute is there at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    /// A list of whole numbers; empty where there is none.
    pub(super) fn ints(&self, name: &str) -> &[i64] {
        self.attribute(name).map_or(&[], |one| &one.ints)
    }

    /// A list of floats; empty where there is none.
    pub(super) fn floats(&self, name: &str) -> &[f32] {
        self.attribute(name).map_or(&[], |one| &one.floats)
    }

    /// A list of texts, as bytes; empty where there is none.
    pub(super) fn texts(&self, name: &str) -> &[Vec<u8>] {
        self.attribute(name).map_or(&[], |one| &one.strings)
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.attribute(name)
            .map(|one| String::from_utf8_lossy(&one.s).into_owned())
    }

    /// A whole number.
    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).map(|one| one.i)
    }

    /// A float.
    pub(super) fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name).map(|one| one.f)
    }
}

impl TensorProto {
    /// The elements of a tensor of floats.
    pub(super) fn floats(&self) -> Option<Vec<f32>> {
        if self.data_type != FLOAT {
            return None;
        }
        if self.raw_data.is_empty() {
            return Some(self.float_data.clone());
        }
        let (words, _) = self.raw_data.as_chunks::<4>();
        Some(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
    }
}
