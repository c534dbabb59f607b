//! Rows by the hash of their join key, so that a part of the spine meets all of its history in one partition.

use std::hash::{DefaultHasher, Hasher};

use arrow_array::{Array, LargeBinaryArray, RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;
use arrow_select::take::take_record_batch;

use crate::{
    error::{Error, Result},
    spool::{Spool, Spooled},
    work::WorkDir,
};

/// One spool a partition.
pub(crate) struct Partitions {
    spools: Vec<Spool>,
    /// By partition, the rows of the batch at hand.
    rows: Vec<Vec<u32>>,
}

impl Partitions {
    /// Empty partitions, each with so much memory before it goes to a file.
    pub(crate) fn new(
        count: usize,
        schema: &SchemaRef,
        work: &mut WorkDir,
        memory_bytes_max: usize,
        row_bytes: usize,
    ) -> Self {
        let spools =
            (0..count).map(|_| Spool::new(schema, work.next_path(), memory_bytes_max, row_bytes));
        Partitions {
            spools: spools.collect(),
            rows: vec![Vec::new(); count],
        }
    }

    /// Puts rows where their keys belong. A row without a key meets nothing and is left out.
    ///
    /// # Errors
    /// `FailedPrecondition` where the work folder takes no more.
    pub(crate) fn push(&mut self, batch: RecordBatch, keys: &LargeBinaryArray) -> Result<()> {
        if let ([spool], 0) = (self.spools.as_mut_slice(), keys.null_count()) {
            return spool.push(batch);
        }
        for (row, key) in keys.iter().enumerate() {
            let Some(key) = key else { continue };
            let row =
                u32::try_from(row).map_err(|_| Error::internal("a batch of too many rows"))?;
            let partition = partition_of(key, self.rows.len());
            if let Some(rows) = self.rows.get_mut(partition) {
                rows.push(row);
            }
        }
        for (spool, rows) in self.spools.iter_mut().zip(&mut self.rows) {
            if !rows.is_empty() {
                let rows = UInt32Array::from(std::mem::take(rows));
                spool.push(take_record_batch(&batch, &rows)?)?;
            }
        }
        Ok(())
    }

    /// No more rows come.
    ///
    /// # Errors
    /// As `push`.
    pub(crate) fn finish(self) -> Result<Vec<Spooled>> {
        self.spools.into_iter().map(Spool::finish).collect()
    }
}

fn partition_of(key: &[u8], count: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
    usize::try_from(hasher.finish() % count).unwrap_or_default()
}
