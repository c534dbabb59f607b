//! What answers where a model cannot: another model, or a constant (`[fallback]` of `model.toml`).

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

/// What answers for rows that the model cannot score, for want of their features or of the model itself.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// Another model, which is asked first; its own fallback is not.
    #[serde(default)]
    pub model: Option<String>,
    /// The score that is answered where no other model is named, or it cannot score either.
    #[serde(default)]
    pub score: Option<f64>,
    /// The label that goes with the score.
    #[serde(default)]
    pub label: Option<String>,
}

/// What is answered where nothing can be scored.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// The score.
    pub score: f64,
    /// The label; empty for none.
    pub label: String,
}

impl Fallback {
    /// The constant, where there is one.
    pub fn constant(&self) -> Option<Constant> {
        let label = self.label.clone().unwrap_or_default();
        self.score.map(|score| Constant { score, label })
    }

    /// Holds what is said against itself, for the model of a name.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(super) fn check(&self, name: &str) -> Result<(), String> {
        if self.model.is_none() && self.score.is_none() {
            return Err("neither model nor score is there".to_owned());
        }
        if self.model.as_deref() == Some(name) {
            return Err("model: it is the model itself".to_owned());
        }
        if self.score.is_some_and(|score| !score.is_finite()) {
            return Err("score: it is no finite number".to_owned());
        }
        if self.label.is_some() && self.score.is_none() {
            return Err("label: it goes with a score, and there is none".to_owned());
        }
        Ok(())
    }
}

/// How often a fallback answered, in rows, since the model was first loaded.
#[derive(Debug, Default)]
pub struct FallbackCounters {
    by_model: AtomicU64,
    by_constant: AtomicU64,
}

impl FallbackCounters {
    pub(super) fn add(&self, by_model: usize, by_constant: usize) {
        let whole = |rows: usize| u64::try_from(rows).unwrap_or(u64::MAX);
        self.by_model.fetch_add(whole(by_model), Ordering::Relaxed);
        self.by_constant
            .fetch_add(whole(by_constant), Ordering::Relaxed);
    }

    /// Rows that the other model scored.
    pub fn by_model(&self) -> u64 {
        self.by_model.load(Ordering::Relaxed)
    }

    /// Rows that were answered with the constant.
    pub fn by_constant(&self) -> u64 {
        self.by_constant.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        let fallback = |model: Option<&str>, score, label: Option<&str>| Fallback {
            model: model.map(str::to_owned),
            score,
            label: label.map(str::to_owned),
        };
        for (given, part) in [
            (fallback(None, None, None), "neither model nor score"),
            (fallback(Some("m"), None, None), "the model itself"),
            (fallback(None, Some(f64::NAN), None), "no finite number"),
            (fallback(Some("n"), None, Some("bad")), "goes with a score"),
        ] {
            let told = given.check("m").err().unwrap_or_default();
            assert!(told.contains(part), "{part} in {told}");
        }
        let both = fallback(Some("n"), Some(0.5), Some("bad"));
        assert_eq!(both.check("m"), Ok(()));
        let label = "bad".to_owned();
        assert_eq!(both.constant(), Some(Constant { score: 0.5, label }));
    }
}
