//! A tree operator's attributes as trees: which node is where, what a row has to be for the one child or the other.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use super::{file::NodeProto, graph::refused};
use crate::error::Result;

/// What a node asks of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    /// At most the threshold.
    Leq,
    /// Below it.
    Lt,
    /// At least the threshold.
    Gte,
    /// Above it.
    Gt,
    /// Equal to it.
    Eq,
    /// Not equal to it, as a missing value never is.
    Neq,
}

/// Where rows part. The children are positions in the tree's own nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Split {
    pub(super) column: usize,
    pub(super) mode: Mode,
    pub(super) threshold: f32,
    /// Whether a missing value is one that the question is true of.
    pub(super) is_missing_true: bool,
    pub(super) if_true: usize,
    pub(super) if_false: usize,
}

/// A node of a tree as the file has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Split(Split),
    Leaf(Vec<Weight>),
}

/// What a leaf adds to an output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Weight {
    pub(super) output: usize,
    pub(super) value: f32,
}

/// The nodes of a tree; the first is the root. A node may be the child of several.
pub(super) type Tree = Vec<Node>;

/// What becomes of the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    Logistic,
    Softmax,
}

/// Whose sums they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A classifier, with what ONNX Runtime asks of its weights: whether all are of one class, and whether none is negative.
    Classifier {
        is_one_class: bool,
        is_positive: bool,
    },
    /// A regressor, with whether sums are divided by the number of trees.
    Regressor { is_average: bool },
}

/// An ensemble as the file has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ensemble {
    pub(super) trees: Vec<Tree>,
    pub(super) rule: Rule,
}

/// What becomes of the sums of an ensemble's leaves.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    /// How many trees there are.
    pub(super) trees: usize,
    pub(super) kind: Kind,
    pub(super) transform: Transform,
    pub(super) base_values: Vec<f32>,
    /// How many numbers it answers a row.
    pub(super) outputs: usize,
}

impl Ensemble {
    /// Reads a TreeEnsembleClassifier or TreeEnsembleRegressor over so many columns.
    ///
    /// # Errors
    /// `FailedPrecondition` that names the attribute that is not understood, or does not go together with the others.
    pub(super) fn read(node: &NodeProto, columns: usize) -> Result<Ensemble> {
        let doubles = [
            "base_values",
            "nodes_values",
            "class_weights",
            "target_weights",
        ];
        if let Some(name) = doubles
            .iter()
            .find(|name| node.has(&format!("{name}_as_tensor")))
        {
            return Err(refused(&format!(
                "reads floats alone, and finds {name}_as_tensor"
            )));
        }
        let is_classifier = node.op_type == "TreeEnsembleClassifier";
        let (prefix, outputs) = match is_classifier {
            true => {
                let labels = node.texts("classlabels_strings").len();
                ("class", labels.max(node.ints("classlabels_int64s").len()))
            }
            false => ("target", count(node.int("n_targets").unwrap_or_default())),
        };
        let weights = read_weights(node, prefix, outputs)?;
        let kind = match is_classifier {
            true => classifier(node, outputs)?,
            false => regressor(node)?,
        };
        let base_values = node.floats("base_values").to_vec();
        let is_known_base = match kind {
            Kind::Classifier { .. } if outputs == 2 => base_values.len() <= 2,
            Kind::Classifier { .. } | Kind::Regressor { .. } => {
                base_values.is_empty() || base_values.len() == outputs
            }
        };
        if outputs == 0 || !is_known_base {
            return Err(refused(&format!(
                "finds {} base values for {outputs} outputs",
                base_values.len()
            )));
        }
        let trees = read_trees(node, columns, weights)?;
        let rule = Rule {
            trees: trees.len(),
            kind,
            transform: transform(node)?,
            base_values,
            outputs,
        };
        Ok(Ensemble { trees, rule })
    }
}

fn count(number: i64) -> usize {
    usize::try_from(number).unwrap_or_default()
}

fn classifier(node: &NodeProto, outputs: usize) -> Result<Kind> {
    if outputs < 2 {
        return Err(refused("takes a classifier of two classes or more"));
    }
    let ids = node.ints("class_ids");
    let is_one_class = outputs == 2 && ids.iter().all(|id| Some(id) == ids.first());
    let weights = node.floats("class_weights");
    Ok(Kind::Classifier {
        is_one_class,
        is_positive: !weights.iter().any(|weight| *weight < 0.0),
    })
}

fn regressor(node: &NodeProto) -> Result<Kind> {
    match node.text("aggregate_function").as_deref() {
        None | Some("SUM") => Ok(Kind::Regressor { is_average: false }),
        Some("AVERAGE") => Ok(Kind::Regressor { is_average: true }),
        Some(other) => Err(refused(&format!(
            "cannot run the aggregate_function {other}"
        ))),
    }
}

fn transform(node: &NodeProto) -> Result<Transform> {
    match node.text("post_transform").as_deref() {
        None | Some("NONE") => Ok(Transform::None),
        Some("LOGISTIC") => Ok(Transform::Logistic),
        Some("SOFTMAX") => Ok(Transform::Softmax),
        Some(other) => Err(refused(&format!("cannot run the post_transform {other}"))),
    }
}

/// A tree's id and a node's.
type Id = (i64, i64);

/// The weights of each leaf, in the order of the file.
fn read_weights(
    node: &NodeProto,
    prefix: &str,
    outputs: usize,
) -> Result<HashMap<Id, Vec<Weight>>> {
    let ints = |name: &str| node.ints(&format!("{prefix}_{name}"));
    let (trees, nodes, ids) = (ints("treeids"), ints("nodeids"), ints("ids"));
    let values = node.floats(&format!("{prefix}_weights"));
    let lengths = [trees.len(), nodes.len(), ids.len()];
    if lengths.iter().any(|length| *length != values.len()) {
        return Err(refused(&format!(
            "finds lists of {prefix}_* that differ in length"
        )));
    }
    let mut weights: HashMap<Id, Vec<Weight>> = HashMap::new();
    let keys = trees.iter().zip(nodes);
    for ((key, output), value) in keys.zip(ids).zip(values) {
        let output = usize::try_from(*output)
            .ok()
            .filter(|output| *output < outputs);
        let Some(output) = output else {
            return Err(refused(&format!(
                "finds a weight of none of the {outputs} outputs"
            )));
        };
        let leaf = weights.entry((*key.0, *key.1)).or_default();
        leaf.push(Weight {
            output,
            value: *value,
        });
    }
    Ok(weights)
}

/// The trees, in the order of the file, which is the order that sums are made in.
fn read_trees(
    node: &NodeProto,
    columns: usize,
    mut weights: HashMap<Id, Vec<Weight>>,
) -> Result<Vec<Tree>> {
    let list = Attributes::of(node)?;
    let mut trees = Vec::new();
    let mut first = 0;
    let mut seen = HashSet::new();
    while let Some(id) = list.trees.get(first) {
        let same = list
            .trees
            .iter()
            .skip(first)
            .take_while(|other| *other == id);
        let end = first + same.count();
        if !seen.insert(*id) {
            return Err(refused(&format!(
                "finds the nodes of tree {id} in two places"
            )));
        }
        trees.push(list.tree(first..end, *id, columns, &mut weights)?);
        first = end;
    }
    Ok(trees)
}

/// The lists of the nodes' attributes, all of a length.
struct Attributes<'a> {
    trees: &'a [i64],
    nodes: &'a [i64],
    columns: &'a [i64],
    modes: &'a [Vec<u8>],
    values: &'a [f32],
    if_true: &'a [i64],
    if_false: &'a [i64],
    /// May be left out.
    missing: &'a [i64],
}

impl Attributes<'_> {
    fn of(node: &NodeProto) -> Result<Attributes<'_>> {
        let list = Attributes {
            trees: node.ints("nodes_treeids"),
            nodes: node.ints("nodes_nodeids"),
            columns: node.ints("nodes_featureids"),
            modes: node.texts("nodes_modes"),
            values: node.floats("nodes_values"),
            if_true: node.ints("nodes_truenodeids"),
            if_false: node.ints("nodes_falsenodeids"),
            missing: node.ints("nodes_missing_value_tracks_true"),
        };
        let lengths = [
            list.nodes.len(),
            list.columns.len(),
            list.modes.len(),
            list.values.len(),
            list.if_true.len(),
            list.if_false.len(),
        ];
        if list.trees.is_empty() || lengths.iter().any(|length| *length != list.trees.len()) {
            return Err(refused(
                "finds lists of nodes_* that are empty or differ in length",
            ));
        }
        Ok(list)
    }

    /// The tree whose nodes stand at some positions of the lists.
    fn tree(
        &self,
        at: Range<usize>,
        id: i64,
        columns: usize,
        weights: &mut HashMap<Id, Vec<Weight>>,
    ) -> Result<Tree> {
        let ids = self.nodes.get(at.clone()).unwrap_or_default();
        let positions: HashMap<i64, usize> =
            ids.iter().zip(0..).map(|(id, at)| (*id, at)).collect();
        if positions.len() != ids.len() {
            return Err(refused(&format!("finds a node of tree {id} twice")));
        }
        let nodes = at.zip(ids).map(|(at, node)| {
            let is_leaf = self.modes.get(at).is_some_and(|mode| mode == b"LEAF");
            if is_leaf {
                return Ok(Node::Leaf(weights.remove(&(id, *node)).unwrap_or_default()));
            }
            let split = self.split(at, &positions, columns);
            let split = split.ok_or_else(|| {
                refused(&format!(
                    "finds no question, column or child of node {node} of tree {id} that it knows"
                ))
            });
            split.map(Node::Split)
        });
        nodes.collect()
    }

    fn split(&self, at: usize, positions: &HashMap<i64, usize>, columns: usize) -> Option<Split> {
        let mode = match self.modes.get(at)?.as_slice() {
            b"BRANCH_LEQ" => Mode::Leq,
            b"BRANCH_LT" => Mode::Lt,
            b"BRANCH_GTE" => Mode::Gte,
            b"BRANCH_GT" => Mode::Gt,
            b"BRANCH_EQ" => Mode::Eq,
            b"BRANCH_NEQ" => Mode::Neq,
            _ => return None,
        };
        let column = usize::try_from(*self.columns.get(at)?).ok()?;
        Some(Split {
            column: (column < columns).then_some(column)?,
            mode,
            threshold: *self.values.get(at)?,
            is_missing_true: self.missing.get(at) == Some(&1),
            if_true: *positions.get(self.if_true.get(at)?)?,
            if_false: *positions.get(self.if_false.get(at)?)?,
        })
    }
}
