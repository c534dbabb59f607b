//! Stores, views and rows to test with.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ferrocast::{
    catalog::{
        ApplyOptions, Catalog, CatalogStore, Definitions, FeatureView, Plan, apply_definitions,
    },
    config::Secret,
    error::{Error, ErrorKind, Result},
    features::{
        EntityKey, LoadInput, Materialization, OnlineStore, RowTime, Scan, StoredRow, Timestamp,
        Value, WriteCounts, WriteRow,
    },
    stores::{DatabaseOptions, OnlineOptions, Store, open, open_with_redis},
};
use tokio::sync::mpsc;

use crate::{
    postgres::Postgres,
    redis_server::{Redis, RedisCluster, fresh_prefix},
};

/// A store on a fresh database, migrated.
pub struct Fixture {
    pub store: Arc<Store>,
    pub url: String,
    /// The Redis before the database.
    pub online: Option<OnlineOptions>,
    /// The folder of a SQLite file, taken away at the end.
    _folder: Option<tempfile::TempDir>,
}

impl Fixture {
    /// A second store on the same database, as another process would have.
    pub async fn another(&self) -> Arc<Store> {
        open_store(&self.url, self.online.as_ref()).await
    }

    pub fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite:")
    }

    /// Runs SQL by hand, in the database that keeps the tables.
    pub async fn execute(&self, sql: &str) {
        match self.url.strip_prefix("sqlite:") {
            Some(path) => rusqlite::Connection::open(path)
                .unwrap()
                .execute_batch(sql)
                .unwrap(),
            None => {
                let database = self.url.rsplit('/').next().unwrap();
                let client = Postgres::shared().connect(database).await;
                client.batch_execute(sql).await.unwrap();
            }
        }
    }

    /// Takes away our own tables but for some, those of views left out: a database of an older schema, or of none.
    pub async fn drop_own_tables_but(&self, kept: &[&str]) {
        let is_dropped = |name: &String| {
            let is_own = name.starts_with("ferrocast_") || name.starts_with("refinery_");
            is_own && !kept.contains(&name.as_str())
        };
        let (names, before, after): (Vec<String>, _, _) =
            if let Some(path) = self.url.strip_prefix("sqlite:") {
                let connection = rusqlite::Connection::open(path).unwrap();
                let sql = "SELECT name FROM sqlite_master WHERE type = 'table'";
                let mut select = connection.prepare(sql).unwrap();
                let names = select.query_map([], |row| row.get(0)).unwrap();
                let names = names.map(Result::unwrap).collect();
                (names, "PRAGMA foreign_keys = off; ", "")
            } else {
                let database = self.url.rsplit('/').next().unwrap();
                let client = Postgres::shared().connect(database).await;
                let sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
                let rows = client.query(sql, &[]).await.unwrap();
                (rows.iter().map(|row| row.get(0)).collect(), "", " CASCADE")
            };
        let drops = names
            .iter()
            .filter(|name| is_dropped(name))
            .map(|name| format!("DROP TABLE IF EXISTS {name}{after}; "));
        self.execute(&format!("{before}{}", drops.collect::<String>()))
            .await;
    }

    /// A point in time as the database's SQL writes it.
    pub fn sql_time(&self, timestamp: Timestamp) -> String {
        if self.is_sqlite() {
            timestamp.micros().to_string()
        } else {
            format!("'{timestamp}'::timestamptz")
        }
    }

    /// The type of a column with points in time.
    pub fn sql_time_type(&self) -> &'static str {
        if self.is_sqlite() {
            "bigint"
        } else {
            "timestamptz"
        }
    }

    /// Applies a definitions file, whatever is lost by it; returns its views as the catalog has them then.
    pub async fn apply(&self, text: &str) -> Vec<Arc<FeatureView>> {
        let definitions = Definitions::parse(text).unwrap();
        let catalog = self.try_apply(text).await.unwrap();
        let views = definitions.views.iter();
        views
            .map(|view| Arc::clone(catalog.view(&view.name).unwrap()))
            .collect()
    }

    pub async fn try_apply(&self, text: &str) -> Result<Catalog> {
        let definitions = Definitions::parse(text).unwrap();
        let applied = apply_definitions(self.store.as_ref(), &definitions, LOSSY).await;
        applied.map(|(_, catalog)| catalog)
    }

    /// A plan for a definitions file, against the catalog as it is.
    pub async fn plan(&self, text: &str) -> Plan {
        let catalog = self.store.load_catalog().await.unwrap();
        Plan::new(&catalog, &Definitions::parse(text).unwrap()).unwrap()
    }

    /// The view of a name as the catalog has it.
    pub async fn view(&self, name: &str) -> Arc<FeatureView> {
        let catalog = self.store.load_catalog().await.unwrap();
        Arc::clone(catalog.view(name).unwrap())
    }

    pub async fn write(&self, view: &FeatureView, rows: Vec<WriteRow>) -> WriteCounts {
        self.store.write(view, rows).await.unwrap()
    }

    /// The row of a key.
    pub async fn row(&self, view: &FeatureView, key: EntityKey) -> Option<StoredRow> {
        let mut found = self.store.read(view, &[key]).await.unwrap();
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    /// Loads rows, under a note of their own.
    pub async fn load(&self, view: &FeatureView, rows: Vec<WriteRow>) -> WriteCounts {
        let messages = vec![Some(Ok(rows)), None];
        let note = note_of(view, "loaded");
        load(&self.store, view, messages, &note).await.unwrap()
    }

    /// Whatever a scan gives.
    pub async fn scan(&self, view: &FeatureView, scan: Scan) -> Result<Vec<WriteRow>> {
        let (sink, mut batches) = mpsc::channel(1);
        let scanning = self.store.scan(view, scan, sink);
        let collecting = async {
            let mut rows = Vec::new();
            while let Some(batch) = batches.recv().await {
                rows.extend(batch);
            }
            rows
        };
        let (scanned, rows) = tokio::join!(scanning, collecting);
        scanned.map(|()| rows)
    }

    /// The rows of a view's history, in the order of their times and values.
    pub async fn history(&self, view: &FeatureView) -> Vec<WriteRow> {
        let scan = Scan {
            history: true,
            since: None,
        };
        in_order(self.scan(view, scan).await.unwrap())
    }
}

/// The names of our migrations from a version on, by their files.
pub fn migrations_from(version: usize) -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/postgres");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.strip_suffix(".sql").unwrap().to_owned()
    });
    let mut names: Vec<(usize, String)> = names
        .map(|name| (name[1..].split('_').next().unwrap().parse().unwrap(), name))
        .collect();
    names.sort();
    let names = names.into_iter().filter(|(number, _)| *number >= version);
    names.map(|(_, name)| name).collect()
}

/// Rows in the order of their times and of all else.
pub fn in_order(mut rows: Vec<WriteRow>) -> Vec<WriteRow> {
    rows.sort_by_key(|write| (write.row.time(), format!("{write:?}")));
    rows
}

/// Changes that lose data are made.
pub const LOSSY: ApplyOptions = ApplyOptions {
    dry_run: false,
    allow_data_loss: true,
};

/// What a source sends to a load.
pub type Message = Option<Result<Vec<WriteRow>, Error>>;

/// Loads messages; the sender goes away after them.
pub async fn load(
    store: &Store,
    view: &FeatureView,
    messages: Vec<Message>,
    note: &Materialization,
) -> Result<WriteCounts> {
    let (sender, batches) = mpsc::channel(messages.len().max(1));
    for message in messages {
        sender.try_send(message).unwrap();
    }
    drop(sender);
    store.load(view, LoadInput::Rows(batches), note).await
}

pub async fn open_url(url: &str) -> Arc<Store> {
    open_store(url, None).await
}

/// Longer than anything takes on a busy machine.
pub const WAIT_MAX: Duration = Duration::from_secs(120);

/// Tries until it works; every failure on the way has to be `Unavailable`.
pub async fn until_it_works<T>(mut work: impl AsyncFnMut() -> Result<T>) -> T {
    let give_up_at = Instant::now() + WAIT_MAX;
    loop {
        match work().await {
            Ok(done) => return done,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                assert!(Instant::now() < give_up_at, "no recovery: {error:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

pub async fn open_store(url: &str, online: Option<&OnlineOptions>) -> Arc<Store> {
    let mut options = DatabaseOptions::new(Secret::from(url));
    options.pool_size = 4;
    options.connect_timeout = BUSY_MACHINE;
    options.acquire_timeout = BUSY_MACHINE;
    options.statement_timeout = BUSY_MACHINE;
    match online {
        // A test that is to find a server away waits for it less than a busy machine may need.
        Some(online) => until_it_works(async || open_with_redis(&options, online).await).await,
        None => open(&options).await.unwrap(),
    }
}

/// A machine busy with other tests is no fault of the store's.
const BUSY_MACHINE: Duration = Duration::from_secs(60);

pub async fn sqlite() -> Fixture {
    let (url, folder) = sqlite_file();
    fixture(url, None, Some(folder)).await
}

pub async fn postgres() -> Fixture {
    let url = Postgres::shared().fresh_database().await;
    fixture(url, None, None).await
}

/// SQLite with a Redis before it.
pub async fn redis() -> Fixture {
    redis_at([Redis::shared().url()]).await
}

/// SQLite with a Redis Cluster before it.
pub async fn redis_cluster() -> Fixture {
    redis_at(RedisCluster::shared().urls()).await
}

/// Postgres with a Redis before it.
pub async fn redis_before_postgres() -> Fixture {
    let url = Postgres::shared().fresh_database().await;
    fixture(url, Some(online([Redis::shared().url()])), None).await
}

/// SQLite with a Redis of the test's choice before it.
pub async fn redis_at(urls: impl IntoIterator<Item = String>) -> Fixture {
    redis_with(online(urls)).await
}

/// SQLite with a Redis before it that is used as the test likes.
pub async fn redis_with(online: OnlineOptions) -> Fixture {
    let (url, folder) = sqlite_file();
    fixture(url, Some(online), Some(folder)).await
}

/// A prefix of its own at some servers.
pub fn online(urls: impl IntoIterator<Item = String>) -> OnlineOptions {
    let urls = urls.into_iter().map(Secret::from).collect();
    let mut options = OnlineOptions::new(urls);
    options.key_prefix = fresh_prefix();
    options.connect_timeout = BUSY_MACHINE;
    options.command_timeout = BUSY_MACHINE;
    options
}

fn sqlite_file() -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("store.db").display());
    (url, folder)
}

async fn fixture(
    url: String,
    online: Option<OnlineOptions>,
    folder: Option<tempfile::TempDir>,
) -> Fixture {
    let store = open_store(&url, online.as_ref()).await;
    store.migrate().await.unwrap();
    Fixture {
        store,
        url,
        online,
        _folder: folder,
    }
}

/// A definitions file with one view that keeps a history.
pub fn one_view_with_history(name: &str, keys: &str, features: &str) -> String {
    format!("{}history = true\n", one_view(name, keys, features))
}

/// A definitions file with one view, its keys and features as TOML tables. What follows belongs to the view.
pub fn one_view(name: &str, keys: &str, features: &str) -> String {
    format!(
        r#"
        project = "demo"
        [[entities]]
        name = "thing"
        join_keys = [{keys}]
        [[feature_views]]
        name = "{name}"
        entity = "thing"
        features = [{features}]
        "#
    )
}

pub const ID: &str = r#"{ name = "id", type = "int64" }"#;
pub const X: &str = r#"{ name = "x", type = "double" }"#;
pub const Y: &str = r#"{ name = "y", type = "double" }"#;

/// One view `numbers` with the key `id` and the feature `x`.
pub async fn numbers(fixture: &Fixture) -> Arc<FeatureView> {
    fixture.apply(&one_view("numbers", ID, X)).await.remove(0)
}

/// The same in an empty database of the test's own.
pub async fn numbers_in(store: &Store) -> Arc<FeatureView> {
    store.migrate().await.unwrap();
    let definitions = Definitions::parse(&one_view("numbers", ID, X)).unwrap();
    apply_definitions(store, &definitions, LOSSY).await.unwrap();
    Arc::clone(&definitions.views[0])
}

pub fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

pub fn key(values: impl IntoIterator<Item = Value>) -> EntityKey {
    EntityKey::new(values.into_iter().collect::<Vec<_>>()).unwrap()
}

pub fn id(id: i64) -> EntityKey {
    key([Value::Int64(id)])
}

pub fn time(event: i64, created: i64) -> RowTime {
    RowTime {
        event_timestamp: at(event),
        created_at: at(created),
    }
}

/// A row that says something about every feature.
pub fn write_row(key: EntityKey, event: i64, created: i64, values: Vec<Value>) -> WriteRow {
    WriteRow {
        key,
        row: StoredRow::whole(time(event, created), values),
    }
}

/// A row that says nothing about the features that are none.
pub fn part(key: EntityKey, event: i64, created: i64, cells: &[Option<Value>]) -> WriteRow {
    WriteRow {
        key,
        row: StoredRow::partial(time(event, created), cells.to_vec()),
    }
}

/// What a row says of each feature: its value and its time; none where it was never written.
pub fn cells(row: &StoredRow) -> Vec<Option<(Value, RowTime)>> {
    let values = row.values.iter().enumerate();
    values
        .map(|(index, value)| row.feature_time(index).map(|time| (value.clone(), time)))
        .collect()
}

pub fn counts(written: u64, late: u64) -> WriteCounts {
    WriteCounts { written, late }
}

/// A row of the view `numbers`.
pub fn number(entity: i64, event: i64, created: i64, x: f64) -> WriteRow {
    write_row(id(entity), event, created, vec![Value::Double(x)])
}

/// A note on a load of `numbers`.
pub fn note(digest: &str) -> Materialization {
    Materialization {
        view: "numbers".to_owned(),
        source: "data/numbers.csv".to_owned(),
        digest: digest.to_owned(),
    }
}

pub fn note_of(view: &FeatureView, digest: &str) -> Materialization {
    Materialization {
        view: view.name.clone(),
        ..note(digest)
    }
}
