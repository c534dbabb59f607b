//! Who answers for rows that a model cannot score: its fallback, another model first and then a constant.

use std::sync::Arc;

use super::{
    Began, Predictor, Subject,
    prepare::{Left, Refusal},
};
use crate::{
    error::{Error, ErrorKind, Result},
    inference::{Fallback, Model, Predictions, ReadyVersion, Role, ScoredBatch},
};

/// What was scored of some rows, and what was left.
type Apart = (Option<ScoredBatch>, Left);

impl Predictor {
    /// Scores some of the rows with one version, and tells which it does not score. `is_soft`: all of them, where the store is
    /// away or the queue is full; else that is an error.
    ///
    /// # Errors
    /// As `predict`.
    pub(super) async fn score_apart(
        &self,
        model: &Model,
        version: Arc<ReadyVersion>,
        subject: &Subject,
        positions: Vec<usize>,
        is_soft: bool,
    ) -> Result<Apart> {
        let began = Began::now();
        let all = if is_soft {
            positions.clone()
        } else {
            Vec::new()
        };
        let rows = (positions, None);
        let prepared = self.prepare(model, &version, subject, rows, began.at);
        let (prepared, mut left) = match prepared.await {
            Err(error) if is_soft && is_away(&error) => return Ok((None, refuse_all(all, &error))),
            prepared => prepared?,
        };
        if prepared.positions.is_empty() || (!is_soft && !left.is_empty()) {
            return Ok((None, left));
        }
        let scored = self
            .run(Arc::clone(&version), subject, prepared, Role::Answer, began)
            .await;
        let (scored, without) = match scored {
            Err(error) if is_soft && is_away(&error) => return Ok((None, refuse_all(all, &error))),
            scored => scored?,
        };
        if without.is_empty() || !is_soft {
            left.extend(without);
            return Ok((scored, left));
        }
        // The others are scored by themselves.
        let others = all.into_iter();
        let others = others.filter(|row| !left.contains_key(row) && !without.contains_key(row));
        let others: Vec<usize> = others.collect();
        left.extend(without);
        if others.is_empty() {
            return Ok((None, left));
        }
        let scored = self.score_apart(model, version, subject, others, is_soft);
        let (scored, also_left) = Box::pin(scored).await?;
        left.extend(also_left);
        Ok((scored, left))
    }

    /// Puts the answer together, and in the ledger: what the model scored, and what its fallback says of the rest.
    ///
    /// # Errors
    /// Why the first row that is left was not scored, where nothing answers in the model's place.
    pub(super) async fn fall_back(
        &self,
        model: &Model,
        subject: &Subject,
        mut parts: Vec<Arc<ScoredBatch>>,
        mut left: Left,
    ) -> Result<Predictions> {
        let mut excuses = Left::new();
        let fallback = model.fallback.as_ref().filter(|_| !left.is_empty());
        if let Some(other) = fallback.and_then(|own| own.model.as_deref()) {
            let (scored, still_left) = self.ask_other(other, subject, &left).await;
            parts.extend(scored.map(Arc::new));
            left.retain(|position, _| !still_left.contains_key(position));
            excuses = std::mem::replace(&mut left, still_left);
        }
        let constant = fallback.and_then(Fallback::constant);
        if let (None, Some(first)) = (&constant, left.values().next()) {
            return Err(first.to_error());
        }
        model.fallbacks.add(excuses.len(), left.len());
        excuses.append(&mut left);
        for part in &parts {
            self.ledger.record(part);
        }
        let reasons = excuses
            .into_iter()
            .map(|(at, refusal)| (at, refusal.reason));
        let reasons = reasons.collect();
        Ok(Predictions::new(subject.len(), parts, constant, reasons))
    }

    /// Lets another model score what is left. What it leaves, too, has both reasons.
    async fn ask_other(&self, other: &str, subject: &Subject, left: &Left) -> Apart {
        let positions: Vec<usize> = left.keys().copied().collect();
        let (scored, mut still_left) = match self.score_by_other(other, subject, &positions).await {
            Ok(apart) => apart,
            Err(error) => (None, refuse_all(positions, &error)),
        };
        for (position, refusal) in &mut still_left {
            if let Some(own) = left.get(position) {
                let reason = format!(
                    "{}; its fallback \"{other}\": {}",
                    own.reason, refusal.reason
                );
                *refusal = Refusal {
                    kind: own.kind,
                    reason,
                };
            }
        }
        (scored, still_left)
    }

    async fn score_by_other(
        &self,
        other: &str,
        subject: &Subject,
        positions: &[usize],
    ) -> Result<Apart> {
        let model = self.models.model(other)?;
        let version = Arc::clone(model.resolve("")?);
        let subject = subject.taken_by(&version, positions)?;
        let positions = positions.to_vec();
        self.score_apart(&model, version, &subject, positions, true)
            .await
    }
}

/// Rows that are all left for the same reason.
pub(super) fn refuse_all(positions: impl IntoIterator<Item = usize>, error: &Error) -> Left {
    let refused = positions.into_iter();
    refused.map(|row| (row, Refusal::of(error))).collect()
}

/// Whether the features or the model are away for now, and the request is right.
fn is_away(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Overloaded | ErrorKind::Unavailable => true,
        ErrorKind::InvalidArgument
        | ErrorKind::Unauthenticated
        | ErrorKind::PermissionDenied
        | ErrorKind::NotFound
        | ErrorKind::FailedPrecondition
        | ErrorKind::Conflict
        | ErrorKind::Timeout
        | ErrorKind::Internal => false,
    }
}
