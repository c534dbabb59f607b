//! The names of our keys in Redis.
//!
//! A row stands under `<prefix>:<view>:{<entity>}`. Redis Cluster places a key by what stands in its first braces, so all
//! views of an entity live on one node. The prefix has no brace and no colon, a view's name neither.

use crate::features::{EntityKey, Value};

/// Keys that together say that Redis holds all rows; one in each of as many equal parts of a cluster's slots, so that a
/// node which lost its data has lost one of them.
pub(super) const MARKERS: u16 = 64;

/// The slots of a Redis Cluster.
pub(super) const SLOTS: u16 = 16_384;

/// Names our keys.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    /// Names with a prefix.
    pub(super) fn new(prefix: &str) -> Keys {
        Keys {
            prefix: prefix.to_owned(),
        }
    }

    /// The key of an entity's row in a view.
    pub(super) fn row(&self, view: &str, entity: &EntityKey) -> String {
        format!("{}:{view}:{{{}}}", self.prefix, tag(entity))
    }

    /// The key under which a schema is told.
    pub(super) fn schema(&self, id: [u8; 8]) -> String {
        format!("{}:schema:{}", self.prefix, hex::encode(id))
    }

    /// The keys that say that all rows are there.
    pub(super) fn filled(&self) -> Vec<String> {
        self.spread("filled")
    }

    /// The keys that say that a refill has been going on without a loss.
    pub(super) fn filling(&self) -> Vec<String> {
        self.spread("filling")
    }

    /// The key of the loads whose rows a view's database has and Redis perhaps not.
    pub(super) fn owing(&self, view: &str) -> String {
        format!("{}:owing:{view}", self.prefix)
    }

    fn spread(&self, name: &str) -> Vec<String> {
        let tags = spread_tags().into_iter();
        tags.map(|tag| format!("{}:{name}:{{{tag}}}", self.prefix))
            .collect()
    }

    /// A pattern for SCAN that matches all keys of ours, and perhaps some of others.
    pub(super) fn pattern(&self) -> String {
        format!("{}:*", self.prefix)
    }

    /// The view whose row stands under a key; none where it is no row of ours.
    pub(super) fn view_of<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        let key = std::str::from_utf8(key).ok()?;
        let rest = key.strip_prefix(&self.prefix)?.strip_prefix(':')?;
        let (view, entity) = rest.split_once(":{")?;
        let is_row = entity.starts_with(['i', 's', 'b']) && entity.ends_with('}');
        (is_row && !view.contains([':', '{'])).then_some(view)
    }

    /// Whether a schema is told under a key.
    pub(super) fn is_schema(&self, key: &[u8]) -> bool {
        let start = format!("{}:schema:", self.prefix);
        key.strip_prefix(start.as_bytes())
            .is_some_and(|id| id.len() == 16 && id.iter().all(u8::is_ascii_hexdigit))
    }
}

/// An entity's key as text without a brace; no two keys of a view have the same.
fn tag(entity: &EntityKey) -> String {
    let mut tag = String::new();
    for (position, value) in entity.values().iter().enumerate() {
        if position > 0 {
            tag.push(',');
        }
        match value {
            Value::Int32(value) => tag.push_str(&format!("i{value}")),
            Value::Int64(value) => tag.push_str(&format!("i{value}")),
            Value::String(text) => {
                tag.push('s');
                escape(text, &mut tag);
            }
            Value::Bytes(bytes) => {
                tag.push('b');
                tag.push_str(&hex::encode(bytes));
            }
            // Not of a type that a join key can have; `check_keys` refuses them.
            Value::Null
            | Value::Bool(_)
            | Value::Float(_)
            | Value::Double(_)
            | Value::Timestamp(_)
            | Value::List(_) => tag.push('?'),
        }
    }
    tag
}

fn escape(text: &str, tag: &mut String) {
    for character in text.chars() {
        if character.is_control() || matches!(character, '{' | '}' | ',' | '%') {
            tag.push_str(&format!("%{:x};", u32::from(character)));
        } else {
            tag.push(character);
        }
    }
}

/// The smallest numbers, as text, whose slots fall into each part of the slots.
fn spread_tags() -> Vec<u32> {
    let part = SLOTS / MARKERS;
    let mut tags: Vec<Option<u32>> = vec![None; usize::from(MARKERS)];
    // Numbers spread over the slots evenly enough that all parts have one long before the end.
    for number in 0..100_000_u32 {
        let index = usize::from(slot(number.to_string().as_bytes()) / part);
        if let Some(tag) = tags.get_mut(index) {
            tag.get_or_insert(number);
        }
        if tags.iter().all(Option::is_some) {
            break;
        }
    }
    tags.into_iter().flatten().collect()
}

/// The slot of a key of ours, which is that of what stands in its braces.
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    slot(tag.map_or(key, |(tag, _)| tag).as_bytes())
}

/// The slot of a hash tag: CRC16 as Redis Cluster defines it.
fn slot(tag: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for byte in tag {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            let carries = crc & 0x8000 != 0;
            crc <<= 1;
            if carries {
                crc ^= 0x1021;
            }
        }
    }
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    fn key(values: &[Value]) -> EntityKey {
        EntityKey::new(values.to_vec()).unwrap()
    }

    fn text(text: &str) -> Value {
        Value::String(text.into())
    }

    #[test]
    fn keys_are_apart_whatever_they_hold() {
        let composite = [
            [text("a,b"), text("c")],
            [text("a"), text("b,c")],
            [text("a"), text("b%2c;c")],
            [text("a%2c;b"), text("c")],
            [text("}{"), text("")],
            [text(""), text("}{")],
            [text("i1"), Value::Int64(1)],
            [Value::Int64(1), text("i1")],
            [Value::Bytes(vec![0, 0x7d]), text("\0")],
            [text("\0"), Value::Bytes(vec![0, 0x7d])],
        ];
        let keys = Keys::new("p");
        let rows: BTreeSet<String> = composite
            .iter()
            .map(|values| keys.row("v", &key(values)))
            .collect();
        assert_eq!(rows.len(), composite.len());
        for row in &rows {
            assert_eq!(row.matches(['{', '}']).count(), 2, "{row}");
            assert_eq!(keys.view_of(row.as_bytes()), Some("v"));
        }
    }

    #[test]
    fn only_rows_are_taken_for_rows() {
        let keys = Keys::new("p");
        for other in [
            "p:filled:{12}",
            "p:schema:00",
            "p:owing:v",
            "q:v:{i1}",
            "p:v",
            "p:a:b:{i1}",
        ] {
            assert_eq!(keys.view_of(other.as_bytes()), None, "{other}");
        }
        assert!(keys.is_schema(keys.schema([1; 8]).as_bytes()));
        assert!(!keys.is_schema(b"p:schema:{i1}"));
    }

    #[test]
    fn every_part_of_the_slots_has_a_marker() {
        // The example of the Redis Cluster specification.
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot_of("p:v:{123456789}"), slot_of("p:w:{123456789}"));
        assert_eq!(slot_of("p:v:{123456789}"), 0x31c3);
        let parts: BTreeSet<u16> = spread_tags()
            .iter()
            .map(|tag| slot(tag.to_string().as_bytes()) / (SLOTS / MARKERS))
            .collect();
        assert_eq!(parts.len(), usize::from(MARKERS));
    }
}
