//! tonic answers OUT_OF_RANGE to a message over the limit. That is a wrong argument, and is told as one.

use axum::{body::Body, extract::Request, middleware::Next, response::Response};
use tonic::{Code, Status};

use crate::{error::Error, grpc::to_status};

pub(super) async fn rename(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    // None of our services answers OUT_OF_RANGE.
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::OutOfRange => {
            let error = Error::invalid(
                "",
                format!(
                    "the message is over the limit (server.message_bytes_max): {}",
                    status.message()
                ),
            );
            to_status(&error).into_http::<Body>()
        }
        Some(_) | None => response,
    }
}
