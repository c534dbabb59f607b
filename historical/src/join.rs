//! A join from plan to output: each view by itself, then all of them side by side with the spine.
//!
//! A view's history and spine are partitioned by join key, and partition after partition is joined. A partition that does
//! not fit in memory, as with one key that most rows have, is joined block by block: each block of its history with each of
//! its spine. That reads the spine's part once for each block of history, and needs no more memory.

use std::{fs, io, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema};

use crate::{
    budget::{Budget, HISTORY_GROUP_BYTES, HISTORY_ROW_BYTES, SPINE_GROUP_BYTES, SPINE_ROW_BYTES},
    error::{Error, Result},
    history::HistoryFiles,
    matches::HistoryBlock,
    merge::{Merger, Runs, RunsMax, merged_row_bytes},
    output::Output,
    partition::Partitions,
    plan::{Plan, ViewPlan},
    progress::Progress,
    size::batch_bytes,
    spine::Spine,
    spool::{Spool, SpoolReader, Spooled},
    view::{Groups, feature_fields, spine_schema},
    work::{WorkDir, clean_up_on_signals},
};

/// Reads a plan from stdin and does what it says.
///
/// # Errors
/// A fault of the plan, of a file or of the disk, as a sentence.
pub(crate) fn run_stdin() -> Result<()> {
    clean_up_on_signals()?;
    run(&Plan::read(io::stdin().lock())?)
}

fn run(plan: &Plan) -> Result<()> {
    refuse_to_replace_an_input(plan)?;
    // All files are looked at before the first is read: a fault of the last one comes at once.
    let spine = Spine::check(plan)?;
    let checked = plan.views.iter().map(HistoryFiles::check);
    let histories: Vec<HistoryFiles<'_>> = checked.collect::<Result<_>>()?;
    let budget = Budget::new(plan.memory_bytes_max, plan.views.len());
    let mut work = WorkDir::new(&plan.work_dir)?;
    let mut runs = Vec::new();
    for (view, history) in plan.views.iter().zip(&histories) {
        let mut join = ViewJoin::new(view, &spine, history, budget, &mut work);
        runs.push(join.run()?);
    }
    write(plan, &spine, &budget, &runs)
}

fn refuse_to_replace_an_input(plan: &Plan) -> Result<()> {
    let Some(out) = plan.out.file() else {
        return Ok(());
    };
    let Ok(target) = fs::canonicalize(out) else {
        return Ok(());
    };
    for input in plan.inputs() {
        if fs::canonicalize(input).is_ok_and(|input| input == target) {
            let fault = "the join reads this file; give another path";
            return Err(Error::invalid(format!("out.path {}", out.display()), fault));
        }
    }
    Ok(())
}

/// The join of one view.
struct ViewJoin<'a> {
    view: &'a ViewPlan,
    spine: &'a Spine<'a>,
    history: &'a HistoryFiles<'a>,
    budget: Budget,
    partition_count: usize,
    work: &'a mut WorkDir,
}

impl<'a> ViewJoin<'a> {
    fn new(
        view: &'a ViewPlan,
        spine: &'a Spine<'a>,
        history: &'a HistoryFiles<'a>,
        budget: Budget,
        work: &'a mut WorkDir,
    ) -> Self {
        let partition_count =
            budget.partition_count(history.joined_bytes(), spine.joined_bytes(view));
        ViewJoin {
            view,
            spine,
            history,
            budget,
            partition_count,
            work,
        }
    }

    fn run(&mut self) -> Result<Runs> {
        let (groups, history) = self.read_history()?;
        let spine = self.read_spine()?;
        let rows = self.budget.merged_rows_max(merged_row_bytes(&groups));
        let bounds = RunsMax {
            runs: self.budget.match_files_max(self.partition_count),
            rows: u64::try_from(rows).unwrap_or(u64::MAX),
        };
        let mut runs = Runs::new(groups, bounds);
        let mut progress = progress_of(self.partition_count, self.view);
        for (history, spine) in history.into_iter().zip(spine) {
            self.join_partition(&history, &spine, &mut runs)?;
            progress.add(1);
        }
        Ok(runs)
    }

    /// What one partition may hold in memory: all of it where it is the only one.
    fn buffer_bytes_max(&self, block_bytes_max: usize) -> usize {
        if self.partition_count == 1 {
            block_bytes_max
        } else {
            self.budget.partition_buffer_bytes_max(self.partition_count)
        }
    }

    fn read_history(&mut self) -> Result<(Groups, Vec<Spooled>)> {
        let buffer = self.buffer_bytes_max(self.budget.history_block_bytes_max());
        let schema = self.history.schema();
        let mut partitions = Partitions::new(
            self.partition_count,
            schema,
            self.work,
            buffer,
            HISTORY_ROW_BYTES,
        );
        let mut progress =
            Progress::new("history", Some(&self.view.name), self.history.row_count());
        let partial = self.history.read(&self.budget, |batch, keys| {
            progress.add(batch.num_rows());
            partitions.push(batch, keys)
        })?;
        Ok((Groups::new(self.view, &partial), partitions.finish()?))
    }

    fn read_spine(&mut self) -> Result<Vec<Spooled>> {
        let buffer = self.buffer_bytes_max(self.budget.spine_block_bytes_max());
        let schema = spine_schema();
        let mut partitions = Partitions::new(
            self.partition_count,
            &schema,
            self.work,
            buffer,
            SPINE_ROW_BYTES,
        );
        let mut progress = Progress::new("spine", Some(&self.view.name), self.spine.row_count());
        self.spine.read(self.view, &self.budget, |batch, keys| {
            progress.add(batch.num_rows());
            partitions.push(batch, keys)
        })?;
        partitions.finish()
    }

    fn join_partition(
        &mut self,
        history: &Spooled,
        spine: &Spooled,
        runs: &mut Runs,
    ) -> Result<()> {
        let groups = runs.groups().len();
        let mut blocks = Blocks::of_history(history, &self.budget, groups)?;
        let mut is_first = self.partition_count == 1;
        while let Some(block) = blocks.next_block()? {
            // One run of a small join may stay in memory.
            let memory = if is_first {
                self.budget.matches_bytes_max()
            } else {
                0
            };
            is_first = false;
            let mut run = self.spool(runs.groups(), memory);
            let chunk = self.budget.match_chunk_bytes_max(self.partition_count);
            let block = HistoryBlock::new(runs.groups(), block)?;
            let mut spine_blocks = Blocks::of_spine(spine, &self.budget, groups)?;
            while let Some(spine) = spine_blocks.next_block()? {
                block.join(&spine, self.view, chunk, &mut run)?;
            }
            drop(block);
            let run = run.finish()?;
            let spare = self.spool(runs.groups(), chunk);
            runs.push(run, || spare)?;
        }
        Ok(())
    }

    fn spool(&mut self, groups: &Groups, memory_bytes_max: usize) -> Spool {
        let path = self.work.next_path();
        Spool::new(groups.match_schema(), path, memory_bytes_max, 0)
    }
}

fn progress_of(partition_count: usize, view: &ViewPlan) -> Progress {
    let of = u64::try_from(partition_count).unwrap_or(u64::MAX);
    Progress::new("join", Some(&view.name), of)
}

/// A spool in blocks that fit in memory, each of at least one batch.
struct Blocks {
    reader: SpoolReader,
    next: Option<RecordBatch>,
    bytes_max: usize,
    row_bytes: usize,
}

impl Blocks {
    fn of_history(spooled: &Spooled, budget: &Budget, groups: usize) -> Result<Self> {
        let row_bytes = HISTORY_ROW_BYTES + HISTORY_GROUP_BYTES * groups;
        Blocks::new(spooled, budget.history_block_bytes_max(), row_bytes)
    }

    fn of_spine(spooled: &Spooled, budget: &Budget, groups: usize) -> Result<Self> {
        let row_bytes = SPINE_ROW_BYTES + SPINE_GROUP_BYTES * groups;
        Blocks::new(spooled, budget.spine_block_bytes_max(), row_bytes)
    }

    fn new(spooled: &Spooled, bytes_max: usize, row_bytes: usize) -> Result<Self> {
        Ok(Blocks {
            reader: spooled.read()?,
            next: None,
            bytes_max,
            row_bytes,
        })
    }

    fn next_block(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        let mut block = Vec::new();
        let mut bytes = 0;
        loop {
            let batch = match self.next.take() {
                Some(batch) => Some(batch),
                None => self.reader.next_batch()?,
            };
            let Some(batch) = batch else { break };
            bytes += batch_bytes(&batch) + self.row_bytes * batch.num_rows();
            if bytes > self.bytes_max && !block.is_empty() {
                self.next = Some(batch);
                break;
            }
            block.push(batch);
        }
        Ok((!block.is_empty()).then_some(block))
    }
}

/// The features' columns as the plan orders them.
fn in_order<T: Clone>(order: &[usize], features: Vec<T>) -> Vec<T> {
    let places = order.iter();
    places
        .filter_map(|place| features.get(*place).cloned())
        .collect()
}

/// The spine as it is, with the features of all views beside it.
fn write(plan: &Plan, spine: &Spine<'_>, budget: &Budget, runs: &[Runs]) -> Result<()> {
    let spine_schema = spine.schema();
    let mut fields: Vec<Arc<Field>> = spine_schema.fields().iter().cloned().collect();
    let features = plan.views.iter().flat_map(feature_fields);
    let order = plan.column_order();
    fields.extend(in_order(&order, features.map(Arc::new).collect()));
    let schema = Arc::new(Schema::new_with_metadata(
        fields,
        spine_schema.metadata().clone(),
    ));
    let mut output = Output::create(&plan.out, &schema, budget.row_group_bytes_max())?;
    let mut mergers: Vec<Merger<'_>> = runs.iter().map(Runs::merger).collect::<Result<_>>()?;
    let row_bytes = runs.iter().map(|runs| merged_row_bytes(runs.groups()));
    let rows_max = budget.merged_rows_max(row_bytes.sum());
    let mut batches = spine.read_all(budget)?;
    let mut progress = Progress::new("write", None, spine.row_count());
    while let Some(batch) = batches.next_batch()? {
        let mut done = 0;
        while done < batch.rows.num_rows() {
            let first = batch.first_row + u64::try_from(done).unwrap_or_default();
            let left = (batch.rows.num_rows() - done).min(rows_max);
            let limit = first + u64::try_from(left).unwrap_or_default();
            let mut end = limit;
            for merger in &mut mergers {
                end = end.min(merger.reach(limit)?);
            }
            let count = usize::try_from(end.saturating_sub(first)).unwrap_or_default();
            if count == 0 {
                return Err(Error::internal(
                    "the matches are not in the order of the spine",
                ));
            }
            let mut columns = batch.rows.slice(done, count).columns().to_vec();
            let mut features = Vec::with_capacity(order.len());
            for merger in &mut mergers {
                features.extend(merger.take(first..end)?.features()?);
            }
            columns.extend(in_order(&order, features));
            output.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
            progress.add(count);
            done += count;
        }
    }
    output.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow_array::{Int64Array, LargeBinaryArray, UInt64Array};

    use super::*;
    use crate::plan::MEMORY_BYTES_MIN;

    #[test]
    fn blocks_are_the_smaller_the_more_groups_of_features_there_are() {
        const GROUPS: usize = 500;
        let (parent, rows) = (tempfile::tempdir().unwrap(), 100_u64);
        let mut work = WorkDir::new(parent.path()).unwrap();
        let mut spool = Spool::new(&spine_schema(), work.next_path(), 0, 0);
        for number in 0..100 {
            let keys = vec![Some(b"key".as_slice()); 100];
            let columns: Vec<arrow_array::ArrayRef> = vec![
                Arc::new(UInt64Array::from_iter_values((number * rows..).take(100))),
                Arc::new(LargeBinaryArray::from(keys)),
                Arc::new(Int64Array::from_value(0, 100)),
            ];
            let batch = RecordBatch::try_new(spine_schema(), columns).unwrap();
            spool.push(batch).unwrap();
        }
        let spooled = spool.finish().unwrap();
        let budget = Budget::new(MEMORY_BYTES_MIN, 1);
        let bounds = [
            (
                Blocks::of_spine(&spooled, &budget, GROUPS).unwrap(),
                budget.spine_block_bytes_max(),
                size_of::<Option<u32>>(),
            ),
            (
                Blocks::of_history(&spooled, &budget, GROUPS).unwrap(),
                budget.history_block_bytes_max(),
                size_of::<u32>(),
            ),
        ];
        for (mut blocks, bytes_max, group_bytes) in bounds {
            let mut row_count = 0;
            while let Some(block) = blocks.next_block().unwrap() {
                let rows: usize = block.iter().map(RecordBatch::num_rows).sum();
                assert!(rows == 100 || rows * GROUPS * group_bytes <= bytes_max);
                row_count += rows;
            }
            assert_eq!(row_count, 10_000);
        }
    }
}
