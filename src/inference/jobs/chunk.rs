//! Storing what was scored of a job and telling the ledger: the two go together, whatever becomes of the attempt meanwhile.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{ChunkResult, Hold, Jobs};
use crate::{
    error::{Error, ErrorKind, Result},
    inference::ScoredBatch,
};

/// How long a job waits for room in the ledger's queue before its rows are lost to it.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(30);

/// What of an attempt is on its way to the store; it gets there although the attempt may end before.
#[derive(Default)]
pub(super) struct Storing(Arc<Mutex<()>>);

impl Storing {
    /// Waits for it.
    pub(super) async fn finished(&self) {
        drop(self.0.lock().await);
    }
}

impl Jobs {
    /// Stores a chunk and records it; says whether it is stored by this hold.
    pub(super) async fn keep_chunk(
        &self,
        storing: &Storing,
        hold: Hold,
        (chunk, scored): (ChunkResult, Arc<ScoredBatch>),
        stop: &CancellationToken,
    ) -> Result<bool> {
        let is_finished = Arc::clone(&storing.0).lock_owned().await;
        let (jobs, stop) = (self.clone(), stop.clone());
        // A task of its own: who drops the attempt does not part the two.
        let kept = tokio::spawn(async move {
            let _is_finished = is_finished;
            let is_stored = jobs.append(hold, &chunk, &stop).await?;
            if is_stored {
                let patience = stop.run_until_cancelled_owned(time::sleep(ROOM_WAIT_MAX));
                let ledger = &jobs.predictor.ledger;
                ledger.record_patiently(&scored, patience).await;
            }
            Ok(is_stored)
        });
        kept.await
            .map_err(|fault| Error::internal("storing a chunk ended early").with_source(fault))?
    }

    /// Appends a chunk. Where the database was away at that moment it may be stored or not, so it is tried until that is
    /// known, for as long as a lease lasts.
    async fn append(
        &self,
        hold: Hold,
        chunk: &ChunkResult,
        stop: &CancellationToken,
    ) -> Result<bool> {
        let give_up_at = Instant::now() + self.options.lease;
        loop {
            let fault = match self.try_append(hold, chunk).await {
                Err(fault) if is_away(&fault) => fault,
                known => return known,
            };
            if stop.is_cancelled() || Instant::now() >= give_up_at {
                return Err(fault);
            }
            let pause = time::sleep(self.options.poll_interval);
            stop.run_until_cancelled(pause).await;
        }
    }

    async fn try_append(&self, hold: Hold, chunk: &ChunkResult) -> Result<bool> {
        let lease = self.options.lease;
        if self.store.append_result(&hold, chunk, lease).await? {
            return Ok(true);
        }
        // An answer that got lost: the ids in a result are nobody else's.
        let place = chunk.chunk..chunk.chunk.saturating_add(1);
        let stored = self.store.job_results(hold.id, place).await?;
        Ok(stored.first() == Some(&chunk.result))
    }
}

/// Whether it is the moment that is at fault, and the same may succeed later.
pub(super) fn is_away(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Overloaded | ErrorKind::Unavailable => true,
        ErrorKind::InvalidArgument
        | ErrorKind::Unauthenticated
        | ErrorKind::PermissionDenied
        | ErrorKind::NotFound
        | ErrorKind::FailedPrecondition
        | ErrorKind::Conflict
        | ErrorKind::Timeout
        | ErrorKind::Internal => false,
    }
}
