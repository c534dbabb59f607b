//! The times of features that are not their row's own, as a column `_feature_times` keeps them: a JSON object, feature to
//! `[event_timestamp, created_at]` in microseconds since 1970, or to null where nothing was ever written. No object at all
//! is the common case: every feature has the row's own times.

use std::collections::BTreeMap;

use crate::{
    catalog::FeatureView,
    error::{Error, ErrorKind, Result},
    features::{RowTime, StoredRow, Timestamp},
};

/// The column of a view's table, and of its history, that holds them.
pub(super) const FEATURE_TIMES: &str = "_feature_times";

/// The column that holds the view's generation in which a row was written.
pub(super) const GENERATION: &str = "_generation";

type Times = BTreeMap<String, Option<(i64, i64)>>;

/// What a row's column holds; none for a whole row.
pub(super) fn encode(view: &FeatureView, row: &StoredRow) -> Result<Option<String>> {
    let Some(times) = &row.feature_times else {
        return Ok(None);
    };
    let own = Some(row.time());
    let apart: Times = view
        .features
        .iter()
        .zip(times)
        .filter(|(_, time)| **time != own)
        .map(|(field, time)| (field.name.clone(), time.map(micros)))
        .collect();
    if apart.is_empty() {
        return Ok(None);
    }
    let text = serde_json::to_string(&apart);
    text.map(Some)
        .map_err(|fault| Error::internal("times that JSON cannot hold").with_source(fault))
}

/// The times of a stored row's features; none where every feature has the row's own.
///
/// `generation` is the one that the row was written in: what was added later was never written.
///
/// # Errors
/// `FailedPrecondition` where the column holds something else: somebody has changed the table.
pub(super) fn decode(
    view: &FeatureView,
    own: RowTime,
    text: Option<&str>,
    generation: u32,
) -> Result<Option<Vec<Option<RowTime>>>> {
    if text.is_none() && generation >= view.generation {
        return Ok(None);
    }
    let apart: Times = match text {
        None => Times::new(),
        Some(text) => serde_json::from_str(text).map_err(|fault| unreadable(view, fault))?,
    };
    let mut times = Vec::with_capacity(view.features.len());
    for field in &view.features {
        // What the column says of a feature that came later is about another one of the same name, which went before.
        let is_known = view.generation_of(&field.name) <= generation;
        times.push(match apart.get(&field.name) {
            _ if !is_known => None,
            Some(None) => None,
            Some(Some(pair)) => Some(row_time(*pair).ok_or_else(|| unfit(view))?),
            None => Some(own),
        });
    }
    Ok((times.iter().any(|time| *time != Some(own))).then_some(times))
}

fn micros(time: RowTime) -> (i64, i64) {
    (time.event_timestamp.micros(), time.created_at.micros())
}

fn row_time((event_micros, created_micros): (i64, i64)) -> Option<RowTime> {
    Some(RowTime {
        event_timestamp: Timestamp::from_micros(event_micros)?,
        created_at: Timestamp::from_micros(created_micros)?,
    })
}

fn unreadable(view: &FeatureView, fault: serde_json::Error) -> Error {
    unfit(view).with_source(fault)
}

fn unfit(view: &FeatureView) -> Error {
    Error::new(
        ErrorKind::FailedPrecondition,
        format!(
            "a row of the feature view \"{}\" holds something else than times in {FEATURE_TIMES}; set it to NULL where every feature is as old as its row",
            view.name
        ),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{catalog::Definitions, features::Value};

    fn view() -> FeatureView {
        let text = r#"
            project = "demo"
            [[entities]]
            name = "loan"
            join_keys = [{ name = "loan_id", type = "string" }]
            [[feature_views]]
            name = "applicant"
            entity = "loan"
            features = [{ name = "a", type = "int64" }, { name = "b", type = "int64" }]
        "#;
        let definitions = Definitions::parse(text).unwrap();
        FeatureView::clone(definitions.views.first().unwrap())
    }

    fn time(micros: i64) -> RowTime {
        RowTime {
            event_timestamp: Timestamp::from_micros(micros).unwrap(),
            created_at: Timestamp::EPOCH,
        }
    }

    #[test]
    fn times_read_back_and_a_whole_row_has_none() {
        let view = view();
        let whole = StoredRow::whole(time(5), vec![Value::Int64(1), Value::Null]);
        assert_eq!(encode(&view, &whole).unwrap(), None);
        let mut row = StoredRow::partial(time(7), vec![Some(Value::Int64(1)), None]);
        let text = encode(&view, &row).unwrap();
        assert_eq!(text.as_deref(), Some(r#"{"b":null}"#));
        let back = decode(&view, row.time(), text.as_deref(), 0).unwrap();
        assert_eq!(back, row.feature_times);
        row.merge(&whole);
        let text = encode(&view, &row).unwrap();
        assert_eq!(text.as_deref(), Some(r#"{"b":[5,0]}"#));
        let back = decode(&view, row.time(), text.as_deref(), 0).unwrap();
        assert_eq!(back, row.feature_times);
    }

    #[test]
    fn what_was_added_after_a_row_was_never_written_in_it() {
        let mut view = view();
        view.generation = 2;
        view.added.insert("b".to_owned(), 2);
        let own = time(5);
        let times = decode(&view, own, None, 1).unwrap();
        assert_eq!(times, Some(vec![Some(own), None]));
        assert_eq!(decode(&view, own, None, 2).unwrap(), None);
        // A feature of the same name, dropped since, had a time.
        let times = decode(&view, own, Some(r#"{"b":[1,0]}"#), 1).unwrap();
        assert_eq!(times, Some(vec![Some(own), None]));
        assert!(decode(&view, own, Some("[]"), 2).is_err());
    }
}
