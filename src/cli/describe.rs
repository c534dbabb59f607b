//! `ferrocast describe`.

use std::process::ExitCode;

use clap::Args;

use super::{output, table};
use crate::{
    app,
    catalog::{CatalogStore, FeatureView, Field, Source, TtlCalendar, ValueType},
    config::Config,
    error::{Error, Result},
    features::{
        Distribution, MaterializationRecord, OnlineStore, QUANTILES, Timestamp, ViewStatistics,
        view_statistics, watermark,
    },
};

/// Show a feature view: its definition, what was loaded into it, and what its rows are like.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ferrocast describe applicant
  ferrocast describe applicant --json | jq .statistics.features[0]")]
pub(super) struct Describe {
    /// The feature view.
    view: String,
    /// As JSON, as GET /v1/featureViews/{view}?statistics=true answers.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: &Config, command: &Describe) -> Result<ExitCode> {
    if app::embedded_store_is_missing(config) {
        return Err(Error::failed_precondition(
            "there is no store yet; `ferrocast apply` makes it",
        ));
    }
    let store = app::open_store(config).await?;
    store.check_schema().await?;
    let catalog = store.load_catalog().await?;
    let view = catalog.view(&command.view)?;
    let records = store.materializations(&view.name).await?;
    let statistics = view_statistics(store.as_ref(), view, Timestamp::now()).await?;
    if command.json {
        output::line(&app::view_json(view, records, statistics)?);
        return Ok(ExitCode::SUCCESS);
    }
    describe_view(view);
    describe_loads(&records);
    describe_rows(&statistics);
    for line in table::lines(&feature_table(view, &statistics)) {
        output::line(&line);
    }
    describe_frequent(&statistics);
    Ok(ExitCode::SUCCESS)
}

fn describe_view(view: &FeatureView) {
    let keys: Vec<String> = view.join_keys.iter().map(shown_field).collect();
    let lines = [
        (view.name.as_str(), view.description.clone()),
        ("  project", view.project.clone()),
        ("  entity", format!("{} ({})", view.entity, keys.join(", "))),
        (
            "  ttl",
            view.ttl.map_or("none".to_owned(), |ttl| format!("{ttl:?}")),
        ),
        (
            "  calendar",
            view.ttl_calendar
                .as_ref()
                .map_or_else(String::new, TtlCalendar::to_string),
        ),
        (
            "  source",
            view.source.as_ref().map_or("none", Source::text).to_owned(),
        ),
        (
            "  table",
            view.table.as_ref().map_or_else(String::new, |table| {
                format!("{}, which somebody else fills", table.name)
            }),
        ),
        (
            "  history",
            if view.history {
                "every row is kept"
            } else {
                ""
            }
            .to_owned(),
        ),
    ];
    for (name, text) in lines.iter().filter(|(_, text)| !text.is_empty()) {
        output::line(&format!("{name:<10} {text}"));
    }
}

fn shown_field(field: &Field) -> String {
    format!("{} {}", field.name, field.value_type)
}

fn describe_loads(records: &[MaterializationRecord]) {
    /// A folder may have thousands of files.
    const SHOWN_MAX: usize = 10;
    if let Some(newest) = watermark(records) {
        output::line(&format!("  loaded   up to {newest}"));
    }
    let mut newest: Vec<&MaterializationRecord> = records.iter().collect();
    newest.sort_by_key(|record| std::cmp::Reverse(record.finished_at));
    for record in newest.iter().take(SHOWN_MAX) {
        let watermark = record
            .watermark
            .map_or_else(String::new, |newest| format!(", up to {newest}"));
        output::line(&format!(
            "  loaded   {}: {} rows written, {} late{watermark}, on {}",
            record.note.source, record.counts.written, record.counts.late, record.finished_at
        ));
    }
    if let Some(more) = newest.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
        output::line(&format!("  loaded   and from {more} more sources"));
    }
}

fn describe_rows(statistics: &ViewStatistics) {
    let span = match (statistics.oldest, statistics.newest) {
        (Some(oldest), Some(newest)) => format!(", from {oldest} to {newest}"),
        _ => String::new(),
    };
    output::line(&format!(
        "\n{} rows{span}; {} outside the TTL\n",
        statistics.rows, statistics.outside_ttl
    ));
}

fn feature_table(view: &FeatureView, statistics: &ViewStatistics) -> Vec<Vec<String>> {
    let header = [
        "feature",
        "type",
        "missing",
        "distinct",
        "min",
        "median",
        "max",
        "mean",
        "sd",
        "1 % to 99 %",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for (field, feature) in view.features.iter().zip(&statistics.features) {
        let mut row = vec![
            feature.name.clone(),
            shown_type(field.value_type),
            format!("{:.1} %", feature.missing_share(statistics.rows) * 100.0),
            feature.distinct.to_string(),
        ];
        if let Some(distribution) = &feature.distribution {
            let shown = |number: f64| table::measured(number, field.value_type);
            let deviation = distribution.standard_deviation;
            row.extend([
                shown(distribution.min),
                shown(quantile(distribution, 0.5)),
                shown(distribution.max),
                shown(distribution.mean),
                table::number(deviation),
                table::strip(&distribution.quantiles),
            ]);
        }
        rows.push(row);
    }
    rows
}

/// What is measured of texts, bytes and lists is their length.
fn shown_type(value_type: ValueType) -> String {
    match value_type {
        ValueType::String | ValueType::Bytes | ValueType::List(_) => {
            format!("{value_type} (length)")
        }
        ValueType::Bool
        | ValueType::Int32
        | ValueType::Int64
        | ValueType::Float
        | ValueType::Double
        | ValueType::Timestamp => value_type.to_string(),
    }
}

fn quantile(distribution: &Distribution, rank: f64) -> f64 {
    let mut known = QUANTILES.iter().zip(&distribution.quantiles);
    known
        .find(|(of, _)| **of == rank)
        .map_or(f64::NAN, |(_, value)| *value)
}

fn describe_frequent(statistics: &ViewStatistics) {
    for feature in &statistics.features {
        if feature.not_finite > 0 {
            output::line(&format!(
                "\n{}: {} values are NaN or infinite",
                feature.name, feature.not_finite
            ));
        }
        // Values of which each is there once tell nothing.
        let is_telling = feature.frequent.iter().any(|(_, count)| *count > 1);
        if !is_telling {
            continue;
        }
        let shown: Vec<String> = feature
            .frequent
            .iter()
            .map(|(value, count)| format!("{} ({count})", table::value(value)))
            .collect();
        output::line(&format!("\n{}: mostly {}", feature.name, shown.join(", ")));
    }
}
