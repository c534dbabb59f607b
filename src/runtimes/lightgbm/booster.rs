//! Runs checked models: one Booster and one prepared call a worker, as a Booster's calls wait for each other.

use std::{ops::Range, sync::Arc};

use lightgbm3::Booster;
use serde_json::json;

use super::{NAME, explain::Explainer, text, text::Checked};
use crate::{
    error::{Error, Result},
    inference::{
        AnswerShape, Batch, Explanation, ModelFiles, Output, Runtime, RuntimeLoader, Signature,
        TensorData, TensorType,
    },
};

/// Loads LightGBM's text models.
pub(super) struct LightGbmLoader;

impl RuntimeLoader for LightGbmLoader {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(
        &self,
        files: ModelFiles<'_>,
        signature: &Signature,
        count: usize,
    ) -> Result<Vec<Box<dyn Runtime>>> {
        if files.explain.is_some() {
            return Err(Error::failed_precondition(
                "explain: LightGBM explains its own models; the signature needs none",
            ));
        }
        let checked = Arc::new(text::check(files.model)?);
        check_fit(&checked, signature)?;
        let text = checked.text();
        let mut runtimes: Vec<Box<dyn Runtime>> = Vec::with_capacity(count);
        for _ in 0..count {
            runtimes.push(Box::new(LightGbmRuntime {
                booster: start(&checked, &text)?,
                explainer: Explainer::new(Arc::clone(&checked), signature),
                row: Vec::with_capacity(checked.features),
                columns: checked.features,
                shape: signature.answer_shape(),
            }));
        }
        Ok(runtimes)
    }
}

/// Holds the model against the signature.
fn check_fit(model: &Checked, signature: &Signature) -> Result<()> {
    let mut faults = Vec::new();
    match signature.tensors.as_slice() {
        [tensor] => {
            if tensor.columns != model.features {
                faults.push(format!(
                    "it has {} features, and the signature's tensor {} columns",
                    model.features, tensor.columns
                ));
            }
            if !matches!(tensor.tensor_type, TensorType::Float | TensorType::Double) {
                faults.push(format!(
                    "LightGBM takes a tensor of doubles or floats, and the signature's is one of {}",
                    tensor.tensor_type.name()
                ));
            }
        }
        tensors => faults.push(format!(
            "LightGBM takes one tensor, and the signature has {}",
            tensors.len()
        )),
    }
    if !signature.answer_shape().takes(model.classes) {
        faults.push(format!(
            "it answers {} numbers a row, and the signature's task and classes need {}",
            model.classes,
            signature.columns()
        ));
    }
    if let Err(fault) = model.objective.check_task(signature.task) {
        faults.push(fault);
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Error::failed_precondition(faults.join("; ")))
    }
}

/// Loads a text that was checked and written anew, and prepares the call for one row of doubles.
fn start(model: &Checked, text: &str) -> Result<OwnBooster> {
    let mut booster = Booster::from_string(text).map_err(refused)?;
    let found = (booster.num_features(), booster.num_classes());
    if found != (to_i32(model.features), to_i32(model.classes)) {
        return Err(Error::failed_precondition(format!(
            "LightGBM reads {} features and {} classes, where {} and {} were found",
            found.0, found.1, model.features, model.classes
        )));
    }
    let settings = json!({"num_threads": 1, "verbosity": -1});
    booster
        .single_row_fast_init::<f64>(Some(&settings))
        .map_err(refused)?;
    Ok(OwnBooster(booster))
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn refused(fault: lightgbm3::Error) -> Error {
    Error::failed_precondition(format!("LightGBM refuses it: {fault}"))
}

pub(super) fn to_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// A Booster that one thread at a time has.
pub(super) struct OwnBooster(pub(super) Booster);

#[expect(
    unsafe_code,
    reason = "the binding holds two pointers of the library, which hang on no thread: nobody else has them, and a runtime is \
              called by one thread at a time"
)]
// SAFETY: see the reason above; LightGBM keeps per thread only the last error's text and the log level.
unsafe impl Send for OwnBooster {}

/// One Booster.
struct LightGbmRuntime {
    booster: OwnBooster,
    explainer: Explainer,
    /// The row that is being scored.
    row: Vec<f64>,
    columns: usize,
    shape: AnswerShape,
}

impl Runtime for LightGbmRuntime {
    fn run(&mut self, batch: &Batch, rows: Range<usize>) -> Result<Output> {
        let mut answered = Vec::with_capacity(rows.len() * self.shape.columns);
        for row in rows.clone() {
            self.take_row(batch, row)?;
            let numbers = self
                .booster
                .0
                .predict_single_row_fast(&self.row)
                .map_err(|fault| Error::internal(format!("LightGBM failed: {fault}")))?;
            answered.extend(numbers);
        }
        self.shape.complete(Output::Double(answered), rows.len())
    }

    fn explain(&mut self, batch: &Batch) -> Result<Vec<Explanation>> {
        let answered = self.run(batch, 0..1)?;
        self.explainer.explain(&self.row, &answered)
    }
}

impl LightGbmRuntime {
    /// Copies a row; the library reads as many numbers as the model has features, however many there are.
    fn take_row(&mut self, batch: &Batch, row: usize) -> Result<()> {
        let elements = row * self.columns..(row + 1) * self.columns;
        self.row.clear();
        match batch.tensors.first() {
            Some(TensorData::Double(data)) => {
                self.row.extend(data.get(elements).unwrap_or_default());
            }
            Some(TensorData::Float(data)) => {
                let numbers = data.get(elements).unwrap_or_default();
                self.row
                    .extend(numbers.iter().map(|number| f64::from(*number)));
            }
            Some(TensorData::Int64(_) | TensorData::String(_) | TensorData::Bool(_)) | None => {}
        }
        if self.row.len() == self.columns {
            return Ok(());
        }
        Err(Error::internal(format!(
            "a row of {} numbers for LightGBM's {} features",
            self.row.len(),
            self.columns
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    const MODEL: &[u8] = include_bytes!("../../../tests/data/models/lightgbm_binary/1/model.txt");

    fn files() -> ModelFiles<'static> {
        ModelFiles {
            model: MODEL,
            explain: None,
        }
    }

    fn signature(edit: impl FnOnce(&mut Signature)) -> Signature {
        let mut signature = Signature::parse(include_str!(
            "../../../tests/data/models/lightgbm_binary/1/signature.json"
        ))
        .unwrap();
        edit(&mut signature);
        signature
    }

    #[test]
    fn a_row_of_another_length_is_refused_and_not_read_beyond() {
        let mut runtimes = LightGbmLoader.load(files(), &signature(|_| {}), 1).unwrap();
        let runtime = runtimes.first_mut().unwrap();
        let batch = |numbers: usize| Batch {
            rows: 1,
            tensors: vec![TensorData::Double(vec![1.0; numbers])],
        };
        assert_eq!(runtime.run(&batch(30), 0..1).unwrap().len(), 2);
        for numbers in [0, 1, 29] {
            let fault = runtime.run(&batch(numbers), 0..1).unwrap_err();
            assert!(fault.to_string().contains("30 features"), "{fault}");
        }
        let floats = Batch {
            rows: 1,
            tensors: vec![TensorData::Float(vec![1.0; 30])],
        };
        assert_eq!(
            runtime.run(&floats, 0..1).unwrap(),
            runtime.run(&batch(30), 0..1).unwrap()
        );
    }

    #[test]
    fn a_signature_that_does_not_fit_is_refused() {
        let fault = |edit: fn(&mut Signature)| {
            let refused = LightGbmLoader.load(files(), &signature(edit), 1);
            refused.err().unwrap().to_string()
        };
        for (edit, part) in [
            (
                (|s| s.tensors.iter_mut().for_each(|t| t.columns = 31)) as fn(&mut Signature),
                "30 features",
            ),
            (
                |s| {
                    s.tensors
                        .iter_mut()
                        .for_each(|t| t.tensor_type = TensorType::Int64)
                },
                "one of int64",
            ),
            (|s| s.tensors.clear(), "one tensor"),
            (
                |s| {
                    s.task = crate::inference::Task::MulticlassClassification;
                    s.classes.push("other".into());
                },
                "answers 1 numbers a row",
            ),
            (
                |s| {
                    s.task = crate::inference::Task::Regression;
                    s.classes.clear();
                },
                "objective",
            ),
        ] {
            let message = fault(edit);
            assert!(message.contains(part), "{part} in {message}");
        }
    }
}
