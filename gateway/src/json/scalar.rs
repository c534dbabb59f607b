//! Single values written as text, in a path or a query.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value};
use serde::de::IntoDeserializer as _;
use serde::de::value::Error as ValueError;

/// Messages whose JSON form is one string.
const STRING_LIKE: [&str; 3] = [
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
    "google.protobuf.FieldMask",
];

/// Messages that hold one scalar in the field `value`.
const WRAPPERS: [&str; 9] = [
    "google.protobuf.DoubleValue",
    "google.protobuf.FloatValue",
    "google.protobuf.Int64Value",
    "google.protobuf.UInt64Value",
    "google.protobuf.Int32Value",
    "google.protobuf.UInt32Value",
    "google.protobuf.BoolValue",
    "google.protobuf.StringValue",
    "google.protobuf.BytesValue",
];

/// Whether a text can say a value of this kind.
pub(crate) fn is_textual(kind: &Kind) -> bool {
    match kind.as_message() {
        Some(message) => {
            STRING_LIKE.contains(&message.full_name()) || WRAPPERS.contains(&message.full_name())
        }
        None => true,
    }
}

/// Reads a value from its text.
///
/// # Errors
/// What was expected, for people.
pub(crate) fn parse_text(kind: &Kind, text: &str) -> Result<Value, String> {
    let expected = |what: &str| format!("expected {what}, found {:?}", shortened(text));
    match kind {
        Kind::Double => parse_float(text)
            .map(Value::F64)
            .ok_or_else(|| expected("a number")),
        Kind::Float => {
            // Out of an f32's range is a fault, as in a body.
            #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
            parse_float(text)
                .filter(|number| !number.is_finite() || number.abs() <= f64::from(f32::MAX))
                .map(|number| Value::F32(number as f32))
                .ok_or_else(|| expected("a 32-bit number"))
        }
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => text
            .parse()
            .map(Value::I32)
            .map_err(|_| expected("a 32-bit integer")),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => text
            .parse()
            .map(Value::I64)
            .map_err(|_| expected("a 64-bit integer")),
        Kind::Uint32 | Kind::Fixed32 => text
            .parse()
            .map(Value::U32)
            .map_err(|_| expected("a 32-bit integer of at least 0")),
        Kind::Uint64 | Kind::Fixed64 => text
            .parse()
            .map(Value::U64)
            .map_err(|_| expected("a 64-bit integer of at least 0")),
        Kind::Bool => text
            .parse()
            .map(Value::Bool)
            .map_err(|_| expected("true or false")),
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Bytes => decode_base64(text).ok_or_else(|| expected("base64")),
        Kind::Enum(descriptor) => descriptor
            .get_value_by_name(text)
            .map(|value| value.number())
            .or_else(|| text.parse().ok())
            .map(Value::EnumNumber)
            .ok_or_else(|| {
                let names: Vec<_> = descriptor
                    .values()
                    .map(|value| value.name().to_owned())
                    .collect();
                expected(&format!("one of {}", names.join(", ")))
            }),
        Kind::Message(descriptor) => parse_message(descriptor, text),
    }
}

fn parse_message(descriptor: &MessageDescriptor, text: &str) -> Result<Value, String> {
    let name = descriptor.full_name();
    if STRING_LIKE.contains(&name) {
        let text: serde::de::value::StrDeserializer<'_, ValueError> = text.into_deserializer();
        return DynamicMessage::deserialize(descriptor.clone(), text)
            .map(Value::Message)
            .map_err(|error| error.to_string());
    }
    let value = WRAPPERS
        .contains(&name)
        .then(|| descriptor.get_field_by_name("value"))
        .flatten()
        .ok_or_else(|| format!("a {name} cannot be written as one text"))?;
    let mut message = DynamicMessage::new(descriptor.clone());
    message.set_field(&value, parse_text(&value.kind(), text)?);
    Ok(Value::Message(message))
}

fn parse_float(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        text => text.parse().ok().filter(|number: &f64| number.is_finite()),
    }
}

fn decode_base64(text: &str) -> Option<Value> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let standard = GeneralPurpose::new(&base64::alphabet::STANDARD, CONFIG);
    let url_safe = GeneralPurpose::new(&base64::alphabet::URL_SAFE, CONFIG);
    let bytes = standard
        .decode(text)
        .or_else(|_| url_safe.decode(text))
        .ok()?;
    Some(Value::Bytes(bytes.into()))
}

/// The beginning of a text; an error message need not repeat a megabyte.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts_become_values_of_their_kind() {
        assert_eq!(parse_text(&Kind::Int32, "-7").unwrap(), Value::I32(-7));
        assert_eq!(
            parse_text(&Kind::Uint64, "18446744073709551615").unwrap(),
            Value::U64(u64::MAX)
        );
        assert_eq!(
            parse_text(&Kind::Double, "-Infinity").unwrap(),
            Value::F64(f64::NEG_INFINITY)
        );
        assert_eq!(
            parse_text(&Kind::Bytes, "_-8").unwrap(),
            Value::Bytes(vec![0xff, 0xef].into())
        );
        assert_eq!(
            parse_text(&Kind::Bytes, "/+8=").unwrap(),
            Value::Bytes(vec![0xff, 0xef].into())
        );
    }

    #[test]
    fn texts_of_another_kind_are_refused() {
        for (kind, text) in [
            (Kind::Int32, "2147483648"),
            (Kind::Int32, "1.5"),
            (Kind::Int32, ""),
            (Kind::Uint32, "-1"),
            (Kind::Double, "1e999"),
            (Kind::Double, "inf"),
            (Kind::Double, "nan"),
            (Kind::Float, "1e39"),
            (Kind::Bool, "yes"),
            (Kind::Bytes, "&"),
        ] {
            assert!(parse_text(&kind, text).is_err(), "{kind:?} {text}");
        }
    }
}
