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

/// Holds the explanations of a row against what the model answered of it.
///
/// # Errors
/// A sentence where one does not add up, or leads to another answer.
pub(super) fn check_explanations(explained: &[Explanation], outputs: &[f64]) -> Result<(), String> {
    for (output, explanation) in explained.iter().enumerate() {
        // A binary classifier's trees have one output, which is its second class.
        let answered = match explained.len() {
            1 => outputs.last(),
            _ => outputs.get(output),
        };
        let leads = answered.is_some_and(|score| is_near(explanation.score, *score));
        if !explanation.adds_up() || !leads {
            return Err(format!(
                "the trees that explain it give {}, and the model {answered:?}: they are of another model",
                explanation.score
            ));
        }
    }
    Ok(())
}

/// Whether two numbers are the same but for the rounding of 32-bit floats.
pub(super) fn is_near(one: f64, other: f64) -> bool {
    (one - other).abs() <= TOLERANCE * one.abs().max(1.0)
}
