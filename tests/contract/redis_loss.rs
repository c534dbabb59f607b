//! A Redis that loses its data or goes away: what is noticed and when, what is told, and how it comes back.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use ferrocast::{
    catalog::FeatureView,
    error::{Error, ErrorKind},
    features::{OnlineStore, Value},
    stores::{DatabaseOptions, OnlineOptions, Refill, open_with_redis},
};

use crate::{
    fixtures::*,
    redis_only::{prefix, refill, reopened, rows_of, sixty_numbers, x},
    redis_server::{Redis, RedisCluster},
    tls::Authority,
};

/// Does not wait long for a server that is away.
fn impatient(urls: impl IntoIterator<Item = String>) -> OnlineOptions {
    let mut options = online(urls);
    options.connect_timeout = Duration::from_millis(500);
    options.command_timeout = Duration::from_millis(1_000);
    options
}

/// Whatever lost the data: reads say so until a refill, and all is there after it.
async fn lost_and_refilled(fixture: &Fixture, view: &FeatureView, lose: impl AsyncFnOnce()) {
    let keys: Vec<_> = (0..60).map(id).collect();
    lose().await;
    let error = read_fault(fixture, view).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.message().contains("ferrocast refill"), "{error}");
    // A write is taken all the same, and does not make anybody believe that nothing is missing.
    let row = number(1, 8, 8, 8.0);
    until_it_works(async || fixture.store.write(view, vec![row.clone()]).await).await;
    read_fault(fixture, view).await;
    until_it_works(async || refill(&fixture.store).await).await;
    let found = until_it_works(async || fixture.store.read(view, &keys).await).await;
    let record = open_url(&fixture.url).await;
    assert_eq!(found, record.read(view, &keys).await.unwrap());
    assert_eq!(x(found[1].clone()), Some(Value::Double(8.0)));
    assert!(found.iter().all(Option::is_some));
}

/// The fault that reads have once a loss is noticed, at the latest after the probe interval.
async fn read_fault(fixture: &Fixture, view: &FeatureView) -> Error {
    let give_up_at = Instant::now() + WAIT_MAX;
    loop {
        match fixture.store.read(view, &[id(0)]).await {
            Err(error) if error.message().contains("refill") => return error,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
            Ok(_) => {}
        }
        assert!(Instant::now() < give_up_at, "nobody noticed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_server_that_lost_its_data_is_noticed_at_once() {
    let server = Redis::start();
    let fixture = redis_at([server.url()]).await;
    let view = sixty_numbers(&fixture).await;
    server.run(&redis::cmd("FLUSHALL"));
    let error = fixture.store.read(&view, &[id(1)]).await.unwrap_err();
    assert!(error.message().contains("ferrocast refill"), "{error}");
    lost_and_refilled(&fixture, &view, async || ()).await;
    lost_and_refilled(&fixture, &view, async || {
        server.stop();
        server.start_again();
    })
    .await;
    // A fill of some views does not bring the others.
    server.run(&redis::cmd("FLUSHALL"));
    let some = Refill {
        views: vec!["numbers".to_owned()],
        flush: false,
    };
    fixture.store.refill(&some, &|_, _| ()).await.unwrap();
    read_fault(&fixture, &view).await;
}

#[tokio::test]
async fn a_node_of_a_cluster_that_lost_its_data_is_noticed() {
    let cluster = RedisCluster::start();
    let fixture = redis_at(cluster.urls()).await;
    let view = sixty_numbers(&fixture).await;
    for node in &cluster.nodes {
        lost_and_refilled(&fixture, &view, async || {
            node.run(&redis::cmd("FLUSHALL"));
        })
        .await;
    }
}

#[tokio::test]
async fn a_node_that_dies_takes_its_own_entities_with_it_and_comes_back() {
    let cluster = RedisCluster::start();
    let fixture = redis_with(impatient(cluster.urls())).await;
    let view = sixty_numbers(&fixture).await;
    let node = &cluster.nodes[1];
    let theirs = rows_of(node, prefix(&fixture), "numbers");
    assert!((1..60).contains(&theirs.len()), "{theirs:?}");
    node.stop();
    let keys: Vec<_> = (0..60).map(id).collect();
    let asked_at = Instant::now();
    let error = fixture.store.read(&view, &keys).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(asked_at.elapsed() < WAIT_MAX);
    assert!(error.message().contains("127.0.0.1:"), "{error}");
    assert!(!format!("{error:?}").contains(node.password()), "{error:?}");
    // Nobody else is touched.
    let of_others = (0..60).filter(|entity| {
        !theirs
            .iter()
            .any(|key| key.ends_with(&format!("{{i{entity}}}")))
    });
    let of_others: Vec<_> = of_others.map(id).collect();
    let found = until_it_works(async || fixture.store.read(&view, &of_others).await).await;
    assert!(found.iter().all(Option::is_some));
    let fresh = reopened(&fixture, fixture.online.as_ref().unwrap()).await;
    let found = until_it_works(async || fresh.read(&view, &of_others).await).await;
    assert!(found.iter().all(Option::is_some));
    lost_and_refilled(&fixture, &view, async || {
        node.start_again();
        cluster.await_wholeness();
    })
    .await;
}

#[tokio::test]
async fn a_replica_takes_over_with_all_that_the_node_had() {
    let cluster = RedisCluster::start();
    let replica = cluster.add_replica();
    let fixture = redis_with(impatient(cluster.urls())).await;
    let view = sixty_numbers(&fixture).await;
    let node = &cluster.nodes[0];
    cluster.await_replica(&replica);
    assert!(!rows_of(node, prefix(&fixture), "numbers").is_empty());
    node.stop();
    let keys: Vec<_> = (0..60).map(id).collect();
    let found = until_it_works(async || fixture.store.read(&view, &keys).await).await;
    assert!(found.iter().all(Option::is_some));
    let rows: Vec<_> = (0..60).map(|entity| number(entity, 2, 2, 2.0)).collect();
    until_it_works(async || fixture.store.write(&view, rows.clone()).await).await;
    let found = fixture.store.read(&view, &keys).await.unwrap();
    let two = Some(Value::Double(2.0));
    assert!(found.into_iter().all(|row| x(row) == two));
}

/// Slots move from node to node while a cluster grows: keys are where they were, on their way, and elsewhere.
#[tokio::test]
async fn rows_are_found_while_their_slot_moves() {
    let cluster = RedisCluster::start();
    let fixture = redis_with(online(cluster.urls())).await;
    let view = sixty_numbers(&fixture).await;
    let name = format!("{}:numbers:{{i1}}", prefix(&fixture));
    let is_here = |node: &&Redis| rows_of(node, prefix(&fixture), "numbers").contains(&name);
    let from = cluster.nodes.iter().find(is_here).unwrap();
    let to = cluster.nodes.iter().find(|node| !is_here(node)).unwrap();
    let node_id = |node: &Redis| {
        let id = node.run(redis::cmd("CLUSTER").arg("MYID"));
        redis::from_redis_value::<String>(id).unwrap()
    };
    let slot = from.run(redis::cmd("CLUSTER").arg("KEYSLOT").arg(&name));
    let slot: u16 = redis::from_redis_value(slot).unwrap();
    let set_slot = |node: &Redis, state: &str, other: &Redis| {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SETSLOT").arg(slot).arg(state);
        node.run(command.arg(node_id(other)));
    };
    let keys: Vec<_> = (0..60).map(id).collect();
    let mut version = 1;
    let mut check = async || {
        version += 1;
        let found = fixture.store.read(&view, &keys).await.unwrap();
        assert!(found.iter().all(Option::is_some), "step {version}");
        let value = version as f64;
        let rows = (0..60).map(|entity| number(entity, version, 1, value));
        fixture.write(&view, rows.collect()).await;
        let found = fixture.store.read(&view, &keys).await.unwrap();
        let expected = Some(Value::Double(value));
        assert!(
            found.into_iter().all(|row| x(row) == expected),
            "step {version}"
        );
    };
    check().await;
    set_slot(to, "IMPORTING", from);
    set_slot(from, "MIGRATING", to);
    check().await;
    let mut migrate = redis::cmd("MIGRATE");
    migrate
        .arg("127.0.0.1")
        .arg(to.port())
        .arg(&name)
        .arg(0)
        .arg(60_000);
    from.run(migrate.arg("AUTH").arg(to.password()));
    check().await;
    for node in [to, from].into_iter().chain(&cluster.nodes) {
        set_slot(node, "NODE", to);
    }
    check().await;
    check().await;
}

#[tokio::test]
async fn a_certificate_has_to_hold() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (certificate, key) = ours.sign(&["localhost"], "server");
    let server = Redis::start_tls(&file("server.crt", &certificate), &file("server.key", &key));
    let (ours, theirs) = (
        file("ours.crt", &ours.pem()),
        file("theirs.crt", &theirs.pem()),
    );
    let mut options = online([server.tls_url("localhost")]);
    options.ca_file = Some(ours.clone());
    let fixture = redis_with(options.clone()).await;
    let view = sixty_numbers(&fixture).await;
    assert!(fixture.row(&view, id(1)).await.is_some());
    let database = DatabaseOptions::new(fixture.url.as_str().into());
    for (host, authorities) in [("localhost", theirs), ("127.0.0.1", ours)] {
        let mut options = online([server.tls_url(host)]);
        options.ca_file = Some(authorities);
        let refused = open_with_redis(&database, &options).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::FailedPrecondition, "{refused:?}");
        assert!(refused.message().contains("certificate"), "{refused}");
    }
    options.ca_file = Some(folder.path().join("missing.crt"));
    let missing = open_with_redis(&database, &options).await.err().unwrap();
    assert!(missing.message().contains("missing.crt"), "{missing}");
}

#[tokio::test]
async fn an_outage_is_unavailable_within_the_bound_and_passes_by_itself() {
    let server = Redis::start();
    let fixture = redis_with(impatient([server.url()])).await;
    let view = sixty_numbers(&fixture).await;
    for is_hung in [false, true] {
        if is_hung {
            server.pause();
        } else {
            server.stop();
        }
        let store = &fixture.store;
        let faults = [
            store.read(&view, &[id(1)]).await.unwrap_err(),
            store.ping().await.unwrap_err(),
        ];
        for error in &faults {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            let place = format!("127.0.0.1:{}", server.port());
            assert!(error.message().contains(&place), "{error}");
            assert!(!format!("{error} {error:?}").contains(server.password()));
        }
        if is_hung {
            assert!(
                faults[0].message().contains("online.command_ms_max"),
                "{}",
                faults[0]
            );
            server.resume();
        } else {
            server.start_again();
            until_it_works(async || refill(store).await).await;
        }
        let row = until_it_works(async || store.read(&view, &[id(1)]).await).await;
        assert!(row[0].is_some());
    }
}

#[tokio::test]
async fn what_the_record_took_is_told_where_redis_did_not() {
    let server = Redis::start();
    let fixture = redis_with(impatient([server.url()])).await;
    let view = sixty_numbers(&fixture).await;
    let record = open_url(&fixture.url).await;
    server.pause();
    let row = number(1, 5, 5, 5.0);
    let error = fixture
        .store
        .write(&view, vec![row.clone()])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.message().contains("in the database"), "{error}");
    assert!(error.message().contains("repeated"), "{error}");
    let recorded = record.read(&view, &[id(1)]).await.unwrap();
    assert_eq!(recorded, [Some(row.row.clone())]);
    let views = [view.clone()];
    let error = fixture.store.delete(&views, &id(2)).await.unwrap_err();
    assert!(error.message().contains("in the database"), "{error}");
    // A load does not begin.
    let messages = vec![Some(Ok(vec![number(3, 6, 6, 6.0)])), None];
    let loaded = load(&fixture.store, &view, messages, &note("half")).await;
    assert_eq!(loaded.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(record.materializations("numbers").await.unwrap(), []);
    server.resume();

    // The record has the row already, so that it is late there, and Redis gets it all the same.
    let counts = until_it_works(async || fixture.store.write(&view, vec![row.clone()]).await).await;
    assert_eq!(counts.late, 1);
    assert_eq!(fixture.row(&view, id(1)).await, Some(row.row));
    fixture.store.delete(&views, &id(2)).await.unwrap();
    assert_eq!(fixture.row(&view, id(2)).await, None);
}

#[tokio::test]
async fn the_command_refills() {
    let server = Redis::start();
    let fixture = redis_at([server.url()]).await;
    let view = sixty_numbers(&fixture).await;
    server.run(&redis::cmd("FLUSHALL"));
    let run = |arguments: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_ferrocast"))
            .args(arguments)
            .args(["--database-url", &fixture.url])
            .env("FERROCAST_ONLINE_REDIS_URLS", server.url())
            .env("FERROCAST_ONLINE_KEY_PREFIX", prefix(&fixture))
            .output()
            .unwrap();
        let printed = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8(printed).unwrap())
    };
    let (code, printed) = run(&["refill"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("numbers: 60 rows"), "{printed}");
    assert!(fixture.row(&view, id(59)).await.is_some());
    let (code, printed) = run(&["refill", "nothing"]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(
        printed.contains("no feature view is called \"nothing\""),
        "{printed}"
    );
    assert!(!printed.contains("maxmemory-policy"), "{printed}");
    let mut evict = redis::cmd("CONFIG");
    server.run(evict.arg("SET").arg("maxmemory-policy").arg("allkeys-lru"));
    let (code, printed) = run(&["refill", "--flush"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.contains("set maxmemory-policy to noeviction"),
        "{printed}"
    );
    server.stop();
    let (code, printed) = run(&["refill"]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("is away"), "{printed}");
    assert!(!printed.contains(server.password()), "{printed}");
}
