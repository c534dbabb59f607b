//! Connections to PostgreSQL that only read by key: shared, passed over where they are slow, and given up.

use std::{sync::Arc, time::Duration};

use ferrocast::{
    catalog::FeatureView,
    config::Secret,
    error::{ErrorKind, Result},
    features::{OnlineStore, StoredRow},
    stores::{DatabaseOptions, PinnedOptions, Store, open},
};
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    cancel::{abandon, await_lock_waits},
    fixtures::*,
    gate::eventually,
    linger::Linger,
    postgres::Postgres,
};

/// So long that nothing comes of waiting for it.
const NEVER: Duration = Duration::from_secs(3_600);
const ONE: PinnedOptions = PinnedOptions {
    connections_max: 1,
    queries_max: 4,
    wait_max: NEVER,
};

/// A store with one pinned connection that has read of two views, and somebody who can lock the first.
struct Scene {
    views: [Arc<FeatureView>; 2],
    store: Arc<Store>,
    blocker: tokio_postgres::Client,
    /// The server's process behind the pinned connection, where there is one.
    pinned: Vec<i32>,
    _fixture: Fixture,
}

impl Scene {
    async fn new(pinned: PinnedOptions) -> Scene {
        Scene::with_pool(pinned, 16).await
    }

    async fn with_pool(pinned: PinnedOptions, pool_size: usize) -> Scene {
        Scene::by(Postgres::shared().port(), pinned, pool_size).await
    }

    /// A scene whose store reaches the server by a port.
    async fn by(port: u16, pinned: PinnedOptions, pool_size: usize) -> Scene {
        let fixture = postgres().await;
        let theirs = format!(":{}/", Postgres::shared().port());
        let second =
            format!("[[feature_views]]\nname = \"second\"\nentity = \"thing\"\nfeatures = [{X}]\n");
        let applied = fixture.apply(&(one_view("first", ID, X) + &second)).await;
        let url = fixture.url.replace(&theirs, &format!(":{port}/"));
        let mut options =
            DatabaseOptions::new(Secret::from(format!("{url}?application_name=pinned")));
        options.pinned = pinned;
        options.pool_size = pool_size;
        // Whatever waits for the pool fails.
        options.acquire_timeout = Duration::from_millis(1);
        options.statement_timeout = NEVER;
        let store = open(&options).await.unwrap();
        let name = fixture.url.rsplit('/').next().unwrap();
        let mut scene = Scene {
            views: [Arc::clone(&applied[0]), Arc::clone(&applied[1])],
            store,
            blocker: Postgres::shared().connect(name).await,
            pinned: Vec::new(),
            _fixture: fixture,
        };
        for view in &scene.views {
            scene
                .store
                .write(view, vec![number(1, 1, 1, 1.0)])
                .await
                .unwrap();
        }
        for index in [0, 1] {
            scene.assert_reads(index).await;
        }
        scene.pinned = scene.connections().await;
        assert_eq!(scene.pinned.len(), 1);
        scene
    }

    /// The store's connections, by the server's processes.
    async fn connections(&self) -> Vec<i32> {
        self.processes("true").await
    }

    /// Those that wait for a lock.
    async fn waiting(&self) -> Vec<i32> {
        self.processes("wait_event_type = 'Lock'").await
    }

    async fn processes(&self, condition: &str) -> Vec<i32> {
        let forget = "SELECT pg_stat_clear_snapshot()";
        self.blocker.batch_execute(forget).await.unwrap();
        let sql = format!(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pinned' \
             AND {condition}"
        );
        let found = self.blocker.query(&sql, &[]).await.unwrap();
        found.iter().map(|row| row.get(0)).collect()
    }

    async fn lock(&self, tables: &str) {
        let sql = format!("BEGIN; LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE");
        self.blocker.batch_execute(&sql).await.unwrap();
    }

    async fn unlock(&self) {
        self.blocker.batch_execute("COMMIT").await.unwrap();
    }

    fn start_reading(&self, index: usize) -> JoinHandle<Result<Vec<Option<StoredRow>>>> {
        let (store, view) = (Arc::clone(&self.store), Arc::clone(&self.views[index]));
        tokio::spawn(async move { store.read(&view, &[id(1)]).await })
    }

    /// A read of the first view, which waits until the scene is unlocked.
    async fn start_blocked_read(&self) -> JoinHandle<Result<Vec<Option<StoredRow>>>> {
        self.lock("fv_first").await;
        let read = self.start_reading(0);
        await_lock_waits(&self.blocker, 1).await;
        read
    }

    /// Locks both tables, and leaves two reads that wait for them on one connection.
    async fn abandon_both(&self) {
        self.lock("fv_first, fv_second").await;
        let keys = [id(1)];
        let both = async {
            tokio::join!(
                self.store.read(&self.views[0], &keys),
                self.store.read(&self.views[1], &keys)
            )
        };
        tokio::select! {
            _ = both => panic!("the tables are locked"),
            // Asked while they still wait: with them goes what they asked.
            waiting = async {
                await_lock_waits(&self.blocker, 1).await;
                self.waiting().await
            } => assert_eq!(waiting, self.pinned),
        }
    }

    async fn assert_reads(&self, index: usize) {
        let answer = timeout(WAIT_MAX, self.start_reading(index)).await;
        let rows = answer.expect("an answer").unwrap().unwrap();
        assert!(rows[0].is_some());
    }
}

#[tokio::test]
async fn reads_at_once_share_a_connection() {
    let scene = Scene::new(ONE).await;
    scene.lock("fv_first").await;
    let keys = [id(1)];
    let (first, second, ()) = tokio::join!(
        scene.store.read(&scene.views[0], &keys),
        scene.store.read(&scene.views[1], &keys),
        async {
            await_lock_waits(&scene.blocker, 1).await;
            scene.unlock().await;
        }
    );
    assert!(first.unwrap()[0].is_some());
    assert!(second.unwrap()[0].is_some());
    assert_eq!(scene.connections().await, scene.pinned);
}

#[tokio::test]
async fn reads_share_a_connection_where_the_pool_has_none_for_them() {
    let two = PinnedOptions {
        connections_max: 2,
        ..ONE
    };
    let scene = Scene::with_pool(two, 1).await;
    scene.lock("fv_first").await;
    let keys = [id(1)];
    let (written, first, second, ()) = tokio::join!(
        scene
            .store
            .write(&scene.views[0], vec![number(1, 2, 2, 2.0)]),
        scene.store.read(&scene.views[0], &keys),
        scene.store.read(&scene.views[1], &keys),
        async {
            await_lock_waits(&scene.blocker, 2).await;
            scene.unlock().await;
        }
    );
    written.unwrap();
    assert!(first.unwrap()[0].is_some());
    assert!(second.unwrap()[0].is_some());
}

#[tokio::test]
async fn reads_that_share_a_connection_on_which_nothing_comes_leave_it() {
    let scene = Scene::new(PinnedOptions {
        wait_max: Duration::from_secs(3),
        ..ONE
    })
    .await;
    scene.lock("fv_first").await;
    let keys = [id(1)];
    let (slow, ()) = tokio::join!(scene.store.read(&scene.views[0], &keys), async {
        let second = scene.store.read(&scene.views[1], &keys);
        let answer = timeout(WAIT_MAX, second).await;
        assert!(answer.expect("an answer").unwrap()[0].is_some());
        // The connection has ended, and what was asked on it; the first is asked again on another.
        eventually(async || !scene.connections().await.contains(&scene.pinned[0])).await;
        await_lock_waits(&scene.blocker, 1).await;
        scene.unlock().await;
    });
    assert!(slow.unwrap()[0].is_some());
    scene.assert_reads(0).await;
}

#[tokio::test]
async fn a_silent_connection_is_passed_over_and_left_by_nobody() {
    let wait_max = Duration::from_millis(500);
    let scene = Scene::new(PinnedOptions { wait_max, ..ONE }).await;
    let slow = scene.start_blocked_read().await;
    tokio::time::sleep(wait_max * 3).await;
    assert_eq!(scene.waiting().await, scene.pinned);
    scene.assert_reads(1).await;
    assert_eq!(scene.waiting().await, scene.pinned);
    scene.unlock().await;
    assert!(slow.await.unwrap().unwrap()[0].is_some());
}

#[tokio::test]
async fn a_connection_with_as_many_queries_as_it_may_have_is_passed_over() {
    let scene = Scene::new(PinnedOptions {
        queries_max: 1,
        ..ONE
    })
    .await;
    let slow = scene.start_blocked_read().await;
    scene.assert_reads(1).await;
    assert_eq!(scene.waiting().await, scene.pinned);
    scene.unlock().await;
    assert!(slow.await.unwrap().unwrap()[0].is_some());
}

#[tokio::test]
async fn an_abandoned_read_ends_its_connection_and_what_the_server_does_for_it() {
    let scene = Scene::new(ONE).await;
    scene.lock("fv_first").await;
    abandon(&scene.blocker, scene.start_reading(0)).await;
    // The lock is still held.
    await_lock_waits(&scene.blocker, 0).await;
    scene.assert_reads(1).await;
    eventually(async || !scene.connections().await.contains(&scene.pinned[0])).await;
    scene.unlock().await;
    scene.assert_reads(0).await;
}

#[tokio::test]
async fn what_was_asked_behind_an_abandoned_read_ends_with_it() {
    let scene = Scene::new(ONE).await;
    scene.abandon_both().await;
    eventually(async || scene.connections().await.is_empty()).await;
    scene.unlock().await;
    scene.assert_reads(1).await;
}

#[tokio::test]
async fn what_was_asked_behind_an_abandoned_read_is_cancelled_where_nobody_tells_that_we_have_gone()
{
    let linger = Linger::before(Postgres::shared().port()).await;
    let scene = Scene::by(linger.port, ONE, 16).await;
    scene.abandon_both().await;
    // The server's word for each statement that was cancelled.
    eventually(async || linger.times_said(b"C57014\0") == 2).await;
    assert_eq!(scene.waiting().await, [0; 0]);
}

#[tokio::test]
async fn without_pinned_connections_reads_go_by_the_pool() {
    let scene = Scene::new(PinnedOptions {
        connections_max: 0,
        ..ONE
    })
    .await;
    let slow = scene.start_blocked_read().await;
    scene.assert_reads(1).await;
    scene.unlock().await;
    assert!(slow.await.unwrap().unwrap()[0].is_some());
    assert_eq!(scene.connections().await.len(), 2);
}

#[tokio::test]
async fn a_connection_that_rested_and_hangs_is_found_out_within_a_bound() {
    let server = Postgres::start(None);
    let url = server.fresh_database().await;
    let mut options = DatabaseOptions::new(Secret::from(&url));
    options.connect_timeout = Duration::from_secs(1);
    let store = open(&options).await.unwrap();
    let view = &numbers_in(&store).await;
    store.read(view, &[id(1)]).await.unwrap();
    let watcher = server.connect(url.rsplit('/').next().unwrap()).await;
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'ferrocast'";
    let found = watcher.query(sql, &[]).await.unwrap();
    let connections: Vec<i32> = found.iter().map(|row| row.get(0)).collect();
    // Longer than a connection rests without being asked whether it still answers.
    tokio::time::sleep(Duration::from_secs(11)).await;
    server.pause(&connections);
    let answer = timeout(Duration::from_secs(25), store.read(view, &[id(1)])).await;
    server.resume(&connections);
    let error = answer.expect("an answer").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    until_it_works(async || store.read(view, &[id(1)]).await).await;
}
