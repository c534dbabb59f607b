//! Files that a view's rows come from: found by its definition, opened, checked against the view, read in batches.
//!
//! Parquet and CSV, alone or in folders. Everything here blocks. Conversions lose nothing: what does not fit a type exactly is a fault that names file, row and
//! column. Knows nothing of stores; `features::materialize` brings the two together.

mod arrow;
mod csv;
mod definition_files;
mod files;
mod folder;
mod layout;
mod lists;
mod parquet;

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use sha2::Digest;

pub use definition_files::{DefinitionFile, read_definitions};
pub use files::FileSources;

use crate::{
    catalog::FeatureView,
    error::{Error, ErrorKind, Result},
    features::{RowSource, Timestamp, definition_digest},
};

/// Bytes read at once for a digest.
const DIGEST_CHUNK_BYTES: usize = 1 << 16;

/// About how many bytes of a file become one batch of rows, where its rows are wide.
const BATCH_BYTES_WANTED: usize = 8 << 20;

/// Opens a `.parquet` or `.csv` file and checks its columns against the view; other columns are ignored.
///
/// `now` is the creation time of rows whose view names no column for it.
///
/// # Errors
/// `NotFound` or `FailedPrecondition` where the file cannot be opened. `InvalidArgument` where it is no such file, or
/// columns are missing or of a type that does not fit: all of them, each with the file, the column, and both types.
pub fn open(path: &Path, view: &FeatureView, now: Timestamp) -> Result<Box<dyn RowSource>> {
    open_as(path, &path.display().to_string(), view, now)
}

/// As `open`; faults name the file as `shown`.
fn open_as(
    path: &Path,
    shown: &str,
    view: &FeatureView,
    now: Timestamp,
) -> Result<Box<dyn RowSource>> {
    let file = open_file(path, shown)?;
    let layout = layout::Layout::new(shown.to_owned(), view, now);
    // The name's, not that of the file that a link leads to.
    let extension = Path::new(shown).extension();
    let extension = extension.and_then(|extension| extension.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("parquet") => Ok(Box::new(parquet::ParquetSource::open(file, layout)?)),
        Some("csv") => Ok(Box::new(csv::CsvSource::open(file, layout)?)),
        _ => Err(Error::invalid(shown, "neither a .parquet nor a .csv file")),
    }
}

/// The SHA-256 of a view's definition and a file's content, in hex: the same where loading again would change nothing.
///
/// # Errors
/// `NotFound` or `FailedPrecondition` where the file cannot be read.
pub fn digest(path: &Path, view: &FeatureView) -> Result<String> {
    digest_as(path, &path.display().to_string(), view)
}

/// As `digest`; faults name the file as `shown`.
fn digest_as(path: &Path, shown: &str, view: &FeatureView) -> Result<String> {
    let mut file = open_file(path, shown)?;
    let mut hasher = definition_digest(view)?;
    let mut chunk = vec![0; DIGEST_CHUNK_BYTES];
    loop {
        let read = file
            .read(&mut chunk)
            .map_err(|fault| unreadable(shown, fault))?;
        match chunk.get(..read) {
            Some(bytes) if !bytes.is_empty() => hasher.update(bytes),
            _ => return Ok(hex::encode(hasher.finalize())),
        }
    }
}

fn open_file(path: &Path, shown: &str) -> Result<File> {
    // Asked before it is opened: opening a pipe waits for whoever writes into it.
    let metadata = fs::metadata(path).map_err(|fault| unreadable(shown, fault))?;
    if !metadata.is_file() {
        return Err(Error::failed_precondition(format!(
            "{shown} is no regular file"
        )));
    }
    File::open(path).map_err(|fault| unreadable(shown, fault))
}

fn unreadable(shown: &str, fault: io::Error) -> Error {
    let (kind, sentence) = if fault.kind() == io::ErrorKind::NotFound {
        (ErrorKind::NotFound, "there is no such file".to_owned())
    } else {
        (
            ErrorKind::FailedPrecondition,
            format!("it cannot be read: {fault}"),
        )
    };
    Error::new(kind, format!("{shown}: {sentence}")).with_source(fault)
}
