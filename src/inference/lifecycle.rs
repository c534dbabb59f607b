//! What happens to models while the server runs: files change, definitions change, people release.
//!
//! Loads go one after the other, and take as long as they take. What is released takes effect at once, beside a load: both
//! publish the models, one at a time, with what is released last.

use std::{
    sync::{Arc, Mutex as SyncMutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task, time,
};

use super::{
    Author, Known, Look, Model, ModelRegistry, Models, Release, ReleaseChange, ReleaseEvent,
    ReleaseStore, Releases, Repository, VersionState, Wanted, announce::log_changes,
    release::change_release, targets::released,
};
use crate::memory;
use crate::{
    catalog::CatalogHandle,
    error::{Error, Result},
};

/// What the models were last loaded from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Seen {
    look: Look,
    catalog_revision: i64,
    mirror_revision: u64,
}

#[derive(Default)]
struct Loading {
    loaded: Seen,
    /// How the files looked when they were last looked at: a copy that is under way changes them from look to look.
    look: Look,
}

/// What is released, as it was last published.
#[derive(Default)]
struct Published {
    revision: i64,
    releases: Arc<Releases>,
}

/// Loads models, and changes what is released of them. Cheap to clone.
#[derive(Clone)]
pub struct Lifecycle {
    repository: Arc<Repository>,
    models: Arc<ModelRegistry>,
    catalog: Arc<CatalogHandle>,
    releases: Arc<dyn ReleaseStore>,
    loading: Arc<Mutex<Loading>>,
    published: Arc<Mutex<Published>>,
    /// When what was counted of drift was last turned over; none: not yet.
    drift_turned: Arc<SyncMutex<Option<Instant>>>,
}

impl Lifecycle {
    /// Over a repository; nothing is loaded yet.
    pub fn new(
        repository: Repository,
        models: Arc<ModelRegistry>,
        catalog: Arc<CatalogHandle>,
        releases: Arc<dyn ReleaseStore>,
    ) -> Lifecycle {
        Lifecycle {
            repository: Arc::new(repository),
            models,
            catalog,
            releases,
            loading: Arc::default(),
            published: Arc::default(),
            drift_turned: Arc::default(),
        }
    }

    /// Loads what is there now, files that are being copied among it.
    ///
    /// # Errors
    /// As `Repository::load`; `Unavailable` where the database is away.
    pub async fn load(&self) -> Result<()> {
        self.load_again(None).await
    }

    /// Loads what is there; of a model, what was refused is checked again. Whoever asks cannot break it off: the next load
    /// waits for its end.
    async fn load_again(&self, again: Option<&str>) -> Result<()> {
        let (lifecycle, again) = (self.clone(), again.map(str::to_owned));
        let loading = Arc::clone(&self.loading).lock_owned().await;
        let load = tokio::spawn(async move {
            let seen = lifecycle.look().await?;
            lifecycle.load_seen(loading, seen, again).await
        });
        load.await
            .map_err(|fault| Error::internal("loading the models failed").with_source(fault))?
    }

    /// Loads what has changed: definitions at once, files as soon as they have stopped changing. To be called again and
    /// again; passes where a load is under way.
    ///
    /// # Errors
    /// As `load`.
    pub async fn follow_files(&self) -> Result<()> {
        self.turn_drift();
        let Ok(mut loading) = Arc::clone(&self.loading).try_lock_owned() else {
            return Ok(());
        };
        let seen = self.look().await?;
        let is_settled = seen.look == loading.look;
        loading.look.clone_from(&seen.look);
        let loaded = &loading.loaded;
        let is_other = seen.catalog_revision != loaded.catalog_revision
            || seen.mirror_revision != loaded.mirror_revision
            || (is_settled && seen.look != loaded.look);
        if is_other || self.is_load_wanted().await {
            self.load_seen(loading, seen, None).await?;
        }
        Ok(())
    }

    /// Asks the sources whose time has come, and loads what is new in them. To be called again and again, after each
    /// `wait_for_sources`.
    ///
    /// # Errors
    /// As `load`. A source that is away is no error: what was fetched goes on, and `ModelSource` says so.
    pub async fn follow_sources(&self) -> Result<()> {
        let wanted = self.wanted().await?;
        self.repository.mirror.sync_due(wanted).await;
        let loading = Arc::clone(&self.loading).lock_owned().await;
        if self.repository.mirror.revision() == loading.loaded.mirror_revision {
            return Ok(());
        }
        // Files of the repository that have changed, too, are left to `follow_files`, which waits until they have settled.
        let seen = Seen {
            look: loading.loaded.look.clone(),
            ..self.look().await?
        };
        self.load_seen(loading, seen, None).await
    }

    /// Waits until a source is to be asked.
    pub async fn wait_for_sources(&self) {
        self.repository.mirror.wait_until_due().await;
    }

    /// Has the sources asked soon whose locations are meant; says how many.
    pub fn ask_soon(&self, is_meant: impl Fn(&str) -> bool) -> usize {
        self.repository.mirror.ask_now(is_meant)
    }

    /// Asks every source now, before the first load; who takes longer is not waited for.
    ///
    /// # Errors
    /// As `Repository::load`.
    pub async fn ask_sources(&self, wait_max: Duration) -> Result<()> {
        let wanted = self.wanted().await?;
        let mirror = &self.repository.mirror;
        let _ = time::timeout(wait_max, mirror.sync_all(wanted)).await;
        Ok(())
    }

    /// Asks the source of one model, where it has one, whatever failed before.
    async fn ask_source_of(&self, name: &str) -> Result<()> {
        let mut wanted = self.wanted().await?;
        wanted.retain(|wanted| wanted.model == name);
        self.repository.mirror.sync_now(wanted).await;
        Ok(())
    }

    async fn wanted(&self) -> Result<Vec<Wanted>> {
        let (repository, models) = (Arc::clone(&self.repository), self.models.snapshot());
        let wanted = task::spawn_blocking(move || repository.wanted(&models));
        wanted
            .await
            .map_err(|fault| Error::internal("reading the models failed").with_source(fault))?
    }

    /// Lets what was released on other servers take effect. To be called again and again.
    ///
    /// # Errors
    /// `Unavailable` where the database is away.
    pub async fn follow_releases(&self) -> Result<()> {
        let mut published = self.published.lock().await;
        let revision = self.releases.releases_revision().await?;
        if revision != published.revision {
            published.releases = Arc::new(self.releases.releases().await?);
            published.revision = revision;
            self.publish(&self.models.snapshot(), &published.releases);
        }
        Ok(())
    }

    /// Changes what is released of a model, here at once, on other servers of the database soon after.
    ///
    /// # Errors
    /// `NotFound` for an unknown model or version; `InvalidArgument` for an alias that is no name; `FailedPrecondition` for
    /// a version that is not ready, that cannot be unloaded because it is meant, or a rollback that leads nowhere;
    /// `Conflict` where an expectation does not hold; `Unavailable` where the database is away.
    pub async fn change(
        &self,
        name: &str,
        change: ReleaseChange,
        author: &Author,
    ) -> Result<Arc<Model>> {
        let model = self.models.model(name)?;
        let release = change_release(self.releases.as_ref(), &model, &change, author).await?;
        let changed = Arc::new(released(&model, &release));
        self.publish_release(name, release).await;
        // One whose folder is gone goes with its last version.
        Ok(self.models.model(name).unwrap_or(changed))
    }

    /// Loads a version, or all where none is named: without waiting until its files are seen or its source is asked, and
    /// again where it was unloaded or refused.
    ///
    /// # Errors
    /// `NotFound` for an unknown model or version; `FailedPrecondition` where a check refuses it, or model.toml;
    /// `Unavailable` where the database is away.
    pub async fn load_versions(
        &self,
        name: &str,
        version: &str,
        author: &Author,
    ) -> Result<Arc<Model>> {
        self.ask_source_of(name).await?;
        self.load_again(Some(name)).await?;
        let model = self.models.model(name)?;
        let versions = versions_of(&model, version)?;
        if versions.iter().any(|version| is_unloaded(&model, version)) {
            let change = ReleaseChange::Load {
                versions: versions.clone(),
            };
            self.change(name, change, author).await?;
            self.load_again(None).await?;
        }
        let model = self.models.model(name)?;
        check_loaded(&model, &versions)?;
        Ok(model)
    }

    /// Unloads a version, or all where none is named, on every server, until it is loaded again.
    ///
    /// # Errors
    /// As `change`.
    pub async fn unload_versions(
        &self,
        name: &str,
        version: &str,
        author: &Author,
    ) -> Result<Arc<Model>> {
        let model = self.models.model(name)?;
        let versions = versions_of(&model, version)?;
        if versions.iter().all(|version| is_unloaded(&model, version)) {
            return Ok(model);
        }
        let change = ReleaseChange::Unload { versions };
        self.change(name, change, author).await
    }

    /// What was changed of a model's release, the newest first.
    ///
    /// # Errors
    /// `NotFound` for an unknown model; `Unavailable` where the database is away.
    pub async fn events(&self, name: &str, limit: usize) -> Result<Vec<ReleaseEvent>> {
        self.models.model(name)?;
        self.releases.release_events(name, limit).await
    }

    async fn look(&self) -> Result<Seen> {
        let repository = Arc::clone(&self.repository);
        // Before anything is read: what changes meanwhile is seen at the next look.
        let catalog_revision = self.catalog.snapshot().revision;
        let mirror_revision = self.repository.mirror.revision();
        let look = task::spawn_blocking(move || repository.look())
            .await
            .map_err(|fault| {
                Error::internal("looking at the models failed").with_source(fault)
            })??;
        Ok(Seen {
            look,
            catalog_revision,
            mirror_revision,
        })
    }

    /// Loads what was seen, and publishes it with what is released by then.
    async fn load_seen(
        &self,
        mut loading: OwnedMutexGuard<Loading>,
        seen: Seen,
        again: Option<String>,
    ) -> Result<()> {
        self.follow_releases().await?;
        let releases = Arc::clone(&self.published.lock().await.releases);
        let (repository, catalog) = (Arc::clone(&self.repository), self.catalog.snapshot());
        let previous = self.models.snapshot();
        let loaded = task::spawn_blocking(move || {
            let models = repository.load(&Known {
                catalog: &catalog,
                releases: &releases,
                previous: &previous,
                again: again.as_deref(),
            })?;
            log_changes(&previous, &models);
            memory::give_back();
            Ok::<_, Error>(models)
        });
        let models = loaded
            .await
            .map_err(|fault| Error::internal("loading the models failed").with_source(fault))??;
        let published = self.published.lock().await;
        self.publish(&models, &published.releases);
        loading.loaded = seen;
        Ok(())
    }

    /// Lets models answer, with what is released of them. To be called with `published` locked.
    fn publish(&self, models: &Models, releases: &Releases) {
        let nothing = Release::default();
        let models = models.iter().map(|(name, model)| {
            let release = releases.get(name).unwrap_or(&nothing);
            (name.clone(), Arc::new(released(model, release)))
        });
        let models = models.filter(|(_, model)| !model.is_gone || model.is_ready());
        self.models.replace(models.collect());
    }

    /// Lets a release that was just kept take effect, unless a newer one has.
    async fn publish_release(&self, name: &str, release: Release) {
        let mut published = self.published.lock().await;
        let mut releases = Releases::clone(&published.releases);
        let known = releases.get(name).map_or(0, |known| known.revision);
        if known >= release.revision {
            return;
        }
        releases.insert(name.to_owned(), release);
        published.releases = Arc::new(releases);
        self.publish(&self.models.snapshot(), &published.releases);
    }

    /// Whether a version is not loaded that nobody wants unloaded any more.
    async fn is_load_wanted(&self) -> bool {
        let releases = Arc::clone(&self.published.lock().await.releases);
        let models = self.models.snapshot();
        models.values().any(|model| {
            let release = releases.get(&model.name);
            model.versions.iter().any(|version| {
                matches!(version.state, VersionState::Unloaded)
                    && !release.is_some_and(|kept| kept.unloaded.contains(&version.version))
            })
        })
    }

    /// Lets what was counted of drift grow old: half of it is forgotten each half of the window.
    fn turn_drift(&self) {
        let turned = self.drift_turned.lock();
        let mut turned = turned.unwrap_or_else(PoisonError::into_inner);
        let since = *turned.get_or_insert_with(Instant::now);
        if since.elapsed() < self.repository.options.drift_window / 2 {
            return;
        }
        *turned = Some(Instant::now());
        let models = self.models.snapshot();
        for version in models.values().flat_map(|model| &model.versions) {
            if let VersionState::Ready(ready) = &version.state {
                ready.drift.turn();
            }
        }
    }
}

/// The version that a request names, or all where it names none.
fn versions_of(model: &Model, version: &str) -> Result<Vec<String>> {
    if version.is_empty() {
        let all = model.versions.iter();
        return Ok(all.map(|version| version.version.clone()).collect());
    }
    let number = model.version_of(version);
    match model.version(number) {
        Some(_) => Ok(vec![number.to_owned()]),
        None => Err(Error::not_found(format!(
            "the model \"{}\" has no version \"{version}\"",
            model.name
        ))),
    }
}

fn is_unloaded(model: &Model, version: &str) -> bool {
    let state = model.version(version).map(|found| &found.state);
    matches!(state, Some(VersionState::Unloaded))
}

/// Whoever asks for a load wants to know of its failure.
fn check_loaded(model: &Model, versions: &[String]) -> Result<()> {
    if let Some(reason) = &model.reason {
        return Err(Error::failed_precondition(format!(
            "the model \"{}\" goes on as it was: {reason}",
            model.name
        )));
    }
    for version in versions {
        model.resolve(version)?;
        let problem = model
            .version(version)
            .and_then(|found| found.problem.as_ref());
        if let Some(problem) = problem {
            return Err(Error::failed_precondition(format!(
                "version {version} of the model \"{}\" goes on as it was: {problem}",
                model.name
            )));
        }
    }
    Ok(())
}
