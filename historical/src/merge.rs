//! Runs of matches, merged by the spine's row number: what restores the spine's order.
//!
//! A run is sorted by row number and holds the rows of one block of spine and history that matched. Where several runs have
//! a row, as after a history in several blocks, the newest match wins, group by group.

use std::{ops::Range, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BooleanArray, RecordBatch, UInt64Array,
    cast::AsArray,
    new_null_array,
    types::{Int64Type, UInt64Type},
};
use arrow_select::{filter::filter_record_batch, interleave::interleave};

use crate::{
    error::{Error, Result},
    matches::column,
    spool::{Spool, SpoolReader, Spooled},
    view::{Groups, MATCH_ROW},
};

/// The runs of one view. Of two runs with the same row and the same times, the earlier one wins.
pub(crate) struct Runs {
    groups: Groups,
    runs: Vec<Spooled>,
    bounds: RunsMax,
}

/// What runs may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunsMax {
    /// Runs that there are at once.
    pub(crate) runs: usize,
    /// Rows of the spine that are merged into one run at once: few of them may have matched.
    pub(crate) rows: u64,
}

impl Runs {
    /// No runs yet.
    pub(crate) fn new(groups: Groups, bounds: RunsMax) -> Self {
        Runs {
            groups,
            runs: Vec::new(),
            bounds,
        }
    }

    /// The groups of the view.
    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Adds a run. Where they become too many, they become one, in the spool that is made for it.
    ///
    /// # Errors
    /// `FailedPrecondition` where the work folder takes no more.
    pub(crate) fn push(&mut self, run: Spooled, spool: impl FnOnce() -> Spool) -> Result<()> {
        if run.is_empty() {
            return Ok(());
        }
        self.runs.push(run);
        if self.runs.len() >= self.bounds.runs {
            let mut one = spool();
            let mut merger = self.merger()?;
            while let Some(first) = merger.next_row()? {
                let end = merger.reach(first.saturating_add(self.bounds.rows))?;
                one.push(merger.take(first..end)?.rows(first)?)?;
            }
            self.runs = vec![one.finish()?];
        }
        Ok(())
    }

    /// Reads all runs at once.
    ///
    /// # Errors
    /// `FailedPrecondition` where a work file cannot be read.
    pub(crate) fn merger(&self) -> Result<Merger<'_>> {
        let cursors = self.runs.iter().map(|run| {
            Ok(Cursor {
                reader: run.read()?,
                chunk: None,
                read: 0,
            })
        });
        Ok(Merger {
            groups: &self.groups,
            cursors: cursors.collect::<Result<_>>()?,
        })
    }
}

/// Where a run is being read.
struct Cursor {
    reader: SpoolReader,
    chunk: Option<RecordBatch>,
    /// Rows of the chunk that are behind.
    read: usize,
}

impl Cursor {
    /// The rows at hand and how many of them are behind, which never is all of them; none at the end.
    fn chunk(&mut self) -> Result<Option<(&RecordBatch, usize)>> {
        let row_count = self.chunk.as_ref().map_or(0, RecordBatch::num_rows);
        if self.read >= row_count {
            self.chunk = self.reader.next_batch()?;
            self.read = 0;
        }
        Ok(self.chunk.as_ref().map(|chunk| (chunk, self.read)))
    }
}

/// Reads runs side by side.
pub(crate) struct Merger<'a> {
    groups: &'a Groups,
    cursors: Vec<Cursor>,
}

impl Merger<'_> {
    /// Up to which row, and not further than the limit, the chunks at hand have all that there is.
    ///
    /// # Errors
    /// `FailedPrecondition` where a work file cannot be read.
    pub(crate) fn reach(&mut self, limit: u64) -> Result<u64> {
        let mut reach = limit;
        for cursor in &mut self.cursors {
            if let Some((chunk, _)) = cursor.chunk()? {
                let last = numbers(chunk)?.last().copied().unwrap_or_default();
                reach = reach.min(last.saturating_add(1));
            }
        }
        Ok(reach)
    }

    fn next_row(&mut self) -> Result<Option<u64>> {
        let mut next: Option<u64> = None;
        for cursor in &mut self.cursors {
            if let Some((chunk, read)) = cursor.chunk()? {
                let row = numbers(chunk)?.get(read).copied();
                next = next.into_iter().chain(row).min();
            }
        }
        Ok(next)
    }

    /// The matches of a range of rows, which `reach` gave and which begins where the last one ended.
    ///
    /// # Errors
    /// `Internal` where a chunk is of another layout.
    pub(crate) fn take(&mut self, rows: Range<u64>) -> Result<Merged<'_>> {
        let count = usize::try_from(rows.end.saturating_sub(rows.start))
            .map_err(|_| Error::internal("a range of too many rows"))?;
        let nothing = (self.cursors.len(), 0);
        let mut best = vec![Best::nothing(count, nothing); self.groups.len()];
        for (index, cursor) in self.cursors.iter_mut().enumerate() {
            let Some(chunk) = &cursor.chunk else { continue };
            let numbers = numbers(chunk)?;
            let unread = numbers.get(cursor.read..).unwrap_or_default();
            let end = cursor.read + unread.partition_point(|row| *row < rows.end);
            for (group, best) in best.iter_mut().enumerate() {
                let matched = Matched::new(chunk, group)?;
                for position in cursor.read..end {
                    let row = numbers
                        .get(position)
                        .and_then(|row| row.checked_sub(rows.start));
                    let slot = row.and_then(|row| usize::try_from(row).ok());
                    if let (Some(slot), Some(times)) = (slot, matched.times(position)) {
                        best.offer(slot, times, (index, position));
                    }
                }
            }
            cursor.read = end;
        }
        Ok(Merged {
            groups: self.groups,
            cursors: &self.cursors,
            best,
        })
    }
}

/// The event time of a match and the time at which its row was written.
type Times = (i64, i64);

/// A group's columns of times.
struct Matched<'a> {
    times: &'a arrow_array::Int64Array,
    created: &'a arrow_array::Int64Array,
}

impl<'a> Matched<'a> {
    fn new(chunk: &'a RecordBatch, group: usize) -> Result<Self> {
        Ok(Matched {
            times: column(chunk, Groups::time_column(group))?.as_primitive::<Int64Type>(),
            created: column(chunk, Groups::created_column(group))?.as_primitive::<Int64Type>(),
        })
    }

    fn times(&self, row: usize) -> Option<Times> {
        let is_match = self.times.is_valid(row);
        is_match.then(|| (self.times.value(row), self.created.value(row)))
    }
}

/// What merging takes for each row of the spine, beside values that matched and are longer than a number.
pub(crate) fn merged_row_bytes(groups: &Groups) -> usize {
    let columns = groups.match_schema().fields().len();
    let best = size_of::<Option<Times>>() + size_of::<(usize, usize)>();
    groups.len() * best + columns * size_of::<i64>()
}

/// By row of the range, the newest match of a group.
#[derive(Clone)]
struct Best {
    times: Vec<Option<Times>>,
    /// The cursor and the row of its chunk.
    places: Vec<(usize, usize)>,
}

impl Best {
    fn nothing(count: usize, place: (usize, usize)) -> Self {
        Best {
            times: vec![None; count],
            places: vec![place; count],
        }
    }

    fn offer(&mut self, slot: usize, times: Times, place: (usize, usize)) {
        let (Some(own), Some(own_place)) = (self.times.get_mut(slot), self.places.get_mut(slot))
        else {
            return;
        };
        if own.is_none_or(|own| own < times) {
            *own = Some(times);
            *own_place = place;
        }
    }
}

/// The matches of a range of rows.
pub(crate) struct Merged<'a> {
    groups: &'a Groups,
    cursors: &'a [Cursor],
    best: Vec<Best>,
}

impl Merged<'_> {
    /// The features, one value a row of the range.
    ///
    /// # Errors
    /// `Internal` where a chunk is of another layout.
    pub(crate) fn features(&self) -> Result<Vec<ArrayRef>> {
        let groups = self.groups.feature_groups().into_iter().enumerate();
        let columns = groups.map(|(feature, group)| (self.groups.feature_column(feature), group));
        columns
            .map(|(column, group)| self.gather(column, group))
            .collect()
    }

    fn gather(&self, index: usize, group: usize) -> Result<ArrayRef> {
        let best = self.best.get(group);
        let places = best.map(|best| best.places.as_slice()).unwrap_or_default();
        let schema = self.groups.match_schema();
        let field = schema.fields().get(index);
        let field = field.ok_or_else(|| Error::internal("matches without one of their columns"))?;
        let null = new_null_array(field.data_type(), 1);
        let mut arrays: Vec<&dyn Array> = Vec::with_capacity(self.cursors.len() + 1);
        for cursor in self.cursors {
            arrays.push(match &cursor.chunk {
                Some(chunk) => column(chunk, index)?.as_ref(),
                None => null.as_ref(),
            });
        }
        arrays.push(null.as_ref());
        Ok(interleave(&arrays, places)?)
    }

    /// The matches as a run has them: rows without any are left out.
    fn rows(&self, first: u64) -> Result<RecordBatch> {
        let count = self.best.first().map_or(0, |best| best.times.len());
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from_iter_values(
            (first..).take(count),
        ))];
        for group in 0..self.groups.len() {
            columns.push(self.gather(Groups::time_column(group), group)?);
            columns.push(self.gather(Groups::created_column(group), group)?);
        }
        columns.extend(self.features()?);
        let all = RecordBatch::try_new(Arc::clone(self.groups.match_schema()), columns)?;
        let has_match = |row: usize| {
            let times = self.best.iter().map(|best| best.times.get(row));
            times.flatten().any(Option::is_some)
        };
        let matched: BooleanArray = (0..count).map(|row| Some(has_match(row))).collect();
        Ok(filter_record_batch(&all, &matched)?)
    }
}

fn numbers(chunk: &RecordBatch) -> Result<&[u64]> {
    let numbers = column(chunk, MATCH_ROW)?.as_primitive::<UInt64Type>();
    Ok(numbers.values())
}

#[cfg(test)]
mod tests;
