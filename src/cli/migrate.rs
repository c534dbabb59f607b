//! `ferrocast migrate`.

use std::process::ExitCode;

use clap::Args;

use super::output;
use crate::{app, config::Config, error::Result};

/// Bring the database's schema up to date.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ferrocast migrate
  ferrocast migrate --database-url postgres://user@host/db")]
pub(super) struct Migrate {}

pub(super) async fn run(config: &Config) -> Result<ExitCode> {
    let store = app::open_store(config).await?;
    let applied = store.migrate().await?;
    if applied.is_empty() {
        output::line("schema: up to date");
    }
    for name in applied {
        output::line(&format!("schema: applied {name}"));
    }
    Ok(ExitCode::SUCCESS)
}
