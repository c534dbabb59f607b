//! What a version has done since it was loaded; counted on the hot path, read by whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};

use super::policy::{InputViolation, ViolationKind};

/// Counts of one version. Only sums: they tell nothing of the order of events.
#[derive(Debug, Default)]
pub struct VersionCounters {
    predictions: AtomicU64,
    shadow_predictions: AtomicU64,
    shadows_dropped: AtomicU64,
    /// One an input, then one a kind.
    violations: Vec<[AtomicU64; KINDS.len()]>,
}

/// Every kind, in the order of the counts.
const KINDS: [ViolationKind; 4] = [
    ViolationKind::Missing,
    ViolationKind::TooOld,
    ViolationKind::OutOfRange,
    ViolationKind::UnknownCategory,
];

impl VersionCounters {
    /// Counts of a version with so many inputs.
    pub fn new(inputs: usize) -> VersionCounters {
        VersionCounters {
            violations: (0..inputs).map(|_| Default::default()).collect(),
            ..VersionCounters::default()
        }
    }

    pub(super) fn add_predictions(&self, rows: usize, is_shadow: bool) {
        let counter = if is_shadow {
            &self.shadow_predictions
        } else {
            &self.predictions
        };
        counter.fetch_add(whole(rows), Ordering::Relaxed);
    }

    pub(super) fn add_shadow_dropped(&self, rows: usize) {
        self.shadows_dropped
            .fetch_add(whole(rows), Ordering::Relaxed);
    }

    pub(super) fn add_violations(&self, violations: &[InputViolation]) {
        for violation in violations {
            let counts = self.violations.get(violation.input);
            let at = KINDS.iter().position(|kind| *kind == violation.kind);
            if let Some(count) = at.and_then(|at| counts?.get(at)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Rows that were scored for an answer.
    pub fn predictions(&self) -> u64 {
        self.predictions.load(Ordering::Relaxed)
    }

    /// Rows that were scored beside an answer.
    pub fn shadow_predictions(&self) -> u64 {
        self.shadow_predictions.load(Ordering::Relaxed)
    }

    /// Rows that were not scored beside an answer, because there was no time for it or because it failed.
    pub fn shadows_dropped(&self) -> u64 {
        self.shadows_dropped.load(Ordering::Relaxed)
    }

    /// Values that the policy of an input did not allow, by kind; only kinds that occurred.
    pub fn violations(&self, input: usize) -> Vec<(ViolationKind, u64)> {
        let counts = self.violations.get(input).into_iter().flatten();
        KINDS
            .iter()
            .zip(counts)
            .map(|(kind, count)| (*kind, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

fn whole(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}
