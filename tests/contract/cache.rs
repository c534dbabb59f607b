//! The cache before a store: what it answers, how old that is, and what makes it ask again.

use std::{sync::Arc, time::Duration};

use ferrocast::{
    catalog::FeatureView,
    features::{
        CacheBounds, FrontStore, JoinBounds, LoadInput, OnlineStore, RowCache, RowTime, StoredRow,
        Value, WriteRow,
    },
};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{fixtures::*, for_every_store, gated::Gated};

for_every_store!(
    rows_come_from_memory_until_they_are_too_old,
    what_this_server_changes_is_seen_at_once,
    a_write_between_miss_and_fill_is_not_forgotten,
    news_between_miss_and_fill_is_not_forgotten,
    a_key_is_read_once_however_many_ask,
    what_is_written_is_kept_as_it_is_stored,
    another_definition_shares_no_rows,
);

fn bounds(age_max: Duration) -> CacheBounds {
    CacheBounds {
        bytes_max: 1 << 20,
        age_max,
        stale_max: None,
    }
}

fn cached(fixture: &Fixture, age_max: Duration) -> FrontStore {
    let store = fixture.store.clone();
    FrontStore::new(store, JoinBounds::default(), Some(bounds(age_max)))
}

const HOUR: Duration = Duration::from_secs(3_600);

fn x(row: Option<&StoredRow>) -> Option<Value> {
    row.map(|row| row.values[0].clone())
}

async fn read(
    store: &dyn OnlineStore,
    view: &FeatureView,
    entity: i64,
) -> (Option<Value>, Duration) {
    let (rows, age) = store.read_aged(view, &[id(entity)]).await.unwrap();
    (x(rows[0].as_deref()), age)
}

async fn rows_come_from_memory_until_they_are_too_old(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let rows = vec![number(1, 1, 0, 1.0)];
    fixture.store.write(&view, rows).await.unwrap();
    let (patient, hasty) = (cached(&fixture, HOUR), cached(&fixture, Duration::ZERO));
    for store in [&patient, &hasty] {
        let (value, age) = read(store, &view, 1).await;
        assert_eq!((value, age), (Some(Value::Double(1.0)), Duration::ZERO));
        assert_eq!(read(store, &view, 2).await.0, None);
    }
    // As another server would.
    let rows = vec![number(1, 2, 0, 2.0), number(2, 2, 0, 2.0)];
    fixture.store.write(&view, rows).await.unwrap();
    let (value, age) = read(&patient, &view, 1).await;
    assert_eq!(value, Some(Value::Double(1.0)));
    assert!(age > Duration::ZERO);
    // That there is none is kept, too.
    assert_eq!(read(&patient, &view, 2).await.0, None);
    assert_eq!(
        read(&hasty, &view, 1).await,
        (Some(Value::Double(2.0)), Duration::ZERO)
    );
}

async fn what_this_server_changes_is_seen_at_once(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let store = cached(&fixture, HOUR);
    assert_eq!(read(&store, &view, 1).await.0, None);
    store
        .write(&view, vec![number(1, 1, 0, 1.0)])
        .await
        .unwrap();
    assert_eq!(read(&store, &view, 1).await.0, Some(Value::Double(1.0)));
    let (sender, batches) = mpsc::channel(2);
    sender
        .try_send(Some(Ok(vec![number(1, 2, 0, 2.0)])))
        .unwrap();
    sender.try_send(None).unwrap();
    let input = LoadInput::Rows(batches);
    store.load(&view, input, &note("a")).await.unwrap();
    assert_eq!(read(&store, &view, 1).await.0, Some(Value::Double(2.0)));
    store.delete(&[Arc::clone(&view)], &id(1)).await.unwrap();
    assert_eq!(read(&store, &view, 1).await.0, None);
}

/// A cache before a gate; nobody tells of changes but by hand.
fn gated(fixture: &Fixture) -> (Arc<Gated>, Arc<FrontStore>) {
    let gated = Gated::before(fixture.store.clone());
    let store = FrontStore::new(gated.clone(), JoinBounds::default(), Some(bounds(HOUR)));
    (gated, Arc::new(store))
}

fn begin(store: &Arc<FrontStore>, view: &Arc<FeatureView>) -> JoinHandle<Option<Value>> {
    let (store, view) = (Arc::clone(store), Arc::clone(view));
    tokio::spawn(async move { read(store.as_ref(), &view, 1).await.0 })
}

async fn a_write_between_miss_and_fill_is_not_forgotten(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let (gated, store) = gated(&fixture);
    let reading = begin(&store, &view);
    gated.has_read().await;
    store
        .write(&view, vec![number(1, 1, 0, 1.0)])
        .await
        .unwrap();
    gated.open();
    // It had read before the write, and may say so; but it must not be kept.
    assert_eq!(reading.await.unwrap(), None);
    assert_eq!(
        read(store.as_ref(), &view, 1).await.0,
        Some(Value::Double(1.0))
    );
}

/// The store has read the old row already when another server's change of it is told.
async fn news_between_miss_and_fill_is_not_forgotten(fixture: Fixture) {
    let view = numbers(&fixture).await;
    fixture.write(&view, vec![number(1, 1, 0, 1.0)]).await;
    let tellings: [fn(&RowCache); 2] = [|cache| cache.forget_view("numbers"), RowCache::forget_all];
    for (event, telling) in (2..).zip(tellings) {
        let (gated, store) = gated(&fixture);
        let before = fixture.row(&view, id(1)).await.unwrap().values[0].clone();
        let reading = begin(&store, &view);
        gated.has_read().await;
        fixture.write(&view, vec![number(1, event, 0, 9.0)]).await;
        telling(&store.cache().unwrap());
        gated.open();
        assert_eq!(reading.await.unwrap(), Some(before));
        let (value, age) = read(store.as_ref(), &view, 1).await;
        assert_eq!((value, age), (Some(Value::Double(9.0)), Duration::ZERO));
    }
}

/// Misses of one key at once are one query, and a key that the one before has brought is asked for no more.
async fn a_key_is_read_once_however_many_ask(fixture: Fixture) {
    let view = numbers(&fixture).await;
    fixture.write(&view, vec![number(1, 1, 0, 1.0)]).await;
    let gated = Gated::before(fixture.store.clone());
    let joins = JoinBounds {
        queries_max: 1,
        ..JoinBounds::default()
    };
    let store = Arc::new(FrontStore::new(gated.clone(), joins, Some(bounds(HOUR))));
    let mut reading = vec![begin(&store, &view)];
    gated.has_read().await;
    reading.extend((0..20).map(|_| begin(&store, &view)));
    tokio::task::yield_now().await;
    gated.open();
    for reading in reading {
        assert_eq!(reading.await.unwrap(), Some(Value::Double(1.0)));
    }
    assert_eq!(gated.reads(), [[id(1)]]);
}

/// What the store is known to hold after a write is kept; what is only partly known is asked for again.
async fn what_is_written_is_kept_as_it_is_stored(fixture: Fixture) {
    const Y: &str = r#"{ name = "y", type = "double" }"#;
    let text = one_view("numbers", ID, &format!("{X}, {Y}"));
    let view = fixture.apply(&text).await.remove(0);
    let (gated, store) = gated(&fixture);
    gated.open();
    let values = |x, y| vec![Value::Double(x), Value::Double(y)];
    let part = |event, cells: [Option<f64>; 2]| {
        let time = RowTime {
            event_timestamp: at(event),
            created_at: at(0),
        };
        let cells = cells.map(|cell| cell.map(Value::Double));
        let row = StoredRow::partial(time, cells.into());
        WriteRow { key: id(1), row }
    };
    let writes = [
        (vec![write_row(id(1), 5, 0, values(1.0, 2.0))], (1, 0)),
        // Of each feature the newest stays.
        (vec![part(6, [Some(3.0), None])], (1, 0)),
        (vec![part(4, [None, Some(9.0)])], (0, 1)),
        (vec![write_row(id(1), 3, 0, values(8.0, 8.0))], (0, 1)),
        (
            vec![
                write_row(id(1), 7, 0, values(4.0, 4.0)),
                part(8, [None, Some(5.0)]),
                write_row(id(2), 1, 0, values(6.0, 6.0)),
            ],
            (3, 0),
        ),
    ];
    for (rows, (written, late)) in writes {
        let done = store.write(&view, rows).await.unwrap();
        assert_eq!(done, counts(written, late));
        let keys = [id(1), id(2)];
        let kept = store.read(&view, &keys).await.unwrap();
        assert_eq!(kept, fixture.store.read(&view, &keys).await.unwrap());
    }
    // Redis merges by itself, and is asked what came of it.
    if fixture.online.is_none() {
        let before = gated.reads().len();
        let row = write_row(id(3), 1, 0, values(7.0, 7.0));
        store.write(&view, vec![row]).await.unwrap();
        assert_eq!(
            read(store.as_ref(), &view, 3).await.0,
            Some(Value::Double(7.0))
        );
        assert_eq!(gated.reads().len(), before);
    }
}

async fn another_definition_shares_no_rows(fixture: Fixture) {
    const Y: &str = r#"{ name = "y", type = "double" }"#;
    let both = |features: &str| one_view("numbers", ID, features);
    let view = fixture.apply(&both(&format!("{X}, {Y}"))).await.remove(0);
    let values = vec![Value::Double(1.0), Value::Double(2.0)];
    let store = cached(&fixture, HOUR);
    store
        .write(&view, vec![write_row(id(1), 1, 0, values)])
        .await
        .unwrap();
    assert_eq!(read(&store, &view, 1).await.0, Some(Value::Double(1.0)));
    // The order of the features is that of the values.
    let turned = fixture.apply(&both(&format!("{Y}, {X}"))).await.remove(0);
    assert_eq!(read(&store, &turned, 1).await.0, Some(Value::Double(2.0)));
}
