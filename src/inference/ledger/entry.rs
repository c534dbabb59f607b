//! What is kept of one prediction, and of the version that made it.

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    features::{FeatureStatus, RawRow, RawValue, Timestamp, Value},
    inference::{Output, ReadyVersion, Role, ScoredBatch, TensorType, ViolationKind},
};

/// One input of a version, as it was when the version predicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedInput {
    /// The input's name.
    pub name: String,
    /// What its tensor holds.
    #[serde(rename = "type")]
    pub tensor_type: TensorType,
    /// The feature that filled it in predictions by entity, "view:feature".
    pub feature: String,
    /// Of a text that its tensor holds as a number: the texts, in the order of their numbers. Another version may number them
    /// otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}

impl RecordedInput {
    /// A value of the input as people know it: the text, where its tensor holds the number of a category.
    pub fn shown<'a>(&self, value: &'a Value) -> Cow<'a, Value> {
        let code = match value {
            Value::Float(code) => Some(f64::from(*code)),
            Value::Double(code) => Some(*code),
            Value::Null
            | Value::Bool(_)
            | Value::Int32(_)
            | Value::Int64(_)
            | Value::String(_)
            | Value::Bytes(_)
            | Value::Timestamp(_)
            | Value::List(_) => None,
        };
        let numbered = (0_u32..).map(f64::from).zip(&self.categories);
        let found = code.and_then(|code| numbered.into_iter().find(|(number, _)| *number == code));
        match found {
            Some((_, text)) => Cow::Owned(Value::String(text.into())),
            None => Cow::Borrowed(value),
        }
    }

    /// The type of what is shown.
    pub fn shown_type(&self) -> TensorType {
        if self.categories.is_empty() {
            self.tensor_type
        } else {
            TensorType::String
        }
    }

    /// Whether a value of the one goes into the other's place as it is. Records of old have no categories: those of the same
    /// model file are taken for the same.
    fn is_like(&self, other: &RecordedInput) -> bool {
        self.name == other.name
            && self.tensor_type == other.tensor_type
            && (self.categories == other.categories
                || self.categories.is_empty()
                || other.categories.is_empty())
    }
}

/// A version as it was when it predicted: kept once, however many predictions it made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedVersion {
    /// Names it: the beginning of the SHA-256 of all the rest. The same version has the same key on every server.
    #[serde(skip)]
    pub key: Uuid,
    /// The model.
    pub model: String,
    /// The version, the name of its folder.
    pub version: String,
    /// The SHA-256 of the model file, in hex.
    pub digest: String,
    /// What a row was, in the signature's order.
    pub inputs: Vec<RecordedInput>,
    /// The classes, in the order of the outputs; empty where the model is no classifier.
    pub classes: Vec<String>,
}

impl RecordedVersion {
    /// A version as it is now.
    ///
    /// # Errors
    /// `Internal` where JSON cannot hold it.
    pub fn of(version: &ReadyVersion) -> Result<RecordedVersion> {
        let signature = &version.signature;
        let inputs = signature.inputs.iter().enumerate();
        let inputs = inputs.filter_map(|(position, input)| {
            let tensor = signature.tensors.iter().find(|t| t.name == input.tensor)?;
            let bound = version.inputs.get(position);
            Some(RecordedInput {
                name: input.name.clone(),
                tensor_type: tensor.tensor_type,
                feature: bound.map_or_else(String::new, |bound| bound.feature.to_string()),
                categories: if signature.is_coded(input) {
                    input.categories.clone()
                } else {
                    Vec::new()
                },
            })
        });
        let mut recorded = RecordedVersion {
            key: Uuid::nil(),
            model: signature.model.clone(),
            version: signature.version.clone(),
            digest: signature.sha256.to_ascii_lowercase(),
            inputs: inputs.collect(),
            classes: signature.classes.clone(),
        };
        recorded.key = key_of(&recorded.to_json()?);
        Ok(recorded)
    }

    /// The text that stores keep.
    ///
    /// # Errors
    /// `Internal` where JSON cannot hold it.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|fault| Error::internal("a version that JSON cannot hold").with_source(fault))
    }

    /// Reads what `to_json` wrote.
    ///
    /// # Errors
    /// `FailedPrecondition` where it is not what this binary understands.
    pub fn from_json(text: &str) -> Result<RecordedVersion> {
        let parsed: RecordedVersion = serde_json::from_str(text).map_err(|fault| {
            Error::failed_precondition(format!(
                "a version in the ledger is not one that this ferrocast understands: {fault}"
            ))
        })?;
        Ok(RecordedVersion {
            key: key_of(text),
            ..parsed
        })
    }

    /// Whether both score the same rows with the same file: the features behind the inputs may be others.
    pub fn scores_as(&self, other: &RecordedVersion) -> bool {
        let mut pairs = self.inputs.iter().zip(&other.inputs);
        self.model == other.model
            && self.version == other.version
            && self.digest == other.digest
            && self.classes == other.classes
            && self.inputs.len() == other.inputs.len()
            && pairs.all(|(one, other)| one.is_like(other))
    }
}

fn key_of(json: &str) -> Uuid {
    let digest = Sha256::digest(json.as_bytes());
    let first = digest.first_chunk::<16>().copied().unwrap_or_default();
    Uuid::from_bytes(first)
}

/// What the model saw of one input, and how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedValue {
    /// As the tensor held it; null is a missing value.
    pub value: Value,
    /// How the stored feature came about; none where the request brought the value.
    pub status: Option<FeatureStatus>,
    /// When the stored feature became true in the world, where there is one.
    pub event_timestamp: Option<Timestamp>,
}

/// A value that its input's policy did not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedViolation {
    /// The position of the input.
    pub input: usize,
    /// What was wrong.
    pub kind: ViolationKind,
    /// Whether the default stood in for the value.
    pub is_defaulted: bool,
}

/// One prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerEntry {
    /// Names it; a UUID of version 7.
    pub id: Uuid,
    /// When the scoring began.
    pub at: Timestamp,
    /// Who scored.
    pub version: Arc<RecordedVersion>,
    /// Why.
    pub role: Role,
    /// Join key to value, by name, as the caller wrote them; empty where the request brought the row.
    pub entity: Vec<(String, RawValue)>,
    /// One an input of the version.
    pub values: Vec<RecordedValue>,
    /// What the inputs' policies did not allow.
    pub violations: Vec<RecordedViolation>,
    /// The numbers that the model answered.
    pub outputs: Output,
    /// The score that was made of them.
    pub score: f64,
    /// The position of the class; none where the model is no classifier.
    pub label: Option<usize>,
    /// How long the request's rows took together, the reading of features included; to the microsecond.
    pub latency: Duration,
}

impl LedgerEntry {
    /// What is to be kept of a row.
    ///
    /// # Errors
    /// `Internal` for a row that is not there.
    pub fn of(
        scored: &ScoredBatch,
        row: usize,
        version: &Arc<RecordedVersion>,
    ) -> Result<LedgerEntry> {
        let mut outputs = Vec::new();
        let prediction = scored.prediction(row, &mut outputs)?;
        let values = (0..version.inputs.len()).map(|input| recorded_value(scored, row, input));
        let violations = scored.violations_of(row).map(|found| RecordedViolation {
            input: found.input,
            kind: found.kind,
            is_defaulted: found.is_defaulted,
        });
        let position = scored.positions.get(row).copied();
        Ok(LedgerEntry {
            id: prediction.id,
            at: scored.at,
            version: Arc::clone(version),
            role: scored.role,
            entity: position
                .and_then(|position| scored.subject.entity(position))
                .map_or_else(Vec::new, named_in_order),
            values: values.collect::<Option<_>>().ok_or_else(no_such_row)?,
            violations: violations.collect(),
            outputs: outputs_of(scored, row).ok_or_else(no_such_row)?,
            score: prediction.interpreted.score,
            label: prediction.interpreted.label,
            latency: Duration::from_micros(whole_micros(scored.latency)),
        })
    }

    /// The class that the row was put into; empty where the model is no classifier.
    pub fn label(&self) -> &str {
        let class = self.label.and_then(|at| self.version.classes.get(at));
        class.map_or("", String::as_str)
    }
}

fn no_such_row() -> Error {
    Error::internal("a prediction without its inputs or outputs")
}

fn recorded_value(scored: &ScoredBatch, row: usize, input: usize) -> Option<RecordedValue> {
    let value = scored.version.layout.get(&scored.batch, row, input)?;
    let features = scored.features.as_ref();
    let feature = features.and_then(|features| features.column(input).get(row));
    Some(RecordedValue {
        value,
        status: feature.map(|feature| feature.status),
        event_timestamp: feature.and_then(|feature| feature.event_timestamp),
    })
}

fn outputs_of(scored: &ScoredBatch, row: usize) -> Option<Output> {
    let columns = scored.version.signature.columns();
    let numbers = row * columns..(row + 1) * columns;
    match &scored.output {
        Output::Float(all) => all.get(numbers).map(|row| Output::Float(row.to_vec())),
        Output::Double(all) => all.get(numbers).map(|row| Output::Double(row.to_vec())),
    }
}

/// By name: the wire's maps have no order.
fn named_in_order(row: &RawRow) -> Vec<(String, RawValue)> {
    let mut fields = row.fields.to_vec();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

fn whole_micros(duration: Duration) -> u64 {
    // Up to what every store can keep.
    let most = u64::try_from(i64::MAX).unwrap_or(u64::MAX);
    u64::try_from(duration.as_micros())
        .unwrap_or(most)
        .min(most)
}
