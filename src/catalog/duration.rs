//! Durations as a person writes them in TOML.

use std::time::Duration;

/// What a `google.protobuf.Duration` can hold: some 10,000 years.
const DURATION_MAX: Duration = Duration::from_secs(315_576_000_000);

/// Reads a duration as a person writes it: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
///
/// # Errors
/// A sentence that says what is accepted.
pub fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let fault = || {
        format!(
            "\"{text}\" is no duration: a whole number and ms, s, m, h or d, as \"90s\" or \"30d\""
        )
    };
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?;
    let (digits, unit) = text.split_at(digits_end);
    let count: u64 = digits.parse().map_err(|_| fault())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(fault()),
    };
    let duration = count
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(fault)?;
    if duration > DURATION_MAX {
        return Err(format!("\"{text}\" is more than 10,000 years"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for bad in [
            "",
            "5",
            "s",
            "1.5h",
            "-1s",
            "1w",
            "4000000d",
            "99999999999999999999d",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
