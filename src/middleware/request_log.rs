//! One line a request, and a span that everything logged on its behalf carries.

use std::time::Instant;

use axum::{extract::Request, middleware::Next, response::Response};
use tonic::{Code, Status};
use tracing::Instrument;

use super::{is_health_check, request_id::RequestId};

pub(super) async fn log(request: Request, next: Next) -> Response {
    let method = request.uri().path().trim_start_matches('/').to_owned();
    let id = request.extensions().get::<RequestId>().cloned();
    let id = id.as_ref().map_or("", RequestId::as_str);
    let span = tracing::info_span!("request", request_id = id, method);
    let is_quiet = is_health_check(request.uri().path());
    async move {
        let began_at = Instant::now();
        let response = next.run(request).await;
        if !is_quiet {
            // Where the status comes in the trailers, the call has been answered.
            let code = Status::from_header_map(response.headers())
                .map_or(Code::Ok, |status| status.code());
            let latency_ms = began_at.elapsed().as_secs_f64() * 1e3;
            tracing::info!(?code, latency_ms, "answered");
        }
        response
    }
    .instrument(span)
    .await
}
