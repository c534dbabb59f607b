//! Writing: rows as a caller wrote them become rows of a view.

use std::collections::HashMap;

use super::{
    EntityKey, RawRow, RawValue, RowTime, StoredRow, Timestamp, Value, WriteRow, keys::view_key,
    request_faults,
};
use crate::{
    catalog::{FeatureView, ValueType},
    error::{Result, Violations},
};

/// The names that a row's event timestamp goes by.
pub(super) const EVENT_TIMESTAMP_NAMES: [&str; 2] = ["eventTimestamp", "event_timestamp"];

/// The names that the time at which a row was made goes by.
pub(super) const CREATED_AT_NAMES: [&str; 2] = ["createdAt", "created_at"];

/// Checks rows against a view and types them; all of them or none.
///
/// A feature that a row leaves out is left alone. A row without an event timestamp is as of `now`, and so is the time at
/// which it was made.
///
/// # Errors
/// `InvalidArgument` naming row and field: a missing join key, an unknown name, a value of the wrong type, a row without
/// any feature.
pub fn typed_rows(view: &FeatureView, rows: &[RawRow], now: Timestamp) -> Result<Vec<WriteRow>> {
    let mut faults = request_faults();
    let columns: HashMap<&str, usize> = view
        .features
        .iter()
        .enumerate()
        .map(|(index, feature)| (feature.name.as_str(), index))
        .collect();
    let mut typed = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        let place = || format!("rows[{index}]");
        let key = view_key(view, row, place, &mut faults);
        let stored = stored_row(view, &columns, row, now, place, &mut faults);
        typed.extend(key.map(|key: EntityKey| WriteRow { key, row: stored }));
        if faults.is_full() {
            break;
        }
    }
    faults.into_result(typed)
}

fn stored_row(
    view: &FeatureView,
    columns: &HashMap<&str, usize>,
    row: &RawRow,
    now: Timestamp,
    place: impl Fn() -> String,
    faults: &mut Violations,
) -> StoredRow {
    let mut cells = vec![None; view.features.len()];
    let mut time = RowTime {
        event_timestamp: now,
        created_at: now,
    };
    let mut is_empty = true;
    for (name, raw) in &row.fields {
        let field = || format!("{}.{name}", place());
        let slot = match name.as_str() {
            name if EVENT_TIMESTAMP_NAMES.contains(&name) => Some(&mut time.event_timestamp),
            name if CREATED_AT_NAMES.contains(&name) => Some(&mut time.created_at),
            _ => None,
        };
        if let Some(slot) = slot {
            match point_in_time(raw) {
                Ok(given) => *slot = given.unwrap_or(now),
                Err(fault) => faults.add(field(), fault),
            }
            continue;
        }
        if faults.is_full() {
            break;
        }
        let feature = columns
            .get(name.as_str())
            .and_then(|index| Some((view.features.get(*index)?, cells.get_mut(*index)?)));
        let Some((feature, cell)) = feature else {
            if !view.join_keys.iter().any(|key| key.name == *name) {
                faults.add(
                    field(),
                    format!("the feature view \"{}\" has no such feature", view.name),
                );
            }
            continue;
        };
        is_empty = false;
        match raw.to_value(feature.value_type) {
            Ok(value) => *cell = Some(value),
            Err(fault) => faults.add(field(), fault),
        }
    }
    if is_empty && !faults.is_full() {
        faults.add(place(), "says nothing about any feature of the view");
    }
    StoredRow::partial(time, cells)
}

fn point_in_time(raw: &RawValue) -> std::result::Result<Option<Timestamp>, String> {
    match raw.to_value(ValueType::Timestamp)? {
        Value::Timestamp(timestamp) => Ok(Some(timestamp)),
        Value::Null
        | Value::Bool(_)
        | Value::Int32(_)
        | Value::Int64(_)
        | Value::Float(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::List(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::catalog::Definitions;

    fn view() -> FeatureView {
        let definitions = Definitions::parse(
            r#"
            project = "demo"
            [[entities]]
            name = "loan"
            join_keys = [{ name = "loan_id", type = "string" }]
            [[feature_views]]
            name = "applicant"
            entity = "loan"
            features = [
                { name = "annual_inc", type = "double" },
                { name = "delinq_2yrs", type = "int32" },
            ]
            "#,
        )
        .unwrap();
        FeatureView::clone(definitions.views.first().unwrap())
    }

    fn row(fields: &[(&str, RawValue)]) -> RawRow {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        RawRow { fields }
    }

    #[test]
    fn what_is_left_out_is_left_alone_and_the_time_is_now() {
        let now = Timestamp::now();
        let rows = [row(&[
            ("loan_id", RawValue::Text("L1".into())),
            ("delinq_2yrs", RawValue::Number(2.0)),
        ])];
        let typed = typed_rows(&view(), &rows, now).unwrap();
        let written = &typed.first().unwrap().row;
        assert_eq!(written.values, [Value::Null, Value::Int32(2)]);
        assert_eq!(written.feature_time(0), None);
        assert_eq!(written.feature_time(1), Some(written.time()));
        assert_eq!(written.event_timestamp, now);
    }

    #[test]
    fn a_row_may_say_when_it_was_made_so_that_a_retry_is_the_same_row() {
        let now = Timestamp::now();
        let text = |text: &str| RawValue::Text(text.to_owned());
        let rows = [row(&[
            ("loan_id", text("L1")),
            ("annual_inc", RawValue::Null),
            ("delinq_2yrs", RawValue::Number(2.0)),
            ("eventTimestamp", text("2016-01-04T00:00:00Z")),
            ("createdAt", text("2016-01-05T00:00:00Z")),
        ])];
        let typed = typed_rows(&view(), &rows, now).unwrap();
        let written = &typed.first().unwrap().row;
        assert!(written.is_whole());
        assert_eq!(written.created_at.to_string(), "2016-01-05T00:00:00Z");
    }

    #[test]
    fn each_fault_names_row_and_field() {
        let rows = [
            row(&[("annual_inc", RawValue::Number(1.0))]),
            row(&[("loan_id", RawValue::Text("L1".into()))]),
            row(&[
                ("loan_id", RawValue::Null),
                ("annual_inc", RawValue::Text("much".into())),
                ("anual_inc", RawValue::Number(1.0)),
                ("eventTimestamp", RawValue::Text("today".into())),
            ]),
        ];
        let error = typed_rows(&view(), &rows, Timestamp::now()).unwrap_err();
        let fields: Vec<&str> = error.fields().iter().map(|v| v.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "rows[0].loan_id",
                "rows[1]",
                "rows[2].loan_id",
                "rows[2].annual_inc",
                "rows[2].anual_inc",
                "rows[2].eventTimestamp"
            ]
        );
    }
}
