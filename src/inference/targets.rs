//! What the names of a model mean: its default, its aliases, its fallback.

use std::collections::BTreeMap;

use super::{Model, ModelDefinition, ModelVersion, Release, VersionState};
use crate::error::{Error, Result};

const CHAMPION: &str = "champion";

/// What is released of a model at run time, applied over what its model.toml says; nothing is loaded.
pub(super) fn released(model: &Model, release: &Release) -> Model {
    let Some(definition) = &model.definition else {
        return model.clone();
    };
    let aliases = effective_aliases(definition, release);
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
        default_version: default_version(definition, &aliases, &versions),
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

/// What answers where a request names no version: what model.toml says, else the champion, else the newest that is ready.
fn default_version(
    definition: &ModelDefinition,
    aliases: &BTreeMap<String, String>,
    versions: &[ModelVersion],
) -> Option<String> {
    definition
        .default_version
        .as_ref()
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
