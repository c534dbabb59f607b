//! Reading and writing rows.

use std::sync::Arc;

use ferrocast::{
    catalog::FeatureView,
    error::ErrorKind,
    features::{OnlineStore, Timestamp, Value, WriteCounts},
};

use crate::{fixtures::*, for_every_sql_store, for_every_store};

for_every_store!(
    rows_come_in_the_order_of_the_keys,
    composite_keys_of_every_type,
    late_rows_are_ignored_and_counted,
    a_newer_row_replaces_the_whole_row,
    duplicates_in_a_batch,
    all_or_nothing,
    ten_thousand_rows,
    a_wide_view,
    odd_identifiers,
    concurrent_writers,
    text_with_nul,
    nothing_asked_nothing_written,
    an_entity_is_deleted_and_made_anew,
    an_entity_is_deleted_from_many_views,
);

for_every_sql_store!(plain_sql_can_fill_a_table, a_fault_half_way_undoes_all);

async fn rows_come_in_the_order_of_the_keys(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let rows = vec![number(1, 5, 5, 1.0), number(2, 5, 5, 2.0)];
    fixture.store.write(&view, rows).await.unwrap();
    let keys = [id(2), id(9), id(1), id(2), id(-1)];
    let found = fixture.store.read(&view, &keys).await.unwrap();
    let values: Vec<Option<Value>> = found
        .into_iter()
        .map(|row| row.map(|row| row.values[0].clone()))
        .collect();
    assert_eq!(
        values,
        [
            Some(Value::Double(2.0)),
            None,
            Some(Value::Double(1.0)),
            Some(Value::Double(2.0)),
            None
        ]
    );
}

async fn composite_keys_of_every_type(fixture: Fixture) {
    let keys = ["string", "int32", "int64", "bytes"]
        .map(|name| format!(r#"{{ name = "k_{name}", type = "{name}" }}"#))
        .join(", ");
    let view = fixture
        .apply(&one_view("composite", &keys, X))
        .await
        .remove(0);
    let of = |text: &str, int32, int64, bytes: &[u8]| {
        key([
            Value::String(text.into()),
            Value::Int32(int32),
            Value::Int64(int64),
            Value::Bytes(bytes.to_vec()),
        ])
    };
    let keys = [
        of("", 0, 0, b""),
        of("a", 0, 0, b""),
        of("a", 1, 0, b""),
        of("a", 1, i64::MAX, b""),
        of("a", 1, i64::MAX, b"\0"),
        of("A", 1, i64::MAX, b"\0"),
        of("a ", 1, i64::MAX, b"\0"),
    ];
    let rows = (0_i32..)
        .zip(&keys)
        .map(|(x, key)| write_row(key.clone(), 1, 1, vec![Value::Double(f64::from(x))]));
    let written = fixture.store.write(&view, rows.collect()).await.unwrap();
    assert_eq!(written, counts(7, 0));
    let found = fixture.store.read(&view, &keys).await.unwrap();
    for (x, row) in (0_i32..).zip(found) {
        assert_eq!(row.unwrap().values[0], Value::Double(f64::from(x)));
    }
    let other = fixture
        .store
        .read(&view, &[of("b", 0, 0, b"")])
        .await
        .unwrap();
    assert_eq!(other, [None]);
}

async fn x_of(fixture: &Fixture, view: &FeatureView, entity: i64) -> Value {
    let mut found = fixture.store.read(view, &[id(entity)]).await.unwrap();
    found.remove(0).unwrap().values.remove(0)
}

async fn late_rows_are_ignored_and_counted(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let write = |event, created, x| {
        let rows = vec![number(1, event, created, x)];
        let store = Arc::clone(&fixture.store);
        let view = Arc::clone(&view);
        async move { store.write(&view, rows).await.unwrap() }
    };
    let effective = counts(1, 0);
    let late = counts(0, 1);
    assert_eq!(write(10, 10, 1.0).await, effective);
    assert_eq!(
        write(9, 99, 2.0).await,
        late,
        "older in the world, though made later"
    );
    assert_eq!(write(10, 9, 3.0).await, late, "made earlier");
    assert_eq!(write(10, 10, 4.0).await, late, "the very same times");
    assert_eq!(x_of(&fixture, &view, 1).await, Value::Double(1.0));
    assert_eq!(write(10, 11, 5.0).await, effective, "a correction");
    assert_eq!(write(11, 0, 6.0).await, effective, "newer in the world");
    assert_eq!(x_of(&fixture, &view, 1).await, Value::Double(6.0));
}

async fn a_newer_row_replaces_the_whole_row(fixture: Fixture) {
    let two = format!(r#"{X}, {{ name = "y", type = "string" }}"#);
    let view = fixture.apply(&one_view("pairs", ID, &two)).await.remove(0);
    let y = Value::String("y".into());
    let full = write_row(id(1), 1, 1, vec![Value::Double(1.0), y]);
    let half = write_row(id(1), 2, 2, vec![Value::Double(2.0), Value::Null]);
    fixture.store.write(&view, vec![full]).await.unwrap();
    fixture
        .store
        .write(&view, vec![half.clone()])
        .await
        .unwrap();
    let found = fixture.store.read(&view, &[id(1)]).await.unwrap();
    assert_eq!(found, [Some(half.row)]);
}

async fn duplicates_in_a_batch(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let rows = vec![
        number(1, 5, 1, 1.0),
        number(2, 1, 1, 2.0),
        number(1, 5, 2, 3.0),
        number(1, 4, 9, 4.0),
        number(1, 5, 2, 5.0),
    ];
    let written = fixture.store.write(&view, rows).await.unwrap();
    assert_eq!(written, counts(2, 3));
    assert_eq!(x_of(&fixture, &view, 1).await, Value::Double(3.0));
}

async fn all_or_nothing(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let mut rows: Vec<_> = (0..50).map(|entity| number(entity, 1, 1, 1.0)).collect();
    rows[30].row.values[0] = Value::String("no number".into());
    let error = fixture.store.write(&view, rows).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(error.fields()[0].field, "rows[30].x");
    let keys: Vec<_> = (0..50).map(id).collect();
    let found = fixture.store.read(&view, &keys).await.unwrap();
    assert!(found.iter().all(Option::is_none));
}

/// A fault that only the database sees, after rows of the same call that were right.
async fn a_fault_half_way_undoes_all(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let time = fixture.sql_time_type();
    fixture
        .execute(&format!(
            "DROP TABLE fv_numbers; CREATE TABLE fv_numbers (id bigint PRIMARY KEY, event_timestamp {time}, created_at {time}, \
             x double precision CHECK (x < 40), _feature_times {}, _generation integer)",
            if fixture.is_sqlite() { "text" } else { "jsonb" }
        ))
        .await;
    let rows = (0_i32..50)
        .map(|entity| number(entity.into(), 1, 1, entity.into()))
        .collect();
    fixture.store.write(&view, rows).await.unwrap_err();
    let keys: Vec<_> = (0..50).map(id).collect();
    let found = fixture.store.read(&view, &keys).await.unwrap();
    assert!(found.iter().all(Option::is_none));
}

async fn ten_thousand_rows(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let rows: Vec<_> = (0_i32..10_000)
        .map(|entity| number(entity.into(), 1, 1, entity.into()))
        .collect();
    let keys: Vec<_> = rows.iter().map(|row| row.key.clone()).collect();
    let written = fixture.store.write(&view, rows.clone()).await.unwrap();
    assert_eq!(written, counts(10_000, 0));
    let found = fixture.store.read(&view, &keys).await.unwrap();
    assert!(
        found
            .iter()
            .zip(&rows)
            .all(|(read, written)| read.as_ref() == Some(&written.row))
    );
}

async fn a_wide_view(fixture: Fixture) {
    // As many doubles are more than a page of PostgreSQL holds.
    let features: Vec<String> = (0..1_000)
        .map(|index| format!(r#"{{ name = "f{index}", type = "float" }}"#))
        .collect();
    let view = fixture
        .apply(&one_view("wide", ID, &features.join(", ")))
        .await
        .remove(0);
    let values = (0_i16..1_000).map(|x| Value::Float(x.into())).collect();
    let row = write_row(id(1), 1, 1, values);
    fixture.store.write(&view, vec![row.clone()]).await.unwrap();
    let found = fixture.store.read(&view, &[id(1)]).await.unwrap();
    assert_eq!(found, [Some(row.row)]);
}

async fn odd_identifiers(fixture: Fixture) {
    let keys = r#"{ name = "Order", type = "string" }"#;
    let features = [
        "select",
        "MixedCase",
        "stored",
        "excluded",
        "asked",
        "n",
        "k0",
        "rowid",
        "_",
    ]
    .map(|name| format!(r#"{{ name = "{name}", type = "int32" }}"#))
    .join(", ");
    let longest = "v".repeat(60);
    for name in ["Table", "stored", longest.as_str()] {
        let view = fixture
            .apply(&one_view(name, keys, &features))
            .await
            .remove(0);
        let row = write_row(
            key([Value::String("from".into())]),
            1,
            1,
            (0..9).map(Value::Int32).collect(),
        );
        fixture.store.write(&view, vec![row.clone()]).await.unwrap();
        let keys = [row.key];
        let found = fixture.store.read(&view, &keys).await.unwrap();
        assert_eq!(found, [Some(row.row)]);
    }
}

async fn plain_sql_can_fill_a_table(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let noon = Timestamp::parse("2016-01-04T12:00:00Z").unwrap();
    let time = fixture.sql_time(noon);
    let insert = async |columns: &str, values: &str| {
        fixture
            .execute(&format!(
                "INSERT INTO fv_numbers (event_timestamp, created_at, {columns}) VALUES ({time}, {time}, {values})"
            ))
            .await;
    };
    insert("id, x", "1, 3").await;
    let row = fixture.row(&view, id(1)).await.unwrap();
    assert!(row.is_whole());
    assert_eq!(row.event_timestamp, noon);
    assert_eq!(row.values, [Value::Double(3.0)]);
    // After a feature was added, such a row says something about it, and those before say nothing.
    let two = one_view("numbers", ID, &format!("{X}, {Y}"));
    let view = fixture.apply(&two).await.remove(0);
    insert("id, x, y", "2, 4, NULL").await;
    let before = fixture.row(&view, id(1)).await.unwrap();
    assert_eq!(before.feature_time(1), None);
    let after = fixture.row(&view, id(2)).await.unwrap();
    assert!(after.is_whole(), "{after:?}");
    let row = write_row(id(2), noon.micros(), noon.micros(), after.values.clone());
    assert_eq!(fixture.write(&view, vec![row]).await, counts(0, 1));
}

async fn concurrent_writers(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let stores = [Arc::clone(&fixture.store), fixture.another().await];
    let mut tasks = Vec::new();
    for writer in 0..8_i64 {
        let store = Arc::clone(&stores[usize::try_from(writer).unwrap() % 2]);
        let view = Arc::clone(&view);
        tasks.push(tokio::spawn(async move {
            for round in 0..5_i64 {
                // Each writer in another order, so that unsorted writers would wait for each other in a circle.
                let mut rows: Vec<_> = (0..100)
                    .map(|entity| {
                        number(
                            entity,
                            round,
                            writer,
                            f64::from(u8::try_from(writer).unwrap()),
                        )
                    })
                    .collect();
                rows.rotate_left(usize::try_from(writer).unwrap() * 11);
                store.write(&view, rows).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let keys: Vec<_> = (0..100).map(id).collect();
    for row in fixture.store.read(&view, &keys).await.unwrap() {
        let row = row.unwrap();
        assert_eq!((row.event_timestamp, row.created_at), (at(4), at(7)));
        assert_eq!(row.values, [Value::Double(7.0)]);
    }
}

async fn text_with_nul(fixture: Fixture) {
    let name = r#"{ name = "name", type = "string" }"#;
    let label = r#"{ name = "label", type = "string" }"#;
    let view = fixture
        .apply(&one_view("labels", name, label))
        .await
        .remove(0);
    let text = |text: &str| Value::String(text.into());
    let rows = vec![
        write_row(key([text("good")]), 1, 1, vec![text("good")]),
        write_row(key([text("good")]), 1, 1, vec![text("b\0d")]),
        write_row(key([text("b\0d")]), 1, 1, vec![text("good")]),
    ];
    let error = fixture.store.write(&view, rows).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let fields: Vec<_> = error
        .fields()
        .iter()
        .map(|fault| fault.field.as_str())
        .collect();
    assert_eq!(fields, ["rows[1].label", "rows[2].name"]);
    let good = write_row(key([text("b")]), 1, 1, vec![text("good")]);
    fixture
        .store
        .write(&view, vec![good.clone()])
        .await
        .unwrap();
    let keys = [key([text("b\0d")]), key([text("b")]), key([text("b\0")])];
    let found = fixture.store.read(&view, &keys).await.unwrap();
    assert_eq!(found, [None, Some(good.row), None]);
}

async fn nothing_asked_nothing_written(fixture: Fixture) {
    let view = numbers(&fixture).await;
    assert_eq!(fixture.store.read(&view, &[]).await.unwrap(), []);
    let written = fixture.store.write(&view, Vec::new()).await.unwrap();
    assert_eq!(written, WriteCounts::default());
}

async fn an_entity_is_deleted_and_made_anew(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let views = [Arc::clone(&view)];
    let rows = vec![number(1, 5, 5, 1.0), number(2, 5, 5, 2.0)];
    fixture.write(&view, rows).await;
    assert_eq!(fixture.store.delete(&views, &id(1)).await.unwrap(), 1);
    assert_eq!(fixture.row(&view, id(1)).await, None);
    assert_eq!(x_of(&fixture, &view, 2).await, Value::Double(2.0));
    assert_eq!(fixture.store.delete(&views, &id(1)).await.unwrap(), 0);
    assert_eq!(fixture.store.delete(&[], &id(2)).await.unwrap(), 0);
    // Older than what was there: it is there no longer.
    let row = number(1, 1, 1, 3.0);
    assert_eq!(fixture.write(&view, vec![row]).await, counts(1, 0));
    assert_eq!(x_of(&fixture, &view, 1).await, Value::Double(3.0));
}

async fn an_entity_is_deleted_from_many_views(fixture: Fixture) {
    let view = |name| {
        format!(
            "[[feature_views]]\nname = \"{name}\"\nentity = \"thing\"\nhistory = {}\nfeatures = [{X}]\n",
            name == "c"
        )
    };
    let text = format!("{}{}{}", one_view("a", ID, X), view("b"), view("c"));
    let views = fixture.apply(&text).await;
    for view in [&views[0], &views[2]] {
        fixture.write(view, vec![number(1, 1, 1, 1.0)]).await;
    }
    assert_eq!(fixture.store.delete(&views, &id(1)).await.unwrap(), 2);
    for view in &views {
        assert_eq!(fixture.row(view, id(1)).await, None);
    }
    assert_eq!(fixture.history(&views[2]).await, []);
}
