//! Every request has an id: the caller's, or a new one. It is in the log, in the answer's headers and in errors.

use axum::{extract::Request, response::Response};
use http::{HeaderName, HeaderValue};
use uuid::Uuid;

/// Where the id travels, both ways.
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// A caller's id may be this long.
const ID_BYTES_MAX: usize = 128;

/// The request's id: its caller's, where that is sane.
pub(super) fn identify(request: &Request) -> Option<HeaderValue> {
    let given = request
        .headers()
        .get(&REQUEST_ID_HEADER)
        .filter(|id| is_sane(id))
        .cloned();
    given.or_else(|| {
        let mut text = Uuid::encode_buffer();
        let text = Uuid::now_v7().hyphenated().encode_lower(&mut text);
        HeaderValue::from_str(text).ok()
    })
}

/// Puts the id into the answer's headers.
pub(super) fn tell(id: Option<HeaderValue>, mut response: Response) -> Response {
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID_HEADER, id);
    }
    response
}

/// Visible ASCII of a sane length: what can stand in a log line as it is.
fn is_sane(id: &HeaderValue) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_could_spoil_a_log_is_not_taken() {
        assert!(is_sane(&HeaderValue::from_static("abc-123")));
        assert!(!is_sane(&HeaderValue::from_static("")));
        assert!(!is_sane(&HeaderValue::from_static("a b")));
        assert!(!is_sane(&HeaderValue::from_static(concat!(
            "0123456789012345678901234567890123456789012345678901234567890123",
            "0123456789012345678901234567890123456789012345678901234567890123",
            "4"
        ))));
    }
}
