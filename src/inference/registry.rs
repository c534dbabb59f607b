//! The models that the server has: an immutable snapshot behind a handle, as the catalog is.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;

use super::{Layout, Policy, Signature, Workers};
use crate::{
    catalog::FeatureRef,
    error::{Error, Result},
};

/// One input of a version, bound to its feature.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundInput {
    /// The feature that fills it in a prediction by entity.
    pub feature: FeatureRef,
    /// What to do with a missing value.
    pub on_missing: Policy,
}

/// A version that is checked, warmed and answers.
#[derive(Debug)]
pub struct ReadyVersion {
    /// What a row is.
    pub signature: Signature,
    /// Where each value goes.
    pub layout: Layout,
    /// One an input, in the signature's order.
    pub inputs: Vec<BoundInput>,
    /// The threads that run it.
    pub workers: Workers,
    /// Golden rows reproduced at load.
    pub golden_rows: usize,
}

/// Whether a version answers.
#[derive(Debug, Clone)]
pub enum VersionState {
    /// It does.
    Ready(Arc<ReadyVersion>),
    /// It was refused at load, for this reason.
    Refused(String),
}

/// One version of a model.
#[derive(Debug, Clone)]
pub struct ModelVersion {
    /// The version, the name of its folder.
    pub version: String,
    /// Whether it answers.
    pub state: VersionState,
}

/// A model, with all its versions.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// The name, that of its folder.
    pub name: String,
    /// What it predicts, for people.
    pub description: String,
    /// What to do with an entity that no view has a row of.
    pub entity_not_found: Policy,
    /// An entity to try the model with, as a JSON object; empty where model.toml gives none.
    pub example: serde_json::Map<String, serde_json::Value>,
    /// Alias to version.
    pub aliases: BTreeMap<String, String>,
    /// The version that answers where a request names none: what model.toml says, ready or not, else the newest that is
    /// ready.
    pub default_version: Option<String>,
    /// Oldest first.
    pub versions: Vec<ModelVersion>,
    /// Why the model as a whole is refused.
    pub reason: Option<String>,
}

impl Model {
    /// The version that a request means: a version, an alias, or empty for the default.
    ///
    /// # Errors
    /// `NotFound` for an unknown version; `FailedPrecondition` for one that was refused.
    pub fn resolve(&self, wanted: &str) -> Result<(&str, &Arc<ReadyVersion>)> {
        if let Some(reason) = &self.reason {
            return Err(Error::failed_precondition(format!(
                "the model \"{}\" was refused at load: {reason}",
                self.name
            )));
        }
        let number = if wanted.is_empty() {
            self.default_version.as_ref().ok_or_else(|| {
                Error::failed_precondition(format!(
                    "the model \"{}\" has no version that is ready{}",
                    self.name,
                    self.newest_reason()
                ))
            })?
        } else {
            self.aliases.get(wanted).map_or(wanted, String::as_str)
        };
        let found = self
            .versions
            .iter()
            .find(|version| version.version == *number)
            .ok_or_else(|| {
                Error::not_found(format!(
                    "the model \"{}\" has no version or alias \"{wanted}\"",
                    self.name
                ))
            })?;
        match &found.state {
            VersionState::Ready(ready) => Ok((&found.version, ready)),
            VersionState::Refused(reason) => Err(Error::failed_precondition(format!(
                "version {} of the model \"{}\" was refused at load: {reason}",
                found.version, self.name
            ))),
        }
    }

    fn newest_reason(&self) -> String {
        match self.versions.last().map(|version| &version.state) {
            Some(VersionState::Refused(reason)) => format!("; the newest was refused: {reason}"),
            Some(VersionState::Ready(_)) | None => String::new(),
        }
    }
}

/// Every model, by name.
pub type Models = BTreeMap<String, Arc<Model>>;

/// The newest models, for many readers and a rare writer.
#[derive(Debug, Default)]
pub struct ModelRegistry {
    current: ArcSwap<Models>,
}

impl ModelRegistry {
    /// The models as they are now; a version does not go away under whoever holds it.
    pub fn snapshot(&self) -> Arc<Models> {
        self.current.load_full()
    }

    /// Replaces all models in one step.
    pub fn replace(&self, models: Models) {
        self.current.store(Arc::new(models));
    }

    /// The model of a name.
    ///
    /// # Errors
    /// `NotFound`, with the names that there are.
    pub fn model(&self, name: &str) -> Result<Arc<Model>> {
        let models = self.snapshot();
        models.get(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = models.keys().map(String::as_str).collect();
            let names = if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            };
            Error::not_found(format!("no model is called \"{name}\"; there are: {names}"))
        })
    }
}
