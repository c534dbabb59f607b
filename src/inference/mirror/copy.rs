//! What is held of one model from one source: on disk, and what is known of the source.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use sha2::{Digest, Sha256};
use tokio::{sync::Mutex as Turns, task};

use super::{
    HeldVersion, MirrorOptions, Offer, OfferedVersion, VersionSource, VersionSources, Wanted,
    fetch::{FETCHING_PREFIX, Fetch, SIGNATURE_FILE},
    schedule::Schedule,
    state::State,
    within,
};
use crate::{
    error::{Error, Result},
    features::Timestamp,
};

/// Hex digits of a digest in a folder's name: enough to tell two apart, and short enough to read.
const DIGEST_CHARS: usize = 16;

/// After this a fetch that broke off will not go on, whichever process it was of.
const ABANDONED_AFTER: Duration = Duration::from_secs(86_400);

/// What is known of a source since it was last asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopyStatus {
    /// Why the source could not be followed, or in part; none: it could.
    pub problem: Option<String>,
    /// By version, why it is not here as the source has it.
    pub versions: BTreeMap<u64, String>,
}

/// What is held of one model.
pub struct ModelCopy {
    model: String,
    location: String,
    folder: PathBuf,
    state: ArcSwap<State>,
    status: ArcSwap<CopyStatus>,
    reached_at: ArcSwapOption<Timestamp>,
    schedule: Mutex<Schedule>,
    /// Held while the state is changed.
    writing: Mutex<()>,
    /// Held while the source is asked.
    turn: Turns<Turn>,
}

/// What is remembered from one look at the source to the next.
#[derive(Default)]
struct Turn {
    source: Option<Arc<dyn VersionSource>>,
    /// Whether somebody wants this look: then nothing is put off.
    is_urgent: bool,
    /// Versions whose fetch failed: they are tried more and more rarely, while aliases are followed as ever.
    put_off: BTreeMap<u64, PutOff>,
}

struct PutOff {
    fingerprint: String,
    problem: String,
    schedule: Schedule,
}

impl ModelCopy {
    /// What the disk has.
    pub(super) fn read(root: &Path, model: &str, location: &str) -> ModelCopy {
        let folder = root.join(model).join(digest(&[location]));
        let state = State::read(&folder).unwrap_or_else(|fault| {
            let folder = folder.display();
            tracing::warn!(model, %folder, %fault, "what was fetched of a model cannot be read, and is fetched anew");
            State::default()
        });
        ModelCopy {
            model: model.to_owned(),
            location: location.to_owned(),
            folder,
            state: ArcSwap::from_pointee(state),
            status: ArcSwap::default(),
            reached_at: ArcSwapOption::empty(),
            schedule: Mutex::new(Schedule::new()),
            writing: Mutex::default(),
            turn: Turns::default(),
        }
    }

    /// Where it comes from.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// What is known of the source.
    pub fn status(&self) -> Arc<CopyStatus> {
        self.status.load_full()
    }

    /// When the source last answered, since the server was started.
    pub fn reached_at(&self) -> Option<Timestamp> {
        self.reached_at.load().as_deref().copied()
    }

    /// The versions on disk, with their folders; ascending.
    pub(in crate::inference) fn versions(&self) -> Vec<(u64, PathBuf)> {
        let state = self.state.load();
        let versions = state.versions.iter();
        versions
            .map(|(number, held)| (*number, self.folder.join(&held.folder)))
            .collect()
    }

    /// The source's aliases; none: it has no say in them.
    pub(in crate::inference) fn aliases(&self) -> Option<BTreeMap<String, u64>> {
        self.state.load().aliases.clone()
    }

    /// The version that an alias of the source meant when that was last ready.
    pub(in crate::inference) fn answering(&self, alias: &str) -> Option<u64> {
        self.state.load().answering.get(alias).copied()
    }

    /// The alias that answers where a request names no version.
    pub(in crate::inference) fn default_alias(&self) -> Option<String> {
        self.state.load().default_alias.clone()
    }

    /// Whether the source numbers versions itself.
    pub(in crate::inference) fn has_own_numbers(&self) -> bool {
        self.state.load().has_own_numbers
    }

    /// Remembers what answers, so that it does after a restart, too. Blocks.
    pub(in crate::inference) fn remember(&self, answering: BTreeMap<String, u64>) {
        if self.state.load().answering == answering {
            return;
        }
        if let Err(fault) = self.change(|state| state.answering = answering) {
            tracing::warn!(model = self.model, %fault, "what answers could not be written down");
        }
    }

    pub(super) fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the source, and fetches what is new. Says whether anything has become other.
    pub(super) async fn sync(
        self: &Arc<ModelCopy>,
        sources: &dyn VersionSources,
        options: &MirrorOptions,
        wanted: &Wanted,
    ) -> bool {
        let mut turn = self.turn.lock().await;
        turn.is_urgent = self.schedule().begin();
        let before = (self.state.load_full(), self.status());
        let asked = self.follow(&mut turn, sources, options, wanted).await;
        self.schedule().done(options.poll_interval, asked.is_ok());
        let status = match asked {
            Ok(status) => {
                self.reached_at.store(Some(Arc::new(Timestamp::now())));
                status
            }
            Err(fault) => CopyStatus {
                problem: Some(fault.message().to_owned()),
                versions: before.1.versions.clone(),
            },
        };
        self.log(&before.1, &status);
        let is_other = *self.state.load_full() != *before.0 || status != *before.1;
        self.status.store(Arc::new(status));
        is_other
    }

    async fn follow(
        self: &Arc<ModelCopy>,
        turn: &mut Turn,
        sources: &dyn VersionSources,
        options: &MirrorOptions,
        wanted: &Wanted,
    ) -> Result<CopyStatus> {
        let source = match &turn.source {
            Some(source) => Arc::clone(source),
            None => Arc::clone(turn.source.insert(sources.at(&self.location)?)),
        };
        let offered = within(options.fetch_max, "the source", source.offer(wanted));
        let offer = offered.await?;
        let (versions, problems) = self.fetch(turn, source.as_ref(), options, &offer).await?;
        let meant = wanted.meant.clone();
        let versions_max = wanted.versions_max;
        let remark = offer.remark.clone();
        self.change_in_background(move |state| {
            state.versions = versions;
            let aliases = offer.aliases.as_ref();
            state
                .answering
                .retain(|alias, _| aliases.is_some_and(|aliases| aliases.contains_key(alias)));
            state.aliases = offer.aliases;
            state.default_alias = offer.default_alias;
            state.has_own_numbers = offer.has_own_numbers;
            let offered = offer.versions.iter().map(|offered| offered.number);
            let meant: BTreeSet<u64> = offered.chain(meant).collect();
            let versions_max = if offer.is_whole { 0 } else { versions_max };
            state.keep(versions_max, |number| meant.contains(&number));
        })
        .await?;
        Ok(CopyStatus {
            problem: remark,
            versions: problems,
        })
    }

    /// Fetches what is offered and not here, one version after the other; with it, why others are not.
    async fn fetch(
        self: &Arc<ModelCopy>,
        turn: &mut Turn,
        source: &dyn VersionSource,
        options: &MirrorOptions,
        offer: &Offer,
    ) -> Result<(BTreeMap<u64, HeldVersion>, BTreeMap<u64, String>)> {
        let mut versions = self.state.load().versions.clone();
        versions.retain(|_, held| self.is_there(held));
        let mut problems = BTreeMap::new();
        for offered in &offer.versions {
            let number = offered.number;
            let held = versions.get(&number);
            if held.is_some_and(|held| held.fingerprint == offered.fingerprint) {
                turn.put_off.remove(&number);
                continue;
            }
            let fetched = match turn.waits(offered) {
                Some(problem) => Err(problem),
                None => self
                    .fetch_version(source, options, offered)
                    .await
                    .map_err(|fault| {
                        let problem = fault.message().to_owned();
                        turn.put_off(offered, &problem, options.poll_interval);
                        problem
                    }),
            };
            match fetched {
                Ok(held) => {
                    turn.put_off.remove(&number);
                    versions.insert(number, held);
                }
                Err(problem) => {
                    problems.insert(number, problem);
                }
            }
        }
        let offered = |number: &u64| offer.versions.iter().any(|found| found.number == *number);
        turn.put_off.retain(|number, _| offered(number));
        Ok((versions, problems))
    }

    async fn fetch_version(
        &self,
        source: &dyn VersionSource,
        options: &MirrorOptions,
        offered: &OfferedVersion,
    ) -> Result<HeldVersion> {
        if let Err(problem) = &offered.place {
            return Err(Error::failed_precondition(problem.clone()));
        }
        let number = offered.number.to_string();
        let folder = format!("{number}-{}", digest(&[&number, &offered.fingerprint]));
        let fetch = Fetch {
            source,
            offered,
            options,
            model: &self.model,
        };
        let fetched = fetch.run(&self.folder, &folder);
        within(options.fetch_max, "the fetch", fetched).await?;
        let (model, location) = (&self.model, &self.location);
        tracing::info!(model, version = number, location, "model version fetched");
        Ok(HeldVersion {
            folder,
            fingerprint: offered.fingerprint.clone(),
        })
    }

    fn is_there(&self, held: &HeldVersion) -> bool {
        self.folder
            .join(&held.folder)
            .join(SIGNATURE_FILE)
            .is_file()
    }

    async fn change_in_background(
        self: &Arc<ModelCopy>,
        change: impl FnOnce(&mut State) + Send + 'static,
    ) -> Result<()> {
        let copy = Arc::clone(self);
        let changed = task::spawn_blocking(move || {
            copy.change(change)?;
            copy.clear_away();
            Ok::<_, io::Error>(())
        });
        let changed = changed
            .await
            .map_err(|fault| Error::internal("holding a model broke off").with_source(fault))?;
        changed.map_err(|fault| {
            let folder = self.folder.display();
            Error::failed_precondition(format!("{folder}: cannot be written: {fault}"))
        })
    }

    /// Changes the state on disk, then in memory; where the first fails, nothing has changed.
    fn change(&self, change: impl FnOnce(&mut State)) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.state.load();
        let mut state = State::clone(&before);
        change(&mut state);
        state.location.clone_from(&self.location);
        if state != **before {
            fs::create_dir_all(&self.folder)?;
            state.write(&self.folder)?;
            self.state.store(Arc::new(state));
        }
        Ok(())
    }

    /// Removes what is not held any more: old versions, fetches that broke off, what came from another source. What stays
    /// by a fault is removed another time.
    fn clear_away(&self) {
        let state = self.state.load();
        if !state.versions.is_empty() {
            let others = self.folder.parent().map(entries).unwrap_or_default();
            others
                .iter()
                .filter(|path| **path != self.folder)
                .for_each(|path| remove(path));
        }
        for path in entries(&self.folder) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_held = state.versions.values().any(|held| held.folder == name);
            let is_fetched_now = name.starts_with(FETCHING_PREFIX) && !is_abandoned(&path);
            if path.is_dir() && !is_held && !is_fetched_now {
                remove(&path);
            }
        }
    }

    fn log(&self, before: &CopyStatus, status: &CopyStatus) {
        let (model, location) = (&self.model, &self.location);
        match (&before.problem, &status.problem) {
            (before, Some(problem)) if before.as_ref() != Some(problem) => {
                tracing::warn!(
                    model,
                    location,
                    problem,
                    "a model's source cannot be followed"
                );
            }
            (Some(_), None) => tracing::info!(model, location, "a model's source answers again"),
            (_, Some(_)) | (None, None) => {}
        }
        for (version, problem) in &status.versions {
            if before.versions.get(version) != Some(problem) {
                tracing::error!(
                    model,
                    version,
                    location,
                    problem,
                    "model version not fetched"
                );
            }
        }
    }
}

impl Turn {
    /// Why a version is not tried again yet.
    fn waits(&self, offered: &OfferedVersion) -> Option<String> {
        let put_off = self.put_off.get(&offered.number)?;
        let is_same = put_off.fingerprint == offered.fingerprint;
        let waits = is_same && !self.is_urgent && !put_off.schedule.is_due(Instant::now());
        waits.then(|| put_off.problem.clone())
    }

    fn put_off(&mut self, offered: &OfferedVersion, problem: &str, interval: Duration) {
        let new = || PutOff {
            fingerprint: offered.fingerprint.clone(),
            problem: String::new(),
            schedule: Schedule::new(),
        };
        let put_off = self.put_off.entry(offered.number).or_insert_with(new);
        if put_off.fingerprint != offered.fingerprint {
            *put_off = new();
        }
        problem.clone_into(&mut put_off.problem);
        put_off.schedule.done(interval, false);
    }
}

/// A short name for what makes something what it is.
fn digest(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    let mut digest = hex::encode(hasher.finalize());
    digest.truncate(DIGEST_CHARS);
    digest
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

fn is_abandoned(path: &Path) -> bool {
    let changed = fs::metadata(path).and_then(|found| found.modified());
    let age = changed.map(|changed| SystemTime::now().duration_since(changed));
    matches!(age, Ok(Ok(age)) if age > ABANDONED_AFTER)
}

fn remove(path: &Path) {
    if let Err(fault) = fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %fault, "what is not held any more cannot be removed");
    }
}
