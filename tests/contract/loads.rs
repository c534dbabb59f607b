//! Loading: all of it or nothing, with a note.

use std::sync::Arc;

use crate::{fixtures::*, for_every_store};
use ferrocast::{
    error::{Error, ErrorKind, Result},
    features::{Materialization, OnlineStore, Timestamp, Value, WriteCounts},
};

for_every_store!(
    a_load_keeps_the_newest_and_notes_it,
    an_error_in_the_third_batch_undoes_all,
    a_source_that_goes_away_undoes_all,
    a_bad_row_is_named_by_its_number,
    a_load_beside_writers,
    an_empty_load,
    what_was_loaded_is_noted,
    the_watermark_never_goes_back,
    two_loads_at_once,
    a_load_of_parts_is_refused,
);

/// Loads messages into `numbers`.
async fn load_numbers(
    fixture: &Fixture,
    messages: Vec<Message>,
    digest: &str,
) -> Result<WriteCounts> {
    let view = fixture.view("numbers").await;
    load(&fixture.store, &view, messages, &note(digest)).await
}

async fn last_digest(fixture: &Fixture) -> Option<String> {
    let mut known = fixture.store.materializations("numbers").await.unwrap();
    assert!(known.len() <= 1);
    known.pop().map(|record| record.note.digest)
}

async fn stored_x(fixture: &Fixture, entity: i64) -> Option<Value> {
    let view = fixture.view("numbers").await;
    let row = fixture.row(&view, id(entity)).await;
    row.map(|mut row| row.values.remove(0))
}

async fn a_load_keeps_the_newest_and_notes_it(fixture: Fixture) {
    let view = numbers(&fixture).await;
    fixture
        .store
        .write(&view, vec![number(3, 100, 0, 30.0), number(4, 1, 0, 40.0)])
        .await
        .unwrap();
    let messages = vec![
        Some(Ok(vec![number(1, 5, 1, 1.0), number(2, 1, 1, 2.0)])),
        Some(Ok(vec![number(1, 5, 2, 3.0), number(3, 99, 9, 4.0)])),
        Some(Ok(vec![
            number(1, 4, 9, 5.0),
            number(1, 5, 2, 6.0),
            number(4, 2, 0, 7.0),
        ])),
        None,
    ];
    let loaded = load_numbers(&fixture, messages, "first").await.unwrap();
    assert_eq!(loaded, counts(3, 4));
    assert_eq!(stored_x(&fixture, 1).await, Some(Value::Double(3.0)));
    assert_eq!(stored_x(&fixture, 3).await, Some(Value::Double(30.0)));
    assert_eq!(stored_x(&fixture, 4).await, Some(Value::Double(7.0)));
    assert_eq!(last_digest(&fixture).await.as_deref(), Some("first"));
    let again = load_numbers(
        &fixture,
        vec![Some(Ok(vec![number(1, 5, 2, 8.0)])), None],
        "second",
    )
    .await;
    assert_eq!(again.unwrap(), counts(0, 1));
    assert_eq!(last_digest(&fixture).await.as_deref(), Some("second"));
}

async fn an_error_in_the_third_batch_undoes_all(fixture: Fixture) {
    numbers(&fixture).await;
    let messages = vec![
        Some(Ok(vec![number(1, 1, 1, 1.0)])),
        Some(Ok(vec![number(2, 1, 1, 1.0)])),
        Some(Err(Error::invalid("row 3", "a bad cell"))),
        Some(Ok(vec![number(4, 1, 1, 1.0)])),
        None,
    ];
    let error = load_numbers(&fixture, messages, "bad").await.unwrap_err();
    assert_eq!(error.message(), "row 3: a bad cell");
    assert_eq!(stored_x(&fixture, 1).await, None);
    assert_eq!(last_digest(&fixture).await, None);
    // The connection that was used is fit for the next load.
    let good = vec![Some(Ok(vec![number(1, 1, 1, 1.0)])), None];
    load_numbers(&fixture, good, "good").await.unwrap();
    assert_eq!(stored_x(&fixture, 1).await, Some(Value::Double(1.0)));
}

async fn a_source_that_goes_away_undoes_all(fixture: Fixture) {
    numbers(&fixture).await;
    let messages = vec![Some(Ok(vec![number(1, 1, 1, 1.0)]))];
    let error = load_numbers(&fixture, messages, "half").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(stored_x(&fixture, 1).await, None);
    assert_eq!(last_digest(&fixture).await, None);
}

async fn a_bad_row_is_named_by_its_number(fixture: Fixture) {
    numbers(&fixture).await;
    let mut bad = number(3, 1, 1, 1.0);
    bad.row.values[0] = Value::Int32(1);
    let messages = vec![
        Some(Ok(vec![number(1, 1, 1, 1.0), number(2, 1, 1, 1.0)])),
        Some(Ok(vec![bad])),
        None,
    ];
    let error = load_numbers(&fixture, messages, "bad").await.unwrap_err();
    assert_eq!(error.fields()[0].field, "rows[2].x");
    assert_eq!(stored_x(&fixture, 1).await, None);
}

async fn a_load_beside_writers(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let mut writers = Vec::new();
    for writer in 0..4_i64 {
        let (store, view) = (Arc::clone(&fixture.store), Arc::clone(&view));
        writers.push(tokio::spawn(async move {
            for round in 0..10 {
                let rows = (0..200)
                    .rev()
                    .map(|entity| number(entity, round, writer, 0.0));
                store.write(&view, rows.collect()).await.unwrap();
            }
        }));
    }
    for round in 0..5 {
        let rows = (0..200).map(|entity| number(entity, 100 + round, 0, 1.0));
        let messages = vec![Some(Ok(rows.collect())), None];
        load_numbers(&fixture, messages, "beside").await.unwrap();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for entity in [0, 100, 199] {
        assert_eq!(stored_x(&fixture, entity).await, Some(Value::Double(1.0)));
    }
}

async fn an_empty_load(fixture: Fixture) {
    numbers(&fixture).await;
    let loaded = load_numbers(&fixture, vec![None], "empty").await.unwrap();
    assert_eq!(loaded, WriteCounts::default());
    assert_eq!(last_digest(&fixture).await.as_deref(), Some("empty"));
}

async fn what_was_loaded_is_noted(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let before = Timestamp::now();
    let from = |source: &str| Materialization {
        source: source.to_owned(),
        ..note("digest")
    };
    let rows = vec![
        number(1, 5, 0, 1.0),
        number(1, 7, 0, 1.0),
        number(2, 3, 0, 1.0),
    ];
    let messages = vec![Some(Ok(rows)), None];
    let store = &fixture.store;
    load(store, &view, messages, &from("b")).await.unwrap();
    load(store, &view, vec![None], &from("a")).await.unwrap();
    let other = fixture.another().await;
    let known = other.materializations("numbers").await.unwrap();
    assert_eq!(known.len(), 2);
    assert_eq!(known[0].note, from("a"));
    assert_eq!(known[0].watermark, None);
    assert_eq!(known[0].counts, WriteCounts::default());
    assert_eq!(known[1].note, from("b"));
    assert_eq!(known[1].watermark, Some(at(7)));
    assert_eq!(known[1].counts, counts(2, 1));
    assert!(known[1].finished_at >= before && known[1].finished_at <= Timestamp::now());
    assert_eq!(store.materializations("other").await.unwrap(), []);
}

async fn the_watermark_never_goes_back(fixture: Fixture) {
    numbers(&fixture).await;
    for (event, expected) in [
        (None, None),
        (Some(-5), Some(-5)),
        (Some(-9), Some(-5)),
        (None, Some(-5)),
        (Some(8), Some(8)),
    ] {
        let rows = event.map(|event| Some(Ok(vec![number(1, event, 0, 1.0)])));
        let messages = rows.into_iter().chain([None]).collect();
        load_numbers(&fixture, messages, "digest").await.unwrap();
        let known = fixture.store.materializations("numbers").await.unwrap();
        assert_eq!(known[0].watermark, expected.map(at));
    }
}

async fn two_loads_at_once(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let stores = [Arc::clone(&fixture.store), fixture.another().await];
    let mut tasks = Vec::new();
    for loader in 0..4 {
        let store = Arc::clone(&stores[loader % 2]);
        let view = Arc::clone(&view);
        let event = i64::try_from(loader).unwrap();
        tasks.push(tokio::spawn(async move {
            let rows = (0..500).map(|entity| number(entity, event, 0, 1.0));
            let messages = vec![Some(Ok(rows.collect())), None];
            load(&store, &view, messages, &note("one of them")).await
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let keys: Vec<_> = (0..500).map(id).collect();
    for row in fixture.store.read(&view, &keys).await.unwrap() {
        assert_eq!(row.unwrap().time(), time(3, 0));
    }
}

async fn a_load_of_parts_is_refused(fixture: Fixture) {
    let two = one_view("numbers", ID, &format!("{X}, {Y}"));
    fixture.apply(&two).await;
    let x = part(id(1), 1, 1, &[Some(Value::Double(1.0)), None]);
    let messages = vec![Some(Ok(vec![x])), None];
    let error = load_numbers(&fixture, messages, "part").await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(last_digest(&fixture).await, None);
}
