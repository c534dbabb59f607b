//! `ferrocast predictions`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};

use super::{output, signals::Signals};
use crate::{
    app,
    config::Config,
    error::{Error, ErrorKind, Result},
    exports::export_predictions,
    features::Timestamp,
    inference::{LedgerSpan, first_id_at},
};

/// What the ledger has.
#[derive(Debug, Args)]
pub(super) struct Predictions {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write the predictions of a span of time to a Parquet file.
    Export(Export),
}

/// Write the predictions of a span of time to a Parquet file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ferrocast predictions export --from 2026-11-01 --to 2026-12-01 --model credit_risk --out november.parquet
  ferrocast predictions export --from 2026-11-21T12:00:00Z --out since_noon.parquet

With a model, each of its inputs is a column, as input_annual_inc, with status_annual_inc and
event_timestamp_annual_inc; without, all of them are one column of JSON.")]
struct Export {
    /// The beginning: a date, or a time as 2026-11-21T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: String,
    /// The end, itself no part of it [default: now].
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only predictions of this model.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// The Parquet file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) async fn run(config: &Config, command: &Predictions) -> Result<ExitCode> {
    match &command.action {
        Action::Export(export) => run_export(config, export).await,
    }
}

async fn run_export(config: &Config, command: &Export) -> Result<ExitCode> {
    let (from, to) = (
        time("--from", &command.from)?,
        command.to.as_ref().map(|to| time("--to", to)).transpose()?,
    );
    let to = to.unwrap_or_else(Timestamp::now);
    if to < from {
        return Err(Error::invalid("--to", "is before --from"));
    }
    let span = LedgerSpan {
        first: first_id_at(from),
        end: first_id_at(to),
        model: command.model.clone(),
    };
    let store = app::open_store(config).await?;
    store.check_schema().await?;
    let bar = output::progress_bar(None);
    let mut signals = Signals::listen()?;
    let exporting = Box::pin(export_predictions(
        store.as_ref(),
        span,
        &command.out,
        |rows| bar.set_position(rows),
    ));
    // Where it is interrupted, what was written so far is taken away.
    let exported = tokio::select! {
        exported = exporting => exported,
        () = signals.next() => Err(Error::new(ErrorKind::Unavailable, "interrupted; no file was written")),
    };
    bar.finish_and_clear();
    let rows = exported?;
    output::line(&format!(
        "{} is written: {rows} predictions",
        command.out.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// A time, or a date, which is its midnight in UTC.
fn time(flag: &str, text: &str) -> Result<Timestamp> {
    Timestamp::parse(text)
        .or_else(|fault| Timestamp::parse(&format!("{text}T00:00:00Z")).map_err(|_| fault))
        .map_err(|fault| Error::invalid(flag, fault))
}
