//! What cannot be stored, and what takes too long: the same answer from every store.

use std::{sync::Arc, time::Duration};

use ferrocast::{
    config::Secret,
    error::{Error, ErrorKind},
    features::{KEY_BYTES_MAX, OnlineStore, Value, WriteRow},
    stores::{DatabaseOptions, Store, open},
};
use tokio::sync::mpsc;

use crate::{fixtures::*, for_every_store};

for_every_store!(
    a_key_may_be_so_long_and_no_longer,
    a_check_of_the_operators_is_told_with_the_view,
    a_read_without_end_is_stopped,
    a_write_without_end_is_stopped,
    a_load_without_end_is_stopped,
    a_source_that_says_nothing_is_left,
);

/// Bytes that no database can compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u8::try_from(state >> 24).unwrap()
    };
    (0..length).map(|_| next()).collect()
}

async fn a_key_may_be_so_long_and_no_longer(fixture: Fixture) {
    let keys = r#"{ name = "short", type = "string" }, { name = "number", type = "int64" }, { name = "long", type = "bytes" }"#;
    let view = fixture.apply(&one_view("keyed", keys, X)).await.remove(0);
    let row = |length| {
        let key = key([
            Value::String("ab".to_owned()),
            Value::Int64(7),
            Value::Bytes(noise(length)),
        ]);
        write_row(key, 1, 1, vec![Value::Double(1.0)])
    };
    let longest = row(KEY_BYTES_MAX - 2);
    let longer = row(KEY_BYTES_MAX - 1);
    fixture
        .store
        .write(&view, vec![longest.clone()])
        .await
        .unwrap();
    let rows = vec![longest.clone(), longer.clone()];
    let error = fixture.store.write(&view, rows).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(error.fields()[0].field, "rows[1].long");
    assert!(error.message().contains("2001 bytes"), "{error}");
    let keys = [longer.key.clone(), longest.key];
    let found = fixture.store.read(&view, &keys).await.unwrap();
    assert_eq!(found, [None, Some(longest.row)]);
    let error = load(&fixture.store, &fixture, "keyed", vec![longer]).await;
    assert_eq!(error.fields()[0].field, "rows[0].long");
}

/// Loads rows that have to be refused.
async fn load(store: &Arc<Store>, fixture: &Fixture, view: &str, rows: Vec<WriteRow>) -> Error {
    use ferrocast::catalog::CatalogStore;
    let catalog = fixture.store.load_catalog().await.unwrap();
    let (sender, batches) = mpsc::channel(2);
    sender.try_send(Some(Ok(rows))).unwrap();
    sender.try_send(None).unwrap();
    let view = catalog.view(view).unwrap();
    store.load(view, batches, &note("bad")).await.unwrap_err()
}

async fn a_check_of_the_operators_is_told_with_the_view(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let time = if fixture.is_sqlite() {
        "bigint"
    } else {
        "timestamptz"
    };
    fixture
        .execute(&format!(
            "DROP TABLE fv_numbers; CREATE TABLE fv_numbers (id bigint PRIMARY KEY, event_timestamp {time}, \
             created_at {time}, x double precision CONSTRAINT below_forty CHECK (x < 40))"
        ))
        .await;
    let rows = vec![number(1, 1, 1, 39.0), number(2, 1, 1, 40.0)];
    for error in [
        fixture.store.write(&view, rows.clone()).await.unwrap_err(),
        load(&fixture.store, &fixture, "numbers", rows).await,
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
        for words in ["feature view \"numbers\"", "below_forty"] {
            assert!(error.message().contains(words), "{error}");
        }
    }
    assert_eq!(fixture.store.read(&view, &[id(1)]).await.unwrap(), [None]);
}

/// A store that gives up soon, on a database where nothing else is slow.
async fn impatient(fixture: &Fixture) -> Arc<Store> {
    let mut options = DatabaseOptions::new(Secret::from(&fixture.url));
    options.connect_timeout = Duration::from_secs(60);
    options.acquire_timeout = Duration::from_secs(60);
    options.statement_timeout = Duration::from_millis(100);
    options.load_timeout = Duration::from_millis(500);
    open(&options).await.unwrap()
}

/// A view of SQL that counts for ever; whoever reads it is stopped or never comes back.
const ENDLESS: &str = "WITH RECURSIVE counted(i) AS (SELECT 1 UNION ALL SELECT i % 1000 + 1 FROM counted) SELECT i FROM counted WHERE i < 0";

fn assert_late(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

async fn a_read_without_end_is_stopped(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let store = impatient(&fixture).await;
    let time = if fixture.is_sqlite() {
        "1"
    } else {
        "'1970-01-01T00:00:00Z'::timestamptz"
    };
    fixture
        .execute(&format!(
            "DROP TABLE fv_numbers; CREATE VIEW fv_numbers AS SELECT CAST(i AS bigint) AS id, {time} AS event_timestamp, \
             {time} AS created_at, CAST(1 AS double precision) AS x FROM ({ENDLESS}) AS endless"
        ))
        .await;
    let error = store.read(&view, &[id(1)]).await.unwrap_err();
    assert_late(&error);
    if fixture.is_sqlite() {
        assert!(
            error.message().contains("database.statement_ms_max"),
            "{error}"
        );
    }
    store.ping().await.unwrap();
}

/// Makes whoever inserts into `numbers` count for ever.
async fn make_inserts_endless(fixture: &Fixture) {
    let sql = if fixture.is_sqlite() {
        format!(
            "CREATE VIEW endless AS {ENDLESS}; \
             CREATE TRIGGER slow BEFORE INSERT ON fv_numbers BEGIN SELECT count(*) FROM endless; END"
        )
    } else {
        format!(
            "CREATE VIEW endless AS {ENDLESS}; \
             CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM count(*) FROM endless; RETURN NEW; END'; \
             CREATE TRIGGER slow BEFORE INSERT ON fv_numbers FOR EACH ROW EXECUTE FUNCTION slow()"
        )
    };
    fixture.execute(&sql).await;
}

/// The stopped work has left nothing, and is in nobody's way.
async fn assert_nothing_is_left(fixture: &Fixture, store: &Arc<Store>) {
    let drop = if fixture.is_sqlite() {
        "DROP TRIGGER slow"
    } else {
        "DROP TRIGGER slow ON fv_numbers"
    };
    fixture.execute(drop).await;
    let view = {
        use ferrocast::catalog::CatalogStore;
        let catalog = fixture.store.load_catalog().await.unwrap();
        Arc::clone(catalog.view("numbers").unwrap())
    };
    let found = fixture.store.read(&view, &[id(1)]).await.unwrap();
    assert_eq!(found, [None]);
    store
        .write(&view, vec![number(1, 1, 1, 1.0)])
        .await
        .unwrap();
    let (sender, batches) = mpsc::channel(2);
    sender
        .try_send(Some(Ok(vec![number(2, 1, 1, 1.0)])))
        .unwrap();
    sender.try_send(None).unwrap();
    let patient = &fixture.store;
    patient.load(&view, batches, &note("good")).await.unwrap();
}

async fn a_write_without_end_is_stopped(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let store = impatient(&fixture).await;
    make_inserts_endless(&fixture).await;
    let rows = vec![number(1, 1, 1, 1.0)];
    assert_late(&store.write(&view, rows).await.unwrap_err());
    assert_nothing_is_left(&fixture, &store).await;
}

async fn a_load_without_end_is_stopped(fixture: Fixture) {
    numbers(&fixture).await;
    let store = impatient(&fixture).await;
    make_inserts_endless(&fixture).await;
    let error = load(&store, &fixture, "numbers", vec![number(1, 1, 1, 1.0)]).await;
    assert_late(&error);
    assert_nothing_is_left(&fixture, &store).await;
}

async fn a_source_that_says_nothing_is_left(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let store = impatient(&fixture).await;
    let (_sender, batches) = mpsc::channel(1);
    let error = store.load(&view, batches, &note("silent")).await;
    let error = error.unwrap_err();
    assert_late(&error);
    assert!(error.message().contains("database.load_ms_max"), "{error}");
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_row_that_is_too_big_for_a_page_names_the_view() {
    let fixture = postgres().await;
    // Too short for PostgreSQL to keep them elsewhere, and too many.
    let features: Vec<String> = (0..1_000)
        .map(|index| format!(r#"{{ name = "f{index}", type = "string" }}"#))
        .collect();
    let view = fixture
        .apply(&one_view("wide", ID, &features.join(", ")))
        .await
        .remove(0);
    let row = |text: &str| write_row(id(1), 1, 1, vec![Value::String(text.to_owned()); 1_000]);
    let rows = vec![row("sixteen letters.")];
    for error in [
        fixture.store.write(&view, rows.clone()).await.unwrap_err(),
        load(&fixture.store, &fixture, "wide", rows).await,
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
        for words in ["feature view \"wide\"", "row is too big"] {
            assert!(error.message().contains(words), "{error}");
        }
    }
    fixture.store.write(&view, vec![row("six")]).await.unwrap();
}
