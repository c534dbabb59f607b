//! Every error that a caller sees: one JSON shape, whether the gateway or the server behind it is the origin.

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde::Serialize;
use serde_json::{Value as Json, json};
use tonic::{Code, Status};
use tonic_types::pb::RetryInfo;

use crate::json::to_json_value;

/// The header that carries the request id, both ways.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How many error details are passed on; a status has a handful.
const DETAILS_MAX: usize = 32;

/// One error on its way to the caller.
#[derive(Debug)]
pub(crate) struct Fault {
    http: StatusCode,
    code: Code,
    message: String,
    details: Vec<Json>,
    retry_after_s: Option<u64>,
    allow: Option<String>,
}

impl Fault {
    /// An error of a gRPC code, with its usual HTTP status.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            http: http_status(code),
            code,
            message: message.into(),
            details: Vec::new(),
            retry_after_s: None,
            allow: None,
        }
    }

    /// 400: the request is at fault as a whole.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// 400: one field of the request is at fault; it is named in a `google.rpc.BadRequest`, too.
    pub(crate) fn invalid_field(field: &str, description: &str) -> Self {
        let mut fault = Self::invalid(format!("{field}: {description}"));
        fault.details.push(json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": field, "description": description}],
        }));
        fault
    }

    /// 404: no such route.
    pub(crate) fn no_route(method: &str, path: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no route {method} {path}"))
    }

    /// 405: the path is there, the method is not.
    pub(crate) fn method_not_allowed(method: &str, path: &str, allow: String) -> Self {
        let mut fault = Self::new(
            Code::Unimplemented,
            format!("{path} does not take {method}; it takes {allow}"),
        );
        fault.http = StatusCode::METHOD_NOT_ALLOWED;
        fault.allow = Some(allow);
        fault
    }

    /// 413: the body is larger than it may be.
    pub(crate) fn too_large(bytes_max: usize) -> Self {
        let mut fault = Self::invalid(format!("the body is larger than {bytes_max} bytes"));
        fault.http = StatusCode::PAYLOAD_TOO_LARGE;
        fault
    }

    /// 415: the body is of another type than JSON.
    pub(crate) fn unsupported_media_type(content_type: &str) -> Self {
        let mut fault = Self::invalid(format!(
            "the body must be application/json, not {content_type}"
        ));
        fault.http = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        fault
    }

    /// 429: the gateway has as many requests under way as it may.
    pub(crate) fn overloaded() -> Self {
        let mut fault = Self::new(Code::ResourceExhausted, "too many requests are under way");
        fault.retry_after_s = Some(1);
        fault
    }

    /// 504: the deadline ran out.
    pub(crate) fn deadline() -> Self {
        Self::new(Code::DeadlineExceeded, "the deadline ran out")
    }

    /// 500: the server's answer is not what its descriptors say.
    pub(crate) fn bad_answer(reason: impl std::fmt::Display) -> Self {
        tracing::error!(target: "gateway", %reason, "the server's answer does not fit its descriptors");
        Self::new(
            Code::Internal,
            "the server's answer does not fit its descriptors",
        )
    }

    /// The error that the server, or the way to it, gave.
    pub(crate) fn from_status(status: &Status, pool: &DescriptorPool) -> Self {
        // A status with a source was made on this side, from a transport error: its text is for operators.
        if let Some(source) = std::error::Error::source(status) {
            tracing::warn!(target: "gateway", error = error_chain(source), code = ?status.code(), "the call did not reach its end");
            if !matches!(status.code(), Code::Unavailable | Code::Unknown) {
                return Self::new(status.code(), status.message());
            }
            let mut fault = Self::new(Code::Unavailable, "the gRPC server cannot be reached");
            fault.retry_after_s = Some(1);
            return fault;
        }
        let mut fault = Self::new(status.code(), status.message());
        if let Ok(rich) = tonic_types::Status::decode(status.details()) {
            for detail in rich.details.iter().take(DETAILS_MAX) {
                if detail.type_url.ends_with("google.rpc.RetryInfo") {
                    fault.retry_after_s = retry_after_s(&detail.value);
                }
                fault
                    .details
                    .push(detail_json(pool, &detail.type_url, &detail.value));
            }
        }
        fault
    }

    /// The JSON body, and its fields in the order in which people read them.
    pub(crate) fn body<'a>(&'a self, request_id: &'a str) -> FaultBody<'a> {
        FaultBody {
            code: self.http.as_u16(),
            status: code_name(self.code),
            message: &self.message,
            details: &self.details,
            request_id,
        }
    }

    /// The whole answer.
    pub(crate) fn into_response(self, request_id: &str) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body(request_id).text()));
        *response.status_mut() = self.http;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let tells_when = matches!(
            self.http,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        if let Some(seconds) = self.retry_after_s.filter(|_| tells_when) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self
            .allow
            .as_deref()
            .and_then(|text| HeaderValue::from_str(text).ok())
        {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

/// An error as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FaultBody<'a> {
    code: u16,
    status: &'static str,
    message: &'a str,
    details: &'a [Json],
    request_id: &'a str,
}

impl FaultBody<'_> {
    /// The JSON text.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// An error and what caused it, each text once.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// The delay of a RetryInfo in whole seconds, at least one.
fn retry_after_s(retry_info: &[u8]) -> Option<u64> {
    let delay = RetryInfo::decode(retry_info).ok()?.retry_delay?;
    let seconds = u64::try_from(delay.seconds).unwrap_or(0);
    Some(seconds.saturating_add(u64::from(delay.nanos > 0)).max(1))
}

/// A detail as JSON with its "@type"; one of an unknown type keeps its bytes in base64.
fn detail_json(pool: &DescriptorPool, type_url: &str, bytes: &[u8]) -> Json {
    let name = type_url.rsplit('/').next().unwrap_or(type_url);
    let decoded = pool
        .get_message_by_name(name)
        .and_then(|descriptor| DynamicMessage::decode(descriptor, bytes).ok())
        .and_then(|message| to_json_value(&message).ok());
    match decoded {
        Some(Json::Object(fields)) => {
            let mut object = serde_json::Map::new();
            object.insert("@type".to_owned(), Json::from(type_url));
            object.extend(fields);
            Json::Object(object)
        }
        Some(value) => json!({"@type": type_url, "value": value}),
        None => json!({"@type": type_url, "value": STANDARD.encode(bytes)}),
    }
}

/// A code's name as `google.rpc.Code` spells it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// A code's HTTP status as `google.rpc.Code` maps it.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Aborted | Code::AlreadyExists => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Cancelled => client_closed_request(),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// 499, which has no constant.
fn client_closed_request() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn every_code_has_its_status() {
        let expected = [
            0, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
        ];
        for (number, status) in expected.iter().enumerate().skip(1) {
            let code = Code::from(i32::try_from(number).unwrap());
            assert_eq!(http_status(code).as_u16(), *status, "{code:?}");
        }
    }

    #[test]
    fn a_retry_delay_is_rounded_up_to_whole_seconds() {
        for (seconds, nanos, expected) in [
            (0, 0, 1),
            (0, 1, 1),
            (1, 0, 1),
            (1, 500_000_000, 2),
            (-5, 0, 1),
        ] {
            let mut bytes = Vec::new();
            let text = DescriptorPool::decode(tonic_types::pb::FILE_DESCRIPTOR_SET).unwrap();
            let mut retry =
                DynamicMessage::new(text.get_message_by_name("google.rpc.RetryInfo").unwrap());
            let delay = retry.get_field_by_name_mut("retry_delay").unwrap();
            let delay = delay.as_message_mut().unwrap();
            delay.set_field_by_name("seconds", prost_reflect::Value::I64(seconds));
            delay.set_field_by_name("nanos", prost_reflect::Value::I32(nanos));
            retry.encode(&mut bytes).unwrap();
            assert_eq!(retry_after_s(&bytes), Some(expected));
        }
    }

    #[test]
    fn a_detail_of_an_unknown_type_keeps_its_bytes() {
        let value = detail_json(&DescriptorPool::new(), "type.googleapis.com/a.B", &[1, 2]);
        assert_eq!(
            value,
            json!({"@type": "type.googleapis.com/a.B", "value": "AQI="})
        );
    }
}
