//! StreamWriteFeatures: batch after batch, each written before the next one is read.

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use crate::{
    error::Error,
    grpc::{
        FeatureApi, pb,
        status::batch_error,
        stream::{Manner, answer_in_order},
    },
};

const MANNER: Manner = Manner {
    request: "batch",
    answer: "acknowledgement",
    stopped: "the server stops; what was acknowledged is stored, send the rest on another connection",
    // A later batch may hold a newer row of the same entity.
    at_once_max: 1,
};

type Ack = Result<pb::StreamWriteFeaturesResponse, Status>;

impl FeatureApi {
    pub(in crate::grpc) fn write_stream(
        &self,
        request: Request<Streaming<pb::StreamWriteFeaturesRequest>>,
    ) -> ReceiverStream<Ack> {
        let api = self.clone();
        answer_in_order(request, self.stream.clone(), MANNER, move |batch| {
            let api = api.clone();
            async move { api.write_batch(batch).await }
        })
    }

    async fn write_batch(
        &self,
        request: pb::StreamWriteFeaturesRequest,
    ) -> pb::StreamWriteFeaturesResponse {
        let written = match request.batch {
            Some(batch) => self.write(batch).await,
            None => Err(Error::invalid("batch", "is missing")),
        };
        let (result, error) = match written {
            Ok(result) => (Some(result), None),
            Err(fault) => (None, Some(batch_error(&fault))),
        };
        pb::StreamWriteFeaturesResponse {
            id: request.id,
            result,
            error,
        }
    }
}
