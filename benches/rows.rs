//! What stands between a request and its model: rows out of the cache and out of the embedded store, as a table of features,
//! and numbers in their places of a batch.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

#[path = "../tests/support/forest.rs"]
mod forest;

use std::{sync::Arc, time::Duration};

use divan::{Bencher, counter::ItemsCount};
use ferrocast::{
    catalog::{ApplyOptions, Catalog, Definitions, FeatureRef, apply_definitions},
    config::Secret,
    features::{
        CacheBounds, EntityKey, FeatureSelection, Freshness, FrontStore, JoinBounds, OnlineStore,
        RowTime, StoredRow, Timestamp, Value, WriteRow, read_features,
    },
    inference::{Layout, Signature},
    stores::{self, DatabaseOptions},
};
use tokio::runtime::Runtime;

const FEATURES: usize = 30;
const ENTITIES: [usize; 2] = [1, 100];
const BYTES_MAX: usize = 1 << 24;

fn main() {
    divan::main();
}

/// A store with rows of 30 doubles, and what is asked of it.
struct Filled {
    runtime: Runtime,
    store: Arc<dyn OnlineStore>,
    selection: Arc<FeatureSelection>,
    keys: Vec<EntityKey>,
    _folder: tempfile::TempDir,
}

fn filled(entities: usize) -> Filled {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("store.db").display());
    let keys: Vec<EntityKey> = (0..entities)
        .map(|at| EntityKey::new(vec![Value::String(format!("user-{at:07}").into())]).unwrap())
        .collect();
    let (store, catalog) = runtime.block_on(async {
        let options = DatabaseOptions::new(Secret::from(url.as_str()));
        let store = stores::open(&options).await.unwrap();
        store.migrate().await.unwrap();
        let definitions = Definitions::parse(&definitions()).unwrap();
        let (_, catalog) = apply_definitions(
            store.as_ref(),
            &definitions,
            ApplyOptions {
                dry_run: false,
                allow_data_loss: false,
            },
        )
        .await
        .unwrap();
        let now = Timestamp::now();
        let time = RowTime {
            event_timestamp: now,
            created_at: now,
        };
        let values = (0..FEATURES).map(|at| Value::Double(at as f64)).collect();
        let row = StoredRow::whole(time, values);
        let rows = keys.iter().map(|key| WriteRow {
            key: key.clone(),
            row: row.clone(),
        });
        let view = catalog.view("wide").unwrap();
        store.write(view, rows.collect()).await.unwrap();
        (store, catalog)
    });
    Filled {
        runtime,
        store,
        selection: selection(&catalog),
        keys,
        _folder: folder,
    }
}

fn definitions() -> String {
    let features: Vec<String> = (0..FEATURES)
        .map(|at| format!(r#"{{ name = "f{at}", type = "double" }}"#))
        .collect();
    format!(
        r#"
        project = "wide"
        [[entities]]
        name = "user"
        join_keys = [{{ name = "user_id", type = "string" }}]
        [[feature_views]]
        name = "wide"
        entity = "user"
        features = [{}]
        "#,
        features.join(", ")
    )
}

fn selection(catalog: &Catalog) -> Arc<FeatureSelection> {
    let references = (0..FEATURES).map(|at| FeatureRef {
        view: "wide".to_owned(),
        feature: format!("f{at}"),
    });
    Arc::new(FeatureSelection::resolve(catalog, references.collect()).unwrap())
}

#[divan::bench(args = ENTITIES)]
fn read_cached(bencher: Bencher<'_, '_>, entities: usize) {
    let filled = filled(entities);
    let bounds = CacheBounds {
        bytes_max: 1 << 28,
        age_max: Duration::from_secs(3_600),
        stale_max: None,
    };
    let front = FrontStore::new(
        Arc::clone(&filled.store),
        JoinBounds::default(),
        Some(bounds),
    );
    read(bencher, &filled, &front);
}

#[divan::bench(args = ENTITIES)]
fn read_embedded(bencher: Bencher<'_, '_>, entities: usize) {
    let filled = filled(entities);
    read(bencher, &filled, filled.store.as_ref());
}

fn read(bencher: Bencher<'_, '_>, filled: &Filled, store: &dyn OnlineStore) {
    let keys = [filled.keys.clone()];
    bencher
        .counter(ItemsCount::new(filled.keys.len()))
        .bench_local(|| {
            let selection = Arc::clone(&filled.selection);
            let reading = read_features(store, selection, &keys, Freshness::now(), BYTES_MAX);
            filled.runtime.block_on(reading).unwrap()
        });
}

#[divan::bench(args = ENTITIES)]
fn laid_out(bencher: Bencher<'_, '_>, rows: usize) {
    let layout = Layout::new(&Signature::parse(&forest::signature(FEATURES)).unwrap());
    let values: Vec<Value> = (0..FEATURES).map(|at| Value::Float(at as f32)).collect();
    bencher.counter(ItemsCount::new(rows)).bench_local(|| {
        let mut batch = layout.empty_batch(rows);
        for row in 0..rows {
            for (input, value) in values.iter().enumerate() {
                layout.set(&mut batch, row, input, value).unwrap();
            }
        }
        batch
    });
}
