//! One join under way, from the gathering of its rows to the end of its process.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time,
};
use tracing::Instrument;

use super::{
    child::{self, JoinProgress},
    gather::Gatherer,
    plan::{JoinPlan, OutPlan, SpinePlan, ViewPlan},
    stopped,
};
use crate::{
    error::{Error, ErrorKind, Result},
    features::TrainingSetRequest,
};

/// How long whoever waits for a join that was stopped waits for its files to be gone.
const STOP_MAX: Duration = Duration::from_secs(5);

/// What a join needs. It owns all of it, so that nothing is given back before everything that uses it has ended.
pub(super) struct Join {
    pub(super) program: PathBuf,
    pub(super) request: TrainingSetRequest,
    /// The features' columns in the order of the request.
    pub(super) columns: Vec<String>,
    pub(super) spine: SpinePlan,
    pub(super) out: OutPlan,
    pub(super) gatherer: Gatherer,
    pub(super) work: TempDir,
    pub(super) memory_bytes_max: u64,
    /// Where the answer goes, if not into a file. Weak, so that the answer ends with whoever waits for the join.
    pub(super) sink: Option<mpsc::WeakSender<Bytes>>,
    /// A place among the joins at once, where they are counted.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl Join {
    /// Brings it to its end. It is stopped where it takes too long, is told to, or nobody waits for it any more: then it
    /// may go on for a moment in the background, until its process and its files are gone.
    ///
    /// # Errors
    /// `Timeout`; `FailedPrecondition` where it was told to stop; what gathering or joining answers.
    pub(super) async fn run(
        self,
        limit: Duration,
        progress: impl Fn(&JoinProgress) + Send + 'static,
    ) -> Result<()> {
        let stop = self.gatherer.stop.clone();
        let _guard = stop.clone().drop_guard();
        let mut task = tokio::spawn(self.work(progress).in_current_span());
        let broke_off = |fault| Error::internal("a join broke off").with_source(fault);
        let fault = tokio::select! {
            done = &mut task => return done.map_err(broke_off)?,
            () = stop.cancelled() => stopped(),
            () = time::sleep(limit) => too_long(limit),
        };
        stop.cancel();
        match time::timeout(STOP_MAX, task).await {
            // It came to its end just before.
            Ok(Ok(Ok(()))) => Ok(()),
            _ => Err(fault),
        }
    }

    async fn work(self, progress: impl Fn(&JoinProgress) + Send) -> Result<()> {
        let work = self.work.path();
        let selection = &self.request.selection;
        let mut views = Vec::with_capacity(selection.views.len());
        for selected in &selection.views {
            let history = self.gatherer.history(&selected.view, work).await?;
            let view = ViewPlan::new(selection, selected, &self.columns, history)?;
            views.push(view);
        }
        let plan = JoinPlan {
            spine: self.spine,
            views,
            columns: self.columns,
            out: self.out,
            memory_bytes_max: self.memory_bytes_max,
            work_dir: work.to_owned(),
        };
        let sink = match &self.sink {
            Some(sink) => Some(sink.upgrade().ok_or_else(stopped)?),
            None => None,
        };
        let stop = &self.gatherer.stop;
        let joined = child::run(&self.program, &plan, sink, progress, stop).await;
        drop(self.work);
        drop(self.permit);
        joined
    }
}

fn too_long(limit: Duration) -> Error {
    let limit = limit.as_millis();
    let message = format!("the join took longer than {limit} ms (historical.join_ms_max)");
    Error::new(ErrorKind::Timeout, message)
}
