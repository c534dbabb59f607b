//! Rows kept in memory in front of a store, for as long as the configuration allows. Off by default.
//!
//! What this server writes is seen by its own readers at once; what others write after `age_max` at the latest. Bounded in
//! bytes; knows nothing of what the store behind it is.

use std::{
    mem::size_of,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use quick_cache::{Weighter, sync::Cache};

use super::{
    EntityKey, ListValue, LoadInput, Materialization, MaterializationRecord, OnlineStore, RowSink,
    RowTime, Scan, StoredRow, Timestamp, Value, WriteCounts, WriteRow,
};
use crate::{
    catalog::{FeatureView, PerView},
    error::{Error, Result},
};

/// Locks among which the keys are spread; more of them than threads that write.
const STRIPES: usize = 256;

/// What a row costs besides its values: keys, times, the cache's own bookkeeping.
const ROW_BYTES: u64 = 160;

/// How a cache is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheBounds {
    /// Bytes of all rows together, about.
    pub bytes_max: u64,
    /// How long a row is answered without asking the store again.
    pub age_max: Duration,
}

/// A store with a cache before it.
pub struct CachedStore {
    inner: Arc<dyn OnlineStore>,
    age_max: Duration,
    rows: Cache<RowKey, Cached, ByBytes>,
    /// Each counts the writes of its keys: a row that was read before a write must not be kept after it.
    stripes: Vec<Mutex<u64>>,
    views: PerView<u64>,
    next_view: AtomicU64,
}

/// A view as it was defined at one time, and the key of an entity in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RowKey {
    view: u64,
    key: Box<[u8]>,
}

/// A row, or that there is none.
#[derive(Clone)]
struct Cached {
    row: Option<Arc<StoredRow>>,
    read_at: Instant,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<RowKey, Cached> for ByBytes {
    fn weight(&self, key: &RowKey, cached: &Cached) -> u64 {
        let bytes = cached.row.as_deref().map_or(0, row_length);
        ROW_BYTES + u64::try_from(key.key.len() + bytes).unwrap_or(u64::MAX / 2)
    }
}

fn row_length(row: &StoredRow) -> usize {
    let values: usize = row.values.iter().map(byte_length).sum();
    let times = row.feature_times.as_ref().map_or(0, Vec::len);
    values + times * size_of::<Option<RowTime>>()
}

fn byte_length(value: &Value) -> usize {
    let further = match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(ListValue::String(texts)) => texts.iter().map(|text| text.len() + 24).sum(),
        Value::List(ListValue::Bytes(all)) => all.iter().map(|bytes| bytes.len() + 24).sum(),
        Value::List(list) => list.len() * 8,
        Value::Null
        | Value::Bool(_)
        | Value::Int32(_)
        | Value::Int64(_)
        | Value::Float(_)
        | Value::Double(_)
        | Value::Timestamp(_) => 0,
    };
    size_of::<Value>() + further
}

impl CachedStore {
    /// Puts a cache before a store.
    pub fn new(inner: Arc<dyn OnlineStore>, bounds: CacheBounds) -> CachedStore {
        let items = usize::try_from(bounds.bytes_max / (ROW_BYTES * 2)).unwrap_or(usize::MAX);
        CachedStore {
            inner,
            age_max: bounds.age_max,
            rows: Cache::with_weighter(items.max(1), bounds.bytes_max, ByBytes),
            stripes: (0..STRIPES).map(|_| Mutex::new(0)).collect(),
            views: PerView::default(),
            next_view: AtomicU64::new(0),
        }
    }

    /// The number of a view's present definition; another definition has another one, and shares no rows with it.
    fn view_number(&self, view: &FeatureView) -> u64 {
        let known = self.views.get(view);
        known.unwrap_or_else(|| self.renumber(view))
    }

    /// Gives a view a new number, so that nothing that is kept of it counts any more.
    fn renumber(&self, view: &FeatureView) -> u64 {
        let number = self.next_view.fetch_add(1, Ordering::Relaxed);
        self.views.set(view, number);
        number
    }

    fn stripe(&self, key: &RowKey) -> Option<&Mutex<u64>> {
        let hash = key.key.iter().fold(key.view, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let index = usize::try_from(hash % STRIPES as u64).unwrap_or_default();
        self.stripes.get(index)
    }

    fn writes_of(&self, key: &RowKey) -> u64 {
        let stripe = self.stripe(key);
        stripe.map_or(0, |stripe| {
            *stripe.lock().unwrap_or_else(PoisonError::into_inner)
        })
    }

    /// Keeps a row that was read, unless its key was written since.
    fn keep(&self, key: RowKey, writes_before: u64, cached: Cached) {
        let Some(stripe) = self.stripe(&key) else {
            return;
        };
        let writes = stripe.lock().unwrap_or_else(PoisonError::into_inner);
        if *writes == writes_before {
            self.rows.insert(key, cached);
        }
    }

    fn forget(&self, view: &FeatureView, keys: &[EntityKey]) {
        let number = self.view_number(view);
        for key in keys {
            let key = row_key(number, key);
            if let Some(stripe) = self.stripe(&key) {
                let mut writes = stripe.lock().unwrap_or_else(PoisonError::into_inner);
                *writes += 1;
                self.rows.remove(&key);
            }
        }
    }
}

/// An encoding in which no two keys are the same.
fn row_key(view: u64, key: &EntityKey) -> RowKey {
    let mut bytes = Vec::with_capacity(24);
    for value in key.values() {
        match value {
            Value::Int32(value) => bytes.extend(i64::from(*value).to_le_bytes()),
            Value::Int64(value) => bytes.extend(value.to_le_bytes()),
            Value::String(text) => append(&mut bytes, text.as_bytes()),
            Value::Bytes(value) => append(&mut bytes, value),
            // No join key has another type.
            Value::Null
            | Value::Bool(_)
            | Value::Float(_)
            | Value::Double(_)
            | Value::Timestamp(_)
            | Value::List(_) => append(&mut bytes, value.to_string().as_bytes()),
        }
    }
    RowKey {
        view,
        key: bytes.into_boxed_slice(),
    }
}

fn append(bytes: &mut Vec<u8>, value: &[u8]) {
    bytes.extend(u64::try_from(value.len()).unwrap_or(u64::MAX).to_le_bytes());
    bytes.extend(value);
}

/// Forgets keys when it goes away: also where the write is given up half-way, because it may have been done.
struct Forgetting<'a> {
    store: &'a CachedStore,
    view: &'a FeatureView,
    keys: Vec<EntityKey>,
}

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        self.store.forget(self.view, &self.keys);
    }
}

/// Forgets a whole view when it goes away.
struct Renumbering<'a>(&'a CachedStore, &'a FeatureView);

impl Drop for Renumbering<'_> {
    fn drop(&mut self) {
        self.0.renumber(self.1);
    }
}

#[async_trait]
impl OnlineStore for CachedStore {
    async fn read(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<Vec<Option<StoredRow>>> {
        Ok(self.read_aged(view, keys).await?.0)
    }

    async fn read_aged(
        &self,
        view: &FeatureView,
        keys: &[EntityKey],
    ) -> Result<(Vec<Option<StoredRow>>, Duration)> {
        let number = self.view_number(view);
        let now = Instant::now();
        let mut age_bound = Duration::ZERO;
        let mut found = Vec::with_capacity(keys.len());
        let mut missed = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let row_key = row_key(number, key);
            let cached = self.rows.get(&row_key);
            let age = |cached: &Cached| now.saturating_duration_since(cached.read_at);
            match cached.filter(|cached| age(cached) <= self.age_max) {
                Some(cached) => {
                    age_bound = age_bound.max(age(&cached));
                    found.push(cached.row.as_deref().cloned());
                }
                None => {
                    let writes = self.writes_of(&row_key);
                    missed.push((index, row_key, writes));
                    found.push(None);
                }
            }
        }
        if missed.is_empty() {
            return Ok((found, age_bound));
        }
        let asked: Vec<EntityKey> = missed
            .iter()
            .filter_map(|(index, ..)| keys.get(*index).cloned())
            .collect();
        let read = self.inner.read(view, &asked).await?;
        if read.len() != missed.len() {
            return Err(Error::internal("a store that answers other keys"));
        }
        for ((index, key, writes), row) in missed.into_iter().zip(read) {
            // As old as the moment before the store was asked.
            let cached = Cached {
                row: row.clone().map(Arc::new),
                read_at: now,
            };
            self.keep(key, writes, cached);
            if let Some(slot) = found.get_mut(index) {
                *slot = row;
            }
        }
        Ok((found, age_bound))
    }

    async fn read_as_of(
        &self,
        view: &FeatureView,
        keys: &[EntityKey],
        at: Timestamp,
    ) -> Result<Vec<Option<StoredRow>>> {
        self.inner.read_as_of(view, keys, at).await
    }

    async fn write(&self, view: &FeatureView, rows: Vec<WriteRow>) -> Result<WriteCounts> {
        let keys = rows.iter().map(|write| write.key.clone()).collect();
        let _forgetting = Forgetting {
            store: self,
            view,
            keys,
        };
        self.inner.write(view, rows).await
    }

    async fn load(
        &self,
        view: &FeatureView,
        input: LoadInput,
        note: &Materialization,
    ) -> Result<WriteCounts> {
        let _renumbering = Renumbering(self, view);
        self.inner.load(view, input, note).await
    }

    async fn materializations(&self, view: &str) -> Result<Vec<MaterializationRecord>> {
        self.inner.materializations(view).await
    }

    async fn delete(&self, views: &[Arc<FeatureView>], key: &EntityKey) -> Result<u64> {
        let _forgetting: Vec<Forgetting<'_>> = views
            .iter()
            .map(|view| Forgetting {
                store: self,
                view,
                keys: vec![key.clone()],
            })
            .collect();
        self.inner.delete(views, key).await
    }

    async fn scan(&self, view: &FeatureView, scan: Scan, sink: RowSink) -> Result<()> {
        self.inner.scan(view, scan, sink).await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Timestamp;

    #[test]
    fn the_times_of_features_weigh_something() {
        let own = RowTime {
            event_timestamp: Timestamp::EPOCH,
            created_at: Timestamp::EPOCH,
        };
        let whole = StoredRow::whole(own, vec![Value::Null; 100]);
        let mut partial = whole.clone();
        partial.feature_times = Some(vec![None; 100]);
        let weight = |row: StoredRow| {
            let key = RowKey {
                view: 0,
                key: Box::default(),
            };
            let cached = Cached {
                row: Some(Arc::new(row)),
                read_at: Instant::now(),
            };
            ByBytes.weight(&key, &cached)
        };
        assert!(weight(partial) >= weight(whole) + 100 * 16);
    }
}
