//! The cache before a store: what it answers, how old that is, and what makes it ask again.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ferrocast::{
    catalog::FeatureView,
    error::Result,
    features::{
        CacheBounds, CachedStore, EntityKey, LoadInput, Materialization, MaterializationRecord,
        OnlineStore, RowSink, Scan, StoredRow, Timestamp, Value, WriteCounts, WriteRow,
    },
};
use tokio::sync::{Semaphore, mpsc};

use crate::{fixtures::*, for_every_store};

for_every_store!(
    rows_come_from_memory_until_they_are_too_old,
    what_this_server_changes_is_seen_at_once,
    a_write_between_miss_and_fill_is_not_forgotten,
    another_definition_shares_no_rows,
);

fn cached(fixture: &Fixture, age_max: Duration) -> CachedStore {
    let bounds = CacheBounds {
        bytes_max: 1 << 20,
        age_max,
    };
    CachedStore::new(fixture.store.clone(), bounds)
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
    (x(rows[0].as_ref()), age)
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

/// A store whose reads come back only when they are let through.
struct Gated {
    inner: Arc<dyn OnlineStore>,
    has_read: Semaphore,
    may_answer: Semaphore,
}

#[async_trait]
impl OnlineStore for Gated {
    async fn read(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<Vec<Option<StoredRow>>> {
        let rows = self.inner.read(view, keys).await;
        self.has_read.add_permits(1);
        self.may_answer.acquire().await.unwrap().forget();
        rows
    }

    async fn read_as_of(
        &self,
        view: &FeatureView,
        keys: &[EntityKey],
        at: Timestamp,
    ) -> Result<Vec<Option<StoredRow>>> {
        self.inner.read_as_of(view, keys, at).await
    }

    async fn write(&self, view: &FeatureView, rows: Vec<WriteRow>) -> Result<WriteCounts> {
        self.inner.write(view, rows).await
    }

    async fn load(
        &self,
        view: &FeatureView,
        input: LoadInput,
        note: &Materialization,
    ) -> Result<WriteCounts> {
        self.inner.load(view, input, note).await
    }

    async fn materializations(&self, view: &str) -> Result<Vec<MaterializationRecord>> {
        self.inner.materializations(view).await
    }

    async fn delete(&self, views: &[Arc<FeatureView>], key: &EntityKey) -> Result<u64> {
        self.inner.delete(views, key).await
    }

    async fn scan(&self, view: &FeatureView, scan: Scan, sink: RowSink) -> Result<()> {
        self.inner.scan(view, scan, sink).await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }
}

async fn a_write_between_miss_and_fill_is_not_forgotten(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let gated = Arc::new(Gated {
        inner: fixture.store.clone(),
        has_read: Semaphore::new(0),
        may_answer: Semaphore::new(0),
    });
    let bounds = CacheBounds {
        bytes_max: 1 << 20,
        age_max: HOUR,
    };
    let store = Arc::new(CachedStore::new(gated.clone(), bounds));
    let reading = tokio::spawn({
        let (store, view) = (Arc::clone(&store), Arc::clone(&view));
        async move { read(store.as_ref(), &view, 1).await }
    });
    gated.has_read.acquire().await.unwrap().forget();
    store
        .write(&view, vec![number(1, 1, 0, 1.0)])
        .await
        .unwrap();
    gated.may_answer.add_permits(2);
    // It had read before the write, and may say so; but it must not be kept.
    assert_eq!(reading.await.unwrap().0, None);
    assert_eq!(
        read(store.as_ref(), &view, 1).await.0,
        Some(Value::Double(1.0))
    );
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
