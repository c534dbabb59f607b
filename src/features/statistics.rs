//! Statistics of a view: one pass over its rows, in memory that does not grow with their number.
//!
//! Counts, means and extremes are exact. Quantiles, distinct counts and frequent values are estimates of sketches that
//! can be merged; how far they may be off is told at each constant.

use std::sync::Arc;

use tokio::{sync::mpsc, task};
use tokio_util::sync::CancellationToken;

use super::{OnlineStore, Scan, Timestamp, Value, WriteRow, column_statistics::ColumnCounter};
use crate::{
    catalog::FeatureView,
    error::{Error, Result},
};

/// The quantiles that are told.
pub const QUANTILES: [f64; 7] = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99];

/// Batches that may wait to be counted; the scan stops when they do.
const BATCHES_WAITING_MAX: usize = 4;

/// What the rows of a view are like.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewStatistics {
    /// How many there are.
    pub rows: u64,
    /// The oldest event timestamp of a row.
    pub oldest: Option<Timestamp>,
    /// The newest one.
    pub newest: Option<Timestamp>,
    /// Rows that are older than the view's TTL allows.
    pub outside_ttl: u64,
    /// One a feature, in the order of the definition.
    pub features: Vec<FeatureStatistics>,
}

/// What the values of a feature are like.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureStatistics {
    /// Its name in the view.
    pub name: String,
    /// Rows without a value: null, or never written.
    pub missing: u64,
    /// About how many different values there are.
    pub distinct: u64,
    /// Of what can be counted or measured; none without any.
    pub distribution: Option<Distribution>,
    /// The most frequent values of strings, bools and integers, and about how often each is there; the most frequent
    /// first.
    pub frequent: Vec<(Value, u64)>,
    /// Values that are NaN or infinite.
    pub not_finite: u64,
}

impl FeatureStatistics {
    /// The share of a view's rows without a value, 0 to 1.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share needs no more than 53 bits"
    )]
    pub fn missing_share(&self, rows: u64) -> f64 {
        self.missing as f64 / rows.max(1) as f64
    }
}

/// How numbers are distributed.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation, of all values and not of a sample.
    pub standard_deviation: f64,
    /// The quantiles of `QUANTILES`, in its order; each a value that is there.
    pub quantiles: Vec<f64>,
}

/// Goes through the rows of a view and tells what they are like. `now` is the moment that ages are counted from.
///
/// # Errors
/// `Unavailable` where the store is away.
pub async fn view_statistics(
    store: &dyn OnlineStore,
    view: &FeatureView,
    now: Timestamp,
) -> Result<ViewStatistics> {
    let mut counter = ViewCounter::new(view, now)?;
    let (sink, mut batches) = mpsc::channel::<Vec<WriteRow>>(BATCHES_WAITING_MAX);
    // Where nobody waits for the answer any more, the receiver goes away, and the scan with it.
    let cancelled = CancellationToken::new();
    let _guard = cancelled.clone().drop_guard();
    let counting = task::spawn_blocking(move || {
        while let Some(rows) = batches.blocking_recv() {
            if cancelled.is_cancelled() {
                break;
            }
            rows.iter().for_each(|row| counter.add(row));
        }
        counter
    });
    store.scan(view, Scan::default(), sink).await?;
    let counter = counting
        .await
        .map_err(|fault| Error::internal("counting rows failed").with_source(fault))?;
    counter.finish()
}

struct ViewCounter {
    rows: u64,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
    outside_ttl: u64,
    view: Arc<FeatureView>,
    now: Timestamp,
    features: Vec<ColumnCounter>,
}

impl ViewCounter {
    fn new(view: &FeatureView, now: Timestamp) -> Result<ViewCounter> {
        let features = view.features.iter();
        let features = features.map(|feature| ColumnCounter::new(feature.value_type));
        Ok(ViewCounter {
            rows: 0,
            oldest: None,
            newest: None,
            outside_ttl: 0,
            view: view.held(),
            now,
            features: features.collect::<Result<_>>()?,
        })
    }

    fn add(&mut self, write: &WriteRow) {
        let time = write.row.event_timestamp;
        self.rows += 1;
        self.oldest = Some(self.oldest.map_or(time, |oldest| oldest.min(time)));
        self.newest = self.newest.max(Some(time));
        let is_outside = self.view.is_outside_ttl(time.micros(), self.now.micros());
        self.outside_ttl += u64::from(is_outside);
        for (index, counter) in self.features.iter_mut().enumerate() {
            let is_written = write.row.feature_time(index).is_some();
            let value = write.row.values.get(index).filter(|_| is_written);
            counter.add(value.unwrap_or(&Value::Null));
        }
    }

    fn finish(self) -> Result<ViewStatistics> {
        let named = self.features.into_iter().zip(&self.view.features);
        let features = named.map(|(counter, feature)| counter.finish(&feature.name));
        Ok(ViewStatistics {
            rows: self.rows,
            oldest: self.oldest,
            newest: self.newest,
            outside_ttl: self.outside_ttl,
            features: features.collect::<Result<_>>()?,
        })
    }
}
