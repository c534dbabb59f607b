//! The text of what is read from the wire against that of the same message held as a whole.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

use super::*;
use crate::json::{read_message, write_message};

fn pool() -> DescriptorPool {
    let mut compiler = protox::Compiler::new(["tests/proto", "../proto"]).unwrap();
    compiler
        .include_imports(true)
        .open_files(["shop.proto", "kinds.proto"])
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
            let by_parts = write_wire(&AnswerPlan::new(&descriptor), &bytes).ok();
            assert_eq!(
                whole.map(|text| String::from_utf8(text).unwrap()),
                by_parts.map(|text| String::from_utf8(text).unwrap()),
                "{} {json}",
                descriptor.full_name()
            );
            compared += 1;
        }
    }
    assert!(compared > 500, "{compared}");
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
    let fields = descriptor
        .fields()
        .flat_map(|field| values.map(|value| format!("{{\"{}\": {value}}}", field.json_name())));
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
                write_wire(&AnswerPlan::new(&descriptor), bytes).is_err(),
                "{} {bytes:?}",
                descriptor.full_name()
            );
        }
    }
}

/// Bytes of chance that are mostly a message, as no encoder writes it: fields in any order, more than once, packed or not,
/// entries without a key.
fn bytes_of_chance(
    descriptor: &MessageDescriptor,
    depth: usize,
    random: &mut fastrand::Rng,
) -> Vec<u8> {
    let fields: Vec<FieldDescriptor> = descriptor.fields().collect();
    let mut bytes = Vec::new();
    for _ in 0..random.usize(..8) {
        let Some(field) = random.choice(&fields) else {
            break;
        };
        let number = if random.u8(..50) == 0 {
            random.u32(1..300)
        } else {
            field.number()
        };
        let is_text = matches!(field.kind(), Kind::String | Kind::Bytes | Kind::Message(_));
        let is_packed = field.is_list() && !is_text && random.bool();
        let count = if is_packed { random.usize(..4) } else { 1 };
        let mut value = Vec::new();
        let mut wire_type = WireType::LengthDelimited;
        for _ in 0..count {
            wire_type = put_chance(&field.kind(), depth, random, &mut value);
        }
        if is_packed {
            wire_type = WireType::LengthDelimited;
        }
        if field.is_group() {
            encode_key(number, WireType::StartGroup, &mut bytes);
            bytes.extend(value);
            encode_key(number, WireType::EndGroup, &mut bytes);
            continue;
        }
        encode_key(number, wire_type, &mut bytes);
        if wire_type == WireType::LengthDelimited {
            encode_varint(value.len() as u64, &mut bytes);
        }
        bytes.extend(value);
    }
    bytes
}

fn put_chance(
    kind: &Kind,
    depth: usize,
    random: &mut fastrand::Rng,
    bytes: &mut Vec<u8>,
) -> WireType {
    let number = match random.u8(..4) {
        0 => random.u64(..),
        1 => u64::MAX - random.u64(..3),
        _ => random.u64(..4),
    };
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => {
            let bits = if random.bool() {
                random.f64().to_bits()
            } else {
                number
            };
            bytes.extend(bits.to_le_bytes());
            WireType::SixtyFourBit
        }
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => {
            let bits = if random.bool() {
                random.f32().to_bits()
            } else {
                random.u32(..)
            };
            bytes.extend(bits.to_le_bytes());
            WireType::ThirtyTwoBit
        }
        Kind::String | Kind::Bytes => {
            bytes.extend(["", "a", "b", "\"\u{1f}ä"][random.usize(..4)].as_bytes());
            WireType::LengthDelimited
        }
        Kind::Message(inner) => {
            if depth < 5 {
                bytes.extend(bytes_of_chance(inner, depth + 1, random));
            }
            WireType::LengthDelimited
        }
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Bool
        | Kind::Enum(_) => {
            encode_varint(number, bytes);
            WireType::Varint
        }
    }
}

#[test]
fn what_no_encoder_writes_has_the_text_of_the_whole_message_too() {
    let mut random = fastrand::Rng::with_seed(5);
    let (mut compared, mut long) = (0, 0);
    for descriptor in pool().all_messages().filter(|each| !each.is_map_entry()) {
        let plan = AnswerPlan::new(&descriptor);
        for _ in 0..300 {
            let bytes = bytes_of_chance(&descriptor, 0, &mut random);
            let Ok(message) = DynamicMessage::decode(descriptor.clone(), &bytes[..]) else {
                continue;
            };
            let Ok(whole) = write_message(&message) else {
                assert!(write_wire(&plan, &bytes).is_err(), "{bytes:02x?}");
                continue;
            };
            let by_parts = write_wire(&plan, &bytes).unwrap();
            assert_eq!(
                String::from_utf8(by_parts).unwrap(),
                String::from_utf8(whole).unwrap(),
                "{} {bytes:02x?}",
                descriptor.full_name()
            );
            compared += 1;
            long += usize::from(bytes.len() > 20);
        }
    }
    assert!(compared > 5_000 && long > 2_000, "{compared} {long}");
}

/// A message in a message, so many times.
fn nested(levels: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..levels {
        let mut outer = Vec::new();
        encode_key(32, WireType::LengthDelimited, &mut outer);
        encode_varint(bytes.len() as u64, &mut outer);
        outer.extend(bytes);
        bytes = outer;
    }
    bytes
}

#[test]
fn messages_are_in_one_another_as_deep_as_decoders_go() {
    let kinds = pool().get_message_by_name("kinds.v1.Kinds").unwrap();
    let plan = AnswerPlan::new(&kinds);
    for (levels, is_written) in [(100, true), (101, false)] {
        let bytes = nested(levels);
        assert_eq!(write_wire(&plan, &bytes).is_ok(), is_written, "{levels}");
        let decoded = DynamicMessage::decode(kinds.clone(), &bytes[..]);
        assert_eq!(decoded.is_ok(), is_written, "{levels}");
    }
}

#[test]
fn fields_that_take_turns_are_written_as_all_are() {
    let kinds = pool().get_message_by_name("kinds.v1.Kinds").unwrap();
    let turn = [
        [0x72, 0x04, 0, 0, 0, 0x40].as_slice(),
        &[0x80, 0x01, 0x02],
        &[0x88, 0x01, 0x01],
    ]
    .concat();
    let bytes = turn.repeat(10_000);
    let message = DynamicMessage::decode(kinds.clone(), &bytes[..]).unwrap();
    let by_parts = write_wire(&AnswerPlan::new(&kinds), &bytes).unwrap();
    assert_eq!(by_parts, write_message(&message).unwrap());
}

#[test]
fn anys_in_one_another_are_written_however_many() {
    let any = pool().get_message_by_name("google.protobuf.Any").unwrap();
    let url = b"type.googleapis.com/google.protobuf.Any";
    let mut bytes = Vec::new();
    for _ in 0..5_000 {
        let mut outer = Vec::new();
        for (number, part) in [(1, &url[..]), (2, &bytes)] {
            encode_key(number, WireType::LengthDelimited, &mut outer);
            encode_varint(part.len() as u64, &mut outer);
            outer.extend(part);
        }
        bytes = outer;
    }
    let json = write_wire(&AnswerPlan::new(&any), &bytes).unwrap();
    let json = String::from_utf8(json).unwrap();
    assert_eq!(json.matches("@type").count(), 33);
}
