//! Drift: how the values that a version is given differ from those that it was trained on.
//!
//! The trainer writes a profile of each input into the signature: which share was missing, and how the others fell into
//! bins. What is served is counted in the same bins, and held against it as a population stability index.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde::Deserialize;

use super::{
    Signature,
    layout::{limit_for, number},
};
use crate::features::Value;

/// Bins of one input, the one for what is in no other among them.
const BINS_MAX: usize = 1_001;

/// A share of nothing would make the index infinite: what never occurred counts as one in ten thousand.
const SHARE_MIN: f64 = 1e-4;

/// How far the trainer's shares may be from 1 together, for rounding.
const SUM_TOLERANCE: f64 = 1e-3;

/// How the values of an input were spread when the model was trained.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Which share of the rows had no value.
    pub missing_share: f64,
    /// The upper ends of a number's bins, ascending, each part of its bin; the last bin has no end.
    #[serde(default)]
    pub edges: Vec<f64>,
    /// The texts with a bin each; the last bin is for every other text.
    #[serde(default)]
    pub texts: Vec<String>,
    /// Which share of the values fell into each bin.
    pub shares: Vec<f64>,
}

impl Profile {
    /// Holds what the trainer says against itself.
    ///
    /// # Errors
    /// A sentence that says what does not go together.
    pub(super) fn check(&self, is_text: bool) -> Result<(), String> {
        let bins = if is_text {
            self.texts.len() + 1
        } else {
            self.edges.len() + 1
        };
        if is_text && !self.edges.is_empty() || !is_text && !self.texts.is_empty() {
            return Err("a text has texts, and a number edges".to_owned());
        }
        if self.shares.len() != bins || bins > BINS_MAX {
            return Err(format!(
                "{} shares are not one for each of the {bins} bins, of which there are {BINS_MAX} at the most",
                self.shares.len()
            ));
        }
        let mut pairs = self.edges.iter().zip(self.edges.iter().skip(1));
        if !pairs.all(|(one, next)| one < next) || self.edges.iter().any(|edge| edge.is_nan()) {
            return Err("the edges do not ascend".to_owned());
        }
        let is_share = |share: &f64| (0.0..=1.0).contains(share);
        let sum: f64 = self.shares.iter().sum();
        if !is_share(&self.missing_share)
            || !self.shares.iter().all(is_share)
            || (sum - 1.0).abs() > SUM_TOLERANCE
        {
            return Err("the shares are not each 0 to 1, and 1 together".to_owned());
        }
        Ok(())
    }

    /// Which bin a value falls into; none where it is missing.
    fn bin_of(&self, value: &Value) -> Option<usize> {
        if value.is_missing() {
            return None;
        }
        if let Value::String(text) = value {
            let found = self.texts.iter().position(|known| known == text);
            return Some(found.unwrap_or(self.texts.len()));
        }
        let number = number(value).ok()??;
        let is_above = |edge: &f64| limit_for(value, *edge) < number;
        Some(self.edges.partition_point(is_above))
    }
}

/// What was counted of one input, held against its profile.
#[derive(Debug, Clone, PartialEq)]
pub struct DriftReport {
    /// How many rows were counted.
    pub rows: u64,
    /// Which share of them had no value.
    pub missing_share: f64,
    /// Which share had none when the model was trained.
    pub trained_missing_share: f64,
    /// The population stability index of the values: below 0.1 little has changed, above 0.25 much; none before there are
    /// any. The sum of (a - e) ln(a / e) over the bins, of the shares a that are served and e that were trained on.
    pub stability_index: Option<f64>,
}

/// Where a value is counted.
pub(super) type Slot = usize;

/// The counts of one version: of the time since the last turn, and of the time between the two before.
#[derive(Debug)]
pub struct Drift {
    /// One an input: its first slot, which counts missing values; then one a bin.
    profiles: Vec<Option<(Slot, Profile)>>,
    windows: [Vec<AtomicU64>; 2],
    current: AtomicUsize,
}

impl Drift {
    pub(super) fn new(signature: &Signature) -> Drift {
        let mut slots = 0;
        let profiles = signature
            .inputs
            .iter()
            .map(|input| {
                let profile = input.profile.clone()?;
                let first = slots;
                slots += profile.shares.len() + 1;
                Some((first, profile))
            })
            .collect();
        let counts = || (0..slots).map(|_| AtomicU64::default()).collect();
        Drift {
            profiles,
            windows: [counts(), counts()],
            current: AtomicUsize::new(0),
        }
    }

    /// Where a value of an input is counted; none where the input has no profile.
    pub(super) fn slot(&self, input: usize, value: &Value) -> Option<Slot> {
        let (first, profile) = self.profiles.get(input)?.as_ref()?;
        Some(first + profile.bin_of(value).map_or(0, |bin| bin + 1))
    }

    pub(super) fn count(&self, slots: &[Slot]) {
        let Some(window) = self.windows.get(self.current.load(Ordering::Relaxed)) else {
            return;
        };
        for slot in slots {
            if let Some(count) = window.get(*slot) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Forgets the older half of what was counted.
    pub(super) fn turn(&self) {
        let next = 1 - self.current.load(Ordering::Relaxed).min(1);
        for count in self.windows.get(next).into_iter().flatten() {
            count.store(0, Ordering::Relaxed);
        }
        self.current.store(next, Ordering::Relaxed);
    }

    /// What was counted of an input; none where it has no profile.
    pub fn report(&self, input: usize) -> Option<DriftReport> {
        let (first, profile) = self.profiles.get(input)?.as_ref()?;
        let count = |slot: Slot| -> u64 {
            let counts = self.windows.iter().filter_map(|window| window.get(slot));
            counts.map(|count| count.load(Ordering::Relaxed)).sum()
        };
        let missing = count(*first);
        let bins: Vec<u64> = (0..profile.shares.len())
            .map(|bin| count(first + 1 + bin))
            .collect();
        let values: u64 = bins.iter().sum();
        let rows = values + missing;
        Some(DriftReport {
            rows,
            missing_share: share(missing, rows),
            trained_missing_share: profile.missing_share,
            stability_index: (values > 0).then(|| stability_index(&profile.shares, &bins, values)),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share of counts below 2^53")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}

fn stability_index(trained: &[f64], counts: &[u64], values: u64) -> f64 {
    let pairs = trained.iter().zip(counts);
    pairs
        .map(|(trained, count)| {
            let trained = trained.max(SHARE_MIN);
            let served = share(*count, values).max(SHARE_MIN);
            (served - trained) * (served / trained).ln()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn numbers() -> Profile {
        Profile {
            missing_share: 0.1,
            edges: vec![0.0, 10.0],
            texts: Vec::new(),
            shares: vec![0.2, 0.5, 0.3],
        }
    }

    #[test]
    fn values_fall_into_the_bins_of_the_trainer() {
        let profile = numbers();
        let bin = |value| profile.bin_of(&value);
        assert_eq!(bin(Value::Double(-5.0)), Some(0));
        assert_eq!(bin(Value::Double(0.0)), Some(0));
        assert_eq!(bin(Value::Int64(1)), Some(1));
        assert_eq!(bin(Value::Float(10.5)), Some(2));
        assert_eq!(bin(Value::Double(f64::INFINITY)), Some(2));
        assert_eq!(bin(Value::Double(f64::NAN)), None);
        assert_eq!(bin(Value::Null), None);
        let texts = Profile {
            edges: Vec::new(),
            texts: vec!["a".into()],
            shares: vec![0.9, 0.1],
            ..profile
        };
        assert_eq!(texts.bin_of(&Value::String("a".into())), Some(0));
        assert_eq!(texts.bin_of(&Value::String("b".into())), Some(1));
    }

    #[test]
    fn an_edge_is_part_of_its_bin_also_where_the_value_was_rounded() {
        let tenths = Profile {
            edges: (1..10).map(|tenth| f64::from(tenth) / 10.0).collect(),
            shares: vec![0.1; 10],
            ..numbers()
        };
        for (bin, rounded) in [0.1_f32, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
            .into_iter()
            .enumerate()
        {
            // As packed rows bring it, and as others do.
            assert_eq!(tenths.bin_of(&Value::Float(rounded)), Some(bin));
            let written = Value::Double(crate::features::widen(rounded));
            assert_eq!(tenths.bin_of(&written), Some(bin), "{rounded}");
            let above = Value::Float(rounded.next_up());
            assert_eq!(tenths.bin_of(&above), Some(bin + 1), "{rounded}");
        }
    }

    #[test]
    fn the_index_is_none_for_the_same_and_grows_with_the_difference() {
        let trained = [0.2, 0.5, 0.3];
        assert!(stability_index(&trained, &[20, 50, 30], 100).abs() < 1e-12);
        // By hand: 0.1 ln 1.5 + (-0.2) ln 0.6 + 0.1 ln (4/3).
        let found = stability_index(&trained, &[30, 30, 40], 100);
        let by_hand = 0.1 * 1.5_f64.ln() - 0.2 * 0.6_f64.ln() + 0.1 * (4.0_f64 / 3.0).ln();
        assert!((found - by_hand).abs() < 1e-12, "{found}");
        assert!(stability_index(&trained, &[0, 0, 100], 100).is_finite());
    }

    #[test]
    fn profiles_that_do_not_go_together_are_refused() {
        assert_eq!(numbers().check(false), Ok(()));
        assert!(numbers().check(true).is_err());
        for change in [
            |profile: &mut Profile| profile.edges = vec![10.0, 0.0],
            |profile: &mut Profile| profile.shares = vec![0.5, 0.5],
            |profile: &mut Profile| profile.shares = vec![0.5, 0.5, 0.5],
            |profile: &mut Profile| profile.missing_share = -0.1,
            |profile: &mut Profile| profile.edges = vec![f64::NAN, 0.0],
        ] {
            let mut profile = numbers();
            change(&mut profile);
            assert!(profile.check(false).is_err(), "{profile:?}");
        }
    }
}
