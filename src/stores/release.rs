//! Releases as the databases keep them: JSON text beside a revision.

use crate::{
    error::{Error, Result},
    inference::{EventKind, Release},
};

/// Counts the changes of all releases.
pub(super) const REVISION: &str =
    "SELECT CAST(coalesce(sum(revision), 0) AS bigint) FROM ferrocast_model_releases";

/// The JSON of a release.
pub(super) fn text(release: &Release) -> Result<String> {
    serde_json::to_string(release)
        .map_err(|fault| Error::internal("a release that JSON cannot hold").with_source(fault))
}

/// Reads a release.
///
/// # Errors
/// `FailedPrecondition` where it is not one that this binary understands.
pub(super) fn parse(model: &str, revision: i64, text: &str) -> Result<Release> {
    let release: Release = serde_json::from_str(text).map_err(|fault| {
        Error::failed_precondition(format!(
            "the release of the model \"{model}\" in ferrocast_model_releases is not one that this ferrocast understands: {fault}"
        ))
    })?;
    Ok(Release {
        revision,
        ..release
    })
}

/// Reads the kind of an event.
///
/// # Errors
/// As `parse`.
pub(super) fn kind(name: &str) -> Result<EventKind> {
    EventKind::of_name(name).ok_or_else(|| {
        Error::failed_precondition(format!(
            "ferrocast_model_release_events has the kind \"{name}\", which this ferrocast does not understand"
        ))
    })
}
