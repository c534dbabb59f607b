//! Changing a release: one change at a time, held against what is there.

use super::{
    EventKind, Release, ReleaseEvent, ReleaseStore, Traffic,
    check::{check_change, check_owner},
};
use crate::{
    error::{Error, ErrorKind, Result},
    features::Timestamp,
    inference::{Author, Model, targets::released},
};

/// How often a change is tried anew where another one comes before it.
const ATTEMPTS_MAX: usize = 5;

/// Events that are looked through for the target before.
const EVENTS_MAX: usize = 10_000;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseChange {
    /// Lets an alias mean a version; none takes it away. `expected`: what it has to mean until now, none for nothing.
    SetAlias {
        /// The alias.
        alias: String,
        /// The version.
        version: Option<String>,
        /// Refused where it means something else; not set: whatever it means.
        expected: Option<Option<String>>,
    },
    /// Lets an alias mean what it meant before its last change.
    RollbackAlias {
        /// The alias.
        alias: String,
        /// Refused where it means something else; not set: whatever it means.
        expected: Option<String>,
    },
    /// Shares out the traffic anew; none: as model.toml says.
    SetTraffic {
        /// Who gets what.
        traffic: Option<Traffic>,
        /// The revision that the release has to have; not set: any.
        expected_revision: Option<i64>,
    },
    /// Loads versions again that were unloaded.
    Load {
        /// The versions.
        versions: Vec<String>,
    },
    /// Unloads versions.
    Unload {
        /// The versions.
        versions: Vec<String>,
    },
}

/// Applies a change to a model's release and keeps it.
///
/// # Errors
/// `Conflict` where an expectation does not hold, or others keep coming before; `FailedPrecondition` for a rollback without
/// a target before; as `check_change`; `Unavailable` where the database is away.
pub(in crate::inference) async fn change_release(
    store: &dyn ReleaseStore,
    model: &Model,
    change: &ReleaseChange,
    author: &Author,
) -> Result<Release> {
    for _ in 0..ATTEMPTS_MAX {
        let release = store
            .releases()
            .await?
            .remove(&model.name)
            .unwrap_or_default();
        let change = match change {
            ReleaseChange::RollbackAlias { alias, expected } => {
                check_owner(model, alias)?;
                let current = current_alias(&release, model, alias);
                let before = target_before(store, model, alias, current.as_deref()).await?;
                ReleaseChange::SetAlias {
                    alias: alias.clone(),
                    version: before,
                    expected: expected.clone().map(Some),
                }
            }
            ReleaseChange::SetAlias { .. }
            | ReleaseChange::SetTraffic { .. }
            | ReleaseChange::Load { .. }
            | ReleaseChange::Unload { .. } => change.clone(),
        };
        // As it is on every server, and not only as this one has seen it.
        check_change(&released(model, &release), &change)?;
        if is_done(&release, &change) {
            return Ok(release);
        }
        let (release, event) = changed(release, model, change, author)?;
        if store.put_release(&release, &event).await? {
            return Ok(release);
        }
    }
    Err(Error::new(
        ErrorKind::Conflict,
        format!(
            "the release of the model \"{}\" was changed by others meanwhile, {ATTEMPTS_MAX} times; try again",
            model.name
        ),
    ))
}

/// What an alias means now: what was set at run time, else what model.toml says.
fn current_alias(release: &Release, model: &Model, alias: &str) -> Option<String> {
    match release.aliases.get(alias) {
        Some(set) => set.clone(),
        None => {
            let definition = model.definition.as_ref();
            definition.and_then(|definition| definition.aliases.get(alias).cloned())
        }
    }
}

/// Whether an alias was set to this very version before: a call that is made twice is one change, and one to roll back.
fn is_done(release: &Release, change: &ReleaseChange) -> bool {
    match change {
        ReleaseChange::SetAlias {
            alias,
            version,
            expected,
        } => {
            let is_expected = expected.as_ref().is_none_or(|expected| expected == version);
            is_expected && release.aliases.get(alias) == Some(version)
        }
        ReleaseChange::RollbackAlias { .. }
        | ReleaseChange::SetTraffic { .. }
        | ReleaseChange::Load { .. }
        | ReleaseChange::Unload { .. } => false,
    }
}

async fn target_before(
    store: &dyn ReleaseStore,
    model: &Model,
    alias: &str,
    current: Option<&str>,
) -> Result<Option<String>> {
    let events = store.release_events(&model.name, EVENTS_MAX).await?;
    // One that changed nothing, as the first that keeps what model.toml says, is none to go back beyond.
    let last = events.into_iter().find(|event| {
        event.kind == EventKind::Alias && event.name == alias && event.before != event.after
    });
    match last {
        Some(event) if event.after.as_deref() == current => Ok(event.before),
        Some(_) | None => Err(Error::failed_precondition(format!(
            "the alias \"{alias}\" of the model \"{}\" has not been changed, so there is nothing to roll back to",
            model.name
        ))),
    }
}

fn changed(
    mut release: Release,
    model: &Model,
    change: ReleaseChange,
    author: &Author,
) -> Result<(Release, ReleaseEvent)> {
    let (kind, name, before, after) = match change {
        ReleaseChange::SetAlias {
            alias,
            version,
            expected,
        } => {
            let current = current_alias(&release, model, &alias);
            if let Some(expected) = expected
                && expected != current
            {
                return Err(unexpected(&alias, expected.as_deref(), current.as_deref()));
            }
            release.aliases.insert(alias.clone(), version.clone());
            (EventKind::Alias, alias, current, version)
        }
        ReleaseChange::SetTraffic {
            traffic,
            expected_revision,
        } => {
            if expected_revision.is_some_and(|expected| expected != release.revision) {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!(
                        "the release of the model \"{}\" is at revision {}, and another was expected",
                        model.name, release.revision
                    ),
                ));
            }
            let before = shown(release.traffic.as_ref())?;
            let after = shown(traffic.as_ref())?;
            release.traffic = traffic;
            (EventKind::Traffic, String::new(), before, after)
        }
        ReleaseChange::Load { versions } => {
            release
                .unloaded
                .retain(|version| !versions.contains(version));
            (EventKind::Load, versions.join(", "), None, None)
        }
        ReleaseChange::Unload { versions } => {
            release.unloaded.extend(versions.iter().cloned());
            (EventKind::Unload, versions.join(", "), None, None)
        }
        ReleaseChange::RollbackAlias { alias, .. } => {
            return Err(Error::internal(format!(
                "the rollback of {alias} has no target"
            )));
        }
    };
    release.revision += 1;
    let event = ReleaseEvent {
        model: model.name.clone(),
        revision: release.revision,
        at: Timestamp::now(),
        author: author.clone(),
        kind,
        name,
        before,
        after,
    };
    Ok((release, event))
}

fn unexpected(alias: &str, expected: Option<&str>, current: Option<&str>) -> Error {
    let named = |version: Option<&str>| {
        version.map_or_else(
            || "nothing".to_owned(),
            |version| format!("version {version}"),
        )
    };
    Error::new(
        ErrorKind::Conflict,
        format!(
            "the alias \"{alias}\" means {}, and {} was expected",
            named(current),
            named(expected)
        ),
    )
}

fn shown(traffic: Option<&Traffic>) -> Result<Option<String>> {
    let shown = traffic.map(serde_json::to_string).transpose();
    shown.map_err(|fault| Error::internal("traffic cannot be written").with_source(fault))
}
