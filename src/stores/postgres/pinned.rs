//! Connections that only read by key: kept for it, with what is prepared on them, and asked by several at once.
//!
//! What is asked while another query runs follows on the same connection: the server answers in the order of asking, and
//! nobody waits in between. A connection of the pool becomes a pinned one after a read; what finds no room goes by the
//! pool.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use deadpool_postgres::ClientWrapper;
use tokio::time::timeout;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    fault::Fault,
    lease::{Canceller, Lease},
    pool::{IDLE_UNCHECKED_MAX, check},
};
use crate::stores::PinnedOptions;

/// The pinned connections.
pub(super) struct Pinned {
    seats: Mutex<Box<[Seat]>>,
    options: PinnedOptions,
    tls: MakeRustlsConnect,
}

/// Where a pinned connection is, or may be.
type Seat = Option<Arc<Reader>>;

/// A pinned connection. Once it has left its seat, it ends with the last query that was asked on it.
struct Reader {
    client: ClientWrapper,
    tls: MakeRustlsConnect,
    /// Queries without an answer.
    queries: AtomicUsize,
    answered_at: Mutex<Instant>,
    /// Whether the server may be at work on what nobody waits for.
    is_abandoned: AtomicBool,
}

impl Pinned {
    /// Seats that are empty yet; `tls` is how the server is reached a second time.
    pub(super) fn new(options: PinnedOptions, tls: MakeRustlsConnect) -> Self {
        Pinned {
            seats: Mutex::new((0..options.connections_max).map(|_| None).collect()),
            options,
            tls,
        }
    }

    fn seats(&self) -> MutexGuard<'_, Box<[Seat]>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place on the connection with the fewest queries. None where each has as many as it may, or where all have some and
    /// a seat is empty.
    pub(super) async fn place(&self) -> Option<Place<'_>> {
        let mut place = self.freest()?;
        if place.is_behind || place.reader.answered_at().elapsed() <= IDLE_UNCHECKED_MAX {
            return Some(place);
        }
        match check(&place.reader.client).await {
            Ok(()) => Some(place),
            Err(_) => {
                place.leave();
                None
            }
        }
    }

    fn freest(&self) -> Option<Place<'_>> {
        let mut seats = self.seats();
        for seat in seats.iter_mut() {
            seat.take_if(|reader| reader.client.is_closed());
        }
        let readers = seats.iter().flatten();
        let (queries, reader) = readers
            .map(|reader| (reader.queries.load(Relaxed), reader))
            .min_by_key(|(queries, _)| *queries)?;
        let is_one_empty = seats.iter().any(Option::is_none);
        let is_enough = queries > 0 && is_one_empty || queries >= self.options.queries_max;
        if is_enough {
            return None;
        }
        reader.queries.fetch_add(1, Relaxed);
        Some(Place {
            pinned: self,
            reader: Arc::clone(reader),
            is_behind: queries > 0,
            is_settled: false,
        })
    }

    /// Gives a connection of the pool a seat after its work, or back to the pool where all are taken.
    pub(super) fn adopt(&self, lease: Lease) {
        let mut seats = self.seats();
        let Some(seat) = seats.iter_mut().find(|seat| seat.is_none()) else {
            return lease.give_back();
        };
        *seat = lease.keep().map(|client| {
            Arc::new(Reader {
                client,
                tls: self.tls.clone(),
                queries: AtomicUsize::new(0),
                answered_at: Mutex::new(Instant::now()),
                is_abandoned: AtomicBool::new(false),
            })
        });
    }
}

impl Reader {
    fn answered_at(&self) -> MutexGuard<'_, Instant> {
        let answered_at = self.answered_at.lock();
        answered_at.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if *self.is_abandoned.get_mut() {
            Canceller::new(self.client.cancel_token(), self.tls.clone()).spawn();
        }
    }
}

/// One query's place on a pinned connection.
///
/// Dropped before its answer has come, nobody waits for that: the connection leaves its seat and, with the last query on
/// it, the server is asked to stop.
pub(super) struct Place<'a> {
    pinned: &'a Pinned,
    reader: Arc<Reader>,
    /// Whether another query went before.
    is_behind: bool,
    is_settled: bool,
}

impl Place<'_> {
    /// The connection.
    pub(super) fn client(&self) -> &ClientWrapper {
        &self.reader.client
    }

    /// Waits for the answer. None where those before it take too long, so that it is better asked elsewhere.
    pub(super) async fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, Fault>>,
    ) -> Option<Result<T, Fault>> {
        if self.is_behind {
            let wait_max = self.pinned.options.wait_max;
            return timeout(wait_max, answer).await.ok();
        }
        Some(answer.await)
    }

    /// The answer has come: the connection stays, unless the fault was its own.
    pub(super) fn settle<T>(mut self, done: Result<T, Fault>) -> Result<T, Fault> {
        match &done {
            // The server may go on with what we no longer wait for.
            Err(Fault::Timeout(_)) => return done,
            Err(fault) if fault.is_of_connection() => self.leave(),
            Err(fault) if fault.is_of_plan() => self.reader.client.statement_cache.clear(),
            Err(_) | Ok(_) => *self.reader.answered_at() = Instant::now(),
        }
        self.is_settled = true;
        done
    }

    /// Nothing more is asked of the connection.
    fn leave(&mut self) {
        self.is_settled = true;
        for seat in self.pinned.seats().iter_mut() {
            seat.take_if(|reader| Arc::ptr_eq(reader, &self.reader));
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.reader.queries.fetch_sub(1, Relaxed);
        if !self.is_settled {
            self.reader.is_abandoned.store(true, Relaxed);
            self.leave();
        }
    }
}
