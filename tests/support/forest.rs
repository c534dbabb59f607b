//! Forests of chance, as ONNX files: of any size, the same for the same seed. For benchmarks, and for tests that want more of
//! trees than trained ones have.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

use prost::Message;

/// What a forest is like.
#[derive(Debug, Clone)]
pub struct Forest {
    pub trees: usize,
    pub depth: u32,
    pub columns: usize,
    /// The questions that nodes ask, as ONNX calls them; one of them each.
    pub modes: &'static [&'static str],
    /// Thresholds that are there beside those of chance.
    pub thresholds: &'static [f32],
    /// How often a node is a leaf before the last level.
    pub leaf_share: f32,
    pub seed: u64,
}

impl Default for Forest {
    /// What is measured: 200 trees of depth 6 over 30 columns, as XGBoost writes them.
    fn default() -> Forest {
        Forest {
            trees: 200,
            depth: 6,
            columns: 30,
            modes: &["BRANCH_LT"],
            thresholds: &[],
            leaf_share: 0.05,
            seed: 1,
        }
    }
}

/// A number about 0, as a bell has them.
pub fn normal(random: &mut fastrand::Rng) -> f32 {
    (0..12).map(|_| random.f32()).sum::<f32>() - 6.0
}

/// Rows of numbers about 0; one in twenty is missing.
pub fn rows(count: usize, columns: usize, random: &mut fastrand::Rng) -> Vec<f32> {
    let mut number = || match random.u32(..20) {
        0 => f32::NAN,
        _ => normal(random),
    };
    (0..count * columns).map(|_| number()).collect()
}

/// The `signature.json` of a forest that answers "probabilities" of two classes.
pub fn signature(columns: usize) -> String {
    let inputs: Vec<String> = (0..columns)
        .map(|column| {
            format!(
                r#"{{"name": "f{column}", "type": "float", "tensor": "x", "column": {column}}}"#
            )
        })
        .collect();
    format!(
        r#"{{"format_version": 1, "model": "forest", "version": "1", "runtime": "onnx",
        "task": "binary_classification", "file": "model.onnx", "sha256": "00", "inputs": [{}],
        "tensors": [{{"name": "x", "type": "float", "columns": {columns}}}],
        "output": "probabilities", "classes": ["no", "yes"], "positive_class": "yes",
        "golden": {{"file": "golden.json", "tolerance": 1e-5}}}}"#,
        inputs.join(", ")
    )
}

/// The lists of a tree operator's attributes.
#[derive(Default)]
struct Lists {
    trees: Vec<i64>,
    nodes: Vec<i64>,
    columns: Vec<i64>,
    values: Vec<f32>,
    modes: Vec<&'static str>,
    if_true: Vec<i64>,
    if_false: Vec<i64>,
    missing: Vec<i64>,
    leaf_trees: Vec<i64>,
    leaf_nodes: Vec<i64>,
    leaf_values: Vec<f32>,
}

impl Forest {
    /// The file: a matrix "x", a TreeEnsembleClassifier of two classes, "label" and "probabilities".
    pub fn model(&self) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut lists = Lists::default();
        for tree in 0..i64::try_from(self.trees).unwrap() {
            let mut next = 0;
            self.grow(&mut lists, tree, &mut next, self.depth, &mut random);
        }
        let node = NodeProto {
            input: vec!["x".into()],
            output: vec!["label".into(), "probabilities".into()],
            op_type: "TreeEnsembleClassifier".into(),
            domain: "ai.onnx.ml".into(),
            attribute: attributes(lists),
        };
        let columns = i64::try_from(self.columns).unwrap();
        let graph = GraphProto {
            node: vec![node],
            name: "forest".into(),
            input: vec![value("x", FLOAT, &[None, Some(columns)])],
            output: vec![
                value("label", INT64, &[None]),
                value("probabilities", FLOAT, &[None, Some(2)]),
            ],
        };
        let opset = |domain: &str, version| OperatorSetId {
            domain: domain.to_owned(),
            version,
        };
        ModelProto {
            ir_version: 8,
            graph: Some(graph),
            opset_import: vec![opset("", 15), opset("ai.onnx.ml", 3)],
        }
        .encode_to_vec()
    }

    /// Adds a node and all below it; returns its number in the tree.
    fn grow(
        &self,
        lists: &mut Lists,
        tree: i64,
        next: &mut i64,
        depth: u32,
        random: &mut fastrand::Rng,
    ) -> i64 {
        let (id, at) = (*next, lists.nodes.len());
        *next += 1;
        let is_root = depth == self.depth;
        let is_leaf = depth == 0 || (!is_root && random.f32() < self.leaf_share);
        lists.trees.push(tree);
        lists.nodes.push(id);
        lists
            .columns
            .push(i64::try_from(random.usize(..self.columns)).unwrap());
        lists.values.push(match self.thresholds {
            [] => normal(random),
            some => *random
                .choice(some)
                .filter(|_| random.bool())
                .unwrap_or(&normal(random)),
        });
        lists.missing.push(i64::from(!is_leaf && random.bool()));
        lists.if_true.push(0);
        lists.if_false.push(0);
        if is_leaf {
            lists.modes.push("LEAF");
            lists.leaf_trees.push(tree);
            lists.leaf_nodes.push(id);
            lists.leaf_values.push(normal(random) * 0.1);
            return id;
        }
        lists.modes.push(random.choice(self.modes).unwrap());
        lists.if_true[at] = self.grow(lists, tree, next, depth - 1, random);
        lists.if_false[at] = self.grow(lists, tree, next, depth - 1, random);
        id
    }
}

fn attributes(lists: Lists) -> Vec<AttributeProto> {
    let texts = lists.modes.iter().map(|mode| mode.as_bytes().to_vec());
    vec![
        ints("nodes_treeids", lists.trees),
        ints("nodes_nodeids", lists.nodes),
        ints("nodes_featureids", lists.columns),
        ints("nodes_truenodeids", lists.if_true),
        ints("nodes_falsenodeids", lists.if_false),
        ints("nodes_missing_value_tracks_true", lists.missing),
        floats("nodes_values", lists.values),
        AttributeProto {
            strings: texts.collect(),
            r#type: 8,
            ..named("nodes_modes")
        },
        ints("class_treeids", lists.leaf_trees),
        ints("class_nodeids", lists.leaf_nodes),
        ints("class_ids", vec![0; lists.leaf_values.len()]),
        floats("class_weights", lists.leaf_values),
        floats("base_values", vec![0.25]),
        ints("classlabels_int64s", vec![0, 1]),
        AttributeProto {
            s: b"LOGISTIC".to_vec(),
            r#type: 3,
            ..named("post_transform")
        },
    ]
}

fn named(name: &str) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        ..AttributeProto::default()
    }
}

fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto {
        ints,
        r#type: 7,
        ..named(name)
    }
}

fn floats(name: &str, floats: Vec<f32>) -> AttributeProto {
    AttributeProto {
        floats,
        r#type: 6,
        ..named(name)
    }
}

fn value(name: &str, elem_type: i32, shape: &[Option<i64>]) -> ValueInfoProto {
    let dim = |size: &Option<i64>| Dimension { dim_value: *size };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type,
                shape: Some(Shape {
                    dim: shape.iter().map(dim).collect(),
                }),
            }),
        }),
    }
}

const FLOAT: i32 = 1;
const INT64: i32 = 7;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetId>,
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
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "4")]
    s: Vec<u8>,
    #[prost(float, repeated, packed = "false", tag = "7")]
    floats: Vec<f32>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    strings: Vec<Vec<u8>>,
    #[prost(int32, tag = "20")]
    r#type: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfoProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
}
