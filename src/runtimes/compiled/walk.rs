//! Walks trees, a level at a time many of them together: the memory that one waits for is another's to use.

use super::layout::{Layout, Leaves, Node, Place, ROOT};

/// Trees that are walked together.
pub(super) const TOGETHER: usize = 8;

/// Steps between two looks at whether all have arrived.
const STEPS: usize = 6;

/// What rows add up to, and whether anything was added.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Sum {
    pub(super) value: f32,
    pub(super) is_there: bool,
}

impl Layout {
    /// Adds what rows come to, tree after tree, to their sums: `width` keys and `outputs` sums a row.
    pub(super) fn add(&self, keys: &[i32], sums: &mut [Sum], outputs: usize) {
        // Some trees for all rows, then the next: they stay near the processor.
        for trees in self.trees.chunks(TOGETHER) {
            let rows = keys.chunks_exact(self.width());
            for (keys, sums) in rows.zip(sums.chunks_exact_mut(outputs)) {
                let leaves = self.walk(trees, keys);
                self.add_leaves(leaves.iter().take(trees.len()), sums);
            }
        }
    }

    fn add_leaves<'a>(&self, leaves: impl Iterator<Item = &'a i32>, sums: &mut [Sum]) {
        match &self.leaves {
            Leaves::One(output) => {
                if let Some(sum) = sums.get_mut(*output) {
                    for leaf in leaves {
                        sum.value += f32::from_bits(leaf.cast_unsigned());
                    }
                    sum.is_there = true;
                }
            }
            Leaves::Many(lists) => {
                let lists = leaves.filter_map(|leaf| lists.get(usize::try_from(*leaf).ok()?));
                for weight in lists.flatten() {
                    if let Some(sum) = sums.get_mut(weight.output) {
                        sum.value += weight.value;
                        sum.is_there = true;
                    }
                }
            }
        }
    }

    /// What the leaves hold that a row comes to in some trees.
    fn walk(&self, trees: &[Place], keys: &[i32]) -> [i32; TOGETHER] {
        let mut first = [0usize; TOGETHER];
        let mut depth = 0;
        for (lane, tree) in first.iter_mut().zip(trees) {
            *lane = tree.first;
            depth = depth.max(tree.depth);
        }
        let mut at = first.map(|first| first + ROOT);
        let mut steps = 0;
        while steps < depth {
            let before = at;
            for _ in 0..STEPS.min(depth - steps) {
                for (at, first) in at.iter_mut().zip(first) {
                    *at = first + self.step(*at, keys);
                }
            }
            steps += STEPS;
            if steps < depth && before == at {
                break;
            }
        }
        at.map(|at| self.node(at).key)
    }

    #[inline(always)]
    fn step(&self, at: usize, keys: &[i32]) -> usize {
        let node = self.node(at);
        let key = keys
            .get(usize::from(node.column))
            .copied()
            .unwrap_or_default();
        usize::from(node.next) + usize::from(key >= node.key)
    }

    #[inline(always)]
    fn node(&self, at: usize) -> Node {
        // Every `next` was laid out within its tree.
        self.nodes.get(at).copied().unwrap_or(Node {
            key: 0,
            column: 0,
            next: 0,
        })
    }
}
