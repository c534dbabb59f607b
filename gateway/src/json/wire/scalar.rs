//! Single values of protobuf bytes.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::encoding::WireType;
use serde::Serializer;
use serde::ser::Error as _;

use super::super::write::{serialize_f32, serialize_f64};
use super::plan::Scalar;
use super::record::{Payload, Reading};

pub(super) fn bytes_of(payload: Payload<'_>) -> Reading<&[u8]> {
    match payload {
        Payload::Bytes(bytes) => Ok(bytes),
        Payload::Varint(_) | Payload::Fixed32(_) | Payload::Fixed64(_) | Payload::Group => {
            Err(of_another_type())
        }
    }
}

fn text_of(bytes: &[u8]) -> Reading<&str> {
    std::str::from_utf8(bytes).map_err(|_| "a text that is not UTF-8".to_owned())
}

fn of_another_type() -> String {
    "a field is of another type than the descriptors say".to_owned()
}

/// A scalar's default, as it would be on the wire.
pub(super) fn zero(scalar: &Scalar) -> Payload<'static> {
    match (scalar, scalar.wire_type()) {
        (Scalar::Enum(known), _) => Payload::Varint(i64::from(known.default).cast_unsigned()),
        (_, WireType::SixtyFourBit) => Payload::Fixed64(0),
        (_, WireType::ThirtyTwoBit) => Payload::Fixed32(0),
        (_, WireType::LengthDelimited) => Payload::Bytes(&[]),
        (_, WireType::Varint | WireType::StartGroup | WireType::EndGroup) => Payload::Varint(0),
    }
}

/// A number as protobuf carries it.
enum Number {
    Signed(i64),
    Unsigned(u64),
}

/// A whole number; none for what is no such.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "as protobuf says: of a 32-bit number the lower bits count"
)]
fn whole_of(scalar: &Scalar, payload: Payload<'_>) -> Option<Number> {
    Some(match (scalar, payload) {
        (Scalar::Int32 | Scalar::Enum(_), Payload::Varint(bits)) => {
            Number::Signed(i64::from(bits as i32))
        }
        (Scalar::Int64, Payload::Varint(bits)) | (Scalar::Sfixed64, Payload::Fixed64(bits)) => {
            Number::Signed(bits as i64)
        }
        (Scalar::Uint32, Payload::Varint(bits)) => Number::Unsigned(u64::from(bits as u32)),
        (Scalar::Uint64, Payload::Varint(bits)) | (Scalar::Fixed64, Payload::Fixed64(bits)) => {
            Number::Unsigned(bits)
        }
        (Scalar::Sint32, Payload::Varint(bits)) => {
            let bits = bits as u32;
            Number::Signed(i64::from((bits >> 1) as i32 ^ -((bits & 1) as i32)))
        }
        (Scalar::Sint64, Payload::Varint(bits)) => {
            Number::Signed((bits >> 1) as i64 ^ -((bits & 1) as i64))
        }
        (Scalar::Fixed32, Payload::Fixed32(bits)) => Number::Unsigned(u64::from(bits)),
        (Scalar::Sfixed32, Payload::Fixed32(bits)) => Number::Signed(i64::from(bits as i32)),
        _ => return None,
    })
}

pub(super) fn serialize_scalar<S: Serializer>(
    scalar: &Scalar,
    payload: Payload<'_>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match (scalar, payload) {
        (Scalar::Double, Payload::Fixed64(bits)) => serialize_f64(f64::from_bits(bits), serializer),
        (Scalar::Float, Payload::Fixed32(bits)) => serialize_f32(f32::from_bits(bits), serializer),
        (Scalar::Bool, Payload::Varint(bits)) => serializer.serialize_bool(bits != 0),
        (Scalar::Null, Payload::Varint(_)) => serializer.serialize_none(),
        (Scalar::String, Payload::Bytes(bytes)) => {
            serializer.serialize_str(text_of(bytes).map_err(S::Error::custom)?)
        }
        (Scalar::Bytes, Payload::Bytes(bytes)) => serializer.serialize_str(&STANDARD.encode(bytes)),
        _ => match whole_of(scalar, payload) {
            Some(number) => serialize_whole(scalar, &number, serializer),
            None => Err(S::Error::custom(of_another_type())),
        },
    }
}

/// A number of 64 bits is a text in JSON; one of an enum is its name, where it has one.
fn serialize_whole<S: Serializer>(
    scalar: &Scalar,
    number: &Number,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let is_text = matches!(
        scalar,
        Scalar::Int64 | Scalar::Uint64 | Scalar::Sint64 | Scalar::Fixed64 | Scalar::Sfixed64
    );
    match (scalar, number) {
        (Scalar::Enum(known), Number::Signed(number)) => {
            let name = i32::try_from(*number).ok();
            match name.and_then(|number| known.names.get(&number)) {
                Some(name) => serializer.serialize_str(name),
                None => serializer.serialize_i64(*number),
            }
        }
        (_, Number::Signed(number)) if is_text => serializer.collect_str(number),
        (_, Number::Unsigned(number)) if is_text => serializer.collect_str(number),
        (_, Number::Signed(number)) => serializer.serialize_i64(*number),
        (_, Number::Unsigned(number)) => serializer.serialize_u64(*number),
    }
}

pub(super) fn key_text<'a>(key: &Scalar, payload: Payload<'a>) -> Reading<Cow<'a, str>> {
    match (key, payload) {
        (Scalar::String, Payload::Bytes(bytes)) => Ok(Cow::Borrowed(text_of(bytes)?)),
        (Scalar::Bool, Payload::Varint(bits)) => Ok(Cow::Owned((bits != 0).to_string())),
        _ => match whole_of(key, payload) {
            Some(Number::Signed(number)) => Ok(Cow::Owned(number.to_string())),
            Some(Number::Unsigned(number)) => Ok(Cow::Owned(number.to_string())),
            None => Err(of_another_type()),
        },
    }
}
