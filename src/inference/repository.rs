//! The model repository: reads `models/`, checks every version, and makes it ready. A version that fails a check is
//! refused with its reason; the others are served.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use super::{
    BoundInput, Layout, Model, ModelDefinition, ModelVersion, Models, ReadyVersion, RuntimeLoader,
    Signature, VersionState, Workers, golden::GoldenRows,
};
use crate::{
    catalog::Catalog,
    error::{Error, Result},
};

/// The name of the file that makes a folder a model.
const MODEL_FILE: &str = "model.toml";
const SIGNATURE_FILE: &str = "signature.json";
const CHAMPION: &str = "champion";

/// How versions are loaded and run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Threads a version.
    pub workers: usize,
    /// Batches that may wait for a version's threads.
    pub queue_max: usize,
    /// The largest file that is read, in bytes.
    pub file_bytes_max: usize,
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

impl Repository {
    /// Loads every model and version. What fails its checks is there with its reason.
    ///
    /// # Errors
    /// `FailedPrecondition` where the folder itself cannot be read.
    pub fn load(&self, catalog: &Catalog) -> Result<Models> {
        let mut models = BTreeMap::new();
        for folder in model_folders(&self.path)? {
            let name = file_name(&folder);
            let model = match self.load_model(&folder, &name, catalog) {
                Ok(model) => model,
                Err(fault) => Model {
                    name: name.clone(),
                    reason: Some(fault.message().to_owned()),
                    ..Model::default()
                },
            };
            models.insert(name, Arc::new(model));
        }
        Ok(models)
    }

    fn load_model(&self, folder: &Path, name: &str, catalog: &Catalog) -> Result<Model> {
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
        let mut versions = Vec::new();
        for number in version_numbers(folder)? {
            let version = number.to_string();
            let state = match self.load_version(folder, &version, &definition, catalog) {
                Ok(ready) => VersionState::Ready(Arc::new(ready)),
                Err(fault) => VersionState::Refused(fault.message().to_owned()),
            };
            versions.push(ModelVersion { version, state });
        }
        check_targets(&definition, &versions).map_err(|fault| fault.within(&place))?;
        Ok(Model {
            name: name.to_owned(),
            default_version: default_version(&definition, &versions),
            description: definition.description,
            entity_not_found: definition.entity_not_found,
            example: example(&definition.example),
            aliases: definition.aliases,
            versions,
            reason: None,
        })
    }

    fn load_version(
        &self,
        folder: &Path,
        version: &str,
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
        let model = self.read(&model_path)?;
        let digest = hex::encode(Sha256::digest(&model));
        if !digest.eq_ignore_ascii_case(&signature.sha256) {
            return Err(Error::failed_precondition(format!(
                "{}: its SHA-256 is {digest}, and the signature says {}",
                model_path.display(),
                signature.sha256
            )));
        }
        let mut runtimes = self
            .loader(&signature.runtime)?
            .load(&model, &signature, self.options.workers)
            .map_err(|fault| within(&model_path, fault))?;

        let layout = Layout::new(&signature);
        let golden_path = folder.join(&signature.golden.file);
        let golden = GoldenRows::parse(&self.read_text(&golden_path)?, &signature)
            .map_err(|fault| within(&golden_path, fault))?;
        // Every runtime runs the golden rows: that is its warm-up, too.
        for runtime in &mut runtimes {
            golden
                .check(runtime.as_mut(), &layout, &signature)
                .map_err(|fault| within(&golden_path, fault))?;
        }
        let workers = Workers::start(&definition.name, runtimes, self.options.queue_max)?;
        Ok(ReadyVersion {
            golden_rows: golden.count(),
            signature,
            layout,
            inputs,
            workers,
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

/// Every default and alias has to name a version that is there, whether or not it passed its checks.
fn check_targets(definition: &ModelDefinition, versions: &[ModelVersion]) -> Result<()> {
    let known = |target: &String| versions.iter().any(|version| version.version == *target);
    let aliases = definition
        .aliases
        .iter()
        .map(|(alias, target)| (format!("aliases.{alias}"), target));
    let default = definition
        .default_version
        .iter()
        .map(|target| ("default_version".to_owned(), target));
    let faults: Vec<String> = aliases
        .chain(default)
        .filter(|(_, target)| !known(target))
        .map(|(place, target)| format!("{place}: there is no version \"{target}\""))
        .collect();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Error::failed_precondition(faults.join("; ")))
    }
}

/// What answers where a request names no version: what model.toml says, else the champion, else the newest that is ready.
fn default_version(definition: &ModelDefinition, versions: &[ModelVersion]) -> Option<String> {
    definition
        .default_version
        .as_ref()
        .or_else(|| definition.aliases.get(CHAMPION))
        .cloned()
        .or_else(|| {
            versions
                .iter()
                .rev()
                .find(|version| matches!(version.state, VersionState::Ready(_)))
                .map(|version| version.version.clone())
        })
}

/// An example entity as JSON; what JSON cannot say is left out.
fn example(fields: &BTreeMap<String, toml::Value>) -> serde_json::Map<String, serde_json::Value> {
    fields
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), serde_json::to_value(value).ok()?)))
        .collect()
}

/// Binds every input to a feature of the catalog, of the same type.
fn bind_inputs(
    signature: &Signature,
    definition: &ModelDefinition,
    catalog: &Catalog,
) -> Result<Vec<BoundInput>> {
    let mut faults = Vec::new();
    let mut inputs = Vec::with_capacity(signature.inputs.len());
    for input in &signature.inputs {
        let Some(feature) = definition.feature_of(&input.name) else {
            faults.push(format!(
                "input {}: {MODEL_FILE} names no feature for it",
                input.name
            ));
            continue;
        };
        match catalog.resolve(&feature) {
            Err(fault) => faults.push(format!("input {}: {fault}", input.name)),
            Ok((view, index)) => {
                let found = view.features.get(index).map(|field| field.value_type);
                if found != Some(input.value_type) {
                    faults.push(format!(
                        "input {}: the model was trained on a {}, and the feature {feature} is a {}",
                        input.name,
                        input.value_type,
                        found.map_or("nothing", |found| found.name())
                    ));
                }
            }
        }
        inputs.push(BoundInput {
            feature,
            on_missing: definition.on_missing(&input.name),
        });
    }
    for name in definition.inputs.keys() {
        if signature.input_index(name).is_none() {
            faults.push(format!(
                "{MODEL_FILE}: inputs.{name}: the model has no such input"
            ));
        }
    }
    if faults.is_empty() {
        Ok(inputs)
    } else {
        Err(Error::failed_precondition(faults.join("; ")))
    }
}
