//! Reads a request's body: bounded in bytes, and JSON by its content type.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::fault::Fault;

/// Reads the whole body.
///
/// # Errors
/// 413 where it is larger than the bound, 415 where it says that it is something else than JSON.
pub(crate) async fn read_body(
    body: Body,
    headers: &HeaderMap,
    bytes_max: usize,
) -> Result<Bytes, Fault> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| usize::try_from(bytes).map_or(true, |bytes| bytes > bytes_max))
    {
        return Err(Fault::too_large(bytes_max));
    }
    let bytes = match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(Fault::too_large(bytes_max)),
        Err(error) => {
            return Err(Fault::invalid(format!(
                "the body could not be read: {error}"
            )));
        }
    };
    check_content_type(headers, &bytes)?;
    Ok(bytes)
}

fn check_content_type(headers: &HeaderMap, body: &[u8]) -> Result<(), Fault> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let text = value.to_str().unwrap_or("an unreadable type");
    let media_type = text
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match media_type.as_str() {
        "" | "application/json" => Ok(()),
        json if json.ends_with("+json") => Ok(()),
        // What `curl -d` says of any body; one that is no JSON is told so when it is read.
        "application/x-www-form-urlencoded" => Ok(()),
        _ => Err(Fault::unsupported_media_type(text)),
    }
}
