//! What an input may be: how old, in which range, of which categories; and what happens where it is not.

use std::time::Duration;

use serde::Deserialize;

use super::layout::{limit_for, number};
use crate::{catalog::FeatureRef, features::Value};

/// What to do with a missing value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingPolicy {
    /// The model gets a missing value.
    #[default]
    Allow,
    /// The model gets the input's default.
    Default,
    /// The request is refused.
    Reject,
}

/// What to do with a value outside the allowed range or categories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvalidPolicy {
    /// The model gets it as it is; it is counted and named.
    #[default]
    Allow,
    /// It is taken for a missing value.
    Missing,
    /// The model gets the input's default.
    Default,
    /// The request is refused.
    Reject,
}

/// One input of a version, bound to its feature, with what it may be.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundInput {
    /// The feature that fills it in a prediction by entity.
    pub feature: FeatureRef,
    /// How old a stored value may be, where its view's TTL allows more; an older one is missing.
    pub max_age: Option<Duration>,
    /// What to do with a missing value.
    pub on_missing: MissingPolicy,
    /// What to do with a value outside what is allowed.
    pub on_invalid: InvalidPolicy,
    /// What stands in for a value; of the input's type.
    pub default: Option<Value>,
    /// The least number allowed.
    pub min: Option<f64>,
    /// The greatest number allowed.
    pub max: Option<f64>,
    /// The texts allowed; empty: all.
    pub categories: Vec<String>,
}

/// What was wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ViolationKind {
    /// It was missing, and the default stood in for it.
    Missing,
    /// It was older than the input allows.
    TooOld,
    /// The number is outside the allowed range.
    OutOfRange,
    /// The text is none of the allowed ones.
    UnknownCategory,
}

/// A value that its input's policy does not allow, in a row that was scored all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputViolation {
    /// The row of the batch.
    pub row: usize,
    /// The position of the input.
    pub input: usize,
    /// What was wrong.
    pub kind: ViolationKind,
    /// Whether the default stood in for the value.
    pub is_defaulted: bool,
}

/// What a model gets for a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Admitted<'a> {
    /// This value.
    Value(&'a Value),
    /// A missing value.
    Missing,
}

impl BoundInput {
    /// An input of a feature, with nothing forbidden.
    pub fn new(feature: FeatureRef) -> BoundInput {
        BoundInput {
            feature,
            max_age: None,
            on_missing: MissingPolicy::default(),
            on_invalid: InvalidPolicy::default(),
            default: None,
            min: None,
            max: None,
            categories: Vec::new(),
        }
    }

    /// What the model gets for a value, and what was wrong with it. `is_too_old`: the value was left out for its age.
    ///
    /// # Errors
    /// A sentence where the policy is to refuse.
    pub fn admit<'a>(
        &'a self,
        value: &'a Value,
        is_too_old: bool,
    ) -> Result<(Admitted<'a>, Option<ViolationKind>), String> {
        if value.is_missing() {
            let kind = is_too_old.then_some(ViolationKind::TooOld);
            return self.admit_missing(kind);
        }
        let Some(kind) = self.fault(value) else {
            return Ok((Admitted::Value(value), None));
        };
        match self.on_invalid {
            InvalidPolicy::Allow => Ok((Admitted::Value(value), Some(kind))),
            InvalidPolicy::Missing => self.admit_missing(Some(kind)),
            InvalidPolicy::Default => Ok((self.defaulted(), Some(kind))),
            InvalidPolicy::Reject => Err(format!("{value} is {}", self.allowed(kind))),
        }
    }

    fn admit_missing(
        &self,
        kind: Option<ViolationKind>,
    ) -> Result<(Admitted<'_>, Option<ViolationKind>), String> {
        match self.on_missing {
            MissingPolicy::Allow => Ok((Admitted::Missing, kind)),
            MissingPolicy::Default => Ok((
                self.defaulted(),
                Some(kind.unwrap_or(ViolationKind::Missing)),
            )),
            MissingPolicy::Reject => Err("the model rejects missing values of it".to_owned()),
        }
    }

    fn defaulted(&self) -> Admitted<'_> {
        self.default
            .as_ref()
            .map_or(Admitted::Missing, Admitted::Value)
    }

    /// Why a value is none that is allowed; none: it is one.
    pub(super) fn fault(&self, value: &Value) -> Option<ViolationKind> {
        if let (Value::String(text), false) = (value, self.categories.is_empty()) {
            let is_known = self.categories.iter().any(|known| known == text);
            return (!is_known).then_some(ViolationKind::UnknownCategory);
        }
        if self.min.is_none() && self.max.is_none() {
            return None;
        }
        let number = number(value).ok()??;
        let is_below = self.min.is_some_and(|min| number < limit_for(value, min));
        let is_above = self.max.is_some_and(|max| number > limit_for(value, max));
        (is_below || is_above).then_some(ViolationKind::OutOfRange)
    }

    /// How a value fails, in words.
    fn allowed(&self, kind: ViolationKind) -> String {
        match kind {
            ViolationKind::OutOfRange => {
                let bound = |bound: Option<f64>, open: &str| {
                    bound.map_or_else(|| open.to_owned(), |bound| bound.to_string())
                };
                format!(
                    "outside the range that the model allows, {} to {}",
                    bound(self.min, "-infinity"),
                    bound(self.max, "infinity")
                )
            }
            ViolationKind::UnknownCategory => "none of the texts that the model allows".to_owned(),
            ViolationKind::Missing | ViolationKind::TooOld => "missing".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_allowed_also_where_the_value_was_rounded() {
        for bound in [0.1, 0.3, 0.7, 5.99, 16_777_217.0] {
            #[expect(clippy::cast_possible_truncation, reason = "as packed rows bring it")]
            let rounded = bound as f32;
            let feature = FeatureRef {
                view: "v".into(),
                feature: "f".into(),
            };
            let input = BoundInput {
                min: Some(bound),
                max: Some(bound),
                ..BoundInput::new(feature)
            };
            let kind = |value: Value| input.admit(&value, false).map(|(_, kind)| kind);
            assert_eq!(kind(Value::Float(rounded)), Ok(None), "{bound}");
            assert_eq!(kind(Value::Double(bound)), Ok(None), "{bound}");
            let outside = Ok(Some(ViolationKind::OutOfRange));
            assert_eq!(kind(Value::Float(rounded.next_up())), outside, "{bound}");
            assert_eq!(kind(Value::Float(rounded.next_down())), outside, "{bound}");
        }
    }
}
