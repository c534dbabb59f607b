//! What a feature store has to be able to do.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{EntityKey, ReadRow, ReadRows, StoredRow, Timestamp, WriteRow};
use crate::{catalog::FeatureView, error::Result};

/// What became of written rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteCounts {
    /// Rows that took effect.
    pub written: u64,
    /// Rows ignored, because what is stored, or written together with them, is as new or newer in all that they say.
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

/// Batches of rows on their way out of a store; a receiver that goes away ends the scan.
pub type RowSink = mpsc::Sender<Vec<WriteRow>>;

/// What a load brings in.
#[derive(Debug)]
pub enum LoadInput {
    /// Rows that were read elsewhere.
    Rows(RowBatches),
    /// The rows of the SQL query of the view's source, which the store's own database runs.
    Query {
        /// Only rows of this event timestamp or newer ones; none: all.
        since: Option<Timestamp>,
    },
}

/// What is loaded: written down together with the rows, so that the same content is not loaded twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Materialization {
    /// The view's name.
    pub view: String,
    /// The source: a file's path as the definition has it, or `query`.
    pub source: String,
    /// The SHA-256 of the source's content and of the view's definition, in hex.
    pub digest: String,
}

/// What the store knows of the last load of a view from one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaterializationRecord {
    /// What was loaded.
    pub note: Materialization,
    /// The newest event timestamp that any load from this source brought; none where it never brought a row.
    pub watermark: Option<Timestamp>,
    /// What became of the rows.
    pub counts: WriteCounts,
    /// When it was done.
    pub finished_at: Timestamp,
}

/// A view's watermark: the newest event timestamp that any of its sources ever brought; none where none did.
pub fn watermark(records: &[MaterializationRecord]) -> Option<Timestamp> {
    records.iter().filter_map(|record| record.watermark).max()
}

/// Which rows of a view to go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scan {
    /// The view's history, every row that was ever written, in place of the newest row of each entity.
    pub history: bool,
    /// Only rows whose own event timestamp is this or newer; none: all.
    pub since: Option<Timestamp>,
}

/// Keeps the newest values of each entity, a typed table a view.
#[async_trait]
pub trait OnlineStore: Send + Sync {
    /// Reads the rows of entities, in the order of the keys; none where the view has no row.
    ///
    /// # Errors
    /// `Unavailable` where the database is away.
    async fn read(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<Vec<Option<StoredRow>>>;

    /// As `read`, with how long ago the rows were read from the database, at the most: more than nothing only where a
    /// cache stands before it.
    ///
    /// # Errors
    /// As `read`.
    async fn read_aged(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<ReadRows> {
        let rows = self.read(view, keys).await?;
        let rows = rows.into_iter().map(|row| row.map(ReadRow::Own));
        Ok((rows.collect(), Duration::ZERO))
    }

    /// Reads what the view held of entities at a moment, in the order of the keys, out of its history: what became true up
    /// to it, whenever that was written; none where nothing had.
    ///
    /// # Errors
    /// `FailedPrecondition` for a view without a history of its own; `Unavailable` where the database is away.
    async fn read_as_of(
        &self,
        view: &FeatureView,
        keys: &[EntityKey],
        at: Timestamp,
    ) -> Result<Vec<Option<StoredRow>>>;

    /// Writes rows, all or none. Each is merged into what is stored, feature by feature, as `StoredRow::merge` does; where
    /// the view keeps a history, it is added there, whether late or not.
    ///
    /// # Errors
    /// `InvalidArgument` naming row and column of what cannot be stored; `FailedPrecondition` for a view on somebody
    /// else's table; `Unavailable` where the database is away. Nothing is written then.
    async fn write(&self, view: &FeatureView, rows: Vec<WriteRow>) -> Result<WriteCounts>;

    /// As `write`, with what is stored now of the entities of which the store knows that without reading it: so that it
    /// need not be asked. What it holds wins by time, feature by feature, so that it need not be what was written.
    ///
    /// # Errors
    /// As `write`.
    async fn write_returning(
        &self,
        view: &FeatureView,
        rows: Vec<WriteRow>,
    ) -> Result<(WriteCounts, Vec<WriteRow>)> {
        Ok((self.write(view, rows).await?, Vec::new()))
    }

    /// Writes many whole rows in one transaction and notes the materialization in the same one: readers see all or
    /// nothing.
    ///
    /// # Errors
    /// The error that the input holds; as `write`. Nothing is written in either case.
    async fn load(
        &self,
        view: &FeatureView,
        input: LoadInput,
        note: &Materialization,
    ) -> Result<WriteCounts>;

    /// What was loaded into a view, a record a source, by the source's name. Without a digest it is not known whether all
    /// of it is where it is read, and it has to be loaded again.
    ///
    /// # Errors
    /// `Unavailable` where the database is away.
    async fn materializations(&self, view: &str) -> Result<Vec<MaterializationRecord>>;

    /// Takes an entity out of views of that entity, their histories too, in one transaction; returns how many of the
    /// views had a row or a history of it. A later write makes it anew.
    ///
    /// # Errors
    /// `FailedPrecondition` for a view on somebody else's table; `Unavailable` where the database is away.
    async fn delete(&self, views: &[Arc<FeatureView>], key: &EntityKey) -> Result<u64>;

    /// Goes through the rows of a view, as of one moment, in no particular order.
    ///
    /// # Errors
    /// `Unavailable` where the database is away.
    async fn scan(&self, view: &FeatureView, scan: Scan, sink: RowSink) -> Result<()>;

    /// Asks the database whether it answers.
    ///
    /// # Errors
    /// `Unavailable` where it does not.
    async fn ping(&self) -> Result<()>;
}
