//! The one task that writes: takes what waits, together with what comes soon after, and tries until it is written or lost.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot},
    task,
    time::{self, Instant},
};

use super::{
    LedgerEntry, RecordedVersion,
    queue::{Message, Shared, Waiting, add},
};
use crate::{
    error::{Error, ErrorKind, Result},
    inference::{ReadyVersion, ScoredBatch},
};

/// Between two attempts to write; doubled from the first to the last.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LAST: Duration = Duration::from_secs(5);

/// So often rows are offered that a database refuses for reasons of its own, as a disk's: they may be over in a moment.
const REFUSALS_MAX: u32 = 4;

/// Writes what is in the queue.
pub(super) struct Writer {
    shared: Arc<Shared>,
    queue: UnboundedReceiver<Message>,
    /// What was taken from the queue and is not yet in any batch.
    current: Option<Held>,
    versions: Versions,
    is_failing: bool,
}

/// A message that is cut into several batches where it has more rows than one takes.
struct Held {
    waiting: Waiting,
    next: usize,
}

/// What is written together.
#[derive(Default)]
struct Gathered {
    parts: Vec<(Arc<ScoredBatch>, Vec<usize>)>,
    rows: usize,
    /// The memory that is free when this is written.
    bytes: usize,
    /// Whoever waits for the end of it.
    flushes: Vec<oneshot::Sender<()>>,
}

/// What became of a batch.
enum Outcome {
    Written,
    Away,
    Refused,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, queue: UnboundedReceiver<Message>) -> Writer {
        Writer {
            shared,
            queue,
            current: None,
            versions: Versions::default(),
            is_failing: false,
        }
    }

    /// Until nobody can send any more.
    pub(super) async fn run(mut self) {
        while let Some(gathered) = self.gather().await {
            self.write(gathered).await;
        }
    }

    /// Waits for rows, then a little for more of them.
    async fn gather(&mut self) -> Option<Gathered> {
        let options = &self.shared.options;
        let (batch_max, flush_max) = (options.batch_max, options.flush_max);
        let mut gathered = Gathered::default();
        let mut give_up_at = None;
        loop {
            if let Some(held) = self.current.take() {
                // What was left of the batch before has waited already.
                give_up_at.get_or_insert_with(|| Instant::now() + flush_max);
                self.current = gathered.take(held, batch_max);
                if gathered.rows >= batch_max {
                    return Some(gathered);
                }
            }
            let message = match give_up_at {
                None => self.queue.recv().await?,
                Some(at) => match time::timeout_at(at, self.queue.recv()).await {
                    Ok(message) => message?,
                    Err(_) => return Some(gathered),
                },
            };
            match message {
                Message::Rows(waiting) => self.current = Some(Held { waiting, next: 0 }),
                Message::Flush(done) => {
                    gathered.flushes.push(done);
                    return Some(gathered);
                }
            }
        }
    }

    async fn write(&mut self, gathered: Gathered) {
        if gathered.rows > 0 {
            let outcome = self.append(gathered.parts).await;
            let counters = &self.shared.counters;
            let counter = match outcome {
                Outcome::Written => &counters.written,
                Outcome::Away => &counters.dropped_away,
                Outcome::Refused => &counters.dropped_refused,
            };
            add(counter, gathered.rows);
            self.shared.release(gathered.rows, gathered.bytes);
            self.shared.note_recovery();
        }
        for flush in gathered.flushes {
            // Whoever has stopped waiting does not need to know.
            let _ = flush.send(());
        }
    }

    async fn append(&mut self, parts: Vec<(Arc<ScoredBatch>, Vec<usize>)>) -> Outcome {
        match self.expand(parts).await {
            Ok(entries) => self.try_append(&entries).await,
            Err(fault) => refused(&fault),
        }
    }

    /// Makes entries of rows, on a thread that may take its time.
    async fn expand(
        &mut self,
        parts: Vec<(Arc<ScoredBatch>, Vec<usize>)>,
    ) -> Result<Arc<[LedgerEntry]>> {
        let mut with_versions = Vec::with_capacity(parts.len());
        for (scored, rows) in parts {
            let version = self.versions.of(&scored.version)?;
            with_versions.push((scored, rows, version));
        }
        let expanded = task::spawn_blocking(move || {
            let mut entries = Vec::new();
            for (scored, rows, version) in &with_versions {
                for row in rows {
                    entries.push(LedgerEntry::of(scored, *row, version)?);
                }
            }
            Ok(entries.into())
        });
        expanded.await.map_err(|fault| {
            Error::internal("making entries of the ledger failed").with_source(fault)
        })?
    }

    /// Tries again while the database is away, longer and longer apart, up to a bound.
    async fn try_append(&mut self, entries: &Arc<[LedgerEntry]>) -> Outcome {
        let give_up_at = Instant::now() + self.shared.options.retry_max;
        let mut wait = BACKOFF_FIRST;
        let mut refusals = 0;
        loop {
            let fault = match self.shared.store.append_predictions(entries).await {
                Ok(()) => {
                    if std::mem::replace(&mut self.is_failing, false) {
                        tracing::info!("predictions are written to the ledger again");
                    }
                    return Outcome::Written;
                }
                Err(fault) => fault,
            };
            refusals += u32::from(fault.kind() == ErrorKind::Internal);
            if is_of_entries(&fault) || refusals >= REFUSALS_MAX {
                return refused(&fault);
            }
            if !std::mem::replace(&mut self.is_failing, true) {
                tracing::warn!(%fault, "predictions cannot be written to the ledger; they wait, and it is tried again");
            }
            if Instant::now() + wait >= give_up_at {
                tracing::error!(
                    %fault,
                    predictions = entries.len(),
                    "predictions are lost to the ledger: they could not be written for too long (ledger.retry_ms_max)"
                );
                return Outcome::Away;
            }
            time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF_LAST);
        }
    }
}

impl Gathered {
    /// Takes rows, up to so many in all; gives back what is left.
    fn take(&mut self, mut held: Held, batch_max: usize) -> Option<Held> {
        let room = batch_max.saturating_sub(self.rows);
        let end = held.waiting.rows.len().min(held.next + room);
        let rows = held.waiting.rows.get(held.next..end).unwrap_or_default();
        self.rows += rows.len();
        self.parts
            .push((Arc::clone(&held.waiting.scored), rows.to_vec()));
        held.next = end;
        if end < held.waiting.rows.len() {
            return Some(held);
        }
        self.bytes += held.waiting.bytes;
        None
    }
}

/// Whether the same predictions would be refused again.
fn is_of_entries(fault: &Error) -> bool {
    match fault.kind() {
        ErrorKind::InvalidArgument => true,
        ErrorKind::Internal
        | ErrorKind::Unauthenticated
        | ErrorKind::PermissionDenied
        | ErrorKind::NotFound
        | ErrorKind::FailedPrecondition
        | ErrorKind::Conflict
        | ErrorKind::Overloaded
        | ErrorKind::Timeout
        | ErrorKind::Unavailable => false,
    }
}

fn refused(fault: &Error) -> Outcome {
    let cause = std::error::Error::source(fault).map(ToString::to_string);
    tracing::error!(%fault, cause, "predictions are lost to the ledger: they were refused");
    Outcome::Refused
}

/// The versions that have predicted lately, worked out once each.
#[derive(Default)]
struct Versions {
    known: Vec<(Weak<ReadyVersion>, Arc<RecordedVersion>)>,
}

impl Versions {
    fn of(&mut self, version: &Arc<ReadyVersion>) -> Result<Arc<RecordedVersion>> {
        // A weak pointer keeps its address from being used again.
        let found = self
            .known
            .iter()
            .find(|(known, _)| std::ptr::eq(known.as_ptr(), Arc::as_ptr(version)));
        if let Some((_, recorded)) = found {
            return Ok(Arc::clone(recorded));
        }
        self.known.retain(|(known, _)| known.strong_count() > 0);
        let recorded = Arc::new(RecordedVersion::of(version)?);
        self.known
            .push((Arc::downgrade(version), Arc::clone(&recorded)));
        Ok(recorded)
    }
}
