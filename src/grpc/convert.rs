//! Between the generated types and the domain's: values, rows, timestamps, types.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use prost_types::{Struct, Value as WireValue, value::Kind};

use super::pb;
use crate::{
    catalog::{ScalarType, ValueType},
    error::{Error, Result},
    features::{
        EXACT_WHOLE_MAX, FeatureStatus, ListValue, RawFields, RawRow, RawValue, Timestamp, Value,
        WriteCounts, float_name, widen,
    },
};

/// Objects as the domain reads them.
pub(super) fn raw_rows(rows: Vec<Struct>) -> Vec<RawRow> {
    rows.into_iter().map(raw_row).collect()
}

/// An object as the domain reads it.
pub(super) fn raw_row(row: Struct) -> RawRow {
    // Collected, the list would have room for nearly twice as many.
    let mut fields = RawFields::with_capacity(row.fields.len());
    let all = row.fields.into_iter();
    fields.extend(all.map(|(name, value)| (name, raw_value(value))));
    RawRow { fields }
}

fn raw_value(value: WireValue) -> RawValue {
    match value.kind {
        None | Some(Kind::NullValue(_)) => RawValue::Null,
        Some(Kind::BoolValue(value)) => RawValue::Bool(value),
        Some(Kind::NumberValue(value)) => RawValue::Number(value),
        Some(Kind::StringValue(value)) => RawValue::Text(value),
        Some(Kind::ListValue(list)) => {
            RawValue::List(list.values.into_iter().map(raw_value).collect())
        }
        Some(Kind::StructValue(_)) => RawValue::Object,
    }
}

/// A value as JSON would write it: an int64 beyond 2^53 and a float that is no number become strings, as in the JSON
/// mapping of protobuf.
pub(super) fn wire_value(value: Value) -> WireValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Int32(value) => Kind::NumberValue(f64::from(value)),
        Value::Int64(value) => int64_kind(value),
        Value::Float(value) => double_kind(widen(value)),
        Value::Double(value) => double_kind(value),
        Value::String(value) => Kind::StringValue(value.into()),
        Value::Bytes(value) => Kind::StringValue(BASE64.encode(value)),
        Value::Timestamp(value) => Kind::StringValue(value.to_string()),
        Value::List(list) => Kind::ListValue(prost_types::ListValue {
            values: wire_elements(list),
        }),
    };
    WireValue { kind: Some(kind) }
}

fn wire_elements(list: ListValue) -> Vec<WireValue> {
    fn all<T>(values: Vec<T>, value: impl Fn(T) -> Value) -> Vec<WireValue> {
        let values = values.into_iter().map(value);
        values.map(wire_value).collect()
    }
    match list {
        ListValue::Bool(values) => all(values, Value::Bool),
        ListValue::Int32(values) => all(values, Value::Int32),
        ListValue::Int64(values) => all(values, Value::Int64),
        ListValue::Float(values) => all(values, Value::Float),
        ListValue::Double(values) => all(values, Value::Double),
        ListValue::String(values) => all(values, |text| Value::String(text.into())),
        ListValue::Bytes(values) => all(values, Value::Bytes),
        ListValue::Timestamp(values) => all(values, Value::Timestamp),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53, and only used there"
)]
fn int64_kind(value: i64) -> Kind {
    if value.unsigned_abs() < EXACT_WHOLE_MAX {
        Kind::NumberValue(value as f64)
    } else {
        Kind::StringValue(value.to_string())
    }
}

fn double_kind(value: f64) -> Kind {
    if value.is_finite() {
        Kind::NumberValue(value)
    } else {
        Kind::StringValue(float_name(value).to_owned())
    }
}

/// A point in time as protobuf carries it.
pub(super) fn wire_timestamp(timestamp: Timestamp) -> prost_types::Timestamp {
    let micros = timestamp.micros();
    let below_second = i32::try_from(micros.rem_euclid(1_000_000)).unwrap_or_default();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: below_second * 1_000,
    }
}

/// The moment that a request names, to the microsecond below.
///
/// # Errors
/// `InvalidArgument` naming the field, for one that is out of range.
pub(super) fn moment(
    field: &str,
    wire: Option<prost_types::Timestamp>,
) -> Result<Option<Timestamp>> {
    let Some(wire) = wire else {
        return Ok(None);
    };
    let micros = wire.seconds.checked_mul(1_000_000);
    let micros = micros.and_then(|micros| micros.checked_add(i64::from(wire.nanos / 1_000)));
    let moment = micros.and_then(Timestamp::from_micros);
    let moment = moment.ok_or_else(|| Error::invalid(field, "it is no point in time"))?;
    Ok(Some(moment))
}

/// A status as the wire names it.
pub(super) fn wire_status(status: FeatureStatus) -> pb::FeatureStatus {
    match status {
        FeatureStatus::Present => pb::FeatureStatus::Present,
        FeatureStatus::Null => pb::FeatureStatus::Null,
        FeatureStatus::NotFound => pb::FeatureStatus::NotFound,
        FeatureStatus::OutsideTtl => pb::FeatureStatus::OutsideTtl,
    }
}

/// A type as the wire names it.
pub(super) fn wire_type(value_type: ValueType) -> pb::ValueType {
    match value_type {
        ValueType::Bool => pb::ValueType::Bool,
        ValueType::Int32 => pb::ValueType::Int32,
        ValueType::Int64 => pb::ValueType::Int64,
        ValueType::Float => pb::ValueType::Float,
        ValueType::Double => pb::ValueType::Double,
        ValueType::String => pb::ValueType::String,
        ValueType::Bytes => pb::ValueType::Bytes,
        ValueType::Timestamp => pb::ValueType::Timestamp,
        ValueType::List(ScalarType::Bool) => pb::ValueType::BoolList,
        ValueType::List(ScalarType::Int32) => pb::ValueType::Int32List,
        ValueType::List(ScalarType::Int64) => pb::ValueType::Int64List,
        ValueType::List(ScalarType::Float) => pb::ValueType::FloatList,
        ValueType::List(ScalarType::Double) => pb::ValueType::DoubleList,
        ValueType::List(ScalarType::String) => pb::ValueType::StringList,
        ValueType::List(ScalarType::Bytes) => pb::ValueType::BytesList,
        ValueType::List(ScalarType::Timestamp) => pb::ValueType::TimestampList,
    }
}

/// A length of time as protobuf carries it; none beyond some 10,000 years.
pub(super) fn wire_duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

/// What became of rows, as the wire tells it.
pub(super) fn wire_counts(counts: WriteCounts) -> pb::WriteFeaturesResponse {
    pb::WriteFeaturesResponse {
        written: counts.written,
        late: counts.late,
    }
}

/// Refuses lists that are empty or too long.
///
/// # Errors
/// `InvalidArgument` naming the list.
pub(super) fn check_count(field: &str, count: usize, max: usize) -> Result<()> {
    if (1..=max).contains(&count) {
        return Ok(());
    }
    let fault = if count == 0 {
        "is empty; there has to be at least one".to_owned()
    } else {
        format!("{count} are more than the {max} that one request may have")
    };
    Err(Error::invalid(field, fault))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn json(value: Value) -> String {
        format!("{:?}", wire_value(value).kind.unwrap())
    }

    #[test]
    fn what_a_json_number_cannot_hold_becomes_text() {
        assert_eq!(
            json(Value::Int64((1 << 53) - 1)),
            "NumberValue(9007199254740991.0)"
        );
        assert_eq!(
            json(Value::Int64((1 << 53) + 1)),
            "StringValue(\"9007199254740993\")"
        );
        assert_eq!(json(Value::Double(f64::NAN)), "StringValue(\"NaN\")");
        assert_eq!(
            json(Value::Float(f32::NEG_INFINITY)),
            "StringValue(\"-Infinity\")"
        );
        assert_eq!(json(Value::Float(0.1)), "NumberValue(0.1)");
    }

    #[test]
    fn points_in_time_before_1970_keep_positive_nanoseconds() {
        let wire = wire_timestamp(Timestamp::from_micros(-1).unwrap());
        assert_eq!((wire.seconds, wire.nanos), (-1, 999_999_000));
    }

    #[test]
    fn counts_have_bounds() {
        assert!(check_count("entities", 10_000, 10_000).is_ok());
        for count in [0, 10_001] {
            let fault = check_count("entities", count, 10_000).unwrap_err();
            assert!(fault.message().starts_with("entities: "), "{fault}");
        }
    }
}
