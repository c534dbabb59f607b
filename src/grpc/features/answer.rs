//! The forms in which features are answered. Values are moved, not copied.

use prost_types::Struct;

use crate::{
    error::Result,
    features::{FeatureColumn, Timestamp},
    grpc::{
        convert::{wire_duration, wire_status, wire_timestamp, wire_value},
        pb,
        typed_column::ColumnWriter,
    },
};

/// A column a feature.
pub(super) fn columns(columns: Vec<FeatureColumn>) -> Vec<pb::FeatureColumn> {
    columns.into_iter().map(column).collect()
}

fn column(column: FeatureColumn) -> pb::FeatureColumn {
    let count = column.values.len();
    let mut wire = pb::FeatureColumn {
        feature: column.reference.to_string(),
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
pub(super) fn rows(entities: Vec<Struct>, columns: Vec<FeatureColumn>) -> Vec<pb::FeatureRow> {
    let age_bound = columns.iter().map(|column| column.age_bound).max();
    let age_bound = age_bound.and_then(wire_duration);
    let named = entities.into_iter().map(|entity| pb::FeatureRow {
        entity: Some(entity),
        values: Some(Struct::default()),
        age_bound,
        ..pb::FeatureRow::default()
    });
    let mut rows: Vec<pb::FeatureRow> = named.collect();
    for column in columns {
        let name = column.reference.to_string();
        for (row, value) in rows.iter_mut().zip(column.values) {
            let values = row.values.get_or_insert_default();
            values.fields.insert(name.clone(), wire_value(value.value));
            let status = wire_status(value.status).into();
            row.statuses.insert(name.clone(), status);
            if let Some(event_timestamp) = value.event_timestamp {
                let event_timestamp = wire_timestamp(event_timestamp);
                row.event_timestamps.insert(name.clone(), event_timestamp);
            }
        }
    }
    rows
}

/// A packed column a feature.
///
/// # Errors
/// `Internal` where a value is not of its column's type.
pub(super) fn packed(columns: Vec<FeatureColumn>) -> Result<Vec<pb::PackedFeatureColumn>> {
    columns.into_iter().map(packed_column).collect()
}

fn packed_column(column: FeatureColumn) -> Result<pb::PackedFeatureColumn> {
    let count = column.values.len();
    let name = column.reference.to_string();
    let mut values = ColumnWriter::new(name, column.value_type, count);
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
