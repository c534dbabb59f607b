//! One version of a model: read from its folder, checked, warmed; or kept as it was.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use super::{
    Drift, Layout, ModelDefinition, ModelFiles, ModelVersion, ReadyVersion, Repository, Runtime,
    RuntimeLoader, Signature, VersionState, Workers,
    binding::{bind_inputs, check_catalog, check_defaults, check_missing},
    counters::VersionCounters,
    golden::GoldenRows,
    pace::rows_within,
    referee::Pair,
    stamp::Stamp,
};
use crate::{
    catalog::Catalog,
    error::{Error, Result},
};

/// The name of the file that says what a version is.
pub(super) const SIGNATURE_FILE: &str = "signature.json";

/// The files of one version.
pub(super) struct VersionFiles {
    pub(super) version: String,
    pub(super) folder: PathBuf,
    /// Whether somebody else than its trainer has numbered it.
    pub(super) is_renumbered: bool,
}

/// What a version is tried with.
pub(super) struct Trial<'a> {
    pub(super) definition: &'a Arc<ModelDefinition>,
    pub(super) catalog: &'a Catalog,
    /// Whether what was refused is tried again, though all is as it was.
    pub(super) is_again: bool,
}

/// What a version was last tried with, and refused: the same again is refused for the same reason.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tried {
    stamp: Stamp,
    definition: Arc<ModelDefinition>,
    catalog_revision: i64,
}

impl ModelVersion {
    /// A version that could not be fetched.
    pub(super) fn refused(version: String, reason: String) -> ModelVersion {
        ModelVersion {
            version,
            state: VersionState::Refused(reason),
            problem: None,
            tried: None,
        }
    }

    /// A version that somebody has unloaded.
    pub(super) fn unloaded(version: String) -> ModelVersion {
        ModelVersion {
            version,
            state: VersionState::Unloaded,
            problem: None,
            tried: None,
        }
    }
}

impl Repository {
    /// Loads a version, or keeps it where its files are as they were. Where they have changed and are refused, what
    /// answered before goes on.
    pub(super) fn load_or_keep(
        &self,
        files: VersionFiles,
        before: Option<&ModelVersion>,
        trial: &Trial<'_>,
    ) -> ModelVersion {
        let stamp = Stamp::of_folder(&files.folder).unwrap_or_default();
        let tried = Tried {
            stamp: stamp.clone(),
            definition: Arc::clone(trial.definition),
            catalog_revision: trial.catalog.revision,
        };
        if let Some(before) = before.filter(|_| !trial.is_again)
            && before.tried.as_ref() == Some(&tried)
        {
            return before.clone();
        }
        let ready = before.and_then(|before| match &before.state {
            VersionState::Ready(ready) => Some(ready),
            VersionState::Refused(_) | VersionState::Unloaded => None,
        });
        let is_same = |ready: &&Arc<ReadyVersion>| {
            ready.stamp == stamp && ready.runtime == runtime_of(trial.definition, &ready.signature)
        };
        if let Some(ready) = ready.filter(is_same) {
            let (state, problem) = rebound(ready, trial);
            return ModelVersion {
                version: files.version,
                state,
                problem,
                tried: None,
            };
        }
        let loaded = self.load_version(&files, stamp, trial);
        let (state, problem, tried) = match (loaded, ready) {
            (Ok(loaded), _) => (VersionState::Ready(Arc::new(loaded)), None, None),
            (Err(fault), None) => {
                let reason = fault.message().to_owned();
                (VersionState::Refused(reason), None, Some(tried))
            }
            (Err(fault), Some(ready)) => {
                let (state, _) = rebound(ready, trial);
                (state, Some(fault.message().to_owned()), Some(tried))
            }
        };
        ModelVersion {
            version: files.version,
            state,
            problem,
            tried,
        }
    }

    fn load_version(
        &self,
        files: &VersionFiles,
        stamp: Stamp,
        trial: &Trial<'_>,
    ) -> Result<ReadyVersion> {
        let definition = trial.definition;
        let folder = &files.folder;
        let within = |path: &Path, fault: Error| fault.within(&path.display().to_string());
        let signature_path = folder.join(SIGNATURE_FILE);
        let mut signature = Signature::parse(&self.read_text(&signature_path)?)
            .map_err(|fault| within(&signature_path, fault))?;
        if files.is_renumbered {
            signature.version.clone_from(&files.version);
        }
        check_identity(&signature, &definition.name, &files.version)
            .map_err(|fault| within(&signature_path, fault))?;
        let inputs = bind_inputs(&signature, definition, trial.catalog)?;

        let model_path = folder.join(&signature.file);
        let model = self.read_known(&model_path, &signature.sha256)?;
        let explain = signature.explain.as_ref();
        let explain = explain.map(|by| self.read_known(&folder.join(&by.file), &by.sha256));
        let explain = explain.transpose()?;
        let contents = ModelFiles {
            model: &model,
            explain: explain.as_deref(),
        };
        let load = |runtime: &str, count| {
            let loader = self.loader(runtime)?;
            let loaded = loader.load(contents, &signature, count);
            loaded.map_err(|fault| within(&model_path, fault))
        };
        let runtime = runtime_of(definition, &signature).to_owned();
        // It also looks into the file, which is untrusted, before another runtime does.
        let mut referee = match runtime == signature.runtime {
            true => Vec::new(),
            false => load(&signature.runtime, 1)?,
        };
        let mut runtimes = load(&runtime, self.options.workers)?;

        let layout = Layout::new(&signature);
        check_defaults(&layout, &inputs)?;
        let golden_path = folder.join(&signature.golden.file);
        let golden = GoldenRows::parse(&self.read_text(&golden_path)?, &signature)
            .map_err(|fault| within(&golden_path, fault))?;
        let proven_missing = golden.missing_inputs();
        check_missing(&signature, &inputs, &layout, &proven_missing)
            .map_err(|fault| within(&golden_path, fault))?;
        let proof = Proof {
            golden: &golden,
            layout: &layout,
            signature: &signature,
        };
        let names = [runtime.as_str(), signature.runtime.as_str()];
        proof
            .hold(&mut runtimes, referee.first_mut(), names)
            .map_err(|fault| within(&golden_path, fault))?;
        let here_rows_max = match runtimes.first_mut() {
            Some(runtime) => rows_within(
                self.options.inline_max,
                runtime.as_mut(),
                &golden.first_row(&layout)?,
            )?,
            None => 0,
        };
        let workers = Workers::start(
            &definition.name,
            runtimes,
            self.options.queue_max,
            here_rows_max,
        )?;
        Ok(ReadyVersion {
            golden_rows: golden.count(),
            proven_missing: proven_missing.into(),
            counters: Arc::new(VersionCounters::new(signature.inputs.len())),
            drift: Arc::new(Drift::new(&signature)),
            signature: Arc::new(signature),
            layout: Arc::new(layout),
            inputs,
            selection: Arc::default(),
            runtime,
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
                    "there is no runtime \"{name}\", which the signature or model.toml asks for; this server has: {}",
                    names.join(", ")
                ))
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
}

/// The runtime that a version is to be run by.
fn runtime_of<'a>(definition: &'a ModelDefinition, signature: &'a Signature) -> &'a str {
    definition.runtime.as_deref().unwrap_or(&signature.runtime)
}

/// What runtimes are held against before they answer anything.
struct Proof<'a> {
    golden: &'a GoldenRows,
    layout: &'a Layout,
    signature: &'a Signature,
}

impl Proof<'_> {
    /// Has every runtime score the golden rows, which is its warm-up, too, and one of them explain some; where there is a
    /// referee, they have to be alike. `names`: the runtimes' and the referee's.
    ///
    /// # Errors
    /// `FailedPrecondition` that names the first row that differs.
    fn hold(
        &self,
        runtimes: &mut [Box<dyn Runtime>],
        referee: Option<&mut Box<dyn Runtime>>,
        names: [&str; 2],
    ) -> Result<()> {
        let Proof {
            golden,
            layout,
            signature,
        } = self;
        for runtime in runtimes.iter_mut() {
            golden.check(runtime.as_mut(), layout, signature)?;
        }
        let Some(one) = runtimes.first_mut() else {
            return Ok(());
        };
        if let Some(referee) = referee {
            let pair = Pair {
                names,
                runtimes: [one.as_mut(), referee.as_mut()],
            };
            golden.check_alike(pair, layout, signature)?;
        }
        if signature.explain.is_some() || golden.has_explanations() {
            golden.check_explained(one.as_mut(), layout, signature)?;
        }
        Ok(())
    }
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

/// A version with its inputs bound anew: definitions may have changed. Where a new model.toml does not fit, it goes on as
/// it was, with the reason, as long as the catalog still has what it was bound to.
fn rebound(ready: &Arc<ReadyVersion>, trial: &Trial<'_>) -> (VersionState, Option<String>) {
    let signature = &ready.signature;
    let bound = bind_inputs(signature, trial.definition, trial.catalog).and_then(|inputs| {
        check_defaults(&ready.layout, &inputs)?;
        check_missing(signature, &inputs, &ready.layout, &ready.proven_missing)
            .map_err(|fault| fault.within(&signature.golden.file))?;
        Ok(inputs)
    });
    match bound {
        Ok(inputs) if inputs == ready.inputs => (VersionState::Ready(Arc::clone(ready)), None),
        Ok(inputs) => {
            let rebound = ReadyVersion {
                inputs,
                selection: Arc::default(),
                ..ReadyVersion::clone(ready)
            };
            (VersionState::Ready(Arc::new(rebound)), None)
        }
        Err(fault) => {
            let reason = fault.message().to_owned();
            match check_catalog(signature, &ready.inputs, trial.catalog).as_slice() {
                [] => (VersionState::Ready(Arc::clone(ready)), Some(reason)),
                _ => (VersionState::Refused(reason), None),
            }
        }
    }
}
