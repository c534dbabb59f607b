//! When a source is asked next: at an interval that is never quite the same, so that servers which started together do not
//! ask together; more and more rarely where it fails.

use std::time::{Duration, Instant};

/// How much longer the longest wait is than the interval.
const BACKOFF_MAX: u32 = 10;

/// A tenth of each wait, more or less, is by chance.
const JITTER_SHARE: f64 = 0.1;

/// When something is due, and how often it failed before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    due: Instant,
    failures: u32,
    /// Whether somebody wants it now.
    is_urgent: bool,
}

impl Schedule {
    /// Due at once.
    pub(super) fn new() -> Schedule {
        Schedule {
            due: Instant::now(),
            failures: 0,
            is_urgent: false,
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due <= now
    }

    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }

    /// Whoever asks for it has a reason: earlier failures do not count.
    pub(super) fn make_due(&mut self) {
        *self = Schedule::new();
        self.is_urgent = true;
    }

    /// It is done now. Says whether somebody wants it: what was put off after a failure is then tried all the same.
    pub(super) fn begin(&mut self) -> bool {
        std::mem::take(&mut self.is_urgent)
    }

    /// Puts it off after it was done. What somebody has wanted since it began may have come too late for it, and stays due.
    pub(super) fn done(&mut self, interval: Duration, is_good: bool) {
        if self.is_urgent {
            return;
        }
        self.failures = if is_good {
            0
        } else {
            self.failures.saturating_add(1)
        };
        self.due = Instant::now() + jittered(backed_off(interval, self.failures), fastrand::f64());
    }
}

/// Doubled with each failure in a row but the first.
fn backed_off(interval: Duration, failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures.saturating_sub(1));
    interval.saturating_mul(factor.unwrap_or(BACKOFF_MAX).min(BACKOFF_MAX))
}

/// `chance` is 0 to 1.
fn jittered(wait: Duration, chance: f64) -> Duration {
    wait.mul_f64(1.0 - JITTER_SHARE + 2.0 * JITTER_SHARE * chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_with_failures_up_to_a_bound() {
        let interval = Duration::from_secs(30);
        let waits: Vec<u64> = [0, 1, 2, 3, 4, 5, 31, 32, 33, u32::MAX]
            .map(|failures| backed_off(interval, failures).as_secs())
            .to_vec();
        assert_eq!(waits, [30, 30, 60, 120, 240, 300, 300, 300, 300, 300]);
    }

    #[test]
    fn waits_differ_by_a_tenth_at_the_most() {
        let wait = Duration::from_secs(100);
        let waits = [0.0, 0.5, 1.0].map(|chance| jittered(wait, chance).as_secs_f64().round());
        assert_eq!(waits, [90.0, 100.0, 110.0]);
    }

    #[test]
    fn what_is_wanted_now_is_due_now() {
        let mut schedule = Schedule::new();
        schedule.done(Duration::from_secs(30), false);
        let now = Instant::now();
        assert!(!schedule.is_due(now));
        assert!(schedule.wait(now) > Duration::from_secs(26));
        schedule.make_due();
        assert!(schedule.is_due(Instant::now()));
        assert!(schedule.begin());
        schedule.done(Duration::from_secs(30), true);
        assert!(!schedule.is_due(Instant::now()));
        assert!(!schedule.begin());
    }

    #[test]
    fn what_is_wanted_while_it_is_done_is_due_again() {
        let mut schedule = Schedule::new();
        assert!(!schedule.begin());
        schedule.make_due();
        schedule.done(Duration::from_secs(30), true);
        assert!(schedule.is_due(Instant::now()));
        assert!(schedule.begin());
    }
}
