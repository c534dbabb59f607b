//! The data files below a folder.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::unreadable;
use crate::error::{Error, Result};

/// Files that one folder may hold; more are refused before any is loaded.
const FILES_MAX: usize = 10_000;

/// Entries that are looked at, whatever they are.
const ENTRIES_MAX: usize = 100_000;

/// How deep folders may be nested.
const DEPTH_MAX: usize = 32;

/// Whether a file's name says that it holds rows.
pub(super) fn is_data_file(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        extension.eq_ignore_ascii_case("parquet") || extension.eq_ignore_ascii_case("csv")
    })
}

/// The `.parquet` and `.csv` files below a folder, at any depth, each with its path relative to the folder, parted by
/// `/`; sorted by that. What is hidden or unfinished is passed over: names that begin with `.` or `_`, or end in `.tmp`.
/// Links are followed, each folder is gone through once.
///
/// # Errors
/// `FailedPrecondition` where there is none, or there are too many, or what cannot be read is named. Faults name the folder
/// as `shown`.
pub(super) fn data_files(folder: &Path, shown: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut search = Search::default();
    search.go_through(folder, shown.trim_end_matches('/'), "", 0)?;
    if search.files.is_empty() {
        return Err(Error::failed_precondition(format!(
            "{shown}: there is no .parquet or .csv file in this folder"
        )));
    }
    search.files.sort();
    Ok(search.files)
}

#[derive(Default)]
struct Search {
    files: Vec<(String, PathBuf)>,
    /// Where a link leads back to.
    folders: BTreeSet<PathBuf>,
    entries: usize,
}

impl Search {
    fn go_through(&mut self, folder: &Path, shown: &str, prefix: &str, depth: usize) -> Result<()> {
        let cannot_read = |fault| unreadable(shown, fault);
        let itself = folder.canonicalize().map_err(cannot_read)?;
        if !self.folders.insert(itself) {
            return Ok(());
        }
        if depth > DEPTH_MAX {
            return Err(too_much(shown, "folders in folders", DEPTH_MAX));
        }
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder).map_err(cannot_read)? {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(too_much(shown, "entries", ENTRIES_MAX));
            }
            entries.push(entry.map_err(cannot_read)?.file_name());
        }
        // Of two names of one folder the same one is always taken.
        entries.sort();
        for name in entries {
            let path = folder.join(&name);
            let Some(name) = name.to_str() else {
                return Err(Error::failed_precondition(format!(
                    "{shown}/{}: the name is no UTF-8",
                    name.display()
                )));
            };
            if name.starts_with(['.', '_']) || name.ends_with(".tmp") {
                continue;
            }
            let relative = format!("{prefix}{name}");
            if path.is_dir() {
                let shown = format!("{shown}/{name}");
                self.go_through(&path, &shown, &format!("{relative}/"), depth + 1)?;
            } else if is_data_file(&path) {
                if self.files.len() >= FILES_MAX {
                    return Err(too_much(shown, "files", FILES_MAX));
                }
                self.files.push((relative, path));
            }
        }
        Ok(())
    }
}

fn too_much(shown: &str, what: &str, max: usize) -> Error {
    Error::failed_precondition(format!(
        "{shown}: more than {max} {what}; a source may have that many"
    ))
}
