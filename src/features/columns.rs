//! Columns that a caller brings in place of objects: the keys and the rows that they become.
//!
//! `grpc` reads the cells by the types that are asked for here; what cells of one row mean together is decided here.

use std::vec;

use super::{
    EntityKey, FeatureSelection, KeyValues, RowTime, StoredRow, Timestamp, Value, WriteRow,
    request_faults,
    write::{CREATED_AT_NAMES, EVENT_TIMESTAMP_NAMES},
};
use crate::{
    catalog::{FeatureView, Field, ValueType},
    error::{Error, Result, Violations},
};

/// The cells of one row each; none where the row says nothing.
pub type Cells = Vec<Option<Value>>;

/// A join key of many entities.
#[derive(Debug)]
pub struct KeyColumn {
    /// Its place in the request, as `entityColumns[0]`.
    pub place: String,
    /// The join key's name.
    pub name: String,
    /// Its type.
    pub value_type: ValueType,
    /// One an entity; none of them is null.
    pub values: Vec<Value>,
}

/// What a column of a write is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteTarget {
    /// A join key, by its position among the view's.
    Key(usize),
    /// A feature, by its position among the view's.
    Feature(usize),
    /// When the rows became true in the world.
    EventTimestamp,
    /// When the rows were made.
    CreatedAt,
}

/// A column of a write.
#[derive(Debug)]
pub struct WriteColumn {
    /// Its place in the request, as `columns[2]`.
    pub place: String,
    /// What it is about.
    pub target: WriteTarget,
    /// One a row; those of a join key are neither left out nor null.
    pub cells: Cells,
}

impl FeatureSelection {
    /// The join key of a name, as the first view that has it defines it.
    pub fn join_key(&self, name: &str) -> Option<&Field> {
        let mut keys = self
            .views
            .iter()
            .flat_map(|selected| &selected.view.join_keys);
        keys.find(|key| key.name == name)
    }
}

/// The keys of every view of a selection, a list a view, each in the order of the columns' rows.
///
/// # Errors
/// `InvalidArgument`: a join key without a column, with two, or with one of another type than a view finds rows by.
pub fn column_keys(
    selection: &FeatureSelection,
    columns: Vec<KeyColumn>,
) -> Result<Vec<Vec<EntityKey>>> {
    let mut faults = request_faults();
    for (index, column) in columns.iter().enumerate() {
        if columns.iter().take(index).any(|c| c.name == column.name) {
            faults.add(format!("{}.name", column.place), is_twice(&column.name));
        }
    }
    for (view, key) in needed_keys(selection) {
        match columns.iter().find(|column| column.name == key.name) {
            None => faults.add("entityColumns", no_key_column(view, key)),
            Some(column) if column.value_type != key.value_type => faults.add(
                format!("{}.type", column.place),
                format!(
                    "the feature view \"{}\" has {} as its join key, and another one asked for {}; send entities, which are read as each view needs them",
                    view.name, key.value_type, column.value_type
                ),
            ),
            Some(_) => {}
        }
    }
    faults.into_result(())?;
    let row_count = columns.first().map_or(0, |column| column.values.len());
    let mut columns = columns;
    let mut keys_by_view = Vec::with_capacity(selection.views.len());
    for (index, selected) in selection.views.iter().enumerate() {
        let later = selection.views.get(index + 1..).unwrap_or_default();
        let mut sources = Vec::with_capacity(selected.view.join_keys.len());
        for key in &selected.view.join_keys {
            let column = columns.iter_mut().find(|column| column.name == key.name);
            let column = column.ok_or_else(|| Error::internal("a key column is gone"))?;
            let is_needed_later = later
                .iter()
                .any(|other| other.view.join_keys.iter().any(|k| k.name == key.name));
            let values = if is_needed_later {
                column.values.clone()
            } else {
                std::mem::take(&mut column.values)
            };
            sources.push(values.into_iter());
        }
        let keys = (0..row_count).map(|_| next_key(&mut sources));
        keys_by_view.push(keys.collect::<Result<_>>()?);
    }
    Ok(keys_by_view)
}

fn needed_keys(selection: &FeatureSelection) -> impl Iterator<Item = (&FeatureView, &Field)> {
    selection.views.iter().flat_map(|selected| {
        let view = selected.view.as_ref();
        view.join_keys.iter().map(move |key| (view, key))
    })
}

fn next_key(sources: &mut [vec::IntoIter<Value>]) -> Result<EntityKey> {
    let mut values = KeyValues::with_capacity(sources.len());
    values.extend(sources.iter_mut().filter_map(Iterator::next));
    EntityKey::new(values)
}

fn is_twice(name: &str) -> String {
    format!("\"{name}\" is there twice")
}

fn no_key_column(view: &FeatureView, key: &Field) -> String {
    format!(
        "there is no column of the join key \"{}\"; the feature view \"{}\" finds a {} by it",
        key.name, view.name, view.entity
    )
}

impl WriteTarget {
    /// What a column of a name is about; none where the view knows no such name.
    pub fn find(view: &FeatureView, name: &str) -> Option<WriteTarget> {
        if EVENT_TIMESTAMP_NAMES.contains(&name) {
            return Some(WriteTarget::EventTimestamp);
        }
        if CREATED_AT_NAMES.contains(&name) {
            return Some(WriteTarget::CreatedAt);
        }
        let key = view.join_keys.iter().position(|key| key.name == name);
        key.map(WriteTarget::Key)
            .or_else(|| view.feature_index(name).map(WriteTarget::Feature))
    }

    /// The type that its values have to have.
    pub fn value_type(self, view: &FeatureView) -> ValueType {
        let field = match self {
            WriteTarget::Key(index) => view.join_keys.get(index),
            WriteTarget::Feature(index) => view.features.get(index),
            WriteTarget::EventTimestamp | WriteTarget::CreatedAt => None,
        };
        field.map_or(ValueType::Timestamp, |field| field.value_type)
    }
}

/// The columns of a write by what they are about.
#[derive(Default)]
struct Sources {
    keys: Vec<Option<vec::IntoIter<Option<Value>>>>,
    features: Vec<Option<vec::IntoIter<Option<Value>>>>,
    event_timestamp: Option<vec::IntoIter<Option<Value>>>,
    created_at: Option<vec::IntoIter<Option<Value>>>,
}

/// The rows that columns of `row_count` cells each become; all of them or none.
///
/// A cell that is none is left alone. A row without an event timestamp is as of `now`, and so is the time at which it was
/// made.
///
/// # Errors
/// `InvalidArgument`: a join key without a column, something that has two, a row that says nothing about any feature.
pub fn column_rows(
    view: &FeatureView,
    row_count: usize,
    columns: Vec<WriteColumn>,
    now: Timestamp,
) -> Result<Vec<WriteRow>> {
    let mut faults = request_faults();
    let mut sources = Sources::of(view, columns, &mut faults);
    for (key, source) in view.join_keys.iter().zip(&sources.keys) {
        if source.is_none() {
            faults.add("columns", no_key_column(view, key));
        }
    }
    if sources.features.iter().all(Option::is_none) {
        faults.add("columns", "there is no column of a feature of the view");
    }
    let mut faults = faults.into_result(()).map(|()| request_faults())?;
    let mut rows = Vec::with_capacity(row_count);
    for row in 0..row_count {
        let mut key = KeyValues::with_capacity(sources.keys.len());
        key.extend(sources.keys.iter_mut().filter_map(next_cell));
        let time = RowTime {
            event_timestamp: next_time(&mut sources.event_timestamp, now),
            created_at: next_time(&mut sources.created_at, now),
        };
        let cells: Cells = sources.features.iter_mut().map(next_cell).collect();
        if cells.iter().all(Option::is_none) {
            faults.add(
                format!("rows[{row}]"),
                "says nothing about any feature of the view",
            );
        }
        rows.push(WriteRow {
            key: EntityKey::new(key)?,
            row: StoredRow::partial(time, cells),
        });
    }
    faults.into_result(rows)
}

impl Sources {
    fn of(view: &FeatureView, columns: Vec<WriteColumn>, faults: &mut Violations) -> Sources {
        let mut sources = Sources {
            keys: view.join_keys.iter().map(|_| None).collect(),
            features: view.features.iter().map(|_| None).collect(),
            ..Sources::default()
        };
        for column in columns {
            let slot = match column.target {
                WriteTarget::Key(index) => sources.keys.get_mut(index),
                WriteTarget::Feature(index) => sources.features.get_mut(index),
                WriteTarget::EventTimestamp => Some(&mut sources.event_timestamp),
                WriteTarget::CreatedAt => Some(&mut sources.created_at),
            };
            let Some(slot) = slot else { continue };
            if slot.is_some() {
                faults.add(format!("{}.name", column.place), "is there twice");
            }
            *slot = Some(column.cells.into_iter());
        }
        sources
    }
}

fn next_cell(source: &mut Option<vec::IntoIter<Option<Value>>>) -> Option<Value> {
    source.as_mut()?.next()?
}

fn next_time(source: &mut Option<vec::IntoIter<Option<Value>>>, now: Timestamp) -> Timestamp {
    match next_cell(source) {
        Some(Value::Timestamp(timestamp)) => timestamp,
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::wildcard_enum_match_arm
    )]
    use super::*;
    use crate::catalog::{Catalog, Definitions, FeatureRef};

    fn catalog() -> Catalog {
        let definitions = Definitions::parse(
            r#"
            project = "demo"
            [[entities]]
            name = "shop"
            join_keys = [{ name = "country", type = "string" }, { name = "shop_id", type = "int64" }]
            [[entities]]
            name = "country"
            join_keys = [{ name = "country", type = "string" }]
            [[entities]]
            name = "old_shop"
            join_keys = [{ name = "shop_id", type = "string" }]
            [[feature_views]]
            name = "footfall"
            entity = "shop"
            features = [{ name = "visitors", type = "int64" }, { name = "open", type = "bool" }]
            [[feature_views]]
            name = "weather"
            entity = "country"
            features = [{ name = "rain", type = "double" }]
            [[feature_views]]
            name = "archive"
            entity = "old_shop"
            features = [{ name = "closed", type = "bool" }]
            "#,
        )
        .unwrap();
        let mut catalog = Catalog::default();
        for view in definitions.views {
            catalog.views.insert(view.name.clone(), view);
        }
        catalog
    }

    fn selection(features: &[&str]) -> FeatureSelection {
        let references = features.iter().map(|name| FeatureRef::parse(name).unwrap());
        FeatureSelection::resolve(&catalog(), references.collect()).unwrap()
    }

    fn text(text: &str) -> Value {
        Value::String(text.into())
    }

    fn key_column(name: &str, values: Vec<Value>) -> KeyColumn {
        let value_type = values.first().and_then(Value::value_type).unwrap();
        KeyColumn {
            place: format!("entityColumns.{name}"),
            name: name.to_owned(),
            value_type,
            values,
        }
    }

    #[test]
    fn a_column_serves_every_view_that_has_its_key() {
        let selection = selection(&["weather:rain", "footfall:visitors"]);
        let keys = column_keys(
            &selection,
            vec![
                key_column("shop_id", vec![Value::Int64(1), Value::Int64(2)]),
                key_column("country", vec![text("NL"), text("BE")]),
            ],
        )
        .unwrap();
        let shown = |keys: &[EntityKey]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
        let shown: Vec<Vec<String>> = keys.iter().map(|keys| shown(keys)).collect();
        assert_eq!(shown, [["\"NL\", 1", "\"BE\", 2"], ["\"NL\"", "\"BE\""]]);
    }

    #[test]
    fn key_columns_that_are_missing_double_or_of_two_types_are_named() {
        let fields = |features: &[&str], columns| {
            let error = column_keys(&selection(features), columns).unwrap_err();
            let fields = error.fields().iter().map(|fault| fault.field.clone());
            fields.collect::<Vec<_>>()
        };
        let country = || key_column("country", vec![text("NL")]);
        assert_eq!(
            fields(&["footfall:open"], vec![country(), country()]),
            ["entityColumns.country.name", "entityColumns"]
        );
        let both = &["footfall:open", "archive:closed"];
        let shop = key_column("shop_id", vec![Value::Int64(1)]);
        assert_eq!(
            fields(both, vec![country(), shop]),
            ["entityColumns.shop_id.type"]
        );
    }

    fn write_column(name: &str, cells: Cells) -> WriteColumn {
        let view = catalog().view("footfall").unwrap().clone();
        WriteColumn {
            place: format!("columns.{name}"),
            target: WriteTarget::find(&view, name).unwrap(),
            cells,
        }
    }

    fn rows(columns: Vec<WriteColumn>) -> Result<Vec<WriteRow>> {
        let view = catalog().view("footfall").unwrap().clone();
        column_rows(&view, 2, columns, Timestamp::EPOCH)
    }

    fn keys() -> Vec<WriteColumn> {
        vec![
            write_column(
                "shop_id",
                vec![Some(Value::Int64(1)), Some(Value::Int64(2))],
            ),
            write_column("country", vec![Some(text("NL")), Some(text("BE"))]),
        ]
    }

    #[test]
    fn cells_become_rows_whole_or_in_part() {
        let at = Timestamp::from_micros(5).unwrap();
        let mut columns = keys();
        columns.push(write_column(
            "visitors",
            vec![Some(Value::Int64(7)), Some(Value::Null)],
        ));
        columns.push(write_column("open", vec![Some(Value::Bool(true)), None]));
        columns.push(write_column(
            "event_timestamp",
            vec![Some(Value::Timestamp(at)), None],
        ));
        let rows = rows(columns).unwrap();
        let [first, second] = rows.as_slice() else {
            panic!("two rows");
        };
        assert_eq!(first.key.to_string(), "\"NL\", 1");
        assert!(first.row.is_whole());
        assert_eq!(first.row.event_timestamp, at);
        assert_eq!(first.row.created_at, Timestamp::EPOCH);
        assert_eq!(second.row.event_timestamp, Timestamp::EPOCH);
        assert_eq!(second.row.values, [Value::Null, Value::Null]);
        assert_eq!(second.row.feature_time(0), Some(second.row.time()));
        assert_eq!(second.row.feature_time(1), None);
    }

    #[test]
    fn columns_that_make_no_rows_are_named() {
        let fields = |columns| {
            let error = rows(columns).unwrap_err();
            let fields = error.fields().iter().map(|fault| fault.field.clone());
            fields.collect::<Vec<_>>()
        };
        assert_eq!(fields(keys()), ["columns"]);
        let mut twice = keys();
        twice.push(write_column("open", vec![None, None]));
        twice.push(write_column("open", vec![None, None]));
        assert_eq!(fields(twice), ["columns.open.name"]);
        let mut silent = keys();
        silent.push(write_column("open", vec![Some(Value::Bool(true)), None]));
        assert_eq!(fields(silent), ["rows[1]"]);
    }
}
