//! What happens to models while the server runs: files change, definitions change, people release. One change at a time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Mutex, task, time};

use super::{
    Author, Known, Look, Model, ModelRegistry, Models, ReleaseChange, ReleaseEvent, ReleaseStore,
    Repository, VersionState, Wanted, definition::check_alias, release::change_release,
};
use crate::{
    catalog::CatalogHandle,
    error::{Error, Result},
};

/// What the models were last loaded from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Seen {
    look: Look,
    catalog_revision: i64,
    releases_revision: i64,
    mirror_revision: u64,
}

#[derive(Default)]
struct State {
    loaded: Seen,
    /// How the files looked when they were last looked at: a copy that is under way changes them from look to look.
    look: Look,
    /// When what was counted of drift was last turned over; none: not yet.
    drift_turned: Option<Instant>,
}

/// Loads models, and changes what is released of them.
pub struct Lifecycle {
    repository: Arc<Repository>,
    models: Arc<ModelRegistry>,
    catalog: Arc<CatalogHandle>,
    releases: Arc<dyn ReleaseStore>,
    state: Mutex<State>,
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
            state: Mutex::default(),
        }
    }

    /// Loads what is there now, files that are being copied among it.
    ///
    /// # Errors
    /// As `Repository::load`; `Unavailable` where the database is away.
    pub async fn load(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        let seen = self.look().await?;
        self.load_seen(&mut state, seen).await
    }

    /// Lets what was counted of drift grow old: half of it is forgotten each half of the window.
    fn turn_drift(&self, state: &mut State) {
        let turned = *state.drift_turned.get_or_insert_with(Instant::now);
        if turned.elapsed() < self.repository.options.drift_window / 2 {
            return;
        }
        state.drift_turned = Some(Instant::now());
        let models = self.models.snapshot();
        for version in models.values().flat_map(|model| &model.versions) {
            if let VersionState::Ready(ready) = &version.state {
                ready.drift.turn();
            }
        }
    }

    /// Loads what has changed: definitions and releases at once, files as soon as they have stopped changing. To be called
    /// again and again.
    ///
    /// # Errors
    /// As `load`.
    pub async fn follow(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        self.turn_drift(&mut state);
        let seen = self.look().await?;
        let is_settled = seen.look == state.look;
        state.look.clone_from(&seen.look);
        let loaded = &state.loaded;
        let is_other = seen.catalog_revision != loaded.catalog_revision
            || seen.releases_revision != loaded.releases_revision
            || seen.mirror_revision != loaded.mirror_revision
            || (is_settled && seen.look != loaded.look);
        if is_other {
            self.load_seen(&mut state, seen).await?;
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
        self.follow().await
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

    async fn wanted(&self) -> Result<Vec<Wanted>> {
        let (repository, models) = (Arc::clone(&self.repository), self.models.snapshot());
        let wanted = task::spawn_blocking(move || repository.wanted(&models));
        wanted
            .await
            .map_err(|fault| Error::internal("reading the models failed").with_source(fault))?
    }

    /// Asks the source of one model, where it has one, whatever failed before.
    async fn ask_source_of(&self, name: &str) -> Result<()> {
        let wanted = self
            .wanted()
            .await?
            .into_iter()
            .filter(|wanted| wanted.model == name);
        self.repository.mirror.sync_now(wanted.collect()).await;
        Ok(())
    }

    /// Changes what is released of a model, here at once, on other servers of the database soon after.
    ///
    /// # Errors
    /// `NotFound` for an unknown model; `InvalidArgument` for an alias that is no name; `FailedPrecondition` for a version
    /// that is not ready, or that cannot be unloaded because it is meant; `Conflict` where an expectation does not hold;
    /// `Unavailable` where the database is away.
    pub async fn change(
        &self,
        name: &str,
        change: ReleaseChange,
        author: &Author,
    ) -> Result<Arc<Model>> {
        let mut state = self.state.lock().await;
        self.change_in(&mut state, name, change, author).await
    }

    /// Loads a version, or all where none is named: without waiting until its files are seen or its source is asked, and
    /// again where it was unloaded.
    ///
    /// # Errors
    /// `NotFound` for an unknown model or version; `FailedPrecondition` where a check refuses it; `Unavailable` where the
    /// database is away.
    pub async fn load_versions(
        &self,
        name: &str,
        version: &str,
        author: &Author,
    ) -> Result<Arc<Model>> {
        self.ask_source_of(name).await?;
        let mut state = self.state.lock().await;
        let seen = self.look().await?;
        self.load_seen(&mut state, seen).await?;
        let model = self.models.model(name)?;
        let versions = versions_of(&model, version)?;
        if versions.iter().any(|version| is_unloaded(&model, version)) {
            let change = ReleaseChange::Load {
                versions: versions.clone(),
            };
            self.change_in(&mut state, name, change, author).await?;
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
        let mut state = self.state.lock().await;
        let model = self.models.model(name)?;
        let versions = versions_of(&model, version)?;
        if versions.iter().all(|version| is_unloaded(&model, version)) {
            return Ok(model);
        }
        let change = ReleaseChange::Unload { versions };
        self.change_in(&mut state, name, change, author).await
    }

    async fn change_in(
        &self,
        state: &mut State,
        name: &str,
        change: ReleaseChange,
        author: &Author,
    ) -> Result<Arc<Model>> {
        let model = self.models.model(name)?;
        check_change(&model, &change)?;
        change_release(self.releases.as_ref(), &model, &change, author).await?;
        let seen = self.look().await?;
        self.load_seen(state, seen).await?;
        self.models.model(name)
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
        let releases_revision = self.releases.releases_revision().await?;
        let mirror_revision = self.repository.mirror.revision();
        let look = task::spawn_blocking(move || repository.look())
            .await
            .map_err(|fault| {
                Error::internal("looking at the models failed").with_source(fault)
            })??;
        Ok(Seen {
            look,
            catalog_revision: self.catalog.snapshot().revision,
            releases_revision,
            mirror_revision,
        })
    }

    async fn load_seen(&self, state: &mut State, seen: Seen) -> Result<()> {
        let releases = self.releases.releases().await?;
        let (repository, catalog) = (Arc::clone(&self.repository), self.catalog.snapshot());
        let previous = self.models.snapshot();
        let loaded = task::spawn_blocking(move || {
            let models = repository.load(&Known {
                catalog: &catalog,
                releases: &releases,
                previous: &previous,
            })?;
            log_changes(&previous, &models);
            Ok::<_, Error>(models)
        });
        let models = loaded
            .await
            .map_err(|fault| Error::internal("loading the models failed").with_source(fault))??;
        self.models.replace(models);
        state.loaded = seen;
        Ok(())
    }
}

fn check_change(model: &Model, change: &ReleaseChange) -> Result<()> {
    match change {
        ReleaseChange::SetAlias { alias, version, .. } => {
            check_alias(alias).map_err(|fault| Error::invalid("alias", fault))?;
            check_owner(model, alias)?;
            match version {
                Some(version) if model.aliases.contains_key(version) => Err(Error::invalid(
                    "version",
                    format!("\"{version}\" is an alias; an alias means a version"),
                )),
                Some(version) => model.resolve(version).map(|_| ()),
                None => Ok(()),
            }
        }
        ReleaseChange::SetTraffic {
            traffic: Some(traffic),
            ..
        } => {
            traffic.check()?;
            let shares = traffic.canary.iter().map(|share| &share.version);
            for target in shares.chain(&traffic.shadow) {
                model.resolve(target)?;
            }
            Ok(())
        }
        ReleaseChange::Unload { versions } => {
            // Whoever unloads all of a model wants it gone.
            let is_whole = versions.len() == model.versions.len();
            let meant = versions
                .iter()
                .find_map(|version| Some((version, meaning(model, version)?)));
            match meant.filter(|_| !is_whole) {
                None => Ok(()),
                Some((version, meant)) => Err(Error::failed_precondition(format!(
                    "version {version} of the model \"{}\" is {meant}; let that mean another version first",
                    model.name
                ))),
            }
        }
        ReleaseChange::RollbackAlias { alias } => check_owner(model, alias),
        ReleaseChange::Load { .. } | ReleaseChange::SetTraffic { traffic: None, .. } => Ok(()),
    }
}

/// An alias of the source would mean at once again what it means there.
fn check_owner(model: &Model, alias: &str) -> Result<()> {
    match &model.source {
        Some(source) if source.aliases.contains(alias) => Err(Error::failed_precondition(format!(
            "the alias \"{alias}\" of the model \"{}\" is changed where its versions come from, {}",
            model.name,
            source.copy.location()
        ))),
        Some(_) | None => Ok(()),
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

/// What still means a version.
fn meaning(model: &Model, version: &str) -> Option<String> {
    if model.default_version.as_deref() == Some(version) {
        return Some("the default".to_owned());
    }
    let alias = model.aliases.iter().find(|(_, target)| *target == version);
    if let Some((alias, _)) = alias {
        return Some(format!("the target of the alias \"{alias}\""));
    }
    let shares = model.traffic.canary.iter().map(|share| &share.version);
    shares
        .chain(&model.traffic.shadow)
        .any(|target| model.version_of(target) == version)
        .then(|| "part of the traffic".to_owned())
}

/// Whoever asks for a load wants to know of its failure.
fn check_loaded(model: &Model, versions: &[String]) -> Result<()> {
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

/// Says what is new.
fn log_changes(previous: &Models, models: &Models) {
    for model in models.values() {
        let name = &model.name;
        let before = previous.get(name);
        if let Some(reason) = &model.reason
            && before.is_none_or(|before| before.reason.as_ref() != Some(reason))
        {
            tracing::error!(model = name, reason, "model refused");
        }
        log_lag(model, before.map(Arc::as_ref));
        for version in &model.versions {
            let before = before.and_then(|model| model.version(&version.version));
            log_version(name, version, before);
        }
    }
}

/// Says which aliases of a source are not followed yet.
fn log_lag(model: &Model, before: Option<&Model>) {
    let lag_of = |model: &Model| model.source.as_ref().and_then(|source| source.lag.clone());
    if let Some(lag) = lag_of(model)
        && before.and_then(lag_of).as_ref() != Some(&lag)
    {
        tracing::warn!(
            model = model.name,
            lag,
            "aliases of a model's source not followed"
        );
    }
}

fn log_version(name: &str, version: &super::ModelVersion, before: Option<&super::ModelVersion>) {
    let number = &version.version;
    if let Some(problem) = &version.problem
        && before.is_none_or(|before| before.problem.as_ref() != Some(problem))
    {
        let reason = problem;
        tracing::error!(
            model = name,
            version = number,
            reason,
            "model version not replaced"
        );
    }
    match (&version.state, before.map(|before| &before.state)) {
        (VersionState::Ready(ready), Some(VersionState::Ready(known)))
            if Arc::ptr_eq(&ready.workers, &known.workers) => {}
        (VersionState::Ready(ready), _) => tracing::info!(
            model = name,
            version = number,
            golden_rows = ready.golden_rows,
            "model version ready"
        ),
        (VersionState::Refused(reason), Some(VersionState::Refused(known))) if reason == known => {}
        (VersionState::Refused(reason), _) => {
            tracing::error!(
                model = name,
                version = number,
                reason,
                "model version refused"
            );
        }
        (VersionState::Unloaded, Some(VersionState::Unloaded)) => {}
        (VersionState::Unloaded, _) => {
            tracing::info!(model = name, version = number, "model version unloaded");
        }
    }
}
