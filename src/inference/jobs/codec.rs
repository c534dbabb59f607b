//! How chunks are kept: MessagePack, which has every double exactly, behind a byte that names the form.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    features::{RawRow, RawValue},
    inference::{ScoredBatch, Subject, ViolationKind},
};

/// The form that this binary writes, and the only one that it reads.
const FORM: u8 = 1;

/// The score of one row of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobPrediction {
    /// Names it.
    pub id: Uuid,
    /// The version that scored.
    pub version: Arc<str>,
    /// The score.
    pub score: f64,
    /// The class; empty where the model is no classifier.
    pub label: String,
    /// Every class and its probability; empty where the model is no classifier.
    pub probabilities: Vec<(String, f64)>,
    /// What its inputs' policies did not allow: the input's name, what was wrong, and whether its default stood in.
    pub violations: Vec<(String, ViolationKind, bool)>,
}

/// What a chunk is to score.
#[derive(Serialize, Deserialize)]
enum StoredInput {
    Rows(StoredRows),
    Entities(StoredRows),
    Dense { values: Vec<f32>, rows: usize },
}

/// Rows, each field with the position of its name: mostly all rows have the same names.
#[derive(Serialize, Deserialize)]
struct StoredRows {
    names: Vec<String>,
    rows: Vec<Vec<(usize, StoredValue)>>,
}

/// As MessagePack has values by itself.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredValue {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<StoredValue>),
    // What is in an object is known to nobody who reads it.
    Object(BTreeMap<String, ()>),
}

/// The predictions of a chunk, by column.
#[derive(Serialize, Deserialize)]
struct StoredResult {
    version: String,
    ids: Vec<Uuid>,
    scores: Vec<f64>,
    classes: Vec<String>,
    labels: Vec<Option<usize>>,
    /// Row after row, one a class.
    probabilities: Vec<f64>,
    inputs: Vec<String>,
    violations: Vec<StoredViolation>,
}

#[derive(Serialize, Deserialize)]
struct StoredViolation {
    row: usize,
    input: usize,
    kind: StoredKind,
    is_defaulted: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredKind {
    Missing,
    TooOld,
    OutOfRange,
    UnknownCategory,
}

/// Some rows of what is to be scored.
pub(super) fn encode_input(subject: &Subject, rows: Range<usize>) -> Result<Vec<u8>> {
    let stored = match subject {
        Subject::Rows(all) => StoredInput::Rows(stored_rows(all.get(rows))),
        Subject::Entities { rows: all, .. } => StoredInput::Entities(stored_rows(all.get(rows))),
        Subject::Dense { values, rows: all } => {
            let columns = values.len().checked_div(*all).unwrap_or_default();
            let some = values.get(rows.start * columns..rows.end * columns);
            StoredInput::Dense {
                values: some.unwrap_or_default().to_vec(),
                rows: rows.len(),
            }
        }
    };
    encode(&stored)
}

/// What is to be scored, of all its chunks.
///
/// # Errors
/// `FailedPrecondition` where another ferrocast has written it in a form of its own.
pub(super) fn decode_input(chunks: &[Vec<u8>]) -> Result<Subject> {
    let mut all: Option<StoredInput> = None;
    for chunk in chunks {
        let stored: StoredInput = decode(chunk)?;
        match (&mut all, stored) {
            (None, stored) => all = Some(stored),
            (Some(StoredInput::Rows(all)), StoredInput::Rows(more))
            | (Some(StoredInput::Entities(all)), StoredInput::Entities(more)) => all.append(more),
            (
                Some(StoredInput::Dense { values, rows }),
                StoredInput::Dense {
                    values: more,
                    rows: more_rows,
                },
            ) => {
                values.extend(more);
                *rows += more_rows;
            }
            (
                Some(StoredInput::Rows(_) | StoredInput::Entities(_) | StoredInput::Dense { .. }),
                _,
            ) => return Err(not_understood("chunks of different kinds")),
        }
    }
    match all {
        None => Err(not_understood("no chunk")),
        Some(StoredInput::Rows(rows)) => Ok(Subject::Rows(rows.into_raw()?.into())),
        Some(StoredInput::Entities(rows)) => Ok(Subject::entities(rows.into_raw()?)),
        Some(StoredInput::Dense { values, rows }) => Ok(Subject::Dense {
            values: values.into(),
            rows,
        }),
    }
}

/// The predictions of a chunk.
pub(super) fn encode_result(batch: &ScoredBatch) -> Result<Vec<u8>> {
    let signature = &batch.version.signature;
    let rows = batch.rows();
    let mut stored = StoredResult {
        version: signature.version.clone(),
        ids: Vec::with_capacity(rows),
        scores: Vec::with_capacity(rows),
        classes: signature.classes.clone(),
        labels: Vec::with_capacity(rows),
        probabilities: Vec::with_capacity(rows * signature.classes.len()),
        inputs: Vec::new(),
        violations: Vec::new(),
    };
    let mut outputs = Vec::new();
    for row in 0..rows {
        let prediction = batch.prediction(row, &mut outputs)?;
        stored.ids.push(prediction.id);
        stored.scores.push(prediction.interpreted.score);
        stored.labels.push(prediction.interpreted.label);
        let probabilities = prediction.interpreted.probabilities;
        stored.probabilities.extend(probabilities);
    }
    if !batch.violations.is_empty() {
        let names = signature.inputs.iter().map(|input| input.name.clone());
        stored.inputs = names.collect();
    }
    let violations = batch.violations.iter().map(|violation| StoredViolation {
        row: violation.row,
        input: violation.input,
        kind: stored_kind(violation.kind),
        is_defaulted: violation.is_defaulted,
    });
    stored.violations.extend(violations);
    encode(&stored)
}

/// The predictions of a chunk, row by row.
///
/// # Errors
/// As `decode_input`.
pub(super) fn decode_result(bytes: &[u8]) -> Result<Vec<JobPrediction>> {
    let stored: StoredResult = decode(bytes)?;
    let rows = stored.ids.len();
    let classes = stored.classes.len();
    if stored.scores.len() != rows
        || stored.labels.len() != rows
        || stored.probabilities.len() != rows * classes
    {
        return Err(not_understood("columns of different lengths"));
    }
    let version: Arc<str> = stored.version.into();
    let mut predictions = Vec::with_capacity(rows);
    for (row, (id, score)) in stored.ids.into_iter().zip(stored.scores).enumerate() {
        let label = stored.labels.get(row).copied().flatten();
        let label = label.and_then(|class| stored.classes.get(class));
        let probabilities = stored.probabilities.iter().skip(row * classes);
        predictions.push(JobPrediction {
            id,
            version: Arc::clone(&version),
            score,
            label: label.cloned().unwrap_or_default(),
            probabilities: stored
                .classes
                .iter()
                .cloned()
                .zip(probabilities.copied())
                .collect(),
            violations: Vec::new(),
        });
    }
    for violation in stored.violations {
        let row = predictions.get_mut(violation.row);
        let input = stored.inputs.get(violation.input);
        let (Some(row), Some(input)) = (row, input) else {
            return Err(not_understood("a violation of no row"));
        };
        let kind = kind_of(violation.kind);
        row.violations
            .push((input.clone(), kind, violation.is_defaulted));
    }
    Ok(predictions)
}

fn encode<T: Serialize>(stored: &T) -> Result<Vec<u8>> {
    let mut bytes = vec![FORM];
    rmp_serde::encode::write(&mut bytes, stored)
        .map_err(|fault| Error::internal("a chunk cannot be written").with_source(fault))?;
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    match bytes.split_first() {
        Some((&FORM, rest)) => rmp_serde::from_slice(rest)
            .map_err(|fault| not_understood("no chunk of ours").with_source(fault)),
        Some((form, _)) => Err(not_understood(&format!("form {form}"))),
        None => Err(not_understood("nothing at all")),
    }
}

fn not_understood(found: &str) -> Error {
    Error::failed_precondition(format!(
        "the database holds a chunk of a prediction job that this ferrocast does not understand ({found}); a newer one has written it"
    ))
}

fn stored_rows(rows: Option<&[RawRow]>) -> StoredRows {
    let mut positions: HashMap<&str, usize> = HashMap::new();
    let mut names: Vec<String> = Vec::new();
    let rows = rows.unwrap_or_default().iter().map(|row| {
        let fields = row.fields.iter().map(|(name, value)| {
            let position = *positions.entry(name).or_insert_with(|| {
                names.push(name.clone());
                names.len() - 1
            });
            (position, stored_value(value))
        });
        fields.collect()
    });
    let rows = rows.collect();
    StoredRows { names, rows }
}

fn stored_value(value: &RawValue) -> StoredValue {
    match value {
        RawValue::Null => StoredValue::Null,
        RawValue::Bool(value) => StoredValue::Bool(*value),
        RawValue::Number(number) => StoredValue::Number(*number),
        RawValue::Text(text) => StoredValue::Text(text.clone()),
        RawValue::List(values) => StoredValue::List(values.iter().map(stored_value).collect()),
        RawValue::Object => StoredValue::Object(BTreeMap::new()),
    }
}

impl StoredRows {
    /// Adds rows whose names stand elsewhere.
    fn append(&mut self, more: StoredRows) {
        if more.names == self.names {
            self.rows.extend(more.rows);
            return;
        }
        let first = self.names.len();
        self.names.extend(more.names);
        let moved = more.rows.into_iter().map(|row| {
            let fields = row.into_iter();
            fields.map(|(name, value)| (first + name, value)).collect()
        });
        self.rows.extend(moved);
    }

    fn into_raw(self) -> Result<Vec<RawRow>> {
        let names = self.names;
        let rows = self.rows.into_iter().map(|row| {
            let fields = row.into_iter().map(|(name, value)| {
                let name = names.get(name).cloned();
                let name = name.ok_or_else(|| not_understood("a field without a name"))?;
                Ok((name, raw_value(value)))
            });
            Ok(RawRow {
                fields: fields.collect::<Result<_>>()?,
            })
        });
        rows.collect()
    }
}

fn raw_value(value: StoredValue) -> RawValue {
    match value {
        StoredValue::Null => RawValue::Null,
        StoredValue::Bool(value) => RawValue::Bool(value),
        StoredValue::Number(number) => RawValue::Number(number),
        StoredValue::Text(text) => RawValue::Text(text),
        StoredValue::List(values) => RawValue::List(values.into_iter().map(raw_value).collect()),
        StoredValue::Object(_) => RawValue::Object,
    }
}

fn stored_kind(kind: ViolationKind) -> StoredKind {
    match kind {
        ViolationKind::Missing => StoredKind::Missing,
        ViolationKind::TooOld => StoredKind::TooOld,
        ViolationKind::OutOfRange => StoredKind::OutOfRange,
        ViolationKind::UnknownCategory => StoredKind::UnknownCategory,
    }
}

fn kind_of(kind: StoredKind) -> ViolationKind {
    match kind {
        StoredKind::Missing => ViolationKind::Missing,
        StoredKind::TooOld => ViolationKind::TooOld,
        StoredKind::OutOfRange => ViolationKind::OutOfRange,
        StoredKind::UnknownCategory => ViolationKind::UnknownCategory,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn row(fields: &[(&str, RawValue)]) -> RawRow {
        let fields = fields.iter();
        RawRow {
            fields: fields
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        }
    }

    fn chunks(subject: &Subject, size: usize) -> Vec<Vec<u8>> {
        (0..subject.len())
            .step_by(size)
            .map(|first| encode_input(subject, first..subject.len().min(first + size)).unwrap())
            .collect()
    }

    #[test]
    fn rows_come_back_as_they_were_written_whatever_the_chunks() {
        let rows = vec![
            row(&[("id", RawValue::Text("ä".into())), ("x", RawValue::Null)]),
            row(&[("x", RawValue::Bool(true))]),
            row(&[]),
            row(&[
                ("y", RawValue::Object),
                (
                    "id",
                    RawValue::List(vec![RawValue::List(Vec::new()), RawValue::Number(1.0)]),
                ),
            ]),
            row(&[("x", RawValue::Number(0.1)), ("", RawValue::Number(-0.0))]),
        ];
        for size in 1..=rows.len() {
            let Subject::Entities { rows: back, .. } =
                decode_input(&chunks(&Subject::entities(rows.clone()), size)).unwrap()
            else {
                panic!("entities stay entities");
            };
            assert_eq!(back.as_ref(), rows, "{size}");
            let back = decode_input(&chunks(&Subject::Rows(rows.clone().into()), size)).unwrap();
            assert!(matches!(back, Subject::Rows(back) if back.as_ref() == rows));
        }
    }

    #[test]
    fn numbers_keep_every_bit() {
        let numbers = [
            0.1,
            -0.0,
            f64::NAN,
            f64::from_bits(0x7ff8_0000_0000_0001),
            f64::INFINITY,
            f64::MIN_POSITIVE / 3.0,
            9_007_199_254_740_993.0,
        ];
        let rows = numbers.map(|number| row(&[("x", RawValue::Number(number))]));
        let back = decode_input(&chunks(&Subject::Rows(rows.to_vec().into()), 3)).unwrap();
        let Subject::Rows(back) = back else {
            panic!("rows stay rows");
        };
        for (row, number) in back.iter().zip(numbers) {
            assert!(
                matches!(row.get("x"), Some(RawValue::Number(back)) if back.to_bits() == number.to_bits())
            );
        }

        let values = [0.1_f32, f32::NAN, -0.0, 1e-40, f32::MAX, 7.0];
        let dense = Subject::Dense {
            values: values.into(),
            rows: 3,
        };
        let Subject::Dense { values: back, rows } = decode_input(&chunks(&dense, 2)).unwrap()
        else {
            panic!("packed numbers stay packed");
        };
        assert_eq!(rows, 3);
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(&values));
    }

    #[test]
    fn what_is_no_chunk_of_ours_is_refused() {
        let good = encode_input(
            &Subject::Rows(vec![row(&[("x", RawValue::Null)])].into()),
            0..1,
        )
        .unwrap();
        let mut newer = good.clone();
        newer[0] = 2;
        for bad in [Vec::new(), newer, good[..good.len() - 1].to_vec()] {
            assert!(decode_input(std::slice::from_ref(&bad)).is_err());
            assert!(decode_result(&bad).is_err());
        }
        assert!(decode_input(&[]).is_err());
    }
}
