//! What a feature store has to be able to do.

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{EntityKey, Timestamp, Value};
use crate::{catalog::FeatureView, error::Result};

/// What a view holds of one entity.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRow {
    /// When the values became true in the world.
    pub event_timestamp: Timestamp,
    /// When the row was made; breaks ties of the event timestamp.
    pub created_at: Timestamp,
    /// One a feature of the view, in its order.
    pub values: Vec<Value>,
}

/// A row to write: a stored row and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteRow {
    /// Whose.
    pub key: EntityKey,
    /// What.
    pub row: StoredRow,
}

/// What became of written rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteCounts {
    /// Rows that took effect.
    pub written: u64,
    /// Rows ignored, because a row of the same entity, stored or written together with them, is as new or newer.
    pub late: u64,
}

impl std::ops::AddAssign for WriteCounts {
    fn add_assign(&mut self, other: WriteCounts) {
        self.written += other.written;
        self.late += other.late;
    }
}

/// Batches of rows on their way into a store. An error in it undoes all that came before; so does a sender that goes
/// away without the last `None`.
pub type RowBatches = mpsc::Receiver<Option<Result<Vec<WriteRow>>>>;

/// What was materialized from a file, so that the same file is not loaded twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Materialization {
    /// The view's name.
    pub view: String,
    /// The source's path, as the definition has it.
    pub source: String,
    /// The SHA-256 of the source's content and of the view's definition, in hex.
    pub digest: String,
}

/// Keeps the newest row of each entity, a typed table a view.
#[async_trait]
pub trait OnlineStore: Send + Sync {
    /// Reads the rows of entities, in the order of the keys; none where the view has no row.
    ///
    /// # Errors
    /// `Unavailable` where the database is away.
    async fn read(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<Vec<Option<StoredRow>>>;

    /// Writes rows, all or none. Of several rows of one entity the newest by (event_timestamp, created_at) is written, and
    /// only where it is newer than the stored one.
    ///
    /// # Errors
    /// `Unavailable` where the database is away; nothing is written then.
    async fn write(&self, view: &FeatureView, rows: Vec<WriteRow>) -> Result<WriteCounts>;

    /// Writes batches in one transaction and notes the materialization in the same one: readers see all or nothing.
    ///
    /// # Errors
    /// The error that the batches hold; `Unavailable` where the database is away. Nothing is written in either case.
    async fn load(
        &self,
        view: &FeatureView,
        batches: RowBatches,
        note: &Materialization,
    ) -> Result<WriteCounts>;

    /// The last materialization of a view from a source.
    ///
    /// # Errors
    /// `Unavailable` where the database is away.
    async fn last_materialization(
        &self,
        view: &str,
        source: &str,
    ) -> Result<Option<Materialization>>;

    /// Asks the database whether it answers.
    ///
    /// # Errors
    /// `Unavailable` where it does not.
    async fn ping(&self) -> Result<()>;
}
