//! What SQLite's errors mean to whoever runs the server, each with the file's path.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::error::{Error, ErrorKind};

/// An error on its way out of a closure that runs on a connection.
pub(super) enum Fault {
    /// SQLite's, which lacks the path.
    Sql(rusqlite::Error),
    /// One of ours, complete.
    Own(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Fault::Sql(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Own(error)
    }
}

impl Fault {
    /// The error for the caller.
    pub(super) fn at(self, path: &Path) -> Error {
        match self {
            Fault::Own(error) => error,
            Fault::Sql(error) => describe(path, error),
        }
    }
}

fn describe(path: &Path, error: rusqlite::Error) -> Error {
    let file = path.display();
    let text = error.to_string();
    let (kind, sentence) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::Unavailable,
            format!("the SQLite file {file} is locked by someone else"),
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => (
            ErrorKind::FailedPrecondition,
            format!("the SQLite file {file} is not writable"),
        ),
        Some(ErrorCode::CannotOpen) => (
            ErrorKind::FailedPrecondition,
            format!(
                "the SQLite file {file} cannot be opened or made; is its folder there and writable?"
            ),
        ),
        Some(ErrorCode::NotADatabase) => (
            ErrorKind::FailedPrecondition,
            format!("the file {file} is not a SQLite database"),
        ),
        Some(ErrorCode::DatabaseCorrupt) => (
            ErrorKind::FailedPrecondition,
            format!("the SQLite file {file} is damaged; restore a backup"),
        ),
        Some(ErrorCode::DiskFull) => (
            ErrorKind::Unavailable,
            format!("no space is left for the SQLite file {file}"),
        ),
        Some(ErrorCode::SystemIoFailure) => (
            ErrorKind::Unavailable,
            format!("reading or writing the SQLite file {file} failed"),
        ),
        _ if text.contains("no such table") || text.contains("no such column") => (
            ErrorKind::FailedPrecondition,
            format!(
                "the SQLite file {file} lacks a table or column ({text}); run `ferrocast migrate` and apply the definitions"
            ),
        ),
        _ => (
            ErrorKind::Internal,
            format!("the SQLite file {file} refused a statement"),
        ),
    };
    Error::new(kind, sentence).with_source(error)
}
