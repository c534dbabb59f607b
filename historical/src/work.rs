//! Files that must not outlive the join: the folder of work files, and the output while it is half done.
//!
//! They go when their owner is dropped, and when a signal ends the process.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use tempfile::{TempDir, TempPath};

use crate::error::{Error, Result};

/// What a signal has to remove.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// The join may put a file into a folder that is just being removed, so it is tried again.
const REMOVAL_TRIES: usize = 20;

/// A folder for the files of one join.
pub(crate) struct WorkDir {
    folder: TempDir,
    files_made: u64,
}

impl WorkDir {
    /// Makes a folder of its own in the one that the plan names.
    ///
    /// # Errors
    /// `NotFound` or `FailedPrecondition` where it cannot be made.
    pub(crate) fn new(parent: &Path) -> Result<Self> {
        let mut unfinished = unfinished();
        let folder = tempfile::Builder::new()
            .prefix("ferrocast-historical-")
            .tempdir_in(parent)
            .map_err(|fault| Error::io(parent.display(), "used for work files", &fault))?;
        unfinished.push(folder.path().to_owned());
        Ok(WorkDir {
            folder,
            files_made: 0,
        })
    }

    /// The path of a file that is not there yet.
    pub(crate) fn next_path(&mut self) -> PathBuf {
        self.files_made += 1;
        self.folder
            .path()
            .join(format!("{}.arrow", self.files_made))
    }
}

/// An output under a name of its own until it is whole.
pub(crate) struct Unfinished {
    path: TempPath,
}

impl Unfinished {
    /// Makes the file, beside the one that it will become.
    ///
    /// # Errors
    /// `NotFound` or `FailedPrecondition` where it cannot be made.
    pub(crate) fn create(target: &Path) -> Result<(Self, fs::File)> {
        let name = target
            .file_name()
            .ok_or_else(|| Error::invalid("out.path", "it names no file"))?;
        let folder = target.parent().filter(|folder| *folder != Path::new(""));
        let mut unfinished = unfinished();
        // A random name: a join that was killed may have left one with any number. Made as any other file, it is as
        // readable as any other.
        let made = tempfile::Builder::new()
            .prefix(&format!(".{}.", name.to_string_lossy()))
            .suffix(".partial")
            .make_in(folder.unwrap_or(Path::new(".")), |path| {
                fs::File::create_new(path)
            });
        let made = made.map_err(|fault| Error::io(target.display(), "made", &fault))?;
        let (file, path) = made.into_parts();
        unfinished.push(path.to_path_buf());
        Ok((Unfinished { path }, file))
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// `FailedPrecondition` where that cannot be done.
    pub(crate) fn finish(self, target: &Path) -> Result<()> {
        // Held meanwhile, so that a signal finds the file whole or removes it.
        let mut unfinished = unfinished();
        let own = self.path.to_path_buf();
        let named = self.path.persist(target);
        named.map_err(|fault| Error::io(target.display(), "written", &fault.error))?;
        unfinished.retain(|path| *path != own);
        Ok(())
    }
}

/// Removes everything unfinished when the process is told to stop.
///
/// # Errors
/// `FailedPrecondition` where signals cannot be waited for.
pub(crate) fn clean_up_on_signals() -> Result<()> {
    let fault = |fault: std::io::Error| {
        Error::failed_precondition(format!("signals cannot be waited for: {fault}"))
    };
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(fault)?;
    let wait = move || {
        if signals.forever().next().is_none() {
            return;
        }
        // Never given back: the join can neither make nor finish a file any more.
        let unfinished = unfinished();
        unfinished.iter().for_each(|path| remove(path));
        crate::report(&Error::failed_precondition(
            "the join was told to stop; nothing was written",
        ));
        process::exit(1);
    };
    let thread = thread::Builder::new().name("signals".to_owned());
    thread.spawn(wait).map_err(fault)?;
    Ok(())
}

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remove(path: &Path) {
    if path.is_file() {
        let _ = fs::remove_file(path);
        return;
    }
    for _ in 0..REMOVAL_TRIES {
        if fs::remove_dir_all(path).is_ok() || !path.exists() {
            return;
        }
    }
}
