//! Files that a view's rows come from: Parquet and CSV, opened, checked against the view, read in batches.
//!
//! Everything here blocks. Conversions lose nothing: what does not fit a type exactly is a fault that names file, row and
//! column. Knows nothing of stores; `features::materialize` brings the two together.

mod arrow;
mod csv;
mod layout;
mod parquet;

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::{
    catalog::FeatureView,
    error::{Error, ErrorKind, Result},
    features::{RowSource, Timestamp},
};

/// Bytes read at once for a digest.
const DIGEST_CHUNK_BYTES: usize = 1 << 16;

/// Opens a `.parquet` or `.csv` file and checks its columns against the view; other columns are ignored.
///
/// `now` is the creation time of rows whose view names no column for it.
///
/// # Errors
/// `NotFound` or `FailedPrecondition` where the file cannot be opened. `InvalidArgument` where it is no such file, or
/// columns are missing or of a type that does not fit: all of them, each with the file, the column, and both types.
pub fn open(path: &Path, view: &FeatureView, now: Timestamp) -> Result<Box<dyn RowSource>> {
    let file = open_file(path)?;
    let layout = layout::Layout::new(path, view, now);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("parquet") => Ok(Box::new(parquet::ParquetSource::open(file, layout)?)),
        Some("csv") => Ok(Box::new(csv::CsvSource::open(file, layout)?)),
        _ => Err(Error::invalid(
            path.display().to_string(),
            "neither a .parquet nor a .csv file",
        )),
    }
}

/// The SHA-256 of a view's definition and a file's content, in hex: the same where loading again would change nothing.
///
/// # Errors
/// `NotFound` or `FailedPrecondition` where the file cannot be read.
pub fn digest(path: &Path, view: &FeatureView) -> Result<String> {
    let mut file = open_file(path)?;
    let definition = serde_json::to_vec(view).map_err(|fault| {
        Error::internal("a definition that JSON cannot hold").with_source(fault)
    })?;
    let mut hasher = Sha256::new();
    // The length keeps the definition's end from being taken for the content's beginning.
    hasher.update(
        u64::try_from(definition.len())
            .unwrap_or(u64::MAX)
            .to_le_bytes(),
    );
    hasher.update(&definition);
    let mut chunk = vec![0; DIGEST_CHUNK_BYTES];
    loop {
        let read = file
            .read(&mut chunk)
            .map_err(|fault| unreadable(path, fault))?;
        match chunk.get(..read) {
            Some(bytes) if !bytes.is_empty() => hasher.update(bytes),
            _ => return Ok(hex::encode(hasher.finalize())),
        }
    }
}

fn open_file(path: &Path) -> Result<File> {
    // Asked before it is opened: opening a pipe waits for whoever writes into it.
    let metadata = fs::metadata(path).map_err(|fault| unreadable(path, fault))?;
    if !metadata.is_file() {
        return Err(Error::failed_precondition(format!(
            "{} is no regular file",
            path.display()
        )));
    }
    File::open(path).map_err(|fault| unreadable(path, fault))
}

fn unreadable(path: &Path, fault: io::Error) -> Error {
    let (kind, sentence) = if fault.kind() == io::ErrorKind::NotFound {
        (ErrorKind::NotFound, "there is no such file".to_owned())
    } else {
        (
            ErrorKind::FailedPrecondition,
            format!("it cannot be read: {fault}"),
        )
    };
    Error::new(kind, format!("{}: {sentence}", path.display())).with_source(fault)
}
