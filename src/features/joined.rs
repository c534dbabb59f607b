//! Reads that come while others of the same view run wait for these to end, and go as one.
//!
//! There is no timer: the first read of an idle view goes at once. A read is only ever joined to a query that has not been
//! sent yet, so it sees all that was written before it began. A query belongs to nobody who waits for it: it goes on when
//! one of them leaves, and ends when the last does.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{EntityKey, ReadRow, ReadRows};
use crate::{
    catalog::{FeatureView, PerView},
    error::{Error, ErrorKind, Result},
};

/// How reads are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinBounds {
    /// Queries of a view that run at once; reads beyond them wait, and are joined.
    pub queries_max: usize,
    /// Keys that are joined to one query; a single read may have more.
    pub query_keys_max: usize,
    /// Keys of a view that may wait; reads beyond are refused.
    pub waiting_keys_max: usize,
}

impl Default for JoinBounds {
    fn default() -> Self {
        JoinBounds {
            queries_max: 2,
            query_keys_max: 1_000,
            waiting_keys_max: 100_000,
        }
    }
}

/// What answers a joined read.
#[async_trait]
pub(super) trait RowReader: Send + Sync {
    /// Reads the rows of distinct keys, in their order.
    async fn read(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<ReadRows>;
}

/// Reads of all views.
pub(super) struct ReadQueue {
    reader: Arc<dyn RowReader>,
    bounds: JoinBounds,
    views: PerView<Arc<ViewQueue>>,
}

/// Reads of one view.
struct ViewQueue {
    view: Arc<FeatureView>,
    reader: Arc<dyn RowReader>,
    bounds: JoinBounds,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Queries that run.
    running: usize,
    /// What goes next, in the order in which it came.
    waiting: VecDeque<Batch>,
    /// Keys that wait, as often as they were asked for.
    waiting_keys: usize,
}

/// Reads that go as one query.
struct Batch {
    /// Each key once, with its position in the query.
    keys: HashMap<EntityKey, usize>,
    /// As often as they were asked for.
    asked_keys: usize,
    callers: Vec<Caller>,
    /// Cancelled when the last caller has gone.
    abandoned: CancellationToken,
    interest: Weak<DropGuard>,
}

/// Who waits, and for which rows of the query.
struct Caller {
    positions: Vec<usize>,
    answer: oneshot::Sender<Result<ReadRows>>,
}

/// The receiving end of a read.
struct Waiting {
    answer: oneshot::Receiver<Result<ReadRows>>,
    /// With the last of these the query ends.
    _interest: Arc<DropGuard>,
}

impl ReadQueue {
    pub(super) fn new(reader: Arc<dyn RowReader>, bounds: JoinBounds) -> ReadQueue {
        ReadQueue {
            reader,
            bounds,
            views: PerView::default(),
        }
    }

    /// Reads rows, with whoever else is waiting for rows of the view.
    ///
    /// # Errors
    /// As the reader; `Overloaded` where too many keys are waiting.
    pub(super) async fn read(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<ReadRows> {
        if keys.is_empty() {
            return Ok((Vec::new(), Duration::ZERO));
        }
        let make = |view: &FeatureView| {
            Arc::new(ViewQueue {
                view: view.held(),
                reader: Arc::clone(&self.reader),
                bounds: self.bounds,
                state: Mutex::default(),
            })
        };
        let queue = self.views.get_or_make(view, make);
        let waiting = queue.enter(keys)?;
        let answer = waiting.answer.await;
        answer.map_err(|lost| Error::internal("a read of the store broke off").with_source(lost))?
    }
}

impl ViewQueue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a query, or joins what goes next.
    fn enter(self: &Arc<Self>, keys: &[EntityKey]) -> Result<Waiting> {
        let mut state = self.lock();
        if state.running < self.bounds.queries_max.max(1) {
            state.running += 1;
            drop(state);
            let mut batch = Batch::new();
            let waiting = batch.join(keys);
            tokio::spawn(work(Place(Some(Arc::clone(self))), Some(batch)));
            return Ok(waiting);
        }
        let waiting_keys = state.waiting_keys + keys.len();
        if state.waiting_keys > 0 && waiting_keys > self.bounds.waiting_keys_max {
            return Err(self.overloaded());
        }
        state.waiting_keys = waiting_keys;
        let has_room = |batch: &&mut Batch| {
            let joined = batch.keys.len() + keys.len();
            joined <= self.bounds.query_keys_max
        };
        if let Some(batch) = state.waiting.back_mut().filter(has_room) {
            return Ok(batch.join(keys));
        }
        let mut batch = Batch::new();
        let waiting = batch.join(keys);
        state.waiting.push_back(batch);
        Ok(waiting)
    }

    /// What goes next, in the place of a query that has ended; the place is given back where nothing does.
    fn next(&self) -> Option<Batch> {
        let mut state = self.lock();
        while let Some(batch) = state.waiting.pop_front() {
            state.waiting_keys = state.waiting_keys.saturating_sub(batch.asked_keys);
            if !batch.abandoned.is_cancelled() {
                return Some(batch);
            }
        }
        state.running = state.running.saturating_sub(1);
        None
    }

    fn overloaded(&self) -> Error {
        Error::new(
            ErrorKind::Overloaded,
            format!(
                "more than {} keys of the feature view \"{}\" are waiting to be read (reads.waiting_keys_max)",
                self.bounds.waiting_keys_max, self.view.name
            ),
        )
    }
}

/// The right to run a query. It outlives a query that panics.
struct Place(Option<Arc<ViewQueue>>);

impl Drop for Place {
    fn drop(&mut self) {
        let Some(queue) = self.0.take() else {
            return;
        };
        // Without a runtime the whole process is about to end.
        let (Some(next), Ok(runtime)) = (queue.next(), Handle::try_current()) else {
            return;
        };
        runtime.spawn(work(Place(Some(queue)), Some(next)));
    }
}

/// Answers batches until none waits.
async fn work(mut place: Place, mut next: Option<Batch>) {
    while let (Some(batch), Some(queue)) = (next.take(), &place.0) {
        batch.run(queue).await;
        next = queue.next();
    }
    place.0 = None;
}

impl Batch {
    fn new() -> Batch {
        Batch {
            keys: HashMap::new(),
            asked_keys: 0,
            callers: Vec::new(),
            abandoned: CancellationToken::new(),
            interest: Weak::new(),
        }
    }

    fn join(&mut self, keys: &[EntityKey]) -> Waiting {
        let interest = self.interest.upgrade().unwrap_or_else(|| {
            // All who waited before have gone.
            self.abandoned = CancellationToken::new();
            Arc::new(self.abandoned.clone().drop_guard())
        });
        self.interest = Arc::downgrade(&interest);
        let mut positions = Vec::with_capacity(keys.len());
        for key in keys {
            let next = self.keys.len();
            positions.push(match self.keys.get(key) {
                Some(known) => *known,
                None => {
                    self.keys.insert(key.clone(), next);
                    next
                }
            });
        }
        self.asked_keys += keys.len();
        let (answer, receiver) = oneshot::channel();
        self.callers.push(Caller { positions, answer });
        Waiting {
            answer: receiver,
            _interest: interest,
        }
    }

    /// Reads, and answers everyone who still waits.
    async fn run(self, queue: &ViewQueue) {
        let mut sorted: Vec<(EntityKey, usize)> = self.keys.into_iter().collect();
        sorted.sort_unstable_by_key(|(_, position)| *position);
        let keys: Vec<EntityKey> = sorted.into_iter().map(|(key, _)| key).collect();
        let (reader, view) = (queue.reader.as_ref(), queue.view.as_ref());
        let reading = async {
            match reader.read(view, &keys).await {
                Ok((rows, age_bound)) => share(self.callers, rows, age_bound),
                Err(fault) if self.callers.len() > 1 && is_of_some(&fault) => {
                    apart(reader, view, &keys, self.callers).await;
                }
                Err(fault) => refuse(self.callers, fault),
            }
        };
        self.abandoned.run_until_cancelled(reading).await;
    }
}

/// Whether the rows or keys of one caller may be at fault, and not all that was asked.
fn is_of_some(fault: &Error) -> bool {
    !matches!(
        fault.kind(),
        ErrorKind::Unavailable | ErrorKind::Overloaded | ErrorKind::Timeout
    )
}

/// Gives each caller its rows; those that several want are shared.
fn share(callers: Vec<Caller>, mut rows: Vec<Option<ReadRow>>, age_bound: Duration) {
    let mut wanted = vec![0_usize; rows.len()];
    for position in callers.iter().flat_map(|caller| &caller.positions) {
        if let Some(count) = wanted.get_mut(*position) {
            *count += 1;
        }
    }
    for caller in callers {
        let mut take = |position: &usize| {
            let (row, count) = (rows.get_mut(*position)?, wanted.get_mut(*position)?);
            *count -= 1;
            if *count == 0 {
                return Some(row.take());
            }
            Some(row.as_mut().map(|row| ReadRow::Shared(row.share())))
        };
        let of_caller: Option<Vec<_>> = caller.positions.iter().map(&mut take).collect();
        let answer = of_caller.map(|rows| (rows, age_bound));
        let answer = answer.ok_or_else(|| Error::internal("a store that answers other keys"));
        // Whoever has gone needs none.
        let _ = caller.answer.send(answer);
    }
}

/// Tells everyone the fault; its cause is one caller's to log.
fn refuse(callers: Vec<Caller>, fault: Error) {
    let mut callers = callers.into_iter();
    let first = callers.next();
    for caller in callers {
        let _ = caller.answer.send(Err(fault.for_another()));
    }
    if let Some(caller) = first {
        let _ = caller.answer.send(Err(fault));
    }
}

/// Reads for each caller by itself, so that a row that cannot be read is the concern only of who asked for it.
async fn apart(
    reader: &dyn RowReader,
    view: &FeatureView,
    keys: &[EntityKey],
    callers: Vec<Caller>,
) {
    for caller in callers.into_iter().filter(|c| !c.answer.is_closed()) {
        let own = caller.positions.iter();
        let own: Vec<EntityKey> = own.filter_map(|at| keys.get(*at).cloned()).collect();
        let _ = caller.answer.send(reader.read(view, &own).await);
    }
}
