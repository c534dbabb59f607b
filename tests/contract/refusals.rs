//! What cannot be stored, and what takes too long: the same answer from every store.

use std::{sync::Arc, time::Duration};

use crate::{fixtures::*, for_every_sql_store, for_every_store};
use ferrocast::{
    config::Secret,
    error::{Error, ErrorKind},
    features::{EntityKey, KEY_BYTES_MAX, LoadInput, OnlineStore, StoredRow, Value, WriteRow},
    stores::{DatabaseOptions, Store, open},
};

for_every_store!(
    a_key_may_be_so_long_and_no_longer,
    a_row_that_no_view_has,
    keys_that_no_view_has,
);

for_every_sql_store!(
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
            Value::String("ab".into()),
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
    let error = refused(&fixture.store, &fixture, "keyed", vec![longer]).await;
    assert_eq!(error.fields()[0].field, "rows[0].long");
}

/// Loads rows that have to be refused.
async fn refused(store: &Store, fixture: &Fixture, view: &str, rows: Vec<WriteRow>) -> Error {
    let view = fixture.view(view).await;
    let messages = vec![Some(Ok(rows)), None];
    let loaded = load(store, &view, messages, &note_of(&view, "bad")).await;
    loaded.unwrap_err()
}

/// Each of these is a fault of whoever called, and none of them may be stored or end the process.
async fn a_row_that_no_view_has(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let whole = |values| StoredRow::whole(time(1, 1), values);
    let rows = [
        (id(1), whole(Vec::new())),
        (id(1), whole(vec![Value::Null, Value::Null])),
        (
            key([Value::Int64(1), Value::Int64(1)]),
            whole(vec![Value::Null]),
        ),
    ];
    for (key, row) in rows {
        let row = WriteRow { key, row };
        let error = fixture.store.write(&view, vec![row.clone()]).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Internal);
        let error = refused(&fixture.store, &fixture, "numbers", vec![row]).await;
        assert_eq!(error.kind(), ErrorKind::Internal);
    }
    assert_eq!(fixture.row(&view, id(1)).await, None);
}

async fn keys_that_no_view_has(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let text = |text: &str| Value::String(text.into());
    let keys: [EntityKey; 2] = [key([text("1")]), key([Value::Int64(1), Value::Int64(1)])];
    for key in keys {
        let read = fixture.store.read(&view, std::slice::from_ref(&key)).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Internal);
        let deleted = fixture.store.delete(&[Arc::clone(&view)], &key).await;
        assert_eq!(deleted.unwrap_err().kind(), ErrorKind::Internal);
    }
}

async fn a_check_of_the_operators_is_told_with_the_view(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let time = fixture.sql_time_type();
    let times = if fixture.is_sqlite() { "text" } else { "jsonb" };
    fixture
        .execute(&format!(
            "DROP TABLE fv_numbers; CREATE TABLE fv_numbers (id bigint PRIMARY KEY, event_timestamp {time}, \
             created_at {time}, x double precision CONSTRAINT below_forty CHECK (x < 40), \
             _feature_times {times}, _generation integer)"
        ))
        .await;
    let rows = vec![number(1, 1, 1, 39.0), number(2, 1, 1, 40.0)];
    for error in [
        fixture.store.write(&view, rows.clone()).await.unwrap_err(),
        refused(&fixture.store, &fixture, "numbers", rows).await,
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
    let time = fixture.sql_time(at(0));
    let times = if fixture.is_sqlite() {
        "NULL"
    } else {
        "NULL::jsonb"
    };
    fixture
        .execute(&format!(
            "DROP TABLE fv_numbers; CREATE VIEW fv_numbers AS SELECT CAST(i AS bigint) AS id, {time} AS event_timestamp, \
             {time} AS created_at, CAST(1 AS double precision) AS x, {times} AS _feature_times, 0 AS _generation FROM ({ENDLESS}) AS endless"
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
    let view = fixture.view("numbers").await;
    assert_eq!(fixture.row(&view, id(1)).await, None);
    store
        .write(&view, vec![number(1, 1, 1, 1.0)])
        .await
        .unwrap();
    fixture.load(&view, vec![number(2, 1, 1, 1.0)]).await;
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
    let error = refused(&store, &fixture, "numbers", vec![number(1, 1, 1, 1.0)]).await;
    assert_late(&error);
    assert_nothing_is_left(&fixture, &store).await;
}

async fn a_source_that_says_nothing_is_left(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let store = impatient(&fixture).await;
    let (_sender, batches) = tokio::sync::mpsc::channel(1);
    let input = LoadInput::Rows(batches);
    let error = store.load(&view, input, &note("silent")).await.unwrap_err();
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
    let row = |text: &str| write_row(id(1), 1, 1, vec![Value::String(text.into()); 1_000]);
    let rows = vec![row("sixteen letters.")];
    for error in [
        fixture.store.write(&view, rows.clone()).await.unwrap_err(),
        refused(&fixture.store, &fixture, "wide", rows).await,
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
        for words in ["feature view \"wide\"", "row is too big"] {
            assert!(error.message().contains(words), "{error}");
        }
    }
    fixture.store.write(&view, vec![row("six")]).await.unwrap();
}
