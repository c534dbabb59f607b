//! One tree of LightGBM's text: every array as long as it has to be, every index within bounds, every node reached once.

use std::{collections::BTreeMap, fmt::Write, str::FromStr};

/// Leaves of a tree: LightGBM's own limit.
const LEAVES_MAX: usize = 131_072;
/// Splits from the root to a leaf: the library walks trees by recursion where it explains a prediction.
const DEPTH_MAX: usize = 1_000;
/// Bits of a decision: categorical, missing goes left, and which values are missing (none, zero, NaN).
const CATEGORICAL: u8 = 1;
const DECISION_MAX: u8 = 0b1011;

/// What a tree may have. Gains, weights and inner values take no part in a prediction.
const KEYS: [&str; 22] = [
    "num_leaves",
    "num_cat",
    "split_feature",
    "split_gain",
    "threshold",
    "decision_type",
    "left_child",
    "right_child",
    "leaf_value",
    "leaf_weight",
    "leaf_count",
    "internal_value",
    "internal_weight",
    "internal_count",
    "cat_boundaries",
    "cat_threshold",
    "is_linear",
    "leaf_const",
    "num_features",
    "leaf_features",
    "leaf_coeff",
    "shrinkage",
];

/// What the header says of every tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Numbers of a row.
    pub(super) features: usize,
}

type Checked<T> = Result<T, String>;

/// Checks a tree and writes it anew.
///
/// # Errors
/// A sentence that names the field at fault.
pub(super) fn check(fields: &BTreeMap<&str, &str>, bounds: Bounds) -> Checked<String> {
    if let Some(unknown) = fields.keys().find(|key| !KEYS.contains(key)) {
        let shown: String = unknown.chars().take(40).collect();
        return Err(format!("\"{shown}\" is not known"));
    }
    if fields.get("is_linear").is_some_and(|value| *value != "0") {
        return Err(
            "its leaves hold linear models, which are not served; train with linear_tree=false"
                .to_owned(),
        );
    }
    let leaves = whole(fields, "num_leaves", 1, LEAVES_MAX)?;
    let splits = leaves - 1;
    let categorical = whole(fields, "num_cat", 0, splits)?;
    let shrinkage = fields.get("shrinkage").copied().unwrap_or("1");
    let mut text = format!("num_leaves={leaves}\nnum_cat={categorical}\n");
    write_all(
        &mut text,
        "leaf_value",
        &floats(fields, "leaf_value", leaves)?,
    );
    write_all(
        &mut text,
        "shrinkage",
        &floats_of("shrinkage", shrinkage, 1)?,
    );
    if splits == 0 {
        return Ok(text);
    }
    let nodes = Nodes::read(fields, splits, bounds)?;
    nodes.check_shape(leaves)?;
    let sets = Sets::read(fields, categorical)?;
    nodes.check_categories(categorical)?;
    nodes.write(&mut text);
    sets.write(&mut text);
    for (key, count) in [("leaf_count", leaves), ("internal_count", splits)] {
        if fields.contains_key(key) {
            let counts: Vec<u32> = wholes(fields, key, count, 0, i32::MAX.unsigned_abs())?;
            write_all(&mut text, key, &counts);
        }
    }
    Ok(text)
}

/// The splits, an element each.
struct Nodes<'a> {
    features: Vec<usize>,
    thresholds: Vec<&'a str>,
    decisions: Vec<u8>,
    /// From 0 on a split, below a leaf: -1 is leaf 0.
    left: Vec<i64>,
    right: Vec<i64>,
}

impl<'a> Nodes<'a> {
    fn read(fields: &BTreeMap<&str, &'a str>, splits: usize, bounds: Bounds) -> Checked<Nodes<'a>> {
        let most = i64::try_from(splits).unwrap_or(i64::MAX);
        let child = |key| wholes(fields, key, splits, -most - 1, most - 1);
        Ok(Nodes {
            features: wholes(fields, "split_feature", splits, 0, bounds.features - 1)?,
            thresholds: thresholds(fields, splits)?,
            decisions: wholes(fields, "decision_type", splits, 0, DECISION_MAX)?,
            left: child("left_child")?,
            right: child("right_child")?,
        })
    }

    /// Whether every split and every leaf is reached from the root, once, on a path that is not too long.
    fn check_shape(&self, leaves: usize) -> Checked<()> {
        let mut is_split_seen = vec![false; self.left.len()];
        let mut is_leaf_seen = vec![false; leaves];
        let mut ahead: Vec<(i64, usize)> = vec![(0, 0)];
        while let Some((child, depth)) = ahead.pop() {
            if depth > DEPTH_MAX {
                return Err(format!("a path has more than {DEPTH_MAX} splits"));
            }
            let (seen, at) = match usize::try_from(child) {
                Ok(split) => (is_split_seen.get_mut(split), split),
                // -1 is leaf 0: all bits the other way round.
                Err(_) => (
                    usize::try_from(!child)
                        .ok()
                        .and_then(|leaf| is_leaf_seen.get_mut(leaf)),
                    0,
                ),
            };
            match seen {
                Some(seen) if !*seen => *seen = true,
                Some(_) | None => return Err(not_a_tree(child)),
            }
            if child >= 0 {
                let children = [self.left.get(at), self.right.get(at)];
                ahead.extend(children.into_iter().flatten().map(|c| (*c, depth + 1)));
            }
        }
        if is_split_seen.iter().chain(&is_leaf_seen).all(|seen| *seen) {
            Ok(())
        } else {
            Err(
                "left_child, right_child: there are splits or leaves that no path leads to"
                    .to_owned(),
            )
        }
    }

    /// Whether the threshold of each categorical split is the number of a set of categories.
    fn check_categories(&self, sets: usize) -> Checked<()> {
        for (decision, shown) in self.decisions.iter().zip(&self.thresholds) {
            // As the library reads it: what is parsed as a whole number is one.
            let is_set = shown.parse().is_ok_and(|set: usize| set < sets);
            if decision & CATEGORICAL != 0 && !is_set {
                return Err(format!(
                    "threshold: {shown} is none of the {sets} sets of categories"
                ));
            }
        }
        Ok(())
    }

    fn write(&self, text: &mut String) {
        write_all(text, "split_feature", &self.features);
        write_all(text, "threshold", &self.thresholds);
        write_all(text, "decision_type", &self.decisions);
        write_all(text, "left_child", &self.left);
        write_all(text, "right_child", &self.right);
    }
}

fn not_a_tree(child: i64) -> String {
    format!(
        "left_child, right_child: {child} is reached twice, or is not there: the splits are no tree"
    )
}

/// The sets of categories, as bits; set i has the words from boundary i to the next.
struct Sets {
    boundaries: Vec<usize>,
    words: Vec<u32>,
}

impl Sets {
    fn read(fields: &BTreeMap<&str, &str>, sets: usize) -> Checked<Sets> {
        if sets == 0 {
            return Ok(Sets {
                boundaries: Vec::new(),
                words: Vec::new(),
            });
        }
        let words = value(fields, "cat_threshold")?
            .split_ascii_whitespace()
            .count();
        let boundaries = wholes(fields, "cat_boundaries", sets + 1, 0, words)?;
        let is_ascending = boundaries.is_sorted();
        if !is_ascending || boundaries.first() != Some(&0) || boundaries.last() != Some(&words) {
            return Err(format!(
                "cat_boundaries: they do not ascend from 0 to the {words} words of cat_threshold"
            ));
        }
        Ok(Sets {
            boundaries,
            words: wholes(fields, "cat_threshold", words, 0, u32::MAX)?,
        })
    }

    fn write(&self, text: &mut String) {
        if !self.boundaries.is_empty() {
            write_all(text, "cat_boundaries", &self.boundaries);
            write_all(text, "cat_threshold", &self.words);
        }
    }
}

fn value<'a>(fields: &BTreeMap<&str, &'a str>, key: &str) -> Checked<&'a str> {
    fields
        .get(key)
        .copied()
        .ok_or_else(|| format!("it has no {key}"))
}

fn whole(fields: &BTreeMap<&str, &str>, key: &str, least: usize, most: usize) -> Checked<usize> {
    let numbers = wholes(fields, key, 1, least, most)?;
    numbers
        .first()
        .copied()
        .ok_or_else(|| format!("it has no {key}"))
}

/// So many whole numbers within bounds.
fn wholes<T: FromStr + PartialOrd + std::fmt::Display>(
    fields: &BTreeMap<&str, &str>,
    key: &str,
    count: usize,
    least: T,
    most: T,
) -> Checked<Vec<T>> {
    let words = words(key, value(fields, key)?, count)?;
    words
        .into_iter()
        .map(|word| {
            word.parse()
                .ok()
                .filter(|number| *number >= least && *number <= most)
                .ok_or_else(|| {
                    let shown: String = word.chars().take(20).collect();
                    format!("{key}: \"{shown}\" is no whole number from {least} to {most}")
                })
        })
        .collect()
}

/// Thresholds, infinite where all but missing values go one way.
fn thresholds<'a>(fields: &BTreeMap<&str, &'a str>, splits: usize) -> Checked<Vec<&'a str>> {
    let words = words("threshold", value(fields, "threshold")?, splits)?;
    for word in &words {
        if !matches!(*word, "inf" | "-inf") {
            float("threshold", word)?;
        }
    }
    Ok(words)
}

fn floats<'a>(fields: &BTreeMap<&str, &'a str>, key: &str, count: usize) -> Checked<Vec<&'a str>> {
    floats_of(key, value(fields, key)?, count)
}

/// So many finite numbers, as they are written: a number that is written anew could be off in its last bit.
fn floats_of<'a>(key: &str, text: &'a str, count: usize) -> Checked<Vec<&'a str>> {
    let words = words(key, text, count)?;
    words.iter().try_for_each(|word| float(key, word))?;
    Ok(words)
}

fn float(key: &str, word: &str) -> Checked<()> {
    let is_plain = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
    let number: Option<f64> = word.parse().ok();
    if word.chars().all(is_plain) && number.is_some_and(f64::is_finite) {
        return Ok(());
    }
    let shown: String = word.chars().take(20).collect();
    Err(format!("{key}: \"{shown}\" is no finite number"))
}

fn words<'a>(key: &str, text: &'a str, count: usize) -> Checked<Vec<&'a str>> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    if words.len() == count {
        return Ok(words);
    }
    Err(format!(
        "{key}: {} numbers, where {count} are due",
        words.len()
    ))
}

fn write_all<T: std::fmt::Display>(text: &mut String, key: &str, numbers: &[T]) {
    let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let _ = writeln!(text, "{key}={}", words.join(" "));
}
