//! How much of its processors the server uses: what is not urgent asks before it begins.

use std::{
    sync::{
        Mutex, TryLockError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Handle, RuntimeMetrics};

/// Over so long a time, at the least, it is measured.
const WINDOW: Duration = Duration::from_millis(20);

/// The share of its time that the server was busy, as measured by those who ask.
#[derive(Debug)]
pub(super) struct Busyness {
    began: Mutex<Option<Sample>>,
    percent: AtomicU32,
}

/// What had been used at a moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    /// By all threads of the process, on processors.
    processors: Duration,
    /// By the asynchronous threads; also while they waited for a processor that somebody else had.
    asynchronous: Duration,
}

impl Default for Busyness {
    /// Idle, until it is asked for.
    fn default() -> Busyness {
        Busyness {
            began: Mutex::new(None),
            percent: AtomicU32::new(0),
        }
    }
}

impl Busyness {
    /// Of a hundred, as of a moment ago: the larger one of the process's share of the processors and the asynchronous
    /// threads' share of their time. To be asked within the server's runtime.
    pub(super) fn percent(&self) -> u32 {
        let mut began = match self.began.try_lock() {
            Ok(began) => began,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Somebody measures just now.
            Err(TryLockError::WouldBlock) => return self.percent.load(Ordering::Relaxed),
        };
        let is_fresh = began.is_some_and(|began| began.at.elapsed() < WINDOW);
        if is_fresh {
            return self.percent.load(Ordering::Relaxed);
        }
        let metrics = Handle::current().metrics();
        let now = Sample::take(&metrics);
        let percent = began.map_or(0, |began| now.percent_since(began, metrics.num_workers()));
        *began = Some(now);
        self.percent.store(percent, Ordering::Relaxed);
        percent
    }
}

impl Sample {
    fn take(metrics: &RuntimeMetrics) -> Sample {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let workers = 0..metrics.num_workers();
        Sample {
            at: Instant::now(),
            processors: Duration::try_from(used).unwrap_or_default(),
            asynchronous: workers
                .map(|worker| metrics.worker_total_busy_duration(worker))
                .sum(),
        }
    }

    fn percent_since(&self, began: Sample, asynchronous: usize) -> u32 {
        let passed = self.at.duration_since(began.at);
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let of_processors = share(self.processors, began.processors, passed, processors);
        let of_threads = share(self.asynchronous, began.asynchronous, passed, asynchronous);
        of_processors.max(of_threads)
    }
}

/// Of a hundred, of what so many can use in a time.
fn share(used: Duration, before: Duration, passed: Duration, by: usize) -> u32 {
    let used = used.saturating_sub(before).as_micros();
    let by = u128::try_from(by).unwrap_or(1).max(1);
    let percent = used * 100 / (passed.as_micros() * by).max(1);
    u32::try_from(percent.min(100)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_all_that_could_be_used() {
        let ms = Duration::from_millis;
        assert_eq!(share(ms(130), ms(100), ms(20), 2), 75);
        assert_eq!(share(ms(100), ms(100), ms(20), 2), 0);
        // More than there is: the clocks are not read at one moment.
        assert_eq!(share(ms(200), ms(100), ms(20), 2), 100);
        assert_eq!(share(ms(1), ms(0), ms(0), 0), 100);
    }

    #[tokio::test]
    async fn work_shows_once_it_is_asked_for() {
        let busyness = Busyness::default();
        assert_eq!(busyness.percent(), 0);
        let until = Instant::now() + Duration::from_secs(10);
        // One thread works, for as long as it takes to see it: at least a hundredth of all processors.
        while busyness.percent() == 0 {
            assert!(Instant::now() < until, "busy for ten seconds, and unseen");
        }
    }
}
