//! FeatureService.GetHistoricalFeatures: a training set as a stream of Arrow IPC.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::Status;

use super::{pb, to_status};
use crate::{
    error::{Error, Result},
    features::{FeatureSelection, SPINE_TIMESTAMP_FIELD, TrainingSetRequest, TrainingSets},
};

/// Parts of an answer that may wait for a slow caller; the join waits with them.
const PARTS_WAITING_MAX: usize = 4;

/// Begins a join; the stream ends with its error where it has one.
///
/// # Errors
/// `InvalidArgument` without a spine.
pub(super) fn stream(
    training_sets: Arc<dyn TrainingSets>,
    selection: FeatureSelection,
    request: pb::GetHistoricalFeaturesRequest,
) -> Result<impl Stream<Item = Result<pb::GetHistoricalFeaturesResponse, Status>> + Send + 'static> {
    if request.spine.is_empty() {
        return Err(Error::invalid("spine", "is empty; a Parquet file is expected"));
    }
    let asked = TrainingSetRequest {
        selection,
        timestamp_field: if request.timestamp_field.is_empty() {
            SPINE_TIMESTAMP_FIELD.to_owned()
        } else {
            request.timestamp_field
        },
        full_feature_names: request.full_feature_names,
    };
    let spine = Bytes::from(request.spine);
    let (sink, parts) = mpsc::channel::<Bytes>(PARTS_WAITING_MAX);
    let (failure, failed) = mpsc::channel(1);
    tokio::spawn(async move {
        let closed = sink.clone();
        let joined = tokio::select! {
            joined = training_sets.stream(&asked, spine, sink) => joined,
            // The caller has gone away: the join ends with this task.
            () = closed.closed() => return,
        };
        if let Err(fault) = joined {
            // Nobody listens where the caller is gone.
            let _ = failure.send(Err(to_status(&fault))).await;
        }
    });
    let parts = ReceiverStream::new(parts)
        .map(|part| Ok(pb::GetHistoricalFeaturesResponse { arrow_ipc: part.into() }));
    Ok(parts.chain(ReceiverStream::new(failed)))
}
