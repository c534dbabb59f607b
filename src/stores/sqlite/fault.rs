//! What SQLite's errors mean to whoever runs the server, each with the file's path.

use std::{path::Path, time::Duration};

use rusqlite::ErrorCode;

use crate::{
    catalog::{ExistingTable, FeatureView},
    error::{Error, ErrorKind},
    features::EntityKey,
    stores::{
        feature_times::{FEATURE_TIMES, GENERATION},
        table::definition_changed,
    },
};

/// An error on its way out of a closure that runs on a connection.
pub(super) enum Fault {
    /// SQLite's, which lacks the path.
    Sql(rusqlite::Error),
    /// The work's own bound passed while it waited for something else than SQLite.
    Late,
    /// One of ours, complete.
    Own(Error),
}

/// How long a piece of work may take, and the setting that says so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    /// How long.
    pub(super) limit: Duration,
    /// For the operator, who can change it.
    pub(super) setting: &'static str,
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
    /// What is said of values and of tables, with what it means for a view.
    pub(super) fn of_view(self, view: &FeatureView) -> Fault {
        if let Some(table) = &view.table {
            return self.of_table(view, table);
        }
        match self {
            Fault::Sql(error) if is_about_values(&error) => {
                let sentence = format!(
                    "feature view \"{}\": the SQLite file cannot store this: {error}",
                    view.name
                );
                let refused = Error::new(ErrorKind::InvalidArgument, sentence);
                Fault::Own(refused.with_source(error))
            }
            Fault::Sql(error) if is_about_definition(&error) => {
                Fault::Own(definition_changed(view).with_source(error))
            }
            other @ (Fault::Sql(_) | Fault::Late | Fault::Own(_)) => other,
        }
    }

    /// What is wrong with somebody else's table or SQL view; neither a migration nor another request helps.
    fn of_table(self, view: &FeatureView, table: &ExistingTable) -> Fault {
        match self {
            Fault::Sql(error) if is_refusal(&error) || is_about_values(&error) => {
                let sentence = format!(
                    "the feature view \"{}\" reads the table {}: {}",
                    view.name,
                    table.name,
                    said(&error)
                );
                Fault::Own(Error::failed_precondition(sentence).with_source(error))
            }
            other @ (Fault::Sql(_) | Fault::Late | Fault::Own(_)) => other,
        }
    }

    /// What is said of a stored row, with the entity whose row it is.
    pub(super) fn of_entity(self, key: &EntityKey) -> Fault {
        match self {
            Fault::Own(error) => Fault::Own(error.within(&format!("entity {key}"))),
            other @ (Fault::Sql(_) | Fault::Late) => other,
        }
    }

    /// What is wrong with the SQL query of a view's source; but for the bounds, whatever SQLite says of it is.
    pub(super) fn of_query(self, view: &str) -> Fault {
        match self {
            Fault::Sql(error)
                if error.sqlite_error_code() != Some(ErrorCode::OperationInterrupted) =>
            {
                let sentence =
                    format!("the query of the feature view \"{view}\" cannot be run: {error}");
                Fault::Own(Error::failed_precondition(sentence).with_source(error))
            }
            other @ (Fault::Sql(_) | Fault::Late | Fault::Own(_)) => other,
        }
    }

    /// The error for the caller.
    pub(super) fn at(self, path: &Path, bound: Bound) -> Error {
        match self {
            Fault::Own(error) => error,
            Fault::Late => late(path, bound),
            Fault::Sql(error)
                if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) =>
            {
                late(path, bound).with_source(error)
            }
            Fault::Sql(error) => describe(path, error),
        }
    }
}

/// A constraint, which may be the operator's own, or a limit of SQLite's.
fn is_about_values(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
    )
}

/// Whether SQLite refuses a statement, or ends it for what it says, as opposed to what ails the file.
pub(super) fn is_refusal(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqlInputError { .. })
        || error.sqlite_error_code() == Some(ErrorCode::Unknown)
}

/// SQLite's own words, without the statement that they are about.
pub(super) fn said(error: &rusqlite::Error) -> String {
    words_of(error).map_or_else(|| error.to_string(), str::to_owned)
}

fn words_of(error: &rusqlite::Error) -> Option<&str> {
    let (rusqlite::Error::SqliteFailure(_, Some(said))
    | rusqlite::Error::SqlInputError { msg: said, .. }) = error
    else {
        return None;
    };
    Some(said)
}

/// What SQLite says of a table or column that is not there; it has no code for that.
fn lack(error: &rusqlite::Error) -> Option<&str> {
    let said = words_of(error)?;
    let words = ["no such table", "no such column", "has no column named"];
    words
        .iter()
        .any(|words| said.contains(words))
        .then_some(said)
}

/// A table or column that a view has no longer; one of ours comes with a migration.
fn is_about_definition(error: &rusqlite::Error) -> bool {
    let is_ours = |said: &str| said.contains(FEATURE_TIMES) || said.contains(GENERATION);
    lack(error).is_some_and(|said| !is_ours(said))
}

fn late(path: &Path, bound: Bound) -> Error {
    Error::unavailable(format!(
        "the work on the SQLite file {} took longer than {} ms ({})",
        path.display(),
        bound.limit.as_millis(),
        bound.setting
    ))
}

fn describe(path: &Path, error: rusqlite::Error) -> Error {
    let file = path.display();
    let text = error.to_string();
    let (kind, sentence) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::Unavailable,
            format!(
                "the SQLite file {file} is locked by another write or load, of this server or of another process; \
                 it stayed so for as long as the wait may take (database.connect_ms_max)"
            ),
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => (
            ErrorKind::FailedPrecondition,
            format!("the SQLite file {file} is not writable"),
        ),
        Some(ErrorCode::CannotOpen) => (
            ErrorKind::FailedPrecondition,
            format!("the SQLite file {file} cannot be opened or made; is its folder writable?"),
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
        _ if lack(&error).is_some() => (
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
