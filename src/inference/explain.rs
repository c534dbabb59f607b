//! Why a row is scored as it is: what each input adds to the raw score, as exact SHAP values.

/// What each input adds to one output of the model, for one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The mean raw score over the training data: what is known of a row of which nothing is known.
    pub base_value: f64,
    /// What each input adds to it, in the signature's order.
    pub contributions: Vec<f64>,
    /// The raw score: the logarithm of the odds of a binary classifier, a class's of a multi-class one, else the value.
    pub raw_score: f64,
    /// The answer that follows from the raw score, as the model's output has it.
    pub score: f64,
}

/// How far sums of 32-bit floats may be apart, of numbers up to 1, and relative to larger ones.
const TOLERANCE: f64 = 1e-4;

impl Explanation {
    /// Whether the base value and the contributions are the raw score together.
    pub fn adds_up(&self) -> bool {
        let sum = self.base_value + self.contributions.iter().sum::<f64>();
        is_near(sum, self.raw_score)
    }

    /// Whether the contributions are those of another library.
    pub(super) fn has(&self, base_value: f64, contributions: &[f64]) -> bool {
        is_near(self.base_value, base_value)
            && self.contributions.len() == contributions.len()
            && self
                .contributions
                .iter()
                .zip(contributions)
                .all(|(own, other)| is_near(*own, *other))
    }
}

/// Whether two numbers are the same but for the rounding of 32-bit floats.
pub(super) fn is_near(one: f64, other: f64) -> bool {
    (one - other).abs() <= TOLERANCE * one.abs().max(1.0)
}
