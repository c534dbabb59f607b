//! Filling Redis from the record.

use tokio::{sync::mpsc, time::timeout};

use super::pair::Pair;
use crate::{
    catalog::{CatalogStore, FeatureView},
    error::{Error, Result},
    features::{OnlineStore, Scan, WriteRow},
};

/// Batches of a scan that may wait for Redis.
const BATCHES_WAITING_MAX: usize = 2;

/// What a refill does.
#[derive(Debug, Clone, Default)]
pub struct Refill {
    /// Only these views; none: all of them, and only then does Redis count as filled.
    pub views: Vec<String>,
    /// Takes away every key of ours first; reads are refused until the refill is done.
    pub flush: bool,
}

impl Pair {
    /// Fills Redis from the record. Safe while others read and write: newer rows stay. `progress` is told the view and how
    /// many of its rows have been written so far.
    ///
    /// # Errors
    /// `NotFound` for a view that is not defined; `InvalidArgument` for a flush of some views only; `Unavailable` where
    /// the record or Redis is away, Redis lost data meanwhile, or another refill began.
    pub(super) async fn refill(
        &self,
        refill: &Refill,
        progress: &(dyn Fn(&FeatureView, u64) + Send + Sync),
    ) -> Result<()> {
        let is_whole = refill.views.is_empty();
        if refill.flush && !is_whole {
            return Err(Error::invalid(
                "--flush",
                "takes away the rows of all views; give no views with it",
            ));
        }
        let catalog = self.record.load_catalog().await?;
        let views = match is_whole {
            true => catalog.views.values().collect(),
            false => refill
                .views
                .iter()
                .map(|name| catalog.view(name))
                .collect::<Result<Vec<_>>>()?,
        };
        let token = match (is_whole, refill.flush) {
            (true, true) => Some(self.flush().await?),
            (true, false) => Some(self.redis.begin_refill().await?),
            (false, _) => None,
        };
        for view in views.into_iter().filter(|view| view.table.is_none()) {
            let told = |rows| progress(view, rows);
            let unfinished = self.redis.owed(&view.name).await?;
            self.fill(view, Scan::default(), &told).await?;
            self.redis.repaid(&view.name, &unfinished).await?;
        }
        match token {
            Some(token) => self.redis.end_refill(&token).await,
            None => Ok(()),
        }
    }

    /// Takes every key of ours away; returns the token of the refill that has to follow.
    async fn flush(&self) -> Result<String> {
        // A refill that is under way must not say that all is there.
        self.redis.begin_refill().await?;
        self.redis.mark_unfilled().await?;
        self.redis.remove_everything().await?;
        // Nor one that began meanwhile, whose rows have gone in part.
        let token = self.redis.begin_refill().await?;
        self.redis.mark_unfilled().await?;
        Ok(token)
    }

    /// Writes the rows of a scan of the record to Redis.
    pub(super) async fn fill(
        &self,
        view: &FeatureView,
        scan: Scan,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<()> {
        let (sink, mut batches) = mpsc::channel::<Vec<WriteRow>>(BATCHES_WAITING_MAX);
        let scanning = self.record.scan(view, scan, sink);
        let writing = async {
            let mut rows = 0;
            while let Some(batch) = batches.recv().await {
                self.redis.put(view, &batch, &self.record).await?;
                rows += u64::try_from(batch.len()).unwrap_or(u64::MAX);
                progress(rows);
            }
            Ok(())
        };
        let both = async { tokio::try_join!(scanning, writing) };
        let done = timeout(self.load_timeout, Box::pin(both)).await;
        // Some rows may have got there, whatever became of the rest.
        let told = self.tell(view, None).await;
        match done {
            Ok(done) => done.and(told),
            Err(_) => Err(Error::unavailable(format!(
                "filling Redis at {} with the feature view \"{}\" took longer than {} ms (database.load_ms_max)",
                self.redis.address(),
                view.name,
                self.load_timeout.as_millis()
            ))),
        }
    }
}
