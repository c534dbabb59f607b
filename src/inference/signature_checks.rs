//! What a signature says, held against itself; each fault with its place.

use std::collections::{BTreeMap, BTreeSet};

use super::signature::{Input, Signature, Task, TensorType};
use crate::catalog::ValueType;

/// The form of `signature.json` that this server reads.
const FORMAT_VERSION: u32 = 1;

/// A larger difference of a probability would let another model through.
const TOLERANCE_MAX: f64 = 1e-3;

impl Signature {
    pub(super) fn check_header(&self, faults: &mut Vec<String>) {
        if self.format_version != FORMAT_VERSION {
            faults.push(format!(
                "format_version: {} is not the {FORMAT_VERSION} that this server reads",
                self.format_version
            ));
        }
        let explain = self.explain.as_ref().map(|by| ("explain.file", &by.file));
        let files = [("file", &self.file), ("golden.file", &self.golden.file)];
        for (name, file) in files.into_iter().chain(explain) {
            if file.is_empty() || file.contains(['/', '\\']) {
                faults.push(format!(
                    "{name}: \"{file}\" is no file of the version's folder"
                ));
            }
        }
        if !(self.golden.tolerance > 0.0 && self.golden.tolerance <= TOLERANCE_MAX) {
            faults.push(format!(
                "golden.tolerance: {} is not above 0 and up to {TOLERANCE_MAX}",
                self.golden.tolerance
            ));
        }
        let columns = self.explain.as_ref().map(|by| by.columns.as_slice());
        if let Some(column) = columns
            .unwrap_or_default()
            .iter()
            .find(|column| **column >= self.inputs.len())
        {
            faults.push(format!("explain.columns: there is no input {column}"));
        }
        self.check_task(faults);
    }

    fn check_task(&self, faults: &mut Vec<String>) {
        let distinct: BTreeSet<&String> = self.classes.iter().collect();
        if distinct.len() != self.classes.len() {
            faults.push("classes: one is there twice".to_owned());
        }
        match self.task {
            Task::BinaryClassification => {
                if self.classes.len() != 2 {
                    faults.push("classes: a binary classifier has two".to_owned());
                }
                if !distinct.contains(&self.positive_class) {
                    faults.push(format!(
                        "positive_class: \"{}\" is none of the classes",
                        self.positive_class
                    ));
                }
                if !(0.0..=1.0).contains(&self.threshold) {
                    faults.push(format!("threshold: {} is not 0 to 1", self.threshold));
                }
            }
            Task::MulticlassClassification => {
                if self.classes.len() < 3 {
                    faults.push("classes: a multi-class classifier has three or more".to_owned());
                }
            }
            Task::Regression | Task::Ranking => {
                if !self.classes.is_empty() {
                    faults.push("classes: only a classifier has them".to_owned());
                }
            }
        }
        if self.task != Task::BinaryClassification && !self.positive_class.is_empty() {
            faults.push("positive_class: only a binary classifier has one".to_owned());
        }
    }

    pub(super) fn check_layout(&self, faults: &mut Vec<String>) {
        let mut free: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for tensor in &self.tensors {
            let columns = (0..tensor.columns.min(self.inputs.len() + 1)).collect();
            if free.insert(&tensor.name, columns).is_some() {
                faults.push(format!("tensors: \"{}\" is there twice", tensor.name));
            }
        }
        let mut names = BTreeSet::new();
        for input in &self.inputs {
            if !names.insert(&input.name) {
                faults.push(format!("inputs: \"{}\" is there twice", input.name));
            }
            let is_text = input.value_type == ValueType::String;
            let profile = input.profile.as_ref().map(|profile| profile.check(is_text));
            if let Some(Err(fault)) = profile {
                faults.push(format!("inputs.{}.profile: {fault}", input.name));
            }
            let Some(tensor) = self.tensors.iter().find(|t| t.name == input.tensor) else {
                faults.push(format!(
                    "inputs.{}: there is no tensor \"{}\"",
                    input.name, input.tensor
                ));
                continue;
            };
            let taken = free
                .get_mut(tensor.name.as_str())
                .is_some_and(|columns| columns.remove(&input.column));
            if !taken {
                faults.push(format!(
                    "inputs.{}: column {} of the tensor \"{}\" is beyond it or already filled",
                    input.name, input.column, tensor.name
                ));
            }
            check_type(input, tensor.tensor_type, faults);
        }
        for (tensor, columns) in free {
            if !columns.is_empty() {
                faults.push(format!(
                    "tensors.{tensor}: no input fills the columns {columns:?}"
                ));
            }
        }
        if self.inputs.is_empty() {
            faults.push("inputs: there are none".to_owned());
        }
    }
}

/// Holds an input's type and categories against its tensor.
fn check_type(input: &Input, tensor_type: TensorType, faults: &mut Vec<String>) {
    let name = &input.name;
    let distinct: BTreeSet<&String> = input.categories.iter().collect();
    if distinct.len() != input.categories.len() {
        faults.push(format!(
            "inputs.{name}: one of its categories is there twice"
        ));
    }
    if !goes_into(input.value_type, tensor_type) {
        let tensor_type = tensor_type.name();
        faults.push(format!(
            "inputs.{name}: a {} does not go into a tensor of {tensor_type}",
            input.value_type
        ));
    } else if input.value_type == ValueType::String
        && tensor_type != TensorType::String
        && input.categories.is_empty()
    {
        faults.push(format!(
            "inputs.{name}: a string goes into a tensor of numbers as the index of its category, and it has no categories"
        ));
    }
}

/// Whether values of a type can be put into a tensor. A text whose category is unknown is a missing value, which integers
/// do not know.
fn goes_into(value_type: ValueType, tensor_type: TensorType) -> bool {
    match value_type {
        ValueType::String => matches!(
            tensor_type,
            TensorType::String | TensorType::Float | TensorType::Double
        ),
        ValueType::Float | ValueType::Double => {
            matches!(tensor_type, TensorType::Float | TensorType::Double)
        }
        ValueType::Int32 | ValueType::Int64 => matches!(
            tensor_type,
            TensorType::Float | TensorType::Double | TensorType::Int64
        ),
        ValueType::Bool => tensor_type != TensorType::String,
        ValueType::Bytes | ValueType::Timestamp | ValueType::List(_) => false,
    }
}
