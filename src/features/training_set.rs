//! Training sets: what is asked for, and who can make one.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::FeatureSelection;
use crate::error::Result;

/// The column of a spine with the time of each row, where a request names none.
pub const SPINE_TIMESTAMP_FIELD: &str = "event_timestamp";

/// Which features are joined to a spine, and how.
#[derive(Debug, Clone)]
pub struct TrainingSetRequest {
    /// The features, in the order of their columns.
    pub selection: Arc<FeatureSelection>,
    /// The spine's column with the time of each row.
    pub timestamp_field: String,
    /// Whether columns are called `view__feature`, and not by the feature alone.
    pub full_feature_names: bool,
}

/// Joins the rows of a spine with the values that features had at their times.
#[async_trait]
pub trait TrainingSets: Send + Sync {
    /// Joins a spine, a Parquet file as a whole, and sends the training set as an Arrow IPC stream. A receiver that goes
    /// away ends the join, and so does a stop; after a stop it has cleaned up behind itself when it returns.
    ///
    /// # Errors
    /// `InvalidArgument` naming the spine's row and column at fault; `FailedPrecondition` for a view without history, and
    /// after a stop; `Timeout` where it takes too long; `Overloaded` where as many are being made as may be.
    async fn stream(
        &self,
        request: &TrainingSetRequest,
        spine: Bytes,
        sink: mpsc::Sender<Bytes>,
        stop: CancellationToken,
    ) -> Result<()>;
}
