//! What has to be able to keep the ledger.

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::{LedgerEntry, RecordedVersion};
use crate::{error::Result, features::Timestamp};

/// Predictions of a span of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerSpan {
    /// The least id.
    pub first: Uuid,
    /// The least id that is no part of it any more.
    pub end: Uuid,
    /// Only predictions of this model; none: all.
    pub model: Option<String>,
}

/// Some predictions of a span.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LedgerPage {
    /// In the order of their ids, which is that of time.
    pub entries: Vec<LedgerEntry>,
    /// Where the next page begins; none: this was the last one.
    pub next: Option<Uuid>,
}

/// Keeps predictions, in days, for as long as it is told.
#[async_trait]
pub trait LedgerStore: Send + Sync {
    /// Keeps predictions, all or none. One that is there already, by its id, stays as it is.
    ///
    /// # Errors
    /// `Unavailable` and `Overloaded` where the database is away or busy: the same call may be repeated. Any other error
    /// comes again with the same predictions.
    async fn append_predictions(&self, entries: &Arc<[LedgerEntry]>) -> Result<()>;

    /// The prediction of an id.
    ///
    /// # Errors
    /// `Unavailable` where the database is away; `FailedPrecondition` where a newer ferrocast wrote it.
    async fn prediction(&self, id: Uuid) -> Result<Option<LedgerEntry>>;

    /// The first predictions of a span: as many as are found among the next `limit`, of whatever model. A page may be empty
    /// and not the last one.
    ///
    /// # Errors
    /// As `prediction`.
    async fn predictions(&self, span: &LedgerSpan, limit: usize) -> Result<LedgerPage>;

    /// The versions of a model that have ever predicted, in no particular order.
    ///
    /// # Errors
    /// As `prediction`.
    async fn recorded_versions(&self, model: &str) -> Result<Vec<Arc<RecordedVersion>>>;

    /// Drops what was predicted on days that ended before a point in time or at it; says whether there was anything.
    /// Predictions are kept and read meanwhile.
    ///
    /// # Errors
    /// `Unavailable` where the database is away or busy; what is left is dropped by the next call.
    async fn drop_predictions(&self, before: Timestamp) -> Result<bool>;
}
