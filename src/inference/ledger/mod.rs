//! The ledger: what was predicted, from what, by which version; so that it can be shown, replayed and exported later.
//!
//! A prediction is answered first. It waits in a queue, bounded in bytes, until one task has written it, with others; where
//! the queue is full or the database stays away, predictions are lost to the ledger and counted, and answers go on.

mod entry;
mod ids;
mod queue;
mod replay;
mod store;
mod upkeep;
mod weight;
mod writer;

use std::time::Duration;

pub use entry::{LedgerEntry, RecordedInput, RecordedValue, RecordedVersion, RecordedViolation};
pub use ids::{SAMPLE_WHOLE, day_at, day_of, first_id_at, first_id_of_day, id_after, is_sampled};
pub use queue::{Ledger, LedgerStatus};
pub use replay::Replay;
pub use store::{LedgerPage, LedgerSpan, LedgerStore};

/// How the ledger is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerOptions {
    /// Whether predictions are kept at all; those that were kept before can be read in either case.
    pub is_enabled: bool,
    /// The share of predictions that is kept, in hundredths of a percent.
    pub sample_share: u32,
    /// What may wait to be written, bytes.
    pub queue_bytes_max: usize,
    /// Predictions that are written together.
    pub batch_max: usize,
    /// How long a prediction waits for others to be written with.
    pub flush_max: Duration,
    /// How long the writing of some predictions is tried again.
    pub retry_max: Duration,
    /// How many whole days are kept, beside the current one; 0: all.
    pub retention_days: u32,
}
