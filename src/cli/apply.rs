//! `ferrocast apply`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::output;
use crate::{
    app,
    catalog::{Action, ApplyOptions, Catalog, CatalogStore, Change, Plan, apply_definitions},
    config::Config,
    error::{Error, Result},
    sources::{DefinitionFile, read_definitions},
};

/// Apply definitions files.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ferrocast apply                               every features.toml of the model repository
  ferrocast apply models/credit_risk --dry-run  show what would change

A file is the whole truth about its project: what it no longer has is dropped. What would lose data needs
--allow-data-loss.")]
pub(super) struct Apply {
    /// Definitions files, or folders with a features.toml; none: all of the model repository.
    files: Vec<PathBuf>,
    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Make the changes that lose data, too.
    #[arg(long)]
    allow_data_loss: bool,
}

pub(super) async fn run(config: &Config, command: &Apply) -> Result<ExitCode> {
    let files = read_definitions(&command.files, config)?;
    check_projects(&files)?;
    if command.dry_run {
        return dry_run(config, &files).await;
    }
    let store = app::open_store(config).await?;
    app::prepare_schema(&store, &config.database).await?;
    // What one file cannot do is told before another one is applied.
    for (place, plan) in plans(&store.load_catalog().await?, &files)? {
        if !command.allow_data_loss {
            plan.check_no_loss().map_err(|fault| fault.within(&place))?;
        }
    }
    for file in &files {
        let place = file.path.display().to_string();
        let options = ApplyOptions {
            dry_run: false,
            allow_data_loss: command.allow_data_loss,
        };
        let (plan, _) = apply_definitions(store.as_ref(), &file.definitions, options)
            .await
            .map_err(|fault| fault.within(&place))?;
        print_plan(&place, &plan, false);
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses two files of one project: each would drop what the other defines.
fn check_projects(files: &[DefinitionFile]) -> Result<()> {
    for (index, file) in files.iter().enumerate() {
        let project = &file.definitions.project;
        let others = files.iter().skip(index + 1);
        if let Some(other) = others
            .into_iter()
            .find(|o| o.definitions.project == *project)
        {
            return Err(Error::failed_precondition(format!(
                "{} and {} both define the project {project}; each would drop what the other defines",
                file.path.display(),
                other.path.display()
            )));
        }
    }
    Ok(())
}

/// Plans against what is there, and makes nothing: no file, no schema.
async fn dry_run(config: &Config, files: &[DefinitionFile]) -> Result<ExitCode> {
    let catalog = if app::embedded_store_is_missing(config) {
        Catalog::default()
    } else {
        let store = app::open_store(config).await?;
        store.check_schema().await?;
        store.load_catalog().await?
    };
    for (place, plan) in plans(&catalog, files)? {
        print_plan(&place, &plan, true);
    }
    Ok(ExitCode::SUCCESS)
}

/// Each file and its plan, as if those before it had been applied.
fn plans(catalog: &Catalog, files: &[DefinitionFile]) -> Result<Vec<(String, Plan)>> {
    let mut catalog = catalog.clone();
    let mut plans = Vec::with_capacity(files.len());
    for file in files {
        let place = file.path.display().to_string();
        let plan = Plan::new(&catalog, &file.definitions).map_err(|fault| fault.within(&place))?;
        catalog = plan.applied_to(&catalog);
        plans.push((place, plan));
    }
    Ok(plans)
}

fn print_plan(place: &str, plan: &Plan, dry_run: bool) {
    if plan.is_empty() {
        output::line(&format!("{place}: everything is as defined"));
    }
    for change in &plan.changes {
        output::line(&format!("{place}: {}", shown(change, dry_run)));
    }
}

fn shown(change: &Change, dry_run: bool) -> String {
    let verb = match (change.action, dry_run) {
        (Action::Create, false) => "created",
        (Action::Create, true) => "would create",
        (Action::Update, false) => "updated",
        (Action::Update, true) => "would update",
        (Action::Drop, false) => "dropped",
        (Action::Drop, true) => "would drop",
    };
    let mut line = format!("{verb} {} {}", change.kind, change.name);
    if !change.details.is_empty() {
        line.push_str(&format!(" ({})", change.details.join(", ")));
    }
    for loss in &change.losses {
        line.push_str(&format!("\n  loses data: {loss}"));
    }
    line
}
