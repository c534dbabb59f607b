//! The definitions files of a model repository: `<models>/<use case>/features.toml`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    catalog::Definitions,
    config::Config,
    error::{Error, Result},
};

const FILE_NAME: &str = "features.toml";

/// A definitions file, read and valid in itself.
#[derive(Debug)]
pub struct DefinitionFile {
    /// The file.
    pub path: PathBuf,
    /// What it defines.
    pub definitions: Definitions,
}

impl DefinitionFile {
    /// The folder that the file's sources are relative to.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }
}

/// Reads the named files, or those of the configuration's repository where none is named, sorted. A folder means the
/// file in it.
///
/// # Errors
/// `FailedPrecondition` for a file that cannot be read or is too long, or a repository without any; `InvalidArgument`
/// with every fault of a file.
pub fn read_definitions(named: &[PathBuf], config: &Config) -> Result<Vec<DefinitionFile>> {
    let paths = if named.is_empty() {
        in_repository(&config.models.path)?
    } else {
        named
            .iter()
            .map(|path| {
                if path.is_dir() {
                    path.join(FILE_NAME)
                } else {
                    path.clone()
                }
            })
            .collect()
    };
    let bytes_max = config.limits.definitions_bytes_max;
    paths
        .into_iter()
        .map(|path| read(path, bytes_max))
        .collect()
}

pub(super) fn in_repository(models: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(models)
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .map_err(|fault| cannot_read(models, &fault))?;
    let mut paths: Vec<PathBuf> = entries
        .into_iter()
        .map(|entry| entry.path().join(FILE_NAME))
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    if paths.is_empty() {
        return Err(Error::failed_precondition(format!(
            "{}: no folder in it has a {FILE_NAME}; --models names the repository",
            models.display()
        )));
    }
    Ok(paths)
}

pub(super) fn read(path: PathBuf, bytes_max: usize) -> Result<DefinitionFile> {
    let length = fs::metadata(&path)
        .map_err(|fault| cannot_read(&path, &fault))?
        .len();
    if usize::try_from(length).unwrap_or(usize::MAX) > bytes_max {
        return Err(Error::failed_precondition(format!(
            "{}: {length} bytes are more than the {bytes_max} of a definitions file (limits.definitions_bytes_max)",
            path.display()
        )));
    }
    let text = fs::read_to_string(&path).map_err(|fault| cannot_read(&path, &fault))?;
    let definitions =
        Definitions::parse(&text).map_err(|fault| fault.within(&path.display().to_string()))?;
    Ok(DefinitionFile { path, definitions })
}

fn cannot_read(path: &Path, fault: &std::io::Error) -> Error {
    Error::failed_precondition(format!("{}: cannot be read: {fault}", path.display()))
}
