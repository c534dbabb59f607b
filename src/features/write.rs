//! Writing: rows as a caller wrote them become rows of a view.

use std::collections::HashMap;

use super::{
    EntityKey, RawRow, RawValue, StoredRow, Timestamp, Value, WriteRow, keys::entity_key,
    request_faults,
};
use crate::{
    catalog::{FeatureView, ValueType},
    error::{Result, Violations},
};

/// The names that a row's event timestamp goes by.
const EVENT_TIMESTAMP_NAMES: [&str; 2] = ["eventTimestamp", "event_timestamp"];

/// Checks rows against a view and types them; all of them or none.
///
/// A feature that a row leaves out is null. A row without an event timestamp is as of `now`, which is also when every
/// row is made.
///
/// # Errors
/// `InvalidArgument` naming row and field: a missing join key, an unknown name, a value of the wrong type.
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
        let key = entity_key(view, row, place, &mut faults);
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
    let mut values = vec![Value::Null; view.features.len()];
    let mut event_timestamp = now;
    for (name, raw) in &row.fields {
        let field = || format!("{}.{name}", place());
        if EVENT_TIMESTAMP_NAMES.contains(&name.as_str()) {
            match event_time(raw) {
                Ok(given) => event_timestamp = given.unwrap_or(now),
                Err(fault) => faults.add(field(), fault),
            }
            continue;
        }
        if faults.is_full() {
            break;
        }
        let feature = columns
            .get(name.as_str())
            .and_then(|index| Some((view.features.get(*index)?, values.get_mut(*index)?)));
        let Some((feature, slot)) = feature else {
            if !view.join_keys.iter().any(|key| key.name == *name) {
                faults.add(
                    field(),
                    format!("the feature view \"{}\" has no such feature", view.name),
                );
            }
            continue;
        };
        match raw.to_value(feature.value_type) {
            Ok(value) => *slot = value,
            Err(fault) => faults.add(field(), fault),
        }
    }
    StoredRow {
        event_timestamp,
        created_at: now,
        values,
    }
}

fn event_time(raw: &RawValue) -> std::result::Result<Option<Timestamp>, String> {
    match raw.to_value(ValueType::Timestamp)? {
        Value::Timestamp(timestamp) => Ok(Some(timestamp)),
        Value::Null
        | Value::Bool(_)
        | Value::Int32(_)
        | Value::Int64(_)
        | Value::Float(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Bytes(_) => Ok(None),
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
    fn what_is_left_out_is_null_and_now() {
        let now = Timestamp::now();
        let rows = [row(&[
            ("loan_id", RawValue::Text("L1".into())),
            ("delinq_2yrs", RawValue::Number(2.0)),
        ])];
        let typed = typed_rows(&view(), &rows, now).unwrap();
        let written = typed.first().unwrap();
        assert_eq!(written.row.values, [Value::Null, Value::Int32(2)]);
        assert_eq!(written.row.event_timestamp, now);
    }

    #[test]
    fn each_fault_names_row_and_field() {
        let rows = [
            row(&[("annual_inc", RawValue::Number(1.0))]),
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
                "rows[1].loan_id",
                "rows[1].annual_inc",
                "rows[1].anual_inc",
                "rows[1].eventTimestamp"
            ]
        );
    }
}
