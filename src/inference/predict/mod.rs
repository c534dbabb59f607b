//! Prediction: the one place where a request for scores branches.

mod busyness;
mod entity;
mod fallback;
mod layout;
mod part;
mod prepare;
mod shadow;
mod subject;

use std::{cell::LazyCell, sync::Arc, time::Instant};

use futures_util::future;
use uuid::Uuid;

use self::prepare::{Left, Prepared, Refusal};
pub use self::{
    shadow::{ShadowOptions, Shadows},
    subject::Subject,
};
use super::{
    Explanation, Ledger, Model, ModelRegistry, Output, ReadyVersion,
    explain::check_explanations,
    scored::{Predictions, Role, ScoredBatch},
};
use crate::{
    catalog::{CatalogHandle, Field},
    error::{Error, ErrorKind, Result},
    features::{FeatureTable, OnlineStore, Timestamp, check_values},
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
        let split = {
            let join_keys = LazyCell::new(|| self.join_keys(&route.stable));
            route.split(subject.len(), |row| {
                subject.bucket(&model.name, columns, &join_keys, row)
            })
        };
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
                .add(self, &model, shadow, subject, &predictions.parts);
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
        let split = {
            let join_keys = LazyCell::new(|| self.join_keys(&route.stable));
            route.split(1, |row| {
                subject.bucket(&model.name, columns, &join_keys, row)
            })
        };
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

    /// The keys of the entities that a version's features are of, as far as the catalog has them.
    fn join_keys(&self, version: &ReadyVersion) -> Vec<Field> {
        let catalog = self.catalog.snapshot();
        let mut join_keys: Vec<Field> = Vec::new();
        for input in &version.inputs {
            let Ok((view, _)) = catalog.resolve(&input.feature) else {
                continue;
            };
            for key in &view.join_keys {
                if !join_keys.iter().any(|known| known.name == key.name) {
                    join_keys.push(key.clone());
                }
            }
        }
        join_keys
    }

    /// Scores some of the rows with one version, all or none. Their features are read, unless somebody has them.
    async fn score(
        &self,
        model: &Model,
        version: Arc<ReadyVersion>,
        subject: &Subject,
        (positions, features): (Vec<usize>, Option<FeatureTable>),
        role: Role,
    ) -> Result<ScoredBatch> {
        let began = Began::now();
        let rows = (positions, features);
        let prepared = self.prepare(model, &version, subject, rows, began.at);
        let (prepared, left) = prepared.await?;
        refuse_any(&left)?;
        let (scored, left) = self.run(version, subject, prepared, role, began).await?;
        refuse_any(&left)?;
        scored.ok_or_else(|| Error::internal("rows that were neither scored nor refused"))
    }

    /// Runs rows that are ready, and counts them. Where the model answers no number for some of them, none is scored: these are
    /// set apart.
    async fn run(
        &self,
        version: Arc<ReadyVersion>,
        subject: &Subject,
        prepared: Prepared,
        role: Role,
        began: Began,
    ) -> Result<(Option<ScoredBatch>, Left)> {
        let laid_out = prepared.laid_out;
        let batch = Arc::new(laid_out.batch);
        let output = match role {
            Role::Answer => version.workers.run(Arc::clone(&batch)).await?,
            Role::Shadow => self.shadows.run(&version, Arc::clone(&batch)).await?,
        };
        let left = without_number(&version, subject, &prepared.positions, &output);
        if !left.is_empty() {
            return Ok((None, left));
        }
        version
            .counters
            .add_predictions(batch.rows, role == Role::Shadow);
        version.counters.add_violations(&laid_out.violations);
        version.drift.count(&laid_out.slots);
        let scored = ScoredBatch {
            role,
            ids: (0..batch.rows).map(|_| Uuid::now_v7()).collect(),
            answer_ids: None,
            batch,
            output,
            violations: laid_out.violations,
            features: prepared.features,
            subject: subject.clone(),
            positions: prepared.positions,
            at: began.at,
            latency: began.started.elapsed(),
            version,
        };
        Ok((Some(scored), left))
    }
}

/// Passes where no row is left.
fn refuse_any(left: &Left) -> Result<()> {
    match left.values().next() {
        Some(refusal) => Err(refusal.to_error()),
        None => Ok(()),
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

/// The rows for which a model answers a NaN or an infinity, as a linear one does that is given numbers without measure.
fn without_number(
    version: &ReadyVersion,
    subject: &Subject,
    positions: &[usize],
    output: &Output,
) -> Left {
    let columns = version.signature.columns();
    let rows = positions.iter().enumerate();
    let without = rows.filter(|(row, _)| !output.are_finite(row * columns..(row + 1) * columns));
    without
        .map(|(_, position)| {
            let place = subject.place(*position);
            let reason = format!("the model answers no number for {place}");
            let refusal = Refusal {
                kind: ErrorKind::FailedPrecondition,
                reason,
            };
            (*position, refusal)
        })
        .collect()
}
