//! One line a request, when its answer is sent or given up, and a span that everything logged on its behalf carries.

use std::time::Instant;

use axum::{body::Body, extract::Request, response::Response};
use http::HeaderValue;
use http_body_util::BodyExt;
use tonic::{Code, Status};
use tracing::Span;

use super::is_health_check;

/// Begins the line of a request.
pub(super) fn begin(request: &Request, id: Option<&HeaderValue>) -> Line {
    let path = request.uri().path();
    let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
    let method = path.trim_start_matches('/');
    Line {
        span: tracing::info_span!("request", request_id = id, method),
        began_at: Instant::now(),
        code: Code::Cancelled,
        is_written: !is_health_check(path) && tracing::enabled!(tracing::Level::INFO),
    }
}

/// Lets the line end with the answer, whose status may come with its last frame.
pub(super) fn end(mut line: Line, response: Response) -> Response {
    if !line.is_written {
        return response;
    }
    if let Some(status) = Status::from_header_map(response.headers()) {
        line.code = status.code();
        return response;
    }
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
pub(super) struct Line {
    span: Span,
    began_at: Instant,
    code: Code,
    is_written: bool,
}

impl Line {
    /// What everything logged on behalf of the request is within.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.is_written {
            return;
        }
        let latency_ms = self.began_at.elapsed().as_secs_f64() * 1e3;
        let code = self.code;
        self.span
            .in_scope(|| tracing::info!(?code, latency_ms, "answered"));
    }
}
