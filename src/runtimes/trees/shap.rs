//! Exact SHAP values of a tree, in polynomial time: algorithm 2 of Lundberg, Erion and Lee, "Consistent Individualized
//! Feature Attribution for Tree Ensembles" (2018), with the training data's covers as the distribution of what is unknown.

use super::{Node, Tree};

/// A column on the way from the root: how much of the rows that do not know it goes this way, and whether the row itself
/// does; and the weight of the subsets of so many columns.
#[derive(Debug, Clone, Copy)]
struct Step {
    column: Option<usize>,
    unknown: f64,
    known: f64,
    weight: f64,
}

/// Adds what each column of a row adds to the tree's value.
pub(super) fn add_tree(tree: &Tree, row: &[f32], added: &mut [f64]) {
    descend(tree, row, 0, &Path::default(), (1.0, 1.0, None), added);
}

fn descend(
    tree: &Tree,
    row: &[f32],
    at: usize,
    before: &Path,
    (unknown, known, column): (f64, f64, Option<usize>),
    added: &mut [f64],
) {
    let mut path = before.clone();
    path.extend(unknown, known, column);
    let split = match tree.nodes.get(at) {
        Some(Node::Split(split)) => split,
        Some(Node::Leaf(value)) => {
            path.add_leaf(*value, added);
            return;
        }
        None => return,
    };
    let (taken, other) = split.children(row);
    // A column that stands twice on the way counts once, with both of its splits.
    let (mut unknown, mut known) = (1.0, 1.0);
    if let Some(step) = path.take(split.column) {
        (unknown, known) = (step.unknown, step.known);
    }
    let cover = tree.cover(at);
    let column = Some(split.column);
    for (child, known) in [(taken, known), (other, 0.0)] {
        let share = tree.cover(child) / cover;
        descend(
            tree,
            row,
            child,
            &path,
            (share * unknown, known, column),
            added,
        );
    }
}

/// The columns on the way from the root, each once.
#[derive(Debug, Clone, Default)]
struct Path {
    steps: Vec<Step>,
}

impl Path {
    fn extend(&mut self, unknown: f64, known: f64, column: Option<usize>) {
        let depth = self.steps.len();
        self.steps.push(Step {
            column,
            unknown,
            known,
            weight: if depth == 0 { 1.0 } else { 0.0 },
        });
        let whole = number(depth + 1);
        for at in (0..depth).rev() {
            let weight = self.weight(at);
            self.add_weight(at + 1, known * weight * number(at + 1) / whole);
            self.set_weight(at, unknown * weight * number(depth - at) / whole);
        }
    }

    /// Takes a column out, as if it had never been there.
    fn take(&mut self, column: usize) -> Option<Step> {
        let found = self
            .steps
            .iter()
            .position(|step| step.column == Some(column))?;
        let taken = self.steps.get(found).copied()?;
        let depth = self.steps.len() - 1;
        let whole = number(depth + 1);
        let mut next = self.weight(depth);
        for at in (0..depth).rev() {
            let weight = self.weight(at);
            if taken.known == 0.0 {
                self.set_weight(at, weight * whole / (taken.unknown * number(depth - at)));
            } else {
                let own = next * whole / (number(at + 1) * taken.known);
                self.set_weight(at, own);
                next = weight - own * taken.unknown * number(depth - at) / whole;
            }
        }
        // The weights stay where they are: they belong to numbers of columns, not to columns.
        for at in found..depth {
            if let Some(after) = self.steps.get(at + 1).copied()
                && let Some(step) = self.steps.get_mut(at)
            {
                (step.column, step.unknown, step.known) =
                    (after.column, after.unknown, after.known);
            }
        }
        self.steps.pop();
        Some(taken)
    }

    /// Adds what each column on the way has of a leaf's value.
    fn add_leaf(&self, value: f64, added: &mut [f64]) {
        for step in self.steps.iter().skip(1) {
            let share = self.weight_without(step) * (step.known - step.unknown) * value;
            let sum = step.column.and_then(|column| added.get_mut(column));
            if let Some(sum) = sum {
                *sum += share;
            }
        }
    }

    /// The weights of all subsets of the columns without one, together.
    fn weight_without(&self, step: &Step) -> f64 {
        let depth = self.steps.len() - 1;
        let whole = number(depth + 1);
        let mut next = self.weight(depth);
        let mut sum = 0.0;
        for at in (0..depth).rev() {
            let weight = self.weight(at);
            if step.known == 0.0 {
                sum += weight * whole / (step.unknown * number(depth - at));
            } else {
                let own = next * whole / (number(at + 1) * step.known);
                sum += own;
                next = weight - own * step.unknown * number(depth - at) / whole;
            }
        }
        sum
    }

    fn weight(&self, at: usize) -> f64 {
        self.steps.get(at).map_or(0.0, |step| step.weight)
    }

    fn set_weight(&mut self, at: usize, weight: f64) {
        if let Some(step) = self.steps.get_mut(at) {
            step.weight = weight;
        }
    }

    fn add_weight(&mut self, at: usize, weight: f64) {
        if let Some(step) = self.steps.get_mut(at) {
            step.weight += weight;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a depth")]
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::runtimes::trees::Split;

    const COLUMNS: usize = 4;

    /// Numbers that look random, the same each time.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % end
        }
    }

    /// A tree in which columns stand more than once on the way.
    fn grown(numbers: &mut Numbers, depth: usize) -> Tree {
        let mut tree = Tree {
            nodes: Vec::new(),
            covers: Vec::new(),
            output: 0,
        };
        grow(&mut tree, numbers, depth, 1_000.0);
        tree
    }

    fn grow(tree: &mut Tree, numbers: &mut Numbers, depth: usize, cover: f64) -> usize {
        let at = tree.nodes.len();
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let leaf = numbers.below(100) as f64 - 50.0;
        tree.nodes.push(Node::Leaf(leaf));
        tree.covers.push(cover);
        if depth == 0 || numbers.below(5) == 0 {
            return at;
        }
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let (share, threshold) = (
            0.1 + 0.1 * numbers.below(9) as f64,
            numbers.below(10) as f32,
        );
        let column = usize::try_from(numbers.below(COLUMNS as u64)).unwrap();
        let left = grow(tree, numbers, depth - 1, cover * share);
        let right = grow(tree, numbers, depth - 1, cover * (1.0 - share));
        tree.nodes[at] = Node::Split(Split {
            column,
            threshold,
            left,
            right,
            is_missing_left: numbers.below(2) == 0,
        });
        at
    }

    /// The mean of the tree where only some columns of a row are known.
    fn mean_of(tree: &Tree, row: &[f32], at: usize, known: u32) -> f64 {
        let Node::Split(split) = &tree.nodes[at] else {
            let Node::Leaf(value) = tree.nodes[at] else {
                return 0.0;
            };
            return value;
        };
        let (taken, other) = split.children(row);
        if known & (1 << split.column) != 0 {
            return mean_of(tree, row, taken, known);
        }
        let mean = |child| mean_of(tree, row, child, known) * tree.cover(child) / tree.cover(at);
        mean(taken) + mean(other)
    }

    /// Shapley values by their definition: over every subset of the other columns.
    fn by_definition(tree: &Tree, row: &[f32]) -> Vec<f64> {
        let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
        let all = u32::try_from(COLUMNS).unwrap();
        (0..all)
            .map(|column| {
                let others = (0..1_u32 << all).filter(|known| known & (1 << column) == 0);
                others
                    .map(|known| {
                        let size = known.count_ones();
                        let weight = factorial(size) * factorial(all - size - 1) / factorial(all);
                        let with = mean_of(tree, row, 0, known | (1 << column));
                        weight * (with - mean_of(tree, row, 0, known))
                    })
                    .sum()
            })
            .collect()
    }

    #[test]
    fn contributions_are_those_of_the_definition_and_add_up() {
        let mut numbers = Numbers(7);
        for _ in 0..200 {
            let tree = grown(&mut numbers, 6);
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let mut row: Vec<f32> = (0..COLUMNS).map(|_| numbers.below(10) as f32).collect();
            if numbers.below(3) == 0 {
                row[1] = f32::NAN;
            }
            let mut added = vec![0.0; COLUMNS];
            add_tree(&tree, &row, &mut added);
            for (found, wanted) in added.iter().zip(by_definition(&tree, &row)) {
                assert!((found - wanted).abs() < 1e-9, "{added:?} {wanted} {tree:?}");
            }
            let sum: f64 = added.iter().sum();
            assert!((tree.mean() + sum - tree.value(&row)).abs() < 1e-9);
        }
    }
}
