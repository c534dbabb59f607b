//! What a plan says of changes, and what it refuses.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::error::ErrorKind;

const INC: &str = r#"{ name = "annual_inc", type = "double" }"#;
const INC_INT: &str = r#"{ name = "annual_inc", type = "int64" }"#;
const AGE: &str = r#"{ name = "age", type = "int32" }"#;

fn definitions(features: &str, further: &str) -> Definitions {
    Definitions::parse(&format!(
        r#"
        project = "demo"
        [[entities]]
        name = "loan"
        join_keys = [{{ name = "loan_id", type = "string" }}]
        [[feature_views]]
        name = "applicant"
        entity = "loan"
        features = [{features}]
        {further}
        "#
    ))
    .unwrap()
}

fn service(version: u32, features: &str) -> String {
    format!("[[feature_services]]\nname = \"risk\"\nversion = {version}\nfeatures = [{features}]\n")
}

/// The catalog after definitions were applied one after the other.
fn catalog_of(all: &[&Definitions]) -> Catalog {
    let mut catalog = Catalog {
        revision: 7,
        ..Catalog::default()
    };
    for definitions in all {
        catalog = Plan::new(&catalog, definitions)
            .unwrap()
            .applied_to(&catalog);
    }
    catalog
}

#[test]
fn the_same_definitions_change_nothing() {
    let same = definitions(INC, &service(1, "\"applicant:annual_inc\""));
    assert!(Plan::new(&catalog_of(&[&same]), &same).unwrap().is_empty());
    // Also where features came later and have a generation.
    let more = definitions(&format!("{AGE}, {INC}"), "");
    let catalog = catalog_of(&[&definitions(INC, ""), &more]);
    assert!(Plan::new(&catalog, &more).unwrap().is_empty());
}

#[test]
fn a_new_feature_and_another_ttl_are_an_update_that_loses_nothing() {
    let catalog = catalog_of(&[&definitions(INC, "")]);
    let more = definitions(&format!("{AGE}, {INC}"), "");
    let mut view = FeatureView::clone(&more.views[0]);
    view.ttl = Some(std::time::Duration::from_secs(86_400));
    let more = Definitions {
        views: vec![Arc::new(view)],
        ..more
    };
    let plan = Plan::new(&catalog, &more).unwrap();
    assert_eq!(plan.revision, catalog.revision);
    let TableChange::Alter { dropped, added } = &plan.views[0].table else {
        unreachable!()
    };
    assert!(dropped.is_empty());
    assert_eq!(added[0].name, "age");
    assert_eq!(plan.views[0].view.generation, 1);
    assert_eq!(plan.views[0].view.generation_of("age"), 1);
    assert_eq!(plan.views[0].view.generation_of("annual_inc"), 0);
    assert_eq!(
        plan.changes[0].details,
        ["add age int32", "ttl none to 86400s"]
    );
    plan.check_no_loss().unwrap();
}

#[test]
fn another_calendar_is_an_update_that_says_what_changes() {
    let with = |calendar: &str| {
        let mut definitions = definitions(INC, "");
        let mut view = FeatureView::clone(&definitions.views[0]);
        view.ttl = Some(std::time::Duration::from_secs(86_400));
        view.ttl_calendar = serde_json::from_str(calendar).unwrap();
        definitions.views = vec![Arc::new(view)];
        definitions
    };
    let change = |old: &str, new: &str| {
        let plan = Plan::new(&catalog_of(&[&with(old)]), &with(new)).unwrap();
        assert_eq!(plan.views[0].table, TableChange::Keep);
        plan.changes[0].details.clone()
    };
    let one = r#"{"time_zone": "UTC", "weekdays_off": ["sunday"], "days_off": ["2026-01-01"]}"#;
    let two = r#"{"time_zone": "UTC", "days_off": ["2026-12-25", "2026-12-26"]}"#;
    assert_eq!(
        change("null", one),
        ["ttl calendar none to UTC without sunday, 1 day"]
    );
    assert_eq!(
        change(one, two),
        ["ttl calendar UTC without sunday, 1 day to UTC without 2 days: 2 days added, 1 taken out"]
    );
    assert_eq!(
        change(one, "null"),
        ["ttl calendar UTC without sunday, 1 day to none"]
    );
}

#[test]
fn what_would_be_lost_is_named_and_has_to_be_allowed() {
    let catalog = catalog_of(&[&definitions(&format!("{INC}, {AGE}"), "")]);
    let plan = Plan::new(&catalog, &definitions(INC_INT, "")).unwrap();
    let fault = plan.check_no_loss().unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::FailedPrecondition);
    let message = fault.message();
    assert!(
        message.contains("annual_inc from double to int64"),
        "{message}"
    );
    assert!(message.contains("taking out age"), "{message}");
    let TableChange::Alter { dropped, added } = &plan.views[0].table else {
        unreachable!()
    };
    assert_eq!(dropped.len(), 2);
    assert_eq!(added.len(), 1);
}

#[test]
fn what_the_file_no_longer_has_goes_with_its_entity() {
    let catalog = catalog_of(&[&definitions(INC, &service(1, "\"applicant:annual_inc\""))]);
    let empty = Definitions::parse("project = \"demo\"").unwrap();
    let plan = Plan::new(&catalog, &empty).unwrap();
    let told: Vec<(Action, &str)> = plan
        .changes
        .iter()
        .map(|change| (change.action, change.name.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (Action::Drop, "risk@1"),
            (Action::Drop, "applicant"),
            (Action::Drop, "loan")
        ]
    );
    assert!(plan.check_no_loss().is_err());
    assert_eq!(plan.views[0].table, TableChange::Drop);
    // Another project's file says nothing about it.
    let other = Definitions::parse("project = \"other\"").unwrap();
    assert!(Plan::new(&catalog, &other).unwrap().is_empty());
}

#[test]
fn other_join_keys_make_the_table_anew() {
    let catalog = catalog_of(&[&definitions(INC, "")]);
    let text = r#"
        project = "demo"
        [[entities]]
        name = "loan"
        join_keys = [{ name = "loan_id", type = "int64" }]
        [[feature_views]]
        name = "applicant"
        entity = "loan"
        history = true
        features = [{ name = "annual_inc", type = "double" }]
    "#;
    let plan = Plan::new(&catalog, &Definitions::parse(text).unwrap()).unwrap();
    assert_eq!(plan.views[0].table, TableChange::Recreate);
    assert_eq!(plan.views[0].history, TableChange::Create);
    assert!(plan.check_no_loss().is_err());
}

#[test]
fn a_feature_service_changes_by_a_new_version() {
    let first = definitions(&format!("{INC}, {AGE}"), &service(1, "\"applicant:age\""));
    let catalog = catalog_of(&[&first]);
    let changed = definitions(
        &format!("{INC}, {AGE}"),
        &service(1, "\"applicant:annual_inc\""),
    );
    let fault = Plan::new(&catalog, &changed).unwrap_err();
    assert!(fault.message().contains("define version 2"), "{fault}");
    let both = format!(
        "{}{}",
        service(1, "\"applicant:age\""),
        service(2, "\"applicant:annual_inc\"")
    );
    let second = definitions(&format!("{INC}, {AGE}"), &both);
    let catalog = catalog_of(&[&first, &second]);
    assert_eq!(catalog.service("risk").unwrap().version, 2);
    assert_eq!(catalog.service("risk@1").unwrap().version, 1);
    for unknown in ["risk@3", "risk@x", "nobody"] {
        let fault = catalog.service(unknown).unwrap_err();
        assert_eq!(fault.kind(), ErrorKind::NotFound);
    }
}

#[test]
fn a_version_of_a_feature_service_is_lost_only_where_that_is_allowed() {
    let features = format!("{INC}, {AGE}");
    let first = definitions(&features, &service(1, "\"applicant:age\""));
    let catalog = catalog_of(&[&first]);
    let plan = Plan::new(&catalog, &definitions(&features, "")).unwrap();
    let fault = plan.check_no_loss().unwrap_err();
    assert!(fault.message().contains("risk@1"), "{fault}");
}

#[test]
fn a_plan_tells_the_catalog_that_it_makes() {
    let both = definitions(INC, &service(1, "\"applicant:annual_inc\""));
    let catalog = catalog_of(&[&both]);
    assert_eq!(catalog.revision, 8);
    assert!(catalog.entity("loan").is_ok() && catalog.view("applicant").is_ok());
    assert!(catalog.service("risk@1").is_ok());
    let same = Plan::new(&catalog, &both).unwrap().applied_to(&catalog);
    assert_eq!(same, catalog);
    let nothing = Definitions::parse("project = \"demo\"").unwrap();
    let emptied = Catalog {
        revision: 9,
        ..Catalog::default()
    };
    assert_eq!(catalog_of(&[&both, &nothing]), emptied);
}

/// A store that is asked for its catalog only.
struct Kept(std::sync::Mutex<Catalog>);

#[async_trait]
impl CatalogStore for Kept {
    async fn load_catalog(&self) -> Result<Catalog> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn catalog_revision(&self) -> Result<i64> {
        Ok(self.0.lock().unwrap().revision)
    }

    async fn apply_plan(&self, _: &Plan) -> Result<Catalog> {
        Err(Error::internal("nothing is applied here"))
    }
}

#[tokio::test]
async fn a_database_that_stays_behind_is_followed_and_one_look_back_is_not() {
    let restored = catalog_of(&[&definitions(INC, "")]);
    let mut newer = catalog_of(&[&definitions(AGE, "")]);
    newer.revision = restored.revision + 5;
    let store = Kept(std::sync::Mutex::new(restored.clone()));
    let handle = CatalogHandle::new(newer.clone());
    let set = |catalog: &Catalog| *store.0.lock().unwrap() = catalog.clone();

    handle.follow(&store).await.unwrap();
    assert_eq!(*handle.snapshot(), newer);
    // As it is where this process has just applied something.
    set(&newer);
    handle.follow(&store).await.unwrap();
    set(&restored);
    handle.follow(&store).await.unwrap();
    assert_eq!(*handle.snapshot(), newer);
    handle.follow(&store).await.unwrap();
    assert_eq!(*handle.snapshot(), restored);
    // What comes after the restore is followed as ever.
    let mut next = newer.clone();
    next.revision = restored.revision + 1;
    set(&next);
    handle.follow(&store).await.unwrap();
    assert_eq!(*handle.snapshot(), next);
}
