//! One `ErrorKind`, one gRPC code, with `ErrorInfo`, field violations and a retry delay beside it.

use std::{collections::HashMap, error::Error as _};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::pb;
use crate::error::{Error, ErrorKind};

/// Bounds on what a status carries. It travels in headers, twice: as text and inside the details; clients refuse
/// headers of more than 8 to 16 KiB, and the caller would see that refusal instead of the error.
const MESSAGE_BYTES_MAX: usize = 800;
const VIOLATIONS_MAX: usize = 10;
const FIELD_BYTES_MAX: usize = 100;
const DESCRIPTION_BYTES_MAX: usize = 160;

/// The same in a message, which no client's bound on headers holds for.
const BATCH_MESSAGE_BYTES_MAX: usize = 4_000;
const BATCH_VIOLATIONS_MAX: usize = 20;

/// Names who speaks in an `ErrorInfo`.
const ERROR_DOMAIN: &str = "ferrocast";

/// The gRPC code of a kind.
pub fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::Conflict => Code::Aborted,
        ErrorKind::Overloaded => Code::ResourceExhausted,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Internal => Code::Internal,
    }
}

/// An error as the wire carries it. What caused it is logged, under the request's span, and never sent.
pub fn to_status(error: &Error) -> Status {
    log(error);
    let kind = error.kind();
    let mut details = ErrorDetails::with_error_info(kind.reason(), ERROR_DOMAIN, HashMap::new());
    for violation in error.fields().iter().take(VIOLATIONS_MAX) {
        details.add_bad_request_violation(
            shortened(&violation.field, FIELD_BYTES_MAX),
            shortened(&violation.description, DESCRIPTION_BYTES_MAX),
        );
    }
    if let Some(delay) = kind.retry_after() {
        details.set_retry_info(Some(delay));
    }
    let message = shortened(said(error), MESSAGE_BYTES_MAX);
    Status::with_error_details(code(kind), message, details)
}

/// The error of one batch of a stream, as its acknowledgement carries it.
pub(super) fn batch_error(error: &Error) -> pb::BatchError {
    log(error);
    let violations = error.fields().iter().take(BATCH_VIOLATIONS_MAX);
    pb::BatchError {
        code: code(error.kind()).into(),
        message: shortened(said(error), BATCH_MESSAGE_BYTES_MAX),
        field_violations: violations
            .map(|violation| pb::FieldViolation {
                field: shortened(&violation.field, FIELD_BYTES_MAX),
                description: shortened(&violation.description, DESCRIPTION_BYTES_MAX),
            })
            .collect(),
    }
}

/// How prost and tonic begin to say that a message does not decode; our own INTERNAL has a fixed text.
const UNDECODED: [&str; 3] = [
    "failed to decode Protobuf message",
    "Missing request message",
    "Unexpected EOF decoding stream",
];

/// What a status of tonic's own says of a request's message, as a wrong argument: it answers INTERNAL to one that does not
/// decode, and OUT_OF_RANGE to one over the limit. None for any other status.
pub fn message_fault(status: &Status) -> Option<Error> {
    let text = status.message();
    // None of our services answers OUT_OF_RANGE.
    let said = if status.code() == Code::OutOfRange {
        format!("the message is over the limit (server.message_bytes_max): {text}")
    } else if status.code() == Code::Internal
        && UNDECODED.iter().any(|start| text.starts_with(start))
    {
        format!("the message does not decode: {text}")
    } else {
        return None;
    };
    Some(Error::invalid("", said))
}

/// What the caller may read of an error.
fn said(error: &Error) -> &str {
    match error.kind() {
        ErrorKind::Internal => "an internal error; the server's log has it under the request id",
        ErrorKind::InvalidArgument
        | ErrorKind::Unauthenticated
        | ErrorKind::PermissionDenied
        | ErrorKind::NotFound
        | ErrorKind::FailedPrecondition
        | ErrorKind::Conflict
        | ErrorKind::Overloaded
        | ErrorKind::Timeout
        | ErrorKind::Unavailable => error.message(),
    }
}

/// A text cut at a bound, which shows.
fn shortened(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut cut: String = text
        .char_indices()
        .take_while(|(at, c)| at + c.len_utf8() <= bytes_max)
        .map(|(_, c)| c)
        .collect();
    cut.push('…');
    cut
}

fn log(error: &Error) {
    let mut causes = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        causes.push_str(": ");
        causes.push_str(&cause.to_string());
        source = cause.source();
    }
    if error.kind() == ErrorKind::Internal {
        tracing::error!(kind = error.kind().reason(), "{error}{causes}");
    } else if !causes.is_empty() {
        tracing::warn!(kind = error.kind().reason(), "{error}{causes}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_code_of_its_own() {
        let mut codes: Vec<i32> = ErrorKind::ALL
            .into_iter()
            .map(|kind| code(kind) as i32)
            .collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ErrorKind::ALL.len());
    }

    #[test]
    fn an_internal_error_keeps_its_text_to_itself() {
        let error = Error::internal("the password is hunter2").with_source("and its cause");
        let status = to_status(&error);
        assert!(!status.message().contains("hunter2"));
        assert_eq!(status.code(), Code::Internal);
    }

    #[test]
    fn a_status_fits_into_headers_whatever_it_quotes() {
        let violation = crate::error::Violation {
            field: "é".repeat(10_000),
            description: "x".repeat(10_000),
        };
        let status = to_status(&Error::violations(vec![violation; 50]));
        let headers = status.into_http::<()>().headers().clone();
        let bytes: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        assert!(bytes < 8_000, "{bytes}");
    }

    #[test]
    fn violations_and_delays_are_details() {
        let status = to_status(&Error::invalid("rows[0].term", "expected a string"));
        let details = status.get_error_details();
        let fields: Vec<String> = details
            .bad_request()
            .into_iter()
            .flat_map(|bad| bad.field_violations.clone())
            .map(|violation| violation.field)
            .collect();
        assert_eq!(fields, ["rows[0].term"]);
        let status = to_status(&Error::unavailable("the database is away"));
        assert!(status.get_error_details().retry_info().is_some());
    }
}
