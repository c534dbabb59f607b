//! What is kept of an entity: a value and a time a feature, of which the newest stays.

use super::{EntityKey, Timestamp, Value};

/// When a value became true in the world, and, among equals, when it was made. The greater one is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowTime {
    /// When it became true in the world.
    pub event_timestamp: Timestamp,
    /// When it was made; breaks ties.
    pub created_at: Timestamp,
}

/// What a view holds of one entity, or what a write brings for it.
///
/// Each feature has a value and a time. Mostly all times are the same, and then they are told once. They differ after a
/// write of some features only; a feature that nothing was ever written for has no time, which is not the same as a
/// null that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRow {
    /// The newest event timestamp of all features.
    pub event_timestamp: Timestamp,
    /// When that was made; breaks ties of the event timestamp.
    pub created_at: Timestamp,
    /// One a feature of the view, in its order.
    pub values: Vec<Value>,
    /// One a feature; none as a whole: every feature has the row's own time.
    pub feature_times: Option<Vec<Option<RowTime>>>,
}

impl StoredRow {
    /// A row that says something about every feature.
    pub fn whole(time: RowTime, values: Vec<Value>) -> StoredRow {
        StoredRow {
            event_timestamp: time.event_timestamp,
            created_at: time.created_at,
            values,
            feature_times: None,
        }
    }

    /// A row of one time that says something about the features that are some, and nothing about the others.
    pub fn partial(time: RowTime, cells: Vec<Option<Value>>) -> StoredRow {
        if cells.iter().all(Option::is_some) {
            return StoredRow::whole(time, cells.into_iter().flatten().collect());
        }
        let times = cells.iter().map(|cell| cell.as_ref().map(|_| time));
        let feature_times = Some(times.collect());
        let values = cells.into_iter().map(|cell| cell.unwrap_or(Value::Null));
        StoredRow {
            values: values.collect(),
            feature_times,
            ..StoredRow::whole(time, Vec::new())
        }
    }

    /// The row's own time.
    pub fn time(&self) -> RowTime {
        RowTime {
            event_timestamp: self.event_timestamp,
            created_at: self.created_at,
        }
    }

    /// The time of a feature, by its position; none where nothing was ever written for it.
    pub fn feature_time(&self, feature: usize) -> Option<RowTime> {
        match &self.feature_times {
            None => Some(self.time()),
            Some(times) => times.get(feature).copied().flatten(),
        }
    }

    /// Whether every feature has the row's own time.
    pub fn is_whole(&self) -> bool {
        self.feature_times.is_none()
    }

    /// Takes from another row of the same entity what is newer there, feature by feature; says whether anything was.
    ///
    /// Of equally new values the one that is here stays. The order in which rows are merged makes no difference, but for
    /// that.
    pub fn merge(&mut self, other: &StoredRow) -> bool {
        if self.is_whole() && other.is_whole() {
            if other.time() <= self.time() {
                return false;
            }
            self.clone_from(other);
            return true;
        }
        let mut is_changed = false;
        let mut times = Vec::with_capacity(self.values.len());
        for index in 0..self.values.len() {
            let (own, others) = (self.feature_time(index), other.feature_time(index));
            let is_newer = others > own;
            if is_newer
                && let (Some(slot), Some(value)) =
                    (self.values.get_mut(index), other.values.get(index))
            {
                slot.clone_from(value);
                is_changed = true;
            }
            times.push(if is_newer { others } else { own });
        }
        if !is_changed {
            return false;
        }
        let newest = self.time().max(other.time());
        self.event_timestamp = newest.event_timestamp;
        self.created_at = newest.created_at;
        self.feature_times = Some(times);
        self.simplify();
        true
    }

    /// Tells the times once where they are all the row's own, so that equal rows compare as equal.
    pub fn simplify(&mut self) {
        let own = Some(self.time());
        let are_own = |times: &Vec<Option<RowTime>>| times.iter().all(|time| *time == own);
        if self.feature_times.as_ref().is_some_and(are_own) {
            self.feature_times = None;
        }
    }
}

/// A row to write: what, and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteRow {
    /// Whose.
    pub key: EntityKey,
    /// What; a feature without a time is left alone.
    pub row: StoredRow,
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

    fn time(event: i64, created: i64) -> RowTime {
        RowTime {
            event_timestamp: Timestamp::from_micros(event).unwrap(),
            created_at: Timestamp::from_micros(created).unwrap(),
        }
    }

    fn cells(values: &[Option<i64>]) -> Vec<Option<Value>> {
        values
            .iter()
            .map(|cell| {
                cell.map(|value| {
                    if value < 0 {
                        Value::Null
                    } else {
                        Value::Int64(value)
                    }
                })
            })
            .collect()
    }

    fn values(row: &StoredRow) -> Vec<Option<i64>> {
        let shown = |value: &Value| match value {
            Value::Int64(value) => Some(*value),
            _ => None,
        };
        row.values.iter().map(shown).collect()
    }

    #[test]
    fn a_part_leaves_the_rest_and_its_time_alone() {
        let mut row = StoredRow::whole(time(1, 0), vec![Value::Int64(1), Value::Int64(2)]);
        assert!(row.merge(&StoredRow::partial(time(3, 0), cells(&[Some(7), None]))));
        assert_eq!(values(&row), [Some(7), Some(2)]);
        assert_eq!(row.feature_time(0), Some(time(3, 0)));
        assert_eq!(row.feature_time(1), Some(time(1, 0)));
        assert_eq!(row.time(), time(3, 0));
        // A whole row between the two is late for one feature and not for the other.
        let between = StoredRow::whole(time(2, 0), vec![Value::Int64(8), Value::Int64(9)]);
        assert!(row.merge(&between));
        assert_eq!(values(&row), [Some(7), Some(9)]);
        assert!(!row.merge(&between));
        // A newer whole row makes it whole again.
        assert!(row.merge(&StoredRow::whole(
            time(4, 0),
            vec![Value::Null, Value::Null]
        )));
        assert!(row.is_whole());
    }

    #[test]
    fn what_was_never_written_is_not_a_null_that_was() {
        let mut row = StoredRow::partial(time(5, 0), cells(&[Some(-1), None]));
        assert_eq!(row.feature_time(0), Some(time(5, 0)));
        assert_eq!(row.feature_time(1), None);
        // However old, it is news.
        assert!(row.merge(&StoredRow::whole(
            time(1, 0),
            vec![Value::Int64(1), Value::Int64(2)]
        )));
        assert_eq!(values(&row), [None, Some(2)]);
    }

    #[test]
    fn the_order_of_merging_makes_no_difference() {
        let rows = [
            StoredRow::partial(time(3, 1), cells(&[Some(1), None, None])),
            StoredRow::whole(
                time(2, 0),
                vec![Value::Int64(4), Value::Null, Value::Int64(6)],
            ),
            StoredRow::partial(time(3, 2), cells(&[Some(7), Some(8), None])),
            StoredRow::partial(time(1, 0), cells(&[None, None, Some(9)])),
        ];
        let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]];
        let merged = orders.map(|order| {
            let mut order = order.iter().filter_map(|index: &usize| rows.get(*index));
            let mut row = order.next().unwrap().clone();
            for other in order {
                row.merge(other);
            }
            row
        });
        for row in &merged {
            assert_eq!(Some(row), merged.first());
        }
    }
}
