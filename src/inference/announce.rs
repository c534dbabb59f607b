//! Says in the log what a load has changed.

use std::sync::Arc;

use super::{Model, ModelVersion, Models, VersionState};

/// Says what is new.
pub(super) fn log_changes(previous: &Models, models: &Models) {
    for model in models.values() {
        let name = &model.name;
        let before = previous.get(name);
        if let Some(reason) = &model.reason
            && before.is_none_or(|before| before.reason.as_ref() != Some(reason))
        {
            tracing::error!(model = name, reason, "model refused");
        }
        log_lag(model, before.map(Arc::as_ref));
        for version in &model.versions {
            let before = before.and_then(|model| model.version(&version.version));
            log_version(name, version, before);
        }
    }
}

/// Says which aliases of a source are not followed yet.
fn log_lag(model: &Model, before: Option<&Model>) {
    let lag_of = |model: &Model| model.source.as_ref().and_then(|source| source.lag.clone());
    if let Some(lag) = lag_of(model)
        && before.and_then(lag_of).as_ref() != Some(&lag)
    {
        tracing::warn!(
            model = model.name,
            lag,
            "aliases of a model's source not followed"
        );
    }
}

fn log_version(name: &str, version: &ModelVersion, before: Option<&ModelVersion>) {
    let number = &version.version;
    if let Some(problem) = &version.problem
        && before.is_none_or(|before| before.problem.as_ref() != Some(problem))
    {
        let reason = problem;
        tracing::error!(
            model = name,
            version = number,
            reason,
            "model version not replaced"
        );
    }
    match (&version.state, before.map(|before| &before.state)) {
        (VersionState::Ready(ready), Some(VersionState::Ready(known)))
            if Arc::ptr_eq(&ready.workers, &known.workers) => {}
        (VersionState::Ready(ready), _) => tracing::info!(
            model = name,
            version = number,
            golden_rows = ready.golden_rows,
            "model version ready"
        ),
        (VersionState::Refused(reason), Some(VersionState::Refused(known))) if reason == known => {}
        (VersionState::Refused(reason), _) => {
            tracing::error!(
                model = name,
                version = number,
                reason,
                "model version refused"
            );
        }
        (VersionState::Unloaded, Some(VersionState::Unloaded)) => {}
        (VersionState::Unloaded, _) => {
            tracing::info!(model = name, version = number, "model version unloaded");
        }
    }
}
