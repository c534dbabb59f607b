//! What the names of a model mean: its default, its aliases, its fallback.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Model, ModelCopy, ModelDefinition, ModelVersion, Release, VersionState, files::version_number,
};
use crate::error::{Error, Result};

const CHAMPION: &str = "champion";

/// Every default and alias has to name a version that is there, whether or not it passed its checks.
pub(super) fn check_targets(definition: &ModelDefinition, versions: &[ModelVersion]) -> Result<()> {
    let known = |target: &String| versions.iter().any(|version| version.version == *target);
    let aliases = definition
        .aliases
        .iter()
        .map(|(alias, target)| (format!("aliases.{alias}"), target));
    let default = definition
        .default_version
        .iter()
        .map(|target| ("default_version".to_owned(), target));
    let faults: Vec<String> = aliases
        .chain(default)
        .filter(|(_, target)| !known(target))
        .map(|(place, target)| format!("{place}: there is no version \"{target}\""))
        .collect();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Error::failed_precondition(faults.join("; ")))
    }
}

/// What was set at run time goes before what model.toml says.
pub(super) fn effective_aliases(
    definition: &ModelDefinition,
    release: &Release,
) -> BTreeMap<String, String> {
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

/// What the aliases of a model's source mean here.
#[derive(Debug, Default)]
pub(super) struct SourceAliases {
    /// Alias to version.
    pub aliases: BTreeMap<String, String>,
    /// Those that mean another version here than at the source, and why; none where there are none.
    pub lag: Option<String>,
}

/// An alias of the source moves once the version that it means now is ready: until then it means what it did.
pub(super) fn source_aliases(
    copy: &ModelCopy,
    previous: Option<&Model>,
    versions: &[ModelVersion],
) -> SourceAliases {
    let mut found = SourceAliases::default();
    let mut lags = Vec::new();
    for (alias, number) in copy.aliases().unwrap_or_default() {
        let target = number.to_string();
        let answering = || copy.answering(&alias).map(|number| number.to_string());
        let before = previous.and_then(|model| model.aliases.get(&alias).cloned());
        let former = before.or_else(answering);
        let former = former.filter(|former| *former != target && is_ready(versions, former));
        match former.filter(|_| !is_ready(versions, &target)) {
            Some(former) => {
                lags.push(format!(
                    "the alias \"{alias}\" means version {target} there, which is not ready; version {former} goes on"
                ));
                found.aliases.insert(alias, former);
            }
            None => {
                found.aliases.insert(alias, target);
            }
        }
    }
    found.lag = (!lags.is_empty()).then(|| lags.join("; "));
    found
}

/// Those aliases whose version is ready, as the copy remembers them.
pub(super) fn answering(
    aliases: &BTreeMap<String, String>,
    versions: &[ModelVersion],
) -> BTreeMap<String, u64> {
    let ready = aliases
        .iter()
        .filter(|(_, target)| is_ready(versions, target));
    ready
        .filter_map(|(alias, target)| Some((alias.clone(), target.parse().ok()?)))
        .collect()
}

fn is_ready(versions: &[ModelVersion], target: &str) -> bool {
    versions
        .iter()
        .any(|version| version.version == target && matches!(version.state, VersionState::Ready(_)))
}

/// A version that answers, and that an alias or the default means, goes on where its folder has gone away.
pub(super) fn keep_what_is_meant(
    definition: &ModelDefinition,
    aliases: &BTreeMap<String, String>,
    previous: &Model,
    versions: &mut Vec<ModelVersion>,
) {
    for target in aliases.values().chain(&definition.default_version) {
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
pub(super) fn default_version(
    definition: &ModelDefinition,
    source_alias: Option<&str>,
    aliases: &BTreeMap<String, String>,
    versions: &[ModelVersion],
) -> Option<String> {
    definition
        .default_version
        .as_ref()
        .or_else(|| aliases.get(source_alias?))
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
