//! Two stores as one: a database, which is the record, and a Redis, from which features are read.
//!
//! Everything is written to the record first and to Redis after it, so what Redis holds is never newer. Redis can be lost:
//! that is noticed (`redis::markers`), and a refill brings back all rows from the record while requests go on. `pair` does
//! what has two halves, `load` and `refill` fill Redis from the record, `empty` knows when there is nothing to fill.

mod empty;
mod load;
mod pair;
mod refill;

use std::{borrow::Cow, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use self::refill::Refill;
use self::{empty::Emptiness, pair::Pair};
use super::{
    Store,
    redis::{Found, OnlineOptions, RedisStore},
    table::{check_keys, is_storable},
};
use crate::{
    catalog::{Catalog, CatalogStore, FeatureView, PerView, Plan},
    error::{Error, Result},
    features::{
        EntityKey, LoadInput, Materialization, MaterializationRecord, OnlineStore, RowSink, Scan,
        StoredRow, Timestamp, WriteCounts, WriteRow,
    },
};

/// A database with a Redis before it.
pub struct TieredStore {
    pair: Arc<Pair>,
    emptiness: Emptiness,
    /// Views as work that outlives its caller can hold them.
    views: PerView<Arc<FeatureView>>,
}

impl TieredStore {
    /// Puts a Redis before a record.
    ///
    /// # Errors
    /// As `RedisStore::open`.
    pub(super) async fn open(
        record: Store,
        options: &OnlineOptions,
        load_timeout: Duration,
    ) -> Result<TieredStore> {
        let pair = Pair {
            record,
            redis: RedisStore::open(options).await?,
            load_timeout,
        };
        Ok(TieredStore {
            pair: Arc::new(pair),
            emptiness: Emptiness::default(),
            views: PerView::default(),
        })
    }

    /// The database.
    pub(super) fn record(&self) -> &Store {
        &self.pair.record
    }

    /// The servers of Redis, as host and port.
    pub(super) fn address(&self) -> &str {
        self.pair.redis.address()
    }

    /// Fills Redis from the record: see `Pair::refill`.
    ///
    /// # Errors
    /// As `Pair::refill`.
    pub(super) async fn refill(
        &self,
        refill: &Refill,
        progress: &(dyn Fn(&FeatureView, u64) + Send + Sync),
    ) -> Result<()> {
        self.pair.refill(refill, progress).await
    }

    /// What work needs that outlives its caller.
    fn held(&self, view: &FeatureView) -> (Arc<Pair>, Arc<FeatureView>) {
        let make = FeatureView::held;
        (Arc::clone(&self.pair), self.views.get_or_make(view, make))
    }

    /// Before the first row is written, an empty record says that Redis, empty too, is all there is.
    async fn before_writing(&self) -> Result<()> {
        if !self.pair.redis.was_filled() {
            self.emptiness.fill_of_nothing(&self.pair).await?;
        }
        Ok(())
    }

    fn unfilled(&self) -> Error {
        Error::unavailable(format!(
            "Redis at {} has lost features, or was never filled; `ferrocast refill` brings them back from the database",
            self.pair.redis.address()
        ))
    }

    /// Reads from the record what Redis holds and cannot read.
    async fn read_from_record(
        &self,
        view: &FeatureView,
        keys: Vec<(usize, EntityKey)>,
        rows: &mut [Option<StoredRow>],
    ) -> Result<()> {
        let (positions, keys): (Vec<usize>, Vec<EntityKey>) = keys.into_iter().unzip();
        let found = self.pair.record.read(view, &keys).await?;
        for (position, row) in positions.into_iter().zip(found) {
            if let Some(slot) = rows.get_mut(position) {
                *slot = row;
            }
        }
        Ok(())
    }
}

/// Does work to its end, though its caller may be gone by then; what goes wrong without one is logged.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (teller, told) = oneshot::channel();
    let work = async move {
        if let Err(Err(fault)) = teller.send(work.await) {
            tracing::warn!(%fault, "a change whose caller is gone did not get done");
        }
    };
    tokio::spawn(work.in_current_span());
    let done = told.await;
    done.map_err(|fault| Error::internal("a change of the store broke off").with_source(fault))?
}

#[async_trait]
impl OnlineStore for TieredStore {
    async fn read(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<Vec<Option<StoredRow>>> {
        if view.table.is_some() {
            return self.pair.record.read(view, keys).await;
        }
        check_keys(view, keys)?;
        // What nobody can have written is not asked for.
        let wanted: Cow<'_, [EntityKey]> = match keys.iter().all(is_storable) {
            true => Cow::Borrowed(keys),
            false => keys
                .iter()
                .filter(|key| is_storable(key))
                .cloned()
                .collect(),
        };
        let reading = self.pair.redis.read(view, &wanted).await?;
        if !reading.is_filled && !self.emptiness.fill_of_nothing(&self.pair).await? {
            return Err(self.unfilled());
        }
        let mut rows = vec![None; keys.len()];
        let mut unreadable = Vec::new();
        let asked = keys.iter().enumerate().filter(|(_, key)| is_storable(key));
        for ((position, key), found) in asked.zip(reading.found) {
            match (found, rows.get_mut(position)) {
                (Found::Row(row), Some(slot)) => *slot = Some(row),
                (Found::Unreadable, _) => unreadable.push((position, key.clone())),
                (Found::Row(_) | Found::Nothing, _) => {}
            }
        }
        if !unreadable.is_empty() {
            self.read_from_record(view, unreadable, &mut rows).await?;
        }
        Ok(rows)
    }

    async fn read_as_of(
        &self,
        view: &FeatureView,
        keys: &[EntityKey],
        at: Timestamp,
    ) -> Result<Vec<Option<StoredRow>>> {
        self.pair.record.read_as_of(view, keys, at).await
    }

    async fn write(&self, view: &FeatureView, rows: Vec<WriteRow>) -> Result<WriteCounts> {
        self.before_writing().await?;
        let (pair, view) = self.held(view);
        to_the_end(async move { pair.write(&view, rows).await }).await
    }

    async fn load(
        &self,
        view: &FeatureView,
        input: LoadInput,
        note: &Materialization,
    ) -> Result<WriteCounts> {
        self.before_writing().await?;
        let (pair, view) = self.held(view);
        let note = note.clone();
        let abandoned = CancellationToken::new();
        let _guard = abandoned.clone().drop_guard();
        to_the_end(async move { pair.load(&view, input, &note, &abandoned).await }).await
    }

    async fn materializations(&self, view: &str) -> Result<Vec<MaterializationRecord>> {
        let mut records = self.pair.record.materializations(view).await?;
        if !records.is_empty() && self.pair.is_owing(view).await {
            // What Redis may lack is not taken for loaded; the watermarks are the record's own.
            for record in &mut records {
                record.note.digest.clear();
            }
        }
        Ok(records)
    }

    async fn delete(&self, views: &[Arc<FeatureView>], key: &EntityKey) -> Result<u64> {
        let pair = Arc::clone(&self.pair);
        let (views, key) = (views.to_vec(), key.clone());
        to_the_end(async move { pair.delete(&views, &key).await }).await
    }

    async fn scan(&self, view: &FeatureView, scan: Scan, sink: RowSink) -> Result<()> {
        self.pair.record.scan(view, scan, sink).await
    }

    async fn ping(&self) -> Result<()> {
        self.pair.record.ping().await?;
        self.pair.redis.ping().await?;
        // What refuses reads.
        if !self.pair.redis.is_filled().await?
            && !self.emptiness.fill_of_nothing(&self.pair).await?
        {
            return Err(self.unfilled());
        }
        Ok(())
    }
}

#[async_trait]
impl CatalogStore for TieredStore {
    async fn load_catalog(&self) -> Result<Catalog> {
        self.pair.record.load_catalog().await
    }

    async fn catalog_revision(&self) -> Result<i64> {
        self.pair.record.catalog_revision().await
    }

    async fn apply_plan(&self, plan: &Plan) -> Result<Catalog> {
        self.before_writing().await?;
        let (pair, plan) = (Arc::clone(&self.pair), plan.clone());
        to_the_end(async move { pair.apply(&plan).await }).await
    }
}
