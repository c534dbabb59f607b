//! Reading: the newest values of entities, each with its status, a column a feature.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future;

use super::{
    EntityKey, FeatureTable, FeatureValue, OnlineStore, ReadRow, StoredRow, Timestamp, Value,
    distinct::ViewRows,
};
use crate::{
    catalog::{Catalog, FeatureRef, FeatureView, ValueType},
    error::{Error, Result},
};

/// How a feature's value came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FeatureStatus {
    /// It is there and fresh.
    Present,
    /// The row is there and fresh, and holds no value.
    Null,
    /// There is no row, or nothing was ever written for the feature.
    NotFound,
    /// The value is older than the view's TTL, or the request, allows.
    OutsideTtl,
}

/// How fresh values have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// The moment that ages are counted from.
    pub now: Timestamp,
    /// How old a value may be, where the view's TTL allows more; none: the TTL alone. It is plain time: the days off of a
    /// view's calendar count, too.
    pub max_age: Option<Duration>,
    /// Whether values are read as they were at `now`, out of the views' histories, and not the newest.
    pub is_past: bool,
}

impl Freshness {
    /// As of now, with the views' TTLs alone.
    pub fn now() -> Freshness {
        Freshness::at(Timestamp::now())
    }

    /// The newest values, with their ages counted from a moment.
    pub fn at(now: Timestamp) -> Freshness {
        Freshness {
            now,
            max_age: None,
            is_past: false,
        }
    }

    /// The values of a moment.
    pub fn as_of(moment: Timestamp) -> Freshness {
        Freshness {
            is_past: true,
            ..Freshness::at(moment)
        }
    }

    /// Whether a value of a view is too old; one of exactly the age allowed is still fresh.
    fn is_outside(self, view: &FeatureView, event_timestamp: Timestamp) -> bool {
        let is_older = |max_age| self.now.has_aged(event_timestamp, max_age);
        view.is_outside_ttl(event_timestamp.micros(), self.now.micros())
            || self.max_age.is_some_and(is_older)
    }
}

/// A view that a request touches, and the features that it asks of it.
#[derive(Debug, Clone)]
pub struct ViewSelection {
    /// The view.
    pub view: Arc<FeatureView>,
    /// (position in the request's features, position in the view's features).
    pub features: Vec<(usize, usize)>,
    /// Whether a feature is asked for more than once.
    pub has_repeats: bool,
}

/// The features of a request, resolved against a catalog: which views to read, and where each value goes.
#[derive(Debug, Clone)]
pub struct FeatureSelection {
    /// As asked for.
    pub references: Vec<FeatureRef>,
    /// Their full names, `view:feature`.
    pub names: Vec<String>,
    /// Their types.
    pub value_types: Vec<ValueType>,
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
        let mut value_types = Vec::with_capacity(references.len());
        for (position, reference) in references.iter().enumerate() {
            let (view, feature) = catalog.resolve(reference)?;
            value_types.extend(view.features.get(feature).map(|field| field.value_type));
            by_view
                .entry(&reference.view)
                .or_insert_with(|| ViewSelection {
                    view: Arc::clone(view),
                    features: Vec::new(),
                    has_repeats: false,
                })
                .features
                .push((position, feature));
        }
        let mut views: Vec<ViewSelection> = by_view.into_values().collect();
        for selected in &mut views {
            let mut features: Vec<usize> = selected.features.iter().map(|(_, at)| *at).collect();
            features.sort_unstable();
            selected.has_repeats = !features.is_sorted_by(|one, next| one < next);
        }
        Ok(FeatureSelection {
            names: references.iter().map(FeatureRef::full_name).collect(),
            references,
            value_types,
            views,
        })
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
/// `keys` has one list of entity keys a view of the selection, each as long as the list of entities.
///
/// # Errors
/// `Unavailable` where the store is away; `FailedPrecondition` where a view of which the past is asked keeps no history;
/// `InvalidArgument` where the values take more than `bytes_max`; `Internal` where
/// the lists do not fit together.
pub async fn read_features(
    store: &dyn OnlineStore,
    selection: Arc<FeatureSelection>,
    keys: &[Vec<EntityKey>],
    freshness: Freshness,
    bytes_max: usize,
) -> Result<FeatureTable> {
    let entities = keys.first().map_or(0, Vec::len);
    let rows_by_view = read_views(store, &selection, keys, freshness).await?;
    let columns = selection.references.len();
    let mut values = vec![FeatureValue::NOT_FOUND; columns * entities];
    let mut age_bounds = vec![Duration::ZERO; columns];
    let mut room = Room {
        left: bytes_max,
        bytes_max,
    };
    for (selected, mut rows) in selection.views.iter().zip(rows_by_view) {
        for (position, _) in &selected.features {
            if let Some(age_bound) = age_bounds.get_mut(*position) {
                *age_bound = rows.age_bound;
            }
        }
        for entity in 0..rows.len() {
            let (Some(row), is_last_entity) = rows.get(entity) else {
                continue;
            };
            let mut taking = Taking {
                ages: Ages::of(&selected.view, row, freshness),
                row,
                room: &mut room,
            };
            for (index, (position, feature)) in selected.features.iter().enumerate() {
                let later = || selected.features.iter().skip(index + 1);
                let is_last = is_last_entity
                    && (!selected.has_repeats || later().all(|(_, other)| other != feature));
                let slot = values.get_mut(position * entities + entity);
                let slot = slot.ok_or_else(|| Error::internal("more rows than entities"))?;
                *slot = taking.value(*feature, is_last)?;
            }
        }
    }
    FeatureTable::new(selection, entities, values, age_bounds)
        .ok_or_else(|| Error::internal("a feature selection beyond its columns"))
}

/// The rows of every view of a selection. One view, which most have, needs no list of futures.
async fn read_views(
    store: &dyn OnlineStore,
    selection: &FeatureSelection,
    keys: &[Vec<EntityKey>],
    freshness: Freshness,
) -> Result<Vec<ViewRows>> {
    if let ([selected], [keys]) = (selection.views.as_slice(), keys) {
        let rows = ViewRows::read(store, &selected.view, keys, freshness);
        return Ok(vec![rows.await?]);
    }
    let reads = selection
        .views
        .iter()
        .zip(keys)
        .map(|(selected, keys)| ViewRows::read(store, &selected.view, keys, freshness));
    future::try_join_all(reads).await
}

/// What is left of the bytes that the values of an answer may take.
struct Room {
    left: usize,
    bytes_max: usize,
}

impl Room {
    /// Takes a value in, before it is copied.
    fn take(&mut self, value: &Value) -> Result<()> {
        self.left = self.left.checked_sub(value.byte_count()).ok_or_else(|| {
            let fault = format!(
                "their values are more than the {} bytes of one answer (server.answer_bytes_max); ask for fewer",
                self.bytes_max
            );
            Error::invalid("entities", fault)
        })?;
        Ok(())
    }
}

/// How old the features of a row are: mostly all the same.
enum Ages<'a> {
    Same { is_outside: bool },
    Each(&'a FeatureView, Freshness),
}

impl<'a> Ages<'a> {
    fn of(view: &'a FeatureView, row: &StoredRow, freshness: Freshness) -> Ages<'a> {
        if row.is_whole() {
            let is_outside = freshness.is_outside(view, row.event_timestamp);
            return Ages::Same { is_outside };
        }
        Ages::Each(view, freshness)
    }

    fn is_outside(&self, event_timestamp: Timestamp) -> bool {
        match self {
            Ages::Same { is_outside } => *is_outside,
            Ages::Each(view, freshness) => freshness.is_outside(view, event_timestamp),
        }
    }
}

/// A row whose values are taken into an answer.
struct Taking<'a> {
    row: &'a mut ReadRow,
    ages: Ages<'a>,
    room: &'a mut Room,
}

impl Taking<'_> {
    /// One feature, its status decided; `is_last` where it is wanted for the last time.
    fn value(&mut self, feature: usize, is_last: bool) -> Result<FeatureValue> {
        let Some(time) = self.row.feature_time(feature) else {
            return Ok(FeatureValue::NOT_FOUND);
        };
        let (value, status) = if self.ages.is_outside(time.event_timestamp) {
            (Value::Null, FeatureStatus::OutsideTtl)
        } else {
            match self.row.values.get(feature) {
                None | Some(Value::Null) => (Value::Null, FeatureStatus::Null),
                Some(value) => {
                    self.room.take(value)?;
                    let value = self.row.value(feature, is_last);
                    (value, FeatureStatus::Present)
                }
            }
        };
        Ok(FeatureValue {
            value,
            status,
            event_timestamp: Some(time.event_timestamp),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{catalog::Definitions, features::RowTime};

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
        let time = RowTime {
            event_timestamp,
            created_at: event_timestamp,
        };
        StoredRow::whole(time, vec![value])
    }

    fn value_of(view: &FeatureView, row: Option<&StoredRow>, freshness: Freshness) -> FeatureValue {
        let mut room = Room {
            left: 8,
            bytes_max: 8,
        };
        let Some(row) = row else {
            return FeatureValue::NOT_FOUND;
        };
        let mut taking = Taking {
            ages: Ages::of(view, row, freshness),
            row: &mut ReadRow::Own(row.clone()),
            room: &mut room,
        };
        taking.value(0, true).unwrap()
    }

    #[test]
    fn every_status_has_its_cause() {
        let freshness = Freshness::now();
        let now = freshness.now;
        let view = view("1h");
        let hour = Duration::from_secs(3_600);
        let status = |row: Option<StoredRow>| value_of(&view, row.as_ref(), freshness).status;
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
        let outside = value_of(&view, Some(&too_old), freshness);
        assert_eq!(outside.status, FeatureStatus::OutsideTtl);
        assert_eq!(outside.value, Value::Null);
        assert_eq!(outside.event_timestamp, Some(too_old.event_timestamp));
    }

    #[test]
    fn without_a_ttl_nothing_is_too_old() {
        let freshness = Freshness::now();
        let age = Duration::from_secs(10_u64.pow(9));
        let old = row(age, Value::Double(1.0), freshness.now);
        let value = value_of(&view("0s"), Some(&old), freshness);
        assert_eq!(value.status, FeatureStatus::Present);
    }

    #[test]
    fn a_request_may_ask_for_fresher_values_but_not_for_older_ones() {
        let now = Timestamp::now();
        let hour = Duration::from_secs(3_600);
        let status = |ttl: &str, age: Duration, max_age: Duration| {
            let freshness = Freshness {
                max_age: Some(max_age),
                ..Freshness::at(now)
            };
            let row = row(age, Value::Double(1.0), now);
            value_of(&view(ttl), Some(&row), freshness).status
        };
        assert_eq!(status("0s", hour, hour), FeatureStatus::Present);
        assert_eq!(status("0s", hour * 2, hour), FeatureStatus::OutsideTtl);
        assert_eq!(status("1h", hour * 2, hour * 3), FeatureStatus::OutsideTtl);
    }

    #[test]
    fn each_feature_is_as_old_as_its_own_last_write() {
        let freshness = Freshness::now();
        let old = row(
            Duration::from_secs(7_200),
            Value::Double(1.0),
            freshness.now,
        );
        let time = RowTime {
            event_timestamp: freshness.now,
            created_at: freshness.now,
        };
        let mut mixed = StoredRow::partial(time, vec![None]);
        assert_eq!(
            value_of(&view("1h"), Some(&mixed), freshness).status,
            FeatureStatus::NotFound
        );
        mixed.merge(&old);
        assert_eq!(mixed.event_timestamp, freshness.now);
        let value = value_of(&view("1h"), Some(&mixed), freshness);
        assert_eq!(value.status, FeatureStatus::OutsideTtl);
        assert_eq!(value.event_timestamp, Some(old.event_timestamp));
    }
}
