//! What only PostgreSQL has of somebody else's: tables and SQL views served as they are, queries that are loaded.

use std::sync::Arc;

use ferrocast::{
    catalog::{CatalogStore, FeatureView},
    error::{Error, ErrorKind},
    features::{ListValue, LoadInput, OnlineStore, Scan, Value},
};

use crate::{fixtures::*, postgres_only::client};

fn text(text: &str) -> Value {
    Value::String(text.into())
}

/// A definitions file with a view `account` on an existing table.
fn on_table(keys: &str, table: &str, features: &str) -> String {
    format!(
        "{}table = {{ {table} }}\n",
        one_view("account", keys, features)
    )
}

async fn refusal(fixture: &Fixture, definitions: &str) -> Error {
    let error = fixture.try_apply(definitions).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    error
}

#[tokio::test]
async fn a_table_of_another_schema_is_read_with_names_of_its_own() {
    let fixture = postgres().await;
    fixture
        .execute(
            r#"CREATE SCHEMA crm;
            CREATE TABLE crm."Accounts" ("Id" integer, changed timestamp, noted date, amount numeric, rank smallint, tags varchar(9)[]);
            INSERT INTO crm."Accounts" VALUES
                (1, '2024-01-01 10:00', '2024-01-02', 1.5, 1, '{a}'), (1, '2024-01-02 10:00', '2024-01-01', 2.5, 2, '{b,c}'),
                (1, '2024-01-02 10:00', '2024-01-03', 3.5, 3, '{}'), (1, '2024-01-02 10:00', NULL, 4.5, 4, NULL),
                (2, NULL, '2024-01-03', 9, 9, NULL), (3, '2024-01-01', NULL, 'NaN', NULL, NULL)"#,
        )
        .await;
    let table = r#"name = "crm.Accounts", timestamp_field = "changed", created_timestamp_field = "noted", columns = { id = "Id" }"#;
    let features = r#"{ name = "amount", type = "double" }, { name = "rank", type = "int64" }, { name = "tags", type = "list<string>" }"#;
    let view = fixture
        .apply(&on_table(ID, table, features))
        .await
        .remove(0);
    let keys = [id(3), id(2), id(1), id(4), id(1)];
    let found = fixture.store.read(&view, &keys).await.unwrap();
    let newest = found[2].as_ref().unwrap();
    assert_eq!(newest.event_timestamp.to_string(), "2024-01-02T10:00:00Z");
    assert_eq!(newest.created_at.to_string(), "2024-01-03T00:00:00Z");
    let empty = Value::List(ListValue::String(Vec::new()));
    assert_eq!(newest.values, [Value::Double(3.5), Value::Int64(3), empty]);
    assert_eq!(found[4], found[2]);
    // A row without a time is passed over.
    assert_eq!((&found[1], &found[3]), (&None, &None));
    assert!(matches!(found[0].as_ref().unwrap().values[0], Value::Double(x) if x.is_nan()));

    let mut rows = fixture.scan(&view, Scan::default()).await.unwrap();
    rows.sort_by_key(|write| format!("{}", write.key));
    assert_eq!(rows.len(), 2);
    assert_eq!(&rows[0].row, newest);
    let since = Some(newest.event_timestamp);
    let scan = Scan {
        history: false,
        since,
    };
    assert_eq!(fixture.scan(&view, scan).await.unwrap().len(), 1);
    let scan = Scan {
        history: true,
        since,
    };
    assert_eq!(fixture.scan(&view, scan).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_sql_view_is_read_and_nothing_of_it_written() {
    let fixture = postgres().await;
    fixture
        .execute(
            "CREATE TABLE orders (customer uuid, total double precision, ordered timestamptz); \
             INSERT INTO orders VALUES ('6f1c0e57-0000-4000-8000-000000000001', 5, '2024-01-01T00:00:00Z'), \
             ('6f1c0e57-0000-4000-8000-000000000001', 7, '2024-01-02T00:00:00Z'); \
             CREATE VIEW totals AS SELECT customer, sum(total) AS total, max(ordered) AS event_timestamp FROM orders GROUP BY 1",
        )
        .await;
    let customer = r#"{ name = "customer", type = "string" }"#;
    let total = r#"{ name = "total", type = "double" }"#;
    let view = fixture
        .apply(&on_table(customer, r#"name = "totals""#, total))
        .await
        .remove(0);
    // Another spelling of a UUID is another text, and a text that is none is no fault.
    let names = [
        "6f1c0e57-0000-4000-8000-000000000001",
        "6F1C0E57-0000-4000-8000-000000000001",
        "nobody",
    ];
    let keys = names.map(|name| key([text(name)]));
    let found = fixture.store.read(&view, &keys).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().values, [Value::Double(12.0)]);
    assert_eq!(found[1..], [None, None]);

    let row = write_row(keys[0].clone(), 1, 1, vec![Value::Double(1.0)]);
    let views = [Arc::clone(&view)];
    let refusals = [
        fixture.store.write(&view, vec![row]).await.unwrap_err(),
        load(&fixture.store, &view, vec![None], &note("x"))
            .await
            .unwrap_err(),
        fixture.store.delete(&views, &keys[0]).await.unwrap_err(),
    ];
    for error in refusals {
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.message().contains("read-only"), "{error}");
    }
}

#[tokio::test]
async fn all_that_is_wrong_with_tables_is_told_at_once() {
    let fixture = postgres().await;
    fixture
        .execute("CREATE TABLE accounts (id numeric, x double precision, y bigint, z text[], event_timestamp timestamptz)")
        .await;
    let features = r#"{ name = "x", type = "float" }, { name = "y", type = "double" }, { name = "z", type = "string" }, { name = "w", type = "bool" }"#;
    let table = r#"name = "accounts", created_timestamp_field = "y""#;
    let error = refusal(&fixture, &on_table(ID, table, features)).await;
    for fault in [
        "\"id\" of the table accounts is of the type numeric, which cannot become a int64",
        "\"x\" of the table accounts is of the type float8, which cannot become a float",
        "\"y\" of the table accounts is of the type int8, which cannot become a double",
        "\"y\" of the table accounts is of the type int8, which cannot become a timestamp",
        "\"z\" of the table accounts is of the type _text, which cannot become a string",
        "the table accounts has no column \"w\"",
    ] {
        assert!(error.message().contains(fault), "{error}");
    }
    let error = refusal(&fixture, &on_table(ID, r#"name = "nowhere""#, X)).await;
    assert!(
        error.message().contains("the table nowhere does not exist"),
        "{error}"
    );
    assert_eq!(fixture.store.catalog_revision().await.unwrap(), 0);
}

#[tokio::test]
async fn a_table_that_changes_later_is_looked_at_anew() {
    let fixture = postgres().await;
    fixture
        .execute(
            "CREATE TABLE accounts (id integer PRIMARY KEY, x real, event_timestamp timestamptz); \
             INSERT INTO accounts VALUES (1, 0.5, now())",
        )
        .await;
    let view = fixture
        .apply(&on_table(ID, r#"name = "accounts""#, X))
        .await
        .remove(0);
    let values = async || {
        fixture
            .store
            .read(&view, &[id(1)])
            .await
            .map(|mut rows| rows.remove(0).unwrap().values)
    };
    assert_eq!(values().await.unwrap(), [Value::Double(0.5)]);
    fixture
        .execute("ALTER TABLE accounts ALTER COLUMN x TYPE double precision, ALTER COLUMN id TYPE bigint")
        .await;
    assert_eq!(values().await.unwrap(), [Value::Double(0.5)]);
    fixture.execute("ALTER TABLE accounts DROP COLUMN x").await;
    let error = values().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(
        error
            .message()
            .contains("the table accounts has no column \"x\""),
        "{error}"
    );
    fixture
        .execute("ALTER TABLE accounts ADD COLUMN x numeric DEFAULT 1e400")
        .await;
    let error = values().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    assert!(
        error.message().contains("the table accounts holds"),
        "{error}"
    );
}

#[tokio::test]
async fn a_column_of_another_type_that_fits_is_read_on() {
    let fixture = postgres().await;
    fixture
        .execute(
            "CREATE TABLE accounts (id bigint, x double precision, event_timestamp timestamptz); \
             INSERT INTO accounts VALUES (1, 0.5, now())",
        )
        .await;
    let view = fixture
        .apply(&on_table(ID, r#"name = "accounts""#, X))
        .await
        .remove(0);
    // As it was found the column needs no cast; with each of these types it does.
    for column in ["double precision", "real", "numeric"] {
        fixture
            .execute(&format!(
                "ALTER TABLE accounts ALTER COLUMN x TYPE {column}"
            ))
            .await;
        let row = fixture.row(&view, id(1)).await.unwrap();
        assert_eq!(row.values, [Value::Double(0.5)], "{column}");
    }
}

#[tokio::test]
async fn reading_a_table_uses_the_index_of_its_key() {
    for (column, declared, sample) in [
        ("integer", "int64", "g"),
        ("varchar(40)", "string", "g::text"),
        ("char(8)", "string", "g::text"),
        ("uuid", "string", "gen_random_uuid()"),
    ] {
        let fixture = postgres().await;
        fixture
            .execute(&format!(
                "CREATE TABLE accounts (id {column}, x double precision, event_timestamp timestamptz); \
                 INSERT INTO accounts SELECT {sample}, g, now() FROM generate_series(1, 5000) AS g; \
                 CREATE INDEX ON accounts (id, event_timestamp); ANALYZE accounts"
            ))
            .await;
        let id = format!(r#"{{ name = "id", type = "{declared}" }}"#);
        let view = fixture
            .apply(&on_table(&id, r#"name = "accounts""#, X))
            .await
            .remove(0);
        let client = client(&fixture).await;
        // What the store has prepared on its connections is not ours to see; what its reading counted is.
        let scans = "SELECT seq_scan, idx_scan FROM pg_stat_user_tables WHERE relname = 'accounts'";
        client
            .batch_execute("SELECT pg_stat_reset()")
            .await
            .unwrap();
        let key = if declared == "int64" {
            key([Value::Int64(77)])
        } else {
            let row = client.query_one("SELECT id::text FROM accounts WHERE x = 77", &[]);
            key([text(row.await.unwrap().get(0))])
        };
        let before: i64 = client.query_one(scans, &[]).await.unwrap().get(0);
        let row = fixture.row(&view, key).await.unwrap();
        assert_eq!(row.values, [Value::Double(77.0)]);
        // Counts come when a session ends, or some time later.
        drop(fixture.store);
        let give_up_at = std::time::Instant::now() + crate::cancel::WAIT_MAX;
        loop {
            let row = client.query_one(scans, &[]).await.unwrap();
            let (sequential, by_index): (i64, Option<i64>) = (row.get(0), row.get(1));
            if by_index.unwrap_or(0) > 0 {
                assert!(sequential <= before + 1, "{column}");
                break;
            }
            assert!(std::time::Instant::now() < give_up_at, "{column}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// A view `numbers` whose source is a query.
fn by_query(query: &str, more: &str, features: &str) -> String {
    format!(
        "{}source = {{ query = '''{query}'''{more} }}\n",
        one_view("numbers", ID, features)
    )
}

async fn load_query(
    fixture: &Fixture,
    view: &FeatureView,
    since: Option<i64>,
) -> ferrocast::error::Result<ferrocast::features::WriteCounts> {
    let since = since.map(at);
    fixture
        .store
        .load(view, LoadInput::Query { since }, &note("query"))
        .await
}

#[tokio::test]
async fn a_query_is_loaded_by_the_database_itself() {
    let fixture = postgres().await;
    fixture
        .execute(
            "CREATE TABLE facts (id integer, x numeric, happened timestamp, tags text[], days date[]); INSERT INTO facts VALUES \
             (1, 1.5, 'epoch', '{a}', '{1970-01-02}'), (1, 2.5, '1970-01-01 00:00:01', NULL, NULL), (2, NULL, '1970-01-01 00:00:02', '{}', '{}')",
        )
        .await;
    let features = r#"{ name = "x", type = "double" }, { name = "tags", type = "list<string>" }, { name = "days", type = "list<timestamp>" }"#;
    let query = "SELECT * FROM facts; -- all of them";
    let definitions = by_query(query, ", timestamp_field = \"happened\"", features);
    let view = fixture.apply(&definitions).await.remove(0);
    assert_eq!(
        load_query(&fixture, &view, None).await.unwrap_err().kind(),
        ErrorKind::FailedPrecondition
    );
    let definitions = definitions.replace("; -- all of them", " -- all of them");
    let view = fixture
        .apply(&format!("{definitions}history = true"))
        .await
        .remove(0);
    assert_eq!(
        load_query(&fixture, &view, None).await.unwrap(),
        counts(2, 1)
    );
    let row = fixture.row(&view, id(1)).await.unwrap();
    assert_eq!(row.event_timestamp, at(1_000_000));
    assert_eq!(row.values, [Value::Double(2.5), Value::Null, Value::Null]);
    let empty = Value::List(ListValue::String(Vec::new()));
    let no_days = Value::List(ListValue::Timestamp(Vec::new()));
    let row = fixture.row(&view, id(2)).await.unwrap();
    assert_eq!(row.values, [Value::Null, empty, no_days]);
    let history = fixture.history(&view).await;
    assert_eq!(history.len(), 3);
    let days = Value::List(ListValue::Timestamp(vec![at(86_400_000_000)]));
    assert_eq!(history[0].row.values[2], days);
    let records = fixture.store.materializations("numbers").await.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].watermark, Some(at(2_000_000)));
    assert_eq!(records[0].counts, counts(2, 1));

    fixture
        .execute("INSERT INTO facts VALUES (3, 3, 'epoch'), (4, 4, '1970-01-01 00:00:03')")
        .await;
    assert_eq!(
        load_query(&fixture, &view, Some(2_000_001)).await.unwrap(),
        counts(1, 0)
    );
    assert_eq!(fixture.row(&view, id(3)).await, None);
    let records = fixture.store.materializations("numbers").await.unwrap();
    assert_eq!(records[0].watermark, Some(at(3_000_000)));
}

#[tokio::test]
async fn a_query_that_is_not_as_the_view_says_loads_nothing() {
    let fixture = postgres().await;
    let refused = async |query: &str, more: &str| {
        let view = fixture.apply(&by_query(query, more, X)).await.remove(0);
        load_query(&fixture, &view, None).await.unwrap_err()
    };
    let error = refused(
        "SELECT 'a' AS id, 1 AS x, 2 AS x, now() AS at",
        ", timestamp_field = \"time\"",
    )
    .await;
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    for fault in [
        "\"id\" of the query is of the type text",
        "has the column \"x\" twice",
        "no column \"time\"",
    ] {
        assert!(error.message().contains(fault), "{error}");
    }
    for query in [
        "SELECT FROM nowhere",
        "DELETE FROM fv_numbers",
        "SELECT 1 AS id, 1 AS x, now() AS event_timestamp FROM generate_series(0, 1) AS g WHERE 1 / g > 0",
    ] {
        let error = refused(query, "").await;
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
        assert!(
            error
                .message()
                .contains("the query of the feature view \"numbers\" fails"),
            "{error}"
        );
        assert!(!error.message().contains("SELECT"), "{error}");
    }
    let values = "SELECT id::bigint, 1::float8 AS x, t::timestamptz AS event_timestamp, t::timestamptz AS made \
                  FROM (VALUES (1, NULL), (NULL, NULL), (NULL, 'infinity'), (2, 'epoch')) AS v(id, t)";
    let error = refused(values, ", created_timestamp_field = \"made\"").await;
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    for fault in [
        "id: is null in 2 row(s)",
        "event_timestamp: is null in 2 row(s)",
        "event_timestamp: is outside the years 1 to 9999 in 1 row(s)",
        "made: is null in 2 row(s)",
    ] {
        assert!(error.message().contains(fault), "{error}");
    }
    let view = fixture.view("numbers").await;
    assert_eq!(fixture.scan(&view, Scan::default()).await.unwrap(), []);
    assert_eq!(fixture.store.materializations("numbers").await.unwrap(), []);
}

#[tokio::test]
async fn a_name_that_no_table_can_have_is_told_with_all_else() {
    let fixture = postgres().await;
    fixture
        .execute("CREATE SCHEMA crm; CREATE TABLE crm.acc (id bigint, x double precision, event_timestamp timestamptz)")
        .await;
    for name in ["a.b.c", "\\\"", "\\\"crm\\\".\\\"acc\\\" WHERE true --"] {
        let table = format!(r#"name = "{name}""#);
        let second = format!(
            "{}[[feature_views]]\nname = \"second\"\nentity = \"thing\"\nfeatures = [{X}]\ntable = {{ name = \"nowhere\" }}\n",
            on_table(ID, &table, X)
        );
        let error = refusal(&fixture, &second).await;
        for words in [
            "feature view \"account\"",
            "cannot be looked up",
            "the table nowhere does not exist",
        ] {
            assert!(error.message().contains(words), "{error}");
        }
    }
    let table = r#"name = "\"crm\".\"acc\"""#;
    fixture.apply(&on_table(ID, table, X)).await;
}
