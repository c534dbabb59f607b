//! The exact part of a prediction, in bytes: inputs, how they came about, outputs.
//!
//! The first byte names the form. In form 1 there follow, without gaps, all numbers little-endian:
//!
//! | what | form |
//! |---|---|
//! | flags | a byte: 1, the inputs are stored features; 2, the outputs are 64-bit |
//! | which inputs are missing | a bit each, the first is the lowest of the first byte |
//! | each input that is not missing | by its version's type: float 4 bytes, double 8, int64 a varint of its zigzag, bool 1, string a varint of its length and UTF-8 |
//! | of stored features: the status of each input | two bits each |
//! | of stored features: the time of each input | a varint: 0 for none, else one more than the zigzag of the microseconds since the one before, the first since the prediction's own time |
//! | violations | a varint of their number, then a varint of the input and a byte each |
//! | outputs | a varint of their number, then 4 or 8 bytes each |
//! | score | 8 bytes |
//! | label | a varint: 0 for none, else one more than its position |
//!
//! The names and types of inputs, and the classes, are those of the version. With 22 inputs of stored features, 5 of
//! them texts, a record takes 160 bytes; with the other columns and the index a prediction takes 330 bytes in PostgreSQL.

use crate::{
    error::{Error, Result},
    features::{FeatureStatus, Timestamp, Value},
    inference::{
        LedgerEntry, Output, RecordedValue, RecordedVersion, RecordedViolation, TensorType,
        ViolationKind,
    },
};

const FORM: u8 = 1;
const OF_FEATURES: u8 = 1;
const OF_DOUBLES: u8 = 2;
const DEFAULTED: u8 = 0x80;

/// What the bytes hold of a prediction.
pub(super) struct Record {
    pub(super) values: Vec<RecordedValue>,
    pub(super) violations: Vec<RecordedViolation>,
    pub(super) outputs: Output,
    pub(super) score: f64,
    pub(super) label: Option<usize>,
}

/// The bytes of a prediction.
///
/// # Errors
/// `Internal` where a value is not of the type that the version says, or only some have a status.
pub(super) fn encode(entry: &LedgerEntry) -> Result<Vec<u8>> {
    let unfit = || Error::internal("a prediction that does not fit its version");
    let values = &entry.values;
    if values.len() != entry.version.inputs.len() {
        return Err(unfit());
    }
    let statuses: Vec<FeatureStatus> = values.iter().filter_map(|value| value.status).collect();
    let is_of_features = !statuses.is_empty();
    if is_of_features && statuses.len() != values.len() {
        return Err(unfit());
    }
    let is_of_doubles = matches!(entry.outputs, Output::Double(_));
    let mut out = Vec::with_capacity(32 + values.len() * 8);
    out.push(FORM);
    out.push(u8::from(is_of_features) * OF_FEATURES + u8::from(is_of_doubles) * OF_DOUBLES);
    put_packed(
        &mut out,
        1,
        values.iter().map(|value| u8::from(value.value.is_null())),
    );
    for (value, input) in values.iter().zip(&entry.version.inputs) {
        put_value(&mut out, &value.value, input.tensor_type).ok_or_else(unfit)?;
    }
    if is_of_features {
        put_packed(&mut out, 2, statuses.into_iter().map(status_bits));
        put_times(&mut out, entry.at, values);
    }
    put_varint(&mut out, entry.violations.len());
    for violation in &entry.violations {
        put_varint(&mut out, violation.input);
        out.push(kind_bits(violation.kind) | (u8::from(violation.is_defaulted) * DEFAULTED));
    }
    put_varint(&mut out, entry.outputs.len());
    match &entry.outputs {
        Output::Float(numbers) => numbers.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Output::Double(numbers) => numbers.iter().for_each(|n| out.extend(n.to_le_bytes())),
    }
    out.extend(entry.score.to_le_bytes());
    put_varint(&mut out, entry.label.map_or(0, |at| at + 1));
    Ok(out)
}

/// What bytes hold. `at` is the prediction's own time.
///
/// # Errors
/// A sentence.
pub(super) fn decode(
    bytes: &[u8],
    version: &RecordedVersion,
    at: Timestamp,
) -> std::result::Result<Record, String> {
    match bytes.first() {
        Some(&FORM) => {}
        Some(other) => return Err(format!("its record is of the form {other}")),
        None => return Err("its record is empty".to_owned()),
    }
    read(bytes, version, at)
        .ok_or_else(|| "its record breaks off, or does not fit its version".to_owned())
}

fn read(bytes: &[u8], version: &RecordedVersion, at: Timestamp) -> Option<Record> {
    let mut rest = Rest(bytes);
    rest.byte()?;
    let flags = rest.byte()?;
    let count = version.inputs.len();
    let missing = rest.packed(1, count)?;
    let mut values = Vec::with_capacity(count);
    for (input, is_missing) in version.inputs.iter().zip(missing) {
        let value = match is_missing {
            0 => rest.value(input.tensor_type)?,
            _ => Value::Null,
        };
        values.push(RecordedValue {
            value,
            status: None,
            event_timestamp: None,
        });
    }
    if flags & OF_FEATURES != 0 {
        let statuses = rest.packed(2, count)?;
        for (value, bits) in values.iter_mut().zip(statuses) {
            value.status = Some(status_of(bits));
        }
        rest.times(at, &mut values)?;
    }
    let violations = (0..rest.varint()?)
        .map(|_| {
            let input = rest.varint().filter(|input| *input < count)?;
            let bits = rest.byte()?;
            Some(RecordedViolation {
                input,
                kind: kind_of(bits & !DEFAULTED)?,
                is_defaulted: bits & DEFAULTED != 0,
            })
        })
        .collect::<Option<_>>()?;
    let numbers = rest.varint()?;
    let outputs = if flags & OF_DOUBLES == 0 {
        let all = (0..numbers).map(|_| rest.array().map(f32::from_le_bytes));
        Output::Float(all.collect::<Option<_>>()?)
    } else {
        let all = (0..numbers).map(|_| rest.array().map(f64::from_le_bytes));
        Output::Double(all.collect::<Option<_>>()?)
    };
    let score = f64::from_le_bytes(rest.array()?);
    let label = rest.varint()?.checked_sub(1);
    rest.0.is_empty().then_some(Record {
        values,
        violations,
        outputs,
        score,
        label,
    })
}

fn put_value(out: &mut Vec<u8>, value: &Value, tensor_type: TensorType) -> Option<()> {
    match (tensor_type, value) {
        (_, Value::Null) => {}
        (TensorType::Float, Value::Float(number)) => out.extend(number.to_le_bytes()),
        (TensorType::Double, Value::Double(number)) => out.extend(number.to_le_bytes()),
        (TensorType::Int64, Value::Int64(number)) => put_long(out, zigzag(*number)),
        (TensorType::Bool, Value::Bool(value)) => out.push(u8::from(*value)),
        (TensorType::String, Value::String(text)) => {
            put_varint(out, text.len());
            out.extend(text.as_bytes());
        }
        (
            TensorType::Float
            | TensorType::Double
            | TensorType::Int64
            | TensorType::Bool
            | TensorType::String,
            _,
        ) => return None,
    }
    Some(())
}

/// Small numbers, so many bits each.
fn put_packed(out: &mut Vec<u8>, bits: u32, numbers: impl Iterator<Item = u8>) {
    let (mut byte, mut filled) = (0, 0);
    for number in numbers {
        byte |= number << filled;
        filled += bits;
        if filled == u8::BITS {
            out.push(byte);
            (byte, filled) = (0, 0);
        }
    }
    if filled > 0 {
        out.push(byte);
    }
}

fn put_times(out: &mut Vec<u8>, at: Timestamp, values: &[RecordedValue]) {
    let mut before = at.micros();
    for value in values {
        let Some(time) = value.event_timestamp else {
            out.push(0);
            continue;
        };
        // Both are within the years 1 to 9999, far from the ends of their types.
        put_long(out, zigzag(time.micros() - before) + 1);
        before = time.micros();
    }
}

fn put_varint(out: &mut Vec<u8>, number: usize) {
    put_long(out, u64::try_from(number).unwrap_or(u64::MAX));
}

fn put_long(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

fn status_bits(status: FeatureStatus) -> u8 {
    match status {
        FeatureStatus::Present => 0,
        FeatureStatus::Null => 1,
        FeatureStatus::NotFound => 2,
        FeatureStatus::OutsideTtl => 3,
    }
}

fn status_of(bits: u8) -> FeatureStatus {
    match bits {
        0 => FeatureStatus::Present,
        1 => FeatureStatus::Null,
        2 => FeatureStatus::NotFound,
        _ => FeatureStatus::OutsideTtl,
    }
}

fn kind_bits(kind: ViolationKind) -> u8 {
    match kind {
        ViolationKind::Missing => 0,
        ViolationKind::TooOld => 1,
        ViolationKind::OutOfRange => 2,
        ViolationKind::UnknownCategory => 3,
    }
}

fn kind_of(bits: u8) -> Option<ViolationKind> {
    match bits {
        0 => Some(ViolationKind::Missing),
        1 => Some(ViolationKind::TooOld),
        2 => Some(ViolationKind::OutOfRange),
        3 => Some(ViolationKind::UnknownCategory),
        _ => None,
    }
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        self.bytes(COUNT)?.try_into().ok()
    }

    fn long(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn varint(&mut self) -> Option<usize> {
        self.long().and_then(|number| usize::try_from(number).ok())
    }

    fn packed(&mut self, bits: u32, count: usize) -> Option<Vec<u8>> {
        let per_byte = usize::try_from(u8::BITS / bits).ok()?;
        let bytes = self.bytes(count.div_ceil(per_byte))?;
        let numbers = bytes.iter().flat_map(|byte| {
            let shifts = (0..u8::BITS).step_by(usize::try_from(bits).unwrap_or(1));
            shifts.map(move |shift| (byte >> shift) & ((1 << bits) - 1))
        });
        Some(numbers.take(count).collect())
    }

    fn value(&mut self, tensor_type: TensorType) -> Option<Value> {
        Some(match tensor_type {
            TensorType::Float => Value::Float(f32::from_le_bytes(self.array()?)),
            TensorType::Double => Value::Double(f64::from_le_bytes(self.array()?)),
            TensorType::Int64 => Value::Int64(unzigzag(self.long()?)),
            TensorType::Bool => Value::Bool(self.byte()? != 0),
            TensorType::String => {
                let length = self.varint()?;
                let text = std::str::from_utf8(self.bytes(length)?).ok()?;
                Value::String(text.into())
            }
        })
    }

    fn times(&mut self, at: Timestamp, values: &mut [RecordedValue]) -> Option<()> {
        let mut before = at.micros();
        for value in values {
            let Some(since) = self.long()?.checked_sub(1) else {
                continue;
            };
            before = before.checked_add(unzigzag(since))?;
            value.event_timestamp = Some(Timestamp::from_micros(before)?);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::inference::{RecordedInput, Role};

    fn entry() -> LedgerEntry {
        let types = [
            TensorType::Float,
            TensorType::Double,
            TensorType::Int64,
            TensorType::Bool,
            TensorType::String,
        ];
        let inputs = types.iter().map(|tensor_type| RecordedInput {
            name: format!("{tensor_type:?}"),
            tensor_type: *tensor_type,
            feature: String::new(),
            categories: Vec::new(),
        });
        let version = RecordedVersion {
            key: uuid::Uuid::nil(),
            model: "m".into(),
            version: "1".into(),
            digest: "00".into(),
            inputs: inputs.collect(),
            classes: vec!["a".into(), "b".into()],
        };
        let values = [
            Value::Float(0.1),
            Value::Null,
            Value::Int64(-300),
            Value::Bool(true),
            Value::String("text".into()),
        ];
        let values = values.into_iter().map(|value| RecordedValue {
            value,
            status: Some(FeatureStatus::OutsideTtl),
            event_timestamp: Some(Timestamp::EPOCH),
        });
        LedgerEntry {
            id: uuid::Uuid::now_v7(),
            at: Timestamp::now(),
            version: Arc::new(version),
            role: Role::Answer,
            entity: Vec::new(),
            values: values.collect(),
            violations: vec![RecordedViolation {
                input: 4,
                kind: ViolationKind::UnknownCategory,
                is_defaulted: true,
            }],
            outputs: Output::Double(vec![0.25, 0.75]),
            score: 0.75,
            label: Some(1),
            latency: Duration::ZERO,
        }
    }

    #[test]
    fn bytes_that_broke_off_or_were_changed_are_refused_or_read_and_never_more() {
        let entry = entry();
        let bytes = encode(&entry).unwrap();
        let read = |bytes: &[u8]| decode(bytes, &entry.version, entry.at);
        assert_eq!(read(&bytes).unwrap().values, entry.values);
        for end in 0..bytes.len() {
            assert!(read(bytes.get(..end).unwrap()).is_err(), "{end}");
        }
        assert!(read(&[bytes.clone(), vec![0]].concat()).is_err());
        for place in 0..bytes.len() {
            for byte in 0..=u8::MAX {
                let mut changed = bytes.clone();
                *changed.get_mut(place).unwrap() = byte;
                drop(read(&changed));
            }
        }
    }

    #[test]
    fn what_does_not_fit_its_version_is_not_encoded() {
        let mut other = entry();
        other.values.swap(0, 4);
        assert!(encode(&other).is_err());
        let mut fewer = entry();
        fewer.values.pop();
        assert!(encode(&fewer).is_err());
        let mut half = entry();
        half.values.first_mut().unwrap().status = None;
        assert!(encode(&half).is_err());
    }
}
