//! PostgreSQL away, back again, and refusing.

use std::time::Duration;

use ferrocast::{
    config::Secret,
    error::{Error, ErrorKind},
    features::OnlineStore,
    stores::{DatabaseOptions, open},
};

use crate::{
    cancel::await_lock_waits,
    fixtures::*,
    postgres::{Postgres, free_port},
};

/// Whatever an error prints, the password is not in it.
fn assert_discreet(error: &Error, password: &str) {
    let everything = format!("{error} {error:?}");
    assert!(!everything.contains(password), "{everything}");
}

async fn open_fault(url: &str) -> Error {
    let error = open(&DatabaseOptions::new(Secret::from(url)))
        .await
        .err()
        .unwrap();
    let credentials = url.split('@').next().unwrap();
    assert_discreet(&error, credentials.rsplit(':').next().unwrap());
    error
}

/// The tests' own server: it must not take another test process's for itself.
#[tokio::test]
async fn a_port_that_somebody_took_is_left_to_them() {
    let theirs = Postgres::shared();
    let mut taken = vec![theirs.port(), theirs.port()];
    let server = Postgres::start_on(|| taken.pop().unwrap_or_else(free_port), None);
    assert_ne!(server.port(), theirs.port());
    let url = server.fresh_database().await;
    open(&DatabaseOptions::new(Secret::from(&url)))
        .await
        .unwrap();
    let elsewhere = url.replace(
        &format!(":{}/", server.port()),
        &format!(":{}/", theirs.port()),
    );
    let refused = open_fault(&elsewhere).await;
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition, "{refused:?}");
}

#[tokio::test]
async fn an_outage_is_unavailable_and_passes_by_itself() {
    let server = Postgres::start(None);
    let url = server.fresh_database().await;
    let store = open(&DatabaseOptions::new(Secret::from(&url)))
        .await
        .unwrap();
    let view = &numbers_in(&store).await;
    store.write(view, vec![number(1, 1, 1, 1.0)]).await.unwrap();

    server.stop();
    let faults = [
        store.read(view, &[id(1)]).await.err().unwrap(),
        store
            .write(view, vec![number(1, 2, 2, 2.0)])
            .await
            .err()
            .unwrap(),
        store.ping().await.err().unwrap(),
        store.materializations("numbers").await.err().unwrap(),
    ];
    for error in faults {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        let place = format!("127.0.0.1:{}", server.port());
        assert!(error.message().contains(&place), "{error}");
        assert_discreet(&error, server.password());
    }
    let error = open_fault(&url).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");

    server.start_again();
    until_it_works(async || store.write(view, vec![number(1, 3, 3, 3.0)]).await).await;
    let found = until_it_works(async || store.read(view, &[id(1)]).await).await;
    assert_eq!(found[0].clone().unwrap().event_timestamp, at(3));
}

/// It takes what is sent, and nothing comes back.
#[tokio::test]
async fn a_server_that_hangs_is_unavailable_within_a_bound() {
    let server = Postgres::start(None);
    let url = server.fresh_database().await;
    let mut options = DatabaseOptions::new(Secret::from(&url));
    options.connect_timeout = Duration::from_secs(1);
    let store = open(&options).await.unwrap();
    store.ping().await.unwrap();
    let watcher = server.connect(url.rsplit('/').next().unwrap()).await;
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'ferrocast'";
    let found = watcher.query(sql, &[]).await.unwrap();
    let connections: Vec<i32> = found.iter().map(|row| row.get(0)).collect();
    assert_eq!(connections.len(), 1);
    // Longer than a connection rests without being asked whether it still answers.
    tokio::time::sleep(Duration::from_secs(11)).await;
    server.pause(&connections);
    let answer = tokio::time::timeout(Duration::from_secs(30), store.ping()).await;
    server.resume(&connections);
    let error = answer.expect("an answer").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    until_it_works(async || store.ping().await).await;
}

#[tokio::test]
async fn a_connection_that_the_server_ends_is_not_the_readers_concern() {
    let fixture = postgres().await;
    let view = numbers(&fixture).await;
    fixture
        .store
        .write(&view, vec![number(1, 1, 1, 1.0)])
        .await
        .unwrap();
    for _ in 0..5 {
        fixture
            .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
            .await;
        let found = fixture.store.read(&view, &[id(1)]).await.unwrap();
        assert!(found[0].is_some());
    }
}

#[tokio::test]
async fn a_refused_login_and_an_unknown_database_are_preconditions() {
    let server = Postgres::shared();
    let good = server.fresh_database().await;
    let wrong = open_fault(&good.replace(server.password(), "wrong-secret")).await;
    assert_eq!(wrong.kind(), ErrorKind::FailedPrecondition, "{wrong:?}");
    assert!(
        wrong.message().contains("password authentication failed"),
        "{wrong}"
    );
    assert!(!format!("{wrong:?}").contains("wrong-secret"));
    let unknown = open_fault(&server.url("nowhere")).await;
    assert_eq!(unknown.kind(), ErrorKind::FailedPrecondition, "{unknown:?}");
    assert!(unknown.message().contains("nowhere"), "{unknown}");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_stopped() {
    let fixture = postgres().await;
    let view = numbers(&fixture).await;
    let mut options = DatabaseOptions::new(Secret::from(&fixture.url));
    options.statement_timeout = Duration::from_millis(200);
    let store = open(&options).await.unwrap();
    let name = fixture.url.rsplit('/').next().unwrap();
    let blocker = Postgres::shared().connect(name).await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE fv_numbers IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    for error in [
        store.read(&view, &[id(1)]).await.err().unwrap(),
        store
            .write(&view, vec![number(1, 1, 1, 1.0)])
            .await
            .err()
            .unwrap(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.message().contains("too long"), "{error}");
    }
    blocker.batch_execute("COMMIT").await.unwrap();
    store
        .write(&view, vec![number(1, 1, 1, 1.0)])
        .await
        .unwrap();
}

#[tokio::test]
async fn an_exhausted_pool_is_overloaded() {
    let fixture = postgres().await;
    let view = numbers(&fixture).await;
    let mut options = DatabaseOptions::new(Secret::from(&fixture.url));
    options.pool_size = 1;
    options.acquire_timeout = Duration::from_millis(100);
    options.statement_timeout = Duration::from_secs(60);
    let store = open(&options).await.unwrap();
    let name = fixture.url.rsplit('/').next().unwrap();
    let blocker = Postgres::shared().connect(name).await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE fv_numbers IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let (waiting, waiting_view) = (store.clone(), view.clone());
    let first = tokio::spawn(async move { waiting.read(&waiting_view, &[id(1)]).await });
    // The first read has the only connection once the server shows it waiting.
    await_lock_waits(&blocker, 1).await;
    let error = store.read(&view, &[id(1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error:?}");
    blocker.batch_execute("COMMIT").await.unwrap();
    assert_eq!(first.await.unwrap().unwrap(), [None]);
}

/// Somebody else locks rows in another order, and PostgreSQL ends the deadlock at our expense.
#[tokio::test]
async fn a_deadlock_is_tried_again() {
    let fixture = postgres().await;
    let view = numbers(&fixture).await;
    let name = fixture.url.rsplit('/').next().unwrap();
    // Only our side looks for deadlocks while the test lasts, and not before the other side waits too.
    fixture
        .execute(&format!(
            "ALTER DATABASE {name} SET deadlock_timeout = '3s'"
        ))
        .await;
    let store = fixture.another().await;
    let rows = |event| vec![number(1, event, 1, 1.0), number(2, event, 1, 2.0)];
    store.write(&view, rows(1)).await.unwrap();
    let watcher = Postgres::shared().connect(name).await;
    for (event, is_load) in [(2, false), (3, true)] {
        let other = Postgres::shared().connect(name).await;
        other
            .batch_execute(
                "SET deadlock_timeout = '600s'; BEGIN; UPDATE fv_numbers SET x = 0 WHERE id = 2",
            )
            .await
            .unwrap();
        let (store, view, rows) = (store.clone(), view.clone(), rows(event));
        let ours = tokio::spawn(async move {
            if !is_load {
                return store.write(&view, rows).await;
            }
            let messages = vec![Some(Ok(rows)), None];
            load(&store, &view, messages, &note("deadlock")).await
        });
        await_lock_waits(&watcher, 1).await;
        other
            .batch_execute("UPDATE fv_numbers SET x = 0 WHERE id = 1; COMMIT")
            .await
            .unwrap();
        assert_eq!(ours.await.unwrap().unwrap().written, 2);
    }
    let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    // The statistics arrive a little later.
    until_it_works(async || {
        let count: i64 = watcher.query_one(sql, &[]).await.unwrap().get(0);
        (count == 2)
            .then_some(())
            .ok_or_else(|| Error::unavailable("not yet"))
    })
    .await;
}
