//! Scoring a recorded prediction again: by the version that made it, or by another one of the same model.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use uuid::Uuid;

use super::{Ledger, LedgerEntry, RecordedVersion};
use crate::{
    catalog::ValueType,
    error::{Error, Result},
    features::{Value, is_exact_whole, widen},
    inference::{
        Batch, ModelRegistry, Output, ReadyVersion, TensorType, layout::number, signature::Input,
    },
};

/// A recorded prediction, and what a version says to the same inputs now.
#[derive(Debug)]
pub struct Replay {
    /// What is recorded.
    pub entry: LedgerEntry,
    /// Who has scored again.
    pub version: Arc<ReadyVersion>,
    /// Whether that is the version of then: the same number, model file, inputs and classes.
    pub is_same_version: bool,
    /// Whether the outputs are the same to the bit.
    pub is_identical: bool,
    /// The numbers that the model answered.
    pub outputs: Output,
    /// The score that they mean.
    pub score: f64,
    /// The position of the class that they mean; none where the model is no classifier.
    pub label: Option<usize>,
    /// Inputs of the version that the record does not have: the model got missing values.
    pub missing_inputs: Vec<String>,
    /// Inputs that are recorded, and that the version does not have.
    pub unused_inputs: Vec<String>,
}

impl Replay {
    /// Scores the inputs of a recorded prediction again. `wanted`: a version or alias of the same model; empty: the version
    /// that is recorded.
    ///
    /// # Errors
    /// `NotFound` for a prediction that is not in the ledger, or a model or version that the server does not have;
    /// `FailedPrecondition` for a version that is not ready, or one whose inputs cannot take the recorded values, with the
    /// inputs' names; `Overloaded` where the model's queue is full; `Unavailable` where the database is away.
    pub async fn run(
        ledger: &Ledger,
        models: &ModelRegistry,
        id: Uuid,
        wanted: &str,
    ) -> Result<Replay> {
        let entry = ledger.prediction(id).await?;
        let model = models.model(&entry.version.model)?;
        let wanted = if wanted.is_empty() {
            &entry.version.version
        } else {
            wanted
        };
        let version = Arc::clone(model.resolve(wanted)?);
        let (batch, missing_inputs) = lay_out(&entry, &version)?;
        let outputs = version.workers.run(Arc::new(batch)).await?;
        let numbers = (0..outputs.len()).filter_map(|at| outputs.get(at));
        let numbers: Vec<f64> = numbers.collect();
        let interpreted = version.signature.interpret(&numbers);
        let unused = entry.version.inputs.iter().map(|input| &input.name);
        let unused = unused.filter(|name| version.signature.input_index(name).is_none());
        Ok(Replay {
            is_same_version: RecordedVersion::of(&version)?.scores_as(&entry.version),
            is_identical: is_same(&outputs, &entry.outputs),
            unused_inputs: unused.cloned().collect(),
            score: interpreted.score,
            label: interpreted.label,
            missing_inputs,
            outputs,
            version,
            entry,
        })
    }

    /// By how much the score is another one: now minus then. Nothing where it is the same to the bit, a NaN too.
    pub fn score_difference(&self) -> f64 {
        let (now, then) = (self.score, self.entry.score);
        if now.to_bits() == then.to_bits() {
            return 0.0;
        }
        now - then
    }

    /// The class that the row is put into now; empty where the model is no classifier.
    pub fn label(&self) -> &str {
        let classes = &self.version.signature.classes;
        let class = self.label.and_then(|at| classes.get(at));
        class.map_or("", String::as_str)
    }
}

/// The recorded values in the places where a version has inputs of the same names; and its inputs that are not recorded.
fn lay_out(entry: &LedgerEntry, version: &ReadyVersion) -> Result<(Batch, Vec<String>)> {
    let mut batch = version.layout.empty_batch(1);
    let recorded: BTreeSet<&str> = names(entry).collect();
    let mut faults = Vec::new();
    let mut missing_inputs = Vec::new();
    for (position, input) in version.signature.inputs.iter().enumerate() {
        if !recorded.contains(input.name.as_str()) {
            missing_inputs.push(input.name.clone());
        }
        let tensor = version.signature.tensors.iter();
        let tensor = tensor.clone().find(|tensor| tensor.name == input.tensor);
        let fitted = tensor.map_or_else(
            || Err("it has no tensor".to_owned()),
            |tensor| {
                let value = recorded_value(entry, version, input)?;
                fitted(&value, tensor.tensor_type, input.value_type)
            },
        );
        let set = match fitted {
            Ok(Value::Null) if version.layout.knows_missing(position) => Ok(()),
            Ok(Value::Null) => Err("there is no value, and its tensor knows no missing one".into()),
            Ok(value) => version.layout.set(&mut batch, 0, position, &value),
            Err(fault) => Err(fault),
        };
        if let Err(fault) = set {
            faults.push(format!("{}: {fault}", input.name));
        }
    }
    if faults.is_empty() {
        return Ok((batch, missing_inputs));
    }
    Err(Error::failed_precondition(format!(
        "version {} of the model \"{}\" cannot score the recorded inputs: {}",
        version.signature.version,
        version.signature.model,
        faults.join("; ")
    )))
}

/// What was recorded of an input, null where nothing was: a category as its text, whatever number it had then.
fn recorded_value<'a>(
    entry: &'a LedgerEntry,
    version: &ReadyVersion,
    input: &Input,
) -> Result<Cow<'a, Value>, String> {
    let mut recorded = entry.version.inputs.iter().zip(&entry.values);
    let Some((then, recorded)) = recorded.find(|(then, _)| then.name == input.name) else {
        return Ok(Cow::Owned(Value::Null));
    };
    let value = then.shown(&recorded.value);
    let is_number = !matches!(*value, Value::Null | Value::String(_));
    let now = &version.signature;
    let is_same = now.version == entry.version.version
        && now.sha256.eq_ignore_ascii_case(&entry.version.digest);
    if is_number && now.is_coded(input) && !is_same {
        return Err(format!(
            "{value} is the number of a category, recorded without its text: only the version that scored it knows which"
        ));
    }
    Ok(value)
}

fn names(entry: &LedgerEntry) -> impl Iterator<Item = &str> {
    entry.version.inputs.iter().map(|input| input.name.as_str())
}

/// A recorded value as another tensor takes it. The same kind of tensor gets it as it is, to the bit.
fn fitted(value: &Value, tensor_type: TensorType, value_type: ValueType) -> Result<Value, String> {
    match (tensor_type, value) {
        (_, Value::Null) => Ok(Value::Null),
        // What was rounded to 32 bits is read as it would be written: 0.1, and not 0.10000000149.
        (TensorType::Double, Value::Float(number)) => Ok(Value::Double(widen(*number))),
        (TensorType::Int64 | TensorType::Bool, Value::Float(_) | Value::Double(_)) => {
            let whole = number(value)?.filter(|number| is_exact_whole(*number));
            let whole = whole.ok_or_else(|| format!("{value} is no {value_type}"))?;
            #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
            fitted(&Value::Int64(whole as i64), tensor_type, value_type)
        }
        (TensorType::Bool, Value::Int64(0)) => Ok(Value::Bool(false)),
        (TensorType::Bool, Value::Int64(1)) => Ok(Value::Bool(true)),
        // What does not go into the tensor is refused by it.
        (
            TensorType::Float
            | TensorType::Double
            | TensorType::Int64
            | TensorType::String
            | TensorType::Bool,
            _,
        ) => Ok(value.clone()),
    }
}

fn is_same(now: &Output, then: &Output) -> bool {
    let bits32 = |values: &[f32]| -> Vec<u32> { values.iter().map(|v| v.to_bits()).collect() };
    let bits64 = |values: &[f64]| -> Vec<u64> { values.iter().map(|v| v.to_bits()).collect() };
    match (now, then) {
        (Output::Float(now), Output::Float(then)) => bits32(now) == bits32(then),
        (Output::Double(now), Output::Double(then)) => bits64(now) == bits64(then),
        (Output::Float(_), Output::Double(_)) | (Output::Double(_), Output::Float(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_goes_into_the_same_tensor_as_it_is_and_into_others_without_loss() {
        let fit = |value: Value, tensor| fitted(&value, tensor, ValueType::Int64);
        for value in [-0.0_f32, f32::MIN_POSITIVE / 3.0, 0.1, f32::MAX] {
            let kept = fit(Value::Float(value), TensorType::Float);
            assert!(kept.is_ok_and(|kept| kept.is_same(&Value::Float(value))));
        }
        assert_eq!(
            fit(Value::Float(0.1), TensorType::Double),
            Ok(Value::Double(0.1))
        );
        assert_eq!(
            fit(Value::Float(3.0), TensorType::Int64),
            Ok(Value::Int64(3))
        );
        assert_eq!(
            fit(Value::Double(1.0), TensorType::Bool),
            Ok(Value::Bool(true))
        );
        assert_eq!(
            fit(Value::Float(0.5), TensorType::Int64),
            Err("0.5 is no int64".to_owned())
        );
        assert_eq!(fit(Value::Null, TensorType::Int64), Ok(Value::Null));
    }
}
