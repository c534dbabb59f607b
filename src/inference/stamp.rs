//! How files look from outside: enough to see that they have changed, without reading them.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Files of one folder that are looked at; a version has some five.
const FILES_MAX: usize = 1_000;

/// The length, the time of change and the number of each file of a folder; links are followed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Stamp {
    files: BTreeMap<PathBuf, (u64, Option<SystemTime>, u64)>,
}

impl Stamp {
    /// Looks at the files of a folder, not at those of folders in it.
    pub(super) fn of_folder(folder: &Path) -> io::Result<Stamp> {
        let mut stamp = Stamp::default();
        for entry in fs::read_dir(folder)?.take(FILES_MAX) {
            stamp.add(entry?.path());
        }
        Ok(stamp)
    }

    /// Looks at one file more; one that is not there is no part of the stamp.
    pub(super) fn add(&mut self, path: PathBuf) {
        if let Ok(found) = fs::metadata(&path)
            && found.is_file()
        {
            let seen = (found.len(), found.modified().ok(), found.ino());
            self.files.insert(path, seen);
        }
    }
}
