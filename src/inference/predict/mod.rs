//! Prediction: the one place where a request for scores branches.

mod entity;
mod fallback;
mod layout;
mod part;
mod prepare;
mod shadow;
mod subject;

use std::{sync::Arc, time::Instant};

use futures_util::future;
use uuid::Uuid;

use self::prepare::{Left, Prepared};
pub use self::{shadow::Shadows, subject::Subject};
use super::{
    Explanation, Ledger, Model, ModelRegistry, ReadyVersion,
    explain::check_explanations,
    scored::{Predictions, Role, ScoredBatch},
};
use crate::{
    catalog::CatalogHandle,
    error::{Error, ErrorKind, Result},
    features::{FeatureColumn, OnlineStore, Timestamp, check_values},
};

/// Which model, and which version of it: a version, an alias, or empty for the default and the traffic's shares.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The version or alias.
    pub version: &'a str,
}

/// Scores rows and entities. Cheap to clone.
#[derive(Clone)]
pub struct Predictor {
    /// What is defined.
    pub catalog: Arc<CatalogHandle>,
    /// Where the features are.
    pub store: Arc<dyn OnlineStore>,
    /// What is loaded.
    pub models: Arc<ModelRegistry>,
    /// Values a request: rows or entities times inputs.
    pub values_max: usize,
    /// Bytes of the features that one request reads.
    pub answer_bytes_max: usize,
    /// Who scores beside the answers.
    pub shadows: Shadows,
    /// Where all that is scored is recorded.
    pub ledger: Ledger,
}

impl Predictor {
    /// Scores rows that the request brings, or entities from their stored features. Where a model has a fallback, that
    /// answers for what it cannot score.
    ///
    /// # Errors
    /// As `Model::route`; `InvalidArgument` naming row and key; `FailedPrecondition` naming the input whose value a policy
    /// refuses; `NotFound` for an entity that no view has, where the model rejects that; `Overloaded` where the model's
    /// queue is full; `Unavailable` where the store is away.
    pub async fn predict(&self, target: Target<'_>, subject: &Subject) -> Result<Predictions> {
        let model = self.models.model(target.model)?;
        let has_fallback = model.fallback.is_some();
        let route = match model.route(target.version) {
            Err(error) if has_fallback && error.kind() == ErrorKind::FailedPrecondition => {
                let left = fallback::refuse_all(0..subject.len(), &error);
                return self.fall_back(&model, subject, Vec::new(), left).await;
            }
            route => route?,
        };
        let columns = route.stable.inputs.len();
        check_values(subject.field(), subject.len(), columns, self.values_max)?;
        let split = route.split(subject.len(), |row| {
            subject.bucket(&model.name, columns, row)
        });
        let scored = split.into_iter().map(|(version, positions)| {
            self.score_apart(&model, version, subject, positions, has_fallback)
        });
        let (mut parts, mut left) = (Vec::new(), Left::new());
        for (part, also_left) in future::try_join_all(scored).await? {
            parts.extend(part.map(Arc::new));
            left.extend(also_left);
        }
        let predictions = self.fall_back(&model, subject, parts, left).await?;
        for shadow in route.shadows {
            self.shadows
                .start(self, &model, shadow, subject, &predictions.parts);
        }
        Ok(predictions)
    }

    /// Explains the score of the first row, by the version that scores it.
    ///
    /// # Errors
    /// As `predict`; `FailedPrecondition` for a version that came without what explanations need.
    pub async fn explain(
        &self,
        target: Target<'_>,
        subject: &Subject,
    ) -> Result<(Arc<ScoredBatch>, Vec<Explanation>)> {
        let model = self.models.model(target.model)?;
        let route = model.route(target.version)?;
        let columns = route.stable.inputs.len();
        let split = route.split(1, |row| subject.bucket(&model.name, columns, row));
        let Some((version, positions)) = split.into_iter().next() else {
            return Err(Error::internal("a row that no version scores"));
        };
        let scored = self
            .score(&model, version, subject, (positions, None), Role::Answer)
            .await?;
        let explained = scored.version.workers.explain(Arc::clone(&scored.batch));
        let explained = explained.await?;
        let outputs = (0..scored.output.len()).filter_map(|at| scored.output.get(at));
        let outputs: Vec<f64> = outputs.collect();
        check_explanations(&explained, &outputs).map_err(Error::internal)?;
        let scored = Arc::new(scored);
        self.ledger.record(&scored);
        Ok((scored, explained))
    }

    /// Scores some of the rows with one version, all or none. Their features are read, unless somebody has them.
    async fn score(
        &self,
        model: &Model,
        version: Arc<ReadyVersion>,
        subject: &Subject,
        (positions, columns): (Vec<usize>, Option<Vec<FeatureColumn>>),
        role: Role,
    ) -> Result<ScoredBatch> {
        let began = Began::now();
        let rows = (positions, columns);
        let prepared = self.prepare(model, &version, subject, rows, began.at);
        let (prepared, left) = prepared.await?;
        match left.values().next() {
            Some(refusal) => Err(refusal.to_error()),
            None => run(version, subject, prepared, role, began).await,
        }
    }
}

/// When a scoring began.
#[derive(Clone, Copy)]
struct Began {
    at: Timestamp,
    started: Instant,
}

impl Began {
    fn now() -> Began {
        Began {
            at: Timestamp::now(),
            started: Instant::now(),
        }
    }
}

/// Runs rows that are ready, and counts them.
async fn run(
    version: Arc<ReadyVersion>,
    subject: &Subject,
    prepared: Prepared,
    role: Role,
    began: Began,
) -> Result<ScoredBatch> {
    let laid_out = prepared.laid_out;
    let batch = Arc::new(laid_out.batch);
    let output = version.workers.run(Arc::clone(&batch)).await?;
    version
        .counters
        .add_predictions(batch.rows, role == Role::Shadow);
    version.counters.add_violations(&laid_out.violations);
    version.drift.count(&laid_out.slots);
    Ok(ScoredBatch {
        role,
        ids: (0..batch.rows).map(|_| Uuid::now_v7()).collect(),
        batch,
        output,
        violations: laid_out.violations,
        features: prepared.features,
        subject: subject.clone(),
        positions: prepared.positions,
        at: began.at,
        latency: began.started.elapsed(),
        version,
    })
}
