//! Counts the values of one feature as they go by.

use std::hash::{Hash, Hasher};

use datasketches::{
    common::SearchCriteria,
    frequencies::{ErrorType, FrequentItemsSketch},
    hll::{HllSketch, HllType},
    kll::{KllFloat, KllSketch},
};

use super::{Distribution, FeatureStatistics, ListValue, Value, statistics::QUANTILES, widen};
use crate::{
    catalog::ValueType,
    error::{Error, Result},
};

/// A quantile is that of a rank within 0.7 % of the one that was asked for, in 99 of 100 cases.
const QUANTILES_K: u16 = 400;

/// A distinct count is off by 1.3 % (one standard deviation); below some 200 it is exact.
const DISTINCT_LOG_K: u8 = 12;

/// Values that are counted at once for the most frequent ones. What is told is off by 0.7 % of the rows at the most, and
/// exact where there are fewer than 384 different values.
const FREQUENT_MAP_SIZE: usize = 512;

/// Frequent values that are told.
const FREQUENT_MAX: usize = 10;

/// Texts longer than this are not looked at for the most frequent values.
const FREQUENT_BYTES_MAX: usize = 128;

/// What is known so far of one feature's values.
pub(super) struct ColumnCounter {
    value_type: ValueType,
    missing: u64,
    not_finite: u64,
    moments: Moments,
    ranks: KllSketch<KllFloat<f64>>,
    distinct: HllSketch,
    frequent: Frequent,
}

/// The values whose frequencies are of interest.
enum Frequent {
    /// Bools, as 0 and 1, and integers.
    Whole(FrequentItemsSketch<i64>),
    Text(FrequentItemsSketch<String>),
    Nothing,
}

impl ColumnCounter {
    pub(super) fn new(value_type: ValueType) -> Result<ColumnCounter> {
        let frequent = match value_type {
            ValueType::Bool | ValueType::Int32 | ValueType::Int64 => {
                Frequent::Whole(FrequentItemsSketch::new(FREQUENT_MAP_SIZE).map_err(broken)?)
            }
            ValueType::String => {
                Frequent::Text(FrequentItemsSketch::new(FREQUENT_MAP_SIZE).map_err(broken)?)
            }
            ValueType::Float
            | ValueType::Double
            | ValueType::Bytes
            | ValueType::Timestamp
            | ValueType::List(_) => Frequent::Nothing,
        };
        Ok(ColumnCounter {
            value_type,
            missing: 0,
            not_finite: 0,
            moments: Moments::default(),
            ranks: KllSketch::new(QUANTILES_K).map_err(broken)?,
            distinct: HllSketch::new(DISTINCT_LOG_K, HllType::Hll8).map_err(broken)?,
            frequent,
        })
    }

    pub(super) fn add(&mut self, value: &Value) {
        if value.is_null() {
            self.missing += 1;
            return;
        }
        self.distinct.update(Hashed(value));
        match (&mut self.frequent, value) {
            (Frequent::Whole(seen), Value::Bool(value)) => seen.update(i64::from(*value)),
            (Frequent::Whole(seen), Value::Int32(value)) => seen.update(i64::from(*value)),
            (Frequent::Whole(seen), Value::Int64(value)) => seen.update(*value),
            (Frequent::Text(seen), Value::String(text)) if text.len() <= FREQUENT_BYTES_MAX => {
                seen.update_ref(text.as_str());
            }
            _ => {}
        }
        let number = measure(value);
        if !number.is_finite() {
            self.not_finite += 1;
            return;
        }
        self.moments.add(number);
        if let Ok(number) = KllFloat::<f64>::new(number) {
            self.ranks.update(number);
        }
    }

    pub(super) fn finish(self, name: &str) -> Result<FeatureStatistics> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count, and an estimate at that"
        )]
        let distinct = self.distinct.estimate().round() as u64;
        Ok(FeatureStatistics {
            name: name.to_owned(),
            missing: self.missing,
            distinct,
            distribution: self.distribution()?,
            frequent: self.frequent.most(self.value_type),
            not_finite: self.not_finite,
        })
    }

    fn distribution(&self) -> Result<Option<Distribution>> {
        let found = self
            .ranks
            .quantiles(&QUANTILES, SearchCriteria::Inclusive)
            .map_err(broken)?;
        let shown = |number: f64| match self.value_type {
            #[expect(clippy::cast_possible_truncation, reason = "it was one before")]
            ValueType::Float => widen(number as f32),
            ValueType::Bool
            | ValueType::Int32
            | ValueType::Int64
            | ValueType::Double
            | ValueType::String
            | ValueType::Bytes
            | ValueType::Timestamp
            | ValueType::List(_) => number,
        };
        Ok(found.map(|quantiles| Distribution {
            min: shown(self.moments.min),
            max: shown(self.moments.max),
            mean: self.moments.mean,
            standard_deviation: self.moments.standard_deviation(),
            quantiles: quantiles.into_iter().map(|q| shown(*q)).collect(),
        }))
    }
}

impl Frequent {
    fn most(&self, value_type: ValueType) -> Vec<(Value, u64)> {
        // Only what certainly is more frequent than the sketch's error.
        let certain = ErrorType::NoFalsePositives;
        match self {
            Frequent::Nothing => Vec::new(),
            Frequent::Whole(seen) => first(seen.frequent_items(certain), |whole: &i64| {
                whole_value(*whole, value_type)
            }),
            Frequent::Text(seen) => first(seen.frequent_items(certain), |text: &String| {
                Value::String(text.into())
            }),
        }
    }
}

/// The most frequent ones; of equally frequent ones the least.
fn first<T: Ord>(
    mut rows: Vec<datasketches::frequencies::Row<T>>,
    value: impl Fn(&T) -> Value,
) -> Vec<(Value, u64)> {
    rows.sort_by(|a, b| {
        let more = b.estimate().cmp(&a.estimate());
        more.then_with(|| a.item().cmp(b.item()))
    });
    let rows = rows.iter().take(FREQUENT_MAX);
    rows.map(|row| (value(row.item()), row.estimate()))
        .collect()
}

fn whole_value(whole: i64, value_type: ValueType) -> Value {
    if value_type == ValueType::Bool {
        return Value::Bool(whole != 0);
    }
    match i32::try_from(whole) {
        Ok(narrow) if value_type == ValueType::Int32 => Value::Int32(narrow),
        _ => Value::Int64(whole),
    }
}

/// What is measured of a value: the number itself, seconds since 1970, or a length.
#[expect(
    clippy::cast_precision_loss,
    reason = "a statistic needs no more than 53 bits"
)]
fn measure(value: &Value) -> f64 {
    match value {
        Value::Null => f64::NAN,
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Int32(value) => f64::from(*value),
        Value::Int64(value) => *value as f64,
        Value::Float(value) => f64::from(*value),
        Value::Double(value) => *value,
        Value::String(text) => text.chars().count() as f64,
        Value::Bytes(bytes) => bytes.len() as f64,
        Value::Timestamp(time) => time.micros() as f64 / 1e6,
        Value::List(list) => list.len() as f64,
    }
}

/// Mean and variance as Welford has them, which does not lose what large numbers differ in.
#[derive(Default)]
struct Moments {
    count: f64,
    mean: f64,
    /// The sum of the squares of the differences from the mean.
    squares: f64,
    min: f64,
    max: f64,
}

impl Moments {
    fn add(&mut self, number: f64) {
        if self.count == 0.0 {
            (self.min, self.max) = (number, number);
        }
        self.count += 1.0;
        let before = number - self.mean;
        self.mean += before / self.count;
        self.squares += before * (number - self.mean);
        self.min = self.min.min(number);
        self.max = self.max.max(number);
    }

    fn standard_deviation(&self) -> f64 {
        (self.squares / self.count).sqrt()
    }
}

/// A value, so that equal ones hash alike: 0 and -0 are equal, and so is every NaN here.
struct Hashed<'a>(&'a Value);

impl Hash for Hashed<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.0 {
            Value::Null => {}
            Value::Bool(value) => value.hash(state),
            Value::Int32(value) => value.hash(state),
            Value::Int64(value) => value.hash(state),
            Value::Float(value) => bits(f64::from(*value)).hash(state),
            Value::Double(value) => bits(*value).hash(state),
            Value::String(text) => text.hash(state),
            Value::Bytes(bytes) => bytes.hash(state),
            Value::Timestamp(time) => time.hash(state),
            Value::List(list) => hash_list(list, state),
        }
    }
}

fn hash_list(list: &ListValue, state: &mut impl Hasher) {
    list.len().hash(state);
    match list {
        ListValue::Bool(values) => values.hash(state),
        ListValue::Int32(values) => values.hash(state),
        ListValue::Int64(values) => values.hash(state),
        ListValue::Float(values) => values.iter().for_each(|v| bits(f64::from(*v)).hash(state)),
        ListValue::Double(values) => values.iter().for_each(|v| bits(*v).hash(state)),
        ListValue::String(values) => values.hash(state),
        ListValue::Bytes(values) => values.hash(state),
        ListValue::Timestamp(values) => values.hash(state),
    }
}

fn bits(number: f64) -> u64 {
    if number.is_nan() {
        return f64::NAN.to_bits();
    }
    // Zero has no sign then.
    (number + 0.0).to_bits()
}

fn broken(fault: datasketches::error::Error) -> Error {
    Error::internal("a sketch that cannot be made or read").with_source(fault)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    use super::*;

    /// Numbers that look random and are the same in every run.
    fn random(count: u64) -> impl Iterator<Item = u64> {
        (1..=count).map(|step| {
            let mixed = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^ (mixed >> 27)
        })
    }

    fn counted(
        value_type: ValueType,
        values: impl IntoIterator<Item = Value>,
    ) -> FeatureStatistics {
        let mut counter = ColumnCounter::new(value_type).unwrap();
        values.into_iter().for_each(|value| counter.add(&value));
        counter.finish("x").unwrap()
    }

    #[test]
    fn estimates_are_within_their_error_of_what_is_so() {
        // Most are small, a few are very large: what means and quantiles differ in.
        let mut exact: Vec<f64> = random(100_000)
            .map(|bits| ((bits >> 11) as f64 / (1_u64 << 53) as f64 * 20.0).exp())
            .collect();
        let found = counted(ValueType::Double, exact.iter().copied().map(Value::Double));
        let count = exact.len() as f64;
        let mean = exact.iter().sum::<f64>() / count;
        let variance = exact.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let distribution = found.distribution.unwrap();
        let is_close = |a: f64, b: f64| (a - b).abs() <= b.abs() * 1e-9;
        assert!(is_close(distribution.mean, mean));
        assert!(is_close(distribution.standard_deviation, variance.sqrt()));

        exact.sort_by(f64::total_cmp);
        assert_eq!(Some(&distribution.min), exact.first());
        assert_eq!(Some(&distribution.max), exact.last());
        let stated = KllSketch::<KllFloat<f64>>::new(QUANTILES_K).unwrap();
        // The stated error holds in 99 of 100 cases; three times that always does.
        let error = stated.normalized_rank_error() * 3.0;
        assert!(error < 0.025);
        for (rank, value) in QUANTILES.iter().zip(&distribution.quantiles) {
            let below = exact.partition_point(|known| known <= value) as f64 / count;
            assert!((below - rank).abs() <= error, "{rank}: {below}");
        }
        assert!((found.distinct as f64 / count - 1.0).abs() < 4.0 * 0.013);
    }

    #[test]
    fn frequent_values_are_found_among_very_many() {
        let texts = random(200_000).map(|bits| {
            Value::String(match bits % 10 {
                0..=2 => "often".into(),
                3 => "at times".into(),
                _ => bits.to_string().into(),
            })
        });
        let found = counted(ValueType::String, texts);
        let named: Vec<(&Value, u64)> = found.frequent.iter().map(|(v, c)| (v, *c)).collect();
        let [(first, often), (second, at_times)] = named.as_slice() else {
            panic!("{named:?}");
        };
        assert_eq!(**first, Value::String("often".into()));
        assert_eq!(**second, Value::String("at times".into()));
        let error = 200_000.0 * 3.5 / FREQUENT_MAP_SIZE as f64;
        assert!(
            (*often as f64 - 60_000.0).abs() < error + 1_000.0,
            "{often}"
        );
        assert!(
            (*at_times as f64 - 20_000.0).abs() < error + 1_000.0,
            "{at_times}"
        );
    }

    #[test]
    fn what_is_no_number_is_counted_apart() {
        let values = [
            Value::Double(f64::NAN),
            Value::Double(-f64::NAN),
            Value::Double(f64::INFINITY),
            Value::Null,
            Value::Double(0.0),
            Value::Double(-0.0),
        ];
        let found = counted(ValueType::Double, values);
        assert_eq!((found.missing, found.not_finite), (1, 3));
        assert_eq!(found.distinct, 3);
        let distribution = found.distribution.unwrap();
        assert_eq!((distribution.min, distribution.max), (0.0, 0.0));
        let nothing = counted(ValueType::Double, [Value::Null]);
        assert_eq!(nothing.distribution, None);
    }

    #[test]
    fn each_type_is_measured_as_it_is_told() {
        let float = counted(ValueType::Float, [Value::Float(0.1)]);
        assert_eq!(float.distribution.unwrap().max, 0.1);
        let bools = [true, false, true].map(Value::Bool);
        let bools = counted(ValueType::Bool, bools);
        assert_eq!(bools.frequent.first(), Some(&(Value::Bool(true), 2)));
        let text = counted(ValueType::String, [Value::String("ä€".into())]);
        assert_eq!(text.distribution.unwrap().max, 2.0);
        let list = Value::List(ListValue::Int64(vec![1, 2, 3]));
        let lists = counted(
            ValueType::List(crate::catalog::ScalarType::Int64),
            [list.clone(), list],
        );
        assert_eq!(lists.distinct, 1);
        assert_eq!(lists.distribution.unwrap().max, 3.0);
    }
}
