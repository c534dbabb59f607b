//! Deadlines: the caller's `grpc-timeout`, or the server's own bound, ends a request with DEADLINE_EXCEEDED.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};

use crate::{
    error::{Error, ErrorKind},
    grpc::to_status,
};

const TIMEOUT_HEADER: &str = "grpc-timeout";

/// tonic's listener has a timer of its own for the same header, which answers CANCELLED. This one runs out just
/// before it.
const AHEAD: Duration = Duration::from_millis(2);

pub(super) async fn enforce(
    State(request_max): State<Duration>,
    request: Request,
    next: Next,
) -> Response {
    let asked = request
        .headers()
        .get(TIMEOUT_HEADER)
        .and_then(|value| value.to_str().ok())
        .and_then(parse);
    let limit = asked.map_or(request_max, |asked| {
        (asked - AHEAD.min(asked / 4)).min(request_max)
    });
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let shown = asked.unwrap_or(request_max).min(request_max);
            let error = Error::new(
                ErrorKind::Timeout,
                format!("the deadline ran out after {shown:?}"),
            );
            to_status(&error).into_http::<Body>()
        }
    }
}

/// Reads a gRPC timeout: up to 8 digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(digits_end);
    if digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_read_as_the_specification_says() {
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(
            parse("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3_600))
        );
        for bad in ["", "m", "5", "5x", "123456789S", "-1S"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
