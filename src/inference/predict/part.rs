//! What jobs need of prediction: a look at all of a large request, and the scores of a part of it.

use std::{ops::Range, sync::Arc};

use super::{
    Predictor, Role, Subject, Target,
    layout::{lay_out_dense, lay_out_rows},
    subject,
};
use crate::{
    error::Result,
    features::entity_keys,
    inference::{Model, ReadyVersion, ScoredBatch},
};

impl Predictor {
    /// What is wrong with a request that can be known without reading features or scoring. Takes time with the number of
    /// rows; returns the version that the request means now.
    ///
    /// # Errors
    /// As `Model::resolve`; `InvalidArgument` naming row and key; `FailedPrecondition` naming the input whose value a policy
    /// refuses.
    pub fn check(&self, target: Target<'_>, subject: &Subject) -> Result<Arc<ReadyVersion>> {
        let model = self.models.model(target.model)?;
        let version = Arc::clone(model.resolve(target.version)?);
        match subject {
            Subject::Rows(rows) => {
                for part in self.parts(subject, &version) {
                    lay_out_rows(&version, rows, &part)?.whole()?;
                }
            }
            Subject::Dense { values, rows } => {
                subject::check_dense(values, *rows, version.inputs.len())?;
                for part in self.parts(subject, &version) {
                    lay_out_dense(&version, values, &part)?.whole()?;
                }
            }
            Subject::Entities { rows: entities, .. } => {
                let selection = version.selection(&self.catalog.snapshot())?;
                entity_keys(&selection, entities)?;
            }
        }
        Ok(version)
    }

    /// The positions of the rows, in parts that need no more memory than one request.
    fn parts(&self, subject: &Subject, version: &ReadyVersion) -> Vec<Vec<usize>> {
        let size = self.values_max.checked_div(version.inputs.len());
        let positions: Vec<usize> = (0..subject.len()).collect();
        let parts = positions.chunks(size.unwrap_or(usize::MAX).max(1));
        parts.map(<[usize]>::to_vec).collect()
    }

    /// Scores some rows of a subject with one version, with no canary and no shadow beside it. Messages name rows by their
    /// place in the whole. The ledger learns of it from the caller, once he keeps it.
    ///
    /// # Errors
    /// As `predict`, but for what is wrong with model or version.
    pub async fn predict_part(
        &self,
        model: &Model,
        version: Arc<ReadyVersion>,
        subject: &Subject,
        rows: Range<usize>,
    ) -> Result<Arc<ScoredBatch>> {
        let positions = rows.clone().collect();
        let mut scored = self
            .score(model, version, subject, (positions, None), Role::Answer)
            .await?;
        // What is kept of a part keeps no memory of the whole.
        scored.subject = subject.part(&rows);
        scored.positions = (0..scored.rows()).collect();
        Ok(Arc::new(scored))
    }
}
