//! Lists of values: one type, no nulls, packed.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value as Json;

use super::{RawValue, Timestamp, Value};
use crate::catalog::ScalarType;

/// The elements of a list, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum ListValue {
    /// true or false.
    Bool(Vec<bool>),
    /// Signed 32-bit integers.
    Int32(Vec<i32>),
    /// Signed 64-bit integers.
    Int64(Vec<i64>),
    /// 32-bit floats.
    Float(Vec<f32>),
    /// 64-bit floats.
    Double(Vec<f64>),
    /// UTF-8 texts.
    String(Vec<String>),
    /// Byte strings.
    Bytes(Vec<Vec<u8>>),
    /// Points in time.
    Timestamp(Vec<Timestamp>),
}

impl ListValue {
    /// The type of each element.
    pub fn element_type(&self) -> ScalarType {
        match self {
            ListValue::Bool(_) => ScalarType::Bool,
            ListValue::Int32(_) => ScalarType::Int32,
            ListValue::Int64(_) => ScalarType::Int64,
            ListValue::Float(_) => ScalarType::Float,
            ListValue::Double(_) => ScalarType::Double,
            ListValue::String(_) => ScalarType::String,
            ListValue::Bytes(_) => ScalarType::Bytes,
            ListValue::Timestamp(_) => ScalarType::Timestamp,
        }
    }

    /// A list without elements.
    pub fn empty(element: ScalarType) -> ListValue {
        match element {
            ScalarType::Bool => ListValue::Bool(Vec::new()),
            ScalarType::Int32 => ListValue::Int32(Vec::new()),
            ScalarType::Int64 => ListValue::Int64(Vec::new()),
            ScalarType::Float => ListValue::Float(Vec::new()),
            ScalarType::Double => ListValue::Double(Vec::new()),
            ScalarType::String => ListValue::String(Vec::new()),
            ScalarType::Bytes => ListValue::Bytes(Vec::new()),
            ScalarType::Timestamp => ListValue::Timestamp(Vec::new()),
        }
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            ListValue::Bool(values) => values.len(),
            ListValue::Int32(values) => values.len(),
            ListValue::Int64(values) => values.len(),
            ListValue::Float(values) => values.len(),
            ListValue::Double(values) => values.len(),
            ListValue::String(values) => values.len(),
            ListValue::Bytes(values) => values.len(),
            ListValue::Timestamp(values) => values.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an element.
    ///
    /// # Errors
    /// A sentence, where it is null or of another type.
    pub fn push(&mut self, element: Value) -> Result<(), String> {
        match (self, element) {
            (ListValue::Bool(values), Value::Bool(value)) => values.push(value),
            (ListValue::Int32(values), Value::Int32(value)) => values.push(value),
            (ListValue::Int64(values), Value::Int64(value)) => values.push(value),
            (ListValue::Float(values), Value::Float(value)) => values.push(value),
            (ListValue::Double(values), Value::Double(value)) => values.push(value),
            (ListValue::String(values), Value::String(value)) => values.push(value.into()),
            (ListValue::Bytes(values), Value::Bytes(value)) => values.push(value),
            (ListValue::Timestamp(values), Value::Timestamp(value)) => values.push(value),
            (_, Value::Null) => return Err("an element of a list cannot be null".to_owned()),
            (list, value) => {
                return Err(format!(
                    "a list of {} cannot hold {value}",
                    list.element_type().value_type()
                ));
            }
        }
        Ok(())
    }

    /// The elements as values of their own.
    pub fn elements(&self) -> Vec<Value> {
        match self {
            ListValue::Bool(values) => values.iter().copied().map(Value::Bool).collect(),
            ListValue::Int32(values) => values.iter().copied().map(Value::Int32).collect(),
            ListValue::Int64(values) => values.iter().copied().map(Value::Int64).collect(),
            ListValue::Float(values) => values.iter().copied().map(Value::Float).collect(),
            ListValue::Double(values) => values.iter().copied().map(Value::Double).collect(),
            ListValue::String(values) => values
                .iter()
                .map(|text| Value::String(text.into()))
                .collect(),
            ListValue::Bytes(values) => values.iter().cloned().map(Value::Bytes).collect(),
            ListValue::Timestamp(values) => values.iter().copied().map(Value::Timestamp).collect(),
        }
    }

    /// Reads a JSON array; bytes are base64, points in time RFC 3339, and "NaN", "Infinity" and "-Infinity" floats.
    ///
    /// # Errors
    /// A sentence that names the element at fault, counted from 0.
    pub fn parse(text: &str, element: ScalarType) -> Result<ListValue, String> {
        let Ok(Json::Array(elements)) = serde_json::from_str(text) else {
            return Err(format!(
                "expected a JSON array of {}, as [] or [1, 2]",
                element.value_type()
            ));
        };
        let mut list = ListValue::empty(element);
        for (index, json) in elements.iter().enumerate() {
            let value = json_value(json, element).to_value(element.value_type());
            value
                .and_then(|value| list.push(value))
                .map_err(|fault| format!("element {index}: {fault}"))?;
        }
        Ok(list)
    }

    /// The list as JSON, so that `parse` reads the same list back, to the bit.
    pub fn to_json(&self) -> String {
        let elements: Vec<Json> = match self {
            ListValue::Bool(values) => values.iter().map(|value| Json::from(*value)).collect(),
            ListValue::Int32(values) => values.iter().map(|value| Json::from(*value)).collect(),
            // Digits in quotes: a JSON number is exact only below 2^53 for many readers.
            ListValue::Int64(values) => values
                .iter()
                .map(|value| Json::from(value.to_string()))
                .collect(),
            ListValue::Float(values) => values
                .iter()
                .map(|value| float_json(super::widen(*value)))
                .collect(),
            ListValue::Double(values) => values.iter().map(|value| float_json(*value)).collect(),
            ListValue::String(values) => values
                .iter()
                .map(|value| Json::from(value.as_str()))
                .collect(),
            ListValue::Bytes(values) => values
                .iter()
                .map(|value| Json::from(BASE64.encode(value)))
                .collect(),
            ListValue::Timestamp(values) => values
                .iter()
                .map(|value| Json::from(value.to_string()))
                .collect(),
        };
        Json::from(elements).to_string()
    }

    /// Whether two lists are the same to the bit.
    pub fn is_same(&self, other: &ListValue) -> bool {
        match (self, other) {
            (ListValue::Float(a), ListValue::Float(b)) => a
                .iter()
                .map(|v| v.to_bits())
                .eq(b.iter().map(|v| v.to_bits())),
            (ListValue::Double(a), ListValue::Double(b)) => a
                .iter()
                .map(|v| v.to_bits())
                .eq(b.iter().map(|v| v.to_bits())),
            _ => self == other,
        }
    }
}

impl fmt::Display for ListValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}

/// A float as the JSON mapping of protobuf writes it.
fn float_json(value: f64) -> Json {
    if value.is_finite() {
        return Json::from(value);
    }
    Json::from(float_name(value))
}

/// What the JSON mapping of protobuf calls a float that is no number.
pub(crate) fn float_name(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn json_value(json: &Json, element: ScalarType) -> RawValue {
    match json {
        Json::Null => RawValue::Null,
        Json::Bool(value) => RawValue::Bool(*value),
        // As text, so that no digit is lost.
        Json::Number(number) if element == ScalarType::Int64 && number.is_i64() => {
            RawValue::Text(number.to_string())
        }
        Json::Number(number) => RawValue::Number(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => RawValue::Text(text.clone()),
        Json::Array(_) => RawValue::List(Vec::new()),
        Json::Object(_) => RawValue::Object,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lists_read_back_from_their_json_to_the_bit() {
        let lists = [
            ListValue::Bool(vec![true, false]),
            ListValue::Int32(vec![i32::MIN, 0, i32::MAX]),
            ListValue::Int64(vec![i64::MIN, 9_007_199_254_740_993, i64::MAX]),
            ListValue::Float(vec![0.1, -0.0, f32::MAX, f32::MIN_POSITIVE, f32::INFINITY]),
            ListValue::Double(vec![0.1, -0.0, f64::MAX, 5e-324, f64::NEG_INFINITY]),
            // A fast reader of JSON takes it for its neighbour.
            ListValue::Double(vec![108_722.285_714_285_71]),
            ListValue::String(vec![String::new(), "ä\"\\\n".to_owned()]),
            ListValue::Bytes(vec![Vec::new(), vec![0, 255]]),
            ListValue::Timestamp(vec![Timestamp::EPOCH, Timestamp::from_micros(-1).unwrap()]),
        ];
        for list in lists {
            let empty = ListValue::empty(list.element_type());
            for list in [list, empty] {
                let back = ListValue::parse(&list.to_json(), list.element_type()).unwrap();
                assert!(back.is_same(&list), "{list} {back}");
            }
        }
        let nan = ListValue::parse("[\"NaN\"]", ScalarType::Double).unwrap();
        assert!(matches!(nan, ListValue::Double(values) if values.iter().all(|v| v.is_nan())));
    }

    #[test]
    fn an_element_that_does_not_fit_is_named() {
        let fault = |text: &str| ListValue::parse(text, ScalarType::Int32).unwrap_err();
        assert!(fault("[1, null]").starts_with("element 1: "));
        assert!(fault("[1, 2.5]").contains("whole number"));
        assert!(fault("[[1]]").starts_with("element 0: "));
        assert!(fault("1").contains("JSON array"));
    }
}
