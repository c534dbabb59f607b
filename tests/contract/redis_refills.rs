//! What a Redis that is not filled asks of the database.

use std::time::Duration;

use ferrocast::features::OnlineStore;

use crate::{cancel::await_lock_waits, fixtures::*, postgres::Postgres, redis_only::sixty_numbers};

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
