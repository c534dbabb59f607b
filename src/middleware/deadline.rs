//! Deadlines: the caller's `grpc-timeout`, or the server's own bound, ends a request with DEADLINE_EXCEEDED.
//!
//! The server's bound is on the time until the answer begins; the caller's deadline is on all of it, so that it ends a
//! stream, too.

use std::time::Duration;

use axum::{body::Body, extract::Request, response::Response};
use futures_util::stream;
use http::HeaderMap;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use crate::{
    error::{Error, ErrorKind},
    grpc::to_status,
};

const TIMEOUT_HEADER: &str = "grpc-timeout";

/// A caller has a timer of his own. The server's runs out just before it, so that he reads what the server says.
const AHEAD: Duration = Duration::from_millis(2);

/// When a request is to be over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// What its caller asks for.
    asked: Option<Deadline>,
    /// That, or the server's own bound, whichever is first; none where no clock reaches so far.
    first: Option<Deadline>,
}

/// The deadlines of a request that begins now.
pub(super) fn of(request: &Request, request_max: Duration) -> Deadlines {
    let asked = request
        .headers()
        .get(TIMEOUT_HEADER)
        .and_then(|value| value.to_str().ok())
        .and_then(parse);
    let began_at = Instant::now();
    let asked = asked.and_then(|after| {
        let ends_at = began_at.checked_add(after - AHEAD.min(after / 4))?;
        Some(Deadline { ends_at, after })
    });
    let longest = began_at.checked_add(request_max).map(|ends_at| Deadline {
        ends_at,
        after: request_max,
    });
    Deadlines {
        asked,
        first: asked.into_iter().chain(longest).min_by_key(|d| d.ends_at),
    }
}

/// Waits for an answer until the deadline.
pub(super) async fn enforce<E>(
    deadlines: Deadlines,
    answering: impl Future<Output = Result<Response, E>>,
) -> Result<Response, E> {
    let Some(first) = deadlines.first else {
        return answering.await;
    };
    match timeout_at(first.ends_at, answering).await {
        Ok(Ok(response)) => Ok(match deadlines.asked {
            Some(deadline) => ended_at(deadline, response),
            None => response,
        }),
        Ok(Err(fault)) => Err(fault),
        Err(_) => Ok(first.status().into_http::<Body>()),
    }
}

/// When something is to be over.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    ends_at: Instant,
    after: Duration,
}

impl Deadline {
    fn status(self) -> Status {
        let said = format!("the deadline ran out after {:?}", self.after);
        to_status(&Error::new(ErrorKind::Timeout, said))
    }
}

/// An answer that ends at the deadline, whatever is left of it then.
fn ended_at(deadline: Deadline, response: Response) -> Response {
    // A status in the head is all that there is to answer.
    if Status::from_header_map(response.headers()).is_some() {
        return response;
    }
    response.map(|body| {
        let frames = stream::unfold(Some(body), move |body| async move {
            let mut body = body?;
            match timeout_at(deadline.ends_at, body.frame()).await {
                Ok(frame) => Some((frame?, Some(body))),
                Err(_) => {
                    let mut trailers = HeaderMap::new();
                    // What does not fit into headers is left out of them.
                    let _ = deadline.status().add_header(&mut trailers);
                    Some((Ok(Frame::trailers(trailers)), None))
                }
            }
        });
        Body::new(StreamBody::new(frames))
    })
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
