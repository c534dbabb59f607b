//! A store whose reads are counted, and come back only when they are let through.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use ferrocast::{
    catalog::FeatureView,
    error::{Error, Result},
    features::{
        EntityKey, LoadInput, Materialization, MaterializationRecord, OnlineStore, RowSink, Scan,
        StoredRow, Timestamp, WriteCounts, WriteRow,
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a read has to say in place of rows, if anything.
pub type Saying = Box<dyn Fn(&[EntityKey]) -> Option<Error> + Send + Sync>;

pub struct Gated {
    inner: Arc<dyn OnlineStore>,
    /// The keys of each read, in the order in which they came.
    reads: Mutex<Vec<Vec<EntityKey>>>,
    /// Reads that have their rows already, and those that are given up.
    has_read: Semaphore,
    may_answer: Arc<Semaphore>,
    says: Saying,
    given_up: Arc<AtomicUsize>,
}

/// Counts a read that goes away before its end.
struct Running {
    given_up: Arc<AtomicUsize>,
    has_ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.given_up
            .fetch_add(usize::from(!self.has_ended), Ordering::SeqCst);
    }
}

impl Gated {
    /// Before a store; shut.
    pub fn before(inner: Arc<dyn OnlineStore>) -> Arc<Gated> {
        Gated::saying(inner, Box::new(|_| None))
    }

    pub fn saying(inner: Arc<dyn OnlineStore>, says: Saying) -> Arc<Gated> {
        Arc::new(Gated {
            inner,
            reads: Mutex::default(),
            has_read: Semaphore::new(0),
            may_answer: Arc::new(Semaphore::new(0)),
            says,
            given_up: Arc::default(),
        })
    }

    /// Lets everything through from here on.
    pub fn open(&self) {
        self.may_answer.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Lets one read through.
    pub fn let_one_through(&self) {
        self.may_answer.add_permits(1);
    }

    /// Waits for one more read that has its rows and is held up.
    pub async fn has_read(&self) {
        self.has_read.acquire().await.unwrap().forget();
    }

    /// The keys of each read.
    pub fn reads(&self) -> Vec<Vec<EntityKey>> {
        self.reads.lock().unwrap().clone()
    }

    /// Reads that went away before their end.
    pub fn given_up(&self) -> usize {
        self.given_up.load(Ordering::SeqCst)
    }

    async fn pass(&self) {
        let passing: OwnedSemaphorePermit =
            Arc::clone(&self.may_answer).acquire_owned().await.unwrap();
        passing.forget();
    }
}

#[async_trait]
impl OnlineStore for Gated {
    async fn read(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<Vec<Option<StoredRow>>> {
        self.reads.lock().unwrap().push(keys.to_vec());
        let mut running = Running {
            given_up: Arc::clone(&self.given_up),
            has_ended: false,
        };
        let rows = self.inner.read(view, keys).await;
        self.has_read.add_permits(1);
        self.pass().await;
        running.has_ended = true;
        match (self.says)(keys) {
            Some(fault) => Err(fault),
            None => rows,
        }
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

    async fn write_returning(
        &self,
        view: &FeatureView,
        rows: Vec<WriteRow>,
    ) -> Result<(WriteCounts, Vec<WriteRow>)> {
        self.inner.write_returning(view, rows).await
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
