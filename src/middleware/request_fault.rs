//! tonic answers INTERNAL to a message that does not decode, and OUT_OF_RANGE to one over the limit. Both are wrong
//! arguments, and are told as such.

use axum::{body::Body, extract::Request, middleware::Next, response::Response};
use tonic::{Code, Status};

use crate::{error::Error, grpc::to_status};

/// How prost and tonic begin to say that a message does not decode; our own INTERNAL has a fixed text.
const UNDECODED: [&str; 3] = [
    "failed to decode Protobuf message",
    "Missing request message",
    "Unexpected EOF decoding stream",
];

pub(super) async fn rename(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let Some(status) = Status::from_header_map(response.headers()) else {
        return response;
    };
    let text = status.message();
    let code = status.code();
    // None of our services answers OUT_OF_RANGE.
    let said = if code == Code::OutOfRange {
        format!("the message is over the limit (server.message_bytes_max): {text}")
    } else if code == Code::Internal && UNDECODED.iter().any(|start| text.starts_with(start)) {
        format!("the message does not decode: {text}")
    } else {
        return response;
    };
    to_status(&Error::invalid("", said)).into_http::<Body>()
}
