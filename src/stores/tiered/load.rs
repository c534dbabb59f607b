//! Loading into the record, and from there into Redis. A load that breaks off between the two is noted in Redis and done
//! again, by whoever loads the view next.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::pair::{Pair, half_done};
use crate::{
    catalog::FeatureView,
    error::{Error, ErrorKind, Result},
    features::{
        LoadInput, Materialization, OnlineStore, RowBatches, Scan, Timestamp, WriteCounts, WriteRow,
    },
};

/// What a load has brought into the record.
struct Loaded {
    counts: WriteCounts,
    /// Where its rows are; none where it brought none.
    rows: Option<Scan>,
}

impl Pair {
    /// Loads into both. What the record reads by itself is stopped where the caller is gone.
    pub(super) async fn load(
        &self,
        view: &FeatureView,
        input: LoadInput,
        note: &Materialization,
        abandoned: &CancellationToken,
    ) -> Result<WriteCounts> {
        let unfinished = self.redis.owed(&view.name).await?;
        let own = uuid::Uuid::now_v7().to_string();
        self.redis.owe(&view.name, &own).await?;
        let loaded = match self.load_record(view, input, note, abandoned).await {
            Ok(loaded) => loaded,
            Err(fault) => {
                self.not_loaded(view, own, &fault).await;
                return Err(fault);
            }
        };
        let filled = self.fill_loaded(view, &loaded, own, unfinished).await;
        filled.map_err(|fault| {
            let what_helps = format!(
                "Load it again, or run `ferrocast refill {}`, which brings them there",
                view.name
            );
            half_done("the rows are loaded", &what_helps, fault)
        })?;
        Ok(loaded.counts)
    }

    /// Whether Redis may lack rows of a view that were loaded; also where Redis does not say.
    pub(super) async fn is_owing(&self, view: &str) -> bool {
        let owed = self.redis.owed(view).await;
        !owed.is_ok_and(|owed| owed.is_empty())
    }

    async fn load_record(
        &self,
        view: &FeatureView,
        input: LoadInput,
        note: &Materialization,
        abandoned: &CancellationToken,
    ) -> Result<Loaded> {
        match input {
            LoadInput::Rows(batches) => {
                let (onward, forwarded) = mpsc::channel(1);
                let loading = self.record.load(view, LoadInput::Rows(forwarded), note);
                let (counts, oldest) = tokio::join!(loading, oldest_of(batches, onward));
                Ok(Loaded {
                    counts: counts?,
                    rows: oldest.map(|oldest| since(Some(oldest))),
                })
            }
            LoadInput::Query { since: from } => {
                let loading = self
                    .record
                    .load(view, LoadInput::Query { since: from }, note);
                let counts = abandoned.run_until_cancelled(loading).await;
                let gone = || Error::unavailable("nobody waits for the load any more");
                Ok(Loaded {
                    counts: counts.ok_or_else(gone)??,
                    rows: Some(since(from)),
                })
            }
        }
    }

    /// Where the database did not answer nobody knows whether it has the rows, and the note stays.
    async fn not_loaded(&self, view: &FeatureView, own: String, fault: &Error) {
        if fault.kind() == ErrorKind::Unavailable {
            return;
        }
        if let Err(fault) = self.redis.repaid(&view.name, &[own]).await {
            tracing::debug!(%fault, "the note of a load that failed stays in Redis");
        }
    }

    /// Brings loaded rows into Redis, with those of loads that broke off before.
    async fn fill_loaded(
        &self,
        view: &FeatureView,
        loaded: &Loaded,
        own: String,
        mut unfinished: Vec<String>,
    ) -> Result<()> {
        // Another load that ended meanwhile has settled all that it found noted, before the record had these rows.
        self.redis.owe(&view.name, &own).await?;
        let rows = match unfinished.is_empty() {
            true => loaded.rows,
            false => Some(Scan::default()),
        };
        if let Some(scan) = rows {
            self.fill(view, scan, &|_| ()).await?;
        }
        unfinished.push(own);
        self.redis.repaid(&view.name, &unfinished).await
    }
}

fn since(since: Option<Timestamp>) -> Scan {
    Scan {
        history: false,
        since,
    }
}

/// Passes batches on, and notes the oldest event timestamp among them.
async fn oldest_of(
    mut batches: RowBatches,
    onward: mpsc::Sender<Option<Result<Vec<WriteRow>>>>,
) -> Option<Timestamp> {
    let mut oldest: Option<Timestamp> = None;
    while let Some(message) = batches.recv().await {
        let is_last = !matches!(message, Some(Ok(_)));
        if let Some(Ok(rows)) = &message {
            let of_rows = rows.iter().map(|write| write.row.event_timestamp);
            oldest = oldest.into_iter().chain(of_rows).min();
        }
        if onward.send(message).await.is_err() || is_last {
            break;
        }
    }
    oldest
}
