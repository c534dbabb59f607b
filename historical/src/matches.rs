//! What one block of history gives to one block of spine: the as-of join of each group, and its values gathered.

use std::{cmp::Reverse, sync::Arc};

use arrow_array::{
    Array, ArrayRef, Int64Array, LargeBinaryArray, RecordBatch, UInt64Array,
    cast::AsArray,
    new_null_array,
    types::{Int64Type, UInt32Type, UInt64Type},
};
use arrow_select::interleave::interleave;

use crate::{
    asof::{Side, last_not_after},
    error::{Error, Result},
    plan::ViewPlan,
    size::add_row_bytes,
    spool::Spool,
    view::{
        Groups, HISTORY_CREATED, HISTORY_FEATURES, HISTORY_KEY, HISTORY_MISSING, HISTORY_TIME,
        SPINE_KEY, SPINE_ROW, SPINE_TIME,
    },
};

/// Matches that are written at once, where their size allows it.
const CHUNK_ROWS_MAX: usize = 16_384;

/// Rows of the history that fit in memory together.
pub(crate) struct HistoryBlock<'a> {
    groups: &'a Groups,
    batches: Vec<RecordBatch>,
    /// Where each batch begins, in rows.
    starts: Vec<usize>,
    times: Vec<i64>,
    created: Vec<i64>,
    row_bytes: Vec<usize>,
    /// By group, the rows that count in it, in the order of their times.
    orders: Vec<Vec<u32>>,
}

impl<'a> HistoryBlock<'a> {
    /// Sorts the rows, once for each group.
    ///
    /// # Errors
    /// `Internal` where the batches are of another layout.
    pub(crate) fn new(groups: &'a Groups, batches: Vec<RecordBatch>) -> Result<Self> {
        let mut block = HistoryBlock {
            groups,
            starts: Vec::new(),
            times: Vec::new(),
            created: Vec::new(),
            row_bytes: Vec::new(),
            orders: Vec::new(),
            batches,
        };
        for batch in &block.batches {
            block.starts.push(block.times.len());
            let times = column(batch, HISTORY_TIME)?.as_primitive::<Int64Type>();
            block.times.extend_from_slice(times.values());
            let created = column(batch, HISTORY_CREATED)?.as_primitive::<Int64Type>();
            block.created.extend_from_slice(created.values());
            let mut row_bytes = vec![0; batch.num_rows()];
            for feature in batch.columns().iter().skip(HISTORY_FEATURES) {
                add_row_bytes(feature, &mut row_bytes);
            }
            block.row_bytes.append(&mut row_bytes);
        }
        for group in 0..groups.len() {
            let order = block.order(group)?;
            block.orders.push(order);
        }
        Ok(block)
    }

    /// By time, then by the time of writing. Of rows that are alike the first is the last: that one is taken.
    fn order(&self, group: usize) -> Result<Vec<u32>> {
        let feature = self.groups.given(group);
        let mut rows: Vec<(i64, i64, Reverse<u32>)> = Vec::with_capacity(self.times.len());
        let mut position = 0_u32;
        let mut all = self.times.iter().zip(&self.created);
        for batch in &self.batches {
            let missing = column(batch, HISTORY_MISSING)?;
            for row in 0..batch.num_rows() {
                let Some((time, created)) = all.next() else {
                    break;
                };
                if !is_missing(missing, row, feature) {
                    rows.push((*time, *created, Reverse(position)));
                }
                position = position
                    .checked_add(1)
                    .ok_or_else(|| Error::internal("a block of too many rows"))?;
            }
        }
        rows.sort_unstable();
        Ok(rows.into_iter().map(|(_, _, row)| row.0).collect())
    }

    /// The batch of a row, and the row in it.
    fn place(&self, position: u32) -> (usize, usize) {
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        let after = self.starts.partition_point(|start| *start <= position);
        let batch = after.saturating_sub(1);
        let start = self.starts.get(batch).copied().unwrap_or_default();
        (batch, position.saturating_sub(start))
    }

    fn side(&self, group: usize) -> Result<(Side<'_>, &[u32])> {
        let order = self
            .orders
            .get(group)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let keys: Vec<&LargeBinaryArray> = keys(&self.batches, HISTORY_KEY)?;
        let mut side = Side {
            keys: Vec::with_capacity(order.len()),
            times: Vec::with_capacity(order.len()),
        };
        for position in order {
            let (batch, row) = self.place(*position);
            let key = keys.get(batch).map(|keys| keys.value(row));
            side.keys.push(key.unwrap_or_default());
            side.times.push(self.time(*position));
        }
        Ok((side, order))
    }

    fn time(&self, position: u32) -> i64 {
        let time = usize::try_from(position)
            .ok()
            .and_then(|row| self.times.get(row));
        time.copied().unwrap_or(i64::MAX)
    }

    fn created(&self, position: u32) -> Option<i64> {
        let row = usize::try_from(position).ok()?;
        self.created.get(row).copied()
    }

    fn weight_bytes(&self, position: u32) -> usize {
        let bytes = usize::try_from(position)
            .ok()
            .and_then(|row| self.row_bytes.get(row));
        bytes.copied().unwrap_or_default()
    }

    /// Joins rows of the spine with what is not too old, and appends those that match to a spool, in chunks of a bounded size.
    ///
    /// # Errors
    /// `FailedPrecondition` where the work folder takes no more; `Internal` where the engine refuses.
    pub(crate) fn join(
        &self,
        spine: &[RecordBatch],
        view: &ViewPlan,
        chunk_bytes_max: usize,
        out: &mut Spool,
    ) -> Result<()> {
        let spine = SpineBlock::new(spine)?;
        let mut found = Vec::with_capacity(self.groups.len());
        for group in 0..self.groups.len() {
            let (right, order) = self.side(group)?;
            let positions = last_not_after(spine.side()?, right)?;
            let fresh = |(position, (at, _)): (Option<u32>, &(i64, u32))| {
                let row = *order.get(usize::try_from(position?).ok()?)?;
                // What is newest and too old hides nothing: what is older is too old as well.
                (!view.is_outside(self.time(row), *at)).then_some(row)
            };
            let found_by_time = positions.into_iter().zip(&spine.order).map(fresh);
            found.push(spine.in_row_order(found_by_time));
        }
        let mut chunk = Chunk::new(self.groups.len());
        for (index, row) in spine.rows.iter().enumerate() {
            let own = |found: &Vec<Option<u32>>| found.get(index).copied().flatten();
            let own: Vec<Option<u32>> = found.iter().map(own).collect();
            if own.iter().all(Option::is_none) {
                continue;
            }
            let weights = own
                .iter()
                .flatten()
                .map(|position| self.weight_bytes(*position));
            let bytes: usize = weights.sum::<usize>() + 24 * (1 + self.groups.len());
            if chunk.is_full(bytes, chunk_bytes_max) {
                out.push(self.gather(&chunk)?)?;
                chunk = Chunk::new(self.groups.len());
            }
            chunk.add(*row, &own, bytes);
        }
        out.push(self.gather(&chunk)?)
    }

    fn gather(&self, chunk: &Chunk) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(chunk.rows.clone()))];
        let mut places = Vec::with_capacity(chunk.found.len());
        for found in &chunk.found {
            let times = found
                .iter()
                .map(|found| found.map(|position| self.time(position)));
            columns.push(Arc::new(times.collect::<Int64Array>()));
            let created = found.iter();
            let created = created.map(|found| found.and_then(|position| self.created(position)));
            columns.push(Arc::new(created.collect::<Int64Array>()));
            // Behind the batches stands a row of nulls, for what did not match.
            let nothing = (self.batches.len(), 0);
            let place =
                |found: &Option<u32>| found.map_or(nothing, |position| self.place(position));
            places.push(found.iter().map(place).collect::<Vec<_>>());
        }
        for (feature, group) in self.groups.feature_groups().into_iter().enumerate() {
            let places = places.get(group).map(Vec::as_slice).unwrap_or_default();
            columns.push(self.gather_feature(feature, places)?);
        }
        Ok(RecordBatch::try_new(
            Arc::clone(self.groups.match_schema()),
            columns,
        )?)
    }

    fn gather_feature(&self, feature: usize, places: &[(usize, usize)]) -> Result<ArrayRef> {
        let schema = self.groups.match_schema();
        let field = schema.fields().get(self.groups.feature_column(feature));
        let field = field.ok_or_else(|| Error::internal("a feature without a column"))?;
        let null = new_null_array(field.data_type(), 1);
        let mut arrays: Vec<&dyn Array> = Vec::with_capacity(self.batches.len() + 1);
        for batch in &self.batches {
            arrays.push(column(batch, HISTORY_FEATURES + feature)?.as_ref());
        }
        arrays.push(null.as_ref());
        Ok(interleave(&arrays, places)?)
    }
}

/// Matches that are gathered together.
struct Chunk {
    rows: Vec<u64>,
    /// By group, the history's row.
    found: Vec<Vec<Option<u32>>>,
    bytes: usize,
}

impl Chunk {
    fn new(group_count: usize) -> Self {
        Chunk {
            rows: Vec::new(),
            found: vec![Vec::new(); group_count],
            bytes: 0,
        }
    }

    fn is_full(&self, more_bytes: usize, bytes_max: usize) -> bool {
        let is_over = self.bytes + more_bytes > bytes_max || self.rows.len() >= CHUNK_ROWS_MAX;
        is_over && !self.rows.is_empty()
    }

    fn add(&mut self, row: u64, found: &[Option<u32>], bytes: usize) {
        self.rows.push(row);
        for (column, found) in self.found.iter_mut().zip(found) {
            column.push(*found);
        }
        self.bytes += bytes;
    }
}

/// Rows of the spine that fit in memory together.
struct SpineBlock<'a> {
    batches: &'a [RecordBatch],
    /// Each row's number in the spine.
    rows: Vec<u64>,
    /// Each row's time and its position here, in the order of the times.
    order: Vec<(i64, u32)>,
}

impl<'a> SpineBlock<'a> {
    fn new(batches: &'a [RecordBatch]) -> Result<Self> {
        let mut rows = Vec::new();
        let mut times: Vec<i64> = Vec::new();
        for batch in batches {
            let numbers = column(batch, SPINE_ROW)?.as_primitive::<UInt64Type>();
            rows.extend_from_slice(numbers.values());
            let own = column(batch, SPINE_TIME)?.as_primitive::<Int64Type>();
            times.extend_from_slice(own.values());
        }
        let mut order: Vec<(i64, u32)> = times.into_iter().zip(0_u32..).collect();
        order.sort_unstable();
        Ok(SpineBlock {
            batches,
            rows,
            order,
        })
    }

    fn side(&self) -> Result<Side<'a>> {
        let mut keys_of_rows: Vec<&[u8]> = Vec::with_capacity(self.rows.len());
        for keys in keys(self.batches, SPINE_KEY)? {
            keys_of_rows.extend((0..keys.len()).map(|row| keys.value(row)));
        }
        let key = |(_, row): &(i64, u32)| {
            let row = usize::try_from(*row).ok();
            row.and_then(|row| keys_of_rows.get(row))
                .copied()
                .unwrap_or_default()
        };
        Ok(Side {
            keys: self.order.iter().map(key).collect(),
            times: self.order.iter().map(|(time, _)| *time).collect(),
        })
    }

    /// From the order of the times back to that of the rows.
    fn in_row_order(&self, found: impl Iterator<Item = Option<u32>>) -> Vec<Option<u32>> {
        let mut by_row = vec![None; self.rows.len()];
        for ((_, row), found) in self.order.iter().zip(found) {
            let slot = usize::try_from(*row)
                .ok()
                .and_then(|row| by_row.get_mut(row));
            if let Some(slot) = slot {
                *slot = found;
            }
        }
        by_row
    }
}

fn keys(batches: &[RecordBatch], index: usize) -> Result<Vec<&LargeBinaryArray>> {
    let keys = batches.iter();
    keys.map(|batch| Ok(column(batch, index)?.as_binary::<i64>()))
        .collect()
}

fn is_missing(missing: &ArrayRef, row: usize, feature: Option<usize>) -> bool {
    let Some(feature) = feature.and_then(|feature| u32::try_from(feature).ok()) else {
        return false;
    };
    if missing.is_null(row) {
        return false;
    }
    let names = missing.as_list::<i32>().value(row);
    names
        .as_primitive::<UInt32Type>()
        .values()
        .contains(&feature)
}

/// A column by its place in the layout.
pub(crate) fn column(batch: &RecordBatch, index: usize) -> Result<&ArrayRef> {
    let column = batch.columns().get(index);
    column.ok_or_else(|| Error::internal("a batch without one of its columns"))
}
