//! Where features and the catalog are kept: an embedded SQLite file or a PostgreSQL database, with or without a Redis
//! before it, behind one type.
//!
//! Implements the traits that `catalog` and `features` declare; knows nothing of requests. The composition root calls
//! `open` and hands the store on.

mod definition;
mod feature_times;
mod job;
mod ledger;
mod migrations;
mod notices;
mod postgres;
mod redis;
mod release;
mod sqlite;
mod statements;
mod table;
mod tiered;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::{
    postgres::PostgresStore,
    redis::{OnlineOptions, check_online},
    sqlite::SqliteStore,
    tiered::{Refill, TieredStore},
};
use crate::{
    catalog::{Catalog, CatalogStore, FeatureView, Plan},
    config::Secret,
    error::{Error, Result},
    features::{
        EntityKey, LoadInput, Materialization, MaterializationRecord, OnlineStore, RowCache,
        RowSink, Scan, StoredRow, Timestamp, WriteCounts, WriteRow,
    },
    inference::{
        JobStore, LedgerEntry, LedgerPage, LedgerSpan, LedgerStore, RecordedVersion, Release,
        ReleaseEvent, ReleaseStore,
    },
};

/// Connections to PostgreSQL that only read by key, and are kept for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinnedOptions {
    /// How many, beside those of the pool.
    pub connections_max: usize,
    /// Queries without an answer on one of them; where each has as many, a read takes a connection of the pool.
    pub queries_max: usize,
    /// How long nothing comes on one of them before the queries that share it are asked again, on connections of the pool.
    pub wait_max: Duration,
}

impl Default for PinnedOptions {
    fn default() -> Self {
        PinnedOptions {
            connections_max: 2,
            queries_max: 4,
            wait_max: Duration::from_millis(250),
        }
    }
}

/// Which database, and how it is used; the bounds hold for both kinds.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// `postgres://…`, `postgresql://…` or `sqlite:PATH`.
    pub url: Secret,
    /// Connections at the most; with SQLite, those that read.
    pub pool_size: usize,
    /// With PostgreSQL, connections beside these.
    pub pinned: PinnedOptions,
    /// How long making a connection may take, TLS and login included; `connect_timeout` in the URL goes before it. With
    /// SQLite it is the busy timeout: how long to wait for a file that is locked.
    pub connect_timeout: Duration,
    /// How long to wait for a connection of ours to become free.
    pub acquire_timeout: Duration,
    /// How long a statement may take: the database stops it then. With SQLite, a read or write as a whole.
    pub statement_timeout: Duration,
    /// How long a load, a migration or the applying of a plan may take.
    pub load_timeout: Duration,
}

impl DatabaseOptions {
    /// The bounds that the settings have where nothing is set.
    pub fn new(url: Secret) -> Self {
        DatabaseOptions {
            url,
            pool_size: 16,
            pinned: PinnedOptions::default(),
            connect_timeout: Duration::from_secs(5),
            acquire_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(30),
            load_timeout: Duration::from_secs(3_600),
        }
    }
}

/// What is kept in a database and never in Redis: what is released of models, what they predicted, and what they have yet to.
trait Record: ReleaseStore + LedgerStore + JobStore {}

impl Record for SqliteStore {}
impl Record for PostgresStore {}

/// A store of either kind.
pub enum Store {
    /// An embedded file.
    Sqlite(Box<SqliteStore>),
    /// A database server.
    Postgres(Box<PostgresStore>),
    /// One of them, with a Redis before it.
    Tiered(Box<TieredStore>),
}

/// Opens the store that a URL names: `postgres://…`, `postgresql://…`, or `sqlite:PATH` (`sqlite://PATH` too).
///
/// # Errors
/// `InvalidArgument` for any other URL; else as `SqliteStore::open` and `PostgresStore::connect`.
pub async fn open(options: &DatabaseOptions) -> Result<Arc<Store>> {
    open_database(options).await.map(Arc::new)
}

/// Opens the store that a URL names, as `open` does, and puts a Redis before it, from which features are read then.
///
/// # Errors
/// As `open`; `InvalidArgument` for a URL of Redis that makes no sense, `FailedPrecondition` for a login that it refuses,
/// `Unavailable` where it is away.
pub async fn open_with_redis(
    options: &DatabaseOptions,
    online: &OnlineOptions,
) -> Result<Arc<Store>> {
    let record = open_database(options).await?;
    let tiered = TieredStore::open(record, online, options.load_timeout).await?;
    Ok(Arc::new(Store::Tiered(Box::new(tiered))))
}

async fn open_database(options: &DatabaseOptions) -> Result<Store> {
    let url = options.url.reveal();
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(Error::invalid(
                "database URL",
                "sqlite: needs a path after it",
            ));
        }
        let store = SqliteStore::open(Path::new(path), options).await?;
        return Ok(Store::Sqlite(Box::new(store)));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let store = PostgresStore::connect(options).await?;
        return Ok(Store::Postgres(Box::new(store)));
    }
    Err(Error::invalid(
        "database URL",
        "it begins with postgres://, postgresql:// or sqlite:",
    ))
}

/// Checks what a URL says, without connecting.
///
/// # Errors
/// `InvalidArgument` for a parameter that is unknown or has no such value.
pub fn check_url(url: &Secret) -> Result<()> {
    // The scheme is the configuration's own check.
    if !url.reveal().starts_with("postgres") {
        return Ok(());
    }
    postgres::check_url(url.reveal())
}

impl Store {
    /// Applies the migrations that the database has not had; returns their names. Safe to run from several processes.
    ///
    /// # Errors
    /// `FailedPrecondition` where the database is newer than this binary or a migration fails; nothing has changed then.
    pub async fn migrate(&self) -> Result<Vec<String>> {
        match self {
            Store::Sqlite(store) => store.migrate().await,
            Store::Postgres(store) => store.migrate().await,
            Store::Tiered(store) => Box::pin(store.record().migrate()).await,
        }
    }

    /// Checks that the database's schema is the one that this binary knows.
    ///
    /// # Errors
    /// `FailedPrecondition` where it is behind or newer.
    pub async fn check_schema(&self) -> Result<()> {
        match self {
            Store::Sqlite(store) => store.check_schema().await,
            Store::Postgres(store) => store.check_schema().await,
            Store::Tiered(store) => Box::pin(store.record().check_schema()).await,
        }
    }

    /// Fills Redis from the database; safe while others read and write. `progress` is told the view and how many of its
    /// rows have been written so far.
    ///
    /// # Errors
    /// `FailedPrecondition` where there is no Redis; `NotFound` for a view that is not defined; `InvalidArgument` for a
    /// flush of some views only; `Unavailable` where the database or Redis is away, or Redis lost data meanwhile.
    pub async fn refill(
        &self,
        refill: &Refill,
        progress: &(dyn Fn(&FeatureView, u64) + Send + Sync),
    ) -> Result<()> {
        match self {
            Store::Tiered(store) => store.refill(refill, progress).await,
            Store::Sqlite(_) | Store::Postgres(_) => Err(Error::failed_precondition(
                "there is nothing to fill: online.redis_urls is not set, so features are read from the database",
            )),
        }
    }

    /// Tells a cache of what changes, by whichever server that shares the database, until the stop. Every change is told
    /// within `stale_max`, or the cache answers nothing.
    pub async fn follow(
        &self,
        cache: Arc<RowCache>,
        stale_max: Duration,
        stop: &CancellationToken,
    ) {
        match self {
            Store::Sqlite(store) => store.follow(cache, stale_max, stop).await,
            Store::Postgres(store) => store.follow(cache, stale_max, stop).await,
            Store::Tiered(store) => Box::pin(store.record().follow(cache, stale_max, stop)).await,
        }
    }

    /// Tells every server that follows that some rows of a view have changed; without keys, any.
    async fn tell(&self, view: &FeatureView, keys: Option<&[EntityKey]>) -> Result<()> {
        match self {
            Store::Sqlite(store) => store.tell(view, keys).await,
            Store::Postgres(store) => store.tell(view, keys).await,
            Store::Tiered(store) => Box::pin(store.record().tell(view, keys)).await,
        }
    }

    /// The servers of the Redis from which features are read, as host and port; none where there is none.
    pub fn redis_address(&self) -> Option<&str> {
        match self {
            Store::Tiered(store) => Some(store.address()),
            Store::Sqlite(_) | Store::Postgres(_) => None,
        }
    }

    fn online(&self) -> &dyn OnlineStore {
        match self {
            Store::Sqlite(store) => store.as_ref(),
            Store::Postgres(store) => store.as_ref(),
            Store::Tiered(store) => store.as_ref(),
        }
    }

    /// What only the record keeps.
    fn record(&self) -> &dyn Record {
        match self {
            Store::Sqlite(store) => store.as_ref(),
            Store::Postgres(store) => store.as_ref(),
            Store::Tiered(store) => store.record().record(),
        }
    }

    fn catalog(&self) -> &dyn CatalogStore {
        match self {
            Store::Sqlite(store) => store.as_ref(),
            Store::Postgres(store) => store.as_ref(),
            Store::Tiered(store) => store.as_ref(),
        }
    }
}

#[async_trait]
impl OnlineStore for Store {
    async fn read(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<Vec<Option<StoredRow>>> {
        self.online().read(view, keys).await
    }

    async fn read_as_of(
        &self,
        view: &FeatureView,
        keys: &[EntityKey],
        at: Timestamp,
    ) -> Result<Vec<Option<StoredRow>>> {
        self.online().read_as_of(view, keys, at).await
    }

    async fn write(&self, view: &FeatureView, rows: Vec<WriteRow>) -> Result<WriteCounts> {
        self.online().write(view, rows).await
    }

    async fn write_returning(
        &self,
        view: &FeatureView,
        rows: Vec<WriteRow>,
    ) -> Result<(WriteCounts, Vec<WriteRow>)> {
        self.online().write_returning(view, rows).await
    }

    async fn load(
        &self,
        view: &FeatureView,
        input: LoadInput,
        note: &Materialization,
    ) -> Result<WriteCounts> {
        self.online().load(view, input, note).await
    }

    async fn materializations(&self, view: &str) -> Result<Vec<MaterializationRecord>> {
        self.online().materializations(view).await
    }

    async fn delete(&self, views: &[Arc<FeatureView>], key: &EntityKey) -> Result<u64> {
        self.online().delete(views, key).await
    }

    async fn scan(&self, view: &FeatureView, scan: Scan, sink: RowSink) -> Result<()> {
        self.online().scan(view, scan, sink).await
    }

    async fn ping(&self) -> Result<()> {
        self.online().ping().await
    }
}

#[async_trait]
impl CatalogStore for Store {
    async fn load_catalog(&self) -> Result<Catalog> {
        self.catalog().load_catalog().await
    }

    async fn catalog_revision(&self) -> Result<i64> {
        self.catalog().catalog_revision().await
    }

    async fn apply_plan(&self, plan: &Plan) -> Result<Catalog> {
        self.catalog().apply_plan(plan).await
    }
}

#[async_trait]
impl ReleaseStore for Store {
    async fn releases(&self) -> Result<BTreeMap<String, Release>> {
        self.record().releases().await
    }

    async fn releases_revision(&self) -> Result<i64> {
        self.record().releases_revision().await
    }

    async fn put_release(&self, release: &Release, event: &ReleaseEvent) -> Result<bool> {
        self.record().put_release(release, event).await
    }

    async fn release_events(&self, model: &str, limit: usize) -> Result<Vec<ReleaseEvent>> {
        self.record().release_events(model, limit).await
    }
}

#[async_trait]
impl LedgerStore for Store {
    async fn append_predictions(&self, entries: &Arc<[LedgerEntry]>) -> Result<()> {
        self.record().append_predictions(entries).await
    }

    async fn prediction(&self, id: Uuid) -> Result<Option<LedgerEntry>> {
        self.record().prediction(id).await
    }

    async fn predictions(&self, span: &LedgerSpan, limit: usize) -> Result<LedgerPage> {
        self.record().predictions(span, limit).await
    }

    async fn recorded_versions(&self, model: &str) -> Result<Vec<Arc<RecordedVersion>>> {
        self.record().recorded_versions(model).await
    }

    async fn drop_predictions(&self, before: Timestamp) -> Result<bool> {
        self.record().drop_predictions(before).await
    }
}
