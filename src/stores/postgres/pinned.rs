//! Connections that only read by key: kept for it, with what is prepared on them, and asked by several at once.
//!
//! What is asked while another query runs follows on the same connection: the server answers in the order of asking, and
//! nobody waits in between.
//!
//! A connection of the pool gets a seat here after a read that went well, and keeps it until it fails. So that what blocks
//! holds up nobody else, no query follows on a connection that has been silent for a moment; where nothing comes for
//! `wait_max` those who share it leave, and it ends with the last of them. Whatever has left, or found no room, goes by the
//! pool.

use std::{
    future::Future,
    mem,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use deadpool_postgres::ClientWrapper;
use tokio::time::timeout;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    fault::Fault,
    lease::{Canceller, Lease},
    pool::{IDLE_UNCHECKED_MAX, check},
};
use crate::stores::{DatabaseOptions, PinnedOptions};

/// Where nothing has come for this part of what a query waits at the most, no other query follows.
const SILENT_PART: u32 = 10;

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
    state: Mutex<State>,
}

struct State {
    /// Queries without an answer.
    queries: usize,
    /// When the last answer came or, later than that, the first of these queries.
    heard_at: Instant,
    /// How many have gone before their answer came: the server may be at work on what they asked.
    abandoned: u32,
}

impl Pinned {
    /// Seats that are empty yet; `tls` is how the server is reached a second time.
    pub(super) fn new(options: &DatabaseOptions, tls: MakeRustlsConnect) -> Self {
        let mut pinned = options.pinned;
        // A query that waits for all others has to have its turn within its own bound.
        let turns = u32::try_from(pinned.queries_max).unwrap_or(u32::MAX);
        let turn_max = options.statement_timeout / turns.saturating_add(1);
        pinned.wait_max = pinned.wait_max.min(turn_max);
        Pinned {
            seats: Mutex::new((0..pinned.connections_max).map(|_| None).collect()),
            options: pinned,
            tls,
        }
    }

    fn seats(&self) -> MutexGuard<'_, Box<[Seat]>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place on the connection with the fewest queries; none where each has as many as it may, or is silent. One that has
    /// some is only shared where no seat is empty, or the pool has no connection for it.
    pub(super) async fn place(&self, has_pool_room: impl FnOnce() -> bool) -> Option<Place<'_>> {
        let (place, rested) = self.freest(has_pool_room)?;
        if rested > IDLE_UNCHECKED_MAX {
            check(&place.reader.client).await.ok()?;
        }
        Some(place)
    }

    /// The place, and for how long the connection had rested.
    fn freest(&self, has_pool_room: impl FnOnce() -> bool) -> Option<(Place<'_>, Duration)> {
        let mut seats = self.seats();
        for seat in seats.iter_mut() {
            seat.take_if(|reader| reader.client.is_closed());
        }
        let with_room = seats.iter().flatten().filter_map(|reader| {
            let queries = reader.state().queries_if_room(&self.options)?;
            Some((queries, reader))
        });
        let (queries, reader) = with_room.min_by_key(|(queries, _)| *queries)?;
        if queries > 0 && seats.iter().any(Option::is_none) && has_pool_room() {
            return None;
        }
        let place = Place {
            pinned: self,
            reader: Arc::clone(reader),
            is_settled: false,
        };
        Some((place, reader.state().enter()))
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
                state: Mutex::new(State {
                    queries: 0,
                    heard_at: Instant::now(),
                    abandoned: 0,
                }),
            })
        });
    }
}

impl Reader {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How many queries there are, where another may follow them.
    fn queries_if_room(&self, options: &PinnedOptions) -> Option<usize> {
        let is_silent = || self.heard_at.elapsed() > options.wait_max / SILENT_PART;
        let is_full = self.queries >= options.queries_max || self.queries > 0 && is_silent();
        (!is_full).then_some(self.queries)
    }

    /// One query more; returns for how long the connection had rested.
    fn enter(&mut self) -> Duration {
        self.queries += 1;
        if self.queries > 1 {
            return Duration::ZERO;
        }
        let now = Instant::now();
        now.duration_since(mem::replace(&mut self.heard_at, now))
    }

    /// Whether those who share the connection are better off elsewhere.
    fn is_stuck(&self, options: &PinnedOptions) -> bool {
        let is_shared = self.queries > 1;
        self.abandoned > 0 || is_shared && self.heard_at.elapsed() >= options.wait_max
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let abandoned = state.unwrap_or_else(PoisonError::into_inner).abandoned;
        if abandoned > 0 {
            Canceller::new(self.client.cancel_token(), self.tls.clone()).spawn(abandoned);
        }
    }
}

/// One query's place on a pinned connection.
///
/// Dropped before its answer has come, nobody waits for that: the connection leaves its seat, whoever shares it leaves it
/// within `wait_max`, and then the server is asked to stop.
pub(super) struct Place<'a> {
    pinned: &'a Pinned,
    reader: Arc<Reader>,
    is_settled: bool,
}

impl Place<'_> {
    /// The connection.
    pub(super) fn client(&self) -> &ClientWrapper {
        &self.reader.client
    }

    /// Waits for the answer. None where nothing comes on a connection that others share, which is found out within twice
    /// `wait_max`: it is better asked elsewhere.
    pub(super) async fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, Fault>>,
    ) -> Option<Result<T, Fault>> {
        let options = &self.pinned.options;
        let mut answer = pin!(answer);
        loop {
            if let Ok(done) = timeout(options.wait_max, &mut answer).await {
                return Some(done);
            }
            if self.reader.state().is_stuck(options) {
                return None;
            }
        }
    }

    /// The answer has come: the connection stays, unless the fault was its own.
    pub(super) fn settle<T>(mut self, done: Result<T, Fault>) -> Result<T, Fault> {
        match &done {
            // The server may go on with what we no longer wait for.
            Err(Fault::Timeout(_)) => return done,
            Err(fault) if fault.is_of_connection() => self.leave(),
            Err(fault) if fault.is_of_plan() => self.reader.client.statement_cache.clear(),
            Err(_) | Ok(_) => {}
        }
        self.reader.state().heard_at = Instant::now();
        self.is_settled = true;
        done
    }

    /// Nothing more is asked of the connection.
    fn leave(&self) {
        for seat in self.pinned.seats().iter_mut() {
            seat.take_if(|reader| Arc::ptr_eq(reader, &self.reader));
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let is_abandoned = !self.is_settled;
        if is_abandoned {
            self.leave();
        }
        let mut state = self.reader.state();
        state.queries -= 1;
        state.abandoned += u32::from(is_abandoned);
    }
}
