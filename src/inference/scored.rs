//! What came of scoring: one version's rows of a request, with all that the answer, the ledger and drift need of them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    Batch, Constant, Output, ReadyVersion, Subject, policy::InputViolation, signature::Interpreted,
};
use crate::{
    error::{Error, Result},
    features::{FeatureTable, Timestamp},
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
    /// Of a shadow's rows the answers' ids, where there are any: what is kept of one is kept of both.
    pub answer_ids: Option<Vec<Uuid>>,
    /// What the model was given.
    pub batch: Arc<Batch>,
    /// What it answered.
    pub output: Output,
    /// What its inputs' policies did not allow, by row and input.
    pub violations: Vec<InputViolation>,
    /// The stored features that were used, a column an input; none where rows came with the request.
    pub features: Option<FeatureTable>,
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
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction<'a> {
    /// Names it.
    pub id: Uuid,
    /// The score, the label and the probabilities.
    pub interpreted: Interpreted<'a>,
}

impl ScoredBatch {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.batch.rows
    }

    /// The prediction of a row. `outputs` gets the row's numbers: who asks for many rows brings the same one.
    ///
    /// # Errors
    /// `Internal` for a row that is not there.
    pub fn prediction<'a>(&self, row: usize, outputs: &'a mut Vec<f64>) -> Result<Prediction<'a>> {
        let signature = &self.version.signature;
        let columns = signature.columns();
        let first = row * columns;
        outputs.clear();
        outputs.extend((first..first + columns).filter_map(|at| self.output.get(at)));
        let (true, Some(id)) = (outputs.len() == columns, self.ids.get(row)) else {
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

/// The scores of one request.
#[derive(Debug)]
pub struct Predictions {
    /// One a version that scored.
    pub parts: Vec<Arc<ScoredBatch>>,
    /// One a row or entity of the request, in its order: which part, and which row of it; none: the constant.
    places: Vec<Option<Place>>,
    /// What the model's fallback says of rows that nobody scored.
    constant: Option<Constant>,
    /// Why the model did not score rows that its fallback answers for, by their place in the request.
    reasons: BTreeMap<usize, String>,
}

/// Where a row of a request was scored.
#[derive(Debug, Clone, Copy)]
struct Place {
    part: usize,
    row: usize,
}

/// Who answers for a row.
#[derive(Debug, Clone, Copy)]
pub enum Answerer<'a> {
    /// A version, and which of its rows it is.
    Version(&'a ScoredBatch, usize),
    /// The constant of the model's fallback.
    Constant(&'a Constant),
}

impl Predictions {
    /// The scores of so many rows; `constant` answers for those that are in no part.
    pub(super) fn new(
        rows: usize,
        parts: Vec<Arc<ScoredBatch>>,
        constant: Option<Constant>,
        reasons: BTreeMap<usize, String>,
    ) -> Predictions {
        let mut places = vec![None; rows];
        for (part, scored) in parts.iter().enumerate() {
            for (row, position) in scored.positions.iter().enumerate() {
                if let Some(place) = places.get_mut(*position) {
                    *place = Some(Place { part, row });
                }
            }
        }
        Predictions {
            parts,
            places,
            constant,
            reasons,
        }
    }

    /// Each row of the request, in its order: who answers for it and, where that is the fallback, why.
    pub fn rows(&self) -> impl Iterator<Item = (Answerer<'_>, Option<&str>)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(position, place)| {
            let answerer = match place {
                Some(place) => Answerer::Version(self.parts.get(place.part)?, place.row),
                None => Answerer::Constant(self.constant.as_ref()?),
            };
            Some((answerer, self.reasons.get(&position).map(String::as_str)))
        })
    }
}
