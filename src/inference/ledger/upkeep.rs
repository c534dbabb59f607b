//! Dropping what is older than the retention, now and then.

use std::{sync::Arc, time::Duration};

use tokio::time;

use super::queue::Shared;
use crate::features::Timestamp;

/// How often it is looked for: what is dropped is whole days.
const INTERVAL: Duration = Duration::from_secs(3_600);

/// After a look that failed, as where somebody reads what is to be dropped.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

const DAY_MICROS: i64 = 86_400_000_000;

/// Drops at the start and at every interval, for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut is_failing = false;
    loop {
        let Some(before) = oldest_kept(Timestamp::now(), shared.options.retention_days) else {
            return;
        };
        let wait = match shared.store.drop_predictions(before).await {
            Ok(is_any) => {
                is_failing = false;
                if is_any {
                    tracing::info!(%before, "predictions of days before were dropped from the ledger");
                }
                INTERVAL
            }
            Err(fault) => {
                // Said once: it is tried until it works.
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%fault, "what is too old could not be dropped from the ledger; trying on");
                }
                RETRY_INTERVAL
            }
        };
        time::sleep(wait).await;
    }
}

/// The beginning of the oldest day that is kept; none where all are.
fn oldest_kept(now: Timestamp, retention_days: u32) -> Option<Timestamp> {
    if retention_days == 0 {
        return None;
    }
    let today = now.micros().div_euclid(DAY_MICROS);
    let micros = (today - i64::from(retention_days)).checked_mul(DAY_MICROS)?;
    Timestamp::from_micros(micros)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn whole_days_are_kept_beside_the_current_one() {
        let at = |text: &str| Timestamp::parse(text).unwrap();
        let now = at("2026-11-21T14:00:00Z");
        assert_eq!(oldest_kept(now, 0), None);
        assert_eq!(oldest_kept(now, 1), Some(at("2026-11-20T00:00:00Z")));
        assert_eq!(oldest_kept(now, 30), Some(at("2026-10-22T00:00:00Z")));
    }
}
