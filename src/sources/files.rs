//! Which files a view's source means: relative to its definitions file, in the model repository, or given by hand.

use std::{
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use super::{
    definition_files::{self, DefinitionFile},
    digest_as,
    folder::data_files,
    open_as, unreadable,
};
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

    /// Where a view's rows are; the repository's definitions files are read when they are first needed.
    fn find_one(&self, view: &FeatureView, read: &mut Option<Projects>) -> Result<ViewSource> {
        let (models, bytes_max, is_confined) = match &self.place {
            Place::Given(path) => {
                let shown = path.display().to_string();
                return files(path, &shown, &shown).map(ViewSource::Files);
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
        let projects = match read {
            Some(projects) => projects,
            None => read.insert(Projects::read(models, bytes_max)?),
        };
        let folder = projects.folder(view)?;
        if is_confined {
            return files_within(models, folder, path).map(ViewSource::Files);
        }
        let place = folder.join(path);
        files(&place, path, &place.display().to_string()).map(ViewSource::Files)
    }
}

impl Sources for FileSources {
    fn find(&self, view: &FeatureView) -> Result<ViewSource> {
        self.find_one(view, &mut None)
    }

    fn find_all(&self, views: &[Arc<FeatureView>]) -> Result<Vec<ViewSource>> {
        // All definitions files are read once.
        let mut read = None;
        let found = views.iter().map(|view| self.find_one(view, &mut read));
        found.collect()
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

/// The file itself, or what is in the folder; faults name it as `shown`.
fn files(path: &Path, name: &str, shown: &str) -> Result<Vec<SourceFile>> {
    if !path.is_dir() {
        return Ok(vec![SourceFile {
            name: name.to_owned(),
            path: path.to_owned(),
            shown: shown.to_owned(),
        }]);
    }
    let below =
        |folder: &str, relative: &str| format!("{}/{relative}", folder.trim_end_matches('/'));
    let found = data_files(path, shown)?.into_iter();
    let found = found.map(|(relative, path)| SourceFile {
        name: below(name, &relative),
        path,
        shown: below(shown, &relative),
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
    let mut found = files(&itself, path, path)?;
    for file in &mut found {
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

/// The definitions files of a repository.
struct Projects {
    files: Vec<DefinitionFile>,
    /// Those that cannot be read, as they stand in the repository, and why.
    unreadable: Vec<(String, Error)>,
}

impl Projects {
    fn read(models: &Path, bytes_max: usize) -> Result<Projects> {
        let mut projects = Projects {
            files: Vec::new(),
            unreadable: Vec::new(),
        };
        for path in definition_files::in_repository(models)? {
            let name = path.strip_prefix(models).unwrap_or(&path);
            let name = name.display().to_string();
            match definition_files::read(path, bytes_max) {
                Ok(file) => projects.files.push(file),
                // Another project's fault is not this view's.
                Err(fault) => projects.unreadable.push((name, fault)),
            }
        }
        Ok(projects)
    }

    /// The folder of the definitions file of a view's project: of the one that defines the view, where there is one.
    fn folder(&self, view: &FeatureView) -> Result<&Path> {
        let of_project = |file: &&DefinitionFile| file.definitions.project == view.project;
        let defines = |file: &DefinitionFile| {
            let mut views = file.definitions.views.iter();
            views.any(|other| other.name == view.name)
        };
        let mut files = self.files.iter().filter(of_project);
        let first = files.clone().next();
        let found = files.find(|file| defines(file)).or(first);
        found
            .map(DefinitionFile::folder)
            .ok_or_else(|| self.no_folder(view))
    }

    fn no_folder(&self, view: &FeatureView) -> Error {
        let mut sentence = format!(
            "the feature view \"{}\" is loaded from files beside its definitions, and no definitions file of the model repository is of the project \"{}\"",
            view.name, view.project
        );
        let names: Vec<&str> = self
            .unreadable
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let faults: Vec<&str> = self.unreadable.iter().map(|(_, f)| f.message()).collect();
        if faults.is_empty() {
            return Error::failed_precondition(sentence);
        }
        sentence.push_str(&format!("; these cannot be read: {}", names.join(", ")));
        Error::failed_precondition(sentence).with_source(faults.join("; "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{error::Error as _, ffi::OsStr, fs, os::unix::ffi::OsStrExt};

    use super::*;
    use crate::catalog::Definitions;

    const DEFINITIONS: &str = r#"
        project = "shop"
        [[entities]]
        name = "item"
        join_keys = [{ name = "id", type = "int64" }]
        [[feature_views]]
        name = "prices"
        entity = "item"
        source = { path = "data/" }
        features = [{ name = "x", type = "double" }]
    "#;

    /// A repository with the shop's definitions and, beside them, somebody else's broken ones.
    fn repository() -> (tempfile::TempDir, Arc<FeatureView>, FileSources) {
        let models = tempfile::tempdir().unwrap();
        fs::create_dir_all(models.path().join("shop/data")).unwrap();
        fs::create_dir(models.path().join("other")).unwrap();
        fs::write(models.path().join("shop/data/a.csv"), "").unwrap();
        fs::write(models.path().join("shop/features.toml"), DEFINITIONS).unwrap();
        fs::write(models.path().join("other/features.toml"), "project =").unwrap();
        let view = Definitions::parse(DEFINITIONS).unwrap().views.remove(0);
        let sources = FileSources {
            place: Place::Repository {
                models: models.path().to_owned(),
                definitions_bytes_max: 10_000,
                is_confined: true,
            },
        };
        (models, view, sources)
    }

    #[test]
    fn definitions_that_cannot_be_read_are_named_where_a_view_misses_its_own() {
        let (models, view, sources) = repository();
        let views = [Arc::clone(&view), Arc::clone(&view)];
        assert_eq!(sources.find_all(&views).unwrap().len(), 2);
        let broken = DEFINITIONS.replace("[[feature_views]]", "[[feature_views]");
        fs::write(models.path().join("shop/features.toml"), broken).unwrap();
        let fault = sources.find(&view).unwrap_err();
        let named = "cannot be read: other/features.toml, shop/features.toml";
        assert!(fault.message().contains(named), "{fault}");
        let folder = models.path().display().to_string();
        assert!(!fault.message().contains(&folder), "{fault}");
        let cause = fault.source().unwrap().to_string();
        assert!(
            cause.contains(&format!("{folder}/shop/features.toml: ")),
            "{cause}"
        );
    }

    #[test]
    fn a_name_that_is_no_text_is_named_without_the_servers_folders() {
        let (models, view, sources) = repository();
        let below = models.path().join("shop/data/day");
        fs::create_dir(&below).unwrap();
        fs::write(below.join(OsStr::from_bytes(b"a\xff.csv")), "").unwrap();
        let fault = sources.find(&view).unwrap_err();
        let sentence = "data/day/a\u{fffd}.csv: the name is no UTF-8";
        assert_eq!(fault.message(), sentence);
    }
}
