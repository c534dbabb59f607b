//! Joins that nobody waits for any more: what they have begun ends, and only then is their place free.

#![allow(clippy::unwrap_used)]

use std::{
    env,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc as blocking,
    },
    thread,
    time::Instant,
};

use super::*;
use crate::{
    catalog::{Catalog, Definitions, FeatureRef, FeatureView},
    features::{
        EntityKey, FeatureSelection, LoadInput, Materialization, MaterializationRecord, RowSink,
        RowSource, RowTime, Scan, SourceFile, StoredRow, Timestamp, Value, ViewSource, WriteCounts,
        WriteRow,
    },
};

const DEFINITIONS: &str = r#"
    project = "endless"
    [[entities]]
    name = "thing"
    join_keys = [{ name = "id", type = "int64" }]
    [[feature_views]]
    name = "filed"
    entity = "thing"
    source = { path = "endless.csv" }
    features = [{ name = "x", type = "int64" }]
    [[feature_views]]
    name = "kept"
    entity = "thing"
    history = true
    features = [{ name = "y", type = "int64" }]
"#;

/// As long as a busy machine may take for what takes no time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Batches of a file or a history, each of which takes a millisecond: more than any test waits for.
const BATCHES: usize = 10_000;

/// A file and a history almost without an end.
#[derive(Default, Clone)]
struct Endless {
    handed_over: Arc<AtomicUsize>,
    /// Where there is one, each batch of the file waits for a message; it ends with the sender.
    gate: Option<Arc<Mutex<blocking::Receiver<()>>>>,
}

fn rows() -> Vec<WriteRow> {
    let time = RowTime {
        event_timestamp: Timestamp::EPOCH,
        created_at: Timestamp::EPOCH,
    };
    vec![WriteRow {
        key: EntityKey::new(vec![Value::Int64(1)]).unwrap(),
        row: StoredRow::whole(time, vec![Value::Int64(1)]),
    }]
}

impl RowSource for Endless {
    fn row_count(&self) -> Option<u64> {
        None
    }

    fn next_batch(&mut self) -> Result<Option<Vec<WriteRow>>> {
        let number = self.handed_over.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(1));
        let is_over = match &self.gate {
            Some(gate) => gate.lock().unwrap().recv().is_err(),
            None => number >= BATCHES,
        };
        Ok((!is_over).then(rows))
    }
}

impl Sources for Endless {
    fn find(&self, _: &FeatureView) -> Result<ViewSource> {
        Ok(ViewSource::Files(vec![SourceFile {
            name: "endless.csv".into(),
            path: "endless.csv".into(),
            shown: "endless.csv".into(),
        }]))
    }

    fn digest(&self, _: &SourceFile, _: &FeatureView) -> Result<String> {
        Err(Error::internal("not asked for"))
    }

    fn open(&self, _: &SourceFile, _: &FeatureView, _: Timestamp) -> Result<Box<dyn RowSource>> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl OnlineStore for Endless {
    async fn read(&self, _: &FeatureView, _: &[EntityKey]) -> Result<Vec<Option<StoredRow>>> {
        Err(Error::internal("not asked for"))
    }

    async fn read_as_of(
        &self,
        _: &FeatureView,
        _: &[EntityKey],
        _: Timestamp,
    ) -> Result<Vec<Option<StoredRow>>> {
        Err(Error::internal("not asked for"))
    }

    async fn write(&self, _: &FeatureView, _: Vec<WriteRow>) -> Result<WriteCounts> {
        Err(Error::internal("not asked for"))
    }

    async fn load(
        &self,
        _: &FeatureView,
        _: LoadInput,
        _: &Materialization,
    ) -> Result<WriteCounts> {
        Err(Error::internal("not asked for"))
    }

    async fn materializations(&self, _: &str) -> Result<Vec<MaterializationRecord>> {
        Err(Error::internal("not asked for"))
    }

    async fn delete(&self, _: &[Arc<FeatureView>], _: &EntityKey) -> Result<u64> {
        Err(Error::internal("not asked for"))
    }

    /// On a thread of its own, as SQLite's.
    async fn scan(&self, _: &FeatureView, _: Scan, sink: RowSink) -> Result<()> {
        let handed_over = Arc::clone(&self.handed_over);
        let scanning = tokio::task::spawn_blocking(move || {
            for _ in 0..BATCHES {
                thread::sleep(Duration::from_millis(1));
                if sink.blocking_send(rows()).is_err() {
                    return;
                }
                handed_over.fetch_add(1, Ordering::Relaxed);
            }
        });
        scanning.await.map_err(|_| Error::internal("it panicked"))
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

fn maker(endless: &Endless, timeout: Duration) -> Arc<TrainingSetMaker> {
    let options = TrainingSetOptions {
        // It is never run: the gathering does not come to its end.
        program: Some(env::current_exe().unwrap()),
        memory_bytes_max: 1 << 20,
        work_dir: None,
        joins_max: 1,
        timeout,
    };
    let (store, sources) = (Arc::new(endless.clone()), Arc::new(endless.clone()));
    Arc::new(TrainingSetMaker::new(store, sources, options))
}

async fn stream(maker: Arc<TrainingSetMaker>, feature: &str) -> Result<()> {
    let (sink, _parts) = mpsc::channel(1);
    stream_into(maker, feature, sink).await
}

async fn stream_into(
    maker: Arc<TrainingSetMaker>,
    feature: &str,
    sink: mpsc::Sender<Bytes>,
) -> Result<()> {
    let mut catalog = Catalog::default();
    for view in Definitions::parse(DEFINITIONS).unwrap().views {
        catalog.views.insert(view.name.clone(), view);
    }
    let features = vec![FeatureRef::parse(feature).unwrap()];
    let request = TrainingSetRequest {
        selection: FeatureSelection::resolve(&catalog, features)
            .unwrap()
            .into(),
        timestamp_field: "event_timestamp".to_owned(),
        full_feature_names: false,
    };
    let spine = Bytes::from_static(b"no Parquet");
    let stop = CancellationToken::new();
    maker.stream(&request, spine, sink, stop).await
}

/// Waits until something is so.
async fn until(is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "it never came to be");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_a_join_that_took_too_long_has_begun_ends_with_it() {
    for feature in ["filed:x", "kept:y"] {
        let endless = Endless::default();
        let maker = maker(&endless, Duration::from_millis(50));
        let fault = stream(Arc::clone(&maker), feature).await.unwrap_err();
        assert_eq!(fault.kind(), ErrorKind::Timeout, "{fault}");
        let before = endless.handed_over.load(Ordering::Relaxed);
        assert!(before > 0);
        tokio::time::sleep(Duration::from_millis(200)).await;
        // The scan's thread may have been at its last batch.
        let after = endless.handed_over.load(Ordering::Relaxed);
        assert!(after <= before + 1, "{feature}: {before}, then {after}");
    }
}

#[tokio::test]
async fn a_join_whose_caller_has_gone_keeps_its_place_until_its_files_are_closed() {
    let (sender, gate) = blocking::channel();
    let endless = Endless {
        gate: Some(Arc::new(Mutex::new(gate))),
        ..Endless::default()
    };
    let maker = maker(&endless, PATIENCE);
    let caller = tokio::spawn(stream(Arc::clone(&maker), "filed:x"));
    until(|| endless.handed_over.load(Ordering::Relaxed) == 1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    let refused = stream(Arc::clone(&maker), "filed:x").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    // More than one could be read now.
    for _ in 0..9 {
        sender.send(()).unwrap();
    }
    until(|| maker.permits.available_permits() == 1).await;
    assert_eq!(endless.handed_over.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_answer_ends_in_time_whatever_still_blocks_the_join() {
    let (sender, gate) = blocking::channel();
    let endless = Endless {
        gate: Some(Arc::new(Mutex::new(gate))),
        ..Endless::default()
    };
    let maker = maker(&endless, Duration::from_millis(50));
    let (sink, mut parts) = mpsc::channel(1);
    let fault = stream_into(maker, "filed:x", sink).await.unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::Timeout, "{fault}");
    assert!(
        parts
            .try_recv()
            .is_err_and(|fault| fault == mpsc::error::TryRecvError::Disconnected)
    );
    drop(sender);
}
