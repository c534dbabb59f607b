//! What only PostgreSQL has of our own: online changes, arrays filled by hand, an older schema, loads among writers.

use std::{sync::Arc, time::Duration};

use ferrocast::{
    catalog::{CatalogStore, Definitions, apply_definitions},
    error::ErrorKind,
    features::{ListValue, OnlineStore, Scan, StoredRow, Value},
    stores::{DatabaseOptions, open},
};
use tokio::task::JoinSet;

use crate::{fixtures::*, postgres::Postgres};

/// A client for SQL by hand, on a fixture's database.
pub async fn client(fixture: &Fixture) -> tokio_postgres::Client {
    let database = fixture.url.rsplit('/').next().unwrap();
    Postgres::shared().connect(database).await
}

#[tokio::test]
async fn arrays_filled_by_hand_are_refused_where_they_are_no_lists() {
    let fixture = postgres().await;
    let list = r#"{ name = "x", type = "list<int32>" }"#;
    let view = fixture
        .apply(&one_view("numbers", ID, list))
        .await
        .remove(0);
    fixture
        .execute(
            "INSERT INTO fv_numbers (id, event_timestamp, created_at, x) VALUES (1, 'epoch', 'epoch', '[5:6]={7,8}'), \
             (2, 'epoch', 'epoch', '{1,NULL}'), (3, 'epoch', 'epoch', '{{1},{2}}'), (4, 'epoch', 'epoch', '{}')",
        )
        .await;
    let values = |row: Option<StoredRow>| row.unwrap().values.remove(0);
    let list = |values: &[i32]| Value::List(ListValue::Int32(values.to_vec()));
    assert_eq!(values(fixture.row(&view, id(1)).await), list(&[7, 8]));
    assert_eq!(values(fixture.row(&view, id(4)).await), list(&[]));
    for entity in [2, 3] {
        let error = fixture.store.read(&view, &[id(entity)]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(
            error
                .message()
                .contains("fv_numbers.x holds a value that is no list<int32>"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_table_is_altered_beside_readers_and_writers() {
    let fixture = postgres().await;
    let definitions = |features: &str| one_view_with_history("numbers", ID, features);
    fixture.apply(&definitions(X)).await;
    let mut tasks = JoinSet::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for worker in 0..3_i64 {
        let (store, stopped) = (fixture.another().await, stopped.clone());
        tasks.spawn(async move {
            let mut turn = 0_i64;
            let mut done = 0_u32;
            while !*stopped.borrow() || done < 3 {
                turn += 1;
                let catalog = store.load_catalog().await.unwrap();
                let view = Arc::clone(catalog.view("numbers").unwrap());
                let values = vec![Value::Double(1.0); view.features.len()];
                let rows = (0..20).map(|n| write_row(id(n), turn, worker, values.clone()));
                let written = store.write(&view, rows.collect()).await;
                let read = store
                    .read(&view, &(0..20).map(id).collect::<Vec<_>>())
                    .await;
                match (written, read) {
                    (Ok(_), Ok(_)) => done += 1,
                    (Err(error), _) | (_, Err(error)) => {
                        let is_outdated = error.message().contains("try again");
                        assert!(is_outdated, "{error}");
                    }
                }
            }
        });
    }
    for round in 0..6 {
        let features = if round % 2 == 0 {
            format!("{X}, {Y}")
        } else {
            X.to_owned()
        };
        loop {
            match fixture.try_apply(&definitions(&features)).await {
                Ok(_) => break,
                // A lock that did not come in time, or a deadlock with a writer: nothing has happened.
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Conflict),
                    "{error}"
                ),
            }
        }
    }
    stop.send(true).unwrap();
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let view = fixture.view("numbers").await;
    assert_eq!((view.features.len(), view.generation), (1, 6));
}

#[tokio::test]
async fn a_database_of_the_first_schema_keeps_its_rows() {
    let url = Postgres::shared().fresh_database().await;
    let database = url.rsplit('/').next().unwrap();
    let client = Postgres::shared().connect(database).await;
    client
        .batch_execute(include_str!("../../migrations/postgres/V1__catalog.sql"))
        .await
        .unwrap();
    let store = open_url(&url).await;
    // As the first version has left it: its table, its definition, its note of the migration.
    client
        .batch_execute(
            r#"CREATE TABLE fv_numbers (id bigint NOT NULL, event_timestamp timestamptz NOT NULL, created_at timestamptz NOT NULL,
                x double precision, PRIMARY KEY (id));
            INSERT INTO fv_numbers VALUES (1, 'epoch', 'epoch', 0.5);
            INSERT INTO ferrocast_entities (name, definition) VALUES
                ('thing', '{"name":"thing","description":"","join_keys":[{"name":"id","type":"int64","description":""}]}');
            INSERT INTO ferrocast_feature_views (name, project, definition) VALUES ('numbers', 'demo',
                '{"name":"numbers","project":"demo","description":"","entity":"thing","join_keys":[{"name":"id","type":"int64","description":""}],"features":[{"name":"x","type":"double","description":""}],"ttl":null,"source":{"path":"a.csv","timestamp_field":"event_timestamp","created_timestamp_field":null}}'),
                ('gone', 'demo', '{}');
            INSERT INTO ferrocast_materializations (view, source, digest, rows_written, rows_late) VALUES ('numbers', 'a.csv', 'd', 1, 0)"#,
        )
        .await
        .unwrap();
    note_first_migration(&client).await;
    // Somebody reads a table that has to change: others must not queue up behind the migration for long.
    client
        .batch_execute("BEGIN; SELECT count(*) FROM fv_numbers")
        .await
        .unwrap();
    let refused = tokio::time::timeout(crate::cancel::WAIT_MAX, store.migrate()).await;
    let refused = refused.unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
    assert!(refused.message().contains("in use"), "{refused}");
    client.batch_execute("COMMIT").await.unwrap();
    let applied = store.migrate().await.unwrap();
    assert_eq!(applied, migrations_from(2));
    store.check_schema().await.unwrap();
    client
        .batch_execute("DELETE FROM ferrocast_feature_views WHERE name = 'gone'")
        .await
        .unwrap();
    let catalog = store.load_catalog().await.unwrap();
    let view = catalog.view("numbers").unwrap();
    let stored = store.read(view, &[id(1)]).await.unwrap().remove(0).unwrap();
    assert_eq!(
        stored,
        StoredRow::whole(time(0, 0), vec![Value::Double(0.5)])
    );
    let written = store.write(view, vec![number(1, 1, 0, 1.5)]).await.unwrap();
    assert_eq!(written, counts(1, 0));
    let record = store.materializations("numbers").await.unwrap().remove(0);
    assert_eq!((record.watermark, record.counts), (None, counts(1, 0)));
}

/// Writes down that the first migration was applied, with the checksum that the tool gives it.
async fn note_first_migration(client: &tokio_postgres::Client) {
    let other = Postgres::shared().fresh_database().await;
    open_url(&other).await.migrate().await.unwrap();
    let database = other.rsplit('/').next().unwrap();
    let migrated = Postgres::shared().connect(database).await;
    let sql = "SELECT name, applied_on, checksum FROM refinery_schema_history WHERE version = 1";
    let row = migrated.query_one(sql, &[]).await.unwrap();
    let [name, applied_on, checksum]: [String; 3] = [row.get(0), row.get(1), row.get(2)];
    client
        .batch_execute(
            "CREATE TABLE refinery_schema_history (version INT4 PRIMARY KEY, name VARCHAR(255), applied_on VARCHAR(255), checksum VARCHAR(255))",
        )
        .await
        .unwrap();
    client
        .execute(
            "INSERT INTO refinery_schema_history VALUES (1, $1, $2, $3)",
            &[&name, &applied_on, &checksum],
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn late_rows_of_a_load_fill_what_partial_writes_left() {
    let fixture = postgres().await;
    let view = fixture
        .apply(&one_view("numbers", ID, &format!("{X}, {Y}")))
        .await
        .remove(0);
    let x = |value: f64| Some(Value::Double(value));
    let parts = (0..2_500)
        .map(|n| part(id(n), 9, 0, &[x(1.0), None]))
        .collect();
    assert_eq!(fixture.write(&view, parts).await, counts(2_500, 0));
    // Late for one feature, news for the other; and of two rows of an entity the newer one stands, in any order.
    let rows = (0..3_000).rev().flat_map(|n| {
        [3, 5, 4].map(|event| {
            write_row(
                id(n),
                event,
                0,
                vec![Value::Double(7.0), Value::Double(event as f64)],
            )
        })
    });
    assert_eq!(
        fixture.load(&view, rows.collect()).await,
        counts(3_000, 6_000)
    );
    for entity in [0, 2_499] {
        let row = fixture.row(&view, id(entity)).await.unwrap();
        assert_eq!(
            cells(&row),
            [
                Some((Value::Double(1.0), time(9, 0))),
                Some((Value::Double(5.0), time(5, 0)))
            ]
        );
    }
    assert!(fixture.row(&view, id(2_500)).await.unwrap().is_whole());
}

#[tokio::test]
async fn a_load_into_an_empty_table_meets_somebody_elses_first_row() {
    let fixture = postgres().await;
    let view = numbers(&fixture).await;
    let writer = client(&fixture).await;
    writer
        .batch_execute(
            "BEGIN; INSERT INTO fv_numbers (id, event_timestamp, created_at, x) VALUES \
             (2, to_timestamp(5), 'epoch', 5), (3, 'epoch', 'epoch', 3)",
        )
        .await
        .unwrap();
    let rows = (1..=4)
        .map(|entity| number(entity, 1_000_000, 0, 1.0))
        .collect();
    let loading = {
        let (store, view) = (Arc::clone(&fixture.store), Arc::clone(&view));
        tokio::spawn(
            async move { load(&store, &view, vec![Some(Ok(rows)), None], &note("x")).await },
        )
    };
    let watcher = client(&fixture).await;
    crate::cancel::await_lock_waits(&watcher, 1).await;
    writer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(loading.await.unwrap().unwrap(), counts(3, 1));
    let found = fixture.row(&view, id(2)).await.unwrap();
    assert_eq!(found.values, [Value::Double(5.0)]);
    let found = fixture.row(&view, id(3)).await.unwrap();
    assert_eq!(found.event_timestamp, at(1_000_000));
}

#[tokio::test]
async fn two_projects_are_applied_at_once() {
    let fixture = postgres().await;
    let mut tasks = JoinSet::new();
    for project in 0..2 {
        let store = fixture.another().await;
        tasks.spawn(async move {
            let text = format!(
                "project = \"p{project}\"\n[[entities]]\nname = \"e{project}\"\njoin_keys = [{ID}]\n\
                 [[feature_views]]\nname = \"v{project}\"\nentity = \"e{project}\"\nhistory = true\nfeatures = [{X}]"
            );
            let with = Definitions::parse(&text).unwrap();
            let without = Definitions::parse(&format!("project = \"p{project}\"")).unwrap();
            for _ in 0..5 {
                for definitions in [&with, &without, &with] {
                    // Told of five conflicts in a row, whoever applies does so again.
                    while let Err(error) =
                        apply_definitions(store.as_ref(), definitions, LOSSY).await
                    {
                        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                    }
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let catalog = fixture.store.load_catalog().await.unwrap();
    assert_eq!(catalog.views.keys().collect::<Vec<_>>(), ["v0", "v1"]);
    assert_eq!(
        catalog.revision,
        fixture.store.catalog_revision().await.unwrap()
    );
    for view in catalog.views.values() {
        fixture.write(view, vec![number(1, 1, 1, 1.0)]).await;
        assert_eq!(fixture.history(view).await.len(), 1);
    }
}

#[tokio::test]
async fn a_scan_may_take_as_long_as_a_load() {
    let fixture = postgres().await;
    let view = numbers(&fixture).await;
    fixture.write(&view, vec![number(1, 1, 1, 1.0)]).await;
    let mut options = DatabaseOptions::new(fixture.url.as_str().into());
    options.statement_timeout = Duration::from_millis(200);
    let store = open(&options).await.unwrap();
    let blocker = client(&fixture).await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE fv_numbers IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let (sink, mut batches) = tokio::sync::mpsc::channel(1);
    let scanning = tokio::spawn(async move { store.scan(&view, Scan::default(), sink).await });
    crate::cancel::await_lock_waits(&blocker, 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    blocker.batch_execute("COMMIT").await.unwrap();
    let rows = batches.recv().await.map(|rows| rows.len());
    scanning.await.unwrap().unwrap();
    assert_eq!(rows, Some(1));
}
