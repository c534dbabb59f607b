//! Sources that are SQL queries, run by the store's own database.

use std::sync::Arc;

use ferrocast::{
    catalog::FeatureView,
    error::{Error, ErrorKind, Result},
    features::{LoadInput, OnlineStore, Timestamp, Value, WriteCounts},
};

use crate::{fixtures::*, for_every_sql_store};

for_every_sql_store!(
    a_query_is_loaded,
    only_rows_since_a_time,
    a_query_cannot_change_anything,
    a_query_that_cannot_be_run,
    a_query_without_a_column,
    a_value_of_a_query_that_does_not_fit,
    a_query_of_many_rows,
    a_query_keeps_history,
    a_source_that_is_no_query,
);

/// A table `raw` with what somebody collects.
async fn raw(fixture: &Fixture) {
    let time = fixture.sql_time_type();
    let at = |micros| fixture.sql_time(at(micros));
    fixture
        .execute(&format!(
            "CREATE TABLE raw (id bigint, t {time}, made {time}, x double precision); \
             INSERT INTO raw VALUES (1, {t1}, {t1}, 1), (1, {t5}, {t1}, 5), (2, {t3}, {t1}, NULL), (3, {t2}, {t2}, 2.5)",
            t1 = at(1),
            t2 = at(2),
            t3 = at(3),
            t5 = at(5),
        ))
        .await;
}

async fn view(fixture: &Fixture, query: &str) -> Arc<FeatureView> {
    let text = one_view_with_history("numbers", ID, X);
    let text = format!(
        "{text}source = {{ query = '''{query}''', timestamp_field = \"t\", created_timestamp_field = \"made\" }}\n"
    );
    fixture.apply(&text).await.remove(0)
}

async fn load_query(
    fixture: &Fixture,
    view: &FeatureView,
    since: Option<Timestamp>,
) -> Result<WriteCounts> {
    let input = LoadInput::Query { since };
    fixture.store.load(view, input, &note("query")).await
}

/// A query that must not be loaded; nothing is there after it.
async fn query_fault(fixture: &Fixture, query: &str) -> Error {
    let view = view(fixture, query).await;
    let Err(error) = load_query(fixture, &view, None).await else {
        panic!("{query}");
    };
    let known = fixture.store.materializations("numbers").await;
    assert_eq!(known.unwrap(), []);
    assert_eq!(fixture.history(&view).await, []);
    error
}

async fn watermark(fixture: &Fixture) -> Option<Timestamp> {
    let known = fixture.store.materializations("numbers").await.unwrap();
    assert_eq!(known.len(), 1);
    known[0].watermark
}

async fn a_query_is_loaded(fixture: Fixture) {
    raw(&fixture).await;
    // Other columns, other orders, a comment and the end of a statement do no harm.
    for query in [
        "SELECT * FROM raw",
        "SELECT * FROM raw -- all of it",
        "\nWITH mine AS (SELECT 7 AS other, x, made, id, t FROM raw)\nSELECT * FROM mine;\n",
    ] {
        let view = view(&fixture, query).await;
        let loaded = load_query(&fixture, &view, None).await;
        assert_eq!(loaded.unwrap(), counts(3, 1));
        let found = fixture.row(&view, id(1)).await;
        assert_eq!(found, Some(number(1, 5, 1, 5.0).row));
        let null = write_row(id(2), 3, 1, vec![Value::Null]);
        assert_eq!(fixture.row(&view, id(2)).await, Some(null.row));
        assert_eq!(watermark(&fixture).await, Some(at(5)));
        let loaded = load_query(&fixture, &view, None).await;
        assert_eq!(loaded.unwrap(), counts(0, 4));
        fixture.apply("project = \"demo\"").await;
    }
}

async fn only_rows_since_a_time(fixture: Fixture) {
    raw(&fixture).await;
    let view = view(&fixture, "SELECT * FROM raw").await;
    let loaded = load_query(&fixture, &view, Some(at(3))).await;
    assert_eq!(loaded.unwrap(), counts(2, 0));
    assert_eq!(fixture.row(&view, id(3)).await, None);
    assert_eq!(watermark(&fixture).await, Some(at(5)));
    // Nothing that is as new: the mark stays.
    let loaded = load_query(&fixture, &view, Some(at(6))).await;
    assert_eq!(loaded.unwrap(), WriteCounts::default());
    assert_eq!(watermark(&fixture).await, Some(at(5)));
    let time = fixture.sql_time(at(9));
    fixture
        .execute(&format!("INSERT INTO raw VALUES (3, {time}, {time}, 9)"))
        .await;
    let since = watermark(&fixture).await;
    let loaded = load_query(&fixture, &view, since).await;
    assert_eq!(loaded.unwrap(), counts(1, 1));
    assert_eq!(watermark(&fixture).await, Some(at(9)));
    // Rows that somebody takes away do not bring the mark back.
    fixture.execute("DELETE FROM raw WHERE x > 2").await;
    load_query(&fixture, &view, None).await.unwrap();
    assert_eq!(watermark(&fixture).await, Some(at(9)));
}

async fn a_query_cannot_change_anything(fixture: Fixture) {
    raw(&fixture).await;
    let mut queries = vec![
        "DELETE FROM raw",
        "INSERT INTO raw VALUES (9, NULL, NULL, 9)",
        "DROP TABLE raw",
        "UPDATE raw SET x = 0 RETURNING *",
        "SELECT * FROM raw; DROP TABLE raw",
        "SELECT * FROM raw) AS mine; DROP TABLE raw; SELECT * FROM (SELECT 1",
        "SELECT * FROM raw); DELETE FROM raw; --",
        "COMMIT",
    ];
    if fixture.is_sqlite() {
        queries.extend([
            "ATTACH ':memory:' AS other",
            "PRAGMA journal_mode = DELETE",
            "PRAGMA user_version = 7",
        ]);
    } else {
        queries.push("WITH gone AS (DELETE FROM raw RETURNING *) SELECT * FROM gone");
    }
    for query in queries {
        query_fault(&fixture, query).await;
    }
    let view = view(&fixture, "SELECT * FROM raw").await;
    let loaded = load_query(&fixture, &view, None).await;
    assert_eq!(loaded.unwrap(), counts(3, 1));
}

async fn a_query_that_cannot_be_run(fixture: Fixture) {
    for query in [
        "SELECT * FROM nowhere",
        "SELEKT 1",
        "SELECT * FROM ferrocast_catalog WHERE",
    ] {
        let error = query_fault(&fixture, query).await;
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
        let words = "feature view \"numbers\"";
        assert!(error.message().contains(words), "{error}");
    }
}

async fn a_query_without_a_column(fixture: Fixture) {
    raw(&fixture).await;
    let error = query_fault(&fixture, "SELECT t, made FROM raw").await;
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    for words in ["feature view \"numbers\"", "id", "x", "the query has no"] {
        assert!(error.message().contains(words), "{error}");
    }
    let error = query_fault(&fixture, "SELECT *, x FROM raw").await;
    assert!(error.message().contains("twice"), "{error}");
}

async fn a_value_of_a_query_that_does_not_fit(fixture: Fixture) {
    raw(&fixture).await;
    let time = fixture.sql_time(at(1));
    fixture
        .execute(&format!("INSERT INTO raw VALUES (NULL, {time}, {time}, 1)"))
        .await;
    let error = query_fault(&fixture, "SELECT * FROM raw ORDER BY id IS NULL").await;
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
    let field_of = |error: &Error| error.fields()[0].field.clone();
    assert!(field_of(&error).ends_with("id"), "{error}");
    let query = "SELECT id, CASE WHEN id = 3 THEN NULL ELSE t END AS t, made, x FROM raw WHERE id IS NOT NULL ORDER BY id";
    let error = query_fault(&fixture, query).await;
    assert!(field_of(&error).ends_with('t'), "{error}");
    let query = "SELECT id, t, made, 'much' AS x FROM raw WHERE id IS NOT NULL";
    let error = query_fault(&fixture, query).await;
    for words in ["x", "double"] {
        assert!(error.message().contains(words), "{error}");
    }
}

async fn a_query_of_many_rows(fixture: Fixture) {
    let time = fixture.sql_time(at(1));
    let query = format!(
        "WITH RECURSIVE counted(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM counted WHERE id < 20000) \
         SELECT CAST(id AS bigint) AS id, {time} AS t, {time} AS made, CAST(id AS double precision) / 2 AS x FROM counted"
    );
    let view = view(&fixture, &query).await;
    let loaded = load_query(&fixture, &view, None).await;
    assert_eq!(loaded.unwrap(), counts(20_000, 0));
    let last = fixture.row(&view, id(20_000)).await.unwrap();
    assert_eq!(last.values, [Value::Double(10_000.0)]);
}

async fn a_query_keeps_history(fixture: Fixture) {
    raw(&fixture).await;
    let view = view(&fixture, "SELECT * FROM raw").await;
    load_query(&fixture, &view, None).await.unwrap();
    load_query(&fixture, &view, None).await.unwrap();
    assert_eq!(fixture.history(&view).await.len(), 4);
}

async fn a_source_that_is_no_query(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let error = load_query(&fixture, &view, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
}
