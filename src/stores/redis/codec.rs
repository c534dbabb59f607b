//! A row as bytes: what it is, its schema's digest and both times, then the features' own times where they have any, then
//! the values.
//!
//! ```text
//! 0       1 a row, 0 the place of a row that was deleted
//! 1       1 where features have times of their own
//! 2..10   the schema's digest
//! 10..26  event_timestamp, created_at: microseconds since 1970, so that bytes compare as times do
//! then    a byte a feature, 0 the row's own time, 1 never written, 2 the two times that follow; only where 1 says so
//! then    a bit a feature, 1 null
//! then    the values that are not null; numbers little-endian, texts, bytes and lists with their length before them
//! ```
//!
//! The scripts in `guard` compare the first 26 bytes.

use crate::{
    catalog::{ScalarType, ValueType},
    features::{ListValue, RowTime, StoredRow, Timestamp, Value},
};

use super::schema::Schema;

const DELETED: u8 = 0;
const ROW: u8 = 1;

const OWN_TIME: u8 = 0;
const NEVER: u8 = 1;
const APART: u8 = 2;

/// The bytes of a row in the order of a schema.
pub(super) fn encode(schema: &Schema, row: &StoredRow) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + 9 * row.values.len());
    bytes.push(ROW);
    bytes.push(u8::from(!row.is_whole()));
    bytes.extend_from_slice(&schema.id);
    put_time(&mut bytes, row.time());
    if let Some(times) = &row.feature_times {
        for time in times {
            match time {
                None => bytes.push(NEVER),
                Some(time) if *time == row.time() => bytes.push(OWN_TIME),
                Some(time) => {
                    bytes.push(APART);
                    put_time(&mut bytes, *time);
                }
            }
        }
    }
    for eight in row.values.chunks(8) {
        let bits = eight.iter().enumerate();
        bytes.push(bits.fold(0, |byte, (bit, value)| {
            byte | (u8::from(value.is_null()) << bit)
        }));
    }
    for value in &row.values {
        put_value(&mut bytes, value);
    }
    bytes
}

/// What stands in the place of a row that was deleted; no two are the same.
pub(super) fn deleted() -> Vec<u8> {
    let mut bytes = vec![DELETED];
    bytes.extend_from_slice(uuid::Uuid::now_v7().as_bytes());
    bytes
}

/// Whether bytes stand in the place of a row that was deleted.
pub(super) fn is_deleted(bytes: &[u8]) -> bool {
    bytes.first() == Some(&DELETED)
}

/// The digest of the schema that a row was written in; none where it is no row.
pub(super) fn schema_id(bytes: &[u8]) -> Option<[u8; 8]> {
    if bytes.first() != Some(&ROW) {
        return None;
    }
    bytes.get(2..10)?.try_into().ok()
}

/// Reads a row of a schema; none where it is not one.
pub(super) fn decode(schema: &Schema, bytes: &[u8]) -> Option<StoredRow> {
    let mut reader = Reader { rest: bytes };
    let [kind, flags] = reader.array()?;
    let id: [u8; 8] = reader.array()?;
    if kind != ROW || flags > 1 || id != schema.id {
        return None;
    }
    let own = reader.time()?;
    let count = schema.columns().len();
    let feature_times = match flags {
        0 => None,
        _ => Some(reader.times(own, count)?),
    };
    let nulls = reader.take(count.div_ceil(8))?;
    let mut values = Vec::with_capacity(count);
    for (index, column) in schema.columns().iter().enumerate() {
        let is_null = nulls.get(index / 8)? >> (index % 8) & 1 == 1;
        values.push(match is_null {
            true => Value::Null,
            false => reader.value(column.value_type)?,
        });
    }
    reader.rest.is_empty().then_some(StoredRow {
        event_timestamp: own.event_timestamp,
        created_at: own.created_at,
        values,
        feature_times,
    })
}

fn put_time(bytes: &mut Vec<u8>, time: RowTime) {
    for timestamp in [time.event_timestamp, time.created_at] {
        // The sign's bit turned over, so that what was before 1970 sorts first.
        let ordered = timestamp.micros() ^ i64::MIN;
        bytes.extend_from_slice(&ordered.to_be_bytes());
    }
}

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    // A message holds less than 2^31 bytes (server.message_bytes_max).
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_le_bytes());
}

fn put_bytes(bytes: &mut Vec<u8>, content: &[u8]) {
    put_length(bytes, content.len());
    bytes.extend_from_slice(content);
}

fn put_value(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(value) => bytes.push(u8::from(*value)),
        Value::Int32(value) => bytes.extend_from_slice(&value.to_le_bytes()),
        Value::Int64(value) => bytes.extend_from_slice(&value.to_le_bytes()),
        Value::Float(value) => bytes.extend_from_slice(&value.to_bits().to_le_bytes()),
        Value::Double(value) => bytes.extend_from_slice(&value.to_bits().to_le_bytes()),
        Value::String(text) => put_bytes(bytes, text.as_bytes()),
        Value::Bytes(content) => put_bytes(bytes, content),
        Value::Timestamp(at) => bytes.extend_from_slice(&at.micros().to_le_bytes()),
        Value::List(list) => put_list(bytes, list),
    }
}

fn put_list(bytes: &mut Vec<u8>, list: &ListValue) {
    put_length(bytes, list.len());
    match list {
        ListValue::Bool(all) => bytes.extend(all.iter().map(|value| u8::from(*value))),
        ListValue::Int32(all) => bytes.extend(all.iter().flat_map(|value| value.to_le_bytes())),
        ListValue::Int64(all) => bytes.extend(all.iter().flat_map(|value| value.to_le_bytes())),
        ListValue::Float(all) => {
            bytes.extend(all.iter().flat_map(|value| value.to_bits().to_le_bytes()));
        }
        ListValue::Double(all) => {
            bytes.extend(all.iter().flat_map(|value| value.to_bits().to_le_bytes()));
        }
        ListValue::String(all) => all
            .iter()
            .for_each(|text| put_bytes(bytes, text.as_bytes())),
        ListValue::Bytes(all) => all.iter().for_each(|content| put_bytes(bytes, content)),
        ListValue::Timestamp(all) => {
            bytes.extend(all.iter().flat_map(|at| at.micros().to_le_bytes()));
        }
    }
}

/// Takes bytes from the front; every method gives none where there are too few or they make no sense.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<String> {
        std::str::from_utf8(self.bytes()?).ok().map(str::to_owned)
    }

    fn boolean(&mut self) -> Option<bool> {
        let [byte] = self.array()?;
        (byte <= 1).then_some(byte == 1)
    }

    fn timestamp(&mut self) -> Option<Timestamp> {
        Timestamp::from_micros(i64::from_le_bytes(self.array()?))
    }

    fn time(&mut self) -> Option<RowTime> {
        let mut ordered = || Timestamp::from_micros(i64::from_be_bytes(self.array()?) ^ i64::MIN);
        Some(RowTime {
            event_timestamp: ordered()?,
            created_at: ordered()?,
        })
    }

    fn times(&mut self, own: RowTime, count: usize) -> Option<Vec<Option<RowTime>>> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let [kind] = self.array()?;
            times.push(match kind {
                OWN_TIME => Some(own),
                NEVER => None,
                APART => Some(self.time()?),
                _ => return None,
            });
        }
        Some(times)
    }

    fn value(&mut self, value_type: ValueType) -> Option<Value> {
        Some(match value_type {
            ValueType::Bool => Value::Bool(self.boolean()?),
            ValueType::Int32 => Value::Int32(i32::from_le_bytes(self.array()?)),
            ValueType::Int64 => Value::Int64(i64::from_le_bytes(self.array()?)),
            ValueType::Float => Value::Float(f32::from_le_bytes(self.array()?)),
            ValueType::Double => Value::Double(f64::from_le_bytes(self.array()?)),
            ValueType::String => Value::String(std::str::from_utf8(self.bytes()?).ok()?.into()),
            ValueType::Bytes => Value::Bytes(self.bytes()?.to_vec()),
            ValueType::Timestamp => Value::Timestamp(self.timestamp()?),
            ValueType::List(element) => Value::List(self.list(element)?),
        })
    }

    fn list(&mut self, element: ScalarType) -> Option<ListValue> {
        let count = self.length()?;
        Some(match element {
            ScalarType::Bool => ListValue::Bool(self.all(count, Reader::boolean)?),
            ScalarType::Int32 => {
                ListValue::Int32(self.all(count, |r| r.array().map(i32::from_le_bytes))?)
            }
            ScalarType::Int64 => {
                ListValue::Int64(self.all(count, |r| r.array().map(i64::from_le_bytes))?)
            }
            ScalarType::Float => {
                ListValue::Float(self.all(count, |r| r.array().map(f32::from_le_bytes))?)
            }
            ScalarType::Double => {
                ListValue::Double(self.all(count, |r| r.array().map(f64::from_le_bytes))?)
            }
            ScalarType::String => ListValue::String(self.all(count, Reader::text)?),
            ScalarType::Bytes => {
                ListValue::Bytes(self.all(count, |r| r.bytes().map(<[u8]>::to_vec))?)
            }
            ScalarType::Timestamp => ListValue::Timestamp(self.all(count, Reader::timestamp)?),
        })
    }

    /// So many elements. What the bytes claim is not reserved before it is there.
    fn all<T>(
        &mut self,
        count: usize,
        mut next: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut all = Vec::with_capacity(count.min(self.rest.len()));
        for _ in 0..count {
            all.push(next(self)?);
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::wildcard_enum_match_arm
    )]
    use super::*;
    use crate::catalog::{Definitions, FeatureView};

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros).unwrap()
    }

    fn time(event: i64, created: i64) -> RowTime {
        RowTime {
            event_timestamp: at(event),
            created_at: at(created),
        }
    }

    /// A view with a feature of each type, and rows of it.
    fn every_type() -> (Schema, Vec<Vec<Value>>) {
        let features: Vec<String> = ValueType::all()
            .enumerate()
            .map(|(index, value_type)| format!(r#"{{ name = "f{index}", type = "{value_type}" }}"#))
            .collect();
        let text = format!(
            r#"
            project = "demo"
            [[entities]]
            name = "loan"
            join_keys = [{{ name = "loan_id", type = "string" }}]
            [[feature_views]]
            name = "applicant"
            entity = "loan"
            features = [{}]
            "#,
            features.join(",")
        );
        let definitions = Definitions::parse(&text).unwrap();
        let view: &FeatureView = definitions.views.first().unwrap();
        let quiet = f64::from_bits(0xfff8_0000_0000_0001);
        let full = vec![
            Value::Bool(true),
            Value::Int32(i32::MIN),
            Value::Int64(i64::MAX),
            Value::Float(f32::NEG_INFINITY),
            Value::Double(quiet),
            Value::String("héllo {}".into()),
            Value::Bytes(vec![0, 255, b'}']),
            Value::Timestamp(at(Timestamp::MICROS_MIN)),
            Value::List(ListValue::Bool(vec![true, false])),
            Value::List(ListValue::Int32(vec![i32::MAX, -1])),
            Value::List(ListValue::Int64(vec![i64::MIN])),
            Value::List(ListValue::Float(vec![-0.0, f32::NAN])),
            Value::List(ListValue::Double(vec![f64::MIN_POSITIVE, quiet])),
            Value::List(ListValue::String(vec![String::new(), "x".into()])),
            Value::List(ListValue::Bytes(vec![vec![], vec![0]])),
            Value::List(ListValue::Timestamp(vec![at(Timestamp::MICROS_MAX)])),
        ];
        let empty_lists = full.iter().map(|value| match value {
            Value::List(list) => Value::List(ListValue::empty(list.element_type())),
            _ => Value::Null,
        });
        let rows = vec![full.clone(), empty_lists.collect(), vec![Value::Null; 16]];
        (Schema::of(view).unwrap(), rows)
    }

    fn assert_same(a: &StoredRow, b: &StoredRow) {
        assert_eq!((a.time(), &a.feature_times), (b.time(), &b.feature_times));
        assert_eq!(a.values.len(), b.values.len());
        for (a, b) in a.values.iter().zip(&b.values) {
            assert!(a.is_same(b), "{a:?} {b:?}");
        }
    }

    #[test]
    fn every_type_reads_back_to_the_bit_whole_or_with_times() {
        let (schema, rows) = every_type();
        for values in rows {
            let whole = StoredRow::whole(time(-5, 7), values.clone());
            let back = decode(&schema, &encode(&schema, &whole)).unwrap();
            assert_same(&back, &whole);
            let cells = values.iter().enumerate();
            let cells = cells.map(|(index, value)| (index % 3 > 0).then(|| value.clone()));
            let mut mixed = StoredRow::partial(time(9, 1), cells.collect());
            assert_same(&decode(&schema, &encode(&schema, &mixed)).unwrap(), &mixed);
            mixed.merge(&whole);
            assert_same(&decode(&schema, &encode(&schema, &mixed)).unwrap(), &mixed);
        }
    }

    #[test]
    fn no_bytes_are_taken_for_a_row_that_they_are_not() {
        let (schema, rows) = every_type();
        let row = StoredRow::whole(time(1, 1), rows[0].clone());
        let bytes = encode(&schema, &row);
        for length in 0..bytes.len() {
            assert_eq!(decode(&schema, &bytes[..length]), None);
        }
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 0xff;
            // Either nothing or some row, and never a panic.
            let _ = decode(&schema, &changed);
        }
        assert_eq!(decode(&schema, &deleted()), None);
        assert_eq!(schema_id(&deleted()), None);
        assert!(is_deleted(&deleted()) && !is_deleted(&bytes));
    }

    #[test]
    fn bytes_of_times_compare_as_times_do() {
        let moments = [
            Timestamp::MICROS_MIN,
            -1,
            0,
            1,
            1 << 53,
            (1 << 53) + 1,
            Timestamp::MICROS_MAX,
        ];
        let mut times: Vec<RowTime> = Vec::new();
        for event in moments {
            times.extend(moments.map(|created| time(event, created)));
        }
        let bytes = |time: &RowTime| {
            let mut bytes = Vec::new();
            put_time(&mut bytes, *time);
            bytes
        };
        assert!(times.is_sorted());
        assert!(times.iter().map(bytes).is_sorted());
    }
}
