//! How `memory_bytes_max` is shared out: every buffer of a join has its bound here.

use crate::plan::MEMORY_BYTES_MIN;

/// What a row of the history takes while it is joined, beside its own bytes: sorted keys and times, the engine's hash
/// table and its copies.
pub(crate) const HISTORY_ROW_BYTES: usize = 128;
/// The same for a row of the spine.
pub(crate) const SPINE_ROW_BYTES: usize = 128;

/// What a row of the history takes more for each group of features: its place in the group's order.
pub(crate) const HISTORY_GROUP_BYTES: usize = size_of::<u32>();
/// What a row of the spine takes more for each group of features: the match that was found.
pub(crate) const SPINE_GROUP_BYTES: usize = size_of::<Option<u32>>();

/// A batch of rows as it is read.
const BATCH_ROWS_MAX: usize = 16_384;
/// So many partitions are open at once; a larger join goes block by block.
const PARTITIONS_MAX: usize = 128;
/// So many files of matches are open at once, of all views.
const MATCH_FILES_MAX: usize = 256;

/// The bounds of one join.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    memory_bytes_max: usize,
    view_count: usize,
}

impl Budget {
    /// The bounds for so many views.
    pub(crate) fn new(memory_bytes_max: usize, view_count: usize) -> Self {
        Budget {
            memory_bytes_max: memory_bytes_max.max(MEMORY_BYTES_MIN),
            view_count: view_count.max(1),
        }
    }

    /// History that is joined at once, with what the join needs beside it.
    pub(crate) fn history_block_bytes_max(&self) -> usize {
        self.memory_bytes_max / 8 * 3
    }

    /// Spine that is joined at once, with what the join needs beside it.
    pub(crate) fn spine_block_bytes_max(&self) -> usize {
        self.memory_bytes_max / 4
    }

    /// Rows of one partition that wait in memory for being written.
    pub(crate) fn partition_buffer_bytes_max(&self, partition_count: usize) -> usize {
        self.memory_bytes_max / 8 / partition_count.max(1)
    }

    /// Matches of one view that stay in memory, where they all do.
    pub(crate) fn matches_bytes_max(&self) -> usize {
        self.memory_bytes_max / 8 / self.view_count
    }

    /// Files of matches that one view may have.
    pub(crate) fn match_files_max(&self, partition_count: usize) -> usize {
        let most = (MATCH_FILES_MAX / self.view_count).max(2);
        partition_count.saturating_mul(2).clamp(2, most)
    }

    /// Matches that are written, and read again, at once: all files of all views hold one such chunk while they are merged.
    pub(crate) fn match_chunk_bytes_max(&self, partition_count: usize) -> usize {
        let files = self.match_files_max(partition_count) * self.view_count;
        (self.memory_bytes_max / 8 / files).clamp(1 << 10, 2 << 20)
    }

    /// Rows of the spine whose matches are merged at once, where each takes so many bytes.
    pub(crate) fn merged_rows_max(&self, row_bytes: usize) -> usize {
        let bytes = self.memory_bytes_max / 16;
        (bytes / row_bytes.max(1)).clamp(1, BATCH_ROWS_MAX)
    }

    /// The output's part that is not yet written.
    pub(crate) fn row_group_bytes_max(&self) -> usize {
        self.memory_bytes_max / 8
    }

    /// Rows to read at once, of a file whose rows weigh so much.
    pub(crate) fn batch_rows(&self, row_bytes: usize) -> usize {
        let bytes = (self.memory_bytes_max / 64).min(4 << 20);
        (bytes / row_bytes.max(1)).clamp(1, BATCH_ROWS_MAX)
    }

    /// Into how many partitions a view's rows go, by what they are thought to weigh.
    pub(crate) fn partition_count(&self, history_bytes: usize, spine_bytes: usize) -> usize {
        // A quarter stays free: hashing fills partitions unevenly.
        let parts = |bytes: usize, block: usize| bytes.div_ceil((block / 4 * 3).max(1));
        let history = parts(history_bytes, self.history_block_bytes_max());
        let spine = parts(spine_bytes, self.spine_block_bytes_max());
        history.max(spine).clamp(1, PARTITIONS_MAX)
    }
}
