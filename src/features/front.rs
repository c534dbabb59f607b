//! What stands between requests and a store: rows in memory, where the configuration asks for them, and reads that are
//! joined. All else goes to the store as it is.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    CacheBounds, EntityKey, JoinBounds, LoadInput, Materialization, MaterializationRecord,
    OnlineStore, ReadRow, ReadRows, RowCache, RowSink, Scan, StoredRow, Timestamp, WriteCounts,
    WriteRow,
    cache::at,
    joined::{ReadQueue, RowReader},
};
use crate::{
    catalog::FeatureView,
    error::{Error, Result},
};

/// A store with a cache and a queue before it.
pub struct FrontStore {
    inner: Arc<dyn OnlineStore>,
    cache: Option<Arc<RowCache>>,
    queue: ReadQueue,
}

impl FrontStore {
    /// Stands before a store; without bounds for it there is no cache.
    pub fn new(
        inner: Arc<dyn OnlineStore>,
        joins: JoinBounds,
        cache: Option<CacheBounds>,
    ) -> FrontStore {
        let cache = cache.map(|bounds| Arc::new(RowCache::new(bounds)));
        let reader = Reader {
            inner: Arc::clone(&inner),
            cache: cache.clone(),
        };
        FrontStore {
            inner,
            cache,
            queue: ReadQueue::new(Arc::new(reader), joins),
        }
    }

    /// The rows in memory, for whoever learns of changes.
    pub fn cache(&self) -> Option<Arc<RowCache>> {
        self.cache.clone()
    }

    fn cache_of(&self, view: &FeatureView) -> Option<&RowCache> {
        let cache = self.cache.as_deref();
        cache.filter(|_| RowCache::takes(view))
    }
}

/// What a joined read does: it looks into the cache once more, into which the one before it may have brought the row.
struct Reader {
    inner: Arc<dyn OnlineStore>,
    cache: Option<Arc<RowCache>>,
}

#[async_trait]
impl RowReader for Reader {
    async fn read(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<ReadRows> {
        match &self.cache {
            Some(cache) if RowCache::takes(view) => {
                cache.read_through(self.inner.as_ref(), view, keys).await
            }
            Some(_) | None => self.inner.read_aged(view, keys).await,
        }
    }
}

#[async_trait]
impl OnlineStore for FrontStore {
    async fn read(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<Vec<Option<StoredRow>>> {
        let (rows, _) = self.read_aged(view, keys).await?;
        let rows = rows.into_iter().map(|row| row.map(ReadRow::into_own));
        Ok(rows.collect())
    }

    async fn read_aged(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<ReadRows> {
        let Some(cache) = self.cache_of(view) else {
            return self.queue.read(view, keys).await;
        };
        let mut found = cache.find(view, keys);
        if found.missed.len() == keys.len() {
            return self.queue.read(view, keys).await;
        }
        if !found.missed.is_empty() {
            let asked: Vec<EntityKey> = at(keys, &found.missed).cloned().collect();
            let (rows, age_bound) = self.queue.read(view, &asked).await?;
            if rows.len() != asked.len() {
                return Err(Error::internal("a store that answers other keys"));
            }
            found.age_bound = found.age_bound.max(age_bound);
            for (index, row) in found.missed.iter().zip(rows) {
                if let Some(slot) = found.rows.get_mut(*index) {
                    *slot = row;
                }
            }
        }
        Ok((found.rows, found.age_bound))
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
        Ok(self.write_returning(view, rows).await?.0)
    }

    async fn write_returning(
        &self,
        view: &FeatureView,
        rows: Vec<WriteRow>,
    ) -> Result<(WriteCounts, Vec<WriteRow>)> {
        let Some(cache) = self.cache_of(view) else {
            return Ok((self.inner.write(view, rows).await?, Vec::new()));
        };
        let keys: Vec<EntityKey> = rows.iter().map(|write| write.key.clone()).collect();
        let writing = cache.writing(view, keys.iter());
        let (counts, stored) = self.inner.write_returning(view, rows).await?;
        writing.keep(stored);
        Ok((counts, Vec::new()))
    }

    async fn load(
        &self,
        view: &FeatureView,
        input: LoadInput,
        note: &Materialization,
    ) -> Result<WriteCounts> {
        let _loading = self.cache.as_ref().map(|cache| cache.loading(view));
        self.inner.load(view, input, note).await
    }

    async fn materializations(&self, view: &str) -> Result<Vec<MaterializationRecord>> {
        self.inner.materializations(view).await
    }

    async fn delete(&self, views: &[Arc<FeatureView>], key: &EntityKey) -> Result<u64> {
        let cache = self.cache.as_ref();
        let _deleting: Vec<_> = cache
            .into_iter()
            .flat_map(|cache| {
                let views = views.iter();
                views.map(move |view| cache.writing(view, std::iter::once(key)))
            })
            .collect();
        self.inner.delete(views, key).await
    }

    async fn scan(&self, view: &FeatureView, scan: Scan, sink: RowSink) -> Result<()> {
        self.inner.scan(view, scan, sink).await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }
}
