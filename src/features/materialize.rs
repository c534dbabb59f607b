//! Materialization: views from their sources into the store, file by file, each all of it or nothing.
//!
//! The one mechanism behind the command and the rpc. `sources` implements `Sources` and `RowSource`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use sha2::Digest;
use tokio::{sync::mpsc, task};
use tokio_util::sync::CancellationToken;

use super::{
    LoadInput, Materialization, MaterializationRecord, OnlineStore, Timestamp, WriteCounts,
    WriteRow,
    digest::{definition_digest, partly_loaded},
    store::watermark,
};
use crate::{
    catalog::{Catalog, FeatureView},
    error::{Error, Result},
};

/// Rows that a source hands over at once, at the most.
pub const ROW_BATCH_ROWS: usize = 4_096;

/// What the record of materializations calls a SQL query.
pub const QUERY_SOURCE: &str = "query";

/// Batches that may wait for the store; reading stops when they do.
const BATCHES_WAITING_MAX: usize = 4;

/// How often progress is told while a source is read.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// A file that rows come from, opened and its columns checked against the view. Reading blocks.
pub trait RowSource: Send {
    /// How many rows there are, where the format says.
    fn row_count(&self) -> Option<u64>;

    /// The next rows, `ROW_BATCH_ROWS` at the most; none at the end.
    ///
    /// # Errors
    /// `InvalidArgument` that names the file, the row and the column at fault.
    fn next_batch(&mut self) -> Result<Option<Vec<WriteRow>>>;
}

/// A file of a view's source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// As the record of materializations names it: relative to the definitions file.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// As faults name it.
    pub shown: String,
}

/// Where a view's rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewSource {
    /// In files, each of which is loaded in a transaction of its own; sorted by name, at least one.
    Files(Vec<SourceFile>),
    /// In the store's own database, which runs the query of the view's definition.
    Query,
}

/// Finds and opens what rows come from. Everything here blocks.
pub trait Sources: Send + Sync {
    /// Where a view's rows are, as of now.
    ///
    /// # Errors
    /// `FailedPrecondition` for a view without a source, or a file or folder that cannot be read; `NotFound` for one that
    /// is not there; `PermissionDenied` for one that may not be read.
    fn find(&self, view: &FeatureView) -> Result<ViewSource>;

    /// As `find`, of several views, in their order.
    ///
    /// # Errors
    /// As `find`, of the first that has one.
    fn find_all(&self, views: &[Arc<FeatureView>]) -> Result<Vec<ViewSource>> {
        views.iter().map(|view| self.find(view)).collect()
    }

    /// The SHA-256 of a view's definition and a file's content, in hex.
    ///
    /// # Errors
    /// `NotFound` or `FailedPrecondition` where the file cannot be read.
    fn digest(&self, file: &SourceFile, view: &FeatureView) -> Result<String>;

    /// Opens a file and checks its columns against the view. `now` is the creation time of rows whose view names no
    /// column for it.
    ///
    /// # Errors
    /// As `digest`; `InvalidArgument` with every column that is missing or of a type that does not fit.
    fn open(
        &self,
        file: &SourceFile,
        view: &FeatureView,
        now: Timestamp,
    ) -> Result<Box<dyn RowSource>>;
}

/// How much of a source is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MaterializeOptions {
    /// Only rows of the source's watermark, the newest event timestamp that was ever loaded from it, or newer ones. A
    /// source that is new is loaded whole.
    pub incremental: bool,
    /// Loads again what was loaded before.
    pub force: bool,
}

/// What became of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaterializeOutcome {
    /// The same content had been loaded before.
    Unchanged,
    /// It was loaded.
    Loaded(WriteCounts),
}

/// How far the load of one source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadProgress {
    /// The view's name.
    pub view: String,
    /// Whether the view keeps the rows that are older than an entity's newest, too.
    pub keeps_history: bool,
    /// The source's name, as the record of materializations has it.
    pub source: String,
    /// Rows read so far.
    pub rows_read: u64,
    /// Rows that there are, where the source says.
    pub rows_total: Option<u64>,
    /// Set once the source is finished.
    pub done: Option<LoadDone>,
}

/// How the load of one source ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadDone {
    /// What became of it.
    pub outcome: MaterializeOutcome,
    /// The view's watermark: the newest event timestamp that any of its sources ever brought.
    pub watermark: Option<Timestamp>,
}

/// Is told how a load goes on, from the thread that reads: at the beginning, then every 200 ms, and at the end of each
/// source. It must not block.
pub type ProgressSink = Arc<dyn Fn(LoadProgress) + Send + Sync>;

/// A view that is to be loaded, and from where.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    view: Arc<FeatureView>,
    source: ViewSource,
}

/// Loads views from their sources.
#[derive(Clone)]
pub struct Materializer {
    store: Arc<dyn OnlineStore>,
    sources: Arc<dyn Sources>,
}

/// The views that names mean; without any, every view that has a source.
///
/// # Errors
/// `NotFound` for an unknown view; `FailedPrecondition` where there is none to load.
pub fn views_to_load(catalog: &Catalog, names: &[String]) -> Result<Vec<Arc<FeatureView>>> {
    let all = catalog.views.values();
    let views: Vec<Arc<FeatureView>> = if names.is_empty() {
        all.filter(|view| view.source.is_some()).cloned().collect()
    } else {
        let names: BTreeSet<&String> = names.iter().collect();
        let views = names.into_iter().map(|name| catalog.view(name).cloned());
        views.collect::<Result<_>>()?
    };
    if views.is_empty() {
        return Err(Error::failed_precondition(
            "there is nothing to load: no feature view has a source",
        ));
    }
    Ok(views)
}

impl Materializer {
    /// Loads into a store, from sources.
    pub fn new(store: Arc<dyn OnlineStore>, sources: Arc<dyn Sources>) -> Materializer {
        Materializer { store, sources }
    }

    /// Finds the sources of all views, before the first is loaded.
    ///
    /// # Errors
    /// As `Sources::find`; `FailedPrecondition` for a view on somebody else's table.
    pub async fn plan(&self, views: Vec<Arc<FeatureView>>) -> Result<Vec<LoadPlan>> {
        let sources = Arc::clone(&self.sources);
        blocking(move || {
            views.iter().try_for_each(|view| view.check_writable())?;
            let found = sources.find_all(&views)?;
            let plans = views.into_iter().zip(found);
            Ok(plans
                .map(|(view, source)| LoadPlan { view, source })
                .collect())
        })
        .await
    }

    /// Loads what is planned, one source after the other. Where it is dropped, the source under way is not loaded at all;
    /// what was loaded before stays, and a second run goes on from there.
    ///
    /// # Errors
    /// What a source or the store answers; what was loaded before stays.
    pub async fn run(
        &self,
        plans: &[LoadPlan],
        options: MaterializeOptions,
        progress: &ProgressSink,
    ) -> Result<()> {
        for plan in plans {
            let known = self.store.materializations(&plan.view.name).await?;
            let watermark = watermark(&known);
            let known = known
                .into_iter()
                .map(|record| (record.note.source.clone(), record))
                .collect();
            let mut load = ViewLoad {
                materializer: self,
                view: &plan.view,
                options,
                progress,
                known,
                watermark,
            };
            match &plan.source {
                ViewSource::Query => load.query().await?,
                ViewSource::Files(files) => {
                    for file in files {
                        load.file(file).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The load of one view under way.
struct ViewLoad<'a> {
    materializer: &'a Materializer,
    view: &'a Arc<FeatureView>,
    options: MaterializeOptions,
    progress: &'a ProgressSink,
    /// What was loaded before this run, by the source's name.
    known: BTreeMap<String, MaterializationRecord>,
    watermark: Option<Timestamp>,
}

impl ViewLoad<'_> {
    async fn file(&mut self, file: &SourceFile) -> Result<()> {
        let content_digest = self.digest(file).await?;
        let since = self.since(&file.name);
        let digest = match since {
            Some(_) => partly_loaded(&content_digest),
            None => content_digest.clone(),
        };
        let before = self.known.get(&file.name).map(|record| &record.note.digest);
        // Whoever loaded the whole has its newer rows, too.
        let is_unchanged = before.is_some_and(|it| *it == digest || *it == content_digest);
        let told = self.told(&file.name);
        if is_unchanged && !self.options.force {
            (self.progress)(self.finished(told, MaterializeOutcome::Unchanged));
            return Ok(());
        }
        let note = self.note(&file.name, digest);
        let source = self.open(file).await?;
        let (sender, batches) = mpsc::channel(BATCHES_WAITING_MAX);
        // A load that nobody waits for any more must not come to its end: the store undoes what breaks off.
        let cancelled = CancellationToken::new();
        let _guard = cancelled.clone().drop_guard();
        let reader = Reader {
            source,
            since,
            cancelled,
            sink: Arc::clone(self.progress),
            told,
            newest: None,
        };
        let reading = task::spawn_blocking(move || reader.run(&sender));
        let store = &self.materializer.store;
        let loaded = store.load(self.view, LoadInput::Rows(batches), &note).await;
        let counts = loaded?;
        let (told, newest) = reading
            .await
            .map_err(|fault| Error::internal("reading a source failed").with_source(fault))?;
        self.watermark = self.watermark.max(newest);
        (self.progress)(self.finished(told, MaterializeOutcome::Loaded(counts)));
        Ok(())
    }

    /// A query is always run: nobody knows whether what it reads has changed.
    async fn query(&mut self) -> Result<()> {
        let digest = hex::encode(definition_digest(self.view)?.finalize());
        let note = self.note(QUERY_SOURCE, digest);
        let told = self.told(QUERY_SOURCE);
        (self.progress)(told.clone());
        let since = self.since(QUERY_SOURCE);
        let store = &self.materializer.store;
        let input = LoadInput::Query { since };
        let counts = store.load(self.view, input, &note).await?;
        let known = store.materializations(&self.view.name).await?;
        self.watermark = watermark(&known);
        let told = LoadProgress {
            rows_read: counts.written + counts.late,
            ..told
        };
        (self.progress)(self.finished(told, MaterializeOutcome::Loaded(counts)));
        Ok(())
    }

    /// Each source goes on from its own watermark: that of the view may come from a file that was loaded just before this
    /// one, in this run or in one that broke off.
    fn since(&self, source: &str) -> Option<Timestamp> {
        let record = self.known.get(source).filter(|_| self.options.incremental);
        record.and_then(|record| record.watermark)
    }

    fn note(&self, source: &str, digest: String) -> Materialization {
        Materialization {
            view: self.view.name.clone(),
            source: source.to_owned(),
            digest,
        }
    }

    fn told(&self, source: &str) -> LoadProgress {
        LoadProgress {
            view: self.view.name.clone(),
            keeps_history: self.view.history,
            source: source.to_owned(),
            rows_read: 0,
            rows_total: None,
            done: None,
        }
    }

    fn finished(&self, told: LoadProgress, outcome: MaterializeOutcome) -> LoadProgress {
        let watermark = self.watermark;
        LoadProgress {
            done: Some(LoadDone { outcome, watermark }),
            ..told
        }
    }

    async fn digest(&self, file: &SourceFile) -> Result<String> {
        let sources = Arc::clone(&self.materializer.sources);
        let (file, view) = (file.clone(), Arc::clone(self.view));
        blocking(move || sources.digest(&file, &view)).await
    }

    async fn open(&self, file: &SourceFile) -> Result<Box<dyn RowSource>> {
        let sources = Arc::clone(&self.materializer.sources);
        let (file, view) = (file.clone(), Arc::clone(self.view));
        blocking(move || sources.open(&file, &view, Timestamp::now())).await
    }
}

/// Reads a source to its end, on a thread of its own.
struct Reader {
    source: Box<dyn RowSource>,
    since: Option<Timestamp>,
    cancelled: CancellationToken,
    sink: ProgressSink,
    told: LoadProgress,
    newest: Option<Timestamp>,
}

impl Reader {
    /// Returns what was read, and the newest event timestamp in it.
    fn run(
        mut self,
        sender: &mpsc::Sender<Option<Result<Vec<WriteRow>>>>,
    ) -> (LoadProgress, Option<Timestamp>) {
        self.told.rows_total = self.source.row_count();
        (self.sink)(self.told.clone());
        let mut told_at = Instant::now();
        loop {
            let message = self.next_batch().transpose();
            let is_last = !matches!(message, Some(Ok(_)));
            let is_empty = matches!(&message, Some(Ok(rows)) if rows.is_empty());
            // A closed channel means that the store has given up and will say why.
            let is_over = self.cancelled.is_cancelled()
                || (!is_empty && sender.blocking_send(message).is_err());
            if is_over || is_last {
                return (self.told, self.newest);
            }
            if told_at.elapsed() >= PROGRESS_INTERVAL {
                (self.sink)(self.told.clone());
                told_at = Instant::now();
            }
        }
    }

    fn next_batch(&mut self) -> Result<Option<Vec<WriteRow>>> {
        let Some(mut rows) = self.source.next_batch()? else {
            return Ok(None);
        };
        self.told.rows_read += u64::try_from(rows.len()).unwrap_or(u64::MAX);
        if let Some(since) = self.since {
            rows.retain(|row| row.row.event_timestamp >= since);
        }
        let newest = rows.iter().map(|row| row.row.event_timestamp).max();
        self.newest = self.newest.max(newest);
        Ok(Some(rows))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    task::spawn_blocking(work)
        .await
        .map_err(|fault| Error::internal("reading a source failed").with_source(fault))?
}
