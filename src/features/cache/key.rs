//! What a row is kept under, and what it weighs.

use std::{mem::size_of, sync::Arc, time::Instant};

use quick_cache::{Equivalent, Weighter};

use crate::features::{EntityKey, RowTime, StoredRow, Value};

/// What a row costs besides its values: keys, times, the cache's own bookkeeping.
pub(super) const ROW_BYTES: u64 = 160;

/// A view as it was defined at one time, and the key of an entity in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RowKey {
    pub(super) view: u64,
    pub(super) key: Box<[u8]>,
}

impl RowKey {
    pub(super) fn borrowed(&self) -> KeyRef<'_> {
        KeyRef {
            view: self.view,
            key: &self.key,
        }
    }
}

/// The same, to look for: it borrows the key's bytes, and hashes as `RowKey` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeyRef<'a> {
    pub(super) view: u64,
    pub(super) key: &'a [u8],
}

impl KeyRef<'_> {
    pub(super) fn to_owned(self) -> RowKey {
        RowKey {
            view: self.view,
            key: self.key.into(),
        }
    }
}

impl Equivalent<RowKey> for KeyRef<'_> {
    fn equivalent(&self, other: &RowKey) -> bool {
        self.view == other.view && *self.key == *other.key
    }
}

/// A row, or that there is none.
#[derive(Clone)]
pub(super) struct Cached {
    pub(super) row: Option<Arc<StoredRow>>,
    pub(super) read_at: Instant,
}

#[derive(Clone)]
pub(super) struct ByBytes;

impl Weighter<RowKey, Cached> for ByBytes {
    fn weight(&self, key: &RowKey, cached: &Cached) -> u64 {
        let bytes = cached.row.as_deref().map_or(0, row_length);
        ROW_BYTES + u64::try_from(key.key.len() + bytes).unwrap_or(u64::MAX / 2)
    }
}

fn row_length(row: &StoredRow) -> usize {
    let values: usize = row.values.iter().map(Value::heap_bytes).sum();
    let times = row.feature_times.as_ref().map_or(0, Vec::len);
    size_of_val(row.values.as_slice()) + values + times * size_of::<Option<RowTime>>()
}

/// Adds the bytes of a key: an encoding in which no two keys of a view are the same, and which servers that share a
/// database tell each other.
pub(crate) fn put_key(key: &EntityKey, bytes: &mut Vec<u8>) {
    for value in key.values() {
        match value {
            Value::Int32(value) => bytes.extend(i64::from(*value).to_le_bytes()),
            Value::Int64(value) => bytes.extend(value.to_le_bytes()),
            Value::String(text) => put_part(text.as_bytes(), bytes),
            Value::Bytes(value) => put_part(value, bytes),
            // No join key has another type.
            Value::Null
            | Value::Bool(_)
            | Value::Float(_)
            | Value::Double(_)
            | Value::Timestamp(_)
            | Value::List(_) => put_part(value.to_string().as_bytes(), bytes),
        }
    }
}

/// Bytes with their length in front: mostly one byte, of which the highest bit says that there is a further one.
pub(crate) fn put_part(part: &[u8], bytes: &mut Vec<u8>) {
    let mut length = part.len();
    while length >= 0x80 {
        bytes.push(0x80 | u8::try_from(length & 0x7f).unwrap_or_default());
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap_or_default());
    bytes.extend(part);
}

/// Takes bytes that `put_part` added from the front; none where they are not whole.
pub(crate) fn take_part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut length = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        length |= usize::from(first & 0x7f).checked_shl(shift)?;
        if first & 0x80 == 0 {
            let (part, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            return Some(part);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::hash::{BuildHasher, RandomState};

    use super::*;
    use crate::features::Timestamp;

    #[test]
    fn the_times_of_features_weigh_something() {
        let own = RowTime {
            event_timestamp: Timestamp::EPOCH,
            created_at: Timestamp::EPOCH,
        };
        let whole = StoredRow::whole(own, vec![Value::Null; 100]);
        let mut partial = whole.clone();
        partial.feature_times = Some(vec![None; 100]);
        let weight = |row: StoredRow| {
            let key = KeyRef { view: 0, key: &[] };
            let cached = Cached {
                row: Some(Arc::new(row)),
                read_at: Instant::now(),
            };
            ByBytes.weight(&key.to_owned(), &cached)
        };
        assert!(weight(partial) >= weight(whole) + 100 * 16);
    }

    #[test]
    fn a_key_is_found_by_its_bytes() {
        let found = KeyRef {
            view: 7,
            key: b"key",
        };
        let hasher = RandomState::new();
        assert_eq!(hasher.hash_one(found), hasher.hash_one(found.to_owned()));
        assert!(found.equivalent(&found.to_owned()));
    }

    #[test]
    fn parts_come_out_as_they_went_in() {
        let parts: Vec<Vec<u8>> = [0, 1, 127, 128, 20_000].map(|n| vec![7; n]).into();
        let mut bytes = Vec::new();
        for part in &parts {
            put_part(part, &mut bytes);
        }
        let mut rest = bytes.as_slice();
        for part in &parts {
            assert_eq!(take_part(&mut rest).unwrap(), part.as_slice());
        }
        assert!(rest.is_empty());
        let mut one = Vec::new();
        put_part(&[7; 200], &mut one);
        one.pop();
        assert_eq!(take_part(&mut one.as_slice()), None);
    }
}
