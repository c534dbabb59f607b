//! Reads LightGBM's text format before the library does: its reader trusts what it reads. What is checked is written anew, from
//! numbers that were parsed here, and the library sees nothing else of the file.

use std::{collections::BTreeMap, fmt::Write};

use super::{
    objective::Objective,
    tree::{self, Bounds},
};
use crate::error::{Error, Result};

/// Trees of a model.
const TREES_MAX: usize = 100_000;
/// Features of a model.
const FEATURES_MAX: usize = 100_000;
/// Classes of a model, each with trees of its own.
const CLASSES_MAX: usize = 10_000;

/// What a header may say. Names and ranges of features, and the lengths of the trees' texts, are not needed.
const HEADER: [&str; 11] = [
    "version",
    "num_class",
    "num_tree_per_iteration",
    "label_index",
    "max_feature_idx",
    "objective",
    "average_output",
    "feature_names",
    "monotone_constraints",
    "feature_infos",
    "tree_sizes",
];

/// The forms of the text that are known: LightGBM 3 and 4.
const VERSIONS: [&str; 2] = ["v3", "v4"];

/// A model that is safe to load.
#[derive(Debug, PartialEq)]
pub(super) struct Checked {
    /// The trees, written anew; of several classes one each in turn.
    trees: Vec<String>,
    /// Whether the trees are averaged, not added.
    pub(super) is_average: bool,
    /// Numbers of a row.
    pub(super) features: usize,
    /// Numbers that are answered a row.
    pub(super) classes: usize,
    /// What it was trained for.
    pub(super) objective: Objective,
}

/// Checks a model file: LightGBM's text, whole, with trees that can be walked.
///
/// # Errors
/// `FailedPrecondition` that says what is wrong, and in which tree.
pub(super) fn check(model: &[u8]) -> Result<Checked> {
    read(model).map_err(Error::failed_precondition)
}

fn read(model: &[u8]) -> std::result::Result<Checked, String> {
    let text = std::str::from_utf8(model).map_err(|_| not_ours())?;
    let mut lines = text.lines().map(str::trim_end);
    if lines.next() != Some("tree") {
        return Err(not_ours());
    }
    let (header, first) = read_header(&mut lines)?;
    let header = Header::check(&header)?;
    let bounds = Bounds {
        features: header.features,
    };
    let mut trees: Vec<String> = Vec::new();
    let mut next = first;
    while let Some(number) = next.and_then(|line| line.strip_prefix("Tree=")) {
        let at = trees.len();
        if at >= TREES_MAX {
            return Err(format!("it has more than {TREES_MAX} trees"));
        }
        if number.parse() != Ok(at) {
            let shown: String = number.chars().take(20).collect();
            return Err(format!("tree {at} is called \"{shown}\""));
        }
        let fields = read_block(&mut lines).map_err(|fault| in_tree(at, &fault))?;
        let tree = tree::check(&fields, bounds).map_err(|fault| in_tree(at, &fault))?;
        trees.push(tree);
        next = lines.find(|line| !line.is_empty());
    }
    if next != Some("end of trees") {
        return Err(format!(
            "after tree {} there is neither another nor the end of the trees: the file is cut short or broken",
            trees.len().saturating_sub(1)
        ));
    }
    if trees.is_empty() || !trees.len().is_multiple_of(header.classes) {
        return Err(format!(
            "{} trees are not as many for each of {} classes",
            trees.len(),
            header.classes
        ));
    }
    Ok(Checked {
        trees,
        is_average: header.is_average,
        features: header.features,
        classes: header.classes,
        objective: header.objective,
    })
}

impl Checked {
    /// The whole model.
    pub(super) fn text(&self) -> String {
        let objective = (self.objective != Objective::Custom).then_some(self.objective);
        self.written(self.classes, objective, self.is_average, self.trees.iter())
    }

    /// The trees of one class, as a model that answers their sum.
    pub(super) fn text_of_class(&self, class: usize) -> String {
        let trees = self.trees.iter().skip(class).step_by(self.classes);
        self.written(1, None, false, trees)
    }

    /// A header with names that say nothing, and trees.
    fn written<'a>(
        &self,
        classes: usize,
        objective: Option<Objective>,
        is_average: bool,
        trees: impl Iterator<Item = &'a String>,
    ) -> String {
        let mut text = format!(
            "tree\nversion=v4\nnum_class={classes}\nnum_tree_per_iteration={classes}\nlabel_index=0\nmax_feature_idx={}\n",
            self.features - 1
        );
        if let Some(objective) = objective {
            let _ = writeln!(text, "objective={objective}");
        }
        if is_average {
            text.push_str("average_output\n");
        }
        let names: Vec<String> = (0..self.features).map(|at| format!("f{at}")).collect();
        let infos = vec!["none"; self.features];
        let _ = writeln!(
            text,
            "feature_names={}\nfeature_infos={}\n",
            names.join(" "),
            infos.join(" ")
        );
        for (at, tree) in trees.enumerate() {
            let _ = writeln!(text, "Tree={at}\n{tree}");
        }
        text.push_str("end of trees\n");
        text
    }
}

fn not_ours() -> String {
    "it is no LightGBM text model; save one with booster.save_model(\"model.txt\")".to_owned()
}

fn in_tree(tree: usize, fault: &str) -> String {
    format!("tree {tree}: {fault}")
}

/// Key to value; a key without `=` has an empty one.
type Fields<'a> = BTreeMap<&'a str, &'a str>;

/// Reads up to the first tree, whose line comes back, too.
fn read_header<'a>(
    lines: &mut impl Iterator<Item = &'a str>,
) -> std::result::Result<(Fields<'a>, Option<&'a str>), String> {
    let mut fields = Fields::new();
    for line in lines {
        if line.is_empty() {
            continue;
        }
        if line.starts_with("Tree=") || line == "end of trees" {
            return Ok((fields, Some(line)));
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        if !HEADER.contains(&key) {
            let shown: String = key.chars().take(40).collect();
            return Err(format!("the header has \"{shown}\", which is not known"));
        }
        add(&mut fields, key, value)?;
    }
    Ok((fields, None))
}

/// Reads the lines of a tree, up to an empty one.
fn read_block<'a>(
    lines: &mut impl Iterator<Item = &'a str>,
) -> std::result::Result<Fields<'a>, String> {
    let mut fields = Fields::new();
    for line in lines {
        if line.is_empty() {
            return Ok(fields);
        }
        let (key, value) = line.split_once('=').ok_or_else(|| {
            let shown: String = line.chars().take(40).collect();
            format!("the line \"{shown}\" is no key=value")
        })?;
        add(&mut fields, key, value)?;
    }
    Err("the file ends within it".to_owned())
}

fn add<'a>(
    fields: &mut Fields<'a>,
    key: &'a str,
    value: &'a str,
) -> std::result::Result<(), String> {
    if fields.insert(key, value).is_some() {
        let shown: String = key.chars().take(40).collect();
        return Err(format!("\"{shown}\" is there twice"));
    }
    Ok(())
}

/// What a header says.
struct Header {
    features: usize,
    classes: usize,
    objective: Objective,
    is_average: bool,
}

impl Header {
    fn check(fields: &Fields<'_>) -> std::result::Result<Header, String> {
        let version = fields.get("version").copied().unwrap_or_default();
        if !VERSIONS.contains(&version) {
            let shown: String = version.chars().take(20).collect();
            return Err(format!(
                "version \"{shown}\" of the text is none of {}",
                VERSIONS.join(", ")
            ));
        }
        let classes = count(fields, "num_class", CLASSES_MAX)?;
        if fields.contains_key("num_tree_per_iteration")
            && count(fields, "num_tree_per_iteration", CLASSES_MAX)? != classes
        {
            return Err(
                "num_tree_per_iteration is not num_class: it would answer beyond its classes"
                    .to_owned(),
            );
        }
        let features = count(fields, "max_feature_idx", FEATURES_MAX)? + 1;
        let names = fields.get("feature_names").copied().unwrap_or_default();
        let named = names.split_ascii_whitespace().count();
        if named != features {
            return Err(format!(
                "feature_names: {named} for {features} features (max_feature_idx and 1)"
            ));
        }
        let objective = fields.get("objective").copied();
        let objective = objective.map_or(Ok(Objective::Custom), Objective::parse)?;
        if objective.classes().is_some_and(|needed| needed != classes) {
            return Err(format!("{objective} does not go with num_class {classes}"));
        }
        Ok(Header {
            features,
            classes,
            objective,
            is_average: fields.contains_key("average_output"),
        })
    }
}

/// A whole number of the header, where "max_feature_idx" may be 0 and a count not.
fn count(fields: &Fields<'_>, key: &str, max: usize) -> std::result::Result<usize, String> {
    let text = fields.get(key).copied().unwrap_or_default();
    let least = usize::from(key != "max_feature_idx");
    text.parse()
        .ok()
        .filter(|number| (least..=max).contains(number))
        .ok_or_else(|| {
            let shown: String = text.chars().take(20).collect();
            format!("{key}: \"{shown}\" is no whole number from {least} to {max}")
        })
}

#[cfg(test)]
mod tests;
