//! Reading what the model repository consists of: folders by their names, files up to a bound.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The name of the file that makes a folder a model.
pub(super) const MODEL_FILE: &str = "model.toml";

/// The folders with a `model.toml`, sorted.
pub(super) fn model_folders(path: &Path) -> Result<Vec<PathBuf>> {
    let mut folders: Vec<PathBuf> = entries(path)?
        .into_iter()
        .filter(|entry| entry.join(MODEL_FILE).is_file())
        .collect();
    folders.sort();
    Ok(folders)
}

/// The versions of a model with their folders, by number, ascending.
pub(super) fn version_folders(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut versions: Vec<(u64, PathBuf)> = entries(folder)?
        .into_iter()
        .filter(|entry| entry.is_dir())
        .filter_map(|entry| Some((version_number(&file_name(&entry))?, entry)))
        .collect();
    versions.sort_unstable();
    Ok(versions)
}

/// The number that a name is. "01" is none: it could not be told from "1".
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

pub(super) fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

pub(super) fn cannot_read(path: &Path, fault: &io::Error) -> Error {
    Error::failed_precondition(format!("{}: cannot be read: {fault}", path.display()))
}

/// Reads a text of up to so many bytes.
pub(super) fn read_text(path: &Path, bytes_max: usize) -> Result<String> {
    String::from_utf8(read(path, bytes_max)?).map_err(|_| {
        Error::failed_precondition(format!("{}: it is not UTF-8 text", path.display()))
    })
}

/// Reads a file that has to be the one that the trainer wrote.
pub(super) fn read_known(path: &Path, sha256: &str, bytes_max: usize) -> Result<Vec<u8>> {
    let bytes = read(path, bytes_max)?;
    let digest = hex::encode(Sha256::digest(&bytes));
    if digest.eq_ignore_ascii_case(sha256) {
        return Ok(bytes);
    }
    Err(Error::failed_precondition(format!(
        "{}: its SHA-256 is {digest}, and the signature says {sha256}",
        path.display()
    )))
}

fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>> {
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
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
