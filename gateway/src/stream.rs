//! Server streams as text: one JSON object a line, or server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Response, header};
use prost_reflect::DescriptorPool;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status, Streaming};

use crate::fault::Fault;
use crate::rules::Route;
use crate::transcode::answer_json;

/// How the messages of a stream are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// `application/x-ndjson`.
    Lines,
    /// `text/event-stream`.
    Events,
}

impl Framing {
    /// What the caller's Accept header asks for.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let wants_events = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|part| part.split(';').next().unwrap_or_default().trim() == "text/event-stream");
        if wants_events {
            Self::Events
        } else {
            Self::Lines
        }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
        })
    }

    fn message(self, json: Vec<u8>) -> Bytes {
        match self {
            Self::Lines => [&json, b"\n".as_slice()].concat().into(),
            Self::Events => [b"data: ".as_slice(), &json, b"\n\n"].concat().into(),
        }
    }

    fn error(self, fault: &Fault, request_id: &str) -> Bytes {
        let body = fault.body(request_id);
        match self {
            Self::Lines => format!("{{\"error\":{}}}\n", body.text()).into(),
            Self::Events => format!("event: error\ndata: {}\n\n", body.text()).into(),
        }
    }
}

/// A stream under way; it holds the request's place among those that may be.
pub(crate) struct StreamState {
    /// The server's messages.
    pub(crate) messages: Streaming<Bytes>,
    /// The route that was called.
    pub(crate) route: Arc<Route>,
    /// When the whole stream must be over.
    pub(crate) deadline: Instant,
    /// How often an idle event stream gets a comment.
    pub(crate) keep_alive: Duration,
    /// The largest message that is taken.
    pub(crate) bytes_max: usize,
    /// How messages are written.
    pub(crate) framing: Framing,
    /// The request's id, for an error.
    pub(crate) request_id: String,
    /// The types of error details.
    pub(crate) pool: DescriptorPool,
    /// Given back when the stream ends or the caller goes away.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// The answer that sends the stream on. Its status is sent before the first message: an error after that is the last
/// line or event.
pub(crate) fn stream_response(state: StreamState) -> Response<Body> {
    let content_type = state.framing.content_type();
    let frames = stream::unfold(Some(state), |state| async {
        let (frame, state) = next_frame(state?).await?;
        Some((Ok::<_, std::convert::Infallible>(frame), state))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The next piece of text, and the state to go on with; no state after an error.
async fn next_frame(mut state: StreamState) -> Option<(Bytes, Option<StreamState>)> {
    let pause_end = Instant::now()
        .checked_add(state.keep_alive)
        .unwrap_or(state.deadline);
    let wait_end = match state.framing {
        Framing::Events => pause_end.min(state.deadline),
        Framing::Lines => state.deadline,
    };
    let fault = match timeout_at(wait_end, state.messages.message()).await {
        Ok(Ok(Some(message))) => match answer_json(&state.route, message) {
            Ok(json) => return Some((state.framing.message(json), Some(state))),
            Err(fault) => fault,
        },
        Ok(Ok(None)) => return None,
        Ok(Err(status)) => call_fault(&status, state.deadline, state.bytes_max, &state.pool),
        Err(_) if Instant::now() < state.deadline => {
            return Some((Bytes::from_static(b": still here\n\n"), Some(state)));
        }
        Err(_) => Fault::deadline(),
    };
    let frame = state.framing.error(&fault, &state.request_id);
    drop(state.permit);
    Some((frame, None))
}

/// The fault of a call's status. A call that a transport cut at its deadline comes back as CANCELLED; it is a deadline.
/// An answer over the gateway's bound comes back as OUT_OF_RANGE; that is not the caller's fault.
pub(crate) fn call_fault(
    status: &Status,
    deadline: Instant,
    bytes_max: usize,
    pool: &DescriptorPool,
) -> Fault {
    if status.code() == Code::Cancelled && Instant::now() >= deadline {
        return Fault::deadline();
    }
    let limit = format!("the limit is: {bytes_max} bytes");
    let text = status.message();
    if status.code() == Code::OutOfRange && text.contains("decoded") && text.ends_with(&limit) {
        return Fault::new(
            Code::Internal,
            format!("the answer is larger than {bytes_max} bytes"),
        );
    }
    Fault::from_status(status, pool)
}
