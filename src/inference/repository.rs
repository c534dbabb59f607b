//! The model repository: reads `models/`, checks every version, and makes it ready. A version that fails a check is
//! refused with its reason; the others are served.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    Mirror, Model, ModelCopy, ModelDefinition, ModelSource, ModelVersion, Models, Release,
    Releases, RuntimeLoader, Signature, VersionState, Wanted,
    stamp::Stamp,
    targets::{
        check_fallback, check_targets, follow_source, keep_what_is_meant, meant_numbers, released,
    },
    version::{SIGNATURE_FILE, Trial, VersionFiles},
};
use crate::{
    catalog::Catalog,
    error::{Error, Result},
};

/// The name of the file that makes a folder a model.
pub(super) const MODEL_FILE: &str = "model.toml";

/// How versions are loaded and run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Threads a version.
    pub workers: usize,
    /// Batches that may wait for a version's threads.
    pub queue_max: usize,
    /// What takes no longer is run by whoever asks, not by a version's threads.
    pub inline_max: Duration,
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
    /// The folder.
    pub path: PathBuf,
    /// The runtimes that there are.
    pub loaders: Vec<Arc<dyn RuntimeLoader>>,
    /// What was fetched of models whose versions come from elsewhere.
    pub mirror: Arc<Mirror>,
    /// How versions are loaded and run.
    pub options: LoadOptions,
}

/// What is known before a load: what is defined, what was released at run time, and what is loaded already.
pub struct Known<'a> {
    /// What inputs are bound to.
    pub catalog: &'a Catalog,
    /// By model.
    pub releases: &'a Releases,
    /// What is loaded; versions whose files are as they were stay what they are.
    pub previous: &'a Models,
    /// The model whose refused versions are checked again, though their files are as they were.
    pub again: Option<&'a str>,
}

impl Repository {
    /// Loads every model and version that is new or has changed. What fails its checks is there with its reason; a version
    /// that answered before goes on answering from the files of then.
    ///
    /// # Errors
    /// `FailedPrecondition` where the folder itself cannot be read.
    pub fn load(&self, known: &Known<'_>) -> Result<Models> {
        let folders = model_folders(&self.path)?;
        let names: Vec<String> = folders.iter().map(|folder| file_name(folder)).collect();
        let mut models = Models::new();
        for (folder, name) in folders.iter().zip(&names) {
            let model = self.load_model(folder, name, &names, known);
            models.insert(name.clone(), Arc::new(model));
        }
        for (name, previous) in known.previous {
            if !models.contains_key(name) && previous.is_ready() {
                models.insert(name.clone(), Arc::new(gone(previous)));
            }
        }
        Ok(models)
    }

    /// How the files of the repository look: two that are the same need no load in between. A folder that cannot be read
    /// looks empty; a load says why.
    ///
    /// # Errors
    /// As `load`.
    pub fn look(&self) -> Result<Look> {
        let mut stamps = Vec::new();
        for folder in model_folders(&self.path)? {
            let mut stamp = Stamp::default();
            stamp.add(folder.join(MODEL_FILE));
            stamps.push((folder.clone(), stamp));
            for (_, folder) in version_folders(&folder).unwrap_or_default() {
                let stamp = Stamp::of_folder(&folder).unwrap_or_default();
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
            let text = self.read_text(&folder.join(MODEL_FILE)).ok()?;
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

    fn load_model(&self, folder: &Path, name: &str, names: &[String], known: &Known<'_>) -> Model {
        let previous = known.previous.get(name).map(AsRef::as_ref);
        let nothing = Release::default();
        let release = known.releases.get(name).unwrap_or(&nothing);
        let read = self.definition(folder, name, names, previous, release);
        let last = previous.and_then(|model| model.definition.clone());
        let (definition, reason) = match (read, last) {
            (Ok(definition), _) => (Arc::new(definition), None),
            (Err(fault), Some(last)) => (last, Some(fault.message().to_owned())),
            (Err(fault), None) => {
                return Model {
                    name: name.to_owned(),
                    reason: Some(fault.message().to_owned()),
                    ..Model::default()
                };
            }
        };
        let trial = Trial {
            definition: &definition,
            catalog: known.catalog,
            is_again: known.again == Some(name),
        };
        let copy = self.copy(name, &definition);
        let files = version_files(folder, copy.as_deref()).unwrap_or_default();
        let mut versions: Vec<ModelVersion> = files
            .into_iter()
            .map(|files| match release.unloaded.contains(&files.version) {
                true => ModelVersion::unloaded(files.version),
                false => {
                    let before = previous.and_then(|model| model.version(&files.version));
                    self.load_or_keep(files, before, &trial)
                }
            })
            .collect();
        if let Some(copy) = &copy {
            add_problems(copy, &mut versions);
        }
        if let Some(previous) = previous {
            keep_what_is_meant(&definition, release, previous, &mut versions);
        }
        let source = copy.map(|copy| follow_source(copy, previous, &versions));
        let absence = source.as_ref().filter(|_| versions.is_empty()).map(absence);
        let reason = reason.or(absence);
        let model = Model {
            name: name.to_owned(),
            description: definition.description.clone(),
            entity_not_found: definition.entity_not_found,
            example: example(&definition.example),
            fallbacks: previous.map_or_else(Arc::default, |model| Arc::clone(&model.fallbacks)),
            fallback: definition.fallback.clone(),
            definition: Some(definition),
            versions,
            reason,
            source,
            ..Model::default()
        };
        released(&model, release)
    }

    /// Reads a `model.toml`, and holds it against what is there.
    fn definition(
        &self,
        folder: &Path,
        name: &str,
        names: &[String],
        previous: Option<&Model>,
        release: &Release,
    ) -> Result<ModelDefinition> {
        let path = folder.join(MODEL_FILE);
        let text = self.read_text(&path)?;
        let checked = || {
            let definition = ModelDefinition::parse(&text)?;
            if definition.name != name {
                return Err(Error::failed_precondition(format!(
                    "name: \"{}\" is not the folder's \"{name}\"",
                    definition.name
                )));
            }
            check_fallback(&definition, names)?;
            let copy = self.copy(name, &definition);
            let files = version_files(folder, copy.as_deref())?;
            self.check_inputs(&definition, &files)?;
            let mut versions: Vec<String> = files.into_iter().map(|files| files.version).collect();
            let problems = copy.as_ref().map(|copy| copy.status()).unwrap_or_default();
            versions.extend(problems.versions.keys().map(u64::to_string));
            if copy.is_some() && versions.is_empty() {
                // Nothing has been fetched to hold it against.
                return Ok(definition);
            }
            // What answers goes on where its folder is gone.
            let ready = previous.iter().flat_map(|model| &model.versions);
            let ready = ready.filter(|version| matches!(version.state, VersionState::Ready(_)));
            versions.extend(ready.map(|version| version.version.clone()));
            check_targets(&definition, release, &versions)?;
            Ok(definition)
        };
        checked().map_err(|fault| fault.within(&path.display().to_string()))
    }

    /// Every input that has a policy has to be one of some version: another one may have no such input.
    fn check_inputs(&self, definition: &ModelDefinition, files: &[VersionFiles]) -> Result<()> {
        if definition.inputs.is_empty() {
            return Ok(());
        }
        // A version that cannot be read says so itself.
        let signatures = files.iter().filter_map(|files| {
            let text = self.read_text(&files.folder.join(SIGNATURE_FILE));
            Signature::parse(&text.ok()?).ok()
        });
        let known: BTreeSet<String> = signatures
            .flat_map(|signature| signature.inputs)
            .map(|input| input.name)
            .collect();
        let unknown = definition
            .inputs
            .keys()
            .filter(|name| !known.contains(*name));
        let faults: Vec<String> = unknown
            .map(|name| format!("inputs.{name}: no version of the model has such an input"))
            .collect();
        if faults.is_empty() || known.is_empty() {
            return Ok(());
        }
        Err(Error::failed_precondition(faults.join("; ")))
    }

    /// What was fetched of a model that has a source.
    fn copy(&self, name: &str, definition: &ModelDefinition) -> Option<Arc<ModelCopy>> {
        let location = definition.source.as_ref()?;
        Some(self.mirror.copy(name, location))
    }

    pub(super) fn read_text(&self, path: &Path) -> Result<String> {
        String::from_utf8(self.read(path)?).map_err(|_| {
            Error::failed_precondition(format!("{}: it is not UTF-8 text", path.display()))
        })
    }

    pub(super) fn read(&self, path: &Path) -> Result<Vec<u8>> {
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

/// A model whose folder is gone goes on as it was: a folder that is put in its place may not be there for a moment.
fn gone(previous: &Model) -> Model {
    Model {
        reason: Some(
            "its folder, or the model.toml in it, is gone; UnloadModel, or a restart, takes it out"
                .to_owned(),
        ),
        is_gone: true,
        ..previous.clone()
    }
}

pub(super) fn cannot_read(path: &Path, fault: &std::io::Error) -> Error {
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

/// The files of a model's versions: of its folder, or what was fetched of it. Ascending.
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
            None => versions.push(ModelVersion::refused(version, problem.clone())),
        }
    }
    versions.sort_by_key(|version| version.version.parse::<u64>().unwrap_or_default());
}

/// Why a model is not there of which nothing has been fetched.
fn absence(source: &ModelSource) -> String {
    let problem = source.problem();
    let problem = problem.as_deref().unwrap_or("nothing has been fetched yet");
    format!("{}: {problem}", source.copy.location())
}

/// The folders of a model's versions with their numbers, ascending.
fn version_folders(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut versions: Vec<(u64, PathBuf)> = entries(folder)?
        .into_iter()
        .filter(|entry| entry.is_dir())
        .filter_map(|entry| Some((version_number(&file_name(&entry))?, entry)))
        .collect();
    versions.sort_unstable();
    Ok(versions)
}

/// The number that a version's name is. "01" is none: it could not be told from "1".
pub fn version_number(name: &str) -> Option<u64> {
    let number: u64 = name.parse().ok()?;
    (number.to_string() == name).then_some(number)
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

/// An example entity as JSON; what JSON cannot say is left out.
fn example(fields: &BTreeMap<String, toml::Value>) -> serde_json::Map<String, serde_json::Value> {
    fields
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), serde_json::to_value(value).ok()?)))
        .collect()
}
