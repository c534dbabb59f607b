//! Why a row is scored as it is, by the library's own exact SHAP values.

use std::sync::Arc;

use lightgbm3::Booster;

use super::{
    booster::{OwnBooster, to_i32},
    text::Checked,
};
use crate::{
    error::{Error, Result},
    inference::{Explanation, Output, Signature},
};

/// One call at a time, on the calling thread.
const SETTINGS: &str = "num_threads=1 verbosity=-1";

/// Explains rows, by a model of each class's trees that is made when the first row is to be explained.
pub(super) struct Explainer {
    model: Arc<Checked>,
    /// One a class: the binding has room for the contributions to one number a row, and the library writes those to all.
    classes: Vec<OwnBooster>,
    /// The column of each input.
    columns: Vec<usize>,
    /// Whether what the model answers is the probability of the first of two classes: what is explained is the second's.
    is_first: bool,
}

impl Explainer {
    pub(super) fn new(model: Arc<Checked>, signature: &Signature) -> Explainer {
        Explainer {
            model,
            classes: Vec::new(),
            columns: signature.inputs.iter().map(|input| input.column).collect(),
            is_first: signature.answer_shape().positive == Some(0),
        }
    }

    /// Explains a row, an explanation a class of the model; `answered` is what the model answers for it.
    ///
    /// # Errors
    /// `FailedPrecondition` for a model whose trees are averaged; `Internal` where the library fails.
    pub(super) fn explain(&mut self, row: &[f64], answered: &Output) -> Result<Vec<Explanation>> {
        if self.model.is_average {
            return Err(Error::failed_precondition(
                "this version cannot explain its scores: LightGBM adds up the contributions of trees, and its trees are averaged",
            ));
        }
        if self.classes.is_empty() {
            self.classes = (0..self.model.classes)
                .map(|class| Booster::from_string(&self.model.text_of_class(class)).map(OwnBooster))
                .collect::<std::result::Result<_, _>>()
                .map_err(failed)?;
        }
        let count = self.classes.len();
        let classes = self.classes.iter().enumerate();
        classes
            .map(|(class, booster)| {
                // Of two classes the second is explained, which is the last of what is answered.
                let at = if count == 1 {
                    answered.len().saturating_sub(1)
                } else {
                    class
                };
                let score = answered.get(at).unwrap_or(f64::NAN);
                self.explain_class(&booster.0, row, score)
            })
            .collect()
    }

    fn explain_class(&self, booster: &Booster, row: &[f64], score: f64) -> Result<Explanation> {
        let features = to_i32(self.model.features);
        if row.len() != self.model.features || booster.num_classes() != 1 {
            return Err(Error::internal(
                "a row or a model of another size to explain",
            ));
        }
        let raw = booster
            .raw_scores_with_params(row, features, true, SETTINGS)
            .map_err(failed)?;
        let all = booster
            .predict_contrib(row, features, true)
            .map_err(failed)?;
        let sign = if self.is_first { -1.0 } else { 1.0 };
        let of = |at: usize| all.get(at).map_or(f64::NAN, |number| sign * number);
        Ok(Explanation {
            // After those of the features.
            base_value: of(self.model.features),
            contributions: self.columns.iter().map(|column| of(*column)).collect(),
            raw_score: raw.first().map_or(f64::NAN, |raw| sign * raw),
            score,
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn failed(fault: lightgbm3::Error) -> Error {
    Error::internal(format!("LightGBM failed to explain: {fault}"))
}
