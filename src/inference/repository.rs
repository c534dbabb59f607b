//! The model repository: reads `models/`, checks every version, and makes it ready. A version that fails a check is
//! refused with its reason; the others are served.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{
    Drift, Layout, Model, ModelDefinition, ModelFiles, ModelVersion, Models, ReadyVersion, Release,
    RuntimeLoader, Signature, VersionState, Workers,
    binding::{bind_inputs, check_missing},
    counters::VersionCounters,
    golden::GoldenRows,
    stamp::Stamp,
    targets::{
        check_fallback, check_targets, default_version, effective_aliases, keep_what_is_meant,
    },
};
use crate::{
    catalog::Catalog,
    error::{Error, Result},
};

/// The name of the file that makes a folder a model.
pub(super) const MODEL_FILE: &str = "model.toml";
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
    /// How versions are loaded and run.
    pub options: LoadOptions,
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
            for number in version_numbers(&folder)? {
                let folder = folder.join(number.to_string());
                let stamp =
                    Stamp::of_folder(&folder).map_err(|fault| cannot_read(&folder, &fault))?;
                stamps.push((folder, stamp));
            }
        }
        Ok(Look { stamps })
    }

    fn load_model(&self, folder: &Path, name: &str, known: &Known<'_>) -> Result<Model> {
        let path = folder.join(MODEL_FILE);
        let text = self.read_text(&path)?;
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
        let aliases = effective_aliases(&definition, release);
        let previous = known.previous.get(name);
        let mut versions = Vec::new();
        for number in version_numbers(folder)? {
            let version = number.to_string();
            let before = previous.and_then(|model| model.version(&version));
            versions.push(if release.unloaded.contains(&version) {
                ModelVersion {
                    version,
                    state: VersionState::Unloaded,
                    problem: None,
                }
            } else {
                self.load_or_keep(folder, version, before, &definition, known.catalog)
            });
        }
        if let Some(previous) = previous {
            keep_what_is_meant(&definition, &aliases, previous, &mut versions);
        }
        check_targets(&definition, &versions).map_err(|fault| fault.within(&place))?;
        Ok(Model {
            name: name.to_owned(),
            default_version: default_version(&definition, &aliases, &versions),
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
        })
    }

    /// Loads a version, or keeps it where its files are as they were. Where they have changed and are refused, what
    /// answered before goes on.
    fn load_or_keep(
        &self,
        folder: &Path,
        version: String,
        before: Option<&ModelVersion>,
        definition: &ModelDefinition,
        catalog: &Catalog,
    ) -> ModelVersion {
        let before = before.and_then(|before| match &before.state {
            VersionState::Ready(ready) => Some(ready),
            VersionState::Refused(_) | VersionState::Unloaded => None,
        });
        let stamp = Stamp::of_folder(&folder.join(&version)).unwrap_or_default();
        if let Some(ready) = before.filter(|ready| ready.stamp == stamp) {
            let state = rebound(ready, definition, catalog);
            return ModelVersion {
                version,
                state,
                problem: None,
            };
        }
        let (state, problem) = match (
            self.load_version(folder, &version, stamp, definition, catalog),
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
            version,
            state,
            problem,
        }
    }

    fn load_version(
        &self,
        folder: &Path,
        version: &str,
        stamp: Stamp,
        definition: &ModelDefinition,
        catalog: &Catalog,
    ) -> Result<ReadyVersion> {
        let folder = folder.join(version);
        let within = |path: &Path, fault: Error| fault.within(&path.display().to_string());
        let signature_path = folder.join(SIGNATURE_FILE);
        let signature = Signature::parse(&self.read_text(&signature_path)?)
            .map_err(|fault| within(&signature_path, fault))?;
        check_identity(&signature, &definition.name, version)
            .map_err(|fault| within(&signature_path, fault))?;
        let inputs = bind_inputs(&signature, definition, catalog)?;

        let model_path = folder.join(&signature.file);
        let model = self.read_known(&model_path, &signature.sha256)?;
        let explain = signature.explain.as_ref();
        let explain = explain.map(|by| self.read_known(&folder.join(&by.file), &by.sha256));
        let explain = explain.transpose()?;
        let files = ModelFiles {
            model: &model,
            explain: explain.as_deref(),
        };
        let mut runtimes = self
            .loader(&signature.runtime)?
            .load(files, &signature, self.options.workers)
            .map_err(|fault| within(&model_path, fault))?;

        let layout = Layout::new(&signature);
        let golden_path = folder.join(&signature.golden.file);
        let golden = GoldenRows::parse(&self.read_text(&golden_path)?, &signature)
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

    fn read_text(&self, path: &Path) -> Result<String> {
        String::from_utf8(self.read(path)?).map_err(|_| {
            Error::failed_precondition(format!("{}: it is not UTF-8 text", path.display()))
        })
    }

    /// Reads a file that has to be the one that the trainer wrote.
    fn read_known(&self, path: &Path, sha256: &str) -> Result<Vec<u8>> {
        let bytes = self.read(path)?;
        let digest = hex::encode(Sha256::digest(&bytes));
        if digest.eq_ignore_ascii_case(sha256) {
            return Ok(bytes);
        }
        Err(Error::failed_precondition(format!(
            "{}: its SHA-256 is {digest}, and the signature says {sha256}",
            path.display()
        )))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let limit = u64::try_from(self.options.file_bytes_max).unwrap_or(u64::MAX);
        let mut bytes = Vec::new();
        let is_file = fs::metadata(path)
            .map_err(|fault| cannot_read(path, &fault))?
            .is_file();
        if !is_file {
            return Err(Error::failed_precondition(format!(
                "{}: it is no regular file",
                path.display()
            )));
        }
        fs::File::open(path)
            .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
            .map_err(|fault| cannot_read(path, &fault))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
            return Err(Error::failed_precondition(format!(
                "{}: it is larger than the {limit} bytes that models.file_bytes_max allows",
                path.display()
            )));
        }
        Ok(bytes)
    }
}

fn cannot_read(path: &Path, fault: &std::io::Error) -> Error {
    Error::failed_precondition(format!("{}: cannot be read: {fault}", path.display()))
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The folders with a `model.toml`, sorted.
fn model_folders(path: &Path) -> Result<Vec<PathBuf>> {
    let mut folders: Vec<PathBuf> = entries(path)?
        .into_iter()
        .filter(|entry| entry.join(MODEL_FILE).is_file())
        .collect();
    folders.sort();
    Ok(folders)
}

/// The numbers of a model's versions, ascending.
fn version_numbers(folder: &Path) -> Result<Vec<u64>> {
    let mut numbers: Vec<u64> = entries(folder)?
        .into_iter()
        .filter(|entry| entry.is_dir())
        .filter_map(|entry| {
            let name = file_name(&entry);
            let number: u64 = name.parse().ok()?;
            // "01" is no version: it could not be told from "1".
            (number.to_string() == name).then_some(number)
        })
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn entries(path: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(path)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect()
        })
        .map_err(|fault| cannot_read(path, &fault))
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
