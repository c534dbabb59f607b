//! One line a request, when its answer is sent or given up, and a span that everything logged on its behalf carries.

use std::time::Instant;

use axum::{body::Body, extract::Request, middleware::Next, response::Response};
use http_body_util::BodyExt;
use tonic::{Code, Status};
use tracing::{Instrument, Span};

use super::{is_health_check, request_id::RequestId};

pub(super) async fn log(request: Request, next: Next) -> Response {
    let method = request.uri().path().trim_start_matches('/').to_owned();
    let id = request.extensions().get::<RequestId>().cloned();
    let id = id.as_ref().map_or("", RequestId::as_str);
    let span = tracing::info_span!("request", request_id = id, method);
    if is_health_check(request.uri().path()) {
        return next.run(request).instrument(span).await;
    }
    let mut line = Line {
        span: span.clone(),
        began_at: Instant::now(),
        code: Code::Cancelled,
    };
    let response = next.run(request).instrument(span).await;
    if let Some(status) = Status::from_header_map(response.headers()) {
        line.code = status.code();
        return response;
    }
    // The status comes at the end.
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let line: &mut Line = &mut line;
            if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                line.code = status.code();
            }
            frame
        }))
    })
}

/// Is written when it is dropped: with the answer's last frame, or with the caller who went away before it.
struct Line {
    span: Span,
    began_at: Instant,
    code: Code,
}

impl Drop for Line {
    fn drop(&mut self) {
        let latency_ms = self.began_at.elapsed().as_secs_f64() * 1e3;
        let code = self.code;
        self.span
            .in_scope(|| tracing::info!(?code, latency_ms, "answered"));
    }
}
