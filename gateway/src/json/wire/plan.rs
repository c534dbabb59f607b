//! What the messages of an answer are made of, looked up once when the routes are made.

use std::collections::HashMap;

use prost::encoding::WireType;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

/// A message and all that may be in it.
#[derive(Debug)]
pub(crate) struct AnswerPlan {
    /// The first is the whole.
    messages: Vec<MessagePlan>,
}

/// One type of message.
#[derive(Debug)]
pub(super) struct MessagePlan {
    pub(super) descriptor: MessageDescriptor,
    pub(super) form: Form,
    /// In the order in which they are written.
    pub(super) fields: Vec<FieldPlan>,
}

/// How a message looks in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An object of its fields.
    Object,
    /// Its only field: a Struct, a ListValue.
    OnlyField,
    /// Whichever field is set: a Value.
    AnyField,
    /// As `write` writes it once it is decoded: other well-known types, and what has groups.
    Own,
}

/// One field.
#[derive(Debug)]
pub(super) struct FieldPlan {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) shape: Shape,
    pub(super) kind: FieldKind,
    /// The oneof of which it is one of several members.
    pub(super) oneof: Option<usize>,
}

#[derive(Debug)]
pub(super) enum Shape {
    /// Left out where it is not there.
    Optional,
    /// Written as its default where it is not there.
    Always,
    List,
    Map {
        key: Scalar,
    },
}

#[derive(Debug)]
pub(super) enum FieldKind {
    Scalar(Scalar),
    /// A message, by its place in the plan.
    Message(usize),
}

#[derive(Debug)]
pub(super) enum Scalar {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Enum(EnumPlan),
    /// google.protobuf.NullValue.
    Null,
}

impl Scalar {
    /// How it is on the wire, where it is not packed with others.
    pub(super) fn wire_type(&self) -> WireType {
        match self {
            Scalar::Double | Scalar::Fixed64 | Scalar::Sfixed64 => WireType::SixtyFourBit,
            Scalar::Float | Scalar::Fixed32 | Scalar::Sfixed32 => WireType::ThirtyTwoBit,
            Scalar::String | Scalar::Bytes => WireType::LengthDelimited,
            Scalar::Int32
            | Scalar::Int64
            | Scalar::Uint32
            | Scalar::Uint64
            | Scalar::Sint32
            | Scalar::Sint64
            | Scalar::Bool
            | Scalar::Enum(_)
            | Scalar::Null => WireType::Varint,
        }
    }
}

/// An enum.
#[derive(Debug)]
pub(super) struct EnumPlan {
    /// What is meant where nothing is said.
    pub(super) default: i32,
    pub(super) names: HashMap<i32, String>,
}

impl AnswerPlan {
    /// Looks up a message and all that may be in it.
    pub(crate) fn new(descriptor: &MessageDescriptor) -> Self {
        let mut plan = AnswerPlan {
            messages: Vec::new(),
        };
        plan.add(descriptor);
        plan
    }

    pub(super) fn message(&self, place: usize) -> Option<&MessagePlan> {
        self.messages.get(place)
    }

    /// The place of a message, which is looked up where it is new.
    fn add(&mut self, descriptor: &MessageDescriptor) -> usize {
        let is_it = |known: &MessagePlan| known.descriptor == *descriptor;
        if let Some(place) = self.messages.iter().position(is_it) {
            return place;
        }
        let (place, form) = (self.messages.len(), form(descriptor));
        self.messages.push(MessagePlan {
            descriptor: descriptor.clone(),
            form,
            fields: Vec::new(),
        });
        if form == Form::Own {
            return place;
        }
        let fields = descriptor.fields().map(|field| self.field(&field));
        let fields = fields.collect();
        if let Some(message) = self.messages.get_mut(place) {
            message.fields = fields;
        }
        place
    }

    fn field(&mut self, field: &FieldDescriptor) -> FieldPlan {
        let mut kind = field.kind();
        let mut shape = if field.is_list() {
            Shape::List
        } else if field.supports_presence() {
            Shape::Optional
        } else {
            Shape::Always
        };
        if let (true, Some(entry)) = (field.is_map(), kind.as_message().cloned()) {
            kind = entry.map_entry_value_field().kind();
            let key = scalar(&entry.map_entry_key_field().kind());
            shape = Shape::Map {
                key: key.unwrap_or(Scalar::String),
            };
        }
        FieldPlan {
            number: field.number(),
            name: field.json_name().to_owned(),
            shape,
            kind: match (scalar(&kind), kind.as_message()) {
                (None, Some(message)) => FieldKind::Message(self.add(message)),
                (found, _) => FieldKind::Scalar(found.unwrap_or(Scalar::Bytes)),
            },
            oneof: oneof_of_several(field),
        }
    }
}

fn form(descriptor: &MessageDescriptor) -> Form {
    match descriptor.full_name() {
        "google.protobuf.Struct" | "google.protobuf.ListValue" => Form::OnlyField,
        "google.protobuf.Value" => Form::AnyField,
        name if name.starts_with("google.protobuf.") => Form::Own,
        _ if descriptor.fields().any(|field| field.is_group()) => Form::Own,
        _ => Form::Object,
    }
}

fn oneof_of_several(field: &FieldDescriptor) -> Option<usize> {
    let oneof = field.containing_oneof()?;
    if oneof.fields().count() < 2 {
        return None;
    }
    let mut all = field.parent_message().oneofs();
    all.position(|other| other == oneof)
}

/// None for a message.
fn scalar(kind: &Kind) -> Option<Scalar> {
    Some(match kind {
        Kind::Double => Scalar::Double,
        Kind::Float => Scalar::Float,
        Kind::Int32 => Scalar::Int32,
        Kind::Int64 => Scalar::Int64,
        Kind::Uint32 => Scalar::Uint32,
        Kind::Uint64 => Scalar::Uint64,
        Kind::Sint32 => Scalar::Sint32,
        Kind::Sint64 => Scalar::Sint64,
        Kind::Fixed32 => Scalar::Fixed32,
        Kind::Fixed64 => Scalar::Fixed64,
        Kind::Sfixed32 => Scalar::Sfixed32,
        Kind::Sfixed64 => Scalar::Sfixed64,
        Kind::Bool => Scalar::Bool,
        Kind::String => Scalar::String,
        Kind::Bytes => Scalar::Bytes,
        Kind::Enum(known) if known.full_name() == "google.protobuf.NullValue" => Scalar::Null,
        Kind::Enum(known) => Scalar::Enum(enum_plan(known)),
        Kind::Message(_) => return None,
    })
}

fn enum_plan(descriptor: &EnumDescriptor) -> EnumPlan {
    let numbers = descriptor.values().map(|value| value.number());
    let named = numbers.filter_map(|number| {
        let value = descriptor.get_value(number)?;
        Some((number, value.name().to_owned()))
    });
    EnumPlan {
        default: descriptor.default_value().number(),
        names: named.collect(),
    }
}
