//! Where each value of a row goes, and how it becomes an element of its tensor.

use std::collections::HashMap;

use compact_str::CompactString;

use super::{
    Batch, TensorData,
    signature::{Input, Signature, TensorType},
};
use crate::features::{Value, is_exact_whole};

/// Where one input's values go.
#[derive(Debug, Clone, Copy)]
struct Slot {
    tensor: usize,
    column: usize,
    columns: usize,
}

/// A signature's layout, worked out once a version.
#[derive(Debug, Clone)]
pub struct Layout {
    slots: Vec<Slot>,
    tensors: Vec<(TensorType, usize)>,
    /// By input: of a text that goes into a tensor of numbers, the number of each category.
    codes: Vec<Option<HashMap<String, f64>>>,
}

impl Layout {
    /// Works out where each input goes; the signature is one that `Signature::parse` let through.
    pub fn new(signature: &Signature) -> Layout {
        let slots = signature
            .inputs
            .iter()
            .filter_map(|input| {
                let tensor = signature
                    .tensors
                    .iter()
                    .position(|tensor| tensor.name == input.tensor)?;
                let columns = signature.tensors.get(tensor)?.columns;
                Some(Slot {
                    tensor,
                    column: input.column,
                    columns,
                })
            })
            .collect();
        let tensors = signature
            .tensors
            .iter()
            .map(|tensor| (tensor.tensor_type, tensor.columns))
            .collect();
        let inputs = signature.inputs.iter();
        let codes = inputs
            .map(|input| signature.is_coded(input).then(|| codes_of(input)))
            .collect();
        Layout {
            slots,
            tensors,
            codes,
        }
    }

    /// A batch of rows in which every value is missing (or zero, in tensors that know no missing value).
    pub fn empty_batch(&self, rows: usize) -> Batch {
        let tensors = self
            .tensors
            .iter()
            .map(|(tensor_type, columns)| {
                let count = rows * columns;
                match tensor_type {
                    TensorType::Float => TensorData::Float(vec![f32::NAN; count]),
                    TensorType::Double => TensorData::Double(vec![f64::NAN; count]),
                    TensorType::Int64 => TensorData::Int64(vec![0; count]),
                    TensorType::String => TensorData::String(vec![CompactString::default(); count]),
                    TensorType::Bool => TensorData::Bool(vec![false; count]),
                }
            })
            .collect();
        Batch { rows, tensors }
    }

    /// The value that a row has in an input's place, as its tensor holds it: what `set` puts there again, to the bit. Null
    /// where that is a missing value; none where there is no such place.
    pub fn get(&self, batch: &Batch, row: usize, input: usize) -> Option<Value> {
        let slot = self.slots.get(input)?;
        let at = row * slot.columns + slot.column;
        let value = match batch.tensors.get(slot.tensor)? {
            TensorData::Float(data) => Value::Float(*data.get(at)?),
            TensorData::Double(data) => Value::Double(*data.get(at)?),
            TensorData::Int64(data) => Value::Int64(*data.get(at)?),
            TensorData::Bool(data) => Value::Bool(*data.get(at)?),
            TensorData::String(data) => match data.get(at)? {
                text if text.is_empty() => Value::Null,
                text => Value::String(text.clone()),
            },
        };
        Some(if value.is_missing() {
            Value::Null
        } else {
            value
        })
    }

    /// Whether the tensor of an input has a way to say that a value is missing.
    pub fn knows_missing(&self, input: usize) -> bool {
        let tensor = self.slots.get(input).map(|slot| slot.tensor);
        let tensor_type = tensor.and_then(|tensor| self.tensors.get(tensor));
        tensor_type.is_some_and(|(tensor_type, _)| match tensor_type {
            TensorType::Float | TensorType::Double | TensorType::String => true,
            TensorType::Int64 | TensorType::Bool => false,
        })
    }

    /// Puts one value in its place. Null stays a missing value, and so does a text that its input's categories do not have
    /// where its tensor is one of numbers.
    ///
    /// # Errors
    /// A sentence where the tensor cannot hold the value: null where it knows no missing value, a number beyond a 32-bit
    /// float.
    pub fn set(
        &self,
        batch: &mut Batch,
        row: usize,
        input: usize,
        value: &Value,
    ) -> Result<(), String> {
        let slot = self.slots.get(input).ok_or("no such input")?;
        let at = row * slot.columns + slot.column;
        match batch.tensors.get_mut(slot.tensor) {
            Some(TensorData::Float(data)) => {
                if let Some(number) = self.number(input, value)? {
                    put(data, at, narrow(number)?);
                }
            }
            Some(TensorData::Double(data)) => {
                if let Some(number) = self.number(input, value)? {
                    put(data, at, number);
                }
            }
            Some(TensorData::Int64(data)) => put(data, at, integer(value)?),
            Some(TensorData::Bool(data)) => put(data, at, boolean(value)?),
            Some(TensorData::String(data)) => put(data, at, text(value)?),
            None => return Err("no such tensor".to_owned()),
        }
        Ok(())
    }

    /// A value as its tensor's number: a text as that of its category.
    fn number(&self, input: usize, value: &Value) -> Result<Option<f64>, String> {
        match (value, self.codes.get(input)) {
            (Value::String(text), Some(Some(codes))) => Ok(codes.get(text.as_str()).copied()),
            _ => number(value),
        }
    }
}

/// The index of each category, as a number.
fn codes_of(input: &Input) -> HashMap<String, f64> {
    let numbers = (0_u32..).map(f64::from);
    input.categories.iter().cloned().zip(numbers).collect()
}

fn put<T>(data: &mut [T], at: usize, value: T) {
    if let Some(place) = data.get_mut(at) {
        *place = value;
    }
}

/// Rounds to the 32-bit float that the model was trained on: the one place where that happens.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding is what is asked for; an overflow is refused"
)]
fn narrow(number: f64) -> Result<f32, String> {
    let narrow = number as f32;
    if narrow.is_infinite() {
        return Err(format!("{number} is beyond a 32-bit float"));
    }
    Ok(narrow)
}

/// A value as a number, none for null.
///
/// # Errors
/// A sentence for what is no number.
#[expect(
    clippy::cast_precision_loss,
    reason = "the trainer rounds integers in the same way"
)]
pub(super) fn number(value: &Value) -> Result<Option<f64>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(value) => Ok(Some(f64::from(u8::from(*value)))),
        Value::Int32(value) => Ok(Some(f64::from(*value))),
        Value::Int64(value) => Ok(Some(*value as f64)),
        Value::Float(value) => Ok(Some(f64::from(*value))),
        Value::Double(value) => Ok(Some(*value)),
        Value::String(_) | Value::Bytes(_) | Value::Timestamp(_) | Value::List(_) => {
            Err(format!("{value} is no number"))
        }
    }
}

/// A bound or an edge as a value is to be held against it: as a 32-bit float for what was rounded to one, so that a number
/// equals itself, and 0.1 is not above 0.1.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding is what is asked for; beyond a 32-bit float is an infinity, which bounds as well"
)]
pub(super) fn limit_for(value: &Value, limit: f64) -> f64 {
    match value {
        Value::Float(_) => f64::from(limit as f32),
        Value::Null
        | Value::Bool(_)
        | Value::Int32(_)
        | Value::Int64(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Timestamp(_)
        | Value::List(_) => limit,
    }
}

fn integer(value: &Value) -> Result<i64, String> {
    match value {
        Value::Bool(value) => Ok(i64::from(*value)),
        Value::Int32(value) => Ok(i64::from(*value)),
        Value::Int64(value) => Ok(*value),
        Value::Null => {
            Err("a value is missing, and the model's integers know no missing value".to_owned())
        }
        Value::Float(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Timestamp(_)
        | Value::List(_) => Err(format!("{value} is no integer")),
    }
}

fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::Null => {
            Err("a value is missing, and the model's booleans know no missing value".to_owned())
        }
        Value::Int32(_)
        | Value::Int64(_)
        | Value::Float(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Timestamp(_)
        | Value::List(_) => Err(format!("{value} is neither true nor false")),
    }
}

fn text(value: &Value) -> Result<CompactString, String> {
    match value {
        Value::Null => Ok(CompactString::default()),
        // Runtimes take C strings.
        Value::String(value) if value.contains('\0') => {
            Err("the text holds a NUL character".to_owned())
        }
        Value::String(value) => Ok(value.clone()),
        Value::Bool(_)
        | Value::Int32(_)
        | Value::Int64(_)
        | Value::Float(_)
        | Value::Double(_)
        | Value::Bytes(_)
        | Value::Timestamp(_)
        | Value::List(_) => Err(format!("{value} is no string")),
    }
}

/// One number of the dense form as a value of an input: NaN is null, a string's is the index of its category.
///
/// # Errors
/// A sentence: an infinity, a fraction where a whole number is due, an index without a category.
#[expect(
    clippy::cast_possible_truncation,
    reason = "whole, positive where it has to be and below 2^53, all checked before"
)]
pub(super) fn dense_value(input: &Input, number: f32) -> Result<Value, String> {
    use crate::catalog::ValueType;

    if number.is_nan() {
        return Ok(Value::Null);
    }
    if number.is_infinite() {
        return Err("infinities are refused; NaN is a missing value".to_owned());
    }
    let whole = || {
        if is_exact_whole(f64::from(number)) {
            Ok(number as i64)
        } else {
            Err(format!("expected a whole number, got {number}"))
        }
    };
    match input.value_type {
        ValueType::Float | ValueType::Double => Ok(Value::Float(number)),
        ValueType::Int32 | ValueType::Int64 => whole().map(Value::Int64),
        ValueType::Bool => match whole()? {
            0 => Ok(Value::Bool(false)),
            1 => Ok(Value::Bool(true)),
            other => Err(format!("expected 0 or 1, got {other}")),
        },
        ValueType::String => {
            let index = whole()?;
            usize::try_from(index)
                .ok()
                .and_then(|index| input.categories.get(index))
                .map(|category| Value::String(category.into()))
                .ok_or_else(|| {
                    format!(
                        "{index} is no index of the input's {} categories",
                        input.categories.len()
                    )
                })
        }
        ValueType::Bytes | ValueType::Timestamp | ValueType::List(_) => {
            Err(format!("a {} has no dense form", input.value_type))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn layout() -> Layout {
        Layout {
            slots: vec![
                Slot {
                    tensor: 0,
                    column: 1,
                    columns: 2,
                },
                Slot {
                    tensor: 1,
                    column: 0,
                    columns: 1,
                },
                Slot {
                    tensor: 0,
                    column: 0,
                    columns: 2,
                },
                Slot {
                    tensor: 2,
                    column: 0,
                    columns: 1,
                },
            ],
            tensors: vec![
                (TensorType::Float, 2),
                (TensorType::String, 1),
                (TensorType::Int64, 1),
            ],
            codes: vec![
                None,
                None,
                Some(HashMap::from([("term_60".into(), 1.0)])),
                None,
            ],
        }
    }

    #[test]
    fn values_go_where_the_signature_says_and_the_rest_is_missing() {
        let layout = layout();
        let mut batch = layout.empty_batch(2);
        layout.set(&mut batch, 1, 0, &Value::Double(0.1)).unwrap();
        layout
            .set(&mut batch, 1, 1, &Value::String("x".into()))
            .unwrap();
        layout.set(&mut batch, 0, 2, &Value::Int64(7)).unwrap();
        layout.set(&mut batch, 0, 1, &Value::Null).unwrap();
        let TensorData::Float(floats) = batch.tensors.first().unwrap() else {
            unreachable!("the first tensor is of floats")
        };
        assert_eq!(floats.first(), Some(&7.0));
        assert!(floats.get(1).unwrap().is_nan() && floats.get(2).unwrap().is_nan());
        assert_eq!(floats.get(3), Some(&0.1_f32));
        assert_eq!(
            batch.tensors.get(1),
            Some(&TensorData::String(vec!["".into(), "x".into()]))
        );
    }

    #[test]
    fn a_text_goes_into_numbers_as_the_index_of_its_category() {
        let layout = layout();
        let mut batch = layout.empty_batch(2);
        for (row, text) in [(0, "term_60"), (1, "term_48")] {
            layout
                .set(&mut batch, row, 2, &Value::String(text.into()))
                .unwrap();
        }
        let Some(TensorData::Float(floats)) = batch.tensors.first() else {
            unreachable!("the first tensor is of floats")
        };
        assert_eq!(floats.first(), Some(&1.0));
        // An unknown one is missing.
        assert!(floats.get(2).unwrap().is_nan());
        let refused = layout.set(&mut batch, 0, 0, &Value::String("term_60".into()));
        assert!(refused.unwrap_err().contains("no number"));
    }

    #[test]
    fn what_a_tensor_cannot_hold_is_refused() {
        let layout = layout();
        let mut batch = layout.empty_batch(1);
        assert!(layout.set(&mut batch, 0, 0, &Value::Double(1e39)).is_err());
        assert!(
            layout
                .set(&mut batch, 0, 0, &Value::Double(f64::INFINITY))
                .is_err()
        );
        assert!(
            layout
                .set(&mut batch, 0, 0, &Value::String("1".into()))
                .is_err()
        );
        assert!(layout.set(&mut batch, 0, 3, &Value::Null).is_err());
    }

    #[test]
    fn a_dense_string_is_the_index_of_its_category() {
        let input = Input {
            name: "term".into(),
            value_type: crate::catalog::ValueType::String,
            tensor: "categorical".into(),
            column: 0,
            categories: vec!["term_36".into(), "term_60".into()],
            profile: None,
        };
        assert_eq!(
            dense_value(&input, 1.0),
            Ok(Value::String("term_60".into()))
        );
        assert_eq!(dense_value(&input, f32::NAN), Ok(Value::Null));
        for bad in [2.0, -1.0, 0.5, f32::INFINITY] {
            assert!(dense_value(&input, bad).is_err(), "{bad}");
        }
    }
}
