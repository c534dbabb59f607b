//! `ferrocast refill`.

use std::{collections::BTreeMap, process::ExitCode, sync::Mutex, sync::PoisonError};

use clap::Args;

use super::output;
use crate::{app, catalog::FeatureView, config::Config, error::Result, stores::Refill as Work};

/// Fill Redis from the database, all of it or some views; safe while servers read and write.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ferrocast refill              all views; reads are answered again where Redis had lost its data
  ferrocast refill applicant    one view, as after rows were written by SQL
  ferrocast refill --flush      without what Redis has and the database has not; reads are refused meanwhile")]
pub(super) struct Refill {
    /// Feature views; none: all.
    views: Vec<String>,
    /// Take away every key with our prefix first.
    #[arg(long)]
    flush: bool,
}

pub(super) async fn run(config: &Config, command: &Refill) -> Result<ExitCode> {
    let store = app::open_store(config).await?;
    store.check_schema().await?;
    let work = Work {
        views: command.views.clone(),
        flush: command.flush,
    };
    let bar = output::progress_bar(None);
    let rows_by_view: Mutex<BTreeMap<String, u64>> = Mutex::default();
    let progress = |view: &FeatureView, rows: u64| {
        bar.set_message(view.name.clone());
        bar.set_position(rows);
        let mut counted = rows_by_view.lock().unwrap_or_else(PoisonError::into_inner);
        counted.insert(view.name.clone(), rows);
    };
    let filled = store.refill(&work, &progress).await;
    bar.finish_and_clear();
    filled?;
    let counted = rows_by_view.into_inner();
    for (view, rows) in counted.unwrap_or_else(PoisonError::into_inner) {
        output::line(&format!("{view}: {rows} rows"));
    }
    let place = store.redis_address().unwrap_or_default();
    output::line(&format!("Redis at {place} is filled"));
    Ok(ExitCode::SUCCESS)
}
