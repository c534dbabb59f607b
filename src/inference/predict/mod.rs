//! Prediction: the one place where a request for scores branches.

mod layout;
mod part;
mod shadow;
mod subject;

use std::{sync::Arc, time::Instant};

use futures_util::future;
use uuid::Uuid;

use self::layout::{lay_out_columns, lay_out_dense, lay_out_rows, leave_out_old};
pub use self::{shadow::Shadows, subject::Subject};
use super::{
    Explanation, Ledger, Model, ModelRegistry, Policy, ReadyVersion,
    scored::{Place, Predictions, Role, ScoredBatch},
};
use crate::{
    catalog::CatalogHandle,
    error::{Error, Result},
    features::{
        FeatureColumn, FeatureSelection, FeatureStatus, Freshness, OnlineStore, RawRow, Timestamp,
        check_values, entity_keys_at, read_features,
    },
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
    /// Scores rows that the request brings, or entities from their stored features.
    ///
    /// # Errors
    /// As `Model::route`; `InvalidArgument` naming row and key; `FailedPrecondition` naming the input whose value a policy
    /// refuses; `NotFound` for an entity that no view has, where the model rejects that; `Overloaded` where the model's
    /// queue is full; `Unavailable` where the store is away.
    pub async fn predict(&self, target: Target<'_>, subject: &Subject) -> Result<Predictions> {
        let model = self.models.model(target.model)?;
        let route = model.route(target.version)?;
        let columns = route.stable.inputs.len();
        check_values(subject.field(), subject.len(), columns, self.values_max)?;
        let split = route.split(subject.len(), |row| {
            subject.bucket(&model.name, columns, row)
        });
        let mut places = vec![Place::default(); subject.len()];
        for (part, (_, positions)) in split.iter().enumerate() {
            for (row, position) in positions.iter().enumerate() {
                if let Some(place) = places.get_mut(*position) {
                    *place = Place { part, row };
                }
            }
        }
        let parts = split.into_iter().map(|(version, positions)| {
            self.score(&model, version, subject, positions, Role::Answer)
        });
        let parts = future::try_join_all(parts).await?;
        let parts: Vec<Arc<ScoredBatch>> = parts.into_iter().map(Arc::new).collect();
        for part in &parts {
            self.ledger.record(part);
        }
        for shadow in route.shadows {
            self.shadows.start(self, &model, shadow, subject);
        }
        Ok(Predictions { parts, places })
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
            .score(&model, version, subject, positions, Role::Answer)
            .await?;
        let explained = scored.version.workers.explain(Arc::clone(&scored.batch));
        let explained = explained.await?;
        match explained.iter().find(|explanation| !explanation.adds_up()) {
            None => {
                let scored = Arc::new(scored);
                self.ledger.record(&scored);
                Ok((scored, explained))
            }
            Some(wrong) => Err(Error::internal(format!(
                "the contributions do not add up to the raw score {}",
                wrong.raw_score
            ))),
        }
    }

    /// Scores some of the rows with one version.
    async fn score(
        &self,
        model: &Model,
        version: Arc<ReadyVersion>,
        subject: &Subject,
        positions: Vec<usize>,
        role: Role,
    ) -> Result<ScoredBatch> {
        let (at, started) = (Timestamp::now(), Instant::now());
        let (laid_out, features) = match subject {
            Subject::Rows(rows) => (lay_out_rows(&version, rows, &positions)?, None),
            Subject::Dense { values, rows } => {
                subject::check_dense(values, *rows, version.inputs.len())?;
                (lay_out_dense(&version, values, &positions)?, None)
            }
            Subject::Entities(entities) => {
                let columns = self.read(model, &version, entities, &positions, at).await?;
                (
                    lay_out_columns(&version, &columns, &positions)?,
                    Some(columns),
                )
            }
        };
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
            features,
            subject: subject.clone(),
            positions,
            at,
            latency: started.elapsed(),
            version,
        })
    }

    /// Reads the features of some entities, a column an input.
    async fn read(
        &self,
        model: &Model,
        version: &ReadyVersion,
        entities: &[RawRow],
        positions: &[usize],
        now: Timestamp,
    ) -> Result<Vec<FeatureColumn>> {
        let catalog = self.catalog.snapshot();
        let references = version.inputs.iter().map(|i| i.feature.clone()).collect();
        let selection = FeatureSelection::resolve(&catalog, references)?;
        let keys = entity_keys_at(&selection, entities, positions)?;
        let freshness = Freshness { now, max_age: None };
        let (store, bytes_max) = (self.store.as_ref(), self.answer_bytes_max);
        let mut columns = read_features(store, &selection, &keys, freshness, bytes_max).await?;
        if model.entity_not_found == Policy::Reject {
            refuse_unknown_entities(&columns, entities, positions)?;
        }
        leave_out_old(version, &mut columns, now);
        Ok(columns)
    }
}

/// Refuses entities that no view has a row of.
fn refuse_unknown_entities(
    columns: &[FeatureColumn],
    entities: &[RawRow],
    positions: &[usize],
) -> Result<()> {
    for (row, index) in positions.iter().enumerate() {
        let is_known = columns.iter().any(|column| {
            column
                .values
                .get(row)
                .is_some_and(|value| value.status != FeatureStatus::NotFound)
        });
        if is_known {
            continue;
        }
        let fields = entities.get(*index).map(|entity| entity.fields.as_slice());
        let keys: Vec<String> = fields
            .unwrap_or_default()
            .iter()
            .map(|(name, value)| format!("{name} {}", value.shown()))
            .collect();
        return Err(Error::not_found(format!(
            "entities[{index}]: no features are stored of {}, and the model rejects unknown entities",
            keys.join(", ")
        )));
    }
    Ok(())
}
