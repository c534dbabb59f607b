//! Protobuf bytes to JSON, one message at a time: what is held as objects is never more than one message without the
//! messages in it. The text is that of `write`.

use std::collections::BTreeMap;

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor};
use serde::ser::{Error as _, SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};

use super::write::{MessageJson, serialize_field};

/// As deep as protobuf decoders go.
const DEPTH_MAX: usize = 100;

/// Writes an encoded message.
///
/// # Errors
/// Bytes that are not what the descriptor says; a value that JSON cannot say, as a timestamp out of range.
pub(crate) fn write_wire(
    descriptor: &MessageDescriptor,
    bytes: &[u8],
) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&WireJson {
        descriptor,
        bytes,
        depth: 0,
    })
}

struct WireJson<'a> {
    descriptor: &'a MessageDescriptor,
    bytes: &'a [u8],
    depth: usize,
}

/// A message taken apart: the messages in it by field number, and the rest, still encoded.
#[derive(Default)]
struct Parts<'a> {
    messages: BTreeMap<u32, Vec<&'a [u8]>>,
    rest: Vec<u8>,
}

impl Serialize for WireJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.depth > DEPTH_MAX {
            return Err(S::Error::custom("the message is nested too deep"));
        }
        let decode = |bytes: &[u8]| {
            DynamicMessage::decode(self.descriptor.clone(), bytes).map_err(S::Error::custom)
        };
        // Those have forms of their own in JSON, and are small.
        if self.descriptor.full_name().starts_with("google.protobuf.") {
            return MessageJson(&decode(self.bytes)?).serialize(serializer);
        }
        let parts = self.take_apart().map_err(S::Error::custom)?;
        let rest = decode(&parts.rest)?;
        let mut map = serializer.serialize_map(None)?;
        for field in self.descriptor.fields() {
            let kind = field.kind();
            let Some(descriptor) = kind.as_message().filter(|_| is_apart(&field)) else {
                serialize_field(&rest, &field, &mut map)?;
                continue;
            };
            let elements = parts.messages.get(&field.number());
            let depth = self.depth + 1;
            if field.is_list() {
                let elements = elements.map(Vec::as_slice).unwrap_or_default();
                let list = ListJson {
                    descriptor,
                    elements,
                    depth,
                };
                map.serialize_entry(field.json_name(), &list)?;
            } else if let Some(elements) = elements {
                // A message that comes in pieces is their concatenation.
                let bytes = &elements.concat();
                let message = WireJson {
                    descriptor,
                    bytes,
                    depth,
                };
                map.serialize_entry(field.json_name(), &message)?;
            }
        }
        map.end()
    }
}

impl WireJson<'_> {
    fn take_apart(&self) -> Result<Parts<'_>, prost::DecodeError> {
        let mut parts = Parts::default();
        let mut left = self.bytes;
        while !left.is_empty() {
            let whole = left;
            let (number, wire_type) = decode_key(&mut left)?;
            let behind_key = left;
            skip_field(wire_type, number, &mut left, DecodeContext::default())?;
            let field = self.descriptor.get_field(number);
            if wire_type == WireType::LengthDelimited && field.as_ref().is_some_and(is_apart) {
                let mut element = used(behind_key, left);
                decode_varint(&mut element)?;
                parts.messages.entry(number).or_default().push(element);
            } else {
                parts.rest.extend_from_slice(used(whole, left));
            }
        }
        Ok(parts)
    }
}

/// What was read between two states of a buffer.
fn used<'a>(before: &'a [u8], after: &[u8]) -> &'a [u8] {
    let count = before.len().saturating_sub(after.len());
    before.get(..count).unwrap_or_default()
}

/// Whether a field's messages are written one by one. Of a oneof only the last member counts, which the decoder knows.
fn is_apart(field: &FieldDescriptor) -> bool {
    field.kind().as_message().is_some()
        && !field.is_map()
        && !field.is_group()
        && field.containing_oneof().is_none()
}

struct ListJson<'a> {
    descriptor: &'a MessageDescriptor,
    elements: &'a [&'a [u8]],
    depth: usize,
}

impl Serialize for ListJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.elements.len()))?;
        for bytes in self.elements {
            list.serialize_element(&WireJson {
                descriptor: self.descriptor,
                bytes,
                depth: self.depth,
            })?;
        }
        list.end()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use prost::Message as _;
    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::json::{read_message, write_message};

    fn pool() -> DescriptorPool {
        let mut compiler = protox::Compiler::new(["tests/proto", "../proto"]).unwrap();
        compiler
            .include_imports(true)
            .open_file("shop.proto")
            .unwrap();
        DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap()
    }

    /// Every message of the test's protos, empty and with each field that JSON can fill.
    #[test]
    fn the_text_is_that_of_the_whole_message() {
        let pool = pool();
        let mut compared = 0;
        for descriptor in pool.all_messages() {
            if descriptor.is_map_entry() {
                continue;
            }
            for json in samples(&descriptor) {
                let Ok(message) = read_message(descriptor.clone(), json.as_bytes(), 30) else {
                    continue;
                };
                let bytes = message.encode_to_vec();
                let message = DynamicMessage::decode(descriptor.clone(), &bytes[..]).unwrap();
                let whole = write_message(&message).ok();
                let by_parts = write_wire(&descriptor, &bytes).ok();
                assert_eq!(
                    whole.map(|text| String::from_utf8(text).unwrap()),
                    by_parts.map(|text| String::from_utf8(text).unwrap()),
                    "{} {json}",
                    descriptor.full_name()
                );
                compared += 1;
            }
        }
        assert!(compared > 20, "{compared}");
    }

    /// Bodies for a message: empty, and each field alone as one of some usual values.
    fn samples(descriptor: &MessageDescriptor) -> Vec<String> {
        let values = [
            "1",
            "1.5",
            "true",
            "\"x\"",
            "\"2016-01-04T00:00:00Z\"",
            "\"1.5s\"",
            "null",
            "{}",
            "[]",
            "[{}, {}]",
            "[1, 2]",
            "[\"x\"]",
            "{\"a\": 1}",
            "{\"a\": {\"b\": [1, null]}}",
            "[[1], \"x\", null]",
        ];
        let fields = descriptor.fields().flat_map(|field| {
            values.map(|value| format!("{{\"{}\": {value}}}", field.json_name()))
        });
        ["{}".to_owned()].into_iter().chain(fields).collect()
    }

    #[test]
    fn bytes_that_are_no_message_are_a_fault() {
        for descriptor in pool().all_messages().filter(|each| !each.is_map_entry()) {
            for bytes in [
                &b"\x0a\xff\xff\xff\xff\x0f"[..],
                b"\x0a\x05ab",
                b"\xff",
                b"\x0b",
            ] {
                assert!(
                    write_wire(&descriptor, bytes).is_err(),
                    "{} {bytes:?}",
                    descriptor.full_name()
                );
            }
        }
    }
}
