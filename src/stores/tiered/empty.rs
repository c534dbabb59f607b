//! A Redis without its markers, and a record that has no row: nothing is lost, and reads are answered.

use std::time::Duration;

use tokio::{
    sync::{Mutex, mpsc},
    time::Instant,
};

use super::pair::Pair;
use crate::{
    catalog::{CatalogStore, FeatureView},
    error::{Error, ErrorKind, Result},
    features::{OnlineStore, Scan, WriteRow},
};

/// What is known of a record that may be empty.
#[derive(Default)]
pub(super) struct Emptiness {
    /// Held by the one who looks: every refused request would ask the database else.
    last: Mutex<Option<Look>>,
}

/// A look at the record.
struct Look {
    ended_at: Instant,
    /// Whether Redis holds all rows; else the fault.
    found: Result<bool, (ErrorKind, String)>,
}

impl Emptiness {
    /// Whether Redis holds all rows, where its markers are missing: it does where the record has none. One looks at a time;
    /// those who waited for it take its answer.
    ///
    /// # Errors
    /// `Unavailable` where the record or Redis is away.
    pub(super) async fn fill_of_nothing(&self, pair: &Pair) -> Result<bool> {
        let asked_at = Instant::now();
        let mut last = self.last.lock().await;
        let known = last.as_ref();
        if let Some(look) = known.filter(|look| look.holds(asked_at, pair.redis.probe_interval())) {
            return look.answer();
        }
        let found = Box::pin(pair.look()).await;
        *last = Some(Look {
            ended_at: Instant::now(),
            found: match &found {
                Ok(is_filled) => Ok(*is_filled),
                Err(fault) => Err((fault.kind(), fault.message().to_owned())),
            },
        });
        found
    }
}

impl Look {
    /// Whether the answer is one for a question: it came after it, or the record had rows, of which it keeps some.
    fn holds(&self, asked_at: Instant, rows_stay_for: Duration) -> bool {
        let is_unfilled = matches!(self.found, Ok(false));
        self.ended_at >= asked_at || (is_unfilled && self.ended_at.elapsed() < rows_stay_for)
    }

    fn answer(&self) -> Result<bool> {
        match &self.found {
            Ok(is_filled) => Ok(*is_filled),
            Err((kind, message)) => Err(Error::new(*kind, message.clone())),
        }
    }
}

impl Pair {
    async fn look(&self) -> Result<bool> {
        // Another process may have filled it meanwhile.
        if self.redis.is_filled().await? {
            return Ok(true);
        }
        let catalog = self.record.load_catalog().await?;
        for view in catalog.views.values().filter(|view| view.table.is_none()) {
            if self.has_rows(view).await? {
                return Ok(false);
            }
        }
        self.redis.mark_filled().await?;
        Ok(true)
    }

    async fn has_rows(&self, view: &FeatureView) -> Result<bool> {
        let (sink, mut batches) = mpsc::channel(1);
        let scanning = self.record.scan(view, Scan::default(), sink);
        let looking = async {
            let found = batches.recv().await;
            // A receiver that goes away ends the scan.
            drop(batches);
            found.is_some_and(|rows: Vec<WriteRow>| !rows.is_empty())
        };
        let (scanned, has_rows) = tokio::join!(scanning, looking);
        scanned.map(|()| has_rows)
    }
}
