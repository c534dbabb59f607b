//! PostgreSQL's limits on rows, tables and locks, and the rights of a login.

use ferrocast::{
    catalog::{CatalogStore, Definitions, Plan, apply_definitions},
    error::ErrorKind,
    features::{ListValue, OnlineStore, Value},
};

use crate::{fixtures::*, postgres::Postgres, postgres_only::client};

/// As many features of a type.
fn many(count: usize, value_type: &str) -> String {
    let features = (0..count).map(|n| format!(r#"{{ name = "f{n}", type = "{value_type}" }}"#));
    features.collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn a_row_larger_than_a_page_is_told_with_what_helps() {
    let fixture = postgres().await;
    let wide = one_view("wide", ID, &many(600, "list<string>"));
    let view = fixture.apply(&wide).await.remove(0);
    let list = Value::List(ListValue::String(vec!["one".to_owned()]));
    let row = write_row(id(1), 1, 1, vec![list; 600]);
    let error = fixture.store.write(&view, vec![row]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    for words in ["\"wide\"", "row is too big", "among several views"] {
        assert!(error.message().contains(words), "{error}");
    }
}

#[tokio::test]
async fn columns_that_were_dropped_count() {
    let fixture = postgres().await;
    fixture
        .apply(&one_view("wide", ID, &many(820, "int64")))
        .await;
    let retyped = one_view("wide", ID, &many(820, "double"));
    let error = fixture.try_apply(&retyped).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    for words in ["fv_wide.f", "1600", "define it anew"] {
        assert!(error.message().contains(words), "{error}");
    }
    // And that does help.
    fixture.apply("project = \"demo\"").await;
    fixture.apply(&retyped).await;
}

#[tokio::test]
async fn more_tables_than_can_be_locked_are_told() {
    let server = Postgres::start(None);
    let url = server.fresh_database().await;
    let store = open_url(&url).await;
    store.migrate().await.unwrap();
    let definitions = Definitions::parse(&one_view("numbers", ID, X)).unwrap();
    let plan = Plan::new(&store.load_catalog().await.unwrap(), &definitions).unwrap();
    // Locks of a session's own are kept where those of tables are.
    let hoarder = server.connect(url.rsplit('/').next().unwrap()).await;
    let hoard = "SELECT pg_advisory_lock(n) FROM generate_series(1, 10000000) AS n";
    hoarder.batch_execute(hoard).await.unwrap_err();
    let error = store.apply_plan(&plan).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    for words in ["max_locks_per_transaction", "in parts"] {
        assert!(error.message().contains(words), "{error}");
    }
    let free = "SELECT pg_advisory_unlock_all()";
    hoarder.batch_execute(free).await.unwrap();
    store.apply_plan(&plan).await.unwrap();
}

#[tokio::test]
async fn a_table_that_the_login_may_not_read_is_refused() {
    let fixture = postgres().await;
    fixture
        .execute(
            "CREATE TABLE accounts (id bigint, x double precision, secret text, event_timestamp timestamptz); \
             INSERT INTO accounts VALUES (1, 2.5, 'none of your business', now()); \
             CREATE ROLE of_limits LOGIN PASSWORD 'of_limits'; \
             GRANT ALL ON SCHEMA public TO of_limits; \
             GRANT ALL ON ferrocast_catalog, ferrocast_entities, ferrocast_feature_views, ferrocast_feature_services, \
             ferrocast_materializations TO of_limits",
        )
        .await;
    let at = fixture.url.split_once('@').unwrap().1;
    let store = open_url(&format!("postgres://of_limits:of_limits@{at}")).await;
    let definitions = format!(
        "{}table = {{ name = \"accounts\" }}\n",
        one_view("numbers", ID, X)
    );
    let definitions = Definitions::parse(&definitions).unwrap();
    let apply = || apply_definitions(store.as_ref(), &definitions, LOSSY);
    let error = apply().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    for words in ["\"numbers\"", "no right to SELECT from the table accounts"] {
        assert!(error.message().contains(words), "{error}");
    }
    // The columns that the view reads are enough.
    let client = client(&fixture).await;
    let grant = "GRANT SELECT (id, x, event_timestamp) ON accounts TO of_limits";
    client.batch_execute(grant).await.unwrap();
    apply().await.unwrap();
    let view = fixture.view("numbers").await;
    let found = store.read(&view, &[id(1)]).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().values, [Value::Double(2.5)]);
}
