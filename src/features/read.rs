//! Reading: the newest values of entities, each with its status, a column a feature.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future;

use super::{EntityKey, OnlineStore, StoredRow, Timestamp, Value};
use crate::{
    catalog::{Catalog, FeatureRef, FeatureView},
    error::{Error, Result},
};

/// How a feature's value came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FeatureStatus {
    /// It is there and fresh.
    Present,
    /// The row is there and fresh, and holds no value.
    Null,
    /// There is no row.
    NotFound,
    /// The row is older than the view's TTL allows.
    OutsideTtl,
}

/// One value, its status and its time.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureValue {
    /// The value; `Null` where the status is not `Present`.
    pub value: Value,
    /// How it came about.
    pub status: FeatureStatus,
    /// When it became true in the world; none where there is no row.
    pub event_timestamp: Option<Timestamp>,
}

/// One feature of every entity asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureColumn {
    /// The feature.
    pub reference: FeatureRef,
    /// One an entity, in the order asked for.
    pub values: Vec<FeatureValue>,
}

/// A view that a request touches, and the features that it asks of it.
#[derive(Debug, Clone)]
pub struct ViewSelection {
    /// The view.
    pub view: Arc<FeatureView>,
    /// (position in the request's features, position in the view's features).
    pub features: Vec<(usize, usize)>,
}

/// The features of a request, resolved against a catalog: which views to read, and where each value goes.
#[derive(Debug, Clone)]
pub struct FeatureSelection {
    /// As asked for.
    pub references: Vec<FeatureRef>,
    /// Each view once.
    pub views: Vec<ViewSelection>,
}

impl FeatureSelection {
    /// Resolves features.
    ///
    /// # Errors
    /// `NotFound` for an unknown view or feature.
    pub fn resolve(catalog: &Catalog, references: Vec<FeatureRef>) -> Result<FeatureSelection> {
        let mut by_view: BTreeMap<&str, ViewSelection> = BTreeMap::new();
        for (position, reference) in references.iter().enumerate() {
            let (view, feature) = catalog.resolve(reference)?;
            by_view
                .entry(&reference.view)
                .or_insert_with(|| ViewSelection {
                    view: Arc::clone(view),
                    features: Vec::new(),
                })
                .features
                .push((position, feature));
        }
        let views = by_view.into_values().collect();
        Ok(FeatureSelection { references, views })
    }
}

/// Refuses a request for more values than the server answers at once.
///
/// # Errors
/// `InvalidArgument` naming the list, where rows times columns are more than `values_max`.
pub fn check_values(field: &str, rows: usize, columns: usize, values_max: usize) -> Result<()> {
    if rows.saturating_mul(columns) <= values_max {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        format!(
            "{rows} rows of {columns} values are more than the {values_max} values of one request (limits.values_max)"
        ),
    ))
}

/// Reads the selected features of entities, one query a view, all views at once.
///
/// `keys` has one list of entity keys a view of the selection, each as long as `entity_count`. Returns one column a
/// feature of the selection.
///
/// # Errors
/// `Unavailable` where the store is away; `Internal` where the lists do not fit together.
pub async fn read_features(
    store: &dyn OnlineStore,
    selection: &FeatureSelection,
    keys: &[Vec<EntityKey>],
    now: Timestamp,
) -> Result<Vec<FeatureColumn>> {
    let reads = selection
        .views
        .iter()
        .zip(keys)
        .map(|(selected, keys)| store.read(&selected.view, keys));
    let rows_by_view = future::try_join_all(reads).await?;

    let mut columns: Vec<FeatureColumn> = selection
        .references
        .iter()
        .map(|reference| FeatureColumn {
            reference: reference.clone(),
            values: Vec::new(),
        })
        .collect();
    for (selected, rows) in selection.views.iter().zip(rows_by_view) {
        for (position, feature) in &selected.features {
            let column = columns
                .get_mut(*position)
                .ok_or_else(|| Error::internal("a feature selection beyond its columns"))?;
            column.values = rows
                .iter()
                .map(|row| feature_value(&selected.view, row.as_ref(), *feature, now))
                .collect();
        }
    }
    Ok(columns)
}

/// One feature of one row, its status decided.
fn feature_value(
    view: &FeatureView,
    row: Option<&StoredRow>,
    feature: usize,
    now: Timestamp,
) -> FeatureValue {
    let Some(row) = row else {
        return FeatureValue {
            value: Value::Null,
            status: FeatureStatus::NotFound,
            event_timestamp: None,
        };
    };
    let value = row.values.get(feature).cloned().unwrap_or(Value::Null);
    let (value, status) = if is_outside_ttl(view, row, now) {
        (Value::Null, FeatureStatus::OutsideTtl)
    } else if value.is_null() {
        (Value::Null, FeatureStatus::Null)
    } else {
        (value, FeatureStatus::Present)
    };
    FeatureValue {
        value,
        status,
        event_timestamp: Some(row.event_timestamp),
    }
}

/// Whether a row is older than its view allows; a row of exactly the TTL's age is still fresh.
fn is_outside_ttl(view: &FeatureView, row: &StoredRow, now: Timestamp) -> bool {
    let Some(ttl) = view.ttl else {
        return false;
    };
    let age_micros = now.micros().saturating_sub(row.event_timestamp.micros());
    i128::from(age_micros) > i128::try_from(ttl.as_micros()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::catalog::Definitions;

    fn view(ttl: &str) -> FeatureView {
        let text = format!(
            r#"
            project = "demo"
            [[entities]]
            name = "loan"
            join_keys = [{{ name = "loan_id", type = "string" }}]
            [[feature_views]]
            name = "applicant"
            entity = "loan"
            ttl = "{ttl}"
            features = [{{ name = "annual_inc", type = "double" }}]
            "#
        );
        let definitions = Definitions::parse(&text).unwrap();
        FeatureView::clone(definitions.views.first().unwrap())
    }

    fn row(age: Duration, value: Value, now: Timestamp) -> StoredRow {
        let micros = now.micros() - i64::try_from(age.as_micros()).unwrap();
        let event_timestamp = Timestamp::from_micros(micros).unwrap();
        StoredRow {
            event_timestamp,
            created_at: event_timestamp,
            values: vec![value],
        }
    }

    #[test]
    fn every_status_has_its_cause() {
        let now = Timestamp::now();
        let view = view("1h");
        let hour = Duration::from_secs(3_600);
        let status = |row: Option<StoredRow>| feature_value(&view, row.as_ref(), 0, now).status;
        assert_eq!(status(None), FeatureStatus::NotFound);
        assert_eq!(
            status(Some(row(hour, Value::Double(1.0), now))),
            FeatureStatus::Present
        );
        assert_eq!(
            status(Some(row(hour, Value::Null, now))),
            FeatureStatus::Null
        );
        let too_old = row(hour + Duration::from_micros(1), Value::Double(1.0), now);
        let outside = feature_value(&view, Some(&too_old), 0, now);
        assert_eq!(outside.status, FeatureStatus::OutsideTtl);
        assert_eq!(outside.value, Value::Null);
        assert_eq!(outside.event_timestamp, Some(too_old.event_timestamp));
    }

    #[test]
    fn without_a_ttl_nothing_is_too_old() {
        let now = Timestamp::now();
        let old = row(Duration::from_secs(10_u64.pow(9)), Value::Double(1.0), now);
        let value = feature_value(&view("0s"), Some(&old), 0, now);
        assert_eq!(value.status, FeatureStatus::Present);
    }
}
