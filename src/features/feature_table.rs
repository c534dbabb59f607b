//! What was read of entities: a column a feature, one value after the other.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{FeatureSelection, FeatureStatus, Timestamp, Value};
use crate::catalog::{FeatureRef, ValueType};

/// One value, its status and its time.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureValue {
    /// The value; `Null` where the status is not `Present`.
    pub value: Value,
    /// How it came about.
    pub status: FeatureStatus,
    /// When it became true in the world; none where the status is `NotFound`.
    pub event_timestamp: Option<Timestamp>,
}

impl FeatureValue {
    /// Nothing was ever written.
    pub const NOT_FOUND: FeatureValue = FeatureValue {
        value: Value::Null,
        status: FeatureStatus::NotFound,
        event_timestamp: None,
    };
}

/// One feature of every entity asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureColumn {
    /// The feature.
    pub reference: FeatureRef,
    /// Its type.
    pub value_type: ValueType,
    /// One an entity, in the order asked for.
    pub values: Vec<FeatureValue>,
    /// How long ago the values were read from the store, at the most; zero where this read did.
    pub age_bound: Duration,
}

/// The features of a selection, of every entity asked for. Two allocations, however many features there are.
#[derive(Debug, Clone)]
pub struct FeatureTable {
    selection: Arc<FeatureSelection>,
    rows: usize,
    /// [features, entities].
    values: Vec<FeatureValue>,
    /// One a feature.
    age_bounds: Vec<Duration>,
}

impl FeatureTable {
    /// A table of values, [features, entities], and of how old each feature's are at the most. None where they do not go
    /// together.
    pub fn new(
        selection: Arc<FeatureSelection>,
        rows: usize,
        values: Vec<FeatureValue>,
        age_bounds: Vec<Duration>,
    ) -> Option<FeatureTable> {
        let columns = selection.references.len();
        let fits = age_bounds.len() == columns && values.len() == columns * rows;
        fits.then_some(FeatureTable {
            selection,
            rows,
            values,
            age_bounds,
        })
    }

    /// How many entities there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The features, in the order asked for.
    pub fn references(&self) -> &[FeatureRef] {
        &self.selection.references
    }

    /// The values of a feature, by its position; one an entity.
    pub fn column(&self, position: usize) -> &[FeatureValue] {
        let first = position * self.rows;
        self.values.get(first..first + self.rows).unwrap_or(&[])
    }

    /// As `column`, to be changed.
    pub fn column_mut(&mut self, position: usize) -> &mut [FeatureValue] {
        let first = position * self.rows;
        let column = self.values.get_mut(first..first + self.rows);
        column.unwrap_or_default()
    }

    /// How long ago a feature's values were read from the store, at the most.
    pub fn age_bound(&self, position: usize) -> Duration {
        self.age_bounds.get(position).copied().unwrap_or_default()
    }

    /// Every value, whosever it is.
    pub fn values(&self) -> &[FeatureValue] {
        &self.values
    }

    /// Leaves entities out, by their place.
    pub fn leave_out(&mut self, entities: &BTreeSet<usize>) {
        let (rows, mut at) = (self.rows, 0);
        self.values.retain(|_| {
            let is_kept = !entities.contains(&(at % rows));
            at += 1;
            is_kept
        });
        let left_out = entities.range(..rows).count();
        self.rows -= left_out;
    }

    /// A column a feature, by itself.
    pub fn into_columns(self) -> Vec<FeatureColumn> {
        let mut values = self.values.into_iter();
        let named = self.selection.references.iter();
        let named = named.zip(&self.selection.value_types).zip(self.age_bounds);
        named
            .map(|((reference, value_type), age_bound)| FeatureColumn {
                reference: reference.clone(),
                value_type: *value_type,
                values: values.by_ref().take(self.rows).collect(),
                age_bound,
            })
            .collect()
    }
}
