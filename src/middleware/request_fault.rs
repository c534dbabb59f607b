//! tonic answers INTERNAL to a message that does not decode, and OUT_OF_RANGE to one over the limit. Both are wrong
//! arguments, and are told as such.

use axum::{body::Body, response::Response};
use tonic::Status;

use crate::grpc::{message_fault, to_status};

pub(super) fn rename(response: Response) -> Response {
    let fault = Status::from_header_map(response.headers()).and_then(|s| message_fault(&s));
    match fault {
        Some(fault) => to_status(&fault).into_http::<Body>(),
        None => response,
    }
}
