//! Trees laid out to be walked fast: every question is whether one whole number is below another.
//!
//! A float becomes a key, a whole number in the same order. What a missing value answers is decided by the key that stands
//! for it, the least or the greatest, so that a node need not ask. A value that has to be equal to another is asked once a
//! row. A leaf asks what always leads to itself, so that many trees, or rows, can be walked a level at a time together.

use std::collections::{HashMap, VecDeque};

use super::{
    ensemble::{Ensemble, Mode, Node as Original, Split, Tree, Weight},
    graph::refused,
};
use crate::error::Result;

/// Below the key of every number.
const LEAST: i32 = i32::MIN;

/// Above the key of every number.
const GREATEST: i32 = i32::MAX;

/// Below the key of every number, and above `LEAST`.
const NO_NUMBER: i32 = i32::MIN + 1;

/// How many steps down a tree may take.
const DEPTH_MAX: usize = 1_000;

/// A node: to `next` with a key below its own, else to the one behind. A leaf's key is what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) key: i32,
    pub(super) column: u16,
    /// Counted from the tree's first node.
    pub(super) next: u16,
}

/// Where a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) first: usize,
    pub(super) depth: usize,
}

/// The first node of a tree has nothing in it: a leaf's `next` is the node before itself.
pub(super) const ROOT: usize = 1;

/// A value that others are held against: 0 where it is equal, 1 where it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Equal {
    column: usize,
    key: i32,
    is_missing_equal: bool,
}

/// What a leaf holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Leaves {
    /// The bits of a float, which goes to this output.
    One(usize),
    /// The position of what it holds.
    Many(Vec<Vec<Weight>>),
}

/// Trees, ready to be walked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    pub(super) nodes: Vec<Node>,
    pub(super) trees: Vec<Place>,
    pub(super) leaves: Leaves,
    columns: usize,
    equals: Vec<Equal>,
}

impl Layout {
    /// Lays trees out.
    ///
    /// # Errors
    /// `FailedPrecondition` where a tree is none, or too large.
    pub(super) fn new(ensemble: &Ensemble, columns: usize) -> Result<Layout> {
        let mut builder = Builder::new(ensemble, columns)?;
        let mut nodes = Vec::new();
        let mut trees = Vec::new();
        for (position, tree) in ensemble.trees.iter().enumerate() {
            let depth = depth(tree).ok_or_else(|| {
                refused(&format!(
                    "finds that tree {position} goes in circles, or deeper than {DEPTH_MAX} steps"
                ))
            })?;
            let laid = builder.lay(tree).ok_or_else(|| {
                refused(&format!(
                    "finds tree {position} too large for it: more than {} nodes or columns",
                    u16::MAX
                ))
            })?;
            trees.push(Place {
                first: nodes.len(),
                depth,
            });
            nodes.extend(laid);
        }
        Ok(Layout {
            nodes,
            trees,
            leaves: match builder.single {
                Some(output) => Leaves::One(output),
                None => Leaves::Many(builder.lists),
            },
            columns,
            equals: builder.equals,
        })
    }

    /// How many keys a row has.
    pub(super) fn width(&self) -> usize {
        1 + 2 * self.columns + self.equals.len()
    }

    /// Makes a row's keys.
    pub(super) fn keys(&self, row: &[f32], imputed: Option<&[f32]>, keys: &mut Vec<i32>) {
        keys.push(GREATEST);
        let first = keys.len();
        match imputed {
            None => keys.extend(row.iter().map(|value| key(*value).unwrap_or(GREATEST))),
            Some(imputed) => {
                keys.extend(row.iter().zip(imputed).map(|(value, instead)| {
                    key(*value).or_else(|| key(*instead)).unwrap_or(GREATEST)
                }))
            }
        }
        keys.extend_from_within(first..);
        for key in keys.iter_mut().skip(first + self.columns) {
            if *key == GREATEST {
                *key = LEAST;
            }
        }
        for equal in &self.equals {
            let key = keys.get(first + equal.column).copied().unwrap_or(GREATEST);
            let is_equal = key == equal.key || (equal.is_missing_equal && key == GREATEST);
            keys.push(i32::from(!is_equal));
        }
    }
}

/// Where keys are: one that leads every leaf to itself, each column with missing values as the greatest, each with missing
/// values as the least, the equalities.
const STAY: u16 = 0;

/// A number's key; none where it is missing.
pub(super) fn key(value: f32) -> Option<i32> {
    // Minus zero is zero.
    let bits = (value + 0.0).to_bits().cast_signed();
    let below_zero = (bits >> 31).cast_unsigned() >> 1;
    (!value.is_nan()).then_some(bits ^ below_zero.cast_signed())
}

/// The longest way down; none where there is no end to it.
fn depth(tree: &Tree) -> Option<usize> {
    let mut level: Vec<usize> = vec![0];
    for depth in 0..=DEPTH_MAX {
        let splits = level.iter().filter_map(|at| match tree.get(*at) {
            Some(Original::Split(split)) => Some([split.if_true, split.if_false]),
            Some(Original::Leaf(_)) | None => None,
        });
        let mut below: Vec<usize> = splits.flatten().collect();
        below.sort_unstable();
        below.dedup();
        if below.is_empty() {
            return Some(depth);
        }
        level = below;
    }
    None
}

/// What is gathered over all trees.
struct Builder {
    /// The one output that every leaf adds one value to.
    single: Option<usize>,
    lists: Vec<Vec<Weight>>,
    columns: usize,
    equals: Vec<Equal>,
    known: HashMap<Equal, usize>,
}

impl Builder {
    fn new(ensemble: &Ensemble, columns: usize) -> Result<Builder> {
        let leaves = || {
            let nodes = ensemble.trees.iter().flatten();
            nodes.filter_map(|node| match node {
                Original::Leaf(weights) => Some(weights),
                Original::Split(_) => None,
            })
        };
        let is_lone = leaves().all(|weights| weights.len() == 1);
        if ensemble.rule.outputs == 1 && !is_lone {
            return Err(refused(
                "takes leaves of one value each where there is one output",
            ));
        }
        let first = leaves().flatten().next().map(|weight| weight.output);
        let is_same = leaves()
            .flatten()
            .all(|weight| Some(weight.output) == first);
        Ok(Builder {
            single: first.filter(|_| is_lone && is_same),
            lists: Vec::new(),
            columns,
            equals: Vec::new(),
            known: HashMap::new(),
        })
    }

    /// A tree's nodes, level after level, the children of a node beside each other; none where it is too large.
    fn lay(&mut self, tree: &Tree) -> Option<Vec<Node>> {
        let empty = Node {
            key: 0,
            column: STAY,
            next: 0,
        };
        let mut nodes = vec![empty; ROOT + 1];
        let mut waiting = VecDeque::from([(0, ROOT)]);
        // A node that is the child of several is there several times; what is below it is there once.
        let mut below: HashMap<usize, usize> = HashMap::new();
        while let Some((original, at)) = waiting.pop_front() {
            let laid = match tree.get(original)? {
                Original::Leaf(weights) => Node {
                    key: self.leaf(weights)?,
                    column: STAY,
                    next: u16::try_from(at - 1).ok()?,
                },
                Original::Split(split) => {
                    let question = self.question(split);
                    let next = *below.entry(original).or_insert_with(|| {
                        let next = nodes.len();
                        nodes.extend([empty; 2]);
                        waiting.extend([(question.below, next), (question.others, next + 1)]);
                        next
                    });
                    Node {
                        key: question.key,
                        column: u16::try_from(question.column).ok()?,
                        next: u16::try_from(next).ok()?,
                    }
                }
            };
            *nodes.get_mut(at)? = laid;
        }
        Some(nodes)
    }

    fn leaf(&mut self, weights: &[Weight]) -> Option<i32> {
        if let (Some(_), [weight]) = (self.single, weights) {
            return Some(weight.value.to_bits().cast_signed());
        }
        self.lists.push(weights.to_vec());
        i32::try_from(self.lists.len() - 1).ok()
    }

    fn question(&mut self, split: &Split) -> Question {
        let number = key(split.threshold);
        let (key, is_true_below) = match split.mode {
            Mode::Lt => (number.unwrap_or(NO_NUMBER), true),
            Mode::Leq => (number.map_or(NO_NUMBER, |key| key + 1), true),
            Mode::Gte => (number.unwrap_or(GREATEST), false),
            Mode::Gt => (number.map_or(GREATEST, |key| key + 1), false),
            Mode::Eq | Mode::Neq => (1, split.mode == Mode::Eq),
        };
        let column = match split.mode {
            Mode::Eq | Mode::Neq => self.equal(Equal {
                column: split.column,
                key: number.unwrap_or(NO_NUMBER),
                // A missing value is not equal to any.
                is_missing_equal: split.mode == Mode::Eq && split.is_missing_true,
            }),
            Mode::Lt | Mode::Leq | Mode::Gte | Mode::Gt => {
                let is_missing_below = split.is_missing_true == is_true_below;
                1 + split.column + if is_missing_below { self.columns } else { 0 }
            }
        };
        let (below, others) = match is_true_below {
            true => (split.if_true, split.if_false),
            false => (split.if_false, split.if_true),
        };
        Question {
            key,
            column,
            below,
            others,
        }
    }

    fn equal(&mut self, equal: Equal) -> usize {
        let first = 1 + 2 * self.columns;
        let equals = &mut self.equals;
        let at = *self.known.entry(equal).or_insert_with(|| {
            equals.push(equal);
            equals.len() - 1
        });
        first + at
    }
}

/// Whether a key is below another, and which node follows.
struct Question {
    key: i32,
    column: usize,
    below: usize,
    others: usize,
}
