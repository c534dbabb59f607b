//! Who is scored by which version.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::{
    catalog::Field,
    error::{Error, Result},
    features::{RawRow, RawValue, Value},
};

/// All of the traffic, in hundredths of a percent.
pub const WEIGHT_WHOLE: u32 = 10_000;

/// Versions that one model's traffic may name, canaries and shadows each.
const TARGETS_MAX: usize = 8;

/// A version's share of the requests that name no version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// A version or an alias.
    pub version: String,
    /// Hundredths of a percent.
    pub weight: u32,
}

/// How the requests that name no version are shared out. What no canary takes goes to the default version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traffic {
    /// Versions that answer a share.
    pub canary: Vec<Share>,
    /// Versions or aliases that score beside the answer.
    pub shadow: Vec<String>,
}

impl Traffic {
    /// Holds the shares against each other.
    ///
    /// # Errors
    /// `InvalidArgument`: more than all, more than eight versions, one named twice, a share of nothing.
    pub fn check(&self) -> Result<()> {
        let names: Vec<&String> = self.canary.iter().map(|share| &share.version).collect();
        check_names("traffic.canary", &names)?;
        check_names("traffic.shadow", &self.shadow.iter().collect::<Vec<_>>())?;
        let sum: u64 = self
            .canary
            .iter()
            .map(|share| u64::from(share.weight))
            .sum();
        if sum > u64::from(WEIGHT_WHOLE) {
            return Err(Error::invalid(
                "traffic.canary",
                "the shares are more than 100 percent together",
            ));
        }
        match self.canary.iter().position(|share| share.weight == 0) {
            Some(at) => Err(Error::invalid(
                format!("traffic.canary[{at}]"),
                "a share is at least 0.01 percent; leave it out for none",
            )),
            None => Ok(()),
        }
    }
}

fn check_names(field: &str, names: &[&String]) -> Result<()> {
    if names.len() > TARGETS_MAX {
        return Err(Error::invalid(
            field,
            format!("{} versions are more than {TARGETS_MAX}", names.len()),
        ));
    }
    for (at, name) in names.iter().enumerate() {
        let place = || format!("{field}[{at}]");
        if name.is_empty() {
            return Err(Error::invalid(place(), "names no version or alias"));
        }
        if names.iter().skip(at + 1).any(|other| other == name) {
            return Err(Error::invalid(
                place(),
                format!("\"{name}\" is there twice"),
            ));
        }
    }
    Ok(())
}

/// Where a row falls in 0 to `WEIGHT_WHOLE` - 1: the same row of the same model always at the same place, whichever server
/// answers, whatever the order of its fields, and whether a whole number is sent as a number or as text. Values of `join_keys`
/// are taken as their types read them: 42 and "042" are one integer.
pub fn bucket_of(model: &str, row: &RawRow, join_keys: &[Field]) -> u32 {
    let mut fields: SmallVec<[&(String, RawValue); 1]> = row.fields.iter().collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut hasher = Sha256::new();
    hasher.update(model);
    for (name, value) in fields {
        for part in [name.as_str(), typed(name, value, join_keys).as_ref()] {
            // A length before each, so that no two rows run together into the same bytes.
            hasher.update(part.len().to_le_bytes());
            hasher.update(part);
        }
    }
    bucket(&hasher.finalize())
}

/// As `bucket_of`, of packed numbers.
pub(in crate::inference) fn bucket_of_numbers(model: &str, numbers: &[f32]) -> u32 {
    let mut hasher = Sha256::new();
    hasher.update(model);
    for number in numbers {
        hasher.update(number.to_le_bytes());
    }
    bucket(&hasher.finalize())
}

fn bucket(digest: &[u8]) -> u32 {
    let first = digest.first_chunk::<4>().copied().unwrap_or_default();
    u32::from_be_bytes(first) % WEIGHT_WHOLE
}

/// A value as text, the same for all ways of writing it.
fn typed<'a>(name: &str, value: &'a RawValue, join_keys: &[Field]) -> Cow<'a, str> {
    let key = join_keys.iter().find(|key| key.name == name);
    match key.map(|key| value.to_value(key.value_type)) {
        Some(Ok(Value::Int32(number))) => Cow::Owned(number.to_string()),
        Some(Ok(Value::Int64(number))) => Cow::Owned(number.to_string()),
        // What its type does not read is refused later; texts and truth have one way of being written.
        Some(_) | None => plain(value),
    }
}

fn plain(value: &RawValue) -> Cow<'_, str> {
    match value {
        RawValue::Null => Cow::Borrowed(""),
        RawValue::Bool(value) => Cow::Owned(value.to_string()),
        RawValue::Number(number) => Cow::Owned(number.to_string()),
        RawValue::Text(text) => Cow::Borrowed(text),
        RawValue::List(values) => {
            let values: Vec<Cow<'_, str>> = values.iter().map(plain).collect();
            Cow::Owned(values.join("\u{1f}"))
        }
        RawValue::Object => Cow::Borrowed("{}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::catalog::ValueType;

    const PINNED_NUMBER: u32 = 1317;
    const PINNED_TEXT: u32 = 9964;

    fn row(fields: &[(&str, RawValue)]) -> RawRow {
        RawRow {
            fields: fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        }
    }

    #[test]
    fn an_entity_keeps_its_place_however_it_is_written() {
        let number = row(&[
            ("user", RawValue::Number(42.0)),
            ("shop", RawValue::Text("a".into())),
        ]);
        let text = row(&[
            ("shop", RawValue::Text("a".into())),
            ("user", RawValue::Text("42".into())),
        ]);
        assert_eq!(bucket_of("m", &number, &[]), bucket_of("m", &text, &[]));
        // Pinned: another place after an upgrade would move every entity to another version.
        assert_eq!(bucket_of("m", &number, &[]), PINNED_NUMBER);
        let plain = row(&[("loan_id", RawValue::Text("LC00001".into()))]);
        assert_eq!(bucket_of("credit_risk", &plain, &[]), PINNED_TEXT);
        assert_ne!(bucket_of("m", &number, &[]), bucket_of("n", &number, &[]));
    }

    #[test]
    fn a_key_that_the_catalog_knows_is_one_however_it_is_written() {
        let key = |value_type| Field {
            name: "id".into(),
            value_type,
            description: String::new(),
        };
        let bucket = |value: &RawValue, value_type| {
            let row = row(&[("id", value.clone())]);
            bucket_of("m", &row, &[key(value_type)])
        };
        let number = RawValue::Number(42.0);
        let untyped = bucket_of("m", &row(&[("id", number.clone())]), &[]);
        for written in ["42", "042", "0042"] {
            let written = RawValue::Text(written.into());
            assert_eq!(bucket(&written, ValueType::Int64), untyped, "{written:?}");
        }
        assert_eq!(bucket(&number, ValueType::Int64), untyped);
        // As text they are two.
        let zero = RawValue::Text("042".into());
        assert_ne!(bucket(&zero, ValueType::String), untyped);
    }

    #[test]
    fn entities_are_spread_evenly() {
        let taken = (0..20_000)
            .filter(|id| {
                let row = row(&[("id", RawValue::Number(f64::from(*id)))]);
                bucket_of("m", &row, &[]) < 1_000
            })
            .count();
        // 10 percent of 20,000, give or take five standard deviations.
        assert!((1_788..=2_212).contains(&taken), "{taken}");
    }

    #[test]
    fn shares_that_make_no_sense_are_refused() {
        let share = |version: &str, weight| Share {
            version: version.into(),
            weight,
        };
        let traffic = |canary: Vec<Share>| Traffic {
            canary,
            shadow: Vec::new(),
        };
        assert!(traffic(vec![share("2", 10_000)]).check().is_ok());
        for bad in [
            vec![share("2", 6_000), share("3", 4_001)],
            vec![share("2", 1), share("2", 1)],
            vec![share("2", 0)],
            vec![share("", 1)],
            (0..9).map(|at| share(&at.to_string(), 1)).collect(),
        ] {
            assert!(traffic(bad.clone()).check().is_err(), "{bad:?}");
        }
    }
}
