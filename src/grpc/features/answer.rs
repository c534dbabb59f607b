//! The forms in which features are answered. Values are moved, not copied.

use prost_types::Struct;

use crate::{
    error::Result,
    features::{FeatureColumn, FeatureTable, Timestamp},
    grpc::{
        convert::{wire_duration, wire_status, wire_timestamp, wire_value},
        pb,
        typed_column::ColumnWriter,
    },
};

/// A column a feature.
pub(super) fn columns(table: FeatureTable) -> Vec<pb::FeatureColumn> {
    table.map_columns(column)
}

fn column(column: FeatureColumn<'_>) -> pb::FeatureColumn {
    let count = column.values.len();
    let mut wire = pb::FeatureColumn {
        feature: column.name.to_owned(),
        values: Vec::with_capacity(count),
        statuses: Vec::with_capacity(count),
        event_timestamps: Vec::with_capacity(count),
        age_bound: wire_duration(column.age_bound),
    };
    for value in column.values {
        wire.values.push(wire_value(value.value));
        wire.statuses.push(wire_status(value.status).into());
        let event_timestamp = value.event_timestamp.unwrap_or(Timestamp::EPOCH);
        wire.event_timestamps.push(wire_timestamp(event_timestamp));
    }
    wire
}

/// A row an entity.
pub(super) fn rows(entities: Vec<Struct>, table: FeatureTable) -> Vec<pb::FeatureRow> {
    let age_bound = table.age_bound_max().and_then(wire_duration);
    let named = entities.into_iter().map(|entity| pb::FeatureRow {
        entity: Some(entity),
        values: Some(Struct::default()),
        age_bound,
        ..pb::FeatureRow::default()
    });
    let mut rows: Vec<pb::FeatureRow> = named.collect();
    table.map_columns(|column| {
        let name = column.name;
        for (value, row) in column.values.zip(&mut rows) {
            let values = row.values.get_or_insert_default();
            values
                .fields
                .insert(name.to_owned(), wire_value(value.value));
            let status = wire_status(value.status).into();
            row.statuses.insert(name.to_owned(), status);
            if let Some(event_timestamp) = value.event_timestamp {
                let event_timestamp = wire_timestamp(event_timestamp);
                row.event_timestamps
                    .insert(name.to_owned(), event_timestamp);
            }
        }
    });
    rows
}

/// A packed column a feature.
///
/// # Errors
/// `Internal` where a value is not of its column's type.
pub(super) fn packed(table: FeatureTable) -> Result<Vec<pb::PackedFeatureColumn>> {
    table.map_columns(packed_column).into_iter().collect()
}

fn packed_column(column: FeatureColumn<'_>) -> Result<pb::PackedFeatureColumn> {
    let count = column.values.len();
    let mut values = ColumnWriter::new(column.name.to_owned(), column.value_type, count);
    let mut statuses = Vec::with_capacity(count);
    let mut event_timestamps = Vec::with_capacity(count);
    for value in column.values {
        values.push(value.value)?;
        statuses.push(wire_status(value.status).into());
        let event_timestamp = value.event_timestamp.unwrap_or(Timestamp::EPOCH);
        event_timestamps.push(event_timestamp.micros());
    }
    Ok(pb::PackedFeatureColumn {
        values: Some(values.finish()),
        statuses,
        event_timestamps,
        age_bound: wire_duration(column.age_bound),
    })
}
