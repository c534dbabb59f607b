//! Load shedding: beyond so many requests at once, the next is refused at once instead of queued.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use tokio::sync::Semaphore;

use super::is_health_check;
use crate::{
    error::{Error, ErrorKind},
    grpc::to_status,
};

pub(super) async fn shed(
    State(permits): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    if is_health_check(request.uri().path()) {
        return next.run(request).await;
    }
    let Ok(_permit) = permits.try_acquire() else {
        let error = Error::new(
            ErrorKind::Overloaded,
            "the server answers as many requests as it may (server.requests_in_flight_max); try again later",
        );
        return to_status(&error).into_http::<Body>();
    };
    next.run(request).await
}
