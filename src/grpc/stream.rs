//! Streams in both directions: each request is answered, in the order in which they came.
//!
//! No more requests are read than may be answered at once; what a caller sends beyond is held up by HTTP/2's flow control. The
//! answers are made by a task of their own, so that a caller who takes none is given up, too.

use std::{any::Any, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesOrdered};
use tokio::{
    sync::mpsc,
    time::{error::Elapsed, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming};
use tracing::Instrument;

use super::status::{message_fault, to_status};
use crate::error::{Error, ErrorKind};

/// Answers that wait for their caller. The next request is not read before there is room for its own.
const ANSWERS_WAITING_MAX: usize = 1;

/// What bounds the life of a stream.
#[derive(Debug, Clone)]
pub struct StreamBounds {
    /// How long a stream may be without a request, or an answer wait to be taken.
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

/// What a stream says of itself, and how much it does at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// What comes in, as "batch".
    pub(super) request: &'static str,
    /// What goes out, as "acknowledgement".
    pub(super) answer: &'static str,
    /// What a caller is told where the server stops.
    pub(super) stopped: &'static str,
    /// Requests that are answered at once.
    pub(super) at_once_max: usize,
}

/// Answers every request of a stream, until the caller ends it or goes away, or the server stops: what was read is answered
/// all the same.
pub(super) fn answer_in_order<Q, A, F>(
    mut request: Request<Streaming<Q>>,
    bounds: StreamBounds,
    manner: Manner,
    answer: impl Fn(Q) -> F + Send + 'static,
) -> ReceiverStream<Result<A, Status>>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: Future<Output = A> + Send + 'static,
{
    let in_flight = request.extensions_mut().remove::<InFlight>();
    let (answers, taken) = mpsc::channel(ANSWERS_WAITING_MAX);
    let work = async move {
        let run = Run {
            bounds,
            manner,
            answers: &answers,
        };
        let end = run.to_the_end(request.into_inner(), answer).await;
        drop(in_flight);
        if let Err(fault) = end {
            // A caller who is gone needs no reason.
            let _ = answers.send(Err(fault)).await;
        }
    };
    tokio::spawn(work.in_current_span());
    ReceiverStream::new(taken)
}

struct Run<'a, A> {
    bounds: StreamBounds,
    manner: Manner,
    answers: &'a mpsc::Sender<Result<A, Status>>,
}

impl<A> Run<'_, A> {
    /// # Errors
    /// What the stream is to end with.
    async fn to_the_end<Q, F: Future<Output = A>>(
        &self,
        mut requests: Streaming<Q>,
        answer: impl Fn(Q) -> F,
    ) -> Result<(), Status> {
        let mut running = FuturesOrdered::new();
        let mut end = None;
        loop {
            if let (Some(end), true) = (&end, running.is_empty()) {
                return Result::clone(end);
            }
            let has_room = end.is_none() && running.len() < self.manner.at_once_max;
            tokio::select! {
                biased;
                () = self.answers.closed() => return Ok(()),
                () = self.bounds.stopping.cancelled(), if end.is_none() => {
                    end = Some(Err(to_status(&Error::unavailable(self.manner.stopped))));
                }
                Some(answer) = running.next(), if !running.is_empty() => {
                    if !self.send(answer).await? {
                        return Ok(());
                    }
                }
                next = timeout(self.bounds.idle_max, requests.message()), if has_room => {
                    match next {
                        Ok(Ok(Some(request))) => running.push_back(answer(request)),
                        Ok(Ok(None)) => end = Some(Ok(())),
                        // Where the next one begins is not known.
                        Ok(Err(status)) => end = Some(Err(unreadable(status))),
                        // While requests are answered, nobody waits in vain.
                        Err(Elapsed { .. }) if !running.is_empty() => {}
                        Err(Elapsed { .. }) => {
                            end = Some(Err(self.idle(&format!("no {} came", self.manner.request))));
                        }
                    }
                }
            }
        }
    }

    /// Says whether there is somebody who takes answers.
    async fn send(&self, answer: A) -> Result<bool, Status> {
        match timeout(self.bounds.idle_max, self.answers.send(Ok(answer))).await {
            Ok(sent) => Ok(sent.is_ok()),
            Err(Elapsed { .. }) => Err(self.idle(&format!("no {} was taken", self.manner.answer))),
        }
    }

    fn idle(&self, what: &str) -> Status {
        let idle_max = self.bounds.idle_max;
        let said =
            format!("{what} within {idle_max:?} (server.stream_idle_ms_max); open another stream");
        to_status(&Error::new(ErrorKind::Timeout, said))
    }
}

/// A message that cannot be read ends its stream.
fn unreadable(status: Status) -> Status {
    message_fault(&status).map_or(status, |fault| to_status(&fault))
}
