//! Migrations, and the catalog with the tables that it calls for.

use std::sync::Arc;

use ferrocast::{
    catalog::{Catalog, CatalogStore, Definitions, apply_definitions},
    error::ErrorKind,
    features::{OnlineStore, Value},
};

use crate::{fixtures::*, for_every_store};

for_every_store!(
    migrating_twice_does_nothing_more,
    migrating_from_two_processes,
    a_newer_schema_is_refused,
    an_unmigrated_database_says_what_to_run,
    definitions_come_back_as_they_were,
    a_new_feature_is_a_new_column,
    two_plans_of_one_revision_conflict,
    concurrent_appliers,
    a_table_of_somebody_else_stays,
    a_failed_plan_leaves_nothing,
);

async fn migrating_twice_does_nothing_more(fixture: Fixture) {
    assert_eq!(fixture.store.migrate().await.unwrap(), Vec::<String>::new());
    fixture.store.check_schema().await.unwrap();
    fixture.store.ping().await.unwrap();
}

async fn migrating_from_two_processes(fixture: Fixture) {
    fixture
        .execute(
            "DROP TABLE ferrocast_catalog; DROP TABLE ferrocast_entities; DROP TABLE ferrocast_feature_views; \
             DROP TABLE ferrocast_materializations; DROP TABLE refinery_schema_history",
        )
        .await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let store = fixture.another().await;
        tasks.push(tokio::spawn(async move { store.migrate().await.unwrap() }));
    }
    let mut applied = Vec::new();
    for task in tasks {
        applied.extend(task.await.unwrap());
    }
    assert_eq!(applied, ["V1__catalog"]);
    fixture.store.check_schema().await.unwrap();
}

async fn a_newer_schema_is_refused(fixture: Fixture) {
    fixture
        .execute("INSERT INTO refinery_schema_history (version, name, applied_on, checksum) VALUES (99, 'from_the_future', '2030-01-01T00:00:00Z', '1')")
        .await;
    for error in [
        fixture.store.check_schema().await.unwrap_err(),
        fixture.store.migrate().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(
            error.message().contains("install a newer ferrocast"),
            "{error}"
        );
    }
}

async fn an_unmigrated_database_says_what_to_run(fixture: Fixture) {
    fixture
        .execute("DROP TABLE refinery_schema_history; DROP TABLE ferrocast_catalog")
        .await;
    for error in [
        fixture.store.check_schema().await.unwrap_err(),
        fixture.store.load_catalog().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.message().contains("ferrocast migrate"), "{error}");
    }
}

const FULL: &str = r#"
    project = "demo"
    [[entities]]
    name = "loan"
    description = "a loan, by its number"
    join_keys = [{ name = "loan_id", type = "string", description = "as printed" }]
    [[feature_views]]
    name = "applicant"
    description = "who \"asks\" – żółw"
    entity = "loan"
    ttl = "90s"
    source = { path = "data/a.parquet", timestamp_field = "t", created_timestamp_field = "c" }
    features = [
        { name = "annual_inc", type = "double", description = "USD" },
        { name = "term", type = "string" },
    ]
"#;

fn as_catalog(revision: i64, text: &str) -> Catalog {
    let definitions = Definitions::parse(text).unwrap();
    Catalog {
        revision,
        entities: definitions
            .entities
            .into_iter()
            .map(|entity| (entity.name.clone(), entity))
            .collect(),
        views: definitions
            .views
            .into_iter()
            .map(|view| (view.name.clone(), view))
            .collect(),
    }
}

async fn definitions_come_back_as_they_were(fixture: Fixture) {
    let empty = fixture.store.load_catalog().await.unwrap();
    assert_eq!(empty, Catalog::default());
    let definitions = Definitions::parse(FULL).unwrap();
    let (_, applied) = apply_definitions(fixture.store.as_ref(), &definitions, false)
        .await
        .unwrap();
    assert_eq!(applied, as_catalog(1, FULL));
    assert_eq!(
        fixture.another().await.load_catalog().await.unwrap(),
        applied
    );
}

async fn a_new_feature_is_a_new_column(fixture: Fixture) {
    let old = numbers(&fixture).await;
    fixture
        .store
        .write(&old, vec![number(1, 1, 1, 1.0)])
        .await
        .unwrap();
    let other = fixture.another().await;
    other.read(&old, &[id(1)]).await.unwrap();

    let y = r#"{ name = "Y", type = "float" }"#;
    let new = fixture
        .apply(&one_view("numbers", ID, &format!("{y}, {X}")))
        .await
        .remove(0);
    let found = fixture.store.read(&new, &[id(1)]).await.unwrap();
    let values = found[0].clone().unwrap().values;
    assert_eq!(values, [Value::Null, Value::Double(1.0)]);
    // A server that has not reloaded its catalog goes on reading and writing what it knows.
    other.write(&old, vec![number(1, 2, 1, 2.0)]).await.unwrap();
    let found = other.read(&old, &[id(1)]).await.unwrap();
    assert_eq!(found[0].clone().unwrap().values, [Value::Double(2.0)]);
    let row = write_row(id(2), 1, 1, vec![Value::Float(f32::NAN), Value::Null]);
    fixture.store.write(&new, vec![row]).await.unwrap();
    assert_eq!(fixture.store.load_catalog().await.unwrap().revision, 2);
}

async fn two_plans_of_one_revision_conflict(fixture: Fixture) {
    let first = fixture.plan(&one_view("a", ID, X)).await;
    let second = fixture.plan(&one_view("b", ID, X)).await;
    fixture.store.apply_plan(&first).await.unwrap();
    let error = fixture.store.apply_plan(&second).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let catalog = fixture.store.load_catalog().await.unwrap();
    assert_eq!(catalog.revision, 1);
    assert_eq!(catalog.views.keys().collect::<Vec<_>>(), ["a"]);
}

async fn concurrent_appliers(fixture: Fixture) {
    let plan = Arc::new(fixture.plan(FULL).await);
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let (store, plan) = (fixture.another().await, Arc::clone(&plan));
        tasks.push(tokio::spawn(async move { store.apply_plan(&plan).await }));
    }
    let mut successes = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(catalog) => {
                successes += 1;
                assert_eq!(catalog, as_catalog(1, FULL));
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
    }
    assert_eq!(successes, 1);
}

async fn a_table_of_somebody_else_stays(fixture: Fixture) {
    fixture
        .execute("CREATE TABLE fv_numbers (mine integer); INSERT INTO fv_numbers VALUES (1)")
        .await;
    let plan = fixture.plan(&one_view("numbers", ID, X)).await;
    let error = fixture.store.apply_plan(&plan).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(
        error.message().contains("fv_numbers is there already"),
        "{error}"
    );
    fixture.execute("UPDATE fv_numbers SET mine = 2").await;

    let column = one_view("other", ID, X);
    fixture.apply(&column).await;
    fixture
        .execute("ALTER TABLE fv_other ADD COLUMN y integer")
        .await;
    let y = r#"{ name = "y", type = "int32" }"#;
    let plan = fixture
        .plan(&one_view("other", ID, &format!("{X}, {y}")))
        .await;
    let error = fixture.store.apply_plan(&plan).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.message().contains("fv_other.y"), "{error}");
}

async fn a_failed_plan_leaves_nothing(fixture: Fixture) {
    fixture
        .execute("CREATE TABLE fv_second (mine integer)")
        .await;
    let two = format!(
        "{}\n[[feature_views]]\nname = \"second\"\nentity = \"thing\"\nfeatures = [{X}]",
        one_view("first", ID, X)
    );
    let plan = fixture.plan(&two).await;
    fixture.store.apply_plan(&plan).await.unwrap_err();
    assert_eq!(
        fixture.store.load_catalog().await.unwrap(),
        Catalog::default()
    );
    fixture.execute("DROP TABLE fv_second").await;
    fixture.store.apply_plan(&plan).await.unwrap();
}
