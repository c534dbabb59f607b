//! Protobuf bytes, record by record.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::plan::Scalar;

/// Why bytes are no message.
pub(super) type Reading<T> = Result<T, String>;

/// A field's number and what is there for it.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) number: u32,
    pub(super) payload: Payload<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
    /// Text, bytes, a message, packed numbers.
    Bytes(&'a [u8]),
    /// What proto2 had; a message that has one by itself is not read here.
    Group,
}

/// Takes the next record from the front; none at the end.
pub(super) fn take_record<'a>(left: &mut &'a [u8]) -> Reading<Option<Record<'a>>> {
    if left.is_empty() {
        return Ok(None);
    }
    let (number, wire_type) = decode_key(left).map_err(|fault| fault.to_string())?;
    let payload = match wire_type {
        WireType::LengthDelimited => Payload::Bytes(take_bytes(left)?),
        WireType::StartGroup | WireType::EndGroup => {
            skip_field(wire_type, number, left, DecodeContext::default())
                .map_err(|fault| fault.to_string())?;
            Payload::Group
        }
        WireType::Varint | WireType::ThirtyTwoBit | WireType::SixtyFourBit => {
            take_number(wire_type, left)?.ok_or_else(cut_short)?
        }
    };
    Ok(Some(Record { number, payload }))
}

/// Takes the next of packed numbers from the front; none at the end, or where such are never packed.
pub(super) fn take_packed<'a>(
    scalar: &Scalar,
    left: &mut &'a [u8],
) -> Reading<Option<Payload<'a>>> {
    if left.is_empty() {
        return Ok(None);
    }
    take_number(scalar.wire_type(), left)
}

/// Takes a number from the front; none for what is no number.
fn take_number<'a>(wire_type: WireType, left: &mut &'a [u8]) -> Reading<Option<Payload<'a>>> {
    Ok(match wire_type {
        WireType::Varint => Some(Payload::Varint(take_varint(left)?)),
        WireType::ThirtyTwoBit => Some(Payload::Fixed32(u32::from_le_bytes(take_array(left)?))),
        WireType::SixtyFourBit => Some(Payload::Fixed64(u64::from_le_bytes(take_array(left)?))),
        WireType::LengthDelimited | WireType::StartGroup | WireType::EndGroup => None,
    })
}

fn take_varint(left: &mut &[u8]) -> Reading<u64> {
    decode_varint(left).map_err(|fault| fault.to_string())
}

fn take_array<const N: usize>(left: &mut &[u8]) -> Reading<[u8; N]> {
    let (array, rest) = left.split_first_chunk().ok_or_else(cut_short)?;
    *left = rest;
    Ok(*array)
}

fn take_bytes<'a>(left: &mut &'a [u8]) -> Reading<&'a [u8]> {
    let length = usize::try_from(take_varint(left)?).unwrap_or(usize::MAX);
    let (bytes, rest) = left.split_at_checked(length).ok_or_else(cut_short)?;
    *left = rest;
    Ok(bytes)
}

fn cut_short() -> String {
    "the message is cut short".to_owned()
}
