//! How training sets are made: its section of the configuration.

use std::{path::PathBuf, time::Duration};

use super::{MEMORY_BYTES_MAX, count, layers::Layers, millis, whole};

/// With less a join has no room for one batch of rows.
const JOIN_BYTES_MIN: usize = 1 << 20;

/// How training sets are made.
#[derive(Debug, Clone)]
pub struct HistoricalConfig {
    /// Where `ferrocast-historical` is; none: searched for.
    pub program: Option<PathBuf>,
    /// Memory for the rows of one.
    pub memory_bytes_max: u64,
    /// Where passing files go; none: where the system has them.
    pub work_dir: Option<PathBuf>,
    /// How many a server makes at once.
    pub joins_max: usize,
    /// How long one may take.
    pub join_max: Duration,
}

/// Reads the section.
pub(super) fn read(layers: &mut Layers) -> HistoricalConfig {
    let memory = whole(
        layers,
        "historical.memory_bytes_max",
        JOIN_BYTES_MIN,
        MEMORY_BYTES_MAX,
    );
    HistoricalConfig {
        program: layers.text("historical.program").map(PathBuf::from),
        memory_bytes_max: u64::try_from(memory).unwrap_or(u64::MAX),
        work_dir: layers.text("historical.work_dir").map(PathBuf::from),
        joins_max: count(layers, "historical.joins_max"),
        join_max: millis(layers, "historical.join_ms_max", 1),
    }
}
