//! Two stores as one: a database, which is the record, and a Redis, from which features are read.
//!
//! Everything is written to the record first and to Redis after it, so what Redis holds is never newer. Redis can be lost:
//! that is noticed (`redis::markers`), and a refill brings back all rows from the record while requests go on.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    Store,
    redis::{Found, OnlineOptions, RedisStore},
    table::{check_keys, combined, is_storable},
};
use crate::{
    catalog::{Catalog, CatalogStore, FeatureView, Plan, TableChange},
    error::{Error, ErrorKind, Result},
    features::{
        EntityKey, LoadInput, Materialization, MaterializationRecord, OnlineStore, RowBatches,
        RowSink, Scan, StoredRow, Timestamp, WriteCounts, WriteRow,
    },
};

/// Batches of a scan that may wait for Redis.
const BATCHES_WAITING_MAX: usize = 2;

/// A database with a Redis before it.
pub struct TieredStore {
    record: Store,
    redis: Arc<RedisStore>,
    load_timeout: Duration,
    /// When the record was last seen to have rows while Redis lacked them.
    has_rows_since: Mutex<Option<Instant>>,
}

/// What a refill does.
#[derive(Debug, Clone, Default)]
pub struct Refill {
    /// Only these views; none: all of them, and only then does Redis count as filled.
    pub views: Vec<String>,
    /// Takes away every key of ours first; reads are refused until the refill is done.
    pub flush: bool,
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
        Ok(TieredStore {
            record,
            redis: RedisStore::open(options).await?,
            load_timeout,
            has_rows_since: Mutex::default(),
        })
    }

    /// The database.
    pub(super) fn record(&self) -> &Store {
        &self.record
    }

    /// The servers of Redis, as host and port.
    pub(super) fn address(&self) -> &str {
        self.redis.address()
    }

    /// Fills Redis from the record. Safe while others read and write: newer rows stay. `progress` is told the view and how
    /// many of its rows have been written so far.
    ///
    /// # Errors
    /// `NotFound` for a view that is not defined; `InvalidArgument` for a flush of some views only; `Unavailable` where
    /// the record or Redis is away, or Redis lost data meanwhile.
    pub(super) async fn refill(
        &self,
        refill: &Refill,
        progress: &(dyn Fn(&FeatureView, u64) + Send + Sync),
    ) -> Result<()> {
        let is_whole = refill.views.is_empty();
        if refill.flush && !is_whole {
            return Err(Error::invalid(
                "--flush",
                "takes away the rows of all views; give no views with it",
            ));
        }
        let catalog = self.record.load_catalog().await?;
        let views = match is_whole {
            true => catalog.views.values().collect(),
            false => refill
                .views
                .iter()
                .map(|name| catalog.view(name))
                .collect::<Result<Vec<_>>>()?,
        };
        let token = match is_whole {
            true => Some(self.redis.begin_refill().await?),
            false => None,
        };
        if refill.flush {
            self.redis.mark_unfilled().await?;
            self.redis.remove_everything().await?;
        }
        for view in views.into_iter().filter(|view| view.table.is_none()) {
            let told = |rows| progress(view, rows);
            self.fill(view, Scan::default(), &told).await?;
        }
        match token {
            Some(token) => self.redis.end_refill(&token).await,
            None => Ok(()),
        }
    }

    /// Writes the rows of a scan of the record to Redis.
    async fn fill(
        &self,
        view: &FeatureView,
        scan: Scan,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<()> {
        let (sink, mut batches) = mpsc::channel::<Vec<WriteRow>>(BATCHES_WAITING_MAX);
        let scanning = self.record.scan(view, scan, sink);
        let writing = async {
            let mut rows = 0;
            while let Some(batch) = batches.recv().await {
                self.redis.put(view, &batch, &self.record).await?;
                rows += u64::try_from(batch.len()).unwrap_or(u64::MAX);
                progress(rows);
            }
            Ok(())
        };
        let both = async { tokio::try_join!(scanning, writing) };
        match timeout(self.load_timeout, Box::pin(both)).await {
            Ok(done) => done.map(|_| ()),
            Err(_) => Err(Error::unavailable(format!(
                "filling Redis at {} with the feature view \"{}\" took longer than {} ms (database.load_ms_max)",
                self.redis.address(),
                view.name,
                self.load_timeout.as_millis()
            ))),
        }
    }

    /// Whether Redis holds all rows, where its markers are missing: it does where the record has none.
    ///
    /// # Errors
    /// `Unavailable` where the record or Redis is away.
    async fn fill_of_nothing(&self) -> Result<bool> {
        // A record with rows keeps some: not every refused request has to look.
        let seen = *self.rows_seen();
        if seen.is_some_and(|at| at.elapsed() < self.redis.probe_interval()) {
            return Ok(false);
        }
        // Another process may have filled it meanwhile.
        if self.redis.is_filled().await? {
            return Ok(true);
        }
        let catalog = self.record.load_catalog().await?;
        for view in catalog.views.values().filter(|view| view.table.is_none()) {
            if self.has_rows(view).await? {
                *self.rows_seen() = Some(Instant::now());
                return Ok(false);
            }
        }
        self.redis.mark_filled().await?;
        Ok(true)
    }

    fn unfilled(&self) -> Error {
        Error::unavailable(format!(
            "Redis at {} has lost features, or was never filled; `ferrocast refill` brings them back from the database",
            self.redis.address()
        ))
    }

    fn rows_seen(&self) -> MutexGuard<'_, Option<Instant>> {
        let guard = self.has_rows_since.lock();
        guard.unwrap_or_else(PoisonError::into_inner)
    }

    async fn has_rows(&self, view: &FeatureView) -> Result<bool> {
        let (sink, mut batches) = mpsc::channel(1);
        let scanning = self.record.scan(view, Scan::default(), sink);
        let looking = async {
            let found = batches.recv().await;
            // A receiver that goes away ends the scan.
            drop(batches);
            found.is_some_and(|rows: Vec<WriteRow>| !rows.is_empty())
        };
        let (scanned, has_rows) = tokio::join!(scanning, looking);
        scanned.map(|()| has_rows)
    }

    /// Before the first row is written, an empty record says that Redis, empty too, is all there is.
    async fn before_writing(&self) -> Result<()> {
        if !self.redis.was_filled() {
            self.fill_of_nothing().await?;
        }
        Ok(())
    }

    /// The record has done its part and Redis has not.
    fn half_done(&self, done: &str, what_helps: &str, fault: Error) -> Error {
        Error::new(
            ErrorKind::Unavailable,
            format!("{done} in the database and not yet in Redis: {fault}. {what_helps}"),
        )
        .with_source(fault)
    }

    /// Reads from the record what Redis holds and cannot read.
    async fn read_from_record(
        &self,
        view: &FeatureView,
        keys: Vec<(usize, EntityKey)>,
        rows: &mut [Option<StoredRow>],
    ) -> Result<()> {
        let (positions, keys): (Vec<usize>, Vec<EntityKey>) = keys.into_iter().unzip();
        let found = self.record.read(view, &keys).await?;
        for (position, row) in positions.into_iter().zip(found) {
            if let Some(slot) = rows.get_mut(position) {
                *slot = row;
            }
        }
        Ok(())
    }

    /// After a plan: the keys of views that went, and of what had the name of a new one before.
    async fn follow(&self, plan: &Plan) -> Result<()> {
        let is_changed = |change: &TableChange| match change {
            TableChange::Create | TableChange::Drop | TableChange::Recreate => true,
            TableChange::Keep | TableChange::Alter { .. } => false,
        };
        let changed = || plan.views.iter().filter(|view| is_changed(&view.table));
        let names: Vec<&str> = changed().map(|change| change.view.name.as_str()).collect();
        if names.is_empty() {
            return Ok(());
        }
        self.redis.remove_views(&names).await?;
        // Others may have written to a new view already.
        for change in changed().filter(|change| change.table != TableChange::Drop) {
            self.fill(&change.view, Scan::default(), &|_| ()).await?;
        }
        Ok(())
    }
}

/// Passes batches on, and notes the oldest event timestamp among them.
async fn oldest_of(
    mut batches: RowBatches,
    onward: mpsc::Sender<Option<Result<Vec<WriteRow>>>>,
) -> Option<Timestamp> {
    let mut oldest: Option<Timestamp> = None;
    while let Some(message) = batches.recv().await {
        let is_last = !matches!(message, Some(Ok(_)));
        if let Some(Ok(rows)) = &message {
            let of_rows = rows.iter().map(|write| write.row.event_timestamp);
            oldest = oldest.into_iter().chain(of_rows).min();
        }
        if onward.send(message).await.is_err() || is_last {
            break;
        }
    }
    oldest
}

#[async_trait]
impl OnlineStore for TieredStore {
    async fn read(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<Vec<Option<StoredRow>>> {
        if view.table.is_some() {
            return self.record.read(view, keys).await;
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
        let reading = self.redis.read(view, &wanted).await?;
        if !reading.is_filled && !self.fill_of_nothing().await? {
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

    async fn write(&self, view: &FeatureView, rows: Vec<WriteRow>) -> Result<WriteCounts> {
        self.before_writing().await?;
        let counts = self.record.write(view, rows.clone()).await?;
        let newest: Vec<WriteRow> = combined(rows).into_iter().map(|c| c.write).collect();
        let put = self.redis.put(view, &newest, &self.record).await;
        put.map_err(|fault| {
            self.half_done(
                "the rows are written",
                "The same call can be repeated",
                fault,
            )
        })?;
        Ok(counts)
    }

    async fn load(
        &self,
        view: &FeatureView,
        input: LoadInput,
        note: &Materialization,
    ) -> Result<WriteCounts> {
        self.before_writing().await?;
        let (counts, since) = match input {
            LoadInput::Rows(batches) => {
                let (onward, forwarded) = mpsc::channel(1);
                let loading = self.record.load(view, LoadInput::Rows(forwarded), note);
                let (counts, oldest) = tokio::join!(loading, oldest_of(batches, onward));
                match (counts?, oldest) {
                    (counts, None) => return Ok(counts),
                    (counts, oldest) => (counts, oldest),
                }
            }
            LoadInput::Query { since } => {
                let query = LoadInput::Query { since };
                (self.record.load(view, query, note).await?, since)
            }
        };
        let scan = Scan {
            history: false,
            since,
        };
        let filled = self.fill(view, scan, &|_| ()).await;
        filled.map_err(|fault| {
            let what_helps = format!("`ferrocast refill {}` brings them there", view.name);
            self.half_done("the rows are loaded", &what_helps, fault)
        })?;
        Ok(counts)
    }

    async fn materializations(&self, view: &str) -> Result<Vec<MaterializationRecord>> {
        self.record.materializations(view).await
    }

    async fn delete(&self, views: &[Arc<FeatureView>], key: &EntityKey) -> Result<u64> {
        let count = self.record.delete(views, key).await?;
        let forgotten = self.redis.forget(views, key, &self.record).await;
        forgotten.map_err(|fault| {
            self.half_done(
                "the entity is deleted",
                "The same call can be repeated",
                fault,
            )
        })?;
        Ok(count)
    }

    async fn scan(&self, view: &FeatureView, scan: Scan, sink: RowSink) -> Result<()> {
        self.record.scan(view, scan, sink).await
    }

    async fn ping(&self) -> Result<()> {
        self.record.ping().await?;
        self.redis.ping().await?;
        // What refuses reads.
        if !self.redis.is_filled().await? && !self.fill_of_nothing().await? {
            return Err(self.unfilled());
        }
        Ok(())
    }
}

#[async_trait]
impl CatalogStore for TieredStore {
    async fn load_catalog(&self) -> Result<Catalog> {
        self.record.load_catalog().await
    }

    async fn catalog_revision(&self) -> Result<i64> {
        self.record.catalog_revision().await
    }

    async fn apply_plan(&self, plan: &Plan) -> Result<Catalog> {
        self.before_writing().await?;
        let catalog = self.record.apply_plan(plan).await?;
        self.follow(plan).await.map_err(|fault| {
            let what_helps = "`ferrocast refill --flush` makes Redis as the definitions say";
            self.half_done("the definitions are applied", what_helps, fault)
        })?;
        Ok(catalog)
    }
}
