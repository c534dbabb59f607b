//! `ferrocast check`.

use std::{process::ExitCode, sync::Arc};

use clap::Args;

use super::{
    definition_files::{self, DefinitionFile},
    output,
};
use crate::{
    app,
    catalog::{Catalog, Plan},
    config::Config,
    error::{Error, Result},
    features::Timestamp,
    inference::{Model, VersionState},
    sources,
};

/// Check configuration, definitions and models, and start nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ferrocast check
  ferrocast check --models ./models --config production.toml")]
pub(super) struct Check {}

/// The configuration has been read, and so checked, before.
pub(super) fn run(config: &Config) -> Result<ExitCode> {
    output::line("configuration: good");
    if !config.online.redis_urls.is_empty() {
        output::line("features: read from Redis, kept in the database");
    }
    let files = definition_files::read_all(&[], config)?;
    let catalog = catalog_of(&files)?;
    for file in &files {
        check_sources(file)?;
        output::line(&format!(
            "{}: {} feature views, good",
            file.path.display(),
            file.definitions.views.len()
        ));
    }
    let models = app::load_models(config, &catalog)?;
    let refusals: Vec<String> = models.values().flat_map(|model| report(model)).collect();
    if refusals.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Error::failed_precondition(refusals.join("\n")))
}

/// Opens every source, which holds its columns against the view.
fn check_sources(file: &DefinitionFile) -> Result<()> {
    for view in &file.definitions.views {
        if let Some(source) = &view.source {
            sources::open(
                &file.folder().join(source.path().unwrap_or_default()),
                view,
                Timestamp::now(),
            )?;
        }
    }
    Ok(())
}

/// The catalog that an empty database would have after every file was applied.
fn catalog_of(files: &[DefinitionFile]) -> Result<Catalog> {
    let mut catalog = Catalog::default();
    for file in files {
        let plan = Plan::new(&catalog, &file.definitions)
            .map_err(|fault| fault.within(&file.path.display().to_string()))?;
        for entity in plan.entities {
            catalog.entities.insert(entity.name.clone(), entity);
        }
        for change in plan.views {
            let view = Arc::clone(&change.view);
            catalog.views.insert(view.name.clone(), view);
        }
    }
    Ok(catalog)
}

/// Prints what is good of a model, and returns what is not.
fn report(model: &Model) -> Vec<String> {
    let name = &model.name;
    let mut refusals: Vec<String> = model
        .reason
        .iter()
        .map(|reason| format!("model {name}: {reason}"))
        .collect();
    if model.reason.is_none() && model.versions.is_empty() {
        output::line(&format!("model {name}: no versions yet"));
    }
    for version in &model.versions {
        let number = &version.version;
        match &version.state {
            VersionState::Ready(ready) => output::line(&format!(
                "model {name} version {number}: {} golden rows reproduced, good",
                ready.golden_rows
            )),
            VersionState::Refused(reason) => {
                refusals.push(format!("model {name} version {number}: {reason}"));
            }
        }
    }
    refusals
}
