//! What both databases share about a view's tables: names, checks of rows and keys, the rows of an entity merged into one,
//! what is told where tables and definitions do not fit.

use std::cmp::Ordering;

use super::feature_times::{FEATURE_TIMES, GENERATION};
use crate::{
    catalog::{ExistingTable, FeatureView, Field, ValueType},
    error::{Error, ErrorKind, Result, Violation},
    features::{EntityKey, Value, WriteRow, key_fault, value_fault},
};

/// Faults that one answer lists; a file with a wrong column would name each of its rows.
const FAULTS_LISTED_MAX: usize = 20;

/// The column with the time at which a row became true.
pub(super) const EVENT_TIMESTAMP: &str = "event_timestamp";

/// The column with the time at which a row was made.
pub(super) const CREATED_AT: &str = "created_at";

/// The name of a view's table.
pub(super) fn table_name(view: &FeatureView) -> String {
    format!("fv_{}", view.name)
}

/// The name of the table of a view's history.
pub(super) fn history_name(view: &FeatureView) -> String {
    format!("fh_{}", view.name)
}

/// The name of the index that finds an entity's history. No table of ours is called so, whatever the views are called.
pub(super) fn history_index_name(view: &FeatureView) -> String {
    format!("fi_{}", view.name)
}

/// A name as SQL text; any name can be a column then.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Names as SQL text, with commas between.
pub(super) fn quoted_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(quoted).collect();
    names.join(", ")
}

/// The names of the join keys' columns.
pub(super) fn key_names(view: &FeatureView) -> impl Iterator<Item = &str> {
    view.join_keys.iter().map(|key| key.name.as_str())
}

/// The names of what a row says: both times, then the features.
pub(super) fn value_names(view: &FeatureView) -> impl Iterator<Item = &str> {
    [EVENT_TIMESTAMP, CREATED_AT]
        .into_iter()
        .chain(view.features.iter().map(|feature| feature.name.as_str()))
}

/// The names of all columns, the join keys first. Every row is written in this order.
pub(super) fn column_names(view: &FeatureView) -> impl Iterator<Item = &str> {
    key_names(view).chain(row_names(view))
}

/// The names of all columns but the join keys. Every row is read in this order.
pub(super) fn row_names(view: &FeatureView) -> impl Iterator<Item = &str> {
    value_names(view).chain([FEATURE_TIMES, GENERATION])
}

/// The types of all columns, join keys first, in the order of `key_names` and `value_names`.
pub(super) fn column_types(view: &FeatureView) -> impl Iterator<Item = ValueType> {
    let keys = view.join_keys.iter().map(|key| key.value_type);
    let features = view.features.iter().map(|feature| feature.value_type);
    keys.chain([ValueType::Timestamp, ValueType::Timestamp])
        .chain(features)
}

/// Checks that rows fit the view, before a database sees them. `first_row` is the position of the first of them in its
/// request or source.
///
/// # Errors
/// `InvalidArgument`, with row and column of each fault: a value of another type, or what no store can keep.
pub(super) fn check_rows(view: &FeatureView, rows: &[WriteRow], first_row: u64) -> Result<()> {
    let mut faults = Vec::new();
    for (number, write) in (first_row..).zip(rows) {
        let values = &write.row.values;
        if write.key.values().len() != view.join_keys.len() || values.len() != view.features.len() {
            return Err(Error::internal(format!(
                "a row that does not have the columns of the feature view \"{}\"",
                view.name
            )));
        }
        let cells = view.join_keys.iter().zip(write.key.values());
        for (field, value) in cells.chain(view.features.iter().zip(values)) {
            if let Some(fault) = cell_fault(field, value) {
                faults.push(Violation {
                    field: format!("rows[{number}].{}", field.name),
                    description: fault,
                });
            }
        }
        if let Some((position, fault)) = key_fault(&write.key) {
            let name = view.join_keys.get(position).map_or("", |key| &key.name);
            faults.push(Violation {
                field: format!("rows[{number}].{name}"),
                description: fault,
            });
        }
        if faults.len() >= FAULTS_LISTED_MAX {
            break;
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Error::violations(faults))
    }
}

fn cell_fault(field: &Field, value: &Value) -> Option<String> {
    if let Some(fault) = value_fault(value) {
        return Some(fault.to_owned());
    }
    let found = value.value_type()?;
    (found != field.value_type).then(|| format!("expected a {}, got a {found}", field.value_type))
}

/// Checks that keys fit the view.
///
/// # Errors
/// `Internal`: whoever reads the request has to make keys of the view's types.
pub(super) fn check_keys(view: &FeatureView, keys: &[EntityKey]) -> Result<()> {
    let fits = |key: &EntityKey| {
        key.values().len() == view.join_keys.len()
            && key
                .values()
                .iter()
                .zip(&view.join_keys)
                .all(|(value, field)| value.value_type() == Some(field.value_type))
    };
    if keys.iter().all(fits) {
        return Ok(());
    }
    Err(Error::internal(format!(
        "an entity key that is not of the types of the feature view \"{}\"",
        view.name
    )))
}

/// Whether a row with this key can be stored at all; see `check_rows`.
pub(super) fn is_storable(key: &EntityKey) -> bool {
    key_fault(key).is_none()
        && key
            .values()
            .iter()
            .all(|value| value_fault(value).is_none())
}

/// The rows of one entity in a write, merged into one.
#[derive(Debug)]
pub(super) struct Combined {
    /// What they say together.
    pub(super) write: WriteRow,
    /// How many of them say something that no other one overrules.
    pub(super) in_effect: u64,
}

/// The rows of each entity merged into one, sorted by key.
///
/// One order for all writers, the databases' own, so that two of them that lock the same rows do not wait for each other.
pub(super) fn combined(mut rows: Vec<WriteRow>) -> Vec<Combined> {
    // Stable: of equally new rows the first stands.
    rows.sort_by(|a, b| key_order(&a.key, &b.key));
    let mut groups: Vec<Vec<WriteRow>> = Vec::with_capacity(rows.len());
    for write in rows {
        match groups.last_mut() {
            Some(group)
                if group
                    .first()
                    .is_some_and(|first| key_order(&first.key, &write.key).is_eq()) =>
            {
                group.push(write);
            }
            _ => groups.push(vec![write]),
        }
    }
    groups.into_iter().filter_map(merged).collect()
}

fn merged(group: Vec<WriteRow>) -> Option<Combined> {
    let mut rows = group.iter();
    let mut write = rows.next()?.clone();
    for other in rows {
        write.row.merge(&other.row);
    }
    let mut is_claimed = vec![false; write.row.values.len()];
    let mut in_effect = 0;
    for member in &group {
        let mut counts = false;
        for (feature, claimed) in is_claimed.iter_mut().enumerate() {
            let time = member.row.feature_time(feature);
            if !*claimed && time.is_some() && time == write.row.feature_time(feature) {
                *claimed = true;
                counts = true;
            }
        }
        in_effect += u64::from(counts);
    }
    Some(Combined { write, in_effect })
}

pub(super) fn key_order(a: &EntityKey, b: &EntityKey) -> Ordering {
    let pairs = a.values().iter().zip(b.values());
    pairs
        .map(|pair| match pair {
            (Value::Int32(a), Value::Int32(b)) => a.cmp(b),
            (Value::Int64(a), Value::Int64(b)) => a.cmp(b),
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            _ => Ordering::Equal,
        })
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// A stored value that a view's column cannot have: someone else has changed or filled the table. The column is named as
/// the table has it.
pub(super) fn unfit_cell(view: &FeatureView, name: &str, value_type: ValueType) -> Error {
    let place = match &view.table {
        Some(table) => format!("{}.{}", table.name, existing_column(table, name)),
        None => format!("{}.{name}", table_name(view)),
    };
    Error::failed_precondition(format!("{place} holds a value that is no {value_type}"))
}

/// The columns of somebody else's table that a view reads.
pub(super) fn existing_columns<'a>(
    view: &'a FeatureView,
    table: &'a ExistingTable,
) -> impl Iterator<Item = &'a str> {
    let fields = view.join_keys.iter().chain(&view.features);
    let created = table.created_timestamp_field.as_deref();
    fields
        .map(|field| table.column(&field.name))
        .chain([table.timestamp_field.as_str()])
        .chain(created)
}

/// The column of somebody else's table behind one of `column_names`.
fn existing_column<'a>(table: &'a ExistingTable, name: &'a str) -> &'a str {
    match name {
        EVENT_TIMESTAMP => &table.timestamp_field,
        CREATED_AT => {
            let created = table.created_timestamp_field.as_deref();
            created.unwrap_or(&table.timestamp_field)
        }
        name => table.column(name),
    }
}

/// A table or column that is in the way of a new view.
pub(super) fn name_taken(what: &str) -> Error {
    Error::failed_precondition(format!(
        "{what} is there already and was not made by ferrocast; rename or drop it, or choose another name"
    ))
}

/// A name in the way that a database without upper and lower case in names takes for the same.
pub(super) fn name_differs_in_case(what: &str, name: &str, found: &str) -> Error {
    Error::failed_precondition(format!(
        "SQLite cannot tell the {what} {name} from {found}, which is there already: they differ only in upper and lower case; choose another name"
    ))
}

/// A view's table that is not as the statement says, or a row in it that a server with a newer catalog has written: to
/// replace that would lose what this one does not know. A server goes on with the catalog that it has read until it reads
/// it anew, which is not long.
pub(super) fn definition_changed(view: &FeatureView) -> Error {
    let sentence = format!(
        "the definition of the feature view \"{}\" has changed since this server read it; try again in a moment, it reads \
         the definitions anew by itself. Where that does not help, the table of the view is not as it was applied",
        view.name
    );
    Error::new(ErrorKind::Conflict, sentence)
}

/// A load is of whole rows.
///
/// # Errors
/// `Internal`: sources make no others.
pub(super) fn check_whole(view: &FeatureView, rows: &[WriteRow]) -> Result<()> {
    if rows.iter().all(|write| write.row.is_whole()) {
        return Ok(());
    }
    Err(Error::internal(format!(
        "a load of the feature view \"{}\" with a row that leaves features out",
        view.name
    )))
}

/// A view that keeps no history, asked for it.
/// Refuses to read the past of a view that keeps no history of its own.
pub(super) fn check_history(view: &FeatureView) -> Result<()> {
    match (&view.table, view.history) {
        (Some(table), _) => Err(Error::failed_precondition(format!(
            "the feature view \"{}\" reads the table {}, and the past of a table is not served; ferrocast historical reads it",
            view.name, table.name
        ))),
        (None, false) => Err(no_history(view)),
        (None, true) => Ok(()),
    }
}

pub(super) fn no_history(view: &FeatureView) -> Error {
    Error::failed_precondition(format!(
        "the feature view \"{}\" keeps no history; define it with history = true",
        view.name
    ))
}

/// A table of somebody else in a SQLite file that is not as the view says, with the columns that it lacks; none: there is no such table.
pub(super) fn table_unlike_view(view: &FeatureView, table: &str, missing: &[&str]) -> Error {
    let fault = match missing {
        [] if table.contains('.') => {
            "there is no such table or SQL view; a SQLite file has no schemas, so that there \
                                      is nothing to write before the name"
                .to_owned()
        }
        [] => "there is no such table or SQL view".to_owned(),
        missing => format!("it has no column {}", missing.join(", ")),
    };
    Error::failed_precondition(format!(
        "the feature view \"{}\" reads the table {table}: {fault}",
        view.name
    ))
}

/// A plan that was made for an older catalog.
pub(super) fn revision_conflict(planned: i64, found: i64) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!(
            "somebody else has changed the catalog (revision {found}, planned for {planned}); apply again"
        ),
    )
}

/// A source that ended before it said so.
pub(super) fn source_gone() -> Error {
    Error::internal("the source of a load went away before its end; nothing was written")
}

/// A count as SQL keeps it.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::features::{RowTime, StoredRow, Timestamp};

    fn time(event: i64, created: i64) -> RowTime {
        RowTime {
            event_timestamp: Timestamp::from_micros(event).unwrap(),
            created_at: Timestamp::from_micros(created).unwrap(),
        }
    }

    fn row(key: i64, event: i64, created: i64, value: i64) -> WriteRow {
        WriteRow {
            key: EntityKey::new(vec![Value::Int64(key)]).unwrap(),
            row: StoredRow::whole(time(event, created), vec![Value::Int64(value)]),
        }
    }

    #[test]
    fn the_newest_row_of_each_key_stays_and_the_first_of_equals() {
        let kept = combined(vec![
            row(2, 5, 0, 10),
            row(1, 1, 9, 11),
            row(2, 5, 0, 12),
            row(1, 2, 0, 13),
            row(1, 2, 1, 14),
        ]);
        let values: Vec<&Value> = kept.iter().map(|c| &c.write.row.values[0]).collect();
        assert_eq!(values, [&Value::Int64(14), &Value::Int64(10)]);
        assert!(kept.iter().all(|combined| combined.in_effect == 1));
    }

    #[test]
    fn parts_of_one_entity_become_one_row_and_all_count() {
        let part = |event: i64, cells: [Option<i64>; 2]| WriteRow {
            key: EntityKey::new(vec![Value::Int64(1)]).unwrap(),
            row: StoredRow::partial(time(event, 0), cells.map(|c| c.map(Value::Int64)).to_vec()),
        };
        let kept = combined(vec![
            part(1, [Some(1), None]),
            part(2, [None, Some(2)]),
            part(0, [Some(3), Some(3)]),
        ]);
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].in_effect, 2);
        assert_eq!(kept[0].write.row.values, [Value::Int64(1), Value::Int64(2)]);
        assert_eq!(kept[0].write.row.feature_time(0), Some(time(1, 0)));
    }

    #[test]
    fn names_are_quoted_whatever_they_hold() {
        assert_eq!(quoted("se\"lect"), "\"se\"\"lect\"");
    }
}
