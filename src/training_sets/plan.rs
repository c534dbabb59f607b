//! The plan of a join, as `ferrocast-historical` reads it from its standard input.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{
    catalog::{FeatureView, ValueType},
    error::{Error, Result},
    features::{FeatureSelection, SourceFile, ViewSelection},
};

/// The columns of our own files with the times of a row.
pub(super) const EVENT_TIMESTAMP: &str = "event_timestamp";
pub(super) const CREATED_AT: &str = "created_at";

/// The column of our own files with the names of the features that a row says nothing about.
pub(super) const MISSING: &str = "_missing";

/// What to join, and where to write it.
#[derive(Debug, Serialize)]
pub(super) struct JoinPlan {
    pub(super) spine: SpinePlan,
    pub(super) views: Vec<ViewPlan>,
    /// The features' columns in the order of the request.
    pub(super) columns: Vec<String>,
    pub(super) out: OutPlan,
    pub(super) memory_bytes_max: u64,
    pub(super) work_dir: PathBuf,
}

/// The rows that features are joined to.
#[derive(Debug, Serialize)]
pub(super) struct SpinePlan {
    pub(super) file: FilePlan,
    pub(super) timestamp_field: String,
}

/// A Parquet file.
#[derive(Debug, Serialize)]
pub(super) struct FilePlan {
    path: PathBuf,
    /// As faults name it.
    shown: String,
}

impl FilePlan {
    /// A file, and its name for whoever reads the faults.
    pub(super) fn new(path: &Path, shown: String) -> FilePlan {
        let path = path.to_owned();
        FilePlan { path, shown }
    }
}

/// Where the training set goes.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum OutPlan {
    /// A Parquet file.
    File { path: PathBuf },
    /// An Arrow IPC stream on the standard output.
    Stream { arrow_stream: bool },
}

/// A view, the features that are asked of it, and where its rows of all times are.
#[derive(Debug, Serialize)]
pub(super) struct ViewPlan {
    name: String,
    join_keys: Vec<KeyPlan>,
    ttl_micros: Option<i64>,
    /// Stretches of time that do not count towards the TTL.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    off_micros: Vec<(i64, i64)>,
    features: Vec<FeaturePlan>,
    history: Vec<HistoryPlan>,
}

#[derive(Debug, Serialize)]
struct KeyPlan {
    name: String,
    #[serde(rename = "type")]
    value_type: ValueType,
}

#[derive(Debug, Serialize)]
struct FeaturePlan {
    name: String,
    #[serde(rename = "type")]
    value_type: ValueType,
    output: String,
}

/// Files of one layout.
#[derive(Debug, Serialize)]
pub(super) struct HistoryPlan {
    files: Vec<FilePlan>,
    timestamp_field: String,
    created_timestamp_field: Option<String>,
}

impl HistoryPlan {
    /// A view's own history, in a file of ours.
    pub(super) fn exported(view: &FeatureView, path: &Path) -> HistoryPlan {
        let shown = format!("the history of the feature view \"{}\"", view.name);
        HistoryPlan {
            files: vec![FilePlan::new(path, shown)],
            timestamp_field: EVENT_TIMESTAMP.to_owned(),
            created_timestamp_field: Some(CREATED_AT.to_owned()),
        }
    }

    /// A file of a view's source, whose rows are in a file of ours. Where the source has no time of writing, its column
    /// for that says nothing.
    pub(super) fn converted(view: &FeatureView, file: &SourceFile, path: &Path) -> HistoryPlan {
        let source = view.source.as_ref();
        let created = source.and_then(|source| source.created_timestamp_field.as_ref());
        HistoryPlan {
            files: vec![FilePlan::new(path, file.shown.clone())],
            timestamp_field: EVENT_TIMESTAMP.to_owned(),
            created_timestamp_field: created.map(|_| CREATED_AT.to_owned()),
        }
    }

    /// Parquet files of a view's source, as they are.
    pub(super) fn of_source(view: &FeatureView, files: &[SourceFile]) -> HistoryPlan {
        let source = view.source.as_ref();
        let files = files.iter();
        let files = files.map(|file| FilePlan::new(&file.path, file.shown.clone()));
        HistoryPlan {
            files: files.collect(),
            timestamp_field: source.map_or_else(
                || EVENT_TIMESTAMP.to_owned(),
                |source| source.timestamp_field.clone(),
            ),
            created_timestamp_field: source
                .and_then(|source| source.created_timestamp_field.clone()),
        }
    }
}

impl ViewPlan {
    /// The part of a selection that one view has.
    ///
    /// # Errors
    /// `Internal` for a selection that does not fit its view.
    pub(super) fn new(
        selection: &FeatureSelection,
        selected: &ViewSelection,
        outputs: &[String],
        history: Vec<HistoryPlan>,
    ) -> Result<ViewPlan> {
        let view = &selected.view;
        let mut features = Vec::with_capacity(selected.features.len());
        for (position, index) in &selected.features {
            let (Some(field), Some(output)) = (view.features.get(*index), outputs.get(*position))
            else {
                return Err(Error::internal(format!(
                    "a selection of {} features beyond the view \"{}\"",
                    selection.references.len(),
                    view.name
                )));
            };
            features.push(FeaturePlan {
                name: field.name.clone(),
                value_type: field.value_type,
                output: output.clone(),
            });
        }
        Ok(ViewPlan {
            name: view.name.clone(),
            join_keys: view
                .join_keys
                .iter()
                .map(|key| KeyPlan {
                    name: key.name.clone(),
                    value_type: key.value_type,
                })
                .collect(),
            ttl_micros: view.ttl_micros(),
            off_micros: view
                .ttl_calendar
                .iter()
                .flat_map(|calendar| calendar.off().stretches())
                .collect(),
            features,
            history,
        })
    }
}

/// The columns that features become: their own names, or `view__feature`.
///
/// # Errors
/// `InvalidArgument` where two features would become one column.
pub(super) fn output_names(selection: &FeatureSelection, is_full: bool) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::with_capacity(selection.references.len());
    for (index, reference) in selection.references.iter().enumerate() {
        let name = if is_full {
            format!("{}__{}", reference.view, reference.feature)
        } else {
            reference.feature.clone()
        };
        if names.contains(&name) {
            return Err(Error::invalid(
                format!("features[{index}]"),
                format!(
                    "\"{reference}\" would become a second column \"{name}\"; ask for full feature names"
                ),
            ));
        }
        names.push(name);
    }
    Ok(names)
}
