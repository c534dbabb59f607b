//! The models that the server has: an immutable snapshot behind a handle, as the catalog is.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arc_swap::ArcSwap;

use super::{
    Drift, Fallback, FallbackCounters, Layout, ModelCopy, ModelDefinition, Policy, Signature,
    Traffic, Workers, counters::VersionCounters, policy::BoundInput, stamp::Stamp, version::Tried,
};
use crate::{
    catalog::{Catalog, PerCatalog},
    error::{Error, Result},
    features::FeatureSelection,
};

/// A version that is checked, warmed and answers.
#[derive(Debug, Clone)]
pub struct ReadyVersion {
    /// What a row is.
    pub signature: Arc<Signature>,
    /// Where each value goes.
    pub layout: Arc<Layout>,
    /// One an input, in the signature's order.
    pub inputs: Vec<BoundInput>,
    /// The features that these are.
    pub(super) selection: Arc<PerCatalog<Arc<FeatureSelection>>>,
    /// The runtime that runs it, by its name.
    pub runtime: String,
    /// The threads that run it.
    pub workers: Arc<Workers>,
    /// Golden rows reproduced at load.
    pub golden_rows: usize,
    /// What it has done since it was loaded.
    pub counters: Arc<VersionCounters>,
    /// What it was given, by the bins of its trainer.
    pub drift: Arc<Drift>,
    /// By input, whether a golden row has it missing.
    pub(super) proven_missing: Arc<[bool]>,
    /// The files that it was loaded from.
    pub(super) stamp: Stamp,
}

impl ReadyVersion {
    /// The features of its inputs, in their order, as a catalog has them.
    ///
    /// # Errors
    /// `NotFound` for one that the catalog does not have.
    pub fn selection(&self, catalog: &Arc<Catalog>) -> Result<Arc<FeatureSelection>> {
        self.selection.get_or_make(catalog, || {
            let references = self.inputs.iter().map(|input| input.feature.clone());
            FeatureSelection::resolve(catalog, references.collect()).map(Arc::new)
        })
    }
}

/// Whether a version answers.
#[derive(Debug, Clone)]
pub enum VersionState {
    /// It does.
    Ready(Arc<ReadyVersion>),
    /// It was refused at load, for this reason.
    Refused(String),
    /// Somebody unloaded it.
    Unloaded,
}

/// One version of a model.
#[derive(Debug, Clone)]
pub struct ModelVersion {
    /// The version, the name of its folder.
    pub version: String,
    /// Whether it answers.
    pub state: VersionState,
    /// Why its files, or what model.toml says of it, were not taken as they are now, where it answers as before.
    pub problem: Option<String>,
    /// What was refused last.
    pub(super) tried: Option<Tried>,
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
    /// What model.toml said when it was last taken; none: it never was.
    pub definition: Option<Arc<ModelDefinition>>,
    /// Alias to version: what was set at run time, else what model.toml says.
    pub aliases: BTreeMap<String, String>,
    /// The version that answers where a request names none: what model.toml says, else the champion, ready or not, else
    /// the newest that is ready.
    pub default_version: Option<String>,
    /// How the requests that name no version are shared out.
    pub traffic: Traffic,
    /// Who answers for rows that the model cannot score.
    pub fallback: Option<Fallback>,
    /// How often it did.
    pub fallbacks: Arc<FallbackCounters>,
    /// Whether its folder is gone, and it goes on only as long as it answers.
    pub(super) is_gone: bool,
    /// Counts what was changed at run time.
    pub release_revision: i64,
    /// Oldest first.
    pub versions: Vec<ModelVersion>,
    /// Why the model as a whole is refused or, where it has versions, why its model.toml as it is now was not taken.
    pub reason: Option<String>,
    /// Where its versions come from; none: from its folder.
    pub source: Option<ModelSource>,
}

/// Where the versions of a model come from.
#[derive(Clone)]
pub struct ModelSource {
    /// What was fetched, and how that went.
    pub copy: Arc<ModelCopy>,
    /// The aliases that are the source's, and are changed there alone, with what they mean here.
    pub aliases: BTreeMap<String, String>,
    /// Which of them mean another version there, and why; none where none does.
    pub lag: Option<String>,
}

impl ModelSource {
    /// Why what is served is not what the source has; none where it is.
    pub fn problem(&self) -> Option<String> {
        let status = self.copy.status();
        let problems = status.problem.iter().chain(&self.lag);
        let problems: Vec<&str> = problems.map(String::as_str).collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }
}

impl fmt::Debug for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.copy.location())
    }
}

/// The versions that a request goes to.
#[derive(Debug, Clone)]
pub struct Route {
    /// Who answers what no canary takes.
    pub stable: Arc<ReadyVersion>,
    /// Who answers rows below a bucket, and not below the one before; ascending.
    pub canaries: Vec<(u32, Arc<ReadyVersion>)>,
    /// Who scores beside the answer.
    pub shadows: Vec<Arc<ReadyVersion>>,
}

impl Model {
    /// The versions that a request goes to, which names a version, an alias, or nothing for the default and the traffic's
    /// shares. A canary or shadow that is not ready has no part.
    ///
    /// # Errors
    /// `NotFound` for an unknown version; `FailedPrecondition` for one that is not ready.
    pub fn route(&self, wanted: &str) -> Result<Route> {
        let stable = Arc::clone(self.resolve(wanted)?);
        let mut route = Route {
            stable,
            canaries: Vec::new(),
            shadows: Vec::new(),
        };
        if !wanted.is_empty() {
            return Ok(route);
        }
        let mut end = 0;
        for share in &self.traffic.canary {
            end += share.weight;
            // The share of one that is not ready is no other canary's.
            let version = self.resolve(&share.version).unwrap_or(&route.stable);
            let version = Arc::clone(version);
            route.canaries.push((end, version));
        }
        let shadows = self.traffic.shadow.iter();
        route.shadows = shadows
            .filter_map(|name| self.resolve(name).ok().cloned())
            .collect();
        Ok(route)
    }

    /// The version that a name means: a version, an alias, or empty for the default.
    ///
    /// # Errors
    /// As `route`.
    pub fn resolve(&self, wanted: &str) -> Result<&Arc<ReadyVersion>> {
        if let (Some(reason), true) = (&self.reason, self.versions.is_empty()) {
            return Err(Error::failed_precondition(format!(
                "the model \"{}\" was refused at load: {reason}",
                self.name
            )));
        }
        let number = if wanted.is_empty() {
            self.default_version.as_deref().ok_or_else(|| {
                Error::failed_precondition(format!(
                    "the model \"{}\" has no version that is ready{}",
                    self.name,
                    self.newest_reason()
                ))
            })?
        } else {
            self.version_of(wanted)
        };
        let found = self.version(number).ok_or_else(|| {
            Error::not_found(format!(
                "the model \"{}\" has no version or alias \"{number}\"",
                self.name
            ))
        })?;
        match &found.state {
            VersionState::Ready(ready) => Ok(ready),
            VersionState::Refused(reason) => Err(Error::failed_precondition(format!(
                "version {} of the model \"{}\" was refused at load: {reason}",
                found.version, self.name
            ))),
            VersionState::Unloaded => Err(Error::failed_precondition(format!(
                "version {} of the model \"{}\" is unloaded; LoadModel loads it",
                found.version, self.name
            ))),
        }
    }

    /// Whether any version answers.
    pub fn is_ready(&self) -> bool {
        let mut versions = self.versions.iter();
        versions.any(|version| matches!(version.state, VersionState::Ready(_)))
    }

    /// The version that an alias means; any other name is a version itself.
    pub fn version_of<'a>(&'a self, name: &'a str) -> &'a str {
        self.aliases.get(name).map_or(name, String::as_str)
    }

    /// A version by its number.
    pub fn version(&self, number: &str) -> Option<&ModelVersion> {
        self.versions
            .iter()
            .find(|version| version.version == number)
    }

    fn newest_reason(&self) -> String {
        match self.versions.last().map(|version| &version.state) {
            Some(VersionState::Refused(reason)) => format!("; the newest was refused: {reason}"),
            Some(VersionState::Unloaded) => "; the newest is unloaded".to_owned(),
            Some(VersionState::Ready(_)) | None => String::new(),
        }
    }
}

impl Route {
    /// Who scores each row: a version and the positions of its rows. `bucket_of` is asked only where there are canaries.
    pub fn split(
        &self,
        rows: usize,
        bucket_of: impl Fn(usize) -> u32,
    ) -> Vec<(Arc<ReadyVersion>, Vec<usize>)> {
        if self.canaries.is_empty() {
            return vec![(Arc::clone(&self.stable), (0..rows).collect())];
        }
        let versions = self.canaries.iter().map(|(_, version)| version);
        let mut parts: Vec<(Arc<ReadyVersion>, Vec<usize>)> = versions
            .chain([&self.stable])
            .map(|version| (Arc::clone(version), Vec::new()))
            .collect();
        for row in 0..rows {
            let bucket = bucket_of(row);
            let part = self.canaries.partition_point(|(end, _)| *end <= bucket);
            if let Some((_, positions)) = parts.get_mut(part) {
                positions.push(row);
            }
        }
        parts.retain(|(_, positions)| !positions.is_empty());
        parts
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
        let models = self.current.load();
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
