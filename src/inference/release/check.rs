//! Whether a change of a release makes sense, as models are here and now.

use super::ReleaseChange;
use crate::{
    error::{Error, Result},
    inference::{Model, definition::check_alias},
};

/// Holds a change against a model, with all that is released of it so far.
///
/// # Errors
/// `NotFound` for an unknown version; `FailedPrecondition` for a version that is not ready, or that cannot be unloaded
/// because it is meant; `InvalidArgument` for an alias that is no name.
pub(super) fn check_change(model: &Model, change: &ReleaseChange) -> Result<()> {
    match change {
        ReleaseChange::SetAlias { alias, version, .. } => {
            check_alias(alias).map_err(|fault| Error::invalid("alias", fault))?;
            check_owner(model, alias)?;
            match version {
                Some(version) if model.aliases.contains_key(version) => Err(Error::invalid(
                    "version",
                    format!("\"{version}\" is an alias; an alias means a version"),
                )),
                Some(version) => model.resolve(version).map(|_| ()),
                None => Ok(()),
            }
        }
        ReleaseChange::SetTraffic {
            traffic: Some(traffic),
            ..
        } => {
            traffic.check()?;
            let shares = traffic.canary.iter().map(|share| &share.version);
            for target in shares.chain(&traffic.shadow) {
                model.resolve(target)?;
            }
            Ok(())
        }
        ReleaseChange::Unload { versions } => {
            // Whoever unloads all of a model wants it gone.
            let is_whole = versions.len() == model.versions.len();
            let meant = versions
                .iter()
                .find_map(|version| Some((version, meaning(model, version)?)));
            match meant.filter(|_| !is_whole) {
                None => Ok(()),
                Some((version, meant)) => Err(Error::failed_precondition(format!(
                    "version {version} of the model \"{}\" is {meant}; let that mean another version first",
                    model.name
                ))),
            }
        }
        // What a rollback leads to is checked as the alias that it sets.
        ReleaseChange::Load { .. }
        | ReleaseChange::RollbackAlias { .. }
        | ReleaseChange::SetTraffic { traffic: None, .. } => Ok(()),
    }
}

/// An alias of the model's source would mean at once again what it means there.
pub(super) fn check_owner(model: &Model, alias: &str) -> Result<()> {
    match &model.source {
        Some(source) if source.aliases.contains_key(alias) => {
            Err(Error::failed_precondition(format!(
                "the alias \"{alias}\" of the model \"{}\" is changed where its versions come from, {}",
                model.name,
                source.copy.location()
            )))
        }
        Some(_) | None => Ok(()),
    }
}

/// What still means a version.
fn meaning(model: &Model, version: &str) -> Option<String> {
    if model.default_version.as_deref() == Some(version) {
        return Some("the default".to_owned());
    }
    let alias = model.aliases.iter().find(|(_, target)| *target == version);
    if let Some((alias, _)) = alias {
        return Some(format!("the target of the alias \"{alias}\""));
    }
    let shares = model.traffic.canary.iter().map(|share| &share.version);
    shares
        .chain(&model.traffic.shadow)
        .any(|target| model.version_of(target) == version)
        .then(|| "part of the traffic".to_owned())
}
