//! Refills that meet each other, and what a Redis that is not filled asks of the database.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use ferrocast::{
    error::ErrorKind,
    features::OnlineStore,
    stores::{Refill, Store},
};

use crate::{
    cancel::await_lock_waits,
    fixtures::*,
    gate::Gate,
    postgres::Postgres,
    redis_only::{flush, refill, sixty_numbers},
    redis_server::Redis,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_refill_that_meets_a_flush_does_not_say_that_all_is_there() {
    let server = Redis::start();
    let gate = Gate::before(&server).await;
    let mut options = online([gate.url()]);
    options.connections_max = 1;
    let fixture = redis_with(options.clone()).await;
    let view = sixty_numbers(&fixture).await;
    options.urls = vec![server.url().into()];
    let others = [
        open_store(&fixture.url, Some(&options)).await,
        open_store(&fixture.url, Some(&options)).await,
    ];
    let flushing = async |store: Arc<Store>| store.refill(&flush(), &|_, _| ()).await;
    gate.hold("SCAN");
    let flushed = tokio::spawn(flushing(fixture.store.clone()));
    gate.is_reached().await;
    // One that begins and ends during the sweep.
    refill(&others[0]).await.unwrap();
    // One that begins during the sweep and has the rows of it.
    let (begun, begins) = mpsc::channel();
    let (ending, ends) = mpsc::channel::<()>();
    let ends = Mutex::new(ends);
    let (slow, begun) = (others[1].clone(), Mutex::new(begun));
    let slow = tokio::spawn(async move {
        let told = |_: &_, _| {
            begun.lock().unwrap().send(()).unwrap();
            ends.lock().unwrap().recv().unwrap();
        };
        slow.refill(&Refill::default(), &told).await
    });
    tokio::task::block_in_place(|| begins.recv().unwrap());
    gate.open();
    flushed.await.unwrap().unwrap();
    ending.send(()).unwrap();
    let error = slow.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.message().contains("another one began"), "{error}");
    let keys: Vec<_> = (0..60).map(id).collect();
    let found = others[0].read(&view, &keys).await.unwrap();
    assert!(found.iter().all(Option::is_some));
}

#[tokio::test]
async fn one_request_looks_whether_there_is_anything_to_fill() {
    let fixture = redis_before_postgres().await;
    let view = sixty_numbers(&fixture).await;
    let mut options = fixture.online.clone().unwrap();
    // A Redis with nothing in it.
    options.key_prefix = format!("{}-empty", options.key_prefix);
    let store = open_store(&fixture.url, Some(&options)).await;
    let name = fixture.url.rsplit('/').next().unwrap();
    let blocker = Postgres::shared().connect(name).await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE fv_numbers IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let requests: Vec<_> = (0..8)
        .map(|entity| {
            let (store, view) = (store.clone(), view.clone());
            tokio::spawn(async move { store.read(&view, &[id(entity)]).await })
        })
        .collect();
    await_lock_waits(&blocker, 1).await;
    // Time enough for the others to come, on connections of their own.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let watcher = Postgres::shared().connect(name).await;
    let waiting: i64 = watcher.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(waiting, 1);
    blocker.batch_execute("COMMIT").await.unwrap();
    for request in requests {
        let error = request.await.unwrap().unwrap_err();
        assert!(error.message().contains("ferrocast refill"), "{error}");
    }
}
