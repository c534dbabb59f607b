//! Golden rows: the trainer's own predictions, which a runtime has to reproduce before its version answers anything.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Batch, Explanation, Layout, Runtime, Signature, Task, explain::check_explanations};
use crate::{
    error::{Error, Result},
    features::{RawValue, Value},
};

/// Rows that are explained as a check; one costs as much as some hundred scores.
const EXPLAINED_MAX: usize = 20;

/// Rows a run of the runtime.
const ROWS_PER_RUN: usize = 128;

/// A `golden.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenText {
    inputs: Vec<String>,
    rows: Vec<Vec<serde_json::Value>>,
    scores: Vec<f64>,
    /// Every number that the model answers, [rows, columns].
    #[serde(default)]
    outputs: Vec<Vec<f64>>,
    kinds: Vec<String>,
    #[serde(default)]
    explained: Option<ExplainedText>,
}

/// The trainer's own explanations of some of the rows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainedText {
    /// Positions of the rows.
    rows: Vec<usize>,
    /// Of each, of its first output.
    base_value: f64,
    /// One list a row, one number an input.
    contributions: Vec<Vec<f64>>,
}

/// Golden rows, typed as the signature says.
#[derive(Debug)]
pub(super) struct GoldenRows {
    rows: Vec<Vec<Value>>,
    scores: Vec<f64>,
    /// Empty, or one a row.
    outputs: Vec<Vec<f64>>,
    kinds: Vec<String>,
    explained: Option<ExplainedText>,
}

/// Rows laid out together, the first of which has a number among all.
fn laid_out(rows: &[Vec<Value>], first: usize, layout: &Layout) -> Result<Batch> {
    let mut batch = layout.empty_batch(rows.len());
    for (row, values) in rows.iter().enumerate() {
        for (input, value) in values.iter().enumerate() {
            let set = layout.set(&mut batch, row, input, value);
            set.map_err(|fault| refusal(first + row, &fault))?;
        }
    }
    Ok(batch)
}

impl GoldenRows {
    /// Reads a `golden.json` against a signature.
    ///
    /// # Errors
    /// `FailedPrecondition` that names the row and the input at fault.
    pub(super) fn parse(text: &str, signature: &Signature) -> Result<GoldenRows> {
        let golden: GoldenText = serde_json::from_str(text)
            .map_err(|fault| Error::failed_precondition(fault.to_string()))?;
        let count = golden.rows.len();
        if count == 0 || golden.scores.len() != count || golden.kinds.len() != count {
            return Err(Error::failed_precondition(format!(
                "{count} rows, {} scores and {} kinds do not go together",
                golden.scores.len(),
                golden.kinds.len()
            )));
        }
        check_outputs(&golden.outputs, count, signature)?;
        check_explained_rows(golden.explained.as_ref(), count, signature)?;
        let names: Vec<&String> = signature.inputs.iter().map(|input| &input.name).collect();
        if golden.inputs.iter().ne(names.iter().copied()) {
            return Err(Error::failed_precondition(
                "its inputs are not those of the signature, in the same order",
            ));
        }
        let rows = golden
            .rows
            .into_iter()
            .enumerate()
            .map(|(index, row)| typed_row(index, row, signature))
            .collect::<Result<_>>()?;
        Ok(GoldenRows {
            rows,
            scores: golden.scores,
            outputs: golden.outputs,
            kinds: golden.kinds,
            explained: golden.explained,
        })
    }

    /// The rows, in the order of the signature's inputs.
    pub(super) fn rows(&self) -> &[Vec<Value>] {
        &self.rows
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.rows.len()
    }

    /// By input, whether a row has it missing.
    pub(super) fn missing_inputs(&self) -> Vec<bool> {
        let inputs = self.rows.first().map_or(0, Vec::len);
        let is_missing = |input| {
            let values = self.rows.iter().filter_map(move |row| row.get(input));
            values.into_iter().any(Value::is_missing)
        };
        (0..inputs).map(is_missing).collect()
    }

    /// Runs every row, laid out as served rows are, and compares the scores, and all that the model answers where the
    /// trainer's outputs are there.
    ///
    /// # Errors
    /// `FailedPrecondition` that names the first row that differs by more than the signature's tolerance, with both
    /// numbers; what the runtime answers.
    pub(super) fn check(
        &self,
        runtime: &mut dyn Runtime,
        layout: &Layout,
        signature: &Signature,
    ) -> Result<()> {
        for (part, rows) in self.rows.chunks(ROWS_PER_RUN).enumerate() {
            let batch = laid_out(rows, part * ROWS_PER_RUN, layout)?;
            let output = runtime.run(&batch, 0..rows.len())?;
            for row in 0..rows.len() {
                let columns = signature.columns();
                let outputs = (row * columns..(row + 1) * columns).filter_map(|at| output.get(at));
                let outputs: Vec<f64> = outputs.collect();
                self.compare(part * ROWS_PER_RUN + row, &outputs, signature)?;
            }
        }
        Ok(())
    }

    /// The first row, laid out by itself.
    ///
    /// # Errors
    /// As `check`.
    pub(super) fn first_row(&self, layout: &Layout) -> Result<Batch> {
        laid_out(self.rows.get(..1).unwrap_or_default(), 0, layout)
    }

    /// Whether the trainer's explanations are there.
    pub(super) fn has_explanations(&self) -> bool {
        self.explained.is_some()
    }

    /// Explains rows: each explanation has to add up, to lead to the score, and to be the trainer's own where that is there.
    ///
    /// # Errors
    /// As `check`.
    pub(super) fn check_explained(
        &self,
        runtime: &mut dyn Runtime,
        layout: &Layout,
        signature: &Signature,
    ) -> Result<()> {
        // The trainer's own first: they alone show that a contribution is that of its input.
        let listed = self.explained.iter().flat_map(|explained| &explained.rows);
        let listed: BTreeSet<usize> = listed.copied().collect();
        let others = (0..self.rows.len()).filter(|row| !listed.contains(row));
        let others = others.take(EXPLAINED_MAX.saturating_sub(listed.len()));
        for row in listed.iter().copied().chain(others) {
            let alone = self.rows.get(row..=row).unwrap_or_default();
            let batch = laid_out(alone, row, layout)?;
            let explained = runtime.explain(&batch)?;
            let outputs = runtime.run(&batch, 0..1)?;
            let outputs = (0..signature.columns()).filter_map(|at| outputs.get(at));
            let outputs: Vec<f64> = outputs.collect();
            check_explanations(&explained, &outputs).map_err(|fault| refusal(row, &fault))?;
            self.check_trainers(row, explained.first())?;
        }
        Ok(())
    }

    fn check_trainers(&self, row: usize, own: Option<&Explanation>) -> Result<()> {
        let Some(explained) = &self.explained else {
            return Ok(());
        };
        let listed = explained.rows.iter().zip(&explained.contributions);
        for (_, contributions) in listed.filter(|(listed, _)| **listed == row) {
            if !own.is_some_and(|own| own.has(explained.base_value, contributions)) {
                return Err(refusal(
                    row,
                    &format!(
                        "the trainer explains it by {contributions:?}, and this server by {:?}",
                        own.map(|own| &own.contributions)
                    ),
                ));
            }
        }
        Ok(())
    }

    fn compare(&self, row: usize, served: &[f64], signature: &Signature) -> Result<()> {
        if let Some(expected) = self.outputs.get(row) {
            for (column, expected) in expected.iter().enumerate() {
                let what = signature.classes.get(column).map_or_else(
                    || "value".to_owned(),
                    |class| format!("probability of \"{class}\""),
                );
                let served = served.get(column).copied().unwrap_or(f64::NAN);
                self.compare_one(row, &what, *expected, served, signature)?;
            }
        }
        let Some(expected) = self.scores.get(row).copied() else {
            return Err(refusal(row, "there is no score"));
        };
        let served = signature.interpret(served).score;
        self.compare_one(row, "score", expected, served, signature)
    }

    fn compare_one(
        &self,
        row: usize,
        what: &str,
        expected: f64,
        served: f64,
        signature: &Signature,
    ) -> Result<()> {
        let allowed = signature.difference_max(expected);
        // A NaN on either side is a difference.
        if (served - expected).abs() <= allowed {
            return Ok(());
        }
        let kind = self.kinds.get(row).map_or("", String::as_str);
        let has_missing = self
            .rows
            .get(row)
            .is_some_and(|row| row.iter().any(Value::is_missing));
        let hint = if has_missing {
            "; the row has missing values: does the exported model know them?"
        } else {
            ""
        };
        Err(refusal(
            row,
            &format!(
                "({kind}) the trainer's {what} is {expected}, this runtime's {served}; they may differ by {allowed}{hint}"
            ),
        ))
    }
}

/// The trainer's own explanations: of rows that are there, with a number an input. A version that names what explains it has
/// to bring some: nothing else shows that a contribution is told of the input that it is of.
fn check_explained_rows(
    explained: Option<&ExplainedText>,
    count: usize,
    signature: &Signature,
) -> Result<()> {
    let Some(explained) = explained else {
        if signature.explain.is_none() {
            return Ok(());
        }
        return Err(Error::failed_precondition(
            "explained: the signature names what explains scores, so that the trainer's own contributions of some rows are \
             needed to check it",
        ));
    };
    let inputs = signature.inputs.len();
    let is_whole = !explained.rows.is_empty()
        && explained.rows.len() == explained.contributions.len()
        && explained.rows.iter().all(|row| *row < count)
        && explained
            .contributions
            .iter()
            .all(|row| row.len() == inputs);
    if is_whole {
        return Ok(());
    }
    Err(Error::failed_precondition(format!(
        "explained: it takes the positions of some of the {count} rows, and as many lists of {inputs} contributions"
    )))
}

/// One row of outputs a golden row, each with all columns; needed where the score does not tell all of an answer.
fn check_outputs(outputs: &[Vec<f64>], count: usize, signature: &Signature) -> Result<()> {
    let columns = signature.columns();
    if outputs.is_empty() && signature.task == Task::MulticlassClassification {
        return Err(Error::failed_precondition(format!(
            "outputs: a multi-class model needs the trainer's probabilities of all {columns} classes, a list a row"
        )));
    }
    if !outputs.is_empty() && outputs.len() != count {
        return Err(Error::failed_precondition(format!(
            "{count} rows and {} outputs do not go together",
            outputs.len()
        )));
    }
    match outputs.iter().position(|row| row.len() != columns) {
        None => Ok(()),
        Some(row) => Err(refusal(
            row,
            &format!("its outputs are not {columns}, as many as the model answers"),
        )),
    }
}

fn refusal(row: usize, fault: &str) -> Error {
    Error::failed_precondition(format!("golden row {row}: {fault}"))
}

fn typed_row(
    index: usize,
    row: Vec<serde_json::Value>,
    signature: &Signature,
) -> Result<Vec<Value>> {
    if row.len() != signature.inputs.len() {
        return Err(refusal(
            index,
            &format!("{} values for {} inputs", row.len(), signature.inputs.len()),
        ));
    }
    row.into_iter()
        .zip(&signature.inputs)
        .map(|(cell, input)| {
            RawValue::from_json(cell)
                .to_value(input.value_type)
                .map_err(|fault| refusal(index, &format!("{}: {fault}", input.name)))
        })
        .collect()
}
