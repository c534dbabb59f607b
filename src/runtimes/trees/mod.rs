//! Ensembles of trees, as far as explaining needs them: what a trainer's library wrote, and exact SHAP values over it.

mod explainer;
mod shap;
mod xgboost;

pub(super) use explainer::Explainer;

use crate::error::Result;

/// Splits above each other that are followed; deeper trees are refused.
const DEPTH_MAX: usize = 64;

/// A node of a tree.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    /// The value that a row gets.
    Leaf(f64),
    /// Where rows part.
    Split(Split),
}

/// Where rows part: to the left with a value below the threshold.
#[derive(Debug, Clone, PartialEq)]
struct Split {
    column: usize,
    threshold: f32,
    left: usize,
    right: usize,
    is_missing_left: bool,
}

/// A tree: node 0 is the root. Every other node is the child of one split, and no path is longer than `DEPTH_MAX`.
#[derive(Debug, Clone, PartialEq)]
struct Tree {
    nodes: Vec<Node>,
    /// How much of the training data came through each node; above 0 where a path can lead.
    covers: Vec<f64>,
    /// The output that the tree adds to.
    output: usize,
}

/// How raw scores become answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// As they are.
    Identity,
    /// One, the logarithm of the odds.
    Logistic,
    /// One a class.
    Softmax,
}

/// An ensemble of trees over a matrix of 32-bit floats.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ensemble {
    trees: Vec<Tree>,
    /// Added to each output.
    base_margins: Vec<f64>,
    /// How many columns a row has.
    pub(super) columns: usize,
    pub(super) link: Link,
}

impl Ensemble {
    /// Reads a model that XGBoost wrote as JSON (`save_model("….json")`).
    ///
    /// # Errors
    /// `FailedPrecondition`: no such file, categorical splits, another booster than gbtree, an objective whose link is not
    /// known, nodes that make no tree.
    pub(super) fn of_xgboost(text: &[u8]) -> Result<Ensemble> {
        xgboost::parse(text)
    }

    /// How many outputs there are: 1, or one a class.
    pub(super) fn outputs(&self) -> usize {
        self.base_margins.len()
    }

    /// The raw score of an output, without any knowledge of the row: the mean over the training data.
    pub(super) fn base_value(&self, output: usize) -> f64 {
        let trees = self.trees.iter().filter(|tree| tree.output == output);
        let base = self.base_margins.get(output).copied().unwrap_or_default();
        base + trees.map(Tree::mean).sum::<f64>()
    }

    /// The raw score of an output for a row.
    pub(super) fn raw_score(&self, row: &[f32], output: usize) -> f64 {
        let trees = self.trees.iter().filter(|tree| tree.output == output);
        let base = self.base_margins.get(output).copied().unwrap_or_default();
        base + trees.map(|tree| tree.value(row)).sum::<f64>()
    }

    /// What each column adds to the raw score of an output, beyond the base value: exact SHAP values.
    pub(super) fn contributions(&self, row: &[f32], output: usize) -> Vec<f64> {
        let mut added = vec![0.0; self.columns];
        for tree in self.trees.iter().filter(|tree| tree.output == output) {
            shap::add_tree(tree, row, &mut added);
        }
        added
    }
}

impl Split {
    /// The child that a row goes to, and the other one.
    fn children(&self, row: &[f32]) -> (usize, usize) {
        let value = row.get(self.column).copied().unwrap_or(f32::NAN);
        let is_left = if value.is_nan() {
            self.is_missing_left
        } else {
            value < self.threshold
        };
        if is_left {
            (self.left, self.right)
        } else {
            (self.right, self.left)
        }
    }
}

impl Tree {
    fn cover(&self, node: usize) -> f64 {
        self.covers.get(node).copied().unwrap_or_default()
    }

    /// The value of the leaf that a row comes to.
    fn value(&self, row: &[f32]) -> f64 {
        let mut at = 0;
        // One step for each split above each other, and one for the leaf.
        for _ in 0..=DEPTH_MAX {
            match self.nodes.get(at) {
                Some(Node::Split(split)) => (at, _) = split.children(row),
                Some(Node::Leaf(value)) => return *value,
                None => return 0.0,
            }
        }
        0.0
    }

    /// The mean of the leaves, each as often as training rows came to it.
    fn mean(&self) -> f64 {
        let root = self.cover(0);
        if root <= 0.0 {
            return 0.0;
        }
        let leaves = self.nodes.iter().zip(&self.covers);
        let sum: f64 = leaves
            .map(|(node, cover)| match node {
                Node::Leaf(value) => value * cover,
                Node::Split(_) => 0.0,
            })
            .sum();
        sum / root
    }
}
