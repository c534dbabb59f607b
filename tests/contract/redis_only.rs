//! What is particular to features that are read from Redis: where they come from, what late and concurrent writers do, what
//! becomes of rows when a view changes.

use std::sync::Arc;

use ferrocast::{
    catalog::FeatureView,
    error::{ErrorKind, Result},
    features::{OnlineStore, StoredRow, Value, WriteRow},
    stores::{OnlineOptions, Refill, Store},
};

use crate::{
    fixtures::*,
    redis_server::{Redis, RedisCluster},
};

pub async fn refill(store: &Store) -> Result<()> {
    store.refill(&Refill::default(), &|_, _| ()).await
}

pub fn flush() -> Refill {
    Refill {
        flush: true,
        ..Refill::default()
    }
}

pub fn x(row: Option<StoredRow>) -> Option<Value> {
    row.map(|row| row.values[0].clone())
}

/// The keys of a test on a server.
pub fn keys_of(server: &Redis, prefix: &str) -> Vec<String> {
    let pattern = format!("{prefix}:*");
    let found = server.run(redis::cmd("KEYS").arg(pattern));
    let mut keys: Vec<String> = redis::from_redis_value(found).unwrap();
    keys.sort();
    keys
}

pub fn rows_of(server: &Redis, prefix: &str, view: &str) -> Vec<String> {
    let start = format!("{prefix}:{view}:{{i");
    let keys = keys_of(server, prefix).into_iter();
    keys.filter(|key| key.starts_with(&start)).collect()
}

pub fn prefix(fixture: &Fixture) -> &str {
    &fixture.online.as_ref().unwrap().key_prefix
}

pub async fn reopened(fixture: &Fixture, options: &OnlineOptions) -> Arc<Store> {
    open_store(&fixture.url, Some(options)).await
}

pub async fn sixty_numbers(fixture: &Fixture) -> Arc<FeatureView> {
    let view = numbers(fixture).await;
    let rows = (0..60).map(|entity| number(entity, 1, 1, 1.0)).collect();
    fixture.write(&view, rows).await;
    view
}

#[tokio::test]
async fn rows_are_read_from_redis_and_a_refill_brings_what_sql_changed() {
    for fixture in [redis().await, redis_cluster().await] {
        let view = numbers(&fixture).await;
        fixture
            .write(&view, vec![number(1, 5, 5, 1.0), number(2, 5, 5, 2.0)])
            .await;
        fixture.execute("UPDATE fv_numbers SET x = 7").await;
        let row = fixture.row(&view, id(1)).await;
        assert_eq!(x(row), Some(Value::Double(1.0)));
        // Two rows of one time: the record's is the one that holds.
        refill(&fixture.store).await.unwrap();
        let row = fixture.row(&view, id(1)).await;
        assert_eq!(x(row), Some(Value::Double(7.0)));
        // What the record lost, only a flush takes out.
        fixture.execute("DELETE FROM fv_numbers WHERE id = 2").await;
        refill(&fixture.store).await.unwrap();
        assert!(fixture.row(&view, id(2)).await.is_some());
        fixture.store.refill(&flush(), &|_, _| ()).await.unwrap();
        assert_eq!(fixture.row(&view, id(2)).await, None);
        assert!(fixture.row(&view, id(1)).await.is_some());
    }
}

#[tokio::test]
async fn a_flush_takes_no_key_of_somebody_else() {
    let server = Redis::start();
    let fixture = redis_at([server.url()]).await;
    let view = numbers(&fixture).await;
    fixture.write(&view, vec![number(1, 1, 1, 1.0)]).await;
    let prefix = prefix(&fixture);
    let theirs = [
        format!("{prefix}:theirs"),
        format!("{prefix}x:numbers:{{i1}}"),
        format!("{prefix}:a:b:{{i1}}"),
        "numbers:{i1}".to_owned(),
    ];
    for key in &theirs {
        server.run(redis::cmd("SET").arg(key).arg("theirs"));
    }
    fixture.store.refill(&flush(), &|_, _| ()).await.unwrap();
    for key in &theirs {
        let found = server.run(redis::cmd("EXISTS").arg(key));
        assert_eq!(found, redis::Value::Int(1), "{key}");
    }
    let some = Refill {
        views: vec!["numbers".to_owned()],
        flush: true,
    };
    let refused = fixture.store.refill(&some, &|_, _| ()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{refused:?}");
}

/// A generator of numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % below
    }
}

/// Rows of a few entities with times that are all different, some about one feature only.
fn many_rows(count: i64) -> Vec<WriteRow> {
    let mut numbers = Numbers(42);
    let mut rows: Vec<WriteRow> = (0..count)
        .map(|number| {
            let entity = i64::try_from(numbers.next(5)).unwrap();
            let value = |say: bool| say.then_some(Value::Double(number as f64));
            let said = numbers.next(4);
            part(
                id(entity),
                number / 3,
                number,
                &[value(said != 1), value(said != 2)],
            )
        })
        .collect();
    for index in (1..rows.len()).rev() {
        let other = numbers.next(u64::try_from(index + 1).unwrap());
        rows.swap(index, usize::try_from(other).unwrap());
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_in_any_order_leave_what_merging_all_rows_gives() {
    for fixture in [redis().await, redis_cluster().await] {
        let text = one_view("numbers", ID, &format!("{X}, {Y}"));
        let view = fixture.apply(&text).await.remove(0);
        let stores = [fixture.store.clone(), fixture.another().await];
        let rows = many_rows(240);
        let mut tasks = Vec::new();
        for (index, chunk) in rows.chunks(8).enumerate() {
            let (store, view) = (stores[index % 2].clone(), view.clone());
            let chunk = chunk.to_vec();
            tasks.push(tokio::spawn(async move {
                for row in chunk {
                    store.write(&view, vec![row]).await.unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let record = open_url(&fixture.url).await;
        for entity in 0..5 {
            let mut of_entity = rows.iter().filter(|row| row.key == id(entity));
            let mut expected = of_entity.next().unwrap().row.clone();
            for other in of_entity {
                expected.merge(&other.row);
            }
            let found = fixture.row(&view, id(entity)).await.unwrap();
            assert_eq!(found, expected);
            let recorded = record.read(&view, &[id(entity)]).await.unwrap();
            assert_eq!(recorded, [Some(expected)]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_and_deletions_go_on_during_refills() {
    let fixture = redis().await;
    let view = numbers(&fixture).await;
    let rows = (0..3_000).map(|entity| number(entity, 1, 1, 1.0)).collect();
    fixture.write(&view, rows).await;
    let (filler, filled_view) = (fixture.another().await, view.clone());
    let refilling = tokio::spawn(async move {
        for _ in 0..3 {
            refill(&filler).await.unwrap();
        }
        filled_view
    });
    let mut version = 1;
    while !refilling.is_finished() {
        version += 1;
        let entities = 0..40;
        let rows = entities.map(|entity| number(entity, version, 1, version as f64));
        fixture.write(&view, rows.collect()).await;
        for entity in 2_000..2_040 {
            let views = [view.clone()];
            fixture.store.delete(&views, &id(entity)).await.unwrap();
            let row = fixture.row(&view, id(entity)).await;
            assert_eq!(row, None, "{entity} came back");
            if entity % 2 == 0 {
                fixture.write(&view, vec![number(entity, 1, 1, 2.0)]).await;
            }
        }
    }
    refilling.await.unwrap();
    let record = open_url(&fixture.url).await;
    let keys: Vec<_> = (0..3_000).map(id).collect();
    let found = fixture.store.read(&view, &keys).await.unwrap();
    assert_eq!(found, record.read(&view, &keys).await.unwrap());
    assert_eq!(x(found[7].clone()), Some(Value::Double(version as f64)));
    assert_eq!(found[2_001], None);
}

#[tokio::test]
async fn a_deleted_entity_stays_away_until_it_is_written_again() {
    for fixture in [redis().await, redis_cluster().await] {
        let view = numbers(&fixture).await;
        fixture.write(&view, vec![number(1, 9, 9, 1.0)]).await;
        let views = [view.clone()];
        assert_eq!(fixture.store.delete(&views, &id(1)).await.unwrap(), 1);
        assert_eq!(fixture.row(&view, id(1)).await, None);
        // A refill that began before the deletion would bring the row at its end.
        refill(&fixture.store).await.unwrap();
        assert_eq!(fixture.row(&view, id(1)).await, None);
        assert_eq!(fixture.store.delete(&views, &id(1)).await.unwrap(), 0);
        // However old, it is all there is.
        fixture.write(&view, vec![number(1, 2, 2, 2.0)]).await;
        let row = fixture.row(&view, id(1)).await;
        assert_eq!(x(row), Some(Value::Double(2.0)));
    }
}

#[tokio::test]
async fn old_rows_are_read_after_a_change_of_the_features() {
    let z = r#"{ name = "z", type = "string" }"#;
    let y_as_text = r#"{ name = "y", type = "string" }"#;
    for fixture in [redis().await, redis_cluster().await] {
        let text = one_view("numbers", ID, &format!("{X}, {Y}"));
        let old = fixture.apply(&text).await.remove(0);
        let both = vec![Value::Double(1.0), Value::Double(2.0)];
        fixture
            .write(&old, vec![write_row(id(1), 1, 1, both.clone())])
            .await;
        fixture
            .write(&old, vec![write_row(id(2), 1, 1, both)])
            .await;

        let view = fixture
            .apply(&one_view("numbers", ID, &format!("{z}, {X}, {Y}")))
            .await;
        let row = fixture.row(&view[0], id(1)).await.unwrap();
        let first = Some(time(1, 1));
        assert_eq!(
            row.values,
            [Value::Null, Value::Double(1.0), Value::Double(2.0)]
        );
        assert_eq!(row.feature_times, Some(vec![None, first, first]));
        let said = Some(Value::String("new".into()));
        fixture
            .write(
                &view[0],
                vec![part(id(1), 3, 3, &[said.clone(), None, None])],
            )
            .await;

        // A process that has not heard of the change yet neither breaks a row nor loses what it does not know.
        let stale = fixture.another().await;
        let row = stale.read(&old, &[id(1)]).await.unwrap().remove(0).unwrap();
        assert_eq!(row.values, [Value::Double(1.0), Value::Double(2.0)]);
        let row = fixture.row(&view[0], id(1)).await.unwrap();
        assert_eq!(row.values[0], said.clone().unwrap());

        // Another type and, after it, the first one again: the old values belong to neither.
        for y in [y_as_text, Y] {
            let text = one_view("numbers", ID, &format!("{X}, {y}"));
            let view = fixture.apply(&text).await;
            let row = fixture.row(&view[0], id(2)).await.unwrap();
            assert_eq!(row.values, [Value::Double(1.0), Value::Null]);
            assert_eq!(row.feature_time(1), None);
        }
        let record = open_url(&fixture.url).await;
        let view = fixture.view("numbers").await;
        let keys = [id(1), id(2)];
        let found = fixture.store.read(&view, &keys).await.unwrap();
        assert_eq!(found, record.read(&view, &keys).await.unwrap());
    }
}

#[tokio::test]
async fn the_views_of_an_entity_are_in_one_slot_whatever_its_key() {
    let fixture = redis_cluster().await;
    let keys = r#"{ name = "a", type = "string" }, { name = "b", type = "bytes" }"#;
    let text = format!(
        "{}[[feature_views]]\nname = \"others\"\nentity = \"thing\"\nfeatures = [{X}]\n",
        one_view("numbers", keys, X)
    );
    let views = fixture.apply(&text).await;
    let odd = [
        ("{", "}"),
        ("}{", ""),
        ("", "{}"),
        ("a:b", "c"),
        ("a", "b:c"),
        ("a,b", "c"),
        ("a", ",b"),
        ("%7d;", "\0"),
        ("ü\u{7f}\n", "\u{1}"),
        ("i1", "b"),
    ];
    let odd = odd.map(|(a, b)| key([Value::String(a.into()), Value::Bytes(b.as_bytes().to_vec())]));
    for view in &views {
        for (number, key) in (0..).zip(&odd) {
            let value = vec![Value::Double(f64::from(number))];
            fixture
                .write(view, vec![write_row(key.clone(), 1, 1, value)])
                .await;
        }
    }
    for view in &views {
        let found = fixture.store.read(view, &odd).await.unwrap();
        for (number, row) in (0..).zip(found) {
            assert_eq!(x(row), Some(Value::Double(f64::from(number))));
        }
    }
    let cluster = RedisCluster::shared();
    let slot = |key: &str| cluster.nodes[0].run(redis::cmd("CLUSTER").arg("KEYSLOT").arg(key));
    let prefix = prefix(&fixture);
    let mut seen = 0;
    for node in &cluster.nodes {
        for key in keys_of(node, prefix) {
            let Some(entity) = key.strip_prefix(&format!("{prefix}:numbers:")) else {
                continue;
            };
            seen += 1;
            let other = format!("{prefix}:others:{entity}");
            assert_eq!(slot(&key), slot(&other), "{key}");
            assert_eq!(
                node.run(redis::cmd("EXISTS").arg(other)),
                redis::Value::Int(1)
            );
        }
    }
    assert_eq!(seen, odd.len());
}

#[tokio::test]
async fn the_keys_of_a_dropped_view_go_and_a_new_one_begins_empty() {
    let server = Redis::start();
    let fixture = redis_at([server.url()]).await;
    let view = sixty_numbers(&fixture).await;
    let prefix = prefix(&fixture);
    assert_eq!(rows_of(&server, prefix, "numbers").len(), 60);
    fixture.apply(&one_view("others", ID, X)).await;
    assert!(rows_of(&server, prefix, "numbers").is_empty());
    // As one that a writer left behind who did not know.
    let mut left = redis::cmd("SET");
    server.run(
        left.arg(format!("{prefix}:numbers:{{i1}}"))
            .arg("left behind"),
    );
    let again = numbers(&fixture).await;
    assert_eq!(again.generation, view.generation);
    assert_eq!(fixture.row(&again, id(1)).await, None);
    assert!(rows_of(&server, prefix, "numbers").is_empty());
}

#[tokio::test]
async fn bytes_that_are_no_row_are_read_from_the_record_and_mended_by_a_write() {
    let server = Redis::start();
    let fixture = redis_at([server.url()]).await;
    let view = sixty_numbers(&fixture).await;
    let key = format!("{}:numbers:{{i1}}", prefix(&fixture));
    for bad in [&b""[..], b"?", b"\x01\x00too short", &[1; 40]] {
        server.run(redis::cmd("SET").arg(&key).arg(bad));
        let row = fixture.row(&view, id(1)).await;
        assert_eq!(x(row), Some(Value::Double(1.0)), "{bad:?}");
    }
    fixture.write(&view, vec![number(1, 2, 2, 2.0)]).await;
    fixture
        .execute("UPDATE fv_numbers SET x = 7 WHERE id = 1")
        .await;
    let row = fixture.row(&view, id(1)).await;
    assert_eq!(x(row), Some(Value::Double(2.0)));
    // Without the schema that a row was written in, the record answers for it, too.
    let schema = keys_of(&server, prefix(&fixture));
    let schema = schema.iter().find(|key| key.contains(":schema:")).unwrap();
    server.run(redis::cmd("DEL").arg(schema));
    let text = one_view("numbers", ID, &format!("{X}, {Y}"));
    let options = fixture.online.clone().unwrap();
    let grown = fixture.apply(&text).await.remove(0);
    let fresh = reopened(&fixture, &options).await;
    let row = fresh.read(&grown, &[id(1)]).await.unwrap().remove(0);
    assert_eq!(x(row), Some(Value::Double(7.0)));
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_gets_them_again() {
    let server = Redis::start();
    let fixture = redis_at([server.url()]).await;
    let view = sixty_numbers(&fixture).await;
    for event in 2..4 {
        server.run(redis::cmd("SCRIPT").arg("FLUSH"));
        let part = part(id(1), event, 1, &[Some(Value::Double(event as f64))]);
        fixture.write(&view, vec![part]).await;
        let row = fixture.row(&view, id(1)).await;
        assert_eq!(x(row), Some(Value::Double(event as f64)));
    }
}

#[tokio::test]
async fn a_refused_login_is_a_precondition_and_shows_no_password() {
    let server = Redis::start();
    let wrong = server.url().replace(server.password(), "wrong-secret");
    let fixture = sqlite().await;
    let mut options = ferrocast::stores::DatabaseOptions::new(fixture.url.as_str().into());
    options.pool_size = 1;
    let opened = ferrocast::stores::open_with_redis(&options, &online([wrong])).await;
    let error = opened.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    let place = format!("127.0.0.1:{}", server.port());
    assert!(error.message().contains(&place), "{error}");
    assert!(!format!("{error} {error:?}").contains("wrong-secret"));
    for bad in [
        "redis://:hunter2@",
        "http://u:hunter2@h",
        "redis://h:port",
        "redis://u:hunter2@h:1/x",
    ] {
        let fault = ferrocast::stores::check_online(&online([bad.to_owned()])).unwrap_err();
        assert_eq!(fault.kind(), ErrorKind::InvalidArgument, "{fault:?}");
        assert!(
            !format!("{fault} {fault:?}").contains("hunter2"),
            "{fault:?}"
        );
    }
}
