//! One value of a feature or join key, and points in time.

use std::{
    fmt,
    hash::{Hash, Hasher},
    mem,
    time::{Duration, SystemTime},
};

use compact_str::{CompactString, format_compact};
use jiff::civil::DateTime;
use smallvec::SmallVec;

use super::ListValue;
use crate::{
    catalog::ValueType,
    error::{Error, Result},
};

/// Up to here a double holds every whole number: 2^53.
pub const EXACT_WHOLE_MAX: u64 = 1 << 53;

/// What a number, or the length of a text, counts for.
const NUMBER_BYTES: usize = 8;

/// A point in time in UTC, to the microsecond, as both databases keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    micros: i64,
}

impl Timestamp {
    /// 0001-01-01T00:00:00Z in microseconds since 1970, the earliest that the wire can carry.
    pub const MICROS_MIN: i64 = -62_135_596_800_000_000;
    /// 9999-12-31T23:59:59.999999Z in microseconds since 1970, the latest that the wire can carry.
    pub const MICROS_MAX: i64 = 253_402_300_799_999_999;

    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Timestamp = Timestamp { micros: 0 };

    /// From microseconds since 1970; none outside the years 1 to 9999.
    pub fn from_micros(micros: i64) -> Option<Timestamp> {
        (Self::MICROS_MIN..=Self::MICROS_MAX)
            .contains(&micros)
            .then_some(Timestamp { micros })
    }

    /// Microseconds since 1970.
    pub fn micros(self) -> i64 {
        self.micros
    }

    /// Whether at this time what is of the time `event` is older than allowed; exactly as old is not.
    pub fn has_aged(self, event: Timestamp, allowed: Duration) -> bool {
        let age_micros = self.micros().saturating_sub(event.micros());
        i128::from(age_micros) > i128::try_from(allowed.as_micros()).unwrap_or(i128::MAX)
    }

    /// The server's clock.
    pub fn now() -> Timestamp {
        let since_epoch = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let micros = i64::try_from(since_epoch.as_micros()).unwrap_or(Self::MICROS_MAX);
        Timestamp {
            micros: micros.min(Self::MICROS_MAX),
        }
    }

    /// Reads RFC 3339, with an offset or `Z`. Anything below a microsecond is cut.
    ///
    /// # Errors
    /// A sentence that says what is accepted.
    pub fn parse(text: &str) -> std::result::Result<Timestamp, String> {
        let fault = || {
            format!("\"{text}\" is no point in time; RFC 3339 is expected, as 2016-01-04T00:00:00Z")
        };
        let micros = match text.parse::<jiff::Timestamp>() {
            Ok(parsed) => Some(parsed.as_microsecond()),
            // jiff's timestamps end before the last day of 9999, which many use for "never"; its dates do not.
            Err(_) => text.strip_suffix('Z').and_then(micros_of_date),
        };
        micros.and_then(Timestamp::from_micros).ok_or_else(fault)
    }
}

const EPOCH_DATE: DateTime = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);

/// Microseconds from 1970 to a date and time in UTC, written without an offset.
fn micros_of_date(text: &str) -> Option<i64> {
    let date: DateTime = text.parse().ok()?;
    let since_1970 = date.duration_since(EPOCH_DATE);
    i64::try_from(since_1970.as_micros()).ok()
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_1970 = jiff::SignedDuration::from_micros(self.micros);
        match EPOCH_DATE.checked_add(since_1970) {
            Ok(date) => write!(f, "{date}Z"),
            Err(_) => write!(f, "{} µs since 1970", self.micros),
        }
    }
}

/// One value of a feature or join key; `Null` has any type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// true or false.
    Bool(bool),
    /// A signed 32-bit integer.
    Int32(i32),
    /// A signed 64-bit integer.
    Int64(i64),
    /// A 32-bit float.
    Float(f32),
    /// A 64-bit float.
    Double(f64),
    /// UTF-8 text.
    String(CompactString),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A point in time.
    Timestamp(Timestamp),
    /// Values of one type, in order.
    List(ListValue),
}

impl Value {
    /// The value's type; none for `Null`.
    pub fn value_type(&self) -> Option<ValueType> {
        match self {
            Value::Null => None,
            Value::Bool(_) => Some(ValueType::Bool),
            Value::Int32(_) => Some(ValueType::Int32),
            Value::Int64(_) => Some(ValueType::Int64),
            Value::Float(_) => Some(ValueType::Float),
            Value::Double(_) => Some(ValueType::Double),
            Value::String(_) => Some(ValueType::String),
            Value::Bytes(_) => Some(ValueType::Bytes),
            Value::Timestamp(_) => Some(ValueType::Timestamp),
            Value::List(list) => Some(ValueType::List(list.element_type())),
        }
    }

    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Whether a model takes it for a missing value: null, or a float that is no number.
    pub fn is_missing(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Float(value) => value.is_nan(),
            Value::Double(value) => value.is_nan(),
            Value::Bool(_)
            | Value::Int32(_)
            | Value::Int64(_)
            | Value::String(_)
            | Value::Bytes(_)
            | Value::Timestamp(_)
            | Value::List(_) => false,
        }
    }

    /// The memory that it keeps beside its own place, bytes.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Value::String(text) if text.is_heap_allocated() => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(ListValue::String(texts)) => {
                let texts = texts.iter();
                texts.map(|text| text.len() + size_of::<String>()).sum()
            }
            Value::List(ListValue::Bytes(all)) => {
                let all = all.iter();
                all.map(|bytes| bytes.len() + size_of::<Vec<u8>>()).sum()
            }
            Value::List(list) => list.len() * NUMBER_BYTES,
            Value::Null
            | Value::Bool(_)
            | Value::Int32(_)
            | Value::Int64(_)
            | Value::Float(_)
            | Value::Double(_)
            | Value::String(_)
            | Value::Timestamp(_) => 0,
        }
    }

    /// About as many bytes as it takes in an answer.
    pub fn byte_count(&self) -> usize {
        match self {
            Value::String(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(ListValue::String(texts)) => {
                texts.iter().map(|text| text.len() + NUMBER_BYTES).sum()
            }
            Value::List(ListValue::Bytes(all)) => {
                all.iter().map(|bytes| bytes.len() + NUMBER_BYTES).sum()
            }
            Value::List(list) => list.len() * NUMBER_BYTES,
            Value::Null
            | Value::Bool(_)
            | Value::Int32(_)
            | Value::Int64(_)
            | Value::Float(_)
            | Value::Double(_)
            | Value::Timestamp(_) => NUMBER_BYTES,
        }
    }

    /// Whether a column of a type may hold this value.
    pub fn fits(&self, value_type: ValueType) -> bool {
        self.value_type().is_none_or(|own| own == value_type)
    }

    /// Reads a value from text, as it stands in a CSV file or in a URL. Bytes are hexadecimal, a list is a JSON array.
    ///
    /// # Errors
    /// A sentence that names the text and the type.
    pub fn parse(text: &str, value_type: ValueType) -> std::result::Result<Value, String> {
        let fault = || format!("\"{text}\" is no {value_type}");
        match value_type {
            ValueType::Bool => match text {
                "true" | "True" | "TRUE" | "1" => Ok(Value::Bool(true)),
                "false" | "False" | "FALSE" | "0" => Ok(Value::Bool(false)),
                _ => Err(fault()),
            },
            ValueType::Int32 => text.parse().map(Value::Int32).map_err(|_| fault()),
            ValueType::Int64 => text.parse().map(Value::Int64).map_err(|_| fault()),
            ValueType::Float => match text.parse::<f32>() {
                Ok(value) if is_overflow(text, value.is_infinite()) => {
                    Err(format!("\"{text}\" is more than a float holds"))
                }
                parsed => parsed.map(Value::Float).map_err(|_| fault()),
            },
            ValueType::Double => match text.parse::<f64>() {
                Ok(value) if is_overflow(text, value.is_infinite()) => {
                    Err(format!("\"{text}\" is more than a double holds"))
                }
                parsed => parsed.map(Value::Double).map_err(|_| fault()),
            },
            ValueType::String => Ok(Value::String(text.into())),
            ValueType::Bytes => hex::decode(text).map(Value::Bytes).map_err(|_| fault()),
            ValueType::Timestamp => Timestamp::parse(text).map(Value::Timestamp),
            ValueType::List(element) => ListValue::parse(text, element).map(Value::List),
        }
    }

    /// Whether two values are the same to the bit: a NaN is the same as itself here.
    pub fn is_same(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
            (Value::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits(),
            (Value::List(a), Value::List(b)) => a.is_same(b),
            _ => self == other,
        }
    }
}

/// "inf" is infinite; digits that became so are a number that the type cannot hold.
fn is_overflow(text: &str, is_infinite: bool) -> bool {
    is_infinite && text.contains(|c: char| c.is_ascii_digit())
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => value.fmt(f),
            Value::Int32(value) => value.fmt(f),
            Value::Int64(value) => value.fmt(f),
            Value::Float(value) => value.fmt(f),
            Value::Double(value) => value.fmt(f),
            Value::String(value) => write!(f, "\"{value}\""),
            Value::Bytes(value) => f.write_str(&hex::encode(value)),
            Value::Timestamp(value) => value.fmt(f),
            Value::List(list) => list.fmt(f),
        }
    }
}

/// The values of join keys. Most entities have one.
pub type KeyValues = SmallVec<[Value; 1]>;

/// The values of an entity's join keys, in the order of the view's; never null.
#[derive(Debug, Clone, PartialEq)]
pub struct EntityKey {
    values: KeyValues,
}

impl EntityKey {
    /// A key of values in the order of the join keys.
    ///
    /// # Errors
    /// `Internal` where a value is null: whoever reads the request has to refuse that by name.
    pub fn new(values: impl Into<KeyValues>) -> Result<EntityKey> {
        let values = values.into();
        if values.is_empty() || values.iter().any(Value::is_null) {
            return Err(Error::internal("an entity key without a value"));
        }
        Ok(EntityKey { values })
    }

    /// The values, in the order of the join keys.
    pub fn values(&self) -> &[Value] {
        &self.values
    }
}

/// Join keys are texts, whole numbers and bytes: each is the same as itself.
impl Eq for EntityKey {}

impl Hash for EntityKey {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for value in &self.values {
            mem::discriminant(value).hash(hasher);
            match value {
                Value::Int32(value) => value.hash(hasher),
                Value::Int64(value) => value.hash(hasher),
                Value::String(text) => text.hash(hasher),
                Value::Bytes(bytes) => bytes.hash(hasher),
                Value::Null
                | Value::Bool(_)
                | Value::Float(_)
                | Value::Double(_)
                | Value::Timestamp(_)
                | Value::List(_) => {}
            }
        }
    }
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.values.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            value.fmt(f)?;
        }
        Ok(())
    }
}

/// Widens a 32-bit float to the double that a reader would write for it: 0.1_f32 becomes 0.1, not 0.10000000149.
///
/// The result rounds back to the same 32-bit float.
pub fn widen(value: f32) -> f64 {
    if !value.is_finite() {
        return f64::from(value);
    }
    // The shortest text that reads back as the same 32-bit float is the one that a reader would write.
    // With its exponent it always fits where it takes no memory of its own.
    format_compact!("{value:e}")
        .parse()
        .unwrap_or_else(|_| f64::from(value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn timestamps_read_rfc_3339_and_print_it() {
        let timestamp = Timestamp::parse("2016-01-04T01:30:00.000001+01:30").unwrap();
        assert_eq!(timestamp.to_string(), "2016-01-04T00:00:00.000001Z");
        for bad in ["", "2016-01-04", "yesterday", "2016-13-01T00:00:00Z"] {
            assert!(Timestamp::parse(bad).is_err(), "{bad}");
        }
        assert!(Timestamp::from_micros(i64::MAX).is_none());
        assert!(Timestamp::parse("9999-12-31T00:00:00Z").is_ok());
        for micros in [Timestamp::MICROS_MIN, -1, Timestamp::MICROS_MAX] {
            let timestamp = Timestamp::from_micros(micros).unwrap();
            assert_eq!(Timestamp::parse(&timestamp.to_string()), Ok(timestamp));
        }
    }

    #[test]
    fn text_becomes_the_asked_type_or_says_why_not() {
        let max = i64::MAX.to_string();
        assert_eq!(
            Value::parse(&max, ValueType::Int64),
            Ok(Value::Int64(i64::MAX))
        );
        assert_eq!(
            Value::parse("00ff", ValueType::Bytes),
            Ok(Value::Bytes(vec![0, 255]))
        );
        assert_eq!(
            Value::parse("3.5", ValueType::Int32),
            Err("\"3.5\" is no int32".to_owned())
        );
        assert!(Value::parse("1e39", ValueType::Float).is_err());
        assert!(Value::parse("1e309", ValueType::Double).is_err());
        assert_eq!(
            Value::parse("-inf", ValueType::Double),
            Ok(Value::Double(f64::NEG_INFINITY))
        );
    }

    #[test]
    fn null_and_nan_are_missing_and_nothing_else_is() {
        for missing in [Value::Null, Value::Float(f32::NAN), Value::Double(f64::NAN)] {
            assert!(missing.is_missing());
        }
        for value in [
            Value::Double(f64::INFINITY),
            Value::String(String::new().into()),
        ] {
            assert!(!value.is_missing());
        }
    }

    #[test]
    fn a_widened_float_reads_as_written_and_rounds_back() {
        assert_eq!(widen(0.0831), 0.0831);
        // Half-way between two shortest texts, of which the ledger has had the upper one ever since.
        assert_eq!(widen(369.0625 / 8.0), 46.132_813);
        for value in [f32::MIN_POSITIVE, f32::MAX, -1.0e-20, 1.0 / 3.0, 0.0] {
            #[expect(clippy::cast_possible_truncation, reason = "that is what is tested")]
            let back = widen(value) as f32;
            assert_eq!(back.to_bits(), value.to_bits());
        }
        assert!(widen(f32::NAN).is_nan());
    }
}
