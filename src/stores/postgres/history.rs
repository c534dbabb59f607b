//! The SQL that adds rows to a view's history, wherever they come from.

use super::sql::{by_bytes, newest_addition};
use crate::{
    catalog::FeatureView,
    stores::{
        feature_times::{FEATURE_TIMES, GENERATION},
        table::{column_names, history_name, key_names, quoted, quoted_list},
    },
};

/// Rows on their way into a history, as SQL.
pub(super) struct Incoming {
    /// What stands after FROM, with its alias.
    pub(super) relation: String,
    /// An expression a join key, then both times of the row.
    pub(super) identity: Vec<String>,
    /// An expression a feature.
    pub(super) values: Vec<String>,
    /// The times of the features; none where all rows are whole.
    pub(super) feature_times: Option<String>,
    /// What tells which of equal rows is the first; none where no two are equal.
    pub(super) order: Option<String>,
}

/// The SQL that adds rows, late ones too, but not those that are exactly there. Those that are there as they were before
/// features were added are added anew with them.
pub(super) fn remember(view: &FeatureView, rows: &Incoming) -> Vec<String> {
    let history = quoted(&history_name(view));
    let same_row = rows.same_row(view);
    let mut steps = Vec::new();
    match newest_addition(view) {
        0 => {}
        added => steps.push(format!(
            "DELETE FROM {history} AS kept USING {} WHERE kept.{GENERATION} < {added} AND {same_row}",
            rows.relation
        )),
    }
    let (distinct, order) = rows.first_of_equals(view);
    let cells: Vec<&str> = rows
        .identity
        .iter()
        .chain(&rows.values)
        .map(String::as_str)
        .collect();
    steps.push(format!(
        "INSERT INTO {history} ({}) SELECT {distinct} {}, {}, {} FROM {} \
         WHERE NOT EXISTS (SELECT FROM {history} AS kept WHERE {same_row}) {order}",
        quoted_list(column_names(view)),
        cells.join(", "),
        rows.feature_times.as_deref().unwrap_or("NULL::jsonb"),
        view.generation,
        rows.relation,
    ));
    steps
}

impl Incoming {
    /// That `kept` is the same row, by its key, its times and those of its features.
    fn same_row(&self, view: &FeatureView) -> String {
        let names = key_names(view).chain(["event_timestamp", "created_at"]);
        let mut conditions: Vec<String> = names
            .zip(&self.identity)
            .map(|(name, cell)| format!("kept.{} = {cell}", quoted(name)))
            .collect();
        conditions.push(match &self.feature_times {
            None => format!("kept.{FEATURE_TIMES} IS NULL"),
            Some(times) => format!("kept.{FEATURE_TIMES} IS NOT DISTINCT FROM {times}"),
        });
        conditions.join(" AND ")
    }

    /// What stands after SELECT and at the statement's end so that equal rows are added once.
    fn first_of_equals(&self, view: &FeatureView) -> (String, String) {
        let Some(order) = &self.order else {
            return (String::new(), String::new());
        };
        let mut identity = by_bytes(view, &self.identity);
        identity.extend(self.feature_times.clone());
        let identity = identity.join(", ");
        (
            format!("DISTINCT ON ({identity})"),
            format!("ORDER BY {identity}, {order}"),
        )
    }
}
