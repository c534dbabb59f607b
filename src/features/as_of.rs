//! What a view held of an entity at a moment, put together out of its history.

use super::{RowTime, StoredRow, Timestamp, Value};

/// Rows of a history, the newest first, merged as writes are.
#[derive(Debug)]
pub struct AsOf {
    at: Timestamp,
    row: Option<StoredRow>,
}

impl AsOf {
    /// As of a moment; nothing is known yet.
    pub fn new(at: Timestamp) -> AsOf {
        AsOf { at, row: None }
    }

    /// Takes in the next row, but for what became true after the moment. Says whether older rows can still say something:
    /// a whole row leaves them nothing to say.
    pub fn add(&mut self, row: StoredRow) -> bool {
        let time = row.time();
        if let Some(row) = until(row, self.at) {
            match &mut self.row {
                None => self.row = Some(row),
                Some(known) => {
                    known.merge(&row);
                }
            }
        }
        !self.is_settled(time)
    }

    /// What the view held; none: nothing.
    pub fn finish(self) -> Option<StoredRow> {
        self.row
    }

    /// Whether no row of this time, or an older one, says anything new.
    fn is_settled(&self, time: RowTime) -> bool {
        let Some(row) = &self.row else {
            return false;
        };
        row.is_whole()
            || (0..row.values.len()).all(|feature| row.feature_time(feature) >= Some(time))
    }
}

/// A row without what became true after a moment; none where nothing is left of it.
fn until(row: StoredRow, at: Timestamp) -> Option<StoredRow> {
    if row.event_timestamp <= at {
        return Some(row);
    }
    let times = row.feature_times?;
    let is_known = |time: &RowTime| time.event_timestamp <= at;
    let times: Vec<Option<RowTime>> = times.into_iter().map(|t| t.filter(is_known)).collect();
    let newest = times.iter().flatten().max().copied()?;
    let mut values = row.values;
    for (value, time) in values.iter_mut().zip(&times) {
        if time.is_none() {
            *value = Value::Null;
        }
    }
    let mut left = StoredRow {
        feature_times: Some(times),
        ..StoredRow::whole(newest, values)
    };
    left.simplify();
    Some(left)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn time(micros: i64) -> RowTime {
        let at = Timestamp::from_micros(micros).unwrap();
        RowTime {
            event_timestamp: at,
            created_at: at,
        }
    }

    fn partial(micros: i64, cells: [Option<i64>; 2]) -> StoredRow {
        let cells = cells.map(|cell| cell.map(Value::Int64));
        StoredRow::partial(time(micros), cells.into())
    }

    fn as_of(micros: i64) -> AsOf {
        AsOf::new(Timestamp::from_micros(micros).unwrap())
    }

    #[test]
    fn a_whole_row_leaves_older_ones_nothing_to_say() {
        let mut known = as_of(10);
        assert!(!known.add(partial(10, [Some(1), Some(2)])));
        assert_eq!(known.finish(), Some(partial(10, [Some(1), Some(2)])));
        assert_eq!(as_of(10).finish(), None);
    }

    #[test]
    fn parts_are_put_together_until_all_is_said() {
        let mut known = as_of(10);
        assert!(known.add(partial(9, [Some(9), None])));
        assert!(known.add(partial(8, [Some(8), None])));
        assert!(!known.add(partial(7, [Some(7), Some(70)])));
        let row = known.finish().unwrap();
        assert_eq!(row.values, [Value::Int64(9), Value::Int64(70)]);
        assert_eq!(row.feature_time(0), Some(time(9)));
        assert_eq!(row.feature_time(1), Some(time(7)));
    }

    #[test]
    fn of_a_newer_row_only_what_is_old_enough_counts() {
        // As a history begins: the row that was there, with the times of its features.
        let mut merged = partial(20, [Some(20), None]);
        merged.merge(&partial(5, [None, Some(50)]));
        let mut known = as_of(10);
        assert!(known.add(merged));
        // One between says nothing about the second.
        assert!(known.add(partial(8, [Some(8), None])));
        let row = known.finish().unwrap();
        assert_eq!(row.values, [Value::Int64(8), Value::Int64(50)]);
        assert_eq!(row.time(), time(8));

        let mut known = as_of(10);
        assert!(known.add(partial(11, [Some(1), Some(1)])));
        assert_eq!(known.finish(), None);
    }
}
