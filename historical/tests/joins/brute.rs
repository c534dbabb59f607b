//! What a point-in-time join means, in the plainest Rust: for each row of the spine, look at every row of the history.

use crate::cells::Cell;

/// A row of the history.
#[derive(Debug, Clone)]
pub struct HistoryRow {
    pub key: Vec<Cell>,
    pub time: i64,
    pub created: Option<i64>,
    /// The number of its file.
    pub file: usize,
    /// The features that it did not give.
    pub missing: Vec<usize>,
    pub values: Vec<Cell>,
}

impl HistoryRow {
    /// What the newest row has the greatest of. A file without a time of writing counts as written as a whole, after those
    /// before it.
    fn age(&self) -> (i64, Option<i64>, usize) {
        let file = if self.created.is_some() { 0 } else { self.file };
        (self.time, self.created, file)
    }
}

/// A row of the spine, as one view sees it.
#[derive(Debug, Clone)]
pub struct SpineRow {
    pub key: Vec<Cell>,
    pub time: i64,
}

/// A view, with its rows in the order of the files.
#[derive(Debug)]
pub struct View {
    pub ttl: Option<i64>,
    /// Time that does not count, each from its begin to before its end.
    pub off: Vec<(i64, i64)>,
    pub feature_count: usize,
    pub rows: Vec<HistoryRow>,
}

impl View {
    /// The values that the spine's row has to get.
    pub fn values(&self, spine: &SpineRow) -> Vec<Cell> {
        let has_key = spine.key.iter().all(|cell| !cell.is_null());
        let counts = |row: &&HistoryRow| has_key && row.time <= spine.time && row.key == spine.key;
        let known: Vec<&HistoryRow> = self.rows.iter().filter(counts).collect();
        let features = 0..self.feature_count;
        features
            .map(|feature| self.value(spine, &known, feature))
            .collect()
    }

    fn value(&self, spine: &SpineRow, known: &[&HistoryRow], feature: usize) -> Cell {
        let mut best: Option<&HistoryRow> = None;
        for row in known.iter().filter(|row| !row.missing.contains(&feature)) {
            // Of equally new rows the first, as a load takes it.
            let is_newer = |best: &HistoryRow| row.age() > best.age();
            if best.is_none_or(is_newer) {
                best = Some(row);
            }
        }
        match best {
            Some(row) if self.is_fresh(row.time, spine.time) => row.values[feature].clone(),
            _ => Cell::Null,
        }
    }

    fn is_fresh(&self, event: i64, now: i64) -> bool {
        let common = |(start, end): &(i64, i64)| ((*end).min(now) - (*start).max(event)).max(0);
        let off: i64 = self.off.iter().map(common).sum();
        self.ttl.is_none_or(|ttl| now - event - off <= ttl)
    }
}
