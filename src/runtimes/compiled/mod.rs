//! The trees of an ONNX file, walked by ourselves: `runtime = "trees"` of a model.toml. The same file as ONNX Runtime's, the same
//! answers to the bit, a fraction of the time; graphs of anything else than trees are refused by name.

mod ensemble;
mod file;
mod graph;
mod layout;
mod scores;
#[cfg(test)]
mod tests;
mod walk;

use std::{ops::Range, sync::Arc};

use self::{ensemble::Rule, graph::refused, layout::Layout, walk::Sum};
use super::trees::Explainer;
use crate::{
    error::{Error, Result},
    inference::{
        AnswerShape, Batch, Explanation, ModelFiles, Output, Runtime, RuntimeLoader, Signature,
        TensorData, TensorType, cannot_explain,
    },
};

/// The name that model.toml uses.
const NAME: &str = "trees";

/// The runtime whose files these are.
const OF: &str = "onnx";

/// Rows that are walked together.
const ROWS_TOGETHER: usize = 64;

/// Loads the trees of ONNX files.
pub struct CompiledLoader;

impl RuntimeLoader for CompiledLoader {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(
        &self,
        files: ModelFiles<'_>,
        signature: &Signature,
        count: usize,
    ) -> Result<Vec<Box<dyn Runtime>>> {
        let (matrix, columns) = matrix(signature)?;
        let graph = file::read(files.model)?;
        let program = graph::read(&graph, matrix, columns, &signature.output)?;
        let shared = Arc::new(Shared {
            layout: Layout::new(&program.ensemble, columns)?,
            explained: explained(&program.matrix, matrix, files, signature)?,
            imputed: program.imputed,
            rule: program.ensemble.rule,
            factors: program.factors,
            shape: signature.answer_shape(),
            columns,
        });
        let runtime = || -> Box<dyn Runtime> {
            Box::new(CompiledRuntime {
                shared: Arc::clone(&shared),
                keys: Vec::new(),
                sums: Vec::new(),
            })
        };
        Ok(std::iter::repeat_with(runtime).take(count).collect())
    }
}

/// The one matrix of floats that a version takes: its name and its columns.
fn matrix(signature: &Signature) -> Result<(&str, usize)> {
    if signature.runtime != OF {
        return Err(refused(&format!(
            "runs ONNX files that a signature.json gives to \"{OF}\", and this one says \"{}\"",
            signature.runtime
        )));
    }
    match signature.tensors.as_slice() {
        [one] if one.tensor_type == TensorType::Float && one.columns > 0 => {
            Ok((&one.name, one.columns))
        }
        [one] => Err(refused(&format!(
            "takes a matrix of floats, and \"{}\" is one of {}",
            one.name,
            one.tensor_type.name()
        ))),
        all => Err(refused(&format!(
            "takes one matrix of floats, and the signature has {} tensors",
            all.len()
        ))),
    }
}

/// What explains a version, of the trees' matrix or of the one that is given.
fn explained(
    trees: &str,
    given: &str,
    files: ModelFiles<'_>,
    signature: &Signature,
) -> Result<Option<Explained>> {
    let (Some(text), Some(by)) = (files.explain, &signature.explain) else {
        return Ok(None);
    };
    if by.matrix != trees && by.matrix != given {
        return Err(refused(&format!(
            "explains by the matrices \"{given}\" and \"{trees}\", and explain.matrix is \"{}\"",
            by.matrix
        )));
    }
    Ok(Some(Explained {
        explainer: Explainer::new(text, by, signature)?,
        is_completed: by.matrix == trees,
    }))
}

/// What explains a version, and whether it takes rows whose missing values have been filled in.
#[derive(Debug)]
struct Explained {
    explainer: Explainer,
    is_completed: bool,
}

/// What all workers of a version read.
#[derive(Debug)]
struct Shared {
    layout: Layout,
    imputed: Option<Vec<f32>>,
    rule: Rule,
    factors: Vec<f32>,
    explained: Option<Explained>,
    shape: AnswerShape,
    columns: usize,
}

/// A worker's own part: room for the rows that it walks.
struct CompiledRuntime {
    shared: Arc<Shared>,
    keys: Vec<i32>,
    sums: Vec<Sum>,
}

impl Runtime for CompiledRuntime {
    fn run(&mut self, batch: &Batch, rows: Range<usize>) -> Result<Output> {
        let numbers = self.shared.numbers(batch, &rows)?;
        let mut answer = Vec::with_capacity(rows.len() * self.shared.rule.outputs);
        for rows in numbers.chunks(ROWS_TOGETHER * self.shared.columns) {
            self.score(rows, &mut answer);
        }
        self.shared
            .shape
            .complete(Output::Float(answer), rows.len())
    }

    fn explain(&mut self, batch: &Batch) -> Result<Vec<Explanation>> {
        let Some(explained) = &self.shared.explained else {
            return Err(cannot_explain());
        };
        let row = self.shared.numbers(batch, &(0..1))?;
        match &self.shared.imputed {
            Some(imputed) if explained.is_completed => {
                let values = row.iter().zip(imputed);
                let whole =
                    values.map(|(value, instead)| if value.is_nan() { *instead } else { *value });
                explained.explainer.explain(&whole.collect::<Vec<f32>>())
            }
            Some(_) | None => explained.explainer.explain(row),
        }
    }
}

impl Shared {
    /// The numbers of some rows.
    fn numbers<'a>(&self, batch: &'a Batch, rows: &Range<usize>) -> Result<&'a [f32]> {
        let elements = rows.start * self.columns..rows.end * self.columns;
        match batch.tensors.first() {
            Some(TensorData::Float(data)) => data.get(elements),
            Some(
                TensorData::Double(_)
                | TensorData::Int64(_)
                | TensorData::String(_)
                | TensorData::Bool(_),
            )
            | None => None,
        }
        .ok_or_else(|| Error::internal("a batch without the rows that it is asked for"))
    }
}

impl CompiledRuntime {
    fn score(&mut self, rows: &[f32], answer: &mut Vec<f32>) {
        let shared = &self.shared;
        self.keys.clear();
        for row in rows.chunks_exact(shared.columns) {
            shared
                .layout
                .keys(row, shared.imputed.as_deref(), &mut self.keys);
        }
        let outputs = shared.rule.outputs;
        self.sums.clear();
        self.sums
            .resize(rows.len() / shared.columns * outputs, Sum::default());
        shared.layout.add(&self.keys, &mut self.sums, outputs);
        let first = answer.len();
        for sums in self.sums.chunks_exact_mut(outputs) {
            shared.rule.answer(sums, answer);
        }
        for value in answer.iter_mut().skip(first) {
            for factor in &shared.factors {
                *value *= factor;
            }
        }
    }
}
