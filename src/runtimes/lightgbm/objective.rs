//! What a LightGBM model was trained for, which decides how the sum of its leaves becomes an answer.

use std::fmt;

use crate::inference::Task;

/// Objectives whose answer is a value; those with "sqrt" answer its square.
const VALUES: [&str; 10] = [
    "regression",
    "regression_l1",
    "huber",
    "fair",
    "poisson",
    "quantile",
    "mape",
    "gamma",
    "tweedie",
    "cross_entropy_lambda",
];
const RANKS: [&str; 2] = ["lambdarank", "rank_xendcg"];

/// A known objective, with checked parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Objective {
    /// Somebody's own: the answer is the sum of the leaves.
    Custom,
    /// The probability of the second class; none where it is cross entropy, which has no parameter.
    Binary { sigmoid: Option<f64> },
    /// The probabilities of all classes; where there is a sigmoid each by itself.
    Multiclass {
        classes: usize,
        sigmoid: Option<f64>,
    },
    /// A value.
    Value { name: &'static str, is_sqrt: bool },
    /// A value to order by.
    Rank { name: &'static str },
}

impl Objective {
    /// Reads what stands after `objective=`.
    ///
    /// # Errors
    /// A sentence for one that is not known, or whose parameters make no sense.
    pub(super) fn parse(text: &str) -> Result<Objective, String> {
        let mut words = text.split_ascii_whitespace();
        let name = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        let unknown = || {
            let shown: String = text.chars().take(60).collect();
            format!("objective: \"{shown}\" is not known")
        };
        if let Some(name) = known(&VALUES, name) {
            return match words.as_slice() {
                [] => Ok(Objective::Value {
                    name,
                    is_sqrt: false,
                }),
                ["sqrt"] => Ok(Objective::Value {
                    name,
                    is_sqrt: true,
                }),
                _ => Err(unknown()),
            };
        }
        if let (Some(name), []) = (known(&RANKS, name), words.as_slice()) {
            return Ok(Objective::Rank { name });
        }
        match (name, words.as_slice()) {
            ("custom", []) => Ok(Objective::Custom),
            ("cross_entropy", []) => Ok(Objective::Binary { sigmoid: None }),
            ("binary", [sigmoid]) => Ok(Objective::Binary {
                sigmoid: Some(parse_sigmoid(sigmoid).ok_or_else(unknown)?),
            }),
            ("multiclass", [classes]) => Ok(Objective::Multiclass {
                classes: parse_classes(classes).ok_or_else(unknown)?,
                sigmoid: None,
            }),
            ("multiclassova", [classes, sigmoid]) => Ok(Objective::Multiclass {
                classes: parse_classes(classes).ok_or_else(unknown)?,
                sigmoid: Some(parse_sigmoid(sigmoid).ok_or_else(unknown)?),
            }),
            _ => Err(unknown()),
        }
    }

    /// How many numbers a row the objective answers.
    pub(super) fn classes(self) -> Option<usize> {
        match self {
            Objective::Custom => None,
            Objective::Multiclass { classes, .. } => Some(classes),
            Objective::Binary { .. } | Objective::Value { .. } | Objective::Rank { .. } => Some(1),
        }
    }

    /// Whether the answer is what a task needs.
    ///
    /// # Errors
    /// A sentence where it is not.
    pub(super) fn check_task(self, task: Task) -> Result<(), String> {
        let fits = match task {
            Task::BinaryClassification => matches!(self, Objective::Binary { .. }),
            Task::MulticlassClassification => matches!(self, Objective::Multiclass { .. }),
            Task::Regression => matches!(self, Objective::Value { .. } | Objective::Custom),
            Task::Ranking => matches!(
                self,
                Objective::Rank { .. } | Objective::Value { .. } | Objective::Custom
            ),
        };
        if fits {
            return Ok(());
        }
        Err(format!(
            "its objective, {self}, does not answer what the signature's task needs"
        ))
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Objective::Custom => f.write_str("custom"),
            Objective::Binary { sigmoid: None } => f.write_str("cross_entropy"),
            Objective::Binary {
                sigmoid: Some(sigmoid),
            } => write!(f, "binary sigmoid:{sigmoid}"),
            Objective::Multiclass {
                classes,
                sigmoid: None,
            } => write!(f, "multiclass num_class:{classes}"),
            Objective::Multiclass {
                classes,
                sigmoid: Some(sigmoid),
            } => write!(f, "multiclassova num_class:{classes} sigmoid:{sigmoid}"),
            Objective::Value { name, is_sqrt } => {
                write!(f, "{name}{}", if *is_sqrt { " sqrt" } else { "" })
            }
            Objective::Rank { name } => f.write_str(name),
        }
    }
}

fn known(names: &[&'static str], name: &str) -> Option<&'static str> {
    names.iter().find(|known| **known == name).copied()
}

fn parse_classes(word: &str) -> Option<usize> {
    word.strip_prefix("num_class:")?.parse().ok()
}

fn parse_sigmoid(word: &str) -> Option<f64> {
    let sigmoid: f64 = word.strip_prefix("sigmoid:")?.parse().ok()?;
    (sigmoid > 0.0 && sigmoid.is_finite()).then_some(sigmoid)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_known_is_written_as_it_was_read() {
        for text in [
            "binary sigmoid:1",
            "binary sigmoid:0.5",
            "cross_entropy",
            "multiclass num_class:3",
            "multiclassova num_class:4 sigmoid:2",
            "regression",
            "regression sqrt",
            "tweedie",
            "lambdarank",
            "custom",
        ] {
            assert_eq!(Objective::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "binary",
            "binary sigmoid:-1",
            "binary sigmoid:nan",
            "binary sigmoid:1 more",
            "multiclass",
            "multiclass num_class:x",
            "lambdarank sqrt",
            "regression square",
            "mystery",
        ] {
            assert!(Objective::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_task_takes_what_answers_it() {
        let fits = |text: &str, task| Objective::parse(text).unwrap().check_task(task).is_ok();
        assert!(fits("binary sigmoid:1", Task::BinaryClassification));
        assert!(!fits("binary sigmoid:1", Task::Regression));
        assert!(!fits("regression", Task::BinaryClassification));
        assert!(fits(
            "multiclass num_class:3",
            Task::MulticlassClassification
        ));
        assert!(fits("regression", Task::Ranking));
        assert!(fits("custom", Task::Ranking));
        assert!(!fits("lambdarank", Task::Regression));
    }
}
