//! What a runtime answers, and how it is brought into the form that a signature promises.

use std::ops::Range;

use crate::{
    error::{Error, Result},
    features::widen,
};

/// What a runtime answers: as many numbers a row as `Signature::columns` says, row after row.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// From a graph of 32-bit floats.
    Float(Vec<f32>),
    /// From a graph of 64-bit floats.
    Double(Vec<f64>),
}

impl Output {
    /// How many numbers there are.
    pub fn len(&self) -> usize {
        match self {
            Output::Float(values) => values.len(),
            Output::Double(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the numbers of another output of the same model.
    ///
    /// # Errors
    /// `Internal` where it is of the other kind.
    pub fn append(&mut self, other: Output) -> Result<()> {
        match (self, other) {
            (Output::Float(all), Output::Float(more)) => all.extend(more),
            (Output::Double(all), Output::Double(more)) => all.extend(more),
            (Output::Float(_), Output::Double(_)) | (Output::Double(_), Output::Float(_)) => {
                return Err(Error::internal("a runtime answered in two kinds of floats"));
            }
        }
        Ok(())
    }

    /// The first numbers, taken off; the rest stays.
    pub(crate) fn take_first(&mut self, count: usize) -> Output {
        match self {
            Output::Float(all) => {
                let rest = all.split_off(count.min(all.len()));
                Output::Float(std::mem::replace(all, rest))
            }
            Output::Double(all) => {
                let rest = all.split_off(count.min(all.len()));
                Output::Double(std::mem::replace(all, rest))
            }
        }
    }

    /// Each probability of a class with that of the other, in the order of the two classes.
    fn with_complements(self, is_first: bool) -> Output {
        match self {
            Output::Float(all) => Output::Float(
                all.into_iter()
                    .flat_map(|one| ordered(one, 1.0 - one, is_first))
                    .collect(),
            ),
            Output::Double(all) => Output::Double(
                all.into_iter()
                    .flat_map(|one| ordered(one, 1.0 - one, is_first))
                    .collect(),
            ),
        }
    }

    /// Whether all numbers at these places are numbers, and none is infinite; a place that is not there says nothing.
    pub(crate) fn are_finite(&self, places: Range<usize>) -> bool {
        match self {
            Output::Float(values) => values
                .get(places)
                .is_none_or(|v| v.iter().all(|n| n.is_finite())),
            Output::Double(values) => values
                .get(places)
                .is_none_or(|v| v.iter().all(|n| n.is_finite())),
        }
    }

    /// The number at a place, a 32-bit one as a reader would write it.
    pub fn get(&self, at: usize) -> Option<f64> {
        match self {
            Output::Float(values) => values.get(at).copied().map(widen),
            Output::Double(values) => values.get(at).copied(),
        }
    }
}

fn ordered<T>(one: T, other: T, is_first: bool) -> [T; 2] {
    if is_first { [one, other] } else { [other, one] }
}

/// What a model's answer has to look like: numbers a row, row after row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerShape {
    /// Numbers a row, as `Signature::columns` says.
    pub columns: usize,
    /// Of a binary classifier the column of the positive class, whose probability may be all that the model answers.
    pub positive: Option<usize>,
}

impl AnswerShape {
    /// Whether a model that answers so many numbers a row can be taken.
    pub fn takes(&self, columns: usize) -> bool {
        columns == self.columns || (columns == 1 && self.positive.is_some())
    }

    /// Brings an answer for some rows into the promised form.
    ///
    /// # Errors
    /// `Internal` where the count of the numbers is another one.
    pub fn complete(&self, output: Output, rows: usize) -> Result<Output> {
        if output.len() == rows * self.columns {
            return Ok(output);
        }
        match self.positive {
            Some(positive) if output.len() == rows => Ok(output.with_complements(positive == 0)),
            Some(_) | None => Err(Error::internal(format!(
                "the model answered {} numbers for {rows} rows of {}",
                output.len(),
                self.columns
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_probability_a_row_becomes_two() {
        let shape = |positive| AnswerShape {
            columns: 2,
            positive,
        };
        let one = || Output::Double(vec![0.25, 1.0]);
        let complete = |positive| shape(positive).complete(one(), 2).unwrap();
        assert_eq!(
            complete(Some(1)),
            Output::Double(vec![0.75, 0.25, 0.0, 1.0])
        );
        assert_eq!(
            complete(Some(0)),
            Output::Double(vec![0.25, 0.75, 1.0, 0.0])
        );
        // Both are there already.
        assert_eq!(shape(Some(1)).complete(one(), 1).unwrap(), one());
        assert!(shape(None).complete(one(), 2).is_err());
        assert!(shape(Some(1)).complete(one(), 3).is_err());
    }
}
