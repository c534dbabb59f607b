//! Looks into an ONNX file before ONNX Runtime does: a model file is untrusted input.
//!
//! Reads the few fields that the checks need, by their numbers in onnx.proto; the decoder passes over the rest.

use prost::Message;

use crate::error::{Error, Result};

/// Faults of one file that are reported.
const FAULTS_MAX: usize = 20;

/// `TensorProto.DataLocation.EXTERNAL`.
const LOCATION_EXTERNAL: i32 = 1;

/// The newest operator sets that ONNX Runtime 1.31 is known to read, by domain.
const OPSETS_MAX: [(&str, i64); 2] = [("", 26), ("ai.onnx.ml", 5)];

/// What trees, linear models and the preprocessing before them are made of. Nothing whose output is as large as a number in
/// the graph says, as Tile and Expand; two inputs can still make an output as large as their product.
const OPERATORS: [(&str, &[&str]); 2] = [
    (
        "",
        &[
            "Abs",
            "Add",
            "And",
            "ArgMax",
            "ArgMin",
            "Cast",
            "Ceil",
            "Clip",
            "Concat",
            "Constant",
            "Div",
            "Equal",
            "Erf",
            "Exp",
            "Flatten",
            "Floor",
            "Gather",
            "GatherElements",
            "Gemm",
            "Greater",
            "GreaterOrEqual",
            "Identity",
            "IsInf",
            "IsNaN",
            "Less",
            "LessOrEqual",
            "Log",
            "MatMul",
            "Max",
            "Mean",
            "Min",
            "Mul",
            "Neg",
            "Not",
            "Or",
            "Pow",
            "Reciprocal",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceSum",
            "Relu",
            "Reshape",
            "Round",
            "Shape",
            "Sigmoid",
            "Sign",
            "Slice",
            "Softmax",
            "Split",
            "Sqrt",
            "Squeeze",
            "Sub",
            "Sum",
            "TopK",
            "Transpose",
            "Unsqueeze",
            "Where",
            "Xor",
        ],
    ),
    (
        "ai.onnx.ml",
        &[
            "ArrayFeatureExtractor",
            "Binarizer",
            "FeatureVectorizer",
            "Imputer",
            "LabelEncoder",
            "LinearClassifier",
            "LinearRegressor",
            "Normalizer",
            "OneHotEncoder",
            "SVMClassifier",
            "SVMRegressor",
            "Scaler",
            "TreeEnsemble",
            "TreeEnsembleClassifier",
            "TreeEnsembleRegressor",
        ],
    ),
];

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetId>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Unread>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSetId {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "15")]
    sparse_initializer: Vec<Unread>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(message, optional, tag = "5")]
    t: Option<TensorProto>,
    #[prost(message, optional, tag = "6")]
    g: Option<Unread>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Unread>,
    #[prost(message, optional, tag = "22")]
    sparse_tensor: Option<Unread>,
    #[prost(message, repeated, tag = "23")]
    sparse_tensors: Vec<Unread>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<Unread>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

/// Operators that multiply matrices. ONNX Runtime computes one row by another kernel than several, which rounds otherwise.
const PRODUCTS: [&str; 6] = [
    "Gemm",
    "LinearClassifier",
    "LinearRegressor",
    "MatMul",
    "SVMClassifier",
    "SVMRegressor",
];

/// What a file that is let through is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inspected {
    /// Whether the graph multiplies matrices.
    pub(super) has_products: bool,
}

/// A message of which only the presence matters.
#[derive(Clone, PartialEq, Message)]
struct Unread {}

/// Checks a model file: an ONNX graph of known operators, complete in itself, bounded in size.
///
/// # Errors
/// `FailedPrecondition` with every fault and, where there is a way, how to export without it.
pub(super) fn inspect(model: &[u8], nodes_max: usize) -> Result<Inspected> {
    let model = ModelProto::decode(model).map_err(|fault| {
        Error::failed_precondition("it is no ONNX file, or a broken one").with_source(fault)
    })?;
    let Some(graph) = &model.graph else {
        return Err(Error::failed_precondition(
            "it is no ONNX file: it has no graph",
        ));
    };
    let mut faults = Vec::new();
    check_opsets(&model, &mut faults);
    check_graph(graph, nodes_max, &mut faults);
    if !model.functions.is_empty() {
        faults.push("it defines functions of its own, which are not allowed".to_owned());
    }
    if faults.is_empty() {
        let mut operators = graph.node.iter().map(|node| node.op_type.as_str());
        return Ok(Inspected {
            has_products: operators.any(|operator| PRODUCTS.contains(&operator)),
        });
    }
    faults.dedup();
    faults.truncate(FAULTS_MAX);
    Err(Error::failed_precondition(faults.join("; ")))
}

fn check_opsets(model: &ModelProto, faults: &mut Vec<String>) {
    for opset in &model.opset_import {
        let domain = canonical(&opset.domain);
        let shown = if domain.is_empty() { "ai.onnx" } else { domain };
        match OPSETS_MAX.iter().find(|(known, _)| *known == domain) {
            Some((_, newest)) if opset.version <= *newest => {}
            Some((_, newest)) => faults.push(format!(
                "it needs version {} of the operator set {shown}; export with target_opset {newest} or lower",
                opset.version
            )),
            // Exporters import domains that no node uses.
            None if uses(model, domain) => faults.push(format!(
                "it uses operators of {shown}, a runtime's own, which are not allowed; export without options that ask for them"
            )),
            None => {}
        }
    }
}

fn uses(model: &ModelProto, domain: &str) -> bool {
    model
        .graph
        .iter()
        .flat_map(|graph| &graph.node)
        .any(|node| canonical(&node.domain) == domain)
}

fn canonical(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

fn check_graph(graph: &GraphProto, nodes_max: usize, faults: &mut Vec<String>) {
    if graph.node.len() > nodes_max {
        faults.push(format!(
            "it has {} nodes, more than the {nodes_max} that models.nodes_max allows",
            graph.node.len()
        ));
        return;
    }
    if !graph.sparse_initializer.is_empty() {
        faults.push("it has sparse initializers, which are not allowed".to_owned());
    }
    if graph.initializer.iter().any(is_external) {
        faults.push(EXTERNAL_DATA.to_owned());
    }
    for node in &graph.node {
        check_node(node, faults);
    }
}

const EXTERNAL_DATA: &str =
    "it keeps data in another file; save it in one file (onnx.save without save_as_external_data)";

fn check_node(node: &NodeProto, faults: &mut Vec<String>) {
    let domain = canonical(&node.domain);
    if domain == "ai.onnx.ml" && node.op_type == "ZipMap" {
        faults.push(
            "it answers with a list of maps (ZipMap); export with options={\"zipmap\": False} (skl2onnx), zipmap=False \
             (onnxmltools), or without that node (CatBoost: models/README.md says how)"
                .to_owned(),
        );
        return;
    }
    let is_known = OPERATORS
        .iter()
        .any(|(known, names)| *known == domain && names.contains(&node.op_type.as_str()));
    let shown: String = node.op_type.chars().take(60).collect();
    if !is_known {
        faults.push(format!(
            "the operator {shown} (node \"{}\"{}) is not allowed; only trees, linear models and what prepares their inputs \
             are: export the model so, and do the rest in training or in a feature",
            node.name.chars().take(60).collect::<String>(),
            of_domain(domain)
        ));
    }
    for attribute in &node.attribute {
        if attribute.g.is_some() || !attribute.graphs.is_empty() {
            faults.push(format!(
                "the node \"{}\" ({shown}) holds a graph of its own (If, Loop, Scan), which is not allowed; export a model \
                 without loops and branches",
                node.name.chars().take(60).collect::<String>()
            ));
        }
        if attribute.sparse_tensor.is_some() || !attribute.sparse_tensors.is_empty() {
            faults.push("it has sparse tensors, which are not allowed".to_owned());
        }
        if attribute
            .t
            .iter()
            .chain(&attribute.tensors)
            .any(is_external)
        {
            faults.push(EXTERNAL_DATA.to_owned());
        }
    }
}

fn of_domain(domain: &str) -> String {
    match domain {
        "" => String::new(),
        domain => format!(", of {}", domain.chars().take(60).collect::<String>()),
    }
}

fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == LOCATION_EXTERNAL || !tensor.external_data.is_empty()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn model(node: NodeProto) -> ModelProto {
        ModelProto {
            graph: Some(GraphProto {
                node: vec![node],
                initializer: Vec::new(),
                sparse_initializer: Vec::new(),
            }),
            opset_import: vec![OperatorSetId {
                domain: "ai.onnx.ml".into(),
                version: 3,
            }],
            functions: Vec::new(),
        }
    }

    fn node(domain: &str, op_type: &str) -> NodeProto {
        NodeProto {
            name: "n".into(),
            op_type: op_type.into(),
            domain: domain.into(),
            attribute: Vec::new(),
        }
    }

    fn refusal(model: &ModelProto) -> String {
        inspect(&model.encode_to_vec(), 10).unwrap_err().to_string()
    }

    #[test]
    fn known_operators_pass() {
        let good = model(node("ai.onnx.ml", "TreeEnsembleClassifier"));
        assert!(inspect(&good.encode_to_vec(), 10).is_ok());
        assert!(inspect(&model(node("ai.onnx", "Cast")).encode_to_vec(), 10).is_ok());
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        assert!(refusal(&model(node("ai.onnx.ml", "ZipMap"))).contains("zipmap"));
        assert!(refusal(&model(node("com.acme", "Shell"))).contains("operator Shell"));
        assert!(refusal(&model(node("", "If"))).contains("operator If"));

        let mut subgraph = node("", "Identity");
        subgraph.attribute.push(AttributeProto {
            g: Some(Unread {}),
            ..AttributeProto::default()
        });
        assert!(refusal(&model(subgraph)).contains("graph of its own"));

        let mut external = model(node("", "Identity"));
        external
            .graph
            .as_mut()
            .unwrap()
            .initializer
            .push(TensorProto {
                external_data: vec![Unread {}],
                data_location: LOCATION_EXTERNAL,
            });
        assert!(refusal(&external).contains("another file"));

        let mut sparse = model(node("", "Identity"));
        sparse
            .graph
            .as_mut()
            .unwrap()
            .sparse_initializer
            .push(Unread {});
        assert!(refusal(&sparse).contains("sparse"));

        let mut newer = model(node("", "Identity"));
        newer.opset_import.push(OperatorSetId {
            domain: String::new(),
            version: 99,
        });
        assert!(refusal(&newer).contains("target_opset"));

        let mut large = model(node("", "Identity"));
        large.graph.as_mut().unwrap().node = vec![node("", "Identity"); 11];
        assert!(refusal(&large).contains("11 nodes"));
    }

    #[test]
    fn anything_that_is_no_onnx_file_is_refused() {
        for bytes in [&b""[..], b"\x00\x01\x02", b"hello, this is text"] {
            assert!(inspect(bytes, 10).is_err());
        }
    }
}
