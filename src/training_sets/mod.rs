//! Training sets: gathers the history of the asked features, and has `ferrocast-historical` join it to a spine.
//!
//! The join is a program of its own, because its engine is larger than the server and its memory is not the server's.
//! This side decides what history there is: a view's Parquet files as they are, its CSV files and its own history table
//! as Parquet files made for the join. `app` puts it together; `cli` and, behind `TrainingSets`, `grpc` call.

mod child;
mod export;
mod plan;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;
use tokio::{
    sync::{Semaphore, mpsc},
    task,
};

pub use self::child::JoinProgress;
use self::{
    export::RowFile,
    plan::{FilePlan, HistoryPlan, JoinPlan, OutPlan, SpinePlan, ViewPlan, output_names},
};
use crate::{
    catalog::FeatureView,
    error::{Error, ErrorKind, Result},
    features::{
        OnlineStore, Scan, SourceFile, Sources, Timestamp, TrainingSetRequest, TrainingSets,
        ViewSource, WriteRow,
    },
};

/// Batches of a view's history that may wait to be written down.
const BATCHES_WAITING_MAX: usize = 4;

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
    permits: Semaphore,
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
            permits: Semaphore::new(options.joins_max),
            options,
        }
    }

    /// Joins a spine in a Parquet file into another Parquet file, which appears when it is whole.
    ///
    /// # Errors
    /// As `TrainingSets::stream`; `FailedPrecondition` where the file cannot be written.
    pub async fn write(
        &self,
        request: &TrainingSetRequest,
        spine: &Path,
        out: &Path,
        progress: impl Fn(&JoinProgress) + Send,
    ) -> Result<()> {
        let work = self.work_dir()?;
        let out = OutPlan::File {
            path: out.to_owned(),
        };
        let spine = FilePlan::new(spine, spine.display().to_string());
        self.join(request, spine, out, &work, None, progress).await
    }

    async fn join(
        &self,
        request: &TrainingSetRequest,
        spine: FilePlan,
        out: OutPlan,
        work: &TempDir,
        sink: Option<mpsc::Sender<Bytes>>,
        progress: impl Fn(&JoinProgress) + Send,
    ) -> Result<()> {
        let program = child::find(self.options.program.as_deref())?;
        let outputs = output_names(&request.selection, request.full_feature_names)?;
        let done = async {
            let mut views = Vec::with_capacity(request.selection.views.len());
            for selected in &request.selection.views {
                let history = self.history(&selected.view, work.path()).await?;
                views.push(ViewPlan::new(
                    &request.selection,
                    selected,
                    &outputs,
                    history,
                )?);
            }
            let plan = JoinPlan {
                spine: SpinePlan {
                    file: spine,
                    timestamp_field: request.timestamp_field.clone(),
                },
                views,
                columns: outputs,
                out,
                memory_bytes_max: self.options.memory_bytes_max,
                work_dir: work.path().to_owned(),
            };
            child::run(&program, &plan, sink, progress).await
        };
        let limit = self.options.timeout;
        tokio::time::timeout(limit, done).await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "the join took longer than {} ms (historical.join_ms_max)",
                    limit.as_millis()
                ),
            ))
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

    /// Where the rows of a view of all times are.
    async fn history(&self, view: &Arc<FeatureView>, work: &Path) -> Result<Vec<HistoryPlan>> {
        let mut found = Vec::new();
        if view
            .source
            .as_ref()
            .is_some_and(|source| source.path().is_some())
        {
            found.extend(self.files(view, work).await?);
        }
        if view.history {
            let path = work.join(format!("{}.history.parquet", view.name));
            self.export(view, &path).await?;
            found.push(HistoryPlan::exported(view, &path));
        }
        if found.is_empty() {
            return Err(Error::failed_precondition(format!(
                "the feature view \"{}\" has no history: it has no Parquet or CSV source, and keeps none (history = true)",
                view.name
            )));
        }
        Ok(found)
    }

    /// The files of a view's source; what is not Parquet becomes it.
    async fn files(&self, view: &Arc<FeatureView>, work: &Path) -> Result<Vec<HistoryPlan>> {
        let (sources, view, work) = (Arc::clone(&self.sources), Arc::clone(view), work.to_owned());
        let found = task::spawn_blocking(move || {
            let ViewSource::Files(files) = sources.find(&view)? else {
                return Ok(Vec::new());
            };
            let (parquet, others): (Vec<_>, Vec<_>) =
                files.into_iter().partition(|file| is_parquet(&file.path));
            let mut found = Vec::new();
            if !parquet.is_empty() {
                found.push(HistoryPlan::of_source(&view, &parquet));
            }
            for (number, file) in others.iter().enumerate() {
                let path = work.join(format!("{}.{number}.parquet", view.name));
                convert(sources.as_ref(), &view, file, &path)?;
                found.push(HistoryPlan::converted(file, &path));
            }
            Ok(found)
        });
        found
            .await
            .map_err(|fault| Error::internal("reading a source failed").with_source(fault))?
    }

    /// Writes a view's own history down.
    async fn export(&self, view: &Arc<FeatureView>, path: &Path) -> Result<()> {
        let (sink, mut batches) = mpsc::channel::<Vec<WriteRow>>(BATCHES_WAITING_MAX);
        let (owned, path) = (Arc::clone(view), path.to_owned());
        let writing = task::spawn_blocking(move || {
            let mut file = RowFile::create(&path, &owned)?;
            while let Some(rows) = batches.blocking_recv() {
                file.write(&rows)?;
            }
            file.finish()
        });
        let scan = Scan {
            history: true,
            since: None,
        };
        // A writer that fails ends the scan, and has the reason.
        let scanned = self.store.scan(view, scan, sink).await;
        writing.await.map_err(|fault| {
            Error::internal("writing a history down failed").with_source(fault)
        })??;
        scanned
    }
}

fn is_parquet(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

fn convert(
    sources: &dyn Sources,
    view: &FeatureView,
    file: &SourceFile,
    path: &Path,
) -> Result<()> {
    let mut source = sources.open(file, view, Timestamp::EPOCH)?;
    let mut written = RowFile::create(path, view)?;
    while let Some(rows) = source.next_batch()? {
        written.write(&rows)?;
    }
    written.finish()
}

#[async_trait]
impl TrainingSets for TrainingSetMaker {
    async fn stream(
        &self,
        request: &TrainingSetRequest,
        spine: Bytes,
        sink: mpsc::Sender<Bytes>,
    ) -> Result<()> {
        let Ok(_permit) = self.permits.try_acquire() else {
            return Err(Error::new(
                ErrorKind::Overloaded,
                format!(
                    "{} training sets are being made, and no more at once (historical.joins_max)",
                    self.options.joins_max
                ),
            ));
        };
        let work = self.work_dir()?;
        let path = work.path().join("spine.parquet");
        tokio::fs::write(&path, &spine).await.map_err(|fault| {
            Error::failed_precondition(format!("the spine cannot be written down: {fault}"))
                .with_source(fault)
        })?;
        let out = OutPlan::Stream { arrow_stream: true };
        let folder = work.path().display().to_string();
        let shown = FilePlan::new(&path, "spine".to_owned());
        let joined = self
            .join(request, shown, out, &work, Some(sink), |_| {})
            .await;
        // The caller knows no folder of ours.
        joined.map_err(|fault| fault.renamed(&folder, "historical.work_dir"))
    }
}
