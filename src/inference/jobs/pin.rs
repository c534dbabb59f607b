//! Which version scores a job, all of it: found here, left to other servers, or chosen anew.

use std::sync::Arc;

use super::{Hold, Jobs, PinnedVersion, PredictionJob};
use crate::{
    error::{Error, Result},
    inference::{Model, ReadyVersion, VersionState},
};

/// Who scores a job.
pub(super) enum Pin {
    /// This version, from this row on.
    Version(PinnedVersion, u32),
    /// Nobody here, for this reason.
    Absent(Error),
    /// The job was lost.
    Lost,
}

impl Jobs {
    /// The version that scores all of the job, and the row that it goes on from: the one of the attempts before where it is
    /// still somewhere, else the one that is meant now, from the first row.
    pub(super) async fn pin(&self, job: &PredictionJob, hold: &Hold) -> Result<Pin> {
        if let Some(pinned) = &job.version {
            match self.pinned_version(&job.model, pinned) {
                Ok(_) => return Ok(Pin::Version(pinned.clone(), job.done)),
                // Nobody has gone on with it since, as often as it was left to others: it is nowhere any more.
                Err(error)
                    if self.may_be_elsewhere(&job.model, &pinned.version)
                        && self.declined.times(job.id) < self.options.attempts_max =>
                {
                    return Ok(Pin::Absent(error));
                }
                Err(_) => {}
            }
        }
        let model = self.predictor.models.model(&job.model)?;
        let wanted = match model.resolve(&job.wanted_version) {
            Err(error) if self.may_be_elsewhere(&job.model, &job.wanted_version) => {
                return Ok(Pin::Absent(error));
            }
            wanted => wanted?,
        };
        let signature = &wanted.signature;
        let pinned = PinnedVersion {
            version: signature.version.clone(),
            digest: signature.sha256.clone(),
        };
        if self.store.pin_job(hold, &pinned).await? {
            return Ok(Pin::Version(pinned, 0));
        }
        Ok(Pin::Lost)
    }

    /// Whether other servers may have a version that this one has not. What is unloaded is so for all.
    pub(super) fn may_be_elsewhere(&self, model: &str, wanted: &str) -> bool {
        let Ok(model) = self.predictor.models.model(model) else {
            return true;
        };
        let state = model.version(model.version_of(wanted)).map(|v| &v.state);
        !matches!(state, Some(VersionState::Unloaded))
    }

    /// A version as it was pinned. It can go away, or be replaced by another of its number, between any two chunks.
    pub(super) fn pinned_version(
        &self,
        name: &str,
        pinned: &PinnedVersion,
    ) -> Result<(Arc<Model>, Arc<ReadyVersion>)> {
        let model = self.predictor.models.model(name)?;
        let version = Arc::clone(model.resolve(&pinned.version)?);
        if version.signature.sha256 == pinned.digest {
            return Ok((model, version));
        }
        Err(Error::failed_precondition(format!(
            "version {} of the model \"{name}\" is another than the one that scored the rows before",
            pinned.version
        )))
    }
}
