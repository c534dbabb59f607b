//! Gathers the rows of a view of all times, as Parquet files that the join reads.

use std::{path::Path, sync::Arc};

use tokio::{sync::mpsc, task};
use tokio_util::sync::CancellationToken;

use super::{export::RowFile, plan::HistoryPlan, stopped};
use crate::{
    catalog::FeatureView,
    error::{Error, Result},
    features::{OnlineStore, Scan, SourceFile, Sources, Timestamp, ViewSource, WriteRow},
};

/// Batches of a view's history that may wait to be written down.
const BATCHES_WAITING_MAX: usize = 4;

/// Where rows come from.
pub(super) struct Gatherer {
    pub(super) store: Arc<dyn OnlineStore>,
    pub(super) sources: Arc<dyn Sources>,
    /// Ends the gathering early. What runs on a thread of its own ends with it.
    pub(super) stop: CancellationToken,
}

impl Gatherer {
    /// Where the rows of a view of all times are, in the order in which the first of equally new ones is the one that is
    /// served.
    ///
    /// # Errors
    /// `FailedPrecondition` for a view without history, where the work folder takes no more, or after a stop; what a
    /// source or the store answers.
    pub(super) async fn history(
        &self,
        view: &Arc<FeatureView>,
        work: &Path,
    ) -> Result<Vec<HistoryPlan>> {
        let mut found = Vec::new();
        let is_file = |view: &FeatureView| Some(view.source.as_ref()?.path().is_some());
        if is_file(view) == Some(true) {
            found = self.files(view, work).await?;
        }
        if view.history {
            let path = work.join(format!("{}.history.parquet", view.name));
            self.export(view, &path).await?;
            // A row that a file says otherwise meanwhile, with the same times, does not replace what was loaded.
            found.insert(0, HistoryPlan::exported(view, &path));
        }
        if found.is_empty() {
            return Err(Error::failed_precondition(format!(
                "the feature view \"{}\" has no history: it has no Parquet or CSV source, and keeps none (history = true)",
                view.name
            )));
        }
        Ok(found)
    }

    /// The files of a view's source, in the order in which they are loaded.
    async fn files(&self, view: &Arc<FeatureView>, work: &Path) -> Result<Vec<HistoryPlan>> {
        let (sources, stop) = (Arc::clone(&self.sources), self.stop.clone());
        let (view, work) = (Arc::clone(view), work.to_owned());
        let found = task::spawn_blocking(move || files(sources.as_ref(), &view, &work, &stop));
        found
            .await
            .map_err(|fault| Error::internal("reading a source failed").with_source(fault))?
    }

    /// Writes a view's own history down.
    async fn export(&self, view: &Arc<FeatureView>, path: &Path) -> Result<()> {
        let (sink, mut batches) = mpsc::channel::<Vec<WriteRow>>(BATCHES_WAITING_MAX);
        let (owned, path, stop) = (Arc::clone(view), path.to_owned(), self.stop.clone());
        let writing = task::spawn_blocking(move || {
            let mut file = RowFile::create(&path, &owned)?;
            while let Some(rows) = batches.blocking_recv() {
                // With the receiver goes a scan that runs on a thread of the store's.
                if stop.is_cancelled() {
                    return Err(stopped());
                }
                file.write(&rows)?;
            }
            file.finish()
        });
        let scan = Scan {
            history: true,
            since: None,
        };
        // A writer that fails ends the scan, and has the reason.
        let scanned = tokio::select! {
            scanned = self.store.scan(view, scan, sink) => scanned,
            () = self.stop.cancelled() => Err(stopped()),
        };
        writing.await.map_err(|fault| {
            Error::internal("writing a history down failed").with_source(fault)
        })??;
        scanned
    }
}

/// Parquet files as they are; what is none becomes one.
fn files(
    sources: &dyn Sources,
    view: &FeatureView,
    work: &Path,
    stop: &CancellationToken,
) -> Result<Vec<HistoryPlan>> {
    let ViewSource::Files(files) = sources.find(view)? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let groups = files.chunk_by(|one, next| is_parquet(one) && is_parquet(next));
    for (number, group) in groups.enumerate() {
        match group {
            [file] if !is_parquet(file) => {
                let path = work.join(format!("{}.{number}.parquet", view.name));
                convert(sources, view, file, &path, stop)?;
                found.push(HistoryPlan::converted(view, file, &path));
            }
            parquet => found.push(HistoryPlan::of_source(view, parquet)),
        }
    }
    Ok(found)
}

/// By the name, as a load does: a link may lead to a file of any name.
fn is_parquet(file: &SourceFile) -> bool {
    Path::new(&file.shown)
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

fn convert(
    sources: &dyn Sources,
    view: &FeatureView,
    file: &SourceFile,
    path: &Path,
    stop: &CancellationToken,
) -> Result<()> {
    let mut source = sources.open(file, view, Timestamp::EPOCH)?;
    let mut written = RowFile::create(path, view)?;
    while let Some(rows) = source.next_batch()? {
        if stop.is_cancelled() {
            return Err(stopped());
        }
        written.write(&rows)?;
    }
    written.finish()
}
