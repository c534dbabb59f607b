//! Rows as they come out of a store, or out of memory before one.

use std::{ops::Deref, sync::Arc, time::Duration};

use super::{StoredRow, Value};

/// Rows in the order of the keys, none where there is no row; and how long ago they were read from the database, at the
/// most.
pub type ReadRows = (Vec<Option<ReadRow>>, Duration);

/// A row that was read. What others hold, too, is not copied for each who reads it.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadRow {
    /// The reader's own.
    Own(StoredRow),
    /// One that others read, too.
    Shared(Arc<StoredRow>),
}

impl Deref for ReadRow {
    type Target = StoredRow;

    fn deref(&self) -> &StoredRow {
        match self {
            ReadRow::Own(row) => row,
            ReadRow::Shared(row) => row,
        }
    }
}

impl ReadRow {
    /// The row by itself; copied where others hold it, too.
    pub fn into_own(self) -> StoredRow {
        match self {
            ReadRow::Own(row) => row,
            ReadRow::Shared(row) => Arc::unwrap_or_clone(row),
        }
    }

    /// The row for one holder more.
    pub(super) fn share(&mut self) -> Arc<StoredRow> {
        let row = match self {
            ReadRow::Shared(row) => return Arc::clone(row),
            ReadRow::Own(row) => std::mem::replace(row, StoredRow::whole(row.time(), Vec::new())),
        };
        let row = Arc::new(row);
        *self = ReadRow::Shared(Arc::clone(&row));
        row
    }

    /// The value of a feature; moved out of a row of one's own where it `is_last` that is wanted, and null is left in its place.
    pub(super) fn value(&mut self, feature: usize, is_last: bool) -> Value {
        let value = match self {
            ReadRow::Own(row) if is_last => {
                let value = row.values.get_mut(feature);
                value.map(|value| std::mem::replace(value, Value::Null))
            }
            ReadRow::Own(_) | ReadRow::Shared(_) => self.values.get(feature).cloned(),
        };
        value.unwrap_or(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{RowTime, Timestamp};

    #[test]
    fn what_is_shared_is_copied_and_what_is_ones_own_is_moved() {
        let time = RowTime {
            event_timestamp: Timestamp::EPOCH,
            created_at: Timestamp::EPOCH,
        };
        let text = || Value::String("x".into());
        let stored = StoredRow::whole(time, vec![text()]);
        let mut row = ReadRow::Own(stored.clone());
        assert_eq!(row.value(0, false), text());
        let other = row.share();
        assert!(Arc::ptr_eq(&row.share(), &other));
        assert_eq!(
            (row.value(0, true), row.value(1, true)),
            (text(), Value::Null)
        );
        assert_eq!((&*other, row.into_own()), (&stored, stored.clone()));
        let mut own = ReadRow::Own(stored);
        assert_eq!(
            (own.value(0, true), own.value(0, true)),
            (text(), Value::Null)
        );
    }
}
