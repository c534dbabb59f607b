//! Materialization: a view's source into the store, all of it or nothing.

use tokio::sync::mpsc;

use super::{LoadInput, Materialization, OnlineStore, WriteCounts, WriteRow};
use crate::{
    catalog::FeatureView,
    error::{Error, Result},
};

/// Rows that a source hands over at once.
pub const ROW_BATCH_ROWS: usize = 4_096;

/// Batches that may wait for the store; reading stops when they do.
const BATCHES_WAITING_MAX: usize = 4;

/// A file that rows come from, opened and its columns checked against the view. Reading blocks.
pub trait RowSource: Send {
    /// How many rows there are, where the format says.
    fn row_count(&self) -> Option<u64>;

    /// The next rows, `ROW_BATCH_ROWS` at the most; none at the end.
    ///
    /// # Errors
    /// `InvalidArgument` that names the file, the row and the column at fault.
    fn next_batch(&mut self) -> Result<Option<Vec<WriteRow>>>;
}

/// What became of a materialization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaterializeOutcome {
    /// The same content had been loaded before.
    Unchanged,
    /// It was loaded.
    Loaded(WriteCounts),
}

/// Loads a source into the store in one transaction, unless the same content is there already.
///
/// `progress` is told how many rows have been read so far, from the thread that reads them.
///
/// # Errors
/// What the source or the store answers; nothing is loaded then.
pub async fn materialize(
    store: &dyn OnlineStore,
    view: &FeatureView,
    mut source: Box<dyn RowSource>,
    note: &Materialization,
    force: bool,
    progress: impl Fn(u64) + Send + 'static,
) -> Result<MaterializeOutcome> {
    let known = store.materializations(&note.view).await?;
    if !force && known.iter().any(|record| record.note == *note) {
        return Ok(MaterializeOutcome::Unchanged);
    }
    let (sender, batches) = mpsc::channel(BATCHES_WAITING_MAX);
    let reader = tokio::task::spawn_blocking(move || {
        let mut rows_read = 0_u64;
        loop {
            let message = source.next_batch().transpose();
            let is_last = !matches!(message, Some(Ok(_)));
            if let Some(Ok(rows)) = &message {
                rows_read += u64::try_from(rows.len()).unwrap_or(u64::MAX);
            }
            // A closed channel means that the store has given up and will say why.
            if sender.blocking_send(message).is_err() || is_last {
                return;
            }
            progress(rows_read);
        }
    });
    let counts = store.load(view, LoadInput::Rows(batches), note).await?;
    reader
        .await
        .map_err(|fault| Error::internal("reading a source failed").with_source(fault))?;
    Ok(MaterializeOutcome::Loaded(counts))
}
