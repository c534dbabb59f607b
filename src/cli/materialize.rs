//! `ferrocast materialize`.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use clap::Args;
use indicatif::ProgressBar;

use super::output;
use crate::{
    app,
    catalog::{Catalog, CatalogStore, FeatureView, same_columns},
    config::Config,
    error::{Error, Result},
    features::{
        LoadDone, LoadProgress, MaterializeOptions, MaterializeOutcome, Materializer, ProgressSink,
        Sources, views_to_load,
    },
    sources::{FileSources, read_definitions},
};

/// Load feature views from their sources.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ferrocast materialize                             every view with a source; unchanged files are skipped
  ferrocast materialize --incremental               only rows that are not older than what was loaded before
  ferrocast materialize applicant --force           one view, whether or not its files have changed
  ferrocast materialize applicant --from new.csv    one view, from another file, or from a folder of them")]
pub(super) struct Materialize {
    /// Feature views; none: every one with a source.
    views: Vec<String>,
    /// Load only rows of the newest event timestamp ever loaded from the same file or query, or newer ones.
    #[arg(long)]
    incremental: bool,
    /// Load again what was loaded before.
    #[arg(long)]
    force: bool,
    /// A .parquet or .csv file, or a folder of them, to load one view from, instead of its source.
    #[arg(long, value_name = "FILE|FOLDER")]
    from: Option<PathBuf>,
}

pub(super) async fn run(config: &Config, command: &Materialize) -> Result<ExitCode> {
    let defined = match &command.from {
        Some(_) if command.views.len() != 1 => {
            return Err(Error::invalid("--from", "goes with exactly one view"));
        }
        Some(_) => Vec::new(),
        None => defined_views(config, &command.views)?,
    };
    let sources: Arc<dyn Sources> = match &command.from {
        Some(path) => Arc::new(FileSources::given(path.clone())),
        None => Arc::new(FileSources::of_repository(config)),
    };
    let store = app::open_store(config).await?;
    app::prepare_schema(&store, &config.database).await?;
    let catalog = store.load_catalog().await?;
    check_applied(&catalog, &defined)?;
    let names: Vec<String> = match &command.from {
        Some(_) => command.views.clone(),
        None => defined.iter().map(|view| view.name.clone()).collect(),
    };
    let views = views_to_load(&catalog, &names).map_err(apply_first)?;
    let materializer = Materializer::new(store, sources);
    let plans = materializer.plan(views).await?;
    let options = MaterializeOptions {
        incremental: command.incremental,
        force: command.force,
    };
    let bars = Arc::new(Bars::default());
    let told = Arc::clone(&bars);
    let progress: ProgressSink = Arc::new(move |progress| told.show(&progress));
    let loaded = materializer.run(&plans, options, &progress).await;
    bars.clear();
    loaded?;
    Ok(ExitCode::SUCCESS)
}

/// The views with a source of the repository's definitions files, all or those named.
fn defined_views(config: &Config, names: &[String]) -> Result<Vec<Arc<FeatureView>>> {
    let mut defined = Vec::new();
    for file in read_definitions(&[], config)? {
        let views = file.definitions.views.into_iter();
        defined.extend(views.filter(|view| {
            view.source.is_some() && (names.is_empty() || names.contains(&view.name))
        }));
    }
    let is_defined = |name: &&String| defined.iter().any(|view| view.name == **name);
    match names.iter().find(|name| !is_defined(name)) {
        Some(name) => Err(Error::not_found(format!(
            "no definitions file of {} has a feature view \"{name}\" with a source",
            config.models.path.display()
        ))),
        None => Ok(defined),
    }
}

/// What is loaded is what was applied; a file that says something else meanwhile would be ignored in silence.
fn check_applied(catalog: &Catalog, defined: &[Arc<FeatureView>]) -> Result<()> {
    for view in defined {
        let applied = catalog.view(&view.name).map_err(apply_first)?;
        if let Some(part) = differing_part(applied, view) {
            return Err(apply_first(Error::failed_precondition(format!(
                "{part} of the feature view \"{}\" is not what was applied",
                view.name
            ))));
        }
    }
    Ok(())
}

/// What of a definition a load goes by and is not as it was applied, if anything.
fn differing_part(applied: &FeatureView, defined: &FeatureView) -> Option<&'static str> {
    if applied.source != defined.source {
        return Some("the source");
    }
    if !same_columns(&applied.join_keys, &defined.join_keys) {
        return Some("the list of join keys");
    }
    if !same_columns(&applied.features, &defined.features) {
        return Some("the list of features");
    }
    if applied.history != defined.history {
        return Some("the history");
    }
    None
}

fn apply_first(fault: Error) -> Error {
    Error::failed_precondition(format!(
        "{fault}; `ferrocast apply` creates what is defined"
    ))
}

/// The bar of the source that is being loaded: on a terminal, nothing elsewhere. A line for each that is done.
#[derive(Default)]
struct Bars {
    shown: Mutex<Option<ProgressBar>>,
}

impl Bars {
    fn show(&self, progress: &LoadProgress) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(done) = progress.done {
            if let Some(bar) = shown.take() {
                bar.finish_and_clear();
            }
            output::line(&summary(progress, done));
            return;
        }
        shown
            .get_or_insert_with(|| progress_bar(progress))
            .set_position(progress.rows_read);
    }

    fn clear(&self) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = shown.take() {
            bar.finish_and_clear();
        }
    }
}

fn summary(progress: &LoadProgress, done: LoadDone) -> String {
    let LoadProgress { view, source, .. } = progress;
    match done.outcome {
        MaterializeOutcome::Unchanged => {
            format!("{view}: {source} is loaded already (--force loads it again)")
        }
        MaterializeOutcome::Loaded(counts) => {
            // A row that is older than another of its entity changes no newest value; a history has it all the same.
            let older = if progress.keeps_history {
                "older and kept in the history"
            } else {
                "late"
            };
            let (written, late) = (counts.written, counts.late);
            format!("{view}: {written} rows written, {late} {older}, from {source}")
        }
    }
}

fn progress_bar(progress: &LoadProgress) -> ProgressBar {
    let bar = output::progress_bar(progress.rows_total);
    bar.set_message(format!("{}: {}", progress.view, progress.source));
    bar
}
