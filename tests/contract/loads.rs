//! Loading: all of it or nothing, with a note.

use std::sync::Arc;

use ferrocast::{
    error::{Error, ErrorKind, Result},
    features::{
        MaterializeOutcome, OnlineStore, RowSource, Value, WriteCounts, WriteRow, materialize,
    },
};
use tokio::sync::mpsc;

use crate::{fixtures::*, for_every_store};

for_every_store!(
    a_load_keeps_the_newest_and_notes_it,
    an_error_in_the_third_batch_undoes_all,
    a_source_that_goes_away_undoes_all,
    a_bad_row_is_named_by_its_number,
    a_load_beside_writers,
    materialize_loads_once,
    an_empty_load,
);

type Message = Option<Result<Vec<WriteRow>>>;

/// Loads messages into `numbers`; the sender goes away after them.
async fn load(fixture: &Fixture, messages: Vec<Message>, digest: &str) -> Result<WriteCounts> {
    let view = fixture.store_view().await;
    let (sender, batches) = mpsc::channel(messages.len().max(1));
    for message in messages {
        sender.try_send(message).unwrap();
    }
    drop(sender);
    fixture.store.load(&view, batches, &note(digest)).await
}

impl Fixture {
    async fn store_view(&self) -> Arc<ferrocast::catalog::FeatureView> {
        use ferrocast::catalog::CatalogStore;
        let catalog = self.store.load_catalog().await.unwrap();
        Arc::clone(catalog.view("numbers").unwrap())
    }

    async fn last_note(&self) -> Option<String> {
        let last = self
            .store
            .last_materialization("numbers", "data/numbers.csv")
            .await;
        last.unwrap().map(|note| note.digest)
    }

    async fn stored_x(&self, entity: i64) -> Option<Value> {
        let view = self.store_view().await;
        let mut found = self.store.read(&view, &[id(entity)]).await.unwrap();
        found.remove(0).map(|mut row| row.values.remove(0))
    }
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
    let counts = load(&fixture, messages, "first").await.unwrap();
    assert_eq!(
        counts,
        WriteCounts {
            written: 3,
            late: 4
        }
    );
    assert_eq!(fixture.stored_x(1).await, Some(Value::Double(3.0)));
    assert_eq!(fixture.stored_x(3).await, Some(Value::Double(30.0)));
    assert_eq!(fixture.stored_x(4).await, Some(Value::Double(7.0)));
    assert_eq!(fixture.last_note().await.as_deref(), Some("first"));
    let again = load(
        &fixture,
        vec![Some(Ok(vec![number(1, 5, 2, 8.0)])), None],
        "second",
    )
    .await;
    assert_eq!(
        again.unwrap(),
        WriteCounts {
            written: 0,
            late: 1
        }
    );
    assert_eq!(fixture.last_note().await.as_deref(), Some("second"));
    let other = fixture
        .store
        .last_materialization("numbers", "other.csv")
        .await;
    assert_eq!(other.unwrap(), None);
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
    let error = load(&fixture, messages, "bad").await.unwrap_err();
    assert_eq!(error.message(), "row 3: a bad cell");
    assert_eq!(fixture.stored_x(1).await, None);
    assert_eq!(fixture.last_note().await, None);
    // The connection that was used is fit for the next load.
    let good = vec![Some(Ok(vec![number(1, 1, 1, 1.0)])), None];
    load(&fixture, good, "good").await.unwrap();
    assert_eq!(fixture.stored_x(1).await, Some(Value::Double(1.0)));
}

async fn a_source_that_goes_away_undoes_all(fixture: Fixture) {
    numbers(&fixture).await;
    let messages = vec![Some(Ok(vec![number(1, 1, 1, 1.0)]))];
    let error = load(&fixture, messages, "half").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(fixture.stored_x(1).await, None);
    assert_eq!(fixture.last_note().await, None);
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
    let error = load(&fixture, messages, "bad").await.unwrap_err();
    assert_eq!(error.fields()[0].field, "rows[2].x");
    assert_eq!(fixture.stored_x(1).await, None);
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
        load(&fixture, messages, "beside").await.unwrap();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for entity in [0, 100, 199] {
        assert_eq!(fixture.stored_x(entity).await, Some(Value::Double(1.0)));
    }
}

struct Batches(Vec<Vec<WriteRow>>);

impl RowSource for Batches {
    fn row_count(&self) -> Option<u64> {
        None
    }

    fn next_batch(&mut self) -> Result<Option<Vec<WriteRow>>> {
        Ok(self.0.pop())
    }
}

async fn materialize_loads_once(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let source = || -> Box<dyn RowSource> {
        let batches = (0..20).map(|batch| vec![number(batch, 1, 1, 1.0); 100]);
        Box::new(Batches(batches.collect()))
    };
    let store = fixture.store.as_ref();
    let first = materialize(store, &view, source(), &note("d"), false, |_| {}).await;
    let loaded = WriteCounts {
        written: 20,
        late: 1_980,
    };
    assert_eq!(first.unwrap(), MaterializeOutcome::Loaded(loaded));
    let second = materialize(store, &view, source(), &note("d"), false, |_| {}).await;
    assert_eq!(second.unwrap(), MaterializeOutcome::Unchanged);
    let forced = materialize(store, &view, source(), &note("d"), true, |_| {}).await;
    let late = WriteCounts {
        written: 0,
        late: 2_000,
    };
    assert_eq!(forced.unwrap(), MaterializeOutcome::Loaded(late));
}

async fn an_empty_load(fixture: Fixture) {
    numbers(&fixture).await;
    let counts = load(&fixture, vec![None], "empty").await.unwrap();
    assert_eq!(counts, WriteCounts::default());
    assert_eq!(fixture.last_note().await.as_deref(), Some("empty"));
}
