//! Asynchronous prediction: its section of the configuration.

use std::time::Duration;

use super::{COUNT_MAX, MEMORY_BYTES_MAX, count, layers::Layers, millis, whole};

/// Each has the input of a job in memory.
const JOB_WORKERS_MAX: usize = 64;
/// Ten years.
const HOURS_MAX: u64 = 10 * 366 * 24;

/// How prediction jobs are kept and worked on.
#[derive(Debug, Clone)]
pub struct JobsConfig {
    /// Jobs that this server works on at once; 0: none.
    pub workers: usize,
    /// Entities or rows of one job.
    pub entities_max: usize,
    /// Entities or rows that are scored and stored together.
    pub chunk_rows_max: usize,
    /// Attempts at the same chunk.
    pub attempts_max: usize,
    /// How long a failed attempt waits for the next; doubled with each.
    pub retry_wait: Duration,
    /// How long a worker that is not heard of keeps its job.
    pub lease: Duration,
    /// How often the database is asked for work.
    pub poll_interval: Duration,
    /// How often the database is looked through for jobs whose time is up.
    pub sweep_interval: Duration,
    /// Jobs that may wait.
    pub queued_max: usize,
    /// Jobs that are kept, ended ones among them.
    pub kept_max: usize,
    /// Bytes of inputs and predictions that are kept.
    pub bytes_max: u64,
    /// How long a job may take from its submission to its end.
    pub run_max: Duration,
    /// How long an ended job's predictions are kept.
    pub result_retention: Duration,
}

/// Reads the section.
pub(super) fn read(layers: &mut Layers) -> JobsConfig {
    let bytes_max = whole(layers, "jobs.bytes_max", 1, MEMORY_BYTES_MAX);
    JobsConfig {
        workers: whole(layers, "jobs.workers", 0, JOB_WORKERS_MAX),
        entities_max: count(layers, "jobs.entities_max"),
        chunk_rows_max: count(layers, "jobs.chunk_rows_max"),
        attempts_max: whole(layers, "jobs.attempts_max", 1, COUNT_MAX),
        retry_wait: millis(layers, "jobs.retry_ms", 1),
        lease: millis(layers, "jobs.lease_ms", 100),
        poll_interval: millis(layers, "jobs.poll_ms", 10),
        sweep_interval: millis(layers, "jobs.sweep_ms", 10),
        queued_max: count(layers, "jobs.queued_max"),
        kept_max: count(layers, "jobs.kept_max"),
        bytes_max: u64::try_from(bytes_max).unwrap_or(u64::MAX),
        run_max: hours(layers, "jobs.run_hours_max"),
        result_retention: hours(layers, "jobs.result_retention_hours"),
    }
}

fn hours(layers: &mut Layers, key: &'static str) -> Duration {
    let expected = format!("a whole number of hours from 1 to {HOURS_MAX}");
    let is_good = |hours: &u64| (1..=HOURS_MAX).contains(hours);
    Duration::from_secs(layers.parse(key, is_good, &expected).saturating_mul(3_600))
}
