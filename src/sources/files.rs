//! Which files a view's source means: relative to its definitions file, in the model repository, or given by hand.

use std::path::{Component, Path, PathBuf};

use super::{definition_files, digest_as, folder::data_files, open_as, unreadable};
use crate::{
    catalog::{FeatureView, Origin},
    config::Config,
    error::{Error, ErrorKind, Result},
    features::{RowSource, SourceFile, Sources, Timestamp, ViewSource},
};

/// Finds and opens the files of views.
#[derive(Debug, Clone)]
pub struct FileSources {
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Repository {
        models: PathBuf,
        definitions_bytes_max: usize,
        /// Whether a path may lead out of the repository.
        is_confined: bool,
    },
    Given(PathBuf),
}

impl FileSources {
    /// The sources of definitions whose author is trusted with this machine's files, as the command line's is: a path may
    /// be absolute or lead out of the repository.
    pub fn of_repository(config: &Config) -> FileSources {
        FileSources::repository(config, false)
    }

    /// The sources of definitions that anybody may have applied through the network: nothing outside the repository is
    /// read, not through a link either.
    pub fn within_repository(config: &Config) -> FileSources {
        FileSources::repository(config, true)
    }

    fn repository(config: &Config, is_confined: bool) -> FileSources {
        FileSources {
            place: Place::Repository {
                models: config.models.path.clone(),
                definitions_bytes_max: config.limits.definitions_bytes_max,
                is_confined,
            },
        }
    }

    /// A file or folder in place of any view's source.
    pub fn given(path: PathBuf) -> FileSources {
        FileSources {
            place: Place::Given(path),
        }
    }
}

impl Sources for FileSources {
    fn find(&self, view: &FeatureView) -> Result<ViewSource> {
        let (models, definitions_bytes_max, is_confined) = match &self.place {
            Place::Given(path) => {
                return files(path, &path.display().to_string()).map(ViewSource::Files);
            }
            Place::Repository {
                models,
                definitions_bytes_max,
                is_confined,
            } => (models, *definitions_bytes_max, *is_confined),
        };
        let path = match view.source.as_ref().map(|source| &source.origin) {
            None => return Err(no_source(view)),
            Some(Origin::Query(_)) => return Ok(ViewSource::Query),
            Some(Origin::Path(path)) => path,
        };
        let folder = definitions_folder(models, definitions_bytes_max, view)?;
        if !is_confined {
            return files(&folder.join(path), path).map(ViewSource::Files);
        }
        files_within(models, &folder, path).map(ViewSource::Files)
    }

    fn digest(&self, file: &SourceFile, view: &FeatureView) -> Result<String> {
        digest_as(&file.path, &file.shown, view)
    }

    fn open(
        &self,
        file: &SourceFile,
        view: &FeatureView,
        now: Timestamp,
    ) -> Result<Box<dyn RowSource>> {
        open_as(&file.path, &file.shown, view, now)
    }
}

fn no_source(view: &FeatureView) -> Error {
    Error::failed_precondition(format!(
        "the feature view \"{}\" has no source; it is filled by writing",
        view.name
    ))
}

/// The file itself, or what is in the folder.
fn files(path: &Path, name: &str) -> Result<Vec<SourceFile>> {
    if !path.is_dir() {
        return Ok(vec![SourceFile {
            name: name.to_owned(),
            path: path.to_owned(),
            shown: path.display().to_string(),
        }]);
    }
    let prefix = name.trim_end_matches('/');
    let found = data_files(path)?.into_iter().map(|(relative, path)| {
        let shown = path.display().to_string();
        SourceFile {
            name: format!("{prefix}/{relative}"),
            path,
            shown,
        }
    });
    Ok(found.collect())
}

/// As `files`, every one within the repository, and named as the definition names it: a caller from the network learns
/// nothing of the server's folders.
fn files_within(models: &Path, folder: &Path, path: &str) -> Result<Vec<SourceFile>> {
    let outside = || {
        Error::new(
            ErrorKind::PermissionDenied,
            format!(
                "{path}: leads out of the model repository; the server reads no file outside it, `ferrocast materialize` does"
            ),
        )
    };
    // Refused before anything is looked at, so that the answer does not tell what is there.
    if leads_out(models, folder, path) {
        return Err(outside());
    }
    let resolved = |place: &Path| {
        place
            .canonicalize()
            .map_err(|fault| unreadable(path, fault))
    };
    let root = resolved(models)?;
    let itself = resolved(&folder.join(path))?;
    if !itself.starts_with(&root) {
        return Err(outside());
    }
    // What goes wrong in there is told without the server's folders, and with them in the log.
    let mut found = files(&itself, path).map_err(|fault| {
        let sentence = format!(
            "{path}: a folder that cannot be gone through, or without a .parquet or .csv file"
        );
        Error::new(fault.kind(), sentence).with_source(fault)
    })?;
    for file in &mut found {
        file.shown.clone_from(&file.name);
        file.path = resolved(&file.path)?;
        if !file.path.starts_with(&root) {
            return Err(outside());
        }
    }
    Ok(found)
}

/// Whether a path is absolute, or has more `..` than there are folders between the repository and it.
fn leads_out(models: &Path, folder: &Path, path: &str) -> bool {
    let below = folder.strip_prefix(models).unwrap_or(Path::new(""));
    let mut depth = below.components().count();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return true,
        }
    }
    false
}

/// The folder of the definitions file of a view's project.
fn definitions_folder(models: &Path, bytes_max: usize, view: &FeatureView) -> Result<PathBuf> {
    let mut folder = None;
    for path in definition_files::in_repository(models)? {
        // Another project's fault is not this view's.
        let Ok(file) = definition_files::read(path, bytes_max) else {
            continue;
        };
        if file.definitions.project != view.project {
            continue;
        }
        let has_view = |other: &FeatureView| other.name == view.name;
        let defines = file.definitions.views.iter().any(|view| has_view(view));
        if defines || folder.is_none() {
            folder = Some(file.folder().to_owned());
        }
    }
    folder.ok_or_else(|| {
        Error::failed_precondition(format!(
            "the feature view \"{}\" is loaded from files beside its definitions, and no definitions file of the model repository is of the project \"{}\"",
            view.name, view.project
        ))
    })
}
