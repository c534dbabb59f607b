//! Requests that nobody waits for any more, while the database is still at work on them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ferrocast::{
    catalog::{CatalogStore, FeatureView},
    config::Secret,
    error::Result,
    features::{LoadInput, OnlineStore},
    stores::{DatabaseOptions, Store, open},
};
use tokio::task::JoinHandle;

use crate::{fixtures::*, postgres::Postgres};

/// A bound on waiting for something that has to come, on a machine however slow.
pub const WAIT_MAX: Duration = Duration::from_secs(120);
/// Longer than that, so that nothing comes of waiting for it.
const NEVER: Duration = Duration::from_secs(3_600);

/// A store whose pool has a single connection, which no bound on statements frees.
pub async fn lone_connection(url: &str) -> Arc<Store> {
    let mut options = DatabaseOptions::new(Secret::from(url));
    options.pool_size = 1;
    options.acquire_timeout = WAIT_MAX;
    options.statement_timeout = NEVER;
    open(&options).await.unwrap()
}

/// Waits until as many of a database's connections wait for a lock.
pub async fn await_lock_waits(watcher: &tokio_postgres::Client, expected: i64) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let give_up_at = Instant::now() + WAIT_MAX;
    loop {
        // Within a transaction the connections are else those of when it first looked.
        let forget = "SELECT pg_stat_clear_snapshot()";
        watcher.batch_execute(forget).await.unwrap();
        let waiting: i64 = watcher.query_one(sql, &[]).await.unwrap().get(0);
        if waiting == expected {
            return;
        }
        assert!(Instant::now() < give_up_at, "{waiting} still wait");
        tokio::task::yield_now().await;
    }
}

/// Drops a request that waits for a lock, with the lock still held.
pub async fn abandon<T>(watcher: &tokio_postgres::Client, request: JoinHandle<T>) {
    await_lock_waits(watcher, 1).await;
    request.abort();
    assert!(request.await.err().unwrap().is_cancelled());
}

#[derive(Clone, Copy)]
enum Work {
    Read,
    Write,
    Load,
    Catalog,
}

async fn run(store: Arc<Store>, view: Arc<FeatureView>, work: Work) -> Result<()> {
    let row = number(1, 1, 1, 1.0);
    match work {
        Work::Read => store.read(&view, &[id(1)]).await.map(|_| ()),
        Work::Write => store.write(&view, vec![row]).await.map(|_| ()),
        Work::Load => {
            let messages = vec![Some(Ok(vec![row])), None];
            let loaded = load(&store, &view, messages, &note("gone")).await;
            loaded.map(|_| ())
        }
        Work::Catalog => store.load_catalog().await.map(|_| ()),
    }
}

#[tokio::test]
async fn an_abandoned_request_frees_its_connection_and_the_server() {
    let fixture = postgres().await;
    let view = numbers(&fixture).await;
    let name = fixture.url.rsplit('/').next().unwrap();
    let blocker = Postgres::shared().connect(name).await;
    let store = lone_connection(&fixture.url).await;
    // The first read has a connection of the pool, the last a pinned one: that of a read that went well.
    for work in [
        Work::Read,
        Work::Write,
        Work::Load,
        Work::Catalog,
        Work::Read,
    ] {
        blocker
            .batch_execute(
                "BEGIN; LOCK TABLE fv_numbers, ferrocast_catalog IN ACCESS EXCLUSIVE MODE",
            )
            .await
            .unwrap();
        let request = tokio::spawn(run(Arc::clone(&store), Arc::clone(&view), work));
        abandon(&blocker, request).await;
        // The lock is still held, and the only connection free all the same.
        store.ping().await.unwrap();
        assert_eq!(store.materializations("numbers").await.unwrap(), []);
        // Nothing of the request is left on the server: neither its wait nor, later, what it would have done.
        await_lock_waits(&blocker, 0).await;
        blocker.batch_execute("COMMIT").await.unwrap();
        assert_eq!(store.read(&view, &[id(1)]).await.unwrap(), [None]);
    }
}

#[tokio::test]
async fn a_deadline_of_the_callers_frees_the_connection() {
    let fixture = postgres().await;
    let view = numbers(&fixture).await;
    let name = fixture.url.rsplit('/').next().unwrap();
    let blocker = Postgres::shared().connect(name).await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE fv_numbers IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let store = lone_connection(&fixture.url).await;
    let keys = [id(1)];
    let read = store.read(&view, &keys);
    let deadline = tokio::time::timeout(Duration::from_millis(200), read);
    assert!(deadline.await.is_err());
    store.ping().await.unwrap();
    await_lock_waits(&blocker, 0).await;
    blocker.batch_execute("COMMIT").await.unwrap();
    assert_eq!(store.read(&view, &keys).await.unwrap(), [None]);
}

/// Rows 1, 2, 3, … as a source's query, up to a number or without an end.
fn counting(condition: &str) -> String {
    format!(
        "{}source = {{ query = \"WITH RECURSIVE ids(id) AS (VALUES (1) UNION ALL SELECT id + 1 FROM ids {condition}) \
         SELECT id, 1 AS t, 1.0 AS x FROM ids\", timestamp_field = \"t\" }}\n",
        one_view("numbers", ID, X)
    )
}

/// A store on the same file whose loads end in time for the test to tell that they did not end before.
async fn bounded_loads(fixture: &Fixture) -> Arc<Store> {
    let mut options = DatabaseOptions::new(Secret::from(fixture.url.as_str()));
    options.connect_timeout = WAIT_MAX;
    options.load_timeout = WAIT_MAX;
    open(&options).await.unwrap()
}

#[tokio::test]
async fn an_abandoned_query_of_sqlite_ends() {
    let fixture = sqlite().await;
    let view = fixture.apply(&counting("")).await.remove(0);
    let store = bounded_loads(&fixture).await;
    let note = note("query");
    let input = LoadInput::Query { since: None };
    let endless = store.load(&view, input, &note);
    let deadline = tokio::time::timeout(Duration::from_millis(300), endless);
    assert!(deadline.await.is_err());
    // Loads go one after the other.
    let messages = vec![Some(Ok(vec![number(7, 1, 1, 1.0)])), None];
    let next = load(&store, &view, messages, &note);
    let next = tokio::time::timeout(WAIT_MAX / 2, next).await;
    assert_eq!(next.unwrap().unwrap(), counts(1, 0));
    assert_eq!(store.read(&view, &[id(1)]).await.unwrap(), [None]);
}

#[tokio::test]
async fn an_abandoned_load_of_sqlite_is_not_committed() {
    let fixture = sqlite().await;
    let view = fixture.apply(&counting("WHERE id < 3")).await.remove(0);
    let store = bounded_loads(&fixture).await;
    let path = fixture.url.strip_prefix("sqlite:").unwrap();
    let other = rusqlite::Connection::open(path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let note = note("query");
    let input = LoadInput::Query { since: None };
    // It has its rows by then, and waits for the file.
    let waiting = store.load(&view, input, &note);
    let deadline = tokio::time::timeout(Duration::from_millis(300), waiting);
    assert!(deadline.await.is_err());
    other.execute_batch("COMMIT").unwrap();
    let messages = vec![Some(Ok(vec![number(7, 1, 1, 1.0)])), None];
    let next = load(&store, &view, messages, &note).await;
    assert_eq!(next.unwrap(), counts(1, 0));
    assert_eq!(store.read(&view, &[id(1)]).await.unwrap(), [None]);
}
