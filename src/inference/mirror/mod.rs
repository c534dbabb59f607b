//! Versions of models that come from elsewhere, a registry or an object store, kept on disk: what was fetched last answers
//! while its source is away.
//!
//! Knows nothing of MLflow or S3: `artifacts` implements `VersionSource`. `Repository` loads what is here, `Lifecycle` asks
//! the sources again and again.

mod copy;
mod fetch;
mod schedule;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::{sync::Notify, task, time};

pub use self::copy::{CopyStatus, ModelCopy};
pub(super) use self::state::HeldVersion;
use crate::error::{Error, Result};

/// The bytes of a file, as they come.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// Models whose sources are asked at once.
const SYNCS_AT_ONCE: usize = 4;

/// A version that a source has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedVersion {
    /// Its number.
    pub number: u64,
    /// Another one where its files are others.
    pub fingerprint: String,
    /// Where its files are, as the source says; or why they cannot be had.
    pub place: Result<String, String>,
}

/// What a source has of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offer {
    /// The versions that are to be held.
    pub versions: Vec<OfferedVersion>,
    /// Alias to version; none: the source knows no aliases, and does not own them.
    pub aliases: Option<BTreeMap<String, u64>>,
    /// The alias that answers where a request names no version.
    pub default_alias: Option<String>,
    /// Whether the source numbers versions itself, whatever their trainer called them.
    pub has_own_numbers: bool,
    /// Whether what is not in it has gone, unless something here means it.
    pub is_whole: bool,
    /// What was left out of this, and why.
    pub remark: Option<String>,
}

/// Where the versions of one model come from.
#[async_trait]
pub trait VersionSource: Send + Sync {
    /// What there is: those that the source itself means, or the newest; and those that are meant here.
    ///
    /// # Errors
    /// `Unavailable` where the source is away or answers what makes no sense; `NotFound` where it has no such model;
    /// `FailedPrecondition` where it must not be asked.
    async fn offer(&self, wanted: &Wanted) -> Result<Offer>;

    /// Opens a file of a version.
    ///
    /// # Errors
    /// As `offer`; `NotFound` where the version has no such file.
    async fn open(&self, version: &OfferedVersion, file: &str) -> Result<ByteStream>;
}

/// Opens sources by what model.toml says, as `s3://bucket/models/credit_risk`.
pub trait VersionSources: Send + Sync {
    /// The source of a location; nothing is asked yet.
    ///
    /// # Errors
    /// `FailedPrecondition` for a location that makes no sense, or that the settings do not allow.
    fn at(&self, location: &str) -> Result<Arc<dyn VersionSource>>;
}

/// A model whose versions come from a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The model.
    pub model: String,
    /// Where from.
    pub location: String,
    /// Versions that an alias, the default or the traffic means.
    pub meant: BTreeSet<u64>,
    /// How many are held.
    pub versions_max: usize,
}

/// How much is fetched and held, and how often sources are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorOptions {
    /// Where it is held.
    pub folder: PathBuf,
    /// Between two looks at a source.
    pub poll_interval: Duration,
    /// How long a look, or the fetch of one version, may take.
    pub fetch_max: Duration,
    /// The largest file, in bytes.
    pub file_bytes_max: u64,
    /// The largest version, in bytes.
    pub version_bytes_max: u64,
    /// Versions of one model; those that an alias means are held in any case.
    pub versions_max: usize,
}

/// What was fetched, by model.
pub struct Mirror {
    options: MirrorOptions,
    sources: Arc<dyn VersionSources>,
    copies: Mutex<BTreeMap<String, Arc<ModelCopy>>>,
    /// Counts what has become other.
    revision: AtomicU64,
    wake: Notify,
}

impl Mirror {
    /// Over a folder, which is made when there is something to hold.
    pub fn new(options: MirrorOptions, sources: Arc<dyn VersionSources>) -> Mirror {
        Mirror {
            options,
            sources,
            copies: Mutex::default(),
            revision: AtomicU64::new(0),
            wake: Notify::new(),
        }
    }

    /// How many versions of one model are held.
    pub(super) fn versions_max(&self) -> usize {
        self.options.versions_max
    }

    /// Counts what has become other: the same number means the same versions, aliases and faults.
    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// What is held of a model from a location; at first what the disk has. One that was not known is asked for soon.
    pub(super) fn copy(&self, model: &str, location: &str) -> Arc<ModelCopy> {
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = copies
            .get(model)
            .filter(|known| known.location() == location)
        {
            return Arc::clone(known);
        }
        let copy = Arc::new(ModelCopy::read(&self.options.folder, model, location));
        copies.insert(model.to_owned(), Arc::clone(&copy));
        self.wake.notify_one();
        copy
    }

    /// Has every source asked at once that `is_meant` says by its location; says how many.
    pub fn ask_now(&self, is_meant: impl Fn(&str) -> bool) -> usize {
        let copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        let meant = copies.values().filter(|copy| is_meant(copy.location()));
        let count = meant.map(|copy| copy.schedule().make_due()).count();
        drop(copies);
        if count > 0 {
            self.wake.notify_one();
        }
        count
    }

    /// Asks the sources whose time has come, some at once, of all those that are wanted.
    pub(super) async fn sync_due(self: &Arc<Mirror>, wanted: Vec<Wanted>) {
        self.forget_others(&wanted);
        let due = wanted.into_iter().filter(|wanted| {
            let copy = self.copy(&wanted.model, &wanted.location);
            copy.schedule().is_due(Instant::now())
        });
        self.sync_all(due.collect()).await;
    }

    /// What nobody wants any more is never due again.
    fn forget_others(&self, wanted: &[Wanted]) {
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        copies.retain(|model, _| wanted.iter().any(|wanted| wanted.model == *model));
    }

    /// Asks sources now. What has begun goes on where the caller does not wait for its end.
    pub async fn sync_all(self: &Arc<Mirror>, wanted: Vec<Wanted>) {
        use futures_util::StreamExt as _;
        let syncs = wanted.into_iter().map(|wanted| {
            let mirror = Arc::clone(self);
            async move {
                let begun = task::spawn(async move { mirror.sync(&wanted).await });
                if let Err(fault) = begun.await {
                    tracing::error!(%fault, "asking a model's source broke off");
                }
            }
        });
        let at_once = futures_util::stream::iter(syncs).buffer_unordered(SYNCS_AT_ONCE);
        at_once.for_each(|()| std::future::ready(())).await;
    }

    /// As `sync_all`; what was put off after a failure is tried, too.
    pub(super) async fn sync_now(self: &Arc<Mirror>, wanted: Vec<Wanted>) {
        for wanted in &wanted {
            self.copy(&wanted.model, &wanted.location)
                .schedule()
                .make_due();
        }
        self.sync_all(wanted).await;
    }

    async fn sync(&self, wanted: &Wanted) {
        let copy = self.copy(&wanted.model, &wanted.location);
        if copy
            .sync(self.sources.as_ref(), &self.options, wanted)
            .await
        {
            self.revision.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Waits until a source is to be asked: its time has come, or somebody wants it now.
    pub(super) async fn wait_until_due(&self) {
        // Models that come meanwhile wake this.
        let _ = time::timeout(self.wait(), self.wake.notified()).await;
    }

    fn wait(&self) -> Duration {
        let now = Instant::now();
        let copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = copies.values().map(|copy| copy.schedule().wait(now));
        waits.min().unwrap_or(self.options.poll_interval)
    }
}

/// A bound on what a source does.
async fn within<T>(
    bound: Duration,
    what: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    match time::timeout(bound, work).await {
        Ok(done) => done,
        Err(_) => Err(Error::unavailable(format!(
            "{what} took longer than {} ms (artifacts.fetch_ms_max)",
            bound.as_millis()
        ))),
    }
}
