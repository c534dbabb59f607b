//! What becomes of rows when the definition of their view changes.

use std::sync::Arc;

use ferrocast::{
    catalog::{ApplyOptions, CatalogStore, Definitions, FeatureView, apply_definitions},
    error::ErrorKind,
    features::{ListValue, OnlineStore, Value, WriteCounts, WriteRow},
};

use crate::{fixtures::*, for_every_sql_store, for_every_store};

for_every_store!(
    a_new_feature_was_never_written,
    the_same_rows_written_again_fill_a_new_feature,
    the_same_rows_loaded_again_fill_a_new_feature,
    of_equal_times_the_first_value_stays,
    a_new_feature_of_partial_rows,
    a_feature_that_goes_takes_its_values,
    a_feature_comes_back_empty,
    a_feature_of_another_type_is_another,
    other_join_keys_empty_a_view,
    a_view_goes_with_its_rows_and_history,
    a_view_that_was_dropped_is_loaded_again,
    nothing_is_lost_unless_it_is_allowed,
    an_older_server_goes_on_and_loses_nothing,
);

for_every_sql_store!(
    tables_go_with_their_views,
    a_server_with_outdated_definitions_says_so,
    a_table_that_is_gone_can_be_dropped,
);

fn double(value: f64) -> Value {
    Value::Double(value)
}

fn xy(entity: i64, event: i64, x: f64, y: f64) -> WriteRow {
    write_row(id(entity), event, 0, vec![double(x), double(y)])
}

fn features(features: &[&str]) -> String {
    one_view_with_history("numbers", ID, &features.join(", "))
}

/// A definitions file of the same project without anything.
const NOTHING: &str = "project = \"demo\"";

async fn a_new_feature_was_never_written(fixture: Fixture) {
    let old = fixture.apply(&features(&[X])).await.remove(0);
    fixture.write(&old, vec![number(1, 5, 0, 1.0)]).await;
    let new = fixture.apply(&features(&[Y, X])).await.remove(0);
    let found = fixture.row(&new, id(1)).await.unwrap();
    assert_eq!(cells(&found), [None, Some((double(1.0), time(5, 0)))]);
    assert_eq!(fixture.history(&new).await[0].row, found);
    // An older value of it is news all the same.
    let y = part(id(1), 2, 0, &[Some(double(2.0)), None]);
    assert_eq!(fixture.write(&new, vec![y]).await, counts(1, 0));
    let expected = [
        Some((double(2.0), time(2, 0))),
        Some((double(1.0), time(5, 0))),
    ];
    assert_eq!(cells(&fixture.row(&new, id(1)).await.unwrap()), expected);
}

async fn bring(
    fixture: &Fixture,
    view: &FeatureView,
    rows: Vec<WriteRow>,
    is_load: bool,
) -> WriteCounts {
    if is_load {
        fixture.load(view, rows).await
    } else {
        fixture.write(view, rows).await
    }
}

async fn the_same_rows_written_again_fill_a_new_feature(fixture: Fixture) {
    the_same_rows_again(fixture, false).await;
}

async fn the_same_rows_loaded_again_fill_a_new_feature(fixture: Fixture) {
    the_same_rows_again(fixture, true).await;
}

async fn the_same_rows_again(fixture: Fixture, is_load: bool) {
    let old = fixture.apply(&features(&[X])).await.remove(0);
    let rows = vec![
        number(1, 4, 0, 1.0),
        number(1, 5, 0, 2.0),
        number(2, 5, 0, 3.0),
    ];
    bring(&fixture, &old, rows, is_load).await;
    let new = fixture.apply(&features(&[X, Y])).await.remove(0);
    let rows = vec![xy(1, 4, 1.0, 7.0), xy(1, 5, 2.0, 8.0), xy(2, 5, 3.0, 9.0)];
    let brought = bring(&fixture, &new, rows.clone(), is_load).await;
    assert_eq!(brought, counts(2, 1));
    assert_eq!(fixture.row(&new, id(1)).await, Some(rows[1].row.clone()));
    assert_eq!(fixture.row(&new, id(2)).await, Some(rows[2].row.clone()));
    // The history has what they say now, once.
    let expected = in_order(rows.clone());
    assert_eq!(fixture.history(&new).await, expected);
    let brought = bring(&fixture, &new, rows, is_load).await;
    assert_eq!(brought, counts(0, 3));
    assert_eq!(fixture.history(&new).await, expected);
}

async fn of_equal_times_the_first_value_stays(fixture: Fixture) {
    let old = fixture.apply(&features(&[X])).await.remove(0);
    let rows = vec![number(1, 5, 0, 1.0), number(2, 5, 0, 1.0)];
    fixture.write(&old, rows).await;
    let new = fixture.apply(&features(&[X, Y])).await.remove(0);
    for (entity, is_load) in [(1, false), (2, true)] {
        let other = xy(entity, 5, 2.0, 3.0);
        let brought = bring(&fixture, &new, vec![other], is_load).await;
        assert_eq!(brought, counts(1, 0));
        let found = fixture.row(&new, id(entity)).await;
        assert_eq!(found, Some(xy(entity, 5, 1.0, 3.0).row));
    }
}

async fn a_new_feature_of_partial_rows(fixture: Fixture) {
    let old = fixture.apply(&features(&[X, Y])).await.remove(0);
    let x = part(id(1), 3, 0, &[Some(double(1.0)), None]);
    let y = part(id(1), 1, 0, &[None, Some(double(2.0))]);
    fixture.write(&old, vec![x, y]).await;
    let z = r#"{ name = "z", type = "string" }"#;
    let new = fixture.apply(&features(&[X, Y, z])).await.remove(0);
    let expected = [
        Some((double(1.0), time(3, 0))),
        Some((double(2.0), time(1, 0))),
        None,
    ];
    assert_eq!(cells(&fixture.row(&new, id(1)).await.unwrap()), expected);
    let text = Value::String("z".into());
    let whole = write_row(id(1), 2, 0, vec![double(8.0), double(9.0), text.clone()]);
    assert_eq!(fixture.load(&new, vec![whole]).await, counts(1, 0));
    let expected = [
        Some((double(1.0), time(3, 0))),
        Some((double(9.0), time(2, 0))),
        Some((text, time(2, 0))),
    ];
    assert_eq!(cells(&fixture.row(&new, id(1)).await.unwrap()), expected);
}

async fn a_feature_that_goes_takes_its_values(fixture: Fixture) {
    let old = fixture.apply(&features(&[X, Y])).await.remove(0);
    fixture.write(&old, vec![xy(1, 1, 1.0, 2.0)]).await;
    let y = part(id(1), 2, 0, &[None, Some(double(3.0))]);
    fixture.write(&old, vec![y]).await;
    let new = fixture.apply(&features(&[X])).await.remove(0);
    let found = fixture.row(&new, id(1)).await.unwrap();
    assert_eq!(cells(&found), [Some((double(1.0), time(1, 0)))]);
    assert_eq!(fixture.history(&new).await.len(), 2);
    let newer = number(1, 3, 0, 4.0);
    let written = fixture.write(&new, vec![newer.clone()]).await;
    assert_eq!(written, counts(1, 0));
    assert_eq!(fixture.row(&new, id(1)).await, Some(newer.row));
}

async fn a_feature_comes_back_empty(fixture: Fixture) {
    let view = fixture.apply(&features(&[X, Y])).await.remove(0);
    let y = part(id(1), 1, 0, &[None, Some(double(3.0))]);
    fixture.write(&view, vec![xy(1, 2, 1.0, 2.0), y]).await;
    let x = part(id(1), 3, 0, &[Some(double(4.0)), None]);
    fixture.write(&view, vec![x]).await;
    fixture.apply(&features(&[X])).await;
    let view = fixture.apply(&features(&[X, Y])).await.remove(0);
    // Though the row says from when its last y was.
    let found = fixture.row(&view, id(1)).await.unwrap();
    assert_eq!(cells(&found), [Some((double(4.0), time(3, 0))), None]);
    for write in fixture.history(&view).await {
        assert_eq!(write.row.feature_time(1), None);
    }
    let y = part(id(1), 1, 0, &[None, Some(double(5.0))]);
    assert_eq!(fixture.write(&view, vec![y]).await, counts(1, 0));
    let found = fixture.row(&view, id(1)).await.unwrap();
    assert_eq!(cells(&found)[1], Some((double(5.0), time(1, 0))));
}

async fn a_feature_of_another_type_is_another(fixture: Fixture) {
    let old = fixture.apply(&features(&[X, Y])).await.remove(0);
    fixture.write(&old, vec![xy(1, 5, 1.0, 2.0)]).await;
    let list = r#"{ name = "x", type = "list<string>" }"#;
    let new = fixture.apply(&features(&[list, Y])).await.remove(0);
    let found = fixture.row(&new, id(1)).await.unwrap();
    assert_eq!(cells(&found), [None, Some((double(2.0), time(5, 0)))]);
    assert_eq!(found.values[0], Value::Null);
    let texts = ListValue::String(vec!["a".to_owned()]);
    let row = write_row(id(1), 5, 0, vec![Value::List(texts), double(2.0)]);
    let written = fixture.write(&new, vec![row.clone()]).await;
    assert_eq!(written, counts(1, 0));
    assert_eq!(fixture.row(&new, id(1)).await, Some(row.row));
}

async fn other_join_keys_empty_a_view(fixture: Fixture) {
    let view = fixture.apply(&features(&[X])).await.remove(0);
    fixture.load(&view, vec![number(1, 1, 0, 1.0)]).await;
    let keys = r#"{ name = "id", type = "string" }"#;
    let text = one_view_with_history("numbers", keys, X);
    let view = fixture.apply(&text).await.remove(0);
    let name = key([Value::String("1".into())]);
    assert_eq!(fixture.row(&view, name.clone()).await, None);
    assert_eq!(fixture.history(&view).await, []);
    let known = fixture.store.materializations("numbers").await;
    assert_eq!(known.unwrap(), []);
    let row = write_row(name.clone(), 1, 0, vec![double(2.0)]);
    fixture.write(&view, vec![row.clone()]).await;
    assert_eq!(fixture.row(&view, name).await, Some(row.row.clone()));
    assert_eq!(fixture.history(&view).await, [row]);
}

async fn a_view_goes_with_its_rows_and_history(fixture: Fixture) {
    let view = fixture.apply(&features(&[X])).await.remove(0);
    let rows = vec![number(1, 1, 0, 1.0)];
    fixture.write(&view, rows.clone()).await;
    fixture.apply(NOTHING).await;
    fixture.store.write(&view, rows).await.unwrap_err();
    let view = fixture.apply(&features(&[X])).await.remove(0);
    assert_eq!(fixture.row(&view, id(1)).await, None);
    assert_eq!(fixture.history(&view).await, []);
}

async fn a_view_that_was_dropped_is_loaded_again(fixture: Fixture) {
    let view = fixture.apply(&features(&[X])).await.remove(0);
    fixture.load(&view, vec![number(1, 1, 0, 1.0)]).await;
    let known = fixture.store.materializations("numbers").await;
    assert_eq!(known.unwrap().len(), 1);
    fixture.apply(NOTHING).await;
    fixture.apply(&features(&[X])).await;
    let known = fixture.store.materializations("numbers").await;
    assert_eq!(known.unwrap(), []);
}

async fn nothing_is_lost_unless_it_is_allowed(fixture: Fixture) {
    let view = fixture.apply(&features(&[X, Y])).await.remove(0);
    let row = xy(1, 1, 1.0, 2.0);
    fixture.write(&view, vec![row.clone()]).await;
    let fewer = Definitions::parse(&features(&[X])).unwrap();
    let store = fixture.store.as_ref();
    let error = apply_definitions(store, &fewer, ApplyOptions::default()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::FailedPrecondition);
    let dry = ApplyOptions {
        dry_run: true,
        ..LOSSY
    };
    let (plan, _) = apply_definitions(store, &fewer, dry).await.unwrap();
    assert!(!plan.is_empty());
    assert_eq!(fixture.store.catalog_revision().await.unwrap(), 1);
    assert_eq!(fixture.row(&view, id(1)).await, Some(row.row));
}

/// A server that has not read the catalog since goes on with what it knows, and does not undo what it does not know.
async fn an_older_server_goes_on_and_loses_nothing(fixture: Fixture) {
    let old = fixture.apply(&features(&[X])).await.remove(0);
    let other = fixture.another().await;
    fixture.write(&old, vec![number(1, 1, 0, 1.0)]).await;
    other.read(&old, &[id(1)]).await.unwrap();
    let new = fixture.apply(&features(&[X, Y])).await.remove(0);
    let second = number(1, 2, 0, 2.0);
    let written = other.write(&old, vec![second.clone()]).await;
    assert_eq!(written.unwrap(), counts(1, 0));
    let found = other.read(&old, &[id(1)]).await.unwrap();
    assert_eq!(found, [Some(second.row)]);
    let found = fixture.row(&new, id(1)).await.unwrap();
    assert_eq!(cells(&found), [Some((double(2.0), time(2, 0))), None]);
    // The row of a newer server would lose its y.
    let newer = xy(1, 3, 3.0, 3.0);
    fixture.write(&new, vec![newer.clone()]).await;
    let rows = vec![number(1, 4, 0, 4.0)];
    let error = other.write(&old, rows.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    let messages = vec![Some(Ok(rows)), None];
    let error = load(&other, &old, messages, &note("old")).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert_eq!(fixture.row(&new, id(1)).await, Some(newer.row));
}

async fn tables_go_with_their_views(fixture: Fixture) {
    let old = fixture.apply(&features(&[X, Y])).await.remove(0);
    fixture.write(&old, vec![xy(1, 1, 1.0, 1.0)]).await;
    // A feature that is gone does not read as something else.
    fixture.apply(&features(&[Y])).await;
    let error = fixture.store.read(&old, &[id(1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    fixture
        .execute("SELECT count(y) FROM fv_numbers; SELECT count(y) FROM fh_numbers")
        .await;
    fixture.apply(NOTHING).await;
    // Their names are free.
    fixture
        .execute("CREATE TABLE fv_numbers (mine integer); CREATE TABLE fh_numbers (mine integer)")
        .await;
    for table in ["fv_numbers", "fh_numbers"] {
        let plan = fixture.plan(&features(&[X])).await;
        let error = fixture.store.apply_plan(&plan).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
        let words = format!("{table} is there already");
        assert!(error.message().contains(&words), "{error}");
        fixture.execute(&format!("DROP TABLE {table}")).await;
    }
    fixture.apply(&features(&[X])).await;
}

async fn a_table_that_is_gone_can_be_dropped(fixture: Fixture) {
    fixture.apply(&features(&[X])).await;
    fixture
        .execute("DROP TABLE fv_numbers; DROP TABLE fh_numbers")
        .await;
    let catalog = fixture.try_apply(NOTHING).await.unwrap();
    assert!(catalog.views.is_empty());
}

async fn a_server_with_outdated_definitions_says_so(fixture: Fixture) {
    let old = fixture
        .apply(&one_view("numbers", ID, &format!("{X}, {Y}")))
        .await
        .remove(0);
    let outdated = fixture.another().await;
    outdated
        .write(
            &old,
            vec![write_row(id(1), 1, 1, vec![Value::Double(1.0); 2])],
        )
        .await
        .unwrap();
    outdated.read(&old, &[id(1)]).await.unwrap();
    numbers(&fixture).await;
    let row = || vec![write_row(id(1), 2, 2, vec![Value::Double(2.0); 2])];
    let views = [Arc::clone(&old)];
    for attempt in 0..2 {
        let errors = [
            outdated.read(&old, &[id(1)]).await.unwrap_err(),
            outdated.write(&old, row()).await.unwrap_err(),
            load(&outdated, &old, vec![Some(Ok(row())), None], &note("x"))
                .await
                .unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            assert!(
                error
                    .message()
                    .contains("has changed since this server read it; try again"),
                "{error}"
            );
            assert!(!error.message().contains("column"), "{error}");
        }
        if attempt == 0 {
            fixture.try_apply("project = \"demo\"").await.unwrap();
        }
    }
    let error = outdated.delete(&views, &id(1)).await.unwrap_err();
    assert!(
        error
            .message()
            .contains("has changed since this server read it"),
        "{error}"
    );
}
