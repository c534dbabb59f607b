//! Finds ONNX Runtime's shared library and opens it, once a process.

use std::{
    env,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use ort::{environment::Environment, logging::LogLevel};

use crate::error::{Error, Result};

/// What the library's file is called, apart from its version.
const FILE_PREFIX: &str = "libonnxruntime.so";

/// Where the library is looked for beside the configured place, in this order: relative to the working directory.
const FOLDERS: [&str; 5] = [
    ".tools/onnxruntime/onnxruntime/capi",
    "/usr/local/lib",
    "/usr/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
];

/// Below this version there are known faults of security: see the release notes of ONNX Runtime 1.30.1.
const VERSION_MIN: [u32; 3] = [1, 30, 1];

/// ONNX Runtime keeps one environment a process; it lives as long as the process, whoever drops theirs.
static OPENED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// Opens ONNX Runtime: the configured library, or the first that is found.
///
/// # Errors
/// `FailedPrecondition` where there is none, where it cannot be opened, or where it is too old.
pub(super) fn open(configured: Option<&Path>) -> Result<Environment> {
    let path = match configured {
        Some(path) if path.is_file() => path.to_path_buf(),
        Some(path) => {
            return Err(Error::failed_precondition(format!(
                "onnx.library_path: {} is no file; it should be ONNX Runtime's {FILE_PREFIX}.<version>",
                path.display()
            )));
        }
        None => search()?,
    };
    let path = path.canonicalize().unwrap_or(path);
    check_version(&path)?;

    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, environment)) = opened.as_ref() {
        // A second library cannot be opened beside the first, which serves as well.
        return Ok(environment.clone());
    }
    let cannot_open = |fault: String| {
        Error::failed_precondition(format!(
            "{}: ONNX Runtime cannot be opened: {fault}",
            path.display()
        ))
    };
    let environment = ort::init_from(&path)
        .map_err(|fault| cannot_open(fault.to_string()))?
        .with_telemetry(false)
        .build()
        .map_err(|fault| cannot_open(fault.to_string()))?;
    // Its warnings are about what exporters write, and come with every call.
    environment.set_log_level(LogLevel::Error);
    *opened = Some((path, environment.clone()));
    Ok(environment)
}

fn search() -> Result<PathBuf> {
    let beside_us = env::current_exe()
        .ok()
        .and_then(|path| path.parent().map(Path::to_path_buf));
    let folders = beside_us
        .into_iter()
        .chain(FOLDERS.into_iter().map(PathBuf::from));
    let mut searched = Vec::new();
    for folder in folders {
        if let Some(found) = library_in(&folder) {
            return Ok(found);
        }
        searched.push(folder.display().to_string());
    }
    Err(Error::failed_precondition(format!(
        "ONNX Runtime's {FILE_PREFIX} was not found in {}; set onnx.library_path (FERROCAST_ONNX_LIBRARY_PATH), or run `make tools`, which brings it",
        searched.join(", ")
    )))
}

/// The library in a folder, the newest by the version in its name where there are several.
fn library_in(folder: &Path) -> Option<PathBuf> {
    std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(FILE_PREFIX))
        })
        .max_by_key(|path| version_of(path))
}

/// The version in a library's file name, as libonnxruntime.so.1.31.1; none where the name tells none.
fn version_of(path: &Path) -> Option<Vec<u32>> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let version = name.strip_prefix(FILE_PREFIX)?.strip_prefix('.')?;
    version.split('.').map(|part| part.parse().ok()).collect()
}

/// Refuses a library whose file name tells that it is too old. A name without a version passes: the library itself has
/// no such call, and `ort` refuses what lacks the functions that it needs.
fn check_version(path: &Path) -> Result<()> {
    match version_of(path) {
        Some(version)
            if version.len() == VERSION_MIN.len() && version.as_slice() < &VERSION_MIN =>
        {
            Err(Error::failed_precondition(format!(
                "{}: this version of ONNX Runtime has known security faults; 1.30.1 or newer is needed",
                path.display()
            )))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_old_library_is_refused_by_its_name() {
        let check = |name: &str| check_version(Path::new(name));
        assert!(check("/x/libonnxruntime.so.1.31.1").is_ok());
        assert!(check("/x/libonnxruntime.so.2.0.0").is_ok());
        assert!(check("/x/libonnxruntime.so").is_ok());
        assert!(check("/x/libonnxruntime.so.1.26.0").is_err());
        assert!(check("/x/libonnxruntime.so.1.30.0").is_err());
        assert!(check("/x/libonnxruntime.so.1.9.0").is_err());
        assert!(
            version_of(Path::new("libonnxruntime.so.1.9.0"))
                < version_of(Path::new("libonnxruntime.so.1.31.1"))
        );
    }

    #[test]
    fn a_place_without_the_library_is_named() {
        let fault = open(Some(Path::new("/nowhere/libonnxruntime.so"))).unwrap_err();
        assert!(fault.message().contains("/nowhere"), "{fault}");
    }
}
