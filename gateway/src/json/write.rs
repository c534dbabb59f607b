//! Protobuf to JSON.
//!
//! Scalars are always written, also at their default; lists too (`[]`); empty maps and unset messages, optionals and
//! oneofs are left out. Whole numbers have no decimal point. Map keys are sorted, so the same answer is the same text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage as _, Value};
use serde::ser::{Error as _, SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};

/// Writes a message that is held as a whole; `wire` is held against it.
///
/// # Errors
/// A value that JSON cannot say, as a timestamp out of range.
#[cfg(test)]
pub(crate) fn write_message(message: &DynamicMessage) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&MessageJson::new(message))
}

/// Writes one field's value.
///
/// # Errors
/// As [`write_message`].
pub(crate) fn write_field(
    message: &DynamicMessage,
    field: &FieldDescriptor,
) -> Result<Vec<u8>, serde_json::Error> {
    let value = message.get_field(field);
    let kind = field.kind();
    serde_json::to_vec(&ValueJson {
        value: value.as_ref(),
        kind: &kind,
        anys: 0,
    })
}

/// A message as a JSON value.
///
/// # Errors
/// As [`write_message`].
pub(crate) fn to_json_value(
    message: &DynamicMessage,
) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::to_value(MessageJson::new(message))
}

/// Messages of Any in one another that are decoded; those within are as ones of an unknown type.
const ANYS_MAX: usize = 32;

pub(super) struct MessageJson<'a> {
    message: &'a DynamicMessage,
    /// How many Anys it is in.
    anys: usize,
}

impl<'a> MessageJson<'a> {
    pub(super) fn new(message: &'a DynamicMessage) -> Self {
        MessageJson { message, anys: 0 }
    }
}

impl Serialize for MessageJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let descriptor = self.message.descriptor();
        match descriptor.full_name() {
            "google.protobuf.Value" => serialize_value(self, serializer),
            "google.protobuf.Struct" | "google.protobuf.ListValue" => {
                serialize_only_field(self, serializer)
            }
            "google.protobuf.DoubleValue" | "google.protobuf.FloatValue" => {
                serialize_only_field(self, serializer)
            }
            "google.protobuf.Any" => serialize_any(self, serializer),
            "google.protobuf.Timestamp"
            | "google.protobuf.Duration"
            | "google.protobuf.FieldMask"
            | "google.protobuf.Empty"
            | "google.protobuf.Int64Value"
            | "google.protobuf.UInt64Value"
            | "google.protobuf.Int32Value"
            | "google.protobuf.UInt32Value"
            | "google.protobuf.BoolValue"
            | "google.protobuf.StringValue"
            | "google.protobuf.BytesValue" => self.message.serialize(serializer),
            _ => {
                let mut map = serializer.serialize_map(None)?;
                serialize_fields(self, &mut map)?;
                map.end()
            }
        }
    }
}

fn serialize_fields<M: serde::ser::SerializeMap>(
    json: &MessageJson<'_>,
    map: &mut M,
) -> Result<(), M::Error> {
    let message = json.message;
    for field in message.descriptor().fields() {
        let is_written =
            message.has_field(&field) || !(field.is_map() || field.supports_presence());
        if !is_written {
            continue;
        }
        let value = message.get_field(&field);
        let kind = field.kind();
        map.serialize_entry(
            field.json_name(),
            &ValueJson {
                value: value.as_ref(),
                kind: &kind,
                anys: json.anys,
            },
        )?;
    }
    Ok(())
}

/// A Struct, a ListValue or a wrapper is its one field.
fn serialize_only_field<S: Serializer>(
    json: &MessageJson<'_>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let message = json.message;
    let field = message
        .descriptor()
        .get_field(1)
        .ok_or_else(|| S::Error::custom("a well-known type without its field"))?;
    let value = message.get_field(&field);
    ValueJson {
        value: value.as_ref(),
        kind: &field.kind(),
        anys: json.anys,
    }
    .serialize(serializer)
}

/// A google.protobuf.Value is whichever of its fields is set.
fn serialize_value<S: Serializer>(
    json: &MessageJson<'_>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match json.message.fields().next() {
        Some((field, value)) => ValueJson {
            value,
            kind: &field.kind(),
            anys: json.anys,
        }
        .serialize(serializer),
        None => serializer.serialize_none(),
    }
}

/// An Any of a known type is its message with "@type"; of an unknown one, its bytes in base64.
fn serialize_any<S: Serializer>(json: &MessageJson<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    let (message, anys) = (json.message, json.anys + 1);
    let url = message.get_field_by_number(1);
    let url = url
        .as_ref()
        .and_then(|value| value.as_str())
        .unwrap_or_default();
    let bytes = message.get_field_by_number(2);
    let bytes = bytes
        .as_ref()
        .and_then(|value| value.as_bytes())
        .cloned()
        .unwrap_or_default();
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("@type", url)?;
    let known = url
        .rsplit('/')
        .next()
        .filter(|_| anys <= ANYS_MAX)
        .and_then(|name| message.descriptor().parent_pool().get_message_by_name(name))
        .and_then(|descriptor| DynamicMessage::decode(descriptor, bytes.clone()).ok());
    let known = known.as_ref().map(|message| MessageJson { message, anys });
    match known {
        Some(inner) if inner.message.descriptor().package_name() == "google.protobuf" => {
            map.serialize_entry("value", &inner)?;
        }
        Some(inner) => serialize_fields(&inner, &mut map)?,
        None => map.serialize_entry("value", &STANDARD.encode(&bytes))?,
    }
    map.end()
}

struct ValueJson<'a> {
    value: &'a Value,
    kind: &'a Kind,
    anys: usize,
}

impl Serialize for ValueJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I32(value) => serializer.serialize_i32(*value),
            Value::U32(value) => serializer.serialize_u32(*value),
            Value::I64(value) => serializer.collect_str(value),
            Value::U64(value) => serializer.collect_str(value),
            Value::F32(value) => serialize_f32(*value, serializer),
            Value::F64(value) => serialize_f64(*value, serializer),
            Value::String(value) => serializer.serialize_str(value),
            Value::Bytes(value) => serializer.serialize_str(&STANDARD.encode(value)),
            Value::EnumNumber(number) => serialize_enum(*number, self.kind, serializer),
            Value::Message(message) => MessageJson {
                message,
                anys: self.anys,
            }
            .serialize(serializer),
            Value::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(&ValueJson {
                        value,
                        kind: self.kind,
                        anys: self.anys,
                    })?;
                }
                list.end()
            }
            Value::Map(entries) => {
                let kind = match self.kind.as_message() {
                    Some(entry) if entry.is_map_entry() => entry.map_entry_value_field().kind(),
                    _ => return Err(S::Error::custom("a map without an entry type")),
                };
                let mut sorted: Vec<(String, &Value)> = entries
                    .iter()
                    .map(|(key, value)| (key_text(key), value))
                    .collect();
                sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
                let mut map = serializer.serialize_map(Some(sorted.len()))?;
                for (key, value) in sorted {
                    let anys = self.anys;
                    map.serialize_entry(
                        &key,
                        &ValueJson {
                            value,
                            kind: &kind,
                            anys,
                        },
                    )?;
                }
                map.end()
            }
        }
    }
}

fn serialize_enum<S: Serializer>(
    number: i32,
    kind: &Kind,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match kind.as_enum() {
        Some(descriptor) if descriptor.full_name() == "google.protobuf.NullValue" => {
            serializer.serialize_none()
        }
        Some(descriptor) => match descriptor.get_value(number) {
            Some(value) => serializer.serialize_str(value.name()),
            None => serializer.serialize_i32(number),
        },
        None => serializer.serialize_i32(number),
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(value) => value.to_string(),
        MapKey::I32(value) => value.to_string(),
        MapKey::I64(value) => value.to_string(),
        MapKey::U32(value) => value.to_string(),
        MapKey::U64(value) => value.to_string(),
        MapKey::String(value) => value.clone(),
    }
}

/// The largest whole number up to which every whole number is exact in an f64, 2^53.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

pub(super) fn serialize_f64<S: Serializer>(value: f64, serializer: S) -> Result<S::Ok, S::Error> {
    if let Some(name) = not_finite(value) {
        return serializer.serialize_str(name);
    }
    match whole(value) {
        Some(whole) => serializer.serialize_i64(whole),
        None => serializer.serialize_f64(value),
    }
}

pub(super) fn serialize_f32<S: Serializer>(value: f32, serializer: S) -> Result<S::Ok, S::Error> {
    if let Some(name) = not_finite(f64::from(value)) {
        return serializer.serialize_str(name);
    }
    match whole(f64::from(value)).filter(|_| value.abs() <= 16_777_216.0) {
        Some(whole) => serializer.serialize_i64(whole),
        // As an f32: its shortest text is 0.1, an f64's would be 0.10000000149011612.
        None => serializer.serialize_f32(value),
    }
}

fn not_finite(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        return Some("NaN");
    }
    value
        .is_infinite()
        .then_some(if value > 0.0 { "Infinity" } else { "-Infinity" })
}

/// The number as an integer where it is one, and not the negative zero.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is whole and within 2^53"
)]
fn whole(value: f64) -> Option<i64> {
    let is_whole = value.fract() == 0.0
        && value.abs() <= WHOLE_MAX
        && !(value == 0.0 && value.is_sign_negative());
    is_whole.then_some(value as i64)
}
