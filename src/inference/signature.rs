//! A version's signature: what a row is, how it is laid out for the runtime, and what comes back.

use serde::{Deserialize, Serialize};

use super::{Profile, output::AnswerShape};
use crate::{
    catalog::ValueType,
    error::{Error, Result},
};

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// The probabilities of two classes.
    BinaryClassification,
    /// The probabilities of three classes or more.
    MulticlassClassification,
    /// A value.
    Regression,
    /// A value to order rows of one query by, the highest first.
    Ranking,
}

/// The element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TensorType {
    /// 32-bit floats; NaN is a missing value.
    Float,
    /// 64-bit floats; NaN is a missing value.
    Double,
    /// 64-bit integers; no missing values.
    Int64,
    /// Text; the empty string is a missing value.
    String,
    /// true or false; no missing values.
    Bool,
}

impl TensorType {
    /// The name that signatures use.
    pub fn name(self) -> &'static str {
        match self {
            TensorType::Float => "float",
            TensorType::Double => "double",
            TensorType::Int64 => "int64",
            TensorType::String => "string",
            TensorType::Bool => "bool",
        }
    }
}

/// One value of a row, and where it goes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The key in a row; the feature's name where model.toml names no other.
    pub name: String,
    /// The feature's type.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// The tensor that it goes into.
    pub tensor: String,
    /// The column of that tensor.
    pub column: usize,
    /// A string input's known values, in the order of their index in the dense form, and in a tensor of numbers.
    #[serde(default)]
    pub categories: Vec<String>,
    /// How its values were spread when the model was trained; none: drift is not told.
    #[serde(default)]
    pub profile: Option<Profile>,
}

/// One input tensor of the graph, of the shape [rows, columns].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensor {
    /// The graph's name for it.
    pub name: String,
    /// Its element type.
    #[serde(rename = "type")]
    pub tensor_type: TensorType,
    /// How many columns; each is filled by one input.
    pub columns: usize,
}

/// The rows that the runtime has to reproduce.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenFile {
    /// The file, in the version's folder.
    pub file: String,
    /// The largest difference of what the model answers: absolute for probabilities; for values relative, where the
    /// trainer's is beyond 1.
    pub tolerance: f64,
}

/// What explains a model's scores.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainedBy {
    /// The trees as XGBoost writes them as JSON, in the version's folder.
    pub file: String,
    /// The SHA-256 of the file, in hex.
    pub sha256: String,
    /// The matrix that the trees take, [rows, columns] of 32-bit floats: an input or an output of the graph.
    pub matrix: String,
    /// The position of the input that each of its columns comes from.
    pub columns: Vec<usize>,
}

/// A version's signature, as the trainer wrote it; checked by `Signature::parse`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The form of this file.
    pub format_version: u32,
    /// The model's name.
    pub model: String,
    /// The version, the name of its folder.
    pub version: String,
    /// The runtime that runs it.
    pub runtime: String,
    /// What is predicted.
    pub task: Task,
    /// The model file, in the version's folder.
    pub file: String,
    /// The SHA-256 of the model file, in hex.
    pub sha256: String,
    /// A row, in the order of the dense form.
    pub inputs: Vec<Input>,
    /// The graph's inputs.
    pub tensors: Vec<Tensor>,
    /// The output of the graph: a classifier's probabilities of the shape [rows, classes], or of two classes the positive
    /// one's, [rows] or [rows, 1]; else values, [rows] or [rows, 1]. Empty where the runtime has but one.
    #[serde(default)]
    pub output: String,
    /// A classifier's classes, in the order of the output's columns; empty for a regressor or ranker.
    #[serde(default)]
    pub classes: Vec<String>,
    /// The class of a binary classifier that the score is the probability of.
    #[serde(default)]
    pub positive_class: String,
    /// From which score on a binary classifier's label is the positive class.
    #[serde(default = "half")]
    pub threshold: f64,
    /// The rows that have to be reproduced.
    pub golden: GoldenFile,
    /// What explains a score; none: nothing does.
    #[serde(default)]
    pub explain: Option<ExplainedBy>,
    /// What the trainer says of itself; not read.
    #[serde(default)]
    pub training: serde_json::Map<String, serde_json::Value>,
}

fn half() -> f64 {
    0.5
}

/// What a row's outputs mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interpreted<'a> {
    /// The probability of the positive class, of the label where there are more classes than two; else the value.
    pub score: f64,
    /// The position of the class that the row is put into; none where the model is no classifier.
    pub label: Option<usize>,
    /// The probability of each class, in the signature's order; empty where the model is no classifier.
    pub probabilities: &'a [f64],
}

impl Signature {
    /// Reads and checks a signature.
    ///
    /// # Errors
    /// `FailedPrecondition` with every fault: JSON that does not parse, an input without its tensor, a column that no
    /// input fills or two do, types that do not go together, classes that do not fit the task.
    pub fn parse(text: &str) -> Result<Signature> {
        let signature: Signature = serde_json::from_str(text)
            .map_err(|fault| Error::failed_precondition(fault.to_string()))?;
        let mut faults = Vec::new();
        signature.check_header(&mut faults);
        signature.check_layout(&mut faults);
        if faults.is_empty() {
            Ok(signature)
        } else {
            Err(Error::failed_precondition(faults.join("; ")))
        }
    }

    /// How many numbers the model answers a row.
    pub fn columns(&self) -> usize {
        self.classes.len().max(1)
    }

    /// What the model's answer has to look like.
    pub fn answer_shape(&self) -> AnswerShape {
        let is_binary = self.task == Task::BinaryClassification;
        AnswerShape {
            columns: self.columns(),
            positive: is_binary.then(|| self.positive_index()),
        }
    }

    /// By how much a number that the runtime answers may differ from the trainer's.
    pub fn difference_max(&self, expected: f64) -> f64 {
        let scale = match self.task {
            Task::BinaryClassification | Task::MulticlassClassification => 1.0,
            Task::Regression | Task::Ranking => expected.abs().max(1.0),
        };
        self.golden.tolerance * scale
    }

    /// Whether an input is a text that goes into a tensor of numbers, as the index of its category.
    pub fn is_coded(&self, input: &Input) -> bool {
        let tensor = self.tensors.iter().find(|t| t.name == input.tensor);
        input.value_type == ValueType::String
            && tensor.is_some_and(|tensor| tensor.tensor_type != TensorType::String)
    }

    /// What one row's outputs mean.
    pub fn interpret<'a>(&self, outputs: &'a [f64]) -> Interpreted<'a> {
        let (score, class) = match self.task {
            Task::BinaryClassification => {
                let positive = self.positive_index();
                let score = outputs.get(positive).copied().unwrap_or(f64::NAN);
                let is_positive = score >= self.threshold;
                let class = (0..self.classes.len()).find(|at| (*at == positive) == is_positive);
                (score, class)
            }
            Task::MulticlassClassification => {
                // The first of equals, as every library's argmax.
                let best = outputs.iter().enumerate().fold(
                    None,
                    |best: Option<(usize, f64)>, (at, value)| match best {
                        Some((_, highest)) if highest >= *value => best,
                        Some(_) | None => Some((at, *value)),
                    },
                );
                (
                    best.map_or(f64::NAN, |(_, value)| value),
                    best.map(|(at, _)| at),
                )
            }
            Task::Regression | Task::Ranking => {
                let score = outputs.first().copied().unwrap_or(f64::NAN);
                return Interpreted {
                    score,
                    label: None,
                    probabilities: &[],
                };
            }
        };
        Interpreted {
            score,
            label: class,
            probabilities: outputs,
        }
    }

    /// The column of the output with the positive class; `parse` has checked that a binary classifier has one.
    fn positive_index(&self) -> usize {
        self.classes
            .iter()
            .position(|class| *class == self.positive_class)
            .unwrap_or_default()
    }

    /// The position of an input by its name.
    pub fn input_index(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|input| input.name == name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(inputs: &str, classes: &str) -> String {
        format!(
            r#"{{"format_version": 1, "model": "m", "version": "1", "runtime": "onnx",
            "task": "binary_classification", "file": "model.onnx", "sha256": "00",
            "inputs": [{inputs}],
            "tensors": [{{"name": "numeric", "type": "float", "columns": 2}}],
            "output": "probabilities", "classes": {classes}, "positive_class": "bad", "threshold": 0.5,
            "golden": {{"file": "golden.json", "tolerance": 1e-5}}}}"#
        )
    }

    const A: &str = r#"{"name": "a", "type": "double", "tensor": "numeric", "column": 0}"#;
    const B: &str = r#"{"name": "b", "type": "int64", "tensor": "numeric", "column": 1}"#;

    #[test]
    fn a_whole_layout_is_accepted() {
        let signature = Signature::parse(&text(&format!("{A},{B}"), r#"["good","bad"]"#)).unwrap();
        assert_eq!(signature.interpret(&[0.2, 0.8]).label, Some(1));
        assert_eq!(signature.input_index("b"), Some(1));
    }

    #[test]
    fn a_string_with_categories_goes_into_numbers() {
        let coded = |categories: &str| {
            let input = format!(
                r#"{A},{{"name": "s", "type": "string", "tensor": "numeric", "column": 1, "categories": {categories}}}"#
            );
            Signature::parse(&text(&input, r#"["good","bad"]"#))
        };
        let signature = coded(r#"["a","b"]"#).unwrap();
        let is_coded = |at: usize| signature.is_coded(signature.inputs.get(at).unwrap());
        assert_eq!([is_coded(0), is_coded(1)], [false, true]);
        for (categories, fault) in [("[]", "no categories"), (r#"["a","a"]"#, "there twice")] {
            let error = coded(categories).unwrap_err();
            assert!(error.message().contains(fault), "{fault} in {error}");
        }
    }

    #[test]
    fn a_difference_is_relative_for_values_alone() {
        let mut signature =
            Signature::parse(&text(&format!("{A},{B}"), r#"["good","bad"]"#)).unwrap();
        assert_eq!(signature.difference_max(200.0), 1e-5);
        signature.task = Task::Regression;
        assert_eq!(signature.difference_max(0.5), 1e-5);
        assert_eq!(signature.difference_max(-200.0), 200.0 * 1e-5);
    }

    #[test]
    fn every_fault_of_a_layout_is_named() {
        let inputs = format!(
            r#"{A},{A},{{"name": "s", "type": "string", "tensor": "numeric", "column": 7}}"#
        );
        let error = Signature::parse(&text(&inputs, r#"["good","good"]"#)).unwrap_err();
        for part in [
            "classes: one is there twice",
            "positive_class: \"bad\"",
            "\"a\" is there twice",
            "column 7",
            "a string goes into a tensor of numbers as the index of its category",
            "no input fills the columns {1}",
        ] {
            assert!(error.message().contains(part), "{part} in {error}");
        }
    }
}
