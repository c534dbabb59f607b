//! Values as a caller wrote them, before their types are known, and how they become typed.
//!
//! The forms are those of JSON; `grpc` makes them from `google.protobuf.Value`.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use smallvec::SmallVec;

use super::{EXACT_WHOLE_MAX, ListValue, Timestamp, Value, list::float_name};
use crate::{catalog::ValueType, error::Violations};

/// Faults of one request that are reported; the rest is cut.
const FAULTS_MAX: usize = 20;

/// A value as a caller wrote it.
#[derive(Debug, Clone, PartialEq)]
pub enum RawValue {
    /// null.
    Null,
    /// true or false.
    Bool(bool),
    /// A number; on the wire of gRPC it can be NaN or infinite.
    Number(f64),
    /// Text.
    Text(String),
    /// An array.
    List(Vec<RawValue>),
    /// An object, which no value is made of.
    Object,
}

/// Names and values; an entity mostly has one.
pub type RawFields = SmallVec<[(String, RawValue); 1]>;

/// An object as a caller wrote it: an entity, a row to write, a row to score.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RawRow {
    /// Names and values; a name is there once.
    pub fields: RawFields,
}

impl RawRow {
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.fields
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }
}

impl RawValue {
    /// A JSON value as it stands. A whole number beyond 2^53 stays exact, as text.
    pub fn from_json(json: serde_json::Value) -> RawValue {
        match json {
            serde_json::Value::Null => RawValue::Null,
            serde_json::Value::Bool(value) => RawValue::Bool(value),
            serde_json::Value::Number(number) => match number.as_f64() {
                Some(float) if !number.is_f64() && !is_exact_whole(float) => {
                    RawValue::Text(number.to_string())
                }
                float => RawValue::Number(float.unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => RawValue::Text(text),
            serde_json::Value::Array(values) => {
                RawValue::List(values.into_iter().map(RawValue::from_json).collect())
            }
            serde_json::Value::Object(_) => RawValue::Object,
        }
    }

    /// The value as JSON, from which `from_json` makes it again. A whole number has no fraction; a number that JSON has no
    /// form for is a text, as in the JSON mapping of protobuf; an object is null.
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            RawValue::Null | RawValue::Object => serde_json::Value::Null,
            RawValue::Bool(value) => (*value).into(),
            RawValue::Number(number) if !number.is_finite() => float_name(*number).into(),
            RawValue::Number(number) if is_exact_whole(*number) && !is_negative_zero(*number) => {
                (*number as i64).into()
            }
            RawValue::Number(number) => (*number).into(),
            RawValue::Text(text) => text.clone().into(),
            RawValue::List(values) => values.iter().map(RawValue::to_json).collect(),
        }
    }

    /// The value as a type; null stays null.
    ///
    /// # Errors
    /// A sentence that says what was expected and what was there.
    pub fn to_value(&self, value_type: ValueType) -> std::result::Result<Value, String> {
        match (self, value_type) {
            (RawValue::Null, _) => Ok(Value::Null),
            (RawValue::Bool(value), ValueType::Bool) => Ok(Value::Bool(*value)),
            (RawValue::Number(number), ValueType::Int32) => {
                let whole = whole_number(*number, value_type)?;
                i32::try_from(whole)
                    .map(Value::Int32)
                    .map_err(|_| format!("{number} is beyond an int32"))
            }
            (RawValue::Number(number), ValueType::Int64) => {
                whole_number(*number, value_type).map(Value::Int64)
            }
            (RawValue::Number(number), ValueType::Float) => float(*number).map(Value::Float),
            (RawValue::Number(number), ValueType::Double) => {
                finite(*number, value_type).map(Value::Double)
            }
            // As the JSON mapping of protobuf writes an int64.
            (RawValue::Text(text), ValueType::Int64 | ValueType::Int32) => {
                Value::parse(text, value_type)
            }
            (RawValue::Text(text), ValueType::Float | ValueType::Double) => {
                let number = named_float(text).ok_or_else(|| self.mismatch(value_type))?;
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "NaN and infinities stay what they are"
                )]
                let value = if value_type == ValueType::Float {
                    Value::Float(number as f32)
                } else {
                    Value::Double(number)
                };
                Ok(value)
            }
            (RawValue::Text(text), ValueType::String) => Ok(Value::String(text.into())),
            (RawValue::Text(text), ValueType::Timestamp) => {
                Timestamp::parse(text).map(Value::Timestamp)
            }
            (RawValue::Text(text), ValueType::Bytes) => BASE64
                .decode(text)
                .map(Value::Bytes)
                .map_err(|_| "expected bytes in base64".to_owned()),
            (RawValue::List(elements), ValueType::List(element)) => {
                let mut list = ListValue::empty(element);
                for (index, raw) in elements.iter().enumerate() {
                    let value = raw.to_value(element.value_type());
                    value
                        .and_then(|value| list.push(value))
                        .map_err(|fault| format!("element {index}: {fault}"))?;
                }
                Ok(Value::List(list))
            }
            (
                RawValue::Bool(_)
                | RawValue::Number(_)
                | RawValue::Text(_)
                | RawValue::List(_)
                | RawValue::Object,
                _,
            ) => Err(self.mismatch(value_type)),
        }
    }

    fn mismatch(&self, value_type: ValueType) -> String {
        format!("expected {}, got {}", expected(value_type), self.shown())
    }

    /// The value as an error message shows it, bounded in length.
    pub fn shown(&self) -> String {
        match self {
            RawValue::Null => "null".to_owned(),
            RawValue::Bool(value) => value.to_string(),
            RawValue::Number(number) => format!("the number {number}"),
            RawValue::Text(text) => {
                const TEXT_CHARS_MAX: usize = 40;
                let shown: String = text.chars().take(TEXT_CHARS_MAX).collect();
                format!("the string {shown:?}")
            }
            RawValue::List(_) => "an array".to_owned(),
            RawValue::Object => "an object".to_owned(),
        }
    }
}

fn expected(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Bool => "true or false",
        ValueType::Int32 | ValueType::Int64 => "a whole number",
        ValueType::Float | ValueType::Double => "a number, or null for a missing value",
        ValueType::String => "a string",
        ValueType::Bytes => "a string with bytes in base64",
        ValueType::Timestamp => "a string with a point in time in RFC 3339",
        ValueType::List(_) => "an array, or null for a missing value",
    }
}

/// The floats that JSON has no number for, as the JSON mapping of protobuf writes them.
fn named_float(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// Whether a number is whole and below 2^53: at 2^53 itself it could be a neighbour that was rounded.
#[expect(clippy::cast_precision_loss, reason = "2^53 itself is exact")]
pub(crate) fn is_exact_whole(number: f64) -> bool {
    number.fract() == 0.0 && number.abs() < EXACT_WHOLE_MAX as f64
}

fn is_negative_zero(number: f64) -> bool {
    number == 0.0 && number.is_sign_negative()
}

fn finite(number: f64, value_type: ValueType) -> std::result::Result<f64, String> {
    if number.is_finite() {
        return Ok(number);
    }
    Err(format!(
        "{number} is no {value_type} that a request may bring; send null, or leave the key out, for a missing value"
    ))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to 32 bits is asked for; an overflow is refused"
)]
fn float(number: f64) -> std::result::Result<f32, String> {
    let narrow = finite(number, ValueType::Float)? as f32;
    if narrow.is_infinite() {
        return Err(format!("{number} is beyond a 32-bit float"));
    }
    Ok(narrow)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "whole and within 2^53, both checked before"
)]
fn whole_number(number: f64, value_type: ValueType) -> std::result::Result<i64, String> {
    let number = finite(number, value_type)?;
    if number.fract() != 0.0 {
        return Err(format!("expected a whole number, got {number}"));
    }
    if !is_exact_whole(number) {
        return Err(format!(
            "{number} is not below 2^53, where a JSON number is no longer exact; send the digits as a string"
        ));
    }
    Ok(number as i64)
}

/// A collector for the faults of one request, a bounded number of them.
pub fn request_faults() -> Violations {
    Violations::bounded(FAULTS_MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::catalog::ScalarType;

    #[test]
    fn every_type_takes_its_form_and_null() {
        let text = |text: &str| RawValue::Text(text.to_owned());
        let cases = [
            (RawValue::Bool(true), ValueType::Bool, Value::Bool(true)),
            (RawValue::Number(-3.0), ValueType::Int32, Value::Int32(-3)),
            (
                text("9007199254740993"),
                ValueType::Int64,
                Value::Int64(9_007_199_254_740_993),
            ),
            (RawValue::Number(0.5), ValueType::Float, Value::Float(0.5)),
            (RawValue::Number(0.1), ValueType::Double, Value::Double(0.1)),
            (text(""), ValueType::String, Value::String("".into())),
            (text("AP8="), ValueType::Bytes, Value::Bytes(vec![0, 255])),
            (
                text("1970-01-01T00:00:00Z"),
                ValueType::Timestamp,
                Value::Timestamp(Timestamp::EPOCH),
            ),
        ];
        for (raw, value_type, value) in cases {
            assert_eq!(raw.to_value(value_type), Ok(value));
            assert_eq!(RawValue::Null.to_value(value_type), Ok(Value::Null));
            assert!(RawValue::Object.to_value(value_type).is_err());
            assert!(RawValue::List(Vec::new()).to_value(value_type).is_err());
        }
    }

    #[test]
    fn an_array_becomes_a_list_of_its_type_and_a_bad_element_is_named() {
        let doubles = ValueType::List(ScalarType::Double);
        let raw = |elements: &[RawValue]| RawValue::List(elements.to_vec());
        let numbers = raw(&[RawValue::Number(0.5), RawValue::Text("Infinity".into())]);
        assert_eq!(
            numbers.to_value(doubles),
            Ok(Value::List(ListValue::Double(vec![0.5, f64::INFINITY])))
        );
        assert_eq!(
            raw(&[]).to_value(doubles),
            Ok(Value::List(ListValue::Double(Vec::new())))
        );
        assert_eq!(RawValue::Null.to_value(doubles), Ok(Value::Null));
        let fault = raw(&[RawValue::Number(1.0), RawValue::Null]).to_value(doubles);
        assert_eq!(
            fault,
            Err("element 1: an element of a list cannot be null".to_owned())
        );
        assert!(RawValue::Number(1.0).to_value(doubles).is_err());
    }

    #[test]
    fn json_is_read_back_as_it_was() {
        let text = |text: &str| RawValue::Text(text.to_owned());
        let numbers = [0.0, -0.0, 7.0, -1.5, 1e300, 9_007_199_254_740_991.0];
        let numbers = numbers.into_iter().map(RawValue::Number);
        let others = [
            RawValue::Null,
            RawValue::Bool(true),
            text("9007199254740993"),
            text("\0\"\u{1f}"),
            RawValue::List(vec![RawValue::Number(1.0), text("a")]),
        ];
        for raw in numbers.chain(others) {
            let json = raw.to_json().to_string();
            let back = RawValue::from_json(serde_json::from_str(&json).unwrap());
            assert_eq!(format!("{back:?}"), format!("{raw:?}"), "{json}");
        }
        assert_eq!(RawValue::Number(7.0).to_json().to_string(), "7");
        assert_eq!(RawValue::Number(f64::NAN).to_json(), "NaN");
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let fault = |raw: RawValue, value_type| raw.to_value(value_type).unwrap_err();
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for value_type in [ValueType::Double, ValueType::Float, ValueType::Int64] {
                assert!(fault(RawValue::Number(number), value_type).contains("send null"));
            }
        }
        assert!(fault(RawValue::Number(1e300), ValueType::Float).contains("beyond"));
        for rounded in [1e17, 9_007_199_254_740_992.0] {
            assert!(fault(RawValue::Number(rounded), ValueType::Int64).contains("as a string"));
        }
        assert!(fault(RawValue::Number(3e9), ValueType::Int32).contains("beyond an int32"));
        assert!(fault(RawValue::Number(1.5), ValueType::Int32).contains("whole"));
        assert_eq!(
            fault(RawValue::Text("rich".into()), ValueType::Double),
            "expected a number, or null for a missing value, got the string \"rich\""
        );
    }
}
