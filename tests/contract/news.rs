//! Servers that share a database, each with rows in memory: what one of them changes the others see within a bound, also
//! where they cannot be told.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ferrocast::{
    catalog::FeatureView,
    features::{CacheBounds, FrontStore, JoinBounds, LoadInput, OnlineStore, Value},
    stores::Store,
};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{fixtures::*, for_every_store, gate::eventually, gated::Gated, postgres::Postgres};

for_every_store!(
    what_another_server_changes_is_seen_within_the_bound,
    a_load_and_a_deletion_elsewhere_are_seen_within_the_bound,
    own_writes_stay_in_memory,
    a_table_made_anew_shares_no_rows,
    news_of_a_key_between_miss_and_fill_are_heeded,
);

/// Long enough that news come before it on a busy machine: only then is anything answered from memory.
const STALE_MAX: Duration = Duration::from_millis(1_500);

/// A server's view of a store: rows in memory, and whoever tells it of changes.
struct Server {
    front: FrontStore,
    _follows: DropGuard,
}

impl Server {
    fn on(store: Arc<Store>) -> Server {
        Server::before(store.clone(), store)
    }

    /// Reads from one store, and hears of changes from another.
    fn before(read: Arc<dyn OnlineStore>, store: Arc<Store>) -> Server {
        let bounds = CacheBounds {
            bytes_max: 1 << 20,
            age_max: Duration::from_secs(3_600),
            stale_max: Some(STALE_MAX),
        };
        let front = FrontStore::new(read, JoinBounds::default(), Some(bounds));
        let (stop, cache) = (CancellationToken::new(), front.cache().unwrap());
        let stopped = stop.clone();
        tokio::spawn(async move { store.follow(cache, STALE_MAX, &stopped).await });
        Server {
            front,
            _follows: stop.drop_guard(),
        }
    }

    async fn read(&self, view: &FeatureView, entity: i64) -> (Option<Value>, Duration) {
        let read = self.front.read_aged(view, &[id(entity)]).await;
        let (rows, age) = read.unwrap();
        (rows[0].as_ref().map(|row| row.values[0].clone()), age)
    }

    /// Reads until the answer comes out of memory.
    async fn keeps(&self, view: &FeatureView, entity: i64, value: Option<f64>) {
        let value = value.map(Value::Double);
        eventually(async || {
            let (found, age) = self.read(view, entity).await;
            assert_eq!(found, value);
            age > Duration::ZERO
        })
        .await;
    }

    /// From the bound on after a change, the new value is answered, and nothing else.
    async fn sees(&self, view: &FeatureView, entity: i64, changed_at: Instant, value: Option<f64>) {
        let value = value.map(Value::Double);
        tokio::time::sleep_until((changed_at + STALE_MAX).into()).await;
        for _ in 0..20 {
            assert_eq!(self.read(view, entity).await.0, value);
        }
    }
}

async fn fleet(fixture: &Fixture) -> (Arc<FeatureView>, Server, Server) {
    let view = numbers(fixture).await;
    fixture.write(&view, vec![number(1, 1, 0, 1.0)]).await;
    let (a, b) = (
        Server::on(fixture.store.clone()),
        Server::on(fixture.another().await),
    );
    a.keeps(&view, 1, Some(1.0)).await;
    b.keeps(&view, 1, Some(1.0)).await;
    (view, a, b)
}

async fn what_another_server_changes_is_seen_within_the_bound(fixture: Fixture) {
    let (view, a, b) = fleet(&fixture).await;
    for event in 2..4 {
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let x = event as f64;
        let rows = vec![number(1, event, 0, x), number(2, event, 0, x)];
        a.front.write(&view, rows).await.unwrap();
        let changed_at = Instant::now();
        assert_eq!(a.read(&view, 1).await.0, Some(Value::Double(x)));
        b.sees(&view, 1, changed_at, Some(x)).await;
        b.keeps(&view, 1, Some(x)).await;
        b.keeps(&view, 2, Some(x)).await;
    }
}

async fn a_load_and_a_deletion_elsewhere_are_seen_within_the_bound(fixture: Fixture) {
    let (view, a, b) = fleet(&fixture).await;
    // As a command would, which keeps nothing in memory.
    let command = fixture.another().await;
    let (sender, batches) = mpsc::channel(2);
    let rows = vec![number(1, 5, 0, 5.0)];
    sender.try_send(Some(Ok(rows))).unwrap();
    sender.try_send(None).unwrap();
    let input = LoadInput::Rows(batches);
    command.load(&view, input, &note("a")).await.unwrap();
    let changed_at = Instant::now();
    for server in [&a, &b] {
        server.sees(&view, 1, changed_at, Some(5.0)).await;
        server.keeps(&view, 1, Some(5.0)).await;
    }
    command.delete(&[Arc::clone(&view)], &id(1)).await.unwrap();
    let changed_at = Instant::now();
    for server in [&a, &b] {
        server.sees(&view, 1, changed_at, None).await;
    }
}

/// The news of a server's own writes are no news to it.
async fn own_writes_stay_in_memory(fixture: Fixture) {
    let (view, a, _b) = fleet(&fixture).await;
    let rows = vec![number(1, 2, 0, 2.0)];
    a.front.write(&view, rows).await.unwrap();
    let written_at = Instant::now();
    if fixture.online.is_some() {
        // Redis merges by itself, and is asked what came of it.
        return a.keeps(&view, 1, Some(2.0)).await;
    }
    tokio::time::sleep(STALE_MAX).await;
    eventually(async || {
        let since = written_at.elapsed();
        let (value, age) = a.read(&view, 1).await;
        assert_eq!(value, Some(Value::Double(2.0)));
        // A row that was read since is younger.
        age >= since
    })
    .await;
}

async fn a_table_made_anew_shares_no_rows(fixture: Fixture) {
    let (view, a, b) = fleet(&fixture).await;
    let nothing = "project = \"demo\"\n";
    fixture.apply(nothing).await;
    let again = numbers(&fixture).await;
    assert_eq!(view.features, again.features);
    let changed_at = Instant::now();
    for server in [&a, &b] {
        server.sees(&again, 1, changed_at, None).await;
    }
}

/// The store has read the old row when the change is told, and answers after it.
async fn news_of_a_key_between_miss_and_fill_are_heeded(fixture: Fixture) {
    let view = numbers(&fixture).await;
    fixture.write(&view, vec![number(1, 1, 0, 1.0)]).await;
    let gated = Gated::before(fixture.store.clone());
    let server = Server::before(gated.clone(), fixture.store.clone());
    // It keeps what it reads from here on.
    tokio::time::sleep(STALE_MAX).await;
    let news = async {
        gated.has_read().await;
        let another = fixture.another().await;
        let rows = vec![number(1, 2, 0, 2.0)];
        another.write(&view, rows).await.unwrap();
        let changed_at = Instant::now();
        // It has been told by then.
        tokio::time::sleep(STALE_MAX).await;
        gated.open();
        changed_at
    };
    let ((old, _), changed_at) = tokio::join!(server.read(&view, 1), news);
    assert_eq!(old, Some(Value::Double(1.0)));
    server.sees(&view, 1, changed_at, Some(2.0)).await;
    server.keeps(&view, 1, Some(2.0)).await;
}

/// The connection that hears of changes is cut again and again, and changes come meanwhile.
#[tokio::test]
async fn without_its_ears_a_server_never_answers_what_is_old() {
    let fixture = postgres().await;
    let (view, a, b) = fleet(&fixture).await;
    let name = fixture.url.rsplit('/').next().unwrap();
    let watcher = Postgres::shared().connect(name).await;
    let deafen = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                  WHERE datname = current_database() AND query = 'LISTEN ferrocast_rows'";
    for event in 2..5 {
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let x = event as f64;
        assert!(!watcher.query(deafen, &[]).await.unwrap().is_empty());
        let rows = vec![number(1, event, 0, x)];
        a.front.write(&view, rows).await.unwrap();
        b.sees(&view, 1, Instant::now(), Some(x)).await;
        // It comes back by itself.
        b.keeps(&view, 1, Some(x)).await;
    }
}

/// The connection is there, and nothing comes by it any more.
#[tokio::test]
async fn a_connection_that_is_silent_counts_as_none() {
    let fixture = postgres().await;
    let (view, a, b) = fleet(&fixture).await;
    let name = fixture.url.rsplit('/').next().unwrap();
    let watcher = Postgres::shared().connect(name).await;
    let ears = "SELECT pid FROM pg_stat_activity \
                WHERE datname = current_database() AND query = 'LISTEN ferrocast_rows'";
    let found = watcher.query(ears, &[]).await.unwrap();
    let ears: Vec<i32> = found.iter().map(|row| row.get(0)).collect();
    assert_eq!(ears.len(), 2);
    let standing = Stopped::new(&ears);
    let rows = vec![number(1, 2, 0, 2.0)];
    a.front.write(&view, rows).await.unwrap();
    b.sees(&view, 1, Instant::now(), Some(2.0)).await;
    let (_, age) = b.read(&view, 1).await;
    assert_eq!(age, Duration::ZERO);
    drop(standing);
    b.keeps(&view, 1, Some(2.0)).await;
}

/// Processes that stand still until this goes away.
struct Stopped(Vec<String>);

impl Stopped {
    fn new(processes: &[i32]) -> Stopped {
        let stopped = Stopped(processes.iter().map(i32::to_string).collect());
        stopped.send("-STOP");
        stopped
    }

    fn send(&self, signal: &str) {
        let sent = std::process::Command::new("kill")
            .arg(signal)
            .args(&self.0)
            .status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.send("-CONT");
    }
}
