//! StreamWriteFeatures: batch after batch, each written before the next one is read.
//!
//! Nothing is queued: while a batch is written, what its caller sends on is held up by HTTP/2's flow control. The batches
//! are written by a task of their own, so that a caller who takes no acknowledgements is given up, too.

use std::{any::Any, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{error::Elapsed, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming};
use tracing::Instrument;

use crate::{
    error::{Error, ErrorKind, Result},
    grpc::{
        FeatureApi, pb,
        status::{batch_error, message_fault, to_status},
    },
};

/// Acknowledgements that wait for their caller. The next batch is not read before there is room for its own.
const ACKS_WAITING_MAX: usize = 1;

/// What bounds the life of a stream.
#[derive(Debug, Clone)]
pub struct StreamBounds {
    /// How long a stream may be without a batch, or an acknowledgement wait to be taken.
    pub idle_max: Duration,
    /// Is cancelled when the server stops.
    pub stopping: CancellationToken,
}

/// Comes with a request, and counts it as in flight for as long as somebody holds it.
#[derive(Clone)]
pub struct InFlight {
    _held: Arc<dyn Any + Send + Sync>,
}

impl InFlight {
    /// Counts with something that stops counting when it is dropped.
    pub fn new(held: Arc<dyn Any + Send + Sync>) -> InFlight {
        InFlight { _held: held }
    }
}

type Ack = Result<pb::StreamWriteFeaturesResponse, Status>;

impl FeatureApi {
    pub(in crate::grpc) fn write_stream(
        &self,
        mut request: Request<Streaming<pb::StreamWriteFeaturesRequest>>,
    ) -> ReceiverStream<Ack> {
        let api = self.clone();
        let in_flight = request.extensions_mut().remove::<InFlight>();
        let (acks, taken) = mpsc::channel(ACKS_WAITING_MAX);
        let work = async move {
            let end = api.write_batches(request.into_inner(), &acks).await;
            drop(in_flight);
            if let Err(fault) = end {
                // A caller who is gone needs no reason.
                let _ = acks.send(Err(fault)).await;
            }
        };
        tokio::spawn(work.in_current_span());
        ReceiverStream::new(taken)
    }

    /// Writes until the caller ends the stream or goes away.
    ///
    /// # Errors
    /// What the stream is to end with.
    async fn write_batches(
        &self,
        mut batches: Streaming<pb::StreamWriteFeaturesRequest>,
        acks: &mpsc::Sender<Ack>,
    ) -> Result<(), Status> {
        let bounds = &self.stream;
        loop {
            let next = timeout(bounds.idle_max, batches.message());
            let next = tokio::select! {
                biased;
                () = bounds.stopping.cancelled() => return Err(stopped()),
                next = next => next.map_err(|_| self.idle("no batch came"))?,
            };
            let Some(batch) = next.map_err(unreadable)? else {
                return Ok(());
            };
            let ack = tokio::select! {
                () = acks.closed() => return Ok(()),
                ack = self.write_batch(batch) => ack,
            };
            match timeout(bounds.idle_max, acks.send(Ok(ack))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(()),
                Err(Elapsed { .. }) => return Err(self.idle("no acknowledgement was taken")),
            }
        }
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

    fn idle(&self, what: &str) -> Status {
        let idle_max = self.stream.idle_max;
        let said =
            format!("{what} within {idle_max:?} (server.stream_idle_ms_max); open another stream");
        to_status(&Error::new(ErrorKind::Timeout, said))
    }
}

fn stopped() -> Status {
    to_status(&Error::unavailable(
        "the server stops; what was acknowledged is stored, send the rest on another connection",
    ))
}

/// A message that cannot be read ends its stream: where the next one begins is not known.
fn unreadable(status: Status) -> Status {
    message_fault(&status).map_or(status, |fault| to_status(&fault))
}
