//! The jobs that this server leaves to others: it has not the version that they need.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

/// Jobs that are remembered; beyond, those are forgotten that were declined longest ago.
const REMEMBERED_MAX: usize = 1_000;

/// Which jobs, and until when they are not asked for again.
#[derive(Debug, Default)]
pub(super) struct Declined {
    jobs: Mutex<HashMap<Uuid, Decline>>,
}

#[derive(Debug, Clone, Copy)]
struct Decline {
    times: u32,
    until: Instant,
}

impl Declined {
    /// Leaves a job to others for a while.
    pub(super) fn add(&self, id: Uuid, wait: Duration) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + wait;
        let known = jobs.entry(id).or_insert(Decline { times: 0, until });
        known.times += 1;
        known.until = until;
        if jobs.len() > REMEMBERED_MAX {
            let oldest = jobs.iter().min_by_key(|(_, decline)| decline.until);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                jobs.remove(&oldest);
            }
        }
    }

    /// How often a job was left to others.
    pub(super) fn times(&self, id: Uuid) -> u32 {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.get(&id).map_or(0, |decline| decline.times)
    }

    /// Begins anew with a job that got on.
    pub(super) fn forget(&self, id: Uuid) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.remove(&id);
    }

    /// The jobs that are left to others now.
    pub(super) fn now(&self) -> Vec<Uuid> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let current = jobs.iter().filter(|(_, decline)| decline.until > now);
        current.map(|(id, _)| *id).collect()
    }
}
