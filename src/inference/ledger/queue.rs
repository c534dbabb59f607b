//! The way into the ledger and out of it: recording never waits, looking up waits for what is still in the queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{
        Notify,
        mpsc::{self, UnboundedSender},
        oneshot,
    },
    time,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    LedgerEntry, LedgerOptions, LedgerStore, SAMPLE_WHOLE, is_sampled, upkeep, weight::bytes_of,
    writer::Writer,
};
use crate::{
    error::{Error, Result},
    inference::ScoredBatch,
};

/// How long a look-up waits for what is in the queue.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(2);

/// What goes through the queue.
pub(super) enum Message {
    /// Rows of a batch.
    Rows(Waiting),
    /// Whoever wants to know when all before him has been written or lost.
    Flush(oneshot::Sender<()>),
}

/// Rows that wait to be written.
pub(super) struct Waiting {
    /// The batch.
    pub(super) scored: Arc<ScoredBatch>,
    /// Which of its rows.
    pub(super) rows: Vec<usize>,
    /// The memory that it keeps.
    pub(super) bytes: usize,
}

/// What has become of the predictions of this server since it was started, rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedgerStatus {
    /// Written, and waiting no more.
    pub written: u64,
    /// Left out, because the sample is less than all.
    pub not_sampled: u64,
    /// Lost, because the queue was full.
    pub dropped_full: u64,
    /// Lost, because the database was away for too long, or the server stopped before it was there again.
    pub dropped_away: u64,
    /// Lost, because the database refused them.
    pub dropped_refused: u64,
    /// Waiting now.
    pub queued: u64,
    /// The memory that they keep, about; bytes.
    pub queued_bytes: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) written: AtomicU64,
    pub(super) dropped_away: AtomicU64,
    pub(super) dropped_refused: AtomicU64,
    not_sampled: AtomicU64,
    dropped_full: AtomicU64,
    queued: AtomicUsize,
    queued_bytes: AtomicUsize,
    /// Whether predictions are being lost; said once, until it is over.
    is_dropping: AtomicBool,
}

/// What the handles and the writer share.
pub(super) struct Shared {
    pub(super) store: Arc<dyn LedgerStore>,
    pub(super) options: LedgerOptions,
    pub(super) counters: Counters,
    /// Wakes those who wait for room in the queue.
    freed: Notify,
    stop: CancellationToken,
}

/// Keeps what is predicted. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
    /// None where nothing is kept.
    queue: Option<UnboundedSender<Message>>,
}

impl Ledger {
    /// Starts the task that drops what is too old and, where the ledger is enabled, the one that writes.
    pub fn start(store: Arc<dyn LedgerStore>, options: LedgerOptions) -> Ledger {
        let shared = Arc::new(Shared {
            store,
            options,
            counters: Counters::default(),
            freed: Notify::new(),
            stop: CancellationToken::new(),
        });
        let stop = shared.stop.clone();
        let kept = Arc::clone(&shared);
        tokio::spawn(async move {
            stop.run_until_cancelled(upkeep::run(kept)).await;
        });
        if !shared.options.is_enabled {
            return Ledger {
                shared,
                queue: None,
            };
        }
        // Bounded by the bytes of what is in it.
        let (queue, waiting) = mpsc::unbounded_channel();
        let stop = shared.stop.clone();
        let writer = Writer::new(Arc::clone(&shared), waiting);
        tokio::spawn(async move {
            stop.run_until_cancelled(writer.run()).await;
        });
        Ledger {
            shared,
            queue: Some(queue),
        }
    }

    /// Records scored rows, sooner or later. Never waits.
    pub fn record(&self, scored: &Arc<ScoredBatch>) {
        if let Some(waiting) = self.sampled(scored) {
            let is_room = self.shared.take_room(waiting.bytes);
            self.enqueue(waiting, is_room);
        }
    }

    /// As `record`, for those who have time: waits for room in the queue, while `patience` lasts.
    pub async fn record_patiently(
        &self,
        scored: &Arc<ScoredBatch>,
        patience: impl Future<Output = impl Sized>,
    ) {
        let Some(waiting) = self.sampled(scored) else {
            return;
        };
        let is_room = tokio::select! {
            biased;
            is_room = self.shared.await_room(waiting.bytes) => is_room,
            _ = patience => false,
        };
        self.enqueue(waiting, is_room);
    }

    /// The rows that are to be kept; the others are counted. None: nothing is.
    fn sampled(&self, scored: &Arc<ScoredBatch>) -> Option<Waiting> {
        self.queue.as_ref()?;
        let rows = sampled_rows(scored, self.shared.options.sample_share);
        let left_out = scored.rows() - rows.len();
        add(&self.shared.counters.not_sampled, left_out);
        (!rows.is_empty()).then(|| Waiting {
            scored: Arc::clone(scored),
            rows,
            bytes: bytes_of(scored),
        })
    }

    /// Puts rows into the queue, whose room is theirs already, or counts them as lost.
    fn enqueue(&self, waiting: Waiting, is_room: bool) {
        let (counters, count, bytes) = (&self.shared.counters, waiting.rows.len(), waiting.bytes);
        if !is_room {
            self.shared.drop_full(count);
            return;
        }
        counters.queued.fetch_add(count, Ordering::Relaxed);
        let queue = self.queue.as_ref();
        // The writer ends only where the server does.
        if queue.is_none_or(|queue| queue.send(Message::Rows(waiting)).is_err()) {
            self.shared.release(count, bytes);
            add(&counters.dropped_away, count);
        }
    }

    /// The prediction of an id; one that is still in this server's queue is written first.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable` where the database is away or too slow.
    pub async fn prediction(&self, id: Uuid) -> Result<LedgerEntry> {
        // Asked before the look: what is written between the two waits no more, and was not there to be seen.
        let may_have_waited = self.status().queued > 0;
        if let Some(found) = self.shared.store.prediction(id).await? {
            return Ok(found);
        }
        if may_have_waited {
            if !self.flush(FLUSH_WAIT_MAX).await {
                return Err(Error::unavailable(format!(
                    "the prediction {id} is not in the ledger yet: others wait to be written before it, and the database is slow; try again"
                )));
            }
            if let Some(found) = self.shared.store.prediction(id).await? {
                return Ok(found);
            }
        }
        Err(Error::not_found(self.shared.not_found(id)))
    }

    /// Waits until all that is in the queue now has been written or lost; says whether that was within the bound.
    pub async fn flush(&self, max: Duration) -> bool {
        let Some(queue) = &self.queue else {
            return true;
        };
        let (done, flushed) = oneshot::channel();
        if queue.send(Message::Flush(done)).is_err() {
            return false;
        }
        matches!(time::timeout(max, flushed).await, Ok(Ok(())))
    }

    /// Writes what is in the queue, within a bound, and ends the writing; says whether all was written or lost before.
    pub async fn close(&self, max: Duration) -> bool {
        let is_flushed = self.status().queued == 0 || self.flush(max).await;
        self.shared.stop.cancel();
        let left = self.status().queued;
        if left > 0 {
            add_u64(&self.shared.counters.dropped_away, left);
            tracing::error!(
                predictions = left,
                "the server stops before these were written to the ledger: they are lost to it"
            );
        }
        is_flushed && left == 0
    }

    /// What has become of the predictions so far.
    pub fn status(&self) -> LedgerStatus {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LedgerStatus {
            written: read(&counters.written),
            not_sampled: read(&counters.not_sampled),
            dropped_full: read(&counters.dropped_full),
            dropped_away: read(&counters.dropped_away),
            dropped_refused: read(&counters.dropped_refused),
            queued: whole(counters.queued.load(Ordering::Relaxed)),
            queued_bytes: whole(counters.queued_bytes.load(Ordering::Relaxed)),
        }
    }

    /// How it is kept.
    pub fn options(&self) -> &LedgerOptions {
        &self.shared.options
    }
}

impl Shared {
    /// Reserves room in the queue, if there is any.
    fn take_room(&self, bytes: usize) -> bool {
        let queued = &self.counters.queued_bytes;
        let before = queued.fetch_add(bytes, Ordering::Relaxed);
        let is_room = before.saturating_add(bytes) <= self.options.queue_bytes_max;
        if !is_room {
            queued.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_room
    }

    /// Reserves room in the queue as soon as there is some; says at once where there never will be.
    async fn await_room(&self, bytes: usize) -> bool {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Before the look, so that what is freed between the two is not missed.
            freed.as_mut().enable();
            if self.take_room(bytes) {
                return true;
            }
            if bytes > self.options.queue_bytes_max {
                return false;
            }
            freed.await;
        }
    }

    fn drop_full(&self, rows: usize) {
        add(&self.counters.dropped_full, rows);
        if !self.counters.is_dropping.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                queue_bytes_max = self.options.queue_bytes_max,
                "the ledger's queue is full: predictions are answered and lost to the ledger (ledger.queue_bytes_max)"
            );
        }
    }

    /// Rows wait no more; `bytes` of memory are free.
    pub(super) fn release(&self, rows: usize, bytes: usize) {
        self.counters.queued.fetch_sub(rows, Ordering::Relaxed);
        self.counters
            .queued_bytes
            .fetch_sub(bytes, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// Says that nothing is lost any more, once the queue has room again.
    pub(super) fn note_recovery(&self) {
        let is_roomy =
            self.counters.queued_bytes.load(Ordering::Relaxed) <= self.options.queue_bytes_max / 2;
        if is_roomy && self.counters.is_dropping.swap(false, Ordering::Relaxed) {
            let lost = self.counters.dropped_full.load(Ordering::Relaxed);
            tracing::info!(lost_so_far = lost, "the ledger's queue has room again");
        }
    }

    fn not_found(&self, id: Uuid) -> String {
        let options = &self.options;
        let mut reasons = vec!["no prediction was made under it".to_owned()];
        if !options.is_enabled {
            reasons.push("this server keeps no predictions (ledger.enabled)".to_owned());
        } else if options.sample_share < SAMPLE_WHOLE {
            reasons.push("it was not among those that are kept (ledger.sample_percent)".to_owned());
        }
        if options.retention_days > 0 {
            reasons.push(format!(
                "it is older than {} days (ledger.retention_days)",
                options.retention_days
            ));
        }
        reasons.push("another server has yet to write it (ledger.flush_ms_max)".to_owned());
        format!(
            "the ledger has no prediction {id}: {}",
            reasons.join(", or ")
        )
    }
}

/// A row beside an answer is kept where the answer is: by the same id.
fn sampled_rows(scored: &ScoredBatch, share: u32) -> Vec<usize> {
    let ids = scored.answer_ids.as_ref().unwrap_or(&scored.ids);
    let ids = ids.iter().enumerate();
    ids.filter(|(_, id)| is_sampled(**id, share))
        .map(|(row, _)| row)
        .collect()
}

/// Adds rows to a counter.
pub(super) fn add(counter: &AtomicU64, rows: usize) {
    add_u64(counter, whole(rows));
}

fn add_u64(counter: &AtomicU64, rows: u64) {
    counter.fetch_add(rows, Ordering::Relaxed);
}

fn whole(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
