//! `ferrocast check`.

use std::process::ExitCode;

use clap::Args;

use super::output;
use crate::{
    app,
    catalog::{Catalog, Plan},
    config::Config,
    error::{Error, Result},
    features::{Sources, Timestamp, ViewSource},
    inference::{Model, ModelSource, VersionState},
    sources::{DefinitionFile, FileSources, read_definitions},
};

/// Check configuration, definitions and models, and start nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ferrocast check
  ferrocast check --models ./models --config production.toml")]
pub(super) struct Check {}

/// The configuration has been read, and so checked, before.
pub(super) async fn run(config: &Config) -> Result<ExitCode> {
    output::line("configuration: good");
    if !config.online.redis_urls.is_empty() {
        output::line("features: read from Redis, kept in the database");
    }
    let files = read_definitions(&[], config)?;
    let catalog = catalog_of(&files)?;
    let sources = FileSources::of_repository(config);
    for file in &files {
        check_sources(file, &sources)?;
        output::line(&format!(
            "{}: {} feature views, good",
            file.path.display(),
            file.definitions.views.len()
        ));
    }
    let models = app::load_models(config, &catalog).await?;
    let refusals: Vec<String> = models.values().flat_map(|model| report(model)).collect();
    if refusals.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Error::failed_precondition(refusals.join("\n")))
}

/// Opens every file, which holds its columns against the view.
fn check_sources(file: &DefinitionFile, sources: &FileSources) -> Result<()> {
    let now = Timestamp::now();
    let views = file.definitions.views.iter();
    let views: Vec<_> = views
        .filter(|view| view.source.is_some())
        .cloned()
        .collect();
    for (view, source) in views.iter().zip(sources.find_all(&views)?) {
        match source {
            // Only the database can tell.
            ViewSource::Query => {}
            ViewSource::Files(files) => files
                .iter()
                .try_for_each(|file| sources.open(file, view, now).map(drop))?,
        }
    }
    Ok(())
}

/// The catalog that an empty database would have after every file was applied.
fn catalog_of(files: &[DefinitionFile]) -> Result<Catalog> {
    files.iter().try_fold(Catalog::default(), |catalog, file| {
        let plan = Plan::new(&catalog, &file.definitions)
            .map_err(|fault| fault.within(&file.path.display().to_string()))?;
        Ok(plan.applied_to(&catalog))
    })
}

/// Prints what is good of a model, and returns what is not.
fn report(model: &Model) -> Vec<String> {
    let name = &model.name;
    let mut refusals: Vec<String> = model
        .reason
        .iter()
        .map(|reason| format!("model {name}: {reason}"))
        .collect();
    // Where there is nothing at all, that is the model's reason.
    let source = model.source.as_ref().filter(|_| model.reason.is_none());
    let problem = source.and_then(ModelSource::problem);
    refusals.extend(problem.map(|problem| format!("model {name}: {problem}")));
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
            // Nothing is released here.
            VersionState::Unloaded => {}
        }
    }
    refusals
}
