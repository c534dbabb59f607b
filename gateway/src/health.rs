//! Health for load balancers and orchestrators: alive is the gateway, ready is the server behind it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Response, StatusCode, header};
use prost::Message;
use tokio::time::timeout;
use tonic::Code;

use crate::shared::Shared;

/// The largest answer that is taken for a health status.
const ANSWER_BYTES_MAX: usize = 1024;
/// SERVING in grpc.health.v1.HealthCheckResponse.
const SERVING: i32 = 1;

/// `grpc.health.v1.HealthCheckResponse`, as published.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Answers 200 whenever the process does.
pub(crate) async fn live() -> Response<Body> {
    answer(true)
}

/// Asks the server's `grpc.health.v1.Health/Check`: 200 where it serves, else 503. A server without that service is
/// ready when it answers that it has none.
pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    // A request for the whole server, "", has no bytes.
    let mut request = tonic::Request::new(Bytes::new());
    request.set_timeout(shared.config.ready_timeout);
    let call = shared.backend.unary(request, path, ANSWER_BYTES_MAX);
    let is_ready = match timeout(shared.config.ready_timeout, call).await {
        Ok(Ok(bytes)) => {
            HealthCheckResponse::decode(bytes).is_ok_and(|answer| answer.status == SERVING)
        }
        Ok(Err(status)) => status.code() == Code::Unimplemented,
        Err(_) => false,
    };
    answer(is_ready)
}

fn answer(is_serving: bool) -> Response<Body> {
    let (status, body) = if is_serving {
        (StatusCode::OK, r#"{"status":"SERVING"}"#)
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            r#"{"status":"NOT_SERVING"}"#,
        )
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
