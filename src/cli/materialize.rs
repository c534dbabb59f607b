//! `ferrocast materialize`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{definition_files, output};
use crate::{
    app,
    catalog::{CatalogStore, FeatureView},
    config::Config,
    error::{Error, Result},
    features::{Materialization, MaterializeOutcome, Timestamp, materialize},
    sources,
    stores::Store,
};

/// Load feature views from their sources.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ferrocast materialize                             every view with a source; unchanged files are skipped
  ferrocast materialize applicant --force           one view, whether or not its file has changed
  ferrocast materialize applicant --from new.csv    one view, from another file")]
pub(super) struct Materialize {
    /// Feature views; none: every one with a source.
    views: Vec<String>,
    /// Load again what was loaded before.
    #[arg(long)]
    force: bool,
    /// A .parquet or .csv file to load one view from, instead of its source.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// One view and the file that it is loaded from.
struct Work {
    view: String,
    /// The source as the record of materializations names it.
    source: String,
    path: PathBuf,
}

pub(super) async fn run(config: &Config, command: &Materialize) -> Result<ExitCode> {
    let work = plan(config, command)?;
    let store = app::open_store(config).await?;
    app::prepare_schema(&store, &config.database).await?;
    let catalog = store.load_catalog().await?;
    // Every view is looked up before the first is loaded.
    let views = work
        .iter()
        .map(|work| {
            catalog.view(&work.view).map_err(|fault| {
                Error::failed_precondition(format!(
                    "{fault}; `ferrocast apply` creates what is defined"
                ))
            })
        })
        .collect::<Result<Vec<_>>>()?;
    for (work, view) in work.iter().zip(views) {
        load(&store, view, work, command.force).await?;
    }
    Ok(ExitCode::SUCCESS)
}

fn plan(config: &Config, command: &Materialize) -> Result<Vec<Work>> {
    if let Some(path) = &command.from {
        let [view] = command.views.as_slice() else {
            return Err(Error::invalid("--from", "goes with exactly one view"));
        };
        return Ok(vec![Work {
            view: view.clone(),
            source: path.display().to_string(),
            path: path.clone(),
        }]);
    }
    let mut work = Vec::new();
    for file in definition_files::read_all(&[], config)? {
        for view in &file.definitions.views {
            let Some(source) = &view.source else {
                continue;
            };
            if command.views.is_empty() || command.views.contains(&view.name) {
                work.push(Work {
                    view: view.name.clone(),
                    source: source.path().unwrap_or_default().to_owned(),
                    path: file.folder().join(source.path().unwrap_or_default()),
                });
            }
        }
    }
    let unknown = command
        .views
        .iter()
        .find(|name| !work.iter().any(|work| work.view == **name));
    match unknown {
        Some(name) => Err(Error::not_found(format!(
            "no definitions file of {} has a feature view \"{name}\" with a source",
            config.models.path.display()
        ))),
        None => Ok(work),
    }
}

async fn load(store: &Store, view: &FeatureView, work: &Work, force: bool) -> Result<()> {
    let note = Materialization {
        view: view.name.clone(),
        source: work.source.clone(),
        digest: digest(&work.path, view).await?,
    };
    let source = sources::open(&work.path, view, Timestamp::now())?;
    let bar = progress_bar(&view.name, source.row_count());
    let shown = bar.clone();
    let outcome = materialize(store, view, source, &note, force, move |rows| {
        shown.set_position(rows);
    })
    .await;
    bar.finish_and_clear();
    let place = work.path.display();
    match outcome? {
        MaterializeOutcome::Unchanged => output::line(&format!(
            "{}: {place} is loaded already (--force loads it again)",
            view.name
        )),
        MaterializeOutcome::Loaded(counts) => output::line(&format!(
            "{}: {} rows written, {} late, from {place}",
            view.name, counts.written, counts.late
        )),
    }
    Ok(())
}

async fn digest(path: &Path, view: &FeatureView) -> Result<String> {
    let (path, view) = (path.to_path_buf(), view.clone());
    tokio::task::spawn_blocking(move || sources::digest(&path, &view))
        .await
        .map_err(|fault| Error::internal("reading a source failed").with_source(fault))?
}

/// A bar on a terminal, nothing elsewhere.
fn progress_bar(view: &str, rows: Option<u64>) -> ProgressBar {
    let bar = match rows {
        Some(rows) => ProgressBar::new(rows),
        None => ProgressBar::no_length(),
    };
    let template = "{msg} {wide_bar} {human_pos}/{human_len} rows, {per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(view.to_owned());
    bar
}
