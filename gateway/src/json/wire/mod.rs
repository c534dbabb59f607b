//! Protobuf bytes to JSON, as they come: only messages of some types are held as objects, and those in which fields take turns.
//! The text is that of `write`; what it would never have come to, as a value that is said again, is not looked at.

mod plan;
mod record;
mod scalar;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use prost_reflect::DynamicMessage;
use serde::ser::{Error as _, SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};
use smallvec::SmallVec;

pub(crate) use self::plan::AnswerPlan;
use self::plan::{FieldKind, FieldPlan, Form, MessagePlan, Scalar, Shape};
use self::record::{Payload, Reading, take_packed, take_record};
use self::scalar::{bytes_of, key_text, serialize_scalar, zero};
use super::write::MessageJson;

/// As deep as protobuf decoders go.
const DEPTH_MAX: usize = 100;

/// How often a field may follow another, for each that there is: each is read from its first record to its last.
const TURNS_MAX: usize = 8;

/// Writes an encoded message.
///
/// # Errors
/// Bytes that are not what the plan says; a value that JSON cannot say, as a timestamp out of range.
pub(crate) fn write_wire(plan: &AnswerPlan, bytes: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let whole = WireJson {
        plan,
        place: 0,
        bytes,
        depth: 0,
    };
    // Names and quotation marks of a small one are about as much again.
    let mut json = Vec::with_capacity(bytes.len() + bytes.len() / 2 + 64);
    serde_json::to_writer(&mut json, &whole)?;
    Ok(json)
}

/// A message, still encoded.
#[derive(Clone, Copy)]
struct WireJson<'a> {
    plan: &'a AnswerPlan,
    /// Which message of the plan it is.
    place: usize,
    bytes: &'a [u8],
    depth: usize,
}

/// Where the records of a field are: how many, between which bytes.
#[derive(Clone, Copy, Default)]
struct Found {
    count: usize,
    first: usize,
    end: usize,
}

type AllFound = SmallVec<[Found; 16]>;

impl Serialize for WireJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = self.plan.message(self.place);
        let message = message.ok_or_else(|| S::Error::custom("a message without a plan"))?;
        if self.depth > DEPTH_MAX {
            return Err(S::Error::custom("the message is nested too deep"));
        }
        let found = match message.form {
            Form::Own => None,
            Form::Object | Form::OnlyField | Form::AnyField => {
                self.find(message).map_err(S::Error::custom)?
            }
        };
        let Some(found) = found else {
            return self.serialize_decoded(message, serializer);
        };
        let mut fields = message.fields.iter().zip(&found);
        match message.form {
            Form::AnyField => match fields.find(|(_, found)| found.count > 0) {
                Some((field, found)) => self.field(field, *found).serialize(serializer),
                None => serializer.serialize_none(),
            },
            Form::OnlyField => match fields.next() {
                Some((field, found)) => self.field(field, *found).serialize(serializer),
                None => Err(S::Error::custom("a well-known type without its field")),
            },
            Form::Object | Form::Own => {
                let mut map = serializer.serialize_map(None)?;
                for (field, found) in fields {
                    let is_left_out = matches!(field.shape, Shape::Optional | Shape::Map { .. });
                    if found.count > 0 || !is_left_out {
                        map.serialize_entry(&field.name, &self.field(field, *found))?;
                    }
                }
                map.end()
            }
        }
    }
}

impl<'a> WireJson<'a> {
    /// Where each field is; none where a oneof is said twice, of which the decoder knows what counts, or where fields take
    /// turns.
    fn find(&self, message: &MessagePlan) -> Reading<Option<AllFound>> {
        let mut found: AllFound = SmallVec::from_elem(Found::default(), message.fields.len());
        let mut oneofs_said: SmallVec<[usize; 4]> = SmallVec::new();
        let mut left = self.bytes;
        let (mut at, mut turns) = (0, 0);
        loop {
            let first = self.bytes.len() - left.len();
            let Some(record) = take_record(&mut left)? else {
                return Ok(Some(found));
            };
            let is_it = |field: &FieldPlan| field.number == record.number;
            // Mostly it is the field of the record before.
            if !message.fields.get(at).is_some_and(is_it) {
                turns += 1;
                if turns > TURNS_MAX * message.fields.len() {
                    return Ok(None);
                }
                let Some(known) = message.fields.iter().position(is_it) else {
                    continue;
                };
                at = known;
            }
            let (Some(field), Some(found)) = (message.fields.get(at), found.get_mut(at)) else {
                continue;
            };
            if let Some(oneof) = field.oneof {
                if oneofs_said.contains(&oneof) {
                    return Ok(None);
                }
                oneofs_said.push(oneof);
            }
            if found.count == 0 {
                found.first = first;
            }
            found.count += 1;
            found.end = self.bytes.len() - left.len();
        }
    }

    fn field(&self, field: &'a FieldPlan, found: Found) -> FieldJson<'a> {
        let bytes = self.bytes.get(found.first..found.end);
        FieldJson {
            message: *self,
            field,
            records: Records {
                left: bytes.unwrap_or_default(),
                number: field.number,
            },
        }
    }

    /// A message in this one.
    fn inner<'b>(&self, place: usize, bytes: &'b [u8]) -> WireJson<'b>
    where
        'a: 'b,
    {
        WireJson {
            place,
            bytes,
            depth: self.depth + 1,
            ..*self
        }
    }

    fn serialize_decoded<S: Serializer>(
        &self,
        message: &MessagePlan,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let decoded = DynamicMessage::decode(message.descriptor.clone(), self.bytes);
        MessageJson::new(&decoded.map_err(S::Error::custom)?).serialize(serializer)
    }
}

/// The records of one field, among others.
#[derive(Clone, Copy)]
struct Records<'a> {
    left: &'a [u8],
    number: u32,
}

impl<'a> Records<'a> {
    fn next(&mut self) -> Reading<Option<Payload<'a>>> {
        while let Some(record) = take_record(&mut self.left)? {
            if record.number == self.number {
                return Ok(Some(record.payload));
            }
        }
        Ok(None)
    }

    /// What is said last.
    fn last(mut self) -> Reading<Option<Payload<'a>>> {
        let mut last = None;
        while let Some(payload) = self.next()? {
            last = Some(payload);
        }
        Ok(last)
    }

    /// A message that comes in pieces is their concatenation.
    fn message(mut self) -> Reading<Cow<'a, [u8]>> {
        let mut whole = Cow::Borrowed(&[][..]);
        while let Some(payload) = self.next()? {
            let piece = bytes_of(payload)?;
            if whole.is_empty() {
                whole = Cow::Borrowed(piece);
            } else {
                whole.to_mut().extend_from_slice(piece);
            }
        }
        Ok(whole)
    }
}

/// All that is there of one field.
struct FieldJson<'a> {
    message: WireJson<'a>,
    field: &'a FieldPlan,
    records: Records<'a>,
}

impl Serialize for FieldJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (&self.field.shape, &self.field.kind) {
            (Shape::List, kind) => self.serialize_list(kind, serializer),
            (Shape::Map { key }, _) => self.serialize_entries(key, serializer),
            (Shape::Optional | Shape::Always, _) => self.only(self.records).serialize(serializer),
        }
    }
}

impl<'a> FieldJson<'a> {
    fn only(&self, records: Records<'a>) -> OnlyJson<'a> {
        OnlyJson {
            message: self.message,
            kind: &self.field.kind,
            records,
        }
    }

    fn one(&self, payload: Payload<'a>) -> OneJson<'a> {
        OneJson {
            message: self.message,
            kind: &self.field.kind,
            payload,
        }
    }

    fn serialize_list<S: Serializer>(
        &self,
        kind: &FieldKind,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let mut records = self.records;
        while let Some(payload) = records.next().map_err(S::Error::custom)? {
            let (FieldKind::Scalar(scalar), Payload::Bytes(packed)) = (kind, payload) else {
                list.serialize_element(&self.one(payload))?;
                continue;
            };
            if matches!(scalar, Scalar::String | Scalar::Bytes) {
                list.serialize_element(&self.one(payload))?;
                continue;
            }
            let mut left = packed;
            while let Some(one) = take_packed(scalar, &mut left).map_err(S::Error::custom)? {
                list.serialize_element(&self.one(one))?;
            }
        }
        list.end()
    }

    fn serialize_entries<S: Serializer>(
        &self,
        key: &Scalar,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut entries = self.entries(key).map_err(S::Error::custom)?;
        // Of equal keys the last counts: it comes first here, and the others go.
        entries.reverse();
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        entries.dedup_by(|one, before| one.0 == before.0);
        let mut map = serializer.serialize_map(Some(entries.len()))?;
        for (key, value) in entries {
            map.serialize_entry(&key, &self.only(value))?;
        }
        map.end()
    }

    /// Keys as texts, and where their values are.
    fn entries(&self, key: &Scalar) -> Reading<SmallVec<[Entry<'a>; 8]>> {
        let mut entries = SmallVec::new();
        let mut records = self.records;
        while let Some(payload) = records.next()? {
            let bytes = bytes_of(payload)?;
            let of = |number| Records {
                left: bytes,
                number,
            };
            let own = of(1).last()?.unwrap_or_else(|| zero(key));
            entries.push((key_text(key, own)?, of(2)));
        }
        Ok(entries)
    }
}

/// A key of a map, and the records of its value.
type Entry<'a> = (Cow<'a, str>, Records<'a>);

/// The only value of a field or an entry, however often it is said.
struct OnlyJson<'a> {
    message: WireJson<'a>,
    kind: &'a FieldKind,
    records: Records<'a>,
}

impl Serialize for OnlyJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.kind {
            FieldKind::Scalar(scalar) => {
                let last = self.records.last().map_err(S::Error::custom)?;
                serialize_scalar(scalar, last.unwrap_or_else(|| zero(scalar)), serializer)
            }
            FieldKind::Message(place) => {
                let bytes = self.records.message().map_err(S::Error::custom)?;
                self.message.inner(*place, &bytes).serialize(serializer)
            }
        }
    }
}

/// One of the values of a list.
struct OneJson<'a> {
    message: WireJson<'a>,
    kind: &'a FieldKind,
    payload: Payload<'a>,
}

impl Serialize for OneJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.kind {
            FieldKind::Scalar(scalar) => serialize_scalar(scalar, self.payload, serializer),
            FieldKind::Message(place) => {
                let bytes = bytes_of(self.payload).map_err(S::Error::custom)?;
                self.message.inner(*place, bytes).serialize(serializer)
            }
        }
    }
}
