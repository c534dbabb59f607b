//! The model repository: reads `models/`, checks every version, and makes it ready. A version that fails a check is
//! refused with its reason; the others are served.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    Drift, Layout, Mirror, Model, ModelCopy, ModelDefinition, ModelFiles, ModelSource,
    ModelVersion, Models, ReadyVersion, Release, RuntimeLoader, Signature, VersionState, Wanted,
    Workers,
    binding::{bind_inputs, check_missing},
    counters::VersionCounters,
    files::{
        MODEL_FILE, cannot_read, file_name, model_folders, read_known, read_text, version_folders,
    },
    golden::GoldenRows,
    stamp::Stamp,
    targets::{
        SourceAliases, answering, check_fallback, check_targets, default_version,
        effective_aliases, keep_what_is_meant, meant_numbers, source_aliases,
    },
};
use crate::{
    catalog::Catalog,
    error::{Error, Result},
};

const SIGNATURE_FILE: &str = "signature.json";

/// How versions are loaded and run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Threads a version.
    pub workers: usize,
    /// Batches that may wait for a version's threads.
    pub queue_max: usize,
    /// The largest file that is read, in bytes.
    pub file_bytes_max: usize,
    /// Of how long a time drift is told, at the most; half of it at the least.
    pub drift_window: Duration,
}

/// How the files of a repository look from outside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    stamps: Vec<(PathBuf, Stamp)>,
}

/// Reads and checks the models of a folder.
pub struct Repository {
    /// The folder; one that is not there holds no models.
    pub path: PathBuf,
    /// The runtimes that there are.
    pub loaders: Vec<Arc<dyn RuntimeLoader>>,
    /// What was fetched of models whose versions come from elsewhere.
    pub mirror: Arc<Mirror>,
    /// How versions are loaded and run.
    pub options: LoadOptions,
}

/// The files of one version.
struct VersionFiles {
    version: String,
    folder: PathBuf,
    /// Whether somebody else than its trainer has numbered it.
    is_renumbered: bool,
}

/// What is known before a load: what is defined, what was released at run time, and what is loaded already.
pub struct Known<'a> {
    /// What inputs are bound to.
    pub catalog: &'a Catalog,
    /// By model.
    pub releases: &'a BTreeMap<String, Release>,
    /// What is loaded; versions whose files are as they were stay what they are.
    pub previous: &'a Models,
}

impl Repository {
    /// Loads every model and version that is new or has changed. What fails its checks is there with its reason; a version
    /// that answered before goes on answering from the files of then.
    ///
    /// # Errors
    /// `FailedPrecondition` where the folder itself cannot be read.
    pub fn load(&self, known: &Known<'_>) -> Result<Models> {
        let mut models = BTreeMap::new();
        for folder in model_folders(&self.path)? {
            let name = file_name(&folder);
            let previous = known.previous.get(&name);
            let model = match self.load_model(&folder, &name, known) {
                Ok(model) => model,
                Err(fault) => Model {
                    name: name.clone(),
                    reason: Some(fault.message().to_owned()),
                    ..previous
                        .map(|model| Model::clone(model))
                        .unwrap_or_default()
                },
            };
            models.insert(name, Arc::new(model));
        }
        Ok(models)
    }

    /// How the files of the repository look: two that are the same need no load in between.
    ///
    /// # Errors
    /// As `load`.
    pub fn look(&self) -> Result<Look> {
        let mut stamps = Vec::new();
        for folder in model_folders(&self.path)? {
            let mut stamp = Stamp::default();
            stamp.add(folder.join(MODEL_FILE));
            stamps.push((folder.clone(), stamp));
            for (_, folder) in version_folders(&folder)? {
                let stamp =
                    Stamp::of_folder(&folder).map_err(|fault| cannot_read(&folder, &fault))?;
                stamps.push((folder, stamp));
            }
        }
        Ok(Look { stamps })
    }

    /// The models whose versions come from elsewhere, and which of those are meant. What cannot be read wants nothing.
    ///
    /// # Errors
    /// As `load`.
    pub fn wanted(&self, models: &Models) -> Result<Vec<Wanted>> {
        let folders = model_folders(&self.path)?;
        let wanted = folders.iter().filter_map(|folder| {
            let text = read_text(&folder.join(MODEL_FILE), self.options.file_bytes_max).ok()?;
            let definition = ModelDefinition::parse(&text).ok()?;
            let model = file_name(folder);
            Some(Wanted {
                meant: meant_numbers(&definition, models.get(&model).map(Arc::as_ref)),
                versions_max: self.mirror.versions_max(),
                location: definition.source?,
                model,
            })
        });
        Ok(wanted.collect())
    }

    fn load_model(&self, folder: &Path, name: &str, known: &Known<'_>) -> Result<Model> {
        let path = folder.join(MODEL_FILE);
        let text = read_text(&path, self.options.file_bytes_max)?;
        let place = path.display().to_string();
        let definition = ModelDefinition::parse(&text).map_err(|fault| fault.within(&place))?;
        if definition.name != name {
            return Err(Error::failed_precondition(format!(
                "{place}: name: \"{}\" is not the folder's \"{name}\"",
                definition.name
            )));
        }
        let folders = model_folders(&self.path)?;
        let names: Vec<String> = folders.iter().map(|folder| file_name(folder)).collect();
        check_fallback(&definition, &names).map_err(|fault| fault.within(&place))?;
        let nothing = Release::default();
        let release = known.releases.get(name).unwrap_or(&nothing);
        let mut aliases = effective_aliases(&definition, release);
        let previous = known.previous.get(name);
        let location = definition.source.as_ref();
        let copy = location.map(|location| self.mirror.copy(name, location));
        let mut versions = Vec::new();
        for files in version_files(folder, copy.as_deref())? {
            let version = &files.version;
            let before = previous.and_then(|model| model.version(version));
            versions.push(if release.unloaded.contains(version) {
                ModelVersion {
                    version: files.version,
                    state: VersionState::Unloaded,
                    problem: None,
                }
            } else {
                self.load_or_keep(files, before, &definition, known.catalog)
            });
        }
        let source = copy.map(|copy| {
            add_problems(&copy, &mut versions);
            let previous = previous.map(Arc::as_ref);
            follow_source(copy, previous, &versions, &mut aliases)
        });
        if let Some(source) = &source {
            check_source(source, &versions)?;
        }
        if let Some(previous) = previous {
            keep_what_is_meant(&definition, &aliases, previous, &mut versions);
        }
        check_targets(&definition, &versions).map_err(|fault| fault.within(&place))?;
        Ok(Model {
            name: name.to_owned(),
            default_version: default_version(
                &definition,
                source
                    .as_ref()
                    .and_then(|source| source.copy.default_alias())
                    .as_deref(),
                &aliases,
                &versions,
            ),
            description: definition.description,
            entity_not_found: definition.entity_not_found,
            example: example(&definition.example),
            fallbacks: previous.map_or_else(Arc::default, |model| Arc::clone(&model.fallbacks)),
            fallback: definition.fallback,
            traffic: release.traffic.clone().unwrap_or(definition.traffic),
            release_revision: release.revision,
            defined_aliases: definition.aliases,
            aliases,
            versions,
            reason: None,
            source,
        })
    }

    /// Loads a version, or keeps it where its files are as they were. Where they have changed and are refused, what
    /// answered before goes on.
    fn load_or_keep(
        &self,
        files: VersionFiles,
        before: Option<&ModelVersion>,
        definition: &ModelDefinition,
        catalog: &Catalog,
    ) -> ModelVersion {
        let before = before.and_then(|before| match &before.state {
            VersionState::Ready(ready) => Some(ready),
            VersionState::Refused(_) | VersionState::Unloaded => None,
        });
        let stamp = Stamp::of_folder(&files.folder).unwrap_or_default();
        if let Some(ready) = before.filter(|ready| ready.stamp == stamp) {
            let state = rebound(ready, definition, catalog);
            return ModelVersion {
                version: files.version,
                state,
                problem: None,
            };
        }
        let (state, problem) = match (
            self.load_version(&files, stamp, definition, catalog),
            before,
        ) {
            (Ok(ready), _) => (VersionState::Ready(Arc::new(ready)), None),
            (Err(fault), None) => (VersionState::Refused(fault.message().to_owned()), None),
            (Err(fault), Some(ready)) => (
                rebound(ready, definition, catalog),
                Some(fault.message().to_owned()),
            ),
        };
        ModelVersion {
            version: files.version,
            state,
            problem,
        }
    }

    fn load_version(
        &self,
        files: &VersionFiles,
        stamp: Stamp,
        definition: &ModelDefinition,
        catalog: &Catalog,
    ) -> Result<ReadyVersion> {
        let folder = &files.folder;
        let bytes_max = self.options.file_bytes_max;
        let within = |path: &Path, fault: Error| fault.within(&path.display().to_string());
        let signature_path = folder.join(SIGNATURE_FILE);
        let mut signature = Signature::parse(&read_text(&signature_path, bytes_max)?)
            .map_err(|fault| within(&signature_path, fault))?;
        if files.is_renumbered {
            signature.version.clone_from(&files.version);
        }
        check_identity(&signature, &definition.name, &files.version)
            .map_err(|fault| within(&signature_path, fault))?;
        let inputs = bind_inputs(&signature, definition, catalog)?;

        let model_path = folder.join(&signature.file);
        let model = read_known(&model_path, &signature.sha256, bytes_max)?;
        let explain = signature.explain.as_ref();
        let explain = explain.map(|by| read_known(&folder.join(&by.file), &by.sha256, bytes_max));
        let explain = explain.transpose()?;
        let contents = ModelFiles {
            model: &model,
            explain: explain.as_deref(),
        };
        let mut runtimes = self
            .loader(&signature.runtime)?
            .load(contents, &signature, self.options.workers)
            .map_err(|fault| within(&model_path, fault))?;

        let layout = Layout::new(&signature);
        let golden_path = folder.join(&signature.golden.file);
        let golden = GoldenRows::parse(&read_text(&golden_path, bytes_max)?, &signature)
            .map_err(|fault| within(&golden_path, fault))?;
        let proven_missing = golden.missing_inputs();
        check_missing(&signature, &inputs, &layout, &proven_missing)
            .map_err(|fault| within(&golden_path, fault))?;
        // Every runtime runs the golden rows: that is its warm-up, too.
        for runtime in &mut runtimes {
            golden
                .check(runtime.as_mut(), &layout, &signature)
                .map_err(|fault| within(&golden_path, fault))?;
        }
        // The copies share what explains them.
        let is_explained = signature.explain.is_some() || golden.has_explanations();
        if let (Some(runtime), true) = (runtimes.first_mut(), is_explained) {
            golden
                .check_explained(runtime.as_mut(), &layout, &signature)
                .map_err(|fault| within(&golden_path, fault))?;
        }
        let workers = Workers::start(&definition.name, runtimes, self.options.queue_max)?;
        Ok(ReadyVersion {
            golden_rows: golden.count(),
            proven_missing: proven_missing.into(),
            counters: Arc::new(VersionCounters::new(signature.inputs.len())),
            drift: Arc::new(Drift::new(&signature)),
            signature: Arc::new(signature),
            layout: Arc::new(layout),
            inputs,
            workers: Arc::new(workers),
            stamp,
        })
    }

    fn loader(&self, name: &str) -> Result<&Arc<dyn RuntimeLoader>> {
        self.loaders
            .iter()
            .find(|loader| loader.name() == name)
            .ok_or_else(|| {
                let names: Vec<&str> = self.loaders.iter().map(|loader| loader.name()).collect();
                Error::failed_precondition(format!(
                    "the signature asks for the runtime \"{name}\"; this server has: {}",
                    names.join(", ")
                ))
            })
    }
}

/// The files of a model's versions: of its folder, or what was fetched of it.
fn version_files(folder: &Path, copy: Option<&ModelCopy>) -> Result<Vec<VersionFiles>> {
    let (folders, is_renumbered) = match copy {
        Some(copy) => (copy.versions(), copy.has_own_numbers()),
        None => (version_folders(folder)?, false),
    };
    let files = folders.into_iter().map(|(number, folder)| VersionFiles {
        version: number.to_string(),
        folder,
        is_renumbered,
    });
    Ok(files.collect())
}

/// Says of each version why it is not here as its source has it; those that are not here at all are added.
fn add_problems(copy: &ModelCopy, versions: &mut Vec<ModelVersion>) {
    for (number, problem) in &copy.status().versions {
        let version = number.to_string();
        match versions.iter_mut().find(|known| known.version == version) {
            Some(known) => known.problem = Some(problem.clone()),
            None => versions.push(ModelVersion {
                version,
                state: VersionState::Refused(problem.clone()),
                problem: None,
            }),
        }
    }
    versions.sort_by_key(|version| version.version.parse::<u64>().unwrap_or_default());
}

/// The aliases of a source go before all others, which cannot be changed here.
fn follow_source(
    copy: Arc<ModelCopy>,
    previous: Option<&Model>,
    versions: &[ModelVersion],
    aliases: &mut BTreeMap<String, String>,
) -> ModelSource {
    let SourceAliases { aliases: own, lag } = source_aliases(&copy, previous, versions);
    copy.remember(answering(&own, versions));
    let names: BTreeSet<String> = own.keys().cloned().collect();
    aliases.extend(own);
    ModelSource {
        copy,
        aliases: names,
        lag,
    }
}

/// A model of which nothing has been fetched has nothing to check.
fn check_source(source: &ModelSource, versions: &[ModelVersion]) -> Result<()> {
    if !versions.is_empty() {
        return Ok(());
    }
    let problem = source.problem();
    Err(Error::failed_precondition(format!(
        "{}: {}",
        source.copy.location(),
        problem.as_deref().unwrap_or("nothing has been fetched yet")
    )))
}

fn check_identity(signature: &Signature, model: &str, version: &str) -> Result<()> {
    if signature.model != model || signature.version != version {
        return Err(Error::failed_precondition(format!(
            "it is the signature of {}/{}, not of {model}/{version}",
            signature.model, signature.version
        )));
    }
    Ok(())
}

/// A version with its inputs bound anew: definitions may have changed.
fn rebound(
    ready: &Arc<ReadyVersion>,
    definition: &ModelDefinition,
    catalog: &Catalog,
) -> VersionState {
    let bound = bind_inputs(&ready.signature, definition, catalog).and_then(|inputs| {
        check_missing(
            &ready.signature,
            &inputs,
            &ready.layout,
            &ready.proven_missing,
        )
        .map_err(|fault| fault.within(&ready.signature.golden.file))?;
        Ok(inputs)
    });
    match bound {
        Ok(inputs) if inputs == ready.inputs => VersionState::Ready(Arc::clone(ready)),
        Ok(inputs) => VersionState::Ready(Arc::new(ReadyVersion {
            inputs,
            ..ReadyVersion::clone(ready)
        })),
        Err(fault) => VersionState::Refused(fault.message().to_owned()),
    }
}

/// An example entity as JSON; what JSON cannot say is left out.
fn example(fields: &BTreeMap<String, toml::Value>) -> serde_json::Map<String, serde_json::Value> {
    fields
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), serde_json::to_value(value).ok()?)))
        .collect()
}
