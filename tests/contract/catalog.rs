//! Migrations, and the catalog.

use std::{collections::BTreeMap, sync::Arc};

use ferrocast::{
    catalog::{Catalog, CatalogStore, Definitions, apply_definitions},
    error::ErrorKind,
    features::{OnlineStore, Value},
};

use crate::{fixtures::*, for_every_sql_store, for_every_store};

for_every_store!(
    migrating_twice_does_nothing_more,
    definitions_come_back_as_they_were,
    what_is_defined_no_longer_goes,
    two_plans_of_one_revision_conflict,
    concurrent_appliers,
    two_who_apply_different_definitions,
);

for_every_sql_store!(
    migrating_from_two_processes,
    tables_of_an_older_binary_are_brought_up_to_date,
    a_newer_schema_is_refused,
    an_unmigrated_database_says_what_to_run,
    a_table_of_somebody_else_stays,
    a_failed_plan_leaves_nothing,
);

async fn migrating_twice_does_nothing_more(fixture: Fixture) {
    assert_eq!(fixture.store.migrate().await.unwrap(), Vec::<String>::new());
    fixture.store.check_schema().await.unwrap();
    fixture.store.ping().await.unwrap();
}

async fn migrating_from_two_processes(fixture: Fixture) {
    fixture.drop_own_tables_but(&[]).await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let store = fixture.another().await;
        tasks.push(tokio::spawn(async move { store.migrate().await.unwrap() }));
    }
    let mut applied = Vec::new();
    for task in tasks {
        applied.extend(task.await.unwrap());
    }
    assert_eq!(applied, migrations_from(1));
    fixture.store.check_schema().await.unwrap();
}

/// Takes away what the later migrations and the tables made since have more than those of the first.
async fn make_older(fixture: &Fixture, table: &str) {
    fixture
        .drop_own_tables_but(&[
            "ferrocast_catalog",
            "ferrocast_entities",
            "ferrocast_feature_views",
            "ferrocast_materializations",
            "refinery_schema_history",
        ])
        .await;
    fixture
        .execute(&format!(
            "DELETE FROM refinery_schema_history WHERE version >= 2; \
             ALTER TABLE ferrocast_materializations DROP COLUMN watermark; \
             ALTER TABLE {table} DROP COLUMN _feature_times; ALTER TABLE {table} DROP COLUMN _generation"
        ))
        .await;
}

async fn tables_of_an_older_binary_are_brought_up_to_date(fixture: Fixture) {
    let two = format!("{X}, {Y}");
    let view = fixture.apply(&one_view("pairs", ID, &two)).await.remove(0);
    let row = |entity, x| {
        let values = vec![Value::Double(x), Value::Double(x)];
        write_row(id(entity), 1, 1, values)
    };
    fixture.write(&view, vec![row(1, 1.0)]).await;
    make_older(&fixture, "fv_pairs").await;
    fixture.store.check_schema().await.unwrap_err();
    let store = fixture.another().await;
    assert_eq!(store.migrate().await.unwrap(), migrations_from(2));
    assert_eq!(store.migrate().await.unwrap(), Vec::<String>::new());
    assert_eq!(fixture.row(&view, id(1)).await, Some(row(1, 1.0).row));
    let x = part(id(1), 2, 1, &[Some(Value::Double(2.0)), None]);
    assert_eq!(
        fixture.write(&view, vec![x, row(2, 3.0)]).await,
        counts(2, 0)
    );
    let found = fixture.row(&view, id(1)).await.unwrap();
    assert_eq!(found.values, [Value::Double(2.0), Value::Double(1.0)]);
    // What an older binary wrote says nothing about a feature that is added now.
    let z = r#"{ name = "z", type = "double" }"#;
    let three = format!("{two}, {z}");
    let view = fixture
        .apply(&one_view("pairs", ID, &three))
        .await
        .remove(0);
    let found = fixture.row(&view, id(2)).await.unwrap();
    assert_eq!(found.feature_time(1), Some(time(1, 1)));
    assert_eq!(found.feature_time(2), None);
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
    ttl_calendar = { time_zone = "America/New_York", weekdays_off = ["saturday"], days_off = ["2026-12-25"] }
    source = { path = "data/a.parquet", timestamp_field = "t", created_timestamp_field = "c" }
    features = [
        { name = "annual_inc", type = "double", description = "USD" },
        { name = "term", type = "string" },
        { name = "embedding", type = "list<float>" },
    ]
    [[feature_services]]
    name = "scoring"
    version = 1
    description = "what the \"first\" model asks for"
    features = ["applicant:term", "applicant:annual_inc"]
    [[feature_services]]
    name = "scoring"
    version = 10
    features = ["applicant:embedding"]
"#;

fn as_catalog(revision: i64, text: &str) -> Catalog {
    let definitions = Definitions::parse(text).unwrap();
    let mut services: BTreeMap<String, BTreeMap<u32, _>> = BTreeMap::new();
    for service in definitions.services {
        let versions = services.entry(service.name.clone()).or_default();
        versions.insert(service.version, service);
    }
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
        services,
    }
}

async fn definitions_come_back_as_they_were(fixture: Fixture) {
    let empty = fixture.store.load_catalog().await.unwrap();
    assert_eq!(empty, Catalog::default());
    assert_eq!(fixture.store.catalog_revision().await.unwrap(), 0);
    let applied = fixture.try_apply(FULL).await.unwrap();
    assert_eq!(applied, as_catalog(1, FULL));
    assert_eq!(fixture.store.catalog_revision().await.unwrap(), 1);
    let other = fixture.another().await;
    assert_eq!(other.load_catalog().await.unwrap(), applied);
    assert_eq!(applied.service("scoring").unwrap().version, 10);
    // The same once more changes nothing.
    assert_eq!(fixture.try_apply(FULL).await.unwrap(), applied);
}

async fn what_is_defined_no_longer_goes(fixture: Fixture) {
    fixture.apply(FULL).await;
    let other = one_view("other", ID, X).replace("demo", "another");
    fixture.apply(&other).await;
    let smaller = FULL.split("[[feature_services]]").next().unwrap();
    let described = smaller.replace("USD", "EUR");
    let catalog = fixture.try_apply(&described).await.unwrap();
    assert!(catalog.services.is_empty());
    assert_eq!(catalog.revision, 3);
    let view = catalog.view("applicant").unwrap();
    assert_eq!(view.features[0].description, "EUR");
    let catalog = fixture.try_apply("project = \"demo\"").await.unwrap();
    assert_eq!(catalog.views.keys().collect::<Vec<_>>(), ["other"]);
    assert_eq!(catalog.entities.keys().collect::<Vec<_>>(), ["thing"]);
    assert_eq!(fixture.store.load_catalog().await.unwrap(), catalog);
    // The name is free again, for another project too.
    let again = FULL.replace("demo", "third");
    let catalog = fixture.try_apply(&again).await.unwrap();
    assert_eq!(catalog.view("applicant").unwrap().project, "third");
    assert_eq!(catalog.services["scoring"].len(), 2);
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

async fn two_who_apply_different_definitions(fixture: Fixture) {
    let texts = [
        one_view("first", ID, X),
        one_view("second", ID, X).replace("thing", "other"),
    ];
    let mut tasks = Vec::new();
    for (number, text) in texts.iter().cycle().take(6).enumerate() {
        let store = fixture.another().await;
        let project = format!("project{}", number % 2);
        let definitions = Definitions::parse(&text.replace("demo", &project)).unwrap();
        tasks.push(tokio::spawn(async move {
            apply_definitions(store.as_ref(), &definitions, LOSSY).await
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let catalog = fixture.store.load_catalog().await.unwrap();
    assert_eq!(catalog.revision, 2);
    assert_eq!(
        catalog.views.keys().collect::<Vec<_>>(),
        ["first", "second"]
    );
    for view in catalog.views.values() {
        assert_eq!(
            fixture.write(view, vec![number(1, 1, 1, 1.0)]).await,
            counts(1, 0)
        );
    }
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
