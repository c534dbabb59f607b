//! How long a call may take: what the caller's `grpc-timeout` says, within the gateway's bounds.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use crate::config::GatewayConfig;
use crate::fault::Fault;

/// The header that carries a deadline in gRPC: up to eight digits and one of H, M, S, m, u, n.
pub(crate) const GRPC_TIMEOUT: &str = "grpc-timeout";

/// When a call must be over.
pub(crate) fn deadline(
    headers: &HeaderMap,
    config: &GatewayConfig,
    is_stream: bool,
) -> Result<Instant, Fault> {
    let timeout = match headers.get(GRPC_TIMEOUT) {
        Some(value) => {
            let longest = config.request_timeout_max;
            let longest = if is_stream {
                longest.max(config.stream_timeout)
            } else {
                longest
            };
            value
                .to_str()
                .ok()
                .and_then(parse)
                .ok_or_else(|| {
                    Fault::invalid_field(
                        GRPC_TIMEOUT,
                        "expected up to 8 digits and a unit (H, M, S, m, u, n), as 250m",
                    )
                })?
                .min(longest)
        }
        None if is_stream => config.stream_timeout,
        None => config.request_timeout,
    };
    let now = Instant::now();
    Ok(now.checked_add(timeout).unwrap_or(now))
}

fn parse(text: &str) -> Option<Duration> {
    let mut digits = text.to_owned();
    let unit = digits.pop()?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(count * 3600)),
        'M' => Some(Duration::from_secs(count * 60)),
        'S' => Some(Duration::from_secs(count)),
        'm' => Some(Duration::from_millis(count)),
        'u' => Some(Duration::from_micros(count)),
        'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_spells_them() {
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(
            parse("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        assert_eq!(parse("0n"), Some(Duration::ZERO));
        for text in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", "1 S", "1ü"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
