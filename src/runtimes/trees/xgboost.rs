//! XGBoost's own JSON: <https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html>.

use serde::Deserialize;

use super::{DEPTH_MAX, Ensemble, Link, Node, Split, Tree};
use crate::error::{Error, Result};

/// What has no child.
const NO_CHILD: i64 = -1;

#[derive(Deserialize)]
struct Document {
    learner: Learner,
}

#[derive(Deserialize)]
struct Learner {
    gradient_booster: Booster,
    learner_model_param: ModelParameters,
    objective: Objective,
}

#[derive(Deserialize)]
struct Objective {
    name: String,
}

/// Numbers are texts here.
#[derive(Deserialize)]
struct ModelParameters {
    base_score: String,
    num_class: String,
    num_feature: String,
}

#[derive(Deserialize)]
struct Booster {
    name: String,
    model: Option<Trees>,
}

#[derive(Deserialize)]
struct Trees {
    trees: Vec<TreeText>,
    tree_info: Vec<usize>,
}

#[derive(Deserialize)]
struct TreeText {
    left_children: Vec<i64>,
    right_children: Vec<i64>,
    split_indices: Vec<usize>,
    /// Of a leaf, its value.
    split_conditions: Vec<f32>,
    /// 0 or 1, in older files false or true.
    default_left: Vec<serde_json::Value>,
    sum_hessian: Vec<f64>,
    #[serde(default)]
    split_type: Vec<u8>,
}

pub(super) fn parse(text: &[u8]) -> Result<Ensemble> {
    let document: Document = serde_json::from_slice(text).map_err(|fault| {
        refusal(format!(
            "it is no model that XGBoost wrote as JSON: {fault}"
        ))
    })?;
    let learner = document.learner;
    let booster = learner.gradient_booster;
    let Some(model) = booster.model.filter(|_| booster.name == "gbtree") else {
        return Err(refusal(format!(
            "the booster \"{}\" cannot be explained, only gbtree",
            booster.name
        )));
    };
    let link = link_of(&learner.objective.name)?;
    let count = |text: &str| text.parse::<usize>().unwrap_or_default();
    let outputs = count(&learner.learner_model_param.num_class).max(1);
    let columns = count(&learner.learner_model_param.num_feature);
    if model.trees.len() != model.tree_info.len() {
        return Err(refusal("it has not one tree_info a tree".to_owned()));
    }
    let trees = model.trees.iter().zip(model.tree_info).enumerate();
    let trees = trees.map(|(number, (tree, output))| {
        tree_of(tree, output, outputs, columns)
            .map_err(|fault| refusal(format!("tree {number}: {fault}")))
    });
    Ok(Ensemble {
        trees: trees.collect::<Result<_>>()?,
        base_margins: base_margins(&learner.learner_model_param.base_score, link, outputs)?,
        columns,
        link,
    })
}

fn refusal(fault: String) -> Error {
    Error::failed_precondition(fault)
}

fn link_of(objective: &str) -> Result<Link> {
    match objective {
        "binary:logistic" => Ok(Link::Logistic),
        "multi:softprob" | "multi:softmax" => Ok(Link::Softmax),
        "reg:squarederror" | "reg:absoluteerror" | "rank:ndcg" | "rank:pairwise" | "rank:map" => {
            Ok(Link::Identity)
        }
        other => Err(refusal(format!(
            "the objective \"{other}\" cannot be explained: how its raw scores become answers is not known"
        ))),
    }
}

/// The base score is a probability where the link is logistic; newer files have a list of them.
fn base_margins(text: &str, link: Link, outputs: usize) -> Result<Vec<f64>> {
    let listed = text.trim_matches(['[', ']']).split(',');
    let scores: Vec<f64> = listed
        .map(|score| score.trim().parse())
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| refusal(format!("base_score \"{text}\" is no number")))?;
    let margins: Vec<f64> = scores
        .into_iter()
        .map(|score| match link {
            // As XGBoost does, in 32 bits.
            Link::Logistic => -(1.0 / score - 1.0).ln(),
            Link::Identity | Link::Softmax => score,
        })
        .collect();
    match margins.as_slice() {
        [one] => Ok(vec![*one; outputs]),
        all if all.len() == outputs => Ok(margins),
        all => Err(refusal(format!(
            "{} base scores are not one, or one for each of {outputs} outputs",
            all.len()
        ))),
    }
}

fn tree_of(
    text: &TreeText,
    output: usize,
    outputs: usize,
    columns: usize,
) -> std::result::Result<Tree, String> {
    let count = text.left_children.len();
    let lengths = [
        text.right_children.len(),
        text.split_indices.len(),
        text.split_conditions.len(),
        text.default_left.len(),
        text.sum_hessian.len(),
    ];
    if count == 0 || lengths.iter().any(|length| *length != count) {
        return Err("its lists are not of one length".to_owned());
    }
    if output >= outputs {
        return Err(format!("it adds to the output {output} of {outputs}"));
    }
    if text.split_type.iter().any(|split_type| *split_type != 0) {
        return Err("it has categorical splits, which cannot be explained".to_owned());
    }
    let nodes = (0..count)
        .map(|at| node_of(text, at, columns))
        .collect::<Option<Vec<Node>>>()
        .ok_or("a node has a child or a column that is not there")?;
    let tree = Tree {
        nodes,
        covers: text.sum_hessian.clone(),
        output,
    };
    check_shape(&tree)?;
    Ok(tree)
}

fn node_of(text: &TreeText, at: usize, columns: usize) -> Option<Node> {
    let (left, right) = (*text.left_children.get(at)?, *text.right_children.get(at)?);
    let condition = *text.split_conditions.get(at)?;
    if left == NO_CHILD && right == NO_CHILD {
        return Some(Node::Leaf(f64::from(condition)));
    }
    let child = |child: i64| {
        let child = usize::try_from(child).ok()?;
        (child < text.left_children.len()).then_some(child)
    };
    let missing = text.default_left.get(at)?;
    let column = *text.split_indices.get(at)?;
    (column < columns).then_some(())?;
    Some(Node::Split(Split {
        column,
        threshold: condition,
        left: child(left)?,
        right: child(right)?,
        is_missing_left: missing.as_bool().unwrap_or(missing.as_i64() == Some(1)),
    }))
}

/// Goes through a tree from its root: each node once, none too deep, and through each came a part of the training data.
fn check_shape(tree: &Tree) -> std::result::Result<(), String> {
    let mut seen = vec![false; tree.nodes.len()];
    let mut waiting = vec![(0, 0)];
    while let Some((at, depth)) = waiting.pop() {
        if depth > DEPTH_MAX {
            return Err(format!("it is deeper than {DEPTH_MAX} splits"));
        }
        match seen.get_mut(at) {
            Some(is_seen) if !*is_seen => *is_seen = true,
            Some(_) | None => return Err(format!("two ways lead to node {at}")),
        }
        let cover = tree.cover(at);
        if !(cover > 0.0 && cover.is_finite()) {
            return Err(format!("the cover of node {at} is {cover}, not above 0"));
        }
        if let Some(Node::Split(split)) = tree.nodes.get(at) {
            waiting.push((split.left, depth + 1));
            waiting.push((split.right, depth + 1));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value as Json, json};

    use super::*;

    fn document() -> Json {
        json!({"learner": {
            "gradient_booster": {"name": "gbtree", "model": {
                "tree_info": [0],
                "trees": [{
                    "left_children": [1, -1, -1], "right_children": [2, -1, -1], "split_indices": [1, 0, 0],
                    "split_conditions": [0.5, -1.0, 2.0], "default_left": [1, 0, 0], "sum_hessian": [4.0, 1.0, 3.0],
                    "split_type": [0, 0, 0]
                }]
            }},
            "learner_model_param": {"base_score": "[5E-1]", "num_class": "0", "num_feature": "2"},
            "objective": {"name": "binary:logistic"}
        }})
    }

    fn parsed(document: &Json) -> Result<Ensemble> {
        parse(document.to_string().as_bytes())
    }

    #[test]
    fn a_model_is_read_and_scores() {
        let ensemble = parsed(&document()).unwrap();
        assert_eq!((ensemble.outputs(), ensemble.columns), (1, 2));
        assert_eq!(ensemble.raw_score(&[9.0, 0.4], 0), -1.0);
        assert_eq!(ensemble.raw_score(&[9.0, 0.5], 0), 2.0);
        assert_eq!(ensemble.raw_score(&[9.0, f32::NAN], 0), -1.0);
        assert_eq!(ensemble.base_value(0), 1.25);
        assert_eq!(ensemble.contributions(&[9.0, 0.5], 0), [0.0, 0.75]);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let tree = "/learner/gradient_booster/model/trees/0";
        for (place, value, named) in [
            (
                format!("{tree}/left_children"),
                json!([0, -1, -1]),
                "two ways",
            ),
            (
                format!("{tree}/left_children"),
                json!([2, -1, -1]),
                "two ways",
            ),
            (
                format!("{tree}/left_children"),
                json!([7, -1, -1]),
                "not there",
            ),
            (
                format!("{tree}/split_indices"),
                json!([2, 0, 0]),
                "not there",
            ),
            (
                format!("{tree}/sum_hessian"),
                json!([4.0, 0.0, 4.0]),
                "cover of node 1",
            ),
            (format!("{tree}/sum_hessian"), json!([4.0]), "one length"),
            (
                format!("{tree}/split_type"),
                json!([1, 0, 0]),
                "categorical",
            ),
            (
                "/learner/gradient_booster/name".to_owned(),
                json!("dart"),
                "dart",
            ),
            (
                "/learner/objective/name".to_owned(),
                json!("survival:cox"),
                "survival:cox",
            ),
            (
                "/learner/learner_model_param/base_score".to_owned(),
                json!("[1,2]"),
                "2 base scores",
            ),
            (
                "/learner/gradient_booster/model/tree_info".to_owned(),
                json!([3]),
                "output 3",
            ),
        ] {
            let mut document = document();
            *document.pointer_mut(&place).unwrap() = value;
            let fault = parsed(&document).unwrap_err();
            assert!(fault.message().contains(named), "{named} in {fault}");
        }
        assert!(parse(b"{}").is_err());
    }
}
