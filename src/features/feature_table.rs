//! What was read of entities: a column a feature, one value after the other.

use std::{collections::BTreeSet, iter::Take, sync::Arc, time::Duration, vec};

use super::{FeatureSelection, FeatureStatus, Timestamp, Value};
use crate::catalog::ValueType;

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
#[derive(Debug)]
pub struct FeatureColumn<'a> {
    /// The feature, `view:feature`.
    pub name: &'a str,
    /// Its type.
    pub value_type: ValueType,
    /// One an entity, in the order asked for.
    pub values: Take<&'a mut vec::IntoIter<FeatureValue>>,
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

    /// The features' full names, in the order asked for.
    pub fn names(&self) -> &[String] {
        &self.selection.names
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

    /// What is made of each feature's column; its values are moved out of the table.
    pub fn map_columns<T>(self, mut each: impl FnMut(FeatureColumn<'_>) -> T) -> Vec<T> {
        let selection = self.selection.as_ref();
        let named = selection.names.iter().zip(&selection.value_types);
        let mut values = self.values.into_iter();
        let mut made = Vec::with_capacity(selection.names.len());
        for ((name, value_type), age_bound) in named.zip(self.age_bounds) {
            let rest = values.len() - self.rows.min(values.len());
            made.push(each(FeatureColumn {
                name,
                value_type: *value_type,
                values: values.by_ref().take(self.rows),
                age_bound,
            }));
            // The next column begins where this one ends, whatever was taken of it.
            while values.len() > rest {
                values.next();
            }
        }
        made
    }

    /// How long ago any of the values was read from the store, at the most; none without features.
    pub fn age_bound_max(&self) -> Option<Duration> {
        self.age_bounds.iter().max().copied()
    }
}
