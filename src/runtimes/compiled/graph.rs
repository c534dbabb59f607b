//! What a graph does from its matrix to its answer, as far as it is trees and what exporters put around them.

use super::{
    ensemble::Ensemble,
    file::{GraphProto, NodeProto},
};
use crate::error::{Error, Result};

/// A matrix of floats, made complete, through trees, scaled.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Program {
    /// The name of the matrix that the trees take.
    pub(super) matrix: String,
    /// What stands in for a missing value, by column; none: it stays missing.
    pub(super) imputed: Option<Vec<f32>>,
    pub(super) ensemble: Ensemble,
    /// What each answer is multiplied by, one after the other.
    pub(super) factors: Vec<f32>,
}

/// Follows a graph back from the output that is asked for to the matrix that is given.
///
/// # Errors
/// `FailedPrecondition` that names the operator that is not understood.
pub(super) fn read(
    graph: &GraphProto,
    matrix: &str,
    columns: usize,
    output: &str,
) -> Result<Program> {
    let mut factors = Vec::new();
    let mut name = output;
    let mut steps = Steps::of(graph);
    let trees = loop {
        let (node, at) = steps.to(name)?;
        match (domain(node), node.op_type.as_str(), at) {
            ("", "Identity", _) => name = input(node, 0)?,
            ("", "Mul", _) => {
                let (factor, other) = scalar_factor(graph, node)?;
                factors.push(factor);
                name = other;
            }
            ("ai.onnx.ml", "TreeEnsembleClassifier", 1) => break node,
            ("ai.onnx.ml", "TreeEnsembleRegressor", 0) => break node,
            _ => return Err(not_run(node)),
        }
    };
    factors.reverse();
    let mut imputed = None;
    let taken = input(trees, 0)?;
    let mut name = taken;
    while name != matrix {
        let (node, _) = steps.to(name)?;
        match (domain(node), node.op_type.as_str()) {
            ("", "Identity") => {}
            ("ai.onnx.ml", "Imputer") if imputed.is_none() => {
                imputed = Some(imputer(node, columns)?);
            }
            _ => return Err(not_run(node)),
        }
        name = input(node, 0)?;
    }
    let ensemble = Ensemble::read(trees, columns)?;
    Ok(Program {
        matrix: taken.to_owned(),
        imputed,
        ensemble,
        factors,
    })
}

fn domain(node: &NodeProto) -> &str {
    match node.domain.as_str() {
        "ai.onnx" => "",
        domain => domain,
    }
}

/// Steps from node to node; no more of them than there are nodes.
struct Steps<'a> {
    graph: &'a GraphProto,
    left: usize,
}

impl<'a> Steps<'a> {
    fn of(graph: &'a GraphProto) -> Steps<'a> {
        let left = graph.node.len();
        Steps { graph, left }
    }

    /// The node that an output comes from, and which of its outputs that is.
    fn to(&mut self, name: &str) -> Result<(&'a NodeProto, usize)> {
        let found = self.graph.node.iter().find_map(|node| {
            let at = node.output.iter().position(|output| output == name)?;
            Some((node, at))
        });
        let found =
            found.ok_or_else(|| refused(&format!("finds no node that gives \"{name}\"")))?;
        self.left = (self.left.checked_sub(1))
            .ok_or_else(|| refused("finds that the graph goes in circles"))?;
        Ok(found)
    }
}

fn input(node: &NodeProto, at: usize) -> Result<&str> {
    let name = node.input.get(at).map(String::as_str);
    name.ok_or_else(|| refused(&format!("finds a {} without input", node.op_type)))
}

/// The factor of a product with a constant of one element, and the name of what it multiplies.
fn scalar_factor<'a>(graph: &GraphProto, node: &'a NodeProto) -> Result<(f32, &'a str)> {
    let (first, second) = (input(node, 0)?, input(node, 1)?);
    let constant = |name: &str| {
        let tensor = graph
            .initializer
            .iter()
            .find(|tensor| tensor.name == name)?;
        match (tensor.floats()?.as_slice(), tensor.dims.len()) {
            ([factor], 0..=2) => Some(*factor),
            _ => None,
        }
    };
    match (constant(first), constant(second)) {
        (Some(factor), None) => Ok((factor, second)),
        (None, Some(factor)) => Ok((factor, first)),
        _ => Err(refused(
            "multiplies by a constant of one float alone, and finds another Mul",
        )),
    }
}

/// What an Imputer of floats puts in the place of NaN, by column.
fn imputer(node: &NodeProto, columns: usize) -> Result<Vec<f32>> {
    let is_plain = node.float("replaced_value_float").is_some_and(f32::is_nan)
        && !node.has("imputed_value_int64s");
    let values = node.floats("imputed_value_floats");
    match values {
        _ if !is_plain => Err(refused(
            "imputes NaN in floats alone, and finds another Imputer",
        )),
        [value] => Ok(vec![*value; columns]),
        values if values.len() == columns => Ok(values.to_vec()),
        values => Err(refused(&format!(
            "finds an Imputer of {} values for {columns} columns",
            values.len()
        ))),
    }
}

fn not_run(node: &NodeProto) -> Error {
    let shown: String = node.op_type.chars().take(60).collect();
    refused(&format!("cannot run the operator {shown}"))
}

/// A refusal that says what to do.
pub(super) fn refused(what: &str) -> Error {
    Error::failed_precondition(format!(
        "runtime = \"trees\" {what}; leave runtime out of model.toml, and ONNX Runtime runs it"
    ))
}
