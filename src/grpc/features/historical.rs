//! FeatureService.GetHistoricalFeatures: a training set as a stream of Arrow IPC.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Status};
use tracing::Instrument;

use crate::{
    error::{Error, Result},
    features::{SPINE_TIMESTAMP_FIELD, TrainingSetRequest},
    grpc::{FeatureApi, InFlight, pb, to_status},
};

/// Parts of an answer that may wait for a slow caller; the join waits with them.
const PARTS_WAITING_MAX: usize = 4;

/// The parts of a training set, and the error that ends it early.
pub(in crate::grpc) type TrainingSetStream =
    BoxStream<'static, Result<pb::GetHistoricalFeaturesResponse, Status>>;

impl FeatureApi {
    /// Begins a join.
    ///
    /// # Errors
    /// `NotFound` for an unknown feature or service, `InvalidArgument` without a spine; what goes wrong later ends the
    /// stream.
    pub(in crate::grpc) fn historical(
        &self,
        mut request: Request<pb::GetHistoricalFeaturesRequest>,
    ) -> Result<TrainingSetStream> {
        let in_flight = request.extensions_mut().remove::<InFlight>();
        let request = request.into_inner();
        let catalog = self.catalog.snapshot();
        if request.spine.is_empty() {
            let fault = "is empty; a Parquet file is expected";
            return Err(Error::invalid("spine", fault));
        }
        let selected =
            self.selected_features(&catalog, &request.features, &request.feature_service)?;
        let asked = TrainingSetRequest {
            selection: selected.selection,
            timestamp_field: if request.timestamp_field.is_empty() {
                SPINE_TIMESTAMP_FIELD.to_owned()
            } else {
                request.timestamp_field
            },
            full_feature_names: request.full_feature_names,
        };
        Ok(self.joined(asked, Bytes::from(request.spine), in_flight))
    }

    fn joined(
        &self,
        asked: TrainingSetRequest,
        spine: Bytes,
        in_flight: Option<InFlight>,
    ) -> TrainingSetStream {
        let training_sets = Arc::clone(&self.training_sets);
        let stopping = self.stream.stopping.clone();
        let (sink, parts) = mpsc::channel::<Bytes>(PARTS_WAITING_MAX);
        let (failure, failed) = mpsc::channel(1);
        let work = async move {
            let closed = sink.clone();
            let stop = stopping.clone();
            let joined = tokio::select! {
                joined = training_sets.stream(&asked, spine, sink, stop) => joined,
                // The caller has gone away: the join ends with this task.
                () = closed.closed() => Ok(()),
            };
            if let Err(fault) = joined {
                let fault = if stopping.is_cancelled() {
                    Error::unavailable("the server stops; ask another one for the training set")
                        .with_source(fault)
                } else {
                    fault
                };
                // Nobody listens where the caller is gone.
                let _ = failure.send(Err(to_status(&fault))).await;
            }
            drop(in_flight);
        };
        tokio::spawn(work.in_current_span());
        let parts = ReceiverStream::new(parts).map(|part| {
            Ok(pb::GetHistoricalFeaturesResponse {
                arrow_ipc: part.into(),
            })
        });
        Box::pin(parts.chain(ReceiverStream::new(failed)))
    }
}
