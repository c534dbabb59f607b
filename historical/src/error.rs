//! `Error`: a kind for the parent process and a sentence for the user.
//!
//! Imports nothing of ours. The kinds are those of Ferrocast's `ErrorKind` that can happen here.

use std::fmt::Display;

/// What went wrong, as far as the parent process has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// The plan or a file is wrong in itself.
    InvalidArgument,
    /// There is no such file.
    NotFound,
    /// The plan is right, the disk or the process' surroundings are not.
    FailedPrecondition,
    /// A bug.
    Internal,
}

impl ErrorKind {
    fn name(self) -> &'static str {
        match self {
            ErrorKind::InvalidArgument => "invalid_argument",
            ErrorKind::NotFound => "not_found",
            ErrorKind::FailedPrecondition => "failed_precondition",
            ErrorKind::Internal => "internal",
        }
    }
}

/// Faults that are told one by one.
const FAULTS_TOLD_MAX: usize = 20;

/// An error: its kind and a sentence.
#[derive(Debug)]
pub(crate) struct Error {
    kind: ErrorKind,
    message: String,
}

/// The result of anything here that can fail.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
        }
    }

    /// The plan or a file is wrong; the place is named.
    pub(crate) fn invalid(place: impl AsRef<str>, fault: impl AsRef<str>) -> Self {
        let message = format!("{}: {}", place.as_ref(), fault.as_ref());
        Error::new(ErrorKind::InvalidArgument, message)
    }

    /// Several faults of that kind; the list must not be empty. The first of them are told: the parent process reads no
    /// line of any length.
    pub(crate) fn faults(faults: &[String]) -> Self {
        let told: Vec<&str> = faults
            .iter()
            .take(FAULTS_TOLD_MAX)
            .map(String::as_str)
            .collect();
        let mut message = told.join("; ");
        if let more @ 1.. = faults.len().saturating_sub(FAULTS_TOLD_MAX) {
            message.push_str(&format!("; and {more} more"));
        }
        Error::new(ErrorKind::InvalidArgument, message)
    }

    /// A state that the join needs and that is not there.
    pub(crate) fn failed_precondition(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::FailedPrecondition, message)
    }

    /// A bug.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Internal, message)
    }

    /// A file that cannot be read, written or made.
    pub(crate) fn io(shown: impl Display, doing: &str, fault: &std::io::Error) -> Self {
        if fault.kind() == std::io::ErrorKind::NotFound {
            let message = format!("{shown}: there is no such file or folder");
            return Error::new(ErrorKind::NotFound, message);
        }
        Error::failed_precondition(format!("{shown}: it cannot be {doing}: {fault}"))
    }

    /// The line that the parent process reads.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({"error": {"kind": self.kind.name(), "message": self.message}})
    }
}

/// What the arrays' library refuses is nothing that a user did: widths and types are checked before.
impl From<arrow_schema::ArrowError> for Error {
    fn from(fault: arrow_schema::ArrowError) -> Self {
        Error::internal(format!("arrays that do not go together: {fault}"))
    }
}
