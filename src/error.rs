//! `ErrorKind`, the small closed set that every error maps to, and `Error`, which carries one.
//!
//! Imports nothing of ours. The message of an `Error` reaches the caller; its source is logged and never sent.

use std::{error::Error as StdError, fmt, time::Duration};

/// What went wrong, as far as a caller has to know; each maps to one gRPC code and one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong in itself; the field is named.
    InvalidArgument,
    /// No or bad credentials.
    Unauthenticated,
    /// Good credentials that do not allow this.
    PermissionDenied,
    /// No such model, view or entity.
    NotFound,
    /// The request is right, the state it needs is not there: a refused model, a missing value.
    FailedPrecondition,
    /// Somebody else changed the same thing.
    Conflict,
    /// A queue or limit is full; try again later.
    Overloaded,
    /// The caller's deadline ran out.
    Timeout,
    /// Something that the server needs is away.
    Unavailable,
    /// A bug.
    Internal,
}

impl ErrorKind {
    /// Every kind, for tests and tables.
    pub const ALL: [ErrorKind; 10] = [
        ErrorKind::InvalidArgument,
        ErrorKind::Unauthenticated,
        ErrorKind::PermissionDenied,
        ErrorKind::NotFound,
        ErrorKind::FailedPrecondition,
        ErrorKind::Conflict,
        ErrorKind::Overloaded,
        ErrorKind::Timeout,
        ErrorKind::Unavailable,
        ErrorKind::Internal,
    ];

    /// The kind's name as machines read it, the `reason` of a `google.rpc.ErrorInfo`.
    pub fn reason(self) -> &'static str {
        match self {
            ErrorKind::InvalidArgument => "INVALID_ARGUMENT",
            ErrorKind::Unauthenticated => "UNAUTHENTICATED",
            ErrorKind::PermissionDenied => "PERMISSION_DENIED",
            ErrorKind::NotFound => "NOT_FOUND",
            ErrorKind::FailedPrecondition => "FAILED_PRECONDITION",
            ErrorKind::Conflict => "CONFLICT",
            ErrorKind::Overloaded => "OVERLOADED",
            ErrorKind::Timeout => "TIMEOUT",
            ErrorKind::Unavailable => "UNAVAILABLE",
            ErrorKind::Internal => "INTERNAL",
        }
    }

    /// How long a caller should wait before the same request can succeed, where waiting helps.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            ErrorKind::Overloaded | ErrorKind::Unavailable => Some(Duration::from_secs(1)),
            ErrorKind::InvalidArgument
            | ErrorKind::Unauthenticated
            | ErrorKind::PermissionDenied
            | ErrorKind::NotFound
            | ErrorKind::FailedPrecondition
            | ErrorKind::Conflict
            | ErrorKind::Timeout
            | ErrorKind::Internal => None,
        }
    }
}

/// One fault of a request or of a file, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, as `rows[3].annual_inc`.
    pub field: String,
    /// What is wrong with it, as a sentence without the field.
    pub description: String,
}

/// Collects faults, so that all of them are reported at once.
#[derive(Debug)]
pub struct Violations {
    found: Vec<Violation>,
    max: usize,
}

impl Default for Violations {
    fn default() -> Self {
        Violations::bounded(usize::MAX)
    }
}

impl Violations {
    /// Collects up to so many; the rest is not looked for.
    pub fn bounded(max: usize) -> Self {
        Violations {
            found: Vec::new(),
            max,
        }
    }

    /// Notes a fault.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        let violation = Violation {
            field: field.into(),
            description: description.into(),
        };
        if !self.is_full() && !self.found.contains(&violation) {
            self.found.push(violation);
        }
    }

    /// Whether as many are noted as are reported, so that looking on is of no use.
    pub fn is_full(&self) -> bool {
        self.found.len() >= self.max
    }

    /// The value, if there were no faults.
    ///
    /// # Errors
    /// `InvalidArgument` with every fault.
    pub fn into_result<T>(self, value: T) -> Result<T> {
        if self.found.is_empty() {
            return Ok(value);
        }
        Err(Error::violations(self.found))
    }
}

/// An error: its kind, a sentence for the caller, the fields at fault, and a cause for the log.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    violations: Vec<Violation>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of anything of ours that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind, with the sentence that the caller reads.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
            violations: Vec::new(),
            source: None,
        }
    }

    /// A wrong argument, the field named.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Error::violations(vec![Violation {
            field: field.into(),
            description: description.into(),
        }])
    }

    /// Several wrong arguments at once; the list must not be empty.
    pub fn violations(violations: Vec<Violation>) -> Self {
        let sentences: Vec<String> = violations
            .iter()
            .map(|violation| {
                if violation.field.is_empty() {
                    violation.description.clone()
                } else {
                    format!("{}: {}", violation.field, violation.description)
                }
            })
            .collect();
        Error {
            kind: ErrorKind::InvalidArgument,
            message: sentences.join("; "),
            violations,
            source: None,
        }
    }

    /// Something that does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::NotFound, message)
    }

    /// A state that the request needs and that is not there.
    pub fn failed_precondition(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::FailedPrecondition, message)
    }

    /// Something that the server needs and that is away.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Unavailable, message)
    }

    /// A bug.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Internal, message)
    }

    /// Adds the cause, for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same for another caller: without the cause, which is logged once.
    #[must_use]
    pub fn for_another(&self) -> Self {
        Error {
            kind: self.kind,
            message: self.message.clone(),
            violations: self.violations.clone(),
            source: None,
        }
    }

    /// Puts a place in front of the message and of every field at fault.
    #[must_use]
    pub fn within(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        for violation in &mut self.violations {
            violation.field = format!("{place}: {}", violation.field);
        }
        self
    }

    /// Calls something by another name in the message and in every field at fault.
    #[must_use]
    pub fn renamed(mut self, name: &str, other: &str) -> Self {
        self.message = self.message.replace(name, other);
        for violation in &mut self.violations {
            violation.field = violation.field.replace(name, other);
            violation.description = violation.description.replace(name, other);
        }
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence for the caller.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The fields at fault; empty where the error is not about fields.
    pub fn fields(&self) -> &[Violation] {
        &self.violations
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_become_one_sentence_and_stay_apart() {
        let error = Error::violations(vec![
            Violation {
                field: "rows[0].term".into(),
                description: "expected a string".into(),
            },
            Violation {
                field: "rows[1]".into(),
                description: "loan_id is missing".into(),
            },
        ]);
        assert_eq!(
            error.message(),
            "rows[0].term: expected a string; rows[1]: loan_id is missing"
        );
        assert_eq!(error.fields().len(), 2);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn a_renamed_error_keeps_its_fields_and_its_source() {
        let error = Error::invalid("/tmp/x/a.csv, row 2", "/tmp/x is no double");
        let error = error.with_source("the cause").renamed("/tmp/x", "work");
        assert_eq!(error.message(), "work/a.csv, row 2: work is no double");
        let fields: Vec<_> = error.fields().iter().map(|fault| &fault.field).collect();
        assert_eq!(fields, ["work/a.csv, row 2"]);
        assert!(error.source().is_some());
    }

    #[test]
    fn only_what_passes_by_itself_is_worth_a_retry() {
        let retried: Vec<_> = ErrorKind::ALL
            .into_iter()
            .filter(|kind| kind.retry_after().is_some())
            .collect();
        assert_eq!(retried, [ErrorKind::Overloaded, ErrorKind::Unavailable]);
    }
}
