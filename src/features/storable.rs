//! What no store can keep, whichever it is: refused alike by both, and by the sources, which know the place in the file.

use super::{EntityKey, ListValue, Value};

/// Text and bytes of all join keys of a row together. An index entry of PostgreSQL holds some 2,700 bytes; this leaves
/// room for the other join keys.
pub const KEY_BYTES_MAX: usize = 2_000;

/// Why a value cannot be stored; none where it can.
///
/// PostgreSQL has no text with a NUL character, and SQLite's own functions cut it off there.
pub fn value_fault(value: &Value) -> Option<&'static str> {
    let has_nul = match value {
        Value::String(text) => text.contains('\0'),
        Value::List(ListValue::String(texts)) => texts.iter().any(|text| text.contains('\0')),
        Value::Null
        | Value::Bool(_)
        | Value::Int32(_)
        | Value::Int64(_)
        | Value::Float(_)
        | Value::Double(_)
        | Value::Bytes(_)
        | Value::Timestamp(_)
        | Value::List(_) => false,
    };
    has_nul.then_some("text with a NUL character cannot be stored")
}

/// Why a key cannot be stored, with the position of its longest value; none where it can.
pub fn key_fault(key: &EntityKey) -> Option<(usize, String)> {
    let lengths = || key.values().iter().map(text_bytes);
    let total: usize = lengths().sum();
    if total <= KEY_BYTES_MAX {
        return None;
    }
    let longest = lengths().enumerate().max_by_key(|(_, length)| *length);
    let position = longest.map_or(0, |(position, _)| position);
    let sentence = format!(
        "the join keys hold {total} bytes of text and bytes together, and {KEY_BYTES_MAX} can be stored"
    );
    Some((position, sentence))
}

/// What text and bytes hold, bytes; other values count as nothing.
fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Null
        | Value::Bool(_)
        | Value::Int32(_)
        | Value::Int64(_)
        | Value::Float(_)
        | Value::Double(_)
        | Value::Timestamp(_)
        | Value::List(_) => 0,
    }
}
