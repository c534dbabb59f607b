//! The outermost layer: gives every request an id, and logs it once when its answer begins or its caller goes away.

use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::fault::REQUEST_ID;
use crate::shared::OWN_PATHS;

/// The longest request id that is taken from a caller.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// A request's id; an extension of the request.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// The route that answered, as its template; an extension of the response.
#[derive(Clone, Debug)]
pub(crate) struct RouteLabel(pub(crate) String);

/// Runs a request under an id and logs it.
pub(crate) async fn observe(mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let mut line = LogLine {
        method: request.method().clone(),
        id: id.clone(),
        started_at: Instant::now(),
        is_answered: false,
    };
    request.extensions_mut().insert(RequestId(id.clone()));
    let own_path = OWN_PATHS
        .into_iter()
        .find(|path| *path == request.uri().path());
    // Whatever is logged on the request's behalf carries its id.
    let span = tracing::info_span!(target: "gateway", "http", request_id = %id);
    let mut response = next.run(request).instrument(span).await;
    let label = response.extensions().get::<RouteLabel>();
    let label = label
        .map(|label| label.0.as_str())
        .or(own_path)
        .unwrap_or("-");
    line.answered(label, response.status().as_u16());
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// The caller's id where it is sane, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let is_sane = |id: &&str| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(is_sane)
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// Writes a request's log line, also where the caller went away before its answer.
struct LogLine {
    method: Method,
    id: String,
    started_at: Instant,
    is_answered: bool,
}

impl LogLine {
    fn answered(&mut self, route: &str, status: u16) {
        self.is_answered = true;
        self.write(route, status);
    }

    fn write(&self, route: &str, status: u16) {
        let latency_ms = self.started_at.elapsed().as_secs_f64() * 1000.0;
        tracing::info!(
            target: "gateway",
            method = %self.method, route, status, latency_ms, request_id = %self.id,
            "request"
        );
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        if !self.is_answered {
            self.write("-", 499);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sane_ids_are_taken_over() {
        let id_of = |value: &str| {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(REQUEST_ID, value);
            }
            request_id(&headers)
        };
        assert_eq!(id_of("abc-123"), "abc-123");
        assert_eq!(id_of(&"x".repeat(128)), "x".repeat(128));
        for text in ["", "a b", "\u{fc}", &"x".repeat(129)] {
            assert_ne!(id_of(text), text);
            assert_eq!(id_of(text).len(), 36);
        }
    }
}
