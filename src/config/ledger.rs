//! How predictions are kept: its section of the configuration.

use std::time::Duration;

use super::{MEMORY_BYTES_MAX, layers::Layers, millis, whole};

/// Some ten years.
const DAYS_MAX: usize = 3_660;

/// Predictions that are written together; more would be a statement too large.
const BATCH_MAX: usize = 100_000;

/// Less would take no request with some hundred rows.
const QUEUE_BYTES_LEAST: usize = 1 << 20;

/// How predictions are kept.
#[derive(Debug, Clone)]
pub struct LedgerConfig {
    /// Whether they are.
    pub enabled: bool,
    /// How many of a hundred.
    pub sample_percent: f64,
    /// What may wait to be written, bytes.
    pub queue_bytes_max: usize,
    /// How many are written together.
    pub batch_max: usize,
    /// How long one waits for others to be written with.
    pub flush_max: Duration,
    /// How long the writing of some is tried again.
    pub retry_max: Duration,
    /// How many whole days are kept; 0: all.
    pub retention_days: usize,
}

/// Reads the section.
pub(super) fn read(layers: &mut Layers) -> LedgerConfig {
    let percent = |percent: &f64| (0.0..=100.0).contains(percent);
    LedgerConfig {
        enabled: layers.parse("ledger.enabled", |_| true, "true or false"),
        sample_percent: layers.parse("ledger.sample_percent", percent, "a number from 0 to 100"),
        queue_bytes_max: whole(
            layers,
            "ledger.queue_bytes_max",
            QUEUE_BYTES_LEAST,
            MEMORY_BYTES_MAX,
        ),
        batch_max: whole(layers, "ledger.batch_max", 1, BATCH_MAX),
        flush_max: millis(layers, "ledger.flush_ms_max", 1),
        retry_max: millis(layers, "ledger.retry_ms_max", 0),
        retention_days: whole(layers, "ledger.retention_days", 0, DAYS_MAX),
    }
}
