//! Training sets: gathers the history of the asked features, and has `ferrocast-historical` join it to a spine.
//!
//! The join is a program of its own, because its engine is larger than the server and its memory is not the server's.
//! This side decides what history there is: a view's Parquet files as they are, its CSV files and its own history table
//! as Parquet files made for the join. `app` puts it together; `cli` and, behind `TrainingSets`, `grpc` call.

mod child;
mod export;
mod gather;
mod join;
mod plan;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub use self::child::JoinProgress;
use self::{
    gather::Gatherer,
    join::Join,
    plan::{FilePlan, OutPlan, SpinePlan, output_names},
};
use crate::{
    error::{Error, ErrorKind, Result},
    features::{OnlineStore, Sources, TrainingSetRequest, TrainingSets},
};

/// Views that one training set may have: `ferrocast-historical` takes no more, and says so only after all are gathered.
const VIEWS_MAX: usize = 64;

/// How training sets are made.
#[derive(Debug, Clone)]
pub struct TrainingSetOptions {
    /// Where `ferrocast-historical` is; none: beside this program or on the PATH.
    pub program: Option<PathBuf>,
    /// Memory for the rows of one join; more go through files.
    pub memory_bytes_max: u64,
    /// Where files go that do not outlive a join; none: the system's folder for such.
    pub work_dir: Option<PathBuf>,
    /// Joins at once; those beyond are refused.
    pub joins_max: usize,
    /// How long one may take.
    pub timeout: Duration,
}

/// Makes training sets.
pub struct TrainingSetMaker {
    store: Arc<dyn OnlineStore>,
    sources: Arc<dyn Sources>,
    options: TrainingSetOptions,
    permits: Arc<Semaphore>,
}

impl TrainingSetMaker {
    /// A maker over a store and the views' files.
    pub fn new(
        store: Arc<dyn OnlineStore>,
        sources: Arc<dyn Sources>,
        options: TrainingSetOptions,
    ) -> TrainingSetMaker {
        TrainingSetMaker {
            store,
            sources,
            permits: Arc::new(Semaphore::new(options.joins_max)),
            options,
        }
    }

    /// Joins a spine in a Parquet file into another Parquet file, which appears when it is whole. It ends early, and
    /// leaves nothing behind, where it is told to stop.
    ///
    /// # Errors
    /// As `TrainingSets::stream`; `FailedPrecondition` where the file cannot be written, or after a stop.
    pub async fn write(
        &self,
        request: &TrainingSetRequest,
        spine: &Path,
        out: &Path,
        stop: CancellationToken,
        progress: impl Fn(&JoinProgress) + Send + 'static,
    ) -> Result<()> {
        let out = OutPlan::File {
            path: out.to_owned(),
        };
        let spine = FilePlan::new(spine, spine.display().to_string());
        let join = self.join(request, self.work_dir()?, spine, out, &stop)?;
        join.run(self.options.timeout, progress).await
    }

    /// Checks what can be checked before anything is read.
    fn join(
        &self,
        request: &TrainingSetRequest,
        work: TempDir,
        spine: FilePlan,
        out: OutPlan,
        stop: &CancellationToken,
    ) -> Result<Join> {
        let selection = &request.selection;
        let views = selection.views.len();
        if views > VIEWS_MAX {
            let fault = format!(
                "of {views} views; a training set has features of {VIEWS_MAX} views at the most"
            );
            return Err(Error::invalid("features", fault));
        }
        Ok(Join {
            program: child::find(self.options.program.as_deref())?,
            columns: output_names(selection, request.full_feature_names)?,
            request: request.clone(),
            spine: SpinePlan {
                file: spine,
                timestamp_field: request.timestamp_field.clone(),
            },
            out,
            gatherer: Gatherer {
                store: Arc::clone(&self.store),
                sources: Arc::clone(&self.sources),
                // The end of the join is not the end of whatever else the caller stops by it.
                stop: stop.child_token(),
            },
            work,
            memory_bytes_max: self.options.memory_bytes_max,
            sink: None,
            permit: None,
        })
    }

    fn work_dir(&self) -> Result<TempDir> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("ferrocast-historical-");
        let made = match &self.options.work_dir {
            Some(folder) => builder.tempdir_in(folder),
            None => builder.tempdir(),
        };
        made.map_err(|fault| {
            // The fault itself names the folder, which is nothing for a caller from the network.
            let kind = fault.kind();
            Error::failed_precondition(format!(
                "no folder for the files of a join can be made (historical.work_dir): {kind}"
            ))
            .with_source(fault)
        })
    }
}

fn stopped() -> Error {
    Error::failed_precondition("the join was told to stop; nothing was written")
}

#[async_trait]
impl TrainingSets for TrainingSetMaker {
    async fn stream(
        &self,
        request: &TrainingSetRequest,
        spine: Bytes,
        sink: mpsc::Sender<Bytes>,
        stop: CancellationToken,
    ) -> Result<()> {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return Err(Error::new(
                ErrorKind::Overloaded,
                format!(
                    "{} training sets are being made, and no more at once (historical.joins_max)",
                    self.options.joins_max
                ),
            ));
        };
        let work = self.work_dir()?;
        let folder = work.path().display().to_string();
        let path = work.path().join("spine.parquet");
        let out = OutPlan::Stream { arrow_stream: true };
        let shown = FilePlan::new(&path, "spine".to_owned());
        let mut join = self.join(request, work, shown, out, &stop)?;
        tokio::fs::write(&path, &spine).await.map_err(|fault| {
            Error::failed_precondition(format!("the spine cannot be written down: {fault}"))
                .with_source(fault)
        })?;
        join.sink = Some(sink.downgrade());
        join.permit = Some(permit);
        let joined = join.run(self.options.timeout, |_| {}).await;
        drop(sink);
        // The caller knows no folder of ours.
        joined.map_err(|fault| fault.renamed(&folder, "historical.work_dir"))
    }
}
