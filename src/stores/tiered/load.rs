//! Loading into the record, and from there into Redis.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::pair::{Pair, half_done};
use crate::{
    catalog::FeatureView,
    error::{Error, Result},
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
        let loaded = self.load_record(view, input, note, abandoned).await?;
        let Some(scan) = loaded.rows else {
            return Ok(loaded.counts);
        };
        let filled = self.fill(view, scan, &|_| ()).await;
        filled.map_err(|fault| {
            let what_helps = format!("`ferrocast refill {}` brings them there", view.name);
            half_done("the rows are loaded", &what_helps, fault)
        })?;
        Ok(loaded.counts)
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
