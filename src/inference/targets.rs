//! What the names of a model mean: its default, its aliases, its fallback.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Model, ModelCopy, ModelDefinition, ModelSource, ModelVersion, Release, VersionState,
    repository::version_number,
};
use crate::error::{Error, Result};

const CHAMPION: &str = "champion";

/// What is released of a model at run time, applied over what its model.toml says; nothing is loaded.
pub(super) fn released(model: &Model, release: &Release) -> Model {
    let Some(definition) = &model.definition else {
        return model.clone();
    };
    let mut aliases = effective_aliases(definition, release);
    // They go before all others, which cannot be changed here.
    let own = model
        .source
        .iter()
        .flat_map(|source| source.aliases.clone());
    aliases.extend(own);
    let versions =
        model.versions.iter().map(
            |version| match release.unloaded.contains(&version.version) {
                true => ModelVersion::unloaded(version.version.clone()),
                false => version.clone(),
            },
        );
    let versions: Vec<ModelVersion> = versions.collect();
    let traffic = release.traffic.as_ref().unwrap_or(&definition.traffic);
    Model {
        default_version: default_version(definition, model.source.as_ref(), &aliases, &versions),
        traffic: traffic.clone(),
        release_revision: release.revision,
        aliases,
        versions,
        ..model.clone()
    }
}

/// Every default and alias has to name a version that is there, whether or not it passed its checks; an alias that means
/// something else at run time need not.
pub(super) fn check_targets(
    definition: &ModelDefinition,
    release: &Release,
    versions: &[String],
) -> Result<()> {
    let aliases = definition
        .aliases
        .iter()
        .filter(|(alias, _)| !release.aliases.contains_key(*alias))
        .map(|(alias, target)| (format!("aliases.{alias}"), target));
    let default = definition
        .default_version
        .iter()
        .map(|target| ("default_version".to_owned(), target));
    let faults: Vec<String> = aliases
        .chain(default)
        .filter(|(_, target)| !versions.contains(target))
        .map(|(place, target)| format!("{place}: there is no version \"{target}\""))
        .collect();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Error::failed_precondition(faults.join("; ")))
    }
}

/// What was set at run time goes before what model.toml says.
fn effective_aliases(definition: &ModelDefinition, release: &Release) -> BTreeMap<String, String> {
    let mut aliases = definition.aliases.clone();
    for (alias, version) in &release.aliases {
        match version {
            Some(version) => aliases.insert(alias.clone(), version.clone()),
            None => aliases.remove(alias),
        };
    }
    aliases
}

/// The versions that something here means, by their numbers: a source is asked for them.
pub(super) fn meant_numbers(definition: &ModelDefinition, model: Option<&Model>) -> BTreeSet<u64> {
    let defined = definition
        .aliases
        .values()
        .chain(&definition.default_version);
    let traffics = [Some(&definition.traffic), model.map(|model| &model.traffic)];
    let shared = traffics.into_iter().flatten().flat_map(|traffic| {
        let canaries = traffic.canary.iter().map(|share| &share.version);
        canaries.chain(&traffic.shadow)
    });
    let current = model.into_iter().flat_map(|model| model.aliases.values());
    let meant = defined.chain(shared).chain(current);
    meant.filter_map(|target| version_number(target)).collect()
}

/// What the aliases of a model's source mean here. One moves once the version that it means now is ready: until then it
/// means what it did.
pub(super) fn follow_source(
    copy: Arc<ModelCopy>,
    previous: Option<&Model>,
    versions: &[ModelVersion],
) -> ModelSource {
    let mut aliases = BTreeMap::new();
    let mut lags = Vec::new();
    for (alias, number) in copy.aliases().unwrap_or_default() {
        let target = number.to_string();
        let answering = || copy.answering(&alias).map(|number| number.to_string());
        let before = previous.and_then(|model| model.aliases.get(&alias).cloned());
        let former = before.into_iter().chain(answering());
        let former = former
            .filter(|former| *former != target)
            .find(|former| is_ready(versions, former));
        match former.filter(|_| !is_ready(versions, &target)) {
            Some(former) => {
                lags.push(format!(
                    "the alias \"{alias}\" means version {target} there, which is not ready; version {former} goes on"
                ));
                aliases.insert(alias, former);
            }
            None => {
                aliases.insert(alias, target);
            }
        }
    }
    let ready = aliases
        .iter()
        .filter(|(_, target)| is_ready(versions, target));
    let answering = ready.filter_map(|(alias, target)| Some((alias.clone(), target.parse().ok()?)));
    copy.remember(answering.collect());
    ModelSource {
        copy,
        aliases,
        lag: (!lags.is_empty()).then(|| lags.join("; ")),
    }
}

fn is_ready(versions: &[ModelVersion], target: &str) -> bool {
    versions
        .iter()
        .any(|version| version.version == target && matches!(version.state, VersionState::Ready(_)))
}

/// A version that answers, and that an alias or the default means, goes on where its folder has gone away.
pub(super) fn keep_what_is_meant(
    definition: &ModelDefinition,
    release: &Release,
    previous: &Model,
    versions: &mut Vec<ModelVersion>,
) {
    let aliases = effective_aliases(definition, release);
    let meant = aliases.values().chain(&definition.default_version);
    for target in meant.filter(|target| !release.unloaded.contains(*target)) {
        let is_there = versions.iter().any(|version| version.version == *target);
        let Some(kept) = previous.version(target).filter(|_| !is_there) else {
            continue;
        };
        if matches!(kept.state, VersionState::Ready(_)) {
            versions.push(ModelVersion {
                problem: Some(
                    "its folder is gone; an alias or the default still means it".to_owned(),
                ),
                ..kept.clone()
            });
        }
    }
    versions.sort_by_key(|version| version.version.parse::<u64>().unwrap_or_default());
}

/// A fallback has to be a model of the repository; whether it answers is seen when it is asked.
pub(super) fn check_fallback(definition: &ModelDefinition, models: &[String]) -> Result<()> {
    let fallback = definition.fallback.as_ref();
    match fallback.and_then(|fallback| fallback.model.as_ref()) {
        Some(other) if !models.contains(other) => Err(Error::failed_precondition(format!(
            "fallback.model: no model is called \"{other}\""
        ))),
        Some(_) | None => Ok(()),
    }
}

/// What answers where a request names no version: what model.toml says, else the alias that its source names, else the
/// champion, else the newest that is ready.
fn default_version(
    definition: &ModelDefinition,
    source: Option<&ModelSource>,
    aliases: &BTreeMap<String, String>,
    versions: &[ModelVersion],
) -> Option<String> {
    let named = source.and_then(|source| source.copy.default_alias());
    definition
        .default_version
        .as_ref()
        .or_else(|| aliases.get(named.as_ref()?))
        .or_else(|| aliases.get(CHAMPION))
        .cloned()
        .or_else(|| {
            versions
                .iter()
                .rev()
                .find(|version| matches!(version.state, VersionState::Ready(_)))
                .map(|version| version.version.clone())
        })
}
