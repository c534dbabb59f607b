//! `ferrocast historical`.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args;
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use super::{output, signals::Signals};
use crate::{
    app,
    catalog::CatalogStore,
    config::Config,
    error::Result,
    features::{AskedFeatures, FeatureSelection, SPINE_TIMESTAMP_FIELD, TrainingSetRequest},
    training_sets::JoinProgress,
};

/// Make a training set: join labels with the values that features had at their times.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ferrocast historical --spine labels.parquet --features applicant:annual_inc,loan_terms:term --out train.parquet
  ferrocast historical --spine labels.parquet --feature-service credit_risk --out train.parquet

The spine is a Parquet file with the join keys of the views, a time, and any other columns, which are kept.
No value is from after a row's time, or older than its view's TTL allows.")]
pub(super) struct Historical {
    /// A Parquet file with a row a label.
    #[arg(long, value_name = "FILE")]
    spine: PathBuf,
    /// Features as view:feature, with commas between.
    #[arg(
        long,
        value_delimiter = ',',
        required_unless_present = "feature_service"
    )]
    features: Vec<String>,
    /// A feature service, as name or name@version, in place of features.
    #[arg(long, value_name = "NAME", conflicts_with = "features")]
    feature_service: Option<String>,
    /// The Parquet file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The spine's column with the time of each row.
    #[arg(long, value_name = "COLUMN", default_value = SPINE_TIMESTAMP_FIELD)]
    timestamp_field: String,
    /// Name the columns view__feature, and not by the feature alone.
    #[arg(long)]
    full_feature_names: bool,
}

pub(super) async fn run(config: &Config, command: &Historical) -> Result<ExitCode> {
    let store = app::open_store(config).await?;
    app::prepare_schema(&store, &config.database).await?;
    let catalog = store.load_catalog().await?;
    let service = command.feature_service.as_deref().unwrap_or_default();
    let asked = AskedFeatures::resolve(&catalog, &command.features, service)?;
    let request = TrainingSetRequest {
        selection: FeatureSelection::resolve(&catalog, asked.references)?.into(),
        timestamp_field: command.timestamp_field.clone(),
        full_feature_names: command.full_feature_names,
    };
    let maker = app::training_sets(config, Arc::clone(&store));
    let bar = output::progress_bar(None);
    let (shown, stop) = (bar.clone(), CancellationToken::new());
    let mut signals = Signals::listen()?;
    let made = maker.write(
        &request,
        &command.spine,
        &command.out,
        stop.clone(),
        move |step| show(&shown, step),
    );
    let stopped = async {
        signals.next().await;
        stop.cancel();
        // A second one ends it at once.
        signals.next().await;
    };
    let made = tokio::select! {
        made = made => made,
        () = stopped => return Ok(ExitCode::FAILURE),
    };
    bar.finish_and_clear();
    made?;
    output::line(&format!("{} is written", command.out.display()));
    Ok(ExitCode::SUCCESS)
}

fn show(bar: &ProgressBar, step: &JoinProgress) {
    bar.set_length(step.of);
    bar.set_position(step.done);
    bar.set_message(match &step.view {
        Some(view) => format!("{} {view}", step.phase),
        None => step.phase.clone(),
    });
}
