//! tonic answers INTERNAL to a message that does not decode, and OUT_OF_RANGE to one over the limit. Both are wrong
//! arguments, and are told as such.

use axum::{body::Body, extract::Request, middleware::Next, response::Response};
use tonic::Status;

use crate::grpc::{message_fault, to_status};

pub(super) async fn rename(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let fault = Status::from_header_map(response.headers()).and_then(|s| message_fault(&s));
    match fault {
        Some(fault) => to_status(&fault).into_http::<Body>(),
        None => response,
    }
}
