//! Explaining a model of ONNX's: by the trees that its trainer left beside it, over the matrix that the graph gives to its own.

use super::{Ensemble, Link};
use crate::{
    error::{Error, Result},
    inference::{ExplainedBy, Explanation, Signature},
};

/// Trees, and which input each of their columns comes from.
#[derive(Debug)]
pub(in crate::runtimes) struct Explainer {
    ensemble: Ensemble,
    columns: Vec<usize>,
    inputs: usize,
}

impl Explainer {
    /// Reads the trainer's trees and holds them against the signature.
    ///
    /// # Errors
    /// `FailedPrecondition` that says what is wrong with the file, or how it does not fit.
    pub(in crate::runtimes) fn new(
        text: &[u8],
        by: &ExplainedBy,
        signature: &Signature,
    ) -> Result<Explainer> {
        let ensemble = Ensemble::of_xgboost(text).map_err(|fault| fault.within(&by.file))?;
        let refused = |fault: String| Err(Error::failed_precondition(fault).within(&by.file));
        if ensemble.columns != by.columns.len() {
            return refused(format!(
                "it has {} columns, and explain.columns of the signature {}",
                ensemble.columns,
                by.columns.len()
            ));
        }
        let wanted = match ensemble.link {
            Link::Softmax => signature.columns(),
            Link::Identity | Link::Logistic => 1,
        };
        if ensemble.outputs() != wanted {
            return refused(format!(
                "it has {} outputs, and the model {wanted}",
                ensemble.outputs()
            ));
        }
        Ok(Explainer {
            ensemble,
            columns: by.columns.clone(),
            inputs: signature.inputs.len(),
        })
    }

    /// Explains a row of the matrix that the trees take, an explanation an output of theirs.
    pub(in crate::runtimes) fn explain(&self, row: &[f32]) -> Result<Vec<Explanation>> {
        if row.len() != self.columns.len() {
            return Err(Error::internal(format!(
                "the graph gave {} columns, and its trees take {}",
                row.len(),
                self.columns.len()
            )));
        }
        let outputs = 0..self.ensemble.outputs();
        let raw: Vec<f64> = outputs
            .map(|output| self.ensemble.raw_score(row, output))
            .collect();
        let scores = scores(self.ensemble.link, &raw);
        let explained = raw.iter().zip(scores).enumerate();
        Ok(explained
            .map(|(output, (raw_score, score))| Explanation {
                base_value: self.ensemble.base_value(output),
                contributions: self.by_input(&self.ensemble.contributions(row, output)),
                raw_score: *raw_score,
                score,
            })
            .collect())
    }

    /// SHAP values add up: an input has what all of its columns have.
    fn by_input(&self, by_column: &[f64]) -> Vec<f64> {
        let mut by_input = vec![0.0; self.inputs];
        for (input, added) in self.columns.iter().zip(by_column) {
            if let Some(sum) = by_input.get_mut(*input) {
                *sum += added;
            }
        }
        by_input
    }
}

fn scores(link: Link, raw: &[f64]) -> Vec<f64> {
    match link {
        Link::Identity => raw.to_vec(),
        Link::Logistic => raw.iter().map(|raw| 1.0 / (1.0 + (-raw).exp())).collect(),
        Link::Softmax => {
            let highest = raw.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = raw.iter().map(|raw| (raw - highest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.into_iter().map(|power| power / sum).collect()
        }
    }
}
