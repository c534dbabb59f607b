//! What came of scoring: one version's rows of a request, with all that the answer, the ledger and drift need of them.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{Batch, Output, ReadyVersion, Subject, policy::InputViolation, signature::Interpreted};
use crate::{
    error::{Error, Result},
    features::{FeatureColumn, Timestamp},
};

/// Why rows were scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// For the answer.
    Answer,
    /// Beside the answer, by a version that has yet to prove itself.
    Shadow,
}

/// Rows that one version scored together.
#[derive(Debug)]
pub struct ScoredBatch {
    /// Who scored.
    pub version: Arc<ReadyVersion>,
    /// Why.
    pub role: Role,
    /// Names each row's prediction.
    pub ids: Vec<Uuid>,
    /// What the model was given.
    pub batch: Arc<Batch>,
    /// What it answered.
    pub output: Output,
    /// What its inputs' policies did not allow, by row and input.
    pub violations: Vec<InputViolation>,
    /// The stored features that were used, a column an input; none where rows came with the request.
    pub features: Option<Vec<FeatureColumn>>,
    /// The request that the rows are of.
    pub subject: Subject,
    /// Where each row is in the request.
    pub positions: Vec<usize>,
    /// When the scoring began.
    pub at: Timestamp,
    /// How long it took, the reading of features included.
    pub latency: Duration,
}

/// The score of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Names it.
    pub id: Uuid,
    /// The score, the label and the probabilities.
    pub interpreted: Interpreted,
}

impl ScoredBatch {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.batch.rows
    }

    /// The prediction of a row.
    ///
    /// # Errors
    /// `Internal` for a row that is not there.
    pub fn prediction(&self, row: usize) -> Result<Prediction> {
        let signature = &self.version.signature;
        let columns = signature.columns();
        let first = row * columns;
        let outputs: Option<Vec<f64>> = (first..first + columns)
            .map(|at| self.output.get(at))
            .collect();
        let (Some(outputs), Some(id)) = (outputs, self.ids.get(row)) else {
            return Err(Error::internal(
                "the runtime answered fewer scores than rows",
            ));
        };
        Ok(Prediction {
            id: *id,
            interpreted: signature.interpret(outputs),
        })
    }

    /// What a row's inputs were that their policies do not allow.
    pub fn violations_of(&self, row: usize) -> impl Iterator<Item = &InputViolation> {
        // In the order of rows, whoever laid them out.
        let first = self.violations.partition_point(|v| v.row < row);
        self.violations
            .iter()
            .skip(first)
            .take_while(move |violation| violation.row == row)
    }
}

/// The scores of one request: a part a version, and where each row of the request is found.
#[derive(Debug)]
pub struct Predictions {
    /// One a version that scored.
    pub parts: Vec<Arc<ScoredBatch>>,
    /// One a row or entity of the request, in its order: which part, and which row of it.
    pub places: Vec<Place>,
}

/// Where a row of a request was scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The position of the part.
    pub part: usize,
    /// The row of the part.
    pub row: usize,
}

impl Predictions {
    /// Each row of the request, in its order.
    pub fn rows(&self) -> impl Iterator<Item = (&ScoredBatch, usize)> {
        self.places
            .iter()
            .filter_map(|place| Some((self.parts.get(place.part)?.as_ref(), place.row)))
    }
}
