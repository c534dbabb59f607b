//! Rows kept in memory in front of a store. Off by default; bounded in bytes; knows nothing of what the store behind it is.
//!
//! A row is answered from here only while three things hold: it is no older than `age_max`; nothing was told that has
//! changed it since it was read; and, where somebody tells of changes, they were heard of within `stale_max`.
//! Who reads a row takes a ticket before asking the store, and the row is kept only if nothing has changed by then:
//! so an old row that arrives after the news of its change does not stay.

mod key;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;

use self::key::{ByBytes, Cached, KeyRef, ROW_BYTES, RowKey};
pub(crate) use self::key::{put_key, put_part, take_part};
use super::{EntityKey, OnlineStore, ReadRow, ReadRows, StoredRow, WriteRow};
use crate::{
    catalog::{FeatureView, PerView},
    error::{Error, Result},
};

/// Locks among which the keys are spread; more of them than threads that write.
const STRIPES: usize = 256;

/// How a cache is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheBounds {
    /// Bytes of all rows together, about.
    pub bytes_max: u64,
    /// How long a row is answered without asking the store again.
    pub age_max: Duration,
    /// How long rows are answered after it was last certain that every change had been told; none: nobody tells.
    pub stale_max: Option<Duration>,
}

/// Rows in memory.
pub struct RowCache {
    bounds: CacheBounds,
    rows: Cache<RowKey, Cached, ByBytes>,
    /// Each counts the changes of its keys: a row that was read before a change must not be kept after it.
    stripes: Vec<Mutex<u64>>,
    views: PerView<u64>,
    next_view: AtomicU64,
    made_at: Instant,
    /// Until when all changes count as told, in microseconds since `made_at`.
    told_until_micros: AtomicU64,
}

/// What the cache has of some keys.
pub(super) struct Found {
    /// One a key, in their order; none, too, for those that have to be asked for.
    pub(super) rows: Vec<Option<ReadRow>>,
    /// The positions of the keys that have to be asked for.
    pub(super) missed: Vec<usize>,
    /// How long ago the rows were read from the store, at the most.
    pub(super) age_bound: Duration,
}

/// The right to keep a row that is about to be read or written.
pub(super) struct Ticket {
    key: RowKey,
    changes: u64,
}

impl RowCache {
    /// An empty cache. Where changes are told it answers nothing before it is first certain of them.
    pub fn new(bounds: CacheBounds) -> RowCache {
        let items = usize::try_from(bounds.bytes_max / (ROW_BYTES * 2)).unwrap_or(usize::MAX);
        let told_until = bounds.stale_max.map_or(u64::MAX, |_| 0);
        RowCache {
            bounds,
            rows: Cache::with_weighter(items.max(1), bounds.bytes_max, ByBytes),
            stripes: (0..STRIPES).map(|_| Mutex::new(0)).collect(),
            views: PerView::default(),
            next_view: AtomicU64::new(0),
            made_at: Instant::now(),
            told_until_micros: AtomicU64::new(told_until),
        }
    }

    /// Every change that was done up to a moment has been told.
    pub fn told_up_to(&self, moment: Instant) {
        let Some(stale_max) = self.bounds.stale_max else {
            return;
        };
        let until = moment.saturating_duration_since(self.made_at) + stale_max;
        let micros = u64::try_from(until.as_micros()).unwrap_or(u64::MAX - 1);
        self.told_until_micros.store(micros, Ordering::Release);
    }

    /// Changes are no longer told: nothing is answered from here until they are again.
    pub fn lost_touch(&self) {
        if self.bounds.stale_max.is_some() {
            self.told_until_micros.store(0, Ordering::Release);
        }
    }

    /// Changes may have been missed: nothing that was read until now counts any more.
    pub fn forget_all(&self) {
        self.views.clear();
        self.rows.clear();
    }

    /// All rows of a view may have changed.
    pub fn forget_view(&self, name: &str) {
        self.views.forget(name);
    }

    /// The rows of some keys of a view have changed; the keys as `put_key` writes them.
    pub(crate) fn forget_keys<'a>(&self, view: &str, keys: impl Iterator<Item = &'a [u8]>) {
        let Some(view) = self.views.named(view) else {
            return;
        };
        for key in keys {
            self.forget_key(KeyRef { view, key });
        }
    }

    /// Whether rows of a view may be kept: whoever changes somebody else's table tells nobody.
    pub(super) fn takes(view: &FeatureView) -> bool {
        view.table.is_none()
    }

    /// The rows that can be answered without asking the store.
    pub(super) fn find(&self, view: &FeatureView, keys: &[EntityKey]) -> Found {
        self.find_of(self.view_number(view), keys)
    }

    fn find_of(&self, view: u64, keys: &[EntityKey]) -> Found {
        let now = Instant::now();
        if !self.is_told(now) {
            return Found {
                rows: vec![None; keys.len()],
                missed: (0..keys.len()).collect(),
                age_bound: Duration::ZERO,
            };
        }
        let mut found = Found {
            rows: Vec::with_capacity(keys.len()),
            missed: Vec::new(),
            age_bound: Duration::ZERO,
        };
        let mut bytes = Vec::with_capacity(32);
        for (index, key) in keys.iter().enumerate() {
            bytes.clear();
            put_key(key, &mut bytes);
            let cached = self.rows.get(&KeyRef { view, key: &bytes });
            let aged = cached.map(|cached| {
                let age = now.saturating_duration_since(cached.read_at);
                (age, cached)
            });
            match aged.filter(|(age, _)| *age <= self.bounds.age_max) {
                Some((age, cached)) => {
                    found.age_bound = found.age_bound.max(age);
                    found.rows.push(cached.row.map(ReadRow::Shared));
                }
                None => {
                    found.missed.push(index);
                    found.rows.push(None);
                }
            }
        }
        found
    }

    /// Reads rows, those that are not here from a store, and keeps these.
    pub(super) async fn read_through(
        &self,
        inner: &dyn OnlineStore,
        view: &FeatureView,
        keys: &[EntityKey],
    ) -> Result<ReadRows> {
        let number = self.view_number(view);
        let mut found = self.find_of(number, keys);
        if found.missed.is_empty() {
            return Ok((found.rows, found.age_bound));
        }
        let asked: Vec<EntityKey> = at(keys, &found.missed).cloned().collect();
        let mut bytes = Vec::with_capacity(32);
        let tickets = asked.iter();
        let tickets = tickets.map(|key| self.ticket(number, key, &mut bytes));
        let tickets: Vec<Ticket> = tickets.collect();
        // As old as the moment before the store is asked.
        let read_at = Instant::now();
        let is_told = self.is_told(read_at);
        let read = inner.read(view, &asked).await?;
        if read.len() != asked.len() {
            return Err(Error::internal("a store that answers other keys"));
        }
        for ((index, ticket), row) in found.missed.iter().zip(tickets).zip(read) {
            let mut row = row.map(ReadRow::Own);
            if is_told {
                self.keep(ticket, row.as_mut().map(ReadRow::share), read_at);
            }
            if let Some(slot) = found.rows.get_mut(*index) {
                *slot = row;
            }
        }
        Ok((found.rows, found.age_bound))
    }

    /// Prepares for a change of some entities: what it leaves in the store is kept, or forgotten, when it ends.
    pub(super) fn writing<'a>(
        &'a self,
        view: &'a FeatureView,
        keys: impl Iterator<Item = &'a EntityKey>,
    ) -> Writing<'a> {
        let number = self.view_number(view);
        let mut bytes = Vec::with_capacity(32);
        let tickets = keys.map(|key| self.ticket(number, key, &mut bytes));
        Writing {
            cache: self,
            view,
            number,
            began_at: Instant::now(),
            changes: tickets
                .map(|ticket| (ticket.key.key, ticket.changes))
                .collect(),
        }
    }

    /// Forgets a view when it goes away.
    pub(super) fn loading<'a>(&'a self, view: &'a FeatureView) -> Loading<'a> {
        Loading { cache: self, view }
    }

    fn is_told(&self, now: Instant) -> bool {
        let until = self.told_until_micros.load(Ordering::Acquire);
        until == u64::MAX
            || now.saturating_duration_since(self.made_at).as_micros() <= u128::from(until)
    }

    /// The number of a view's present definition; another definition has another one, and shares no rows with it.
    fn view_number(&self, view: &FeatureView) -> u64 {
        if let Some(known) = self.views.get(view) {
            return known;
        }
        let number = self.next_view.fetch_add(1, Ordering::Relaxed);
        self.views.set(view, number);
        number
    }

    fn stripe(&self, key: KeyRef<'_>) -> Option<MutexGuard<'_, u64>> {
        let hash = key.key.iter().fold(key.view, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let index = usize::try_from(hash % STRIPES as u64).unwrap_or_default();
        let stripe = self.stripes.get(index)?;
        Some(stripe.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `bytes` is room for the key's.
    fn ticket(&self, view: u64, key: &EntityKey, bytes: &mut Vec<u8>) -> Ticket {
        bytes.clear();
        put_key(key, bytes);
        let key = KeyRef { view, key: bytes };
        Ticket {
            changes: self.stripe(key).map_or(0, |changes| *changes),
            key: key.to_owned(),
        }
    }

    /// Keeps a row that was read, unless its key has changed since.
    fn keep(&self, ticket: Ticket, row: Option<Arc<StoredRow>>, read_at: Instant) {
        let Some(changes) = self.stripe(ticket.key.borrowed()) else {
            return;
        };
        if *changes == ticket.changes {
            self.rows.insert(ticket.key, Cached { row, read_at });
        }
    }

    /// Keeps a row that was written, unless somebody else has changed its key meanwhile.
    fn replace(&self, ticket: Ticket, row: StoredRow, written_at: Instant) {
        let Some(mut changes) = self.stripe(ticket.key.borrowed()) else {
            return;
        };
        let is_alone = *changes == ticket.changes;
        *changes += 1;
        if is_alone {
            let cached = Cached {
                row: Some(Arc::new(row)),
                read_at: written_at,
            };
            self.rows.insert(ticket.key, cached);
        } else {
            self.rows.remove(&ticket.key);
        }
    }

    fn forget_key(&self, key: KeyRef<'_>) {
        if let Some(mut changes) = self.stripe(key) {
            *changes += 1;
            self.rows.remove(&key);
        }
    }
}

/// The elements at some positions.
pub(super) fn at<'a, T>(all: &'a [T], positions: &'a [usize]) -> impl Iterator<Item = &'a T> {
    positions.iter().filter_map(|index| all.get(*index))
}

/// A write under way. Whatever of it is not kept is forgotten when it goes away: also where it is given up half-way,
/// because it may have been done.
pub(super) struct Writing<'a> {
    cache: &'a RowCache,
    view: &'a FeatureView,
    number: u64,
    began_at: Instant,
    /// How often each key had changed before.
    changes: HashMap<Box<[u8]>, u64>,
}

impl Writing<'_> {
    /// Keeps the rows that the store is known to hold now.
    pub(super) fn keep(mut self, stored: Vec<WriteRow>) {
        // Else there is nothing that these could be kept under.
        if self.cache.views.get(self.view) != Some(self.number) {
            return;
        }
        let mut bytes = Vec::with_capacity(32);
        for write in stored {
            bytes.clear();
            put_key(&write.key, &mut bytes);
            if let Some((key, changes)) = self.changes.remove_entry(bytes.as_slice()) {
                let view = self.number;
                let key = RowKey { view, key };
                let ticket = Ticket { key, changes };
                self.cache.replace(ticket, write.row, self.began_at);
            }
        }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let view = self.cache.view_number(self.view);
        for key in self.changes.keys() {
            self.cache.forget_key(KeyRef { view, key });
        }
    }
}

/// A load under way: nothing of its view counts any more when it goes away.
pub(super) struct Loading<'a> {
    cache: &'a RowCache,
    view: &'a FeatureView,
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.cache.forget_view(&self.view.name);
    }
}
