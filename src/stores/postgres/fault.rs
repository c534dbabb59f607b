//! What the driver's errors mean to whoever runs the server, each with the server's host and port.

use std::{error::Error as StdError, time::Duration};

use tokio_postgres::error::{DbError, SqlState};

use super::url::Target;
use crate::{
    catalog::{ExistingTable, FeatureView},
    error::{Error, ErrorKind},
    features::EntityKey,
    stores::table::definition_changed,
};

/// How long something may take, and the setting that says so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    /// How long.
    pub(super) limit: Duration,
    /// For the operator, who can change it.
    pub(super) setting: &'static str,
}

/// An error on its way out of a piece of work on a connection.
#[derive(Debug)]
pub(super) enum Fault {
    /// The driver's or the server's.
    Driver(tokio_postgres::Error),
    /// No answer within the bound.
    Timeout(Bound),
    /// One of ours, complete.
    Own(Error),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Fault::Driver(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Own(error)
    }
}

impl Fault {
    /// A connection that listened has ended.
    pub(super) fn connection_lost() -> Fault {
        Fault::Own(Error::unavailable(
            "the connection that hears of changes was lost",
        ))
    }

    /// Whether the server undid the work because of other work at the same time, so that it can be tried again.
    pub(super) fn is_contention(&self) -> bool {
        let Fault::Driver(error) = self else {
            return false;
        };
        error.code().is_some_and(|code| {
            *code == SqlState::T_R_DEADLOCK_DETECTED || *code == SqlState::T_R_SERIALIZATION_FAILURE
        })
    }

    /// Whether the server cannot keep as many locks as this takes.
    pub(super) fn is_of_many_locks(&self) -> bool {
        let Fault::Driver(error) = self else {
            return false;
        };
        let hint = error.as_db_error().and_then(DbError::hint);
        hint.is_some_and(|hint| hint.contains(LOCKS_SETTING))
    }

    /// Whether a row of the same key is there already.
    pub(super) fn is_of_duplicate(&self) -> bool {
        matches!(self, Fault::Driver(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION))
    }

    /// Whether the connection is of no more use, for whatever comes next.
    pub(super) fn is_of_connection(&self) -> bool {
        match self {
            Fault::Timeout(_) => true,
            Fault::Own(_) => false,
            Fault::Driver(error) => match error.as_db_error() {
                Some(db) => is_going_away(db.code()),
                None => error.is_closed() || cause::<std::io::Error>(error).is_some(),
            },
        }
    }

    /// Whether a statement that is prepared on the connection no longer fits the table.
    pub(super) fn is_of_plan(&self) -> bool {
        matches!(self, Fault::Driver(error) if error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED))
    }

    /// Whether a statement speaks of tables, columns or types that are not there, or not so.
    pub(super) fn is_of_schema(&self) -> bool {
        match self {
            Fault::Driver(error) => error.code().is_some_and(is_about_schema),
            Fault::Timeout(_) | Fault::Own(_) => false,
        }
    }

    /// Whether a value did not fit, be it that its column has got another type.
    pub(super) fn is_of_values(&self) -> bool {
        matches!(self, Fault::Own(error) if error.kind() == ErrorKind::FailedPrecondition)
    }

    /// The same, but that what is said of the schema becomes what it means for a view.
    pub(super) fn of(self, view: &FeatureView) -> Fault {
        if !self.is_of_schema() {
            return self;
        }
        let error = definition_changed(view);
        Fault::Own(match self {
            Fault::Driver(cause) => error.with_source(cause),
            Fault::Timeout(_) | Fault::Own(_) => error,
        })
    }

    /// What is said of a stored row, with the entity whose row it is.
    pub(super) fn of_entity(self, key: &EntityKey) -> Fault {
        match self {
            Fault::Own(error) => Fault::Own(error.within(&format!("entity {key}"))),
            other @ (Fault::Driver(_) | Fault::Timeout(_)) => other,
        }
    }

    /// The error for the caller of work on one view, whose name goes before what the server says of the values.
    pub(super) fn at_view(self, target: &Target, view: &FeatureView) -> Error {
        let is_of_values = matches!(
            &self,
            Fault::Driver(error) if error.code().is_some_and(is_about_values)
        );
        let error = self.of(view).at(target);
        if is_of_values {
            error.within(&format!("feature view \"{}\"", view.name))
        } else {
            error
        }
    }

    /// The error for the caller of work on somebody else's table, whose values may not be what its types allow.
    pub(super) fn at_table(self, target: &Target, table: &ExistingTable) -> Error {
        if let Fault::Driver(error) = &self
            && let Some(db) = error.as_db_error()
            && is_about_values(db.code())
        {
            let said = db.message();
            let sentence = format!(
                "the table {} holds a value that does not fit: {said}",
                table.name
            );
            return Error::failed_precondition(sentence).with_source(self.at(target));
        }
        self.at(target)
    }

    /// The error for the caller.
    pub(super) fn at(self, target: &Target) -> Error {
        match self {
            Fault::Own(error) => error,
            Fault::Timeout(bound) => Error::unavailable(format!(
                "PostgreSQL at {target} did not get done within {} ms ({})",
                bound.limit.as_millis(),
                bound.setting
            )),
            Fault::Driver(error) => {
                let described = match error.as_db_error() {
                    Some(db) => describe_answer(target, db),
                    None => describe_silence(target, &error),
                };
                described.with_source(error)
            }
        }
    }
}

/// Where the server finds that a row is larger than a page; other limits have the same code.
const PUTS_ROWS: &str = "RelationGetBufferForTuple";

/// The setting by which the server's hint says that no more locks can be kept; lack of memory has the same code.
const LOCKS_SETTING: &str = "max_locks_per_transaction";

/// The server's own words say that it ends this connection or takes none.
fn is_going_away(code: &SqlState) -> bool {
    *code == SqlState::ADMIN_SHUTDOWN
        || *code == SqlState::CRASH_SHUTDOWN
        || *code == SqlState::CANNOT_CONNECT_NOW
        || code.code().starts_with("08")
}

/// The server refuses values, not the statement: a type's range, a constraint of the operator's own, a limit of the
/// server on rows, keys or tables.
fn is_about_values(code: &SqlState) -> bool {
    matches!(code.code().get(..2), Some("22" | "23" | "54"))
}

/// A table, column or key that a view has no longer, or a column of another type.
fn is_about_schema(code: &SqlState) -> bool {
    *code == SqlState::UNDEFINED_TABLE
        || *code == SqlState::UNDEFINED_COLUMN
        || *code == SqlState::UNDEFINED_FUNCTION
        || *code == SqlState::DATATYPE_MISMATCH
        || *code == SqlState::INVALID_COLUMN_REFERENCE
}

/// What the server says of a name that it cannot read as a table's, or not for this login.
pub(super) fn refused_name(error: &tokio_postgres::Error) -> Option<&str> {
    let db = error.as_db_error()?;
    let class = db.code().code().get(..2);
    matches!(class, Some("0A" | "22" | "42")).then(|| db.message())
}

/// Whether a migration waited too long for a table's lock.
pub(super) fn is_of_lock(error: &refinery::Error) -> bool {
    let cause = error.source();
    let cause = cause.and_then(|cause| cause.downcast_ref::<tokio_postgres::Error>());
    cause.and_then(tokio_postgres::Error::code) == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// A table that others read or write for longer than a change of it may wait.
pub(super) fn table_in_use(target: &Target) -> Error {
    Error::unavailable(format!(
        "a table is in use in PostgreSQL at {target}, so that it cannot be changed now; try again"
    ))
}

/// More tables in one plan than the server can lock.
pub(super) fn too_many_tables(target: &Target) -> Error {
    Error::failed_precondition(format!(
        "PostgreSQL at {target} cannot lock as many tables in one transaction as the definitions change; apply them in \
         parts, or raise {LOCKS_SETTING} there"
    ))
}

/// An error that the server has sent.
fn describe_answer(target: &Target, db: &DbError) -> Error {
    let said = db.message();
    let code = db.code();
    let server = format!("PostgreSQL at {target}");
    if is_going_away(code) {
        return Error::unavailable(format!("{server} is starting or stopping: {said}"));
    }
    if *code == SqlState::QUERY_CANCELED {
        return Error::unavailable(format!(
            "{server} gave up on a statement that took too long: {said}"
        ));
    }
    if *code == SqlState::LOCK_NOT_AVAILABLE {
        return table_in_use(target);
    }
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return Error::unavailable(format!(
            "{server} takes no writes, as a standby does: {said}"
        ));
    }
    if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::UNDEFINED_COLUMN {
        return Error::failed_precondition(format!(
            "{server} lacks a table or column ({said}); run `ferrocast migrate` and apply the definitions"
        ));
    }
    if is_about_values(code) {
        let advice = if db.routine() == Some(PUTS_ROWS) {
            "; a row has to fit into one page: divide the features among several views"
        } else {
            ""
        };
        return Error::new(
            ErrorKind::InvalidArgument,
            format!("{server} cannot store this: {said}{advice}"),
        );
    }
    match code.code().get(..2) {
        // Wrong password, unknown role, no entry in pg_hba.conf; unknown database; missing privilege.
        Some("28") => Error::failed_precondition(format!("{server} refuses the login: {said}")),
        Some("3D") => Error::failed_precondition(format!("{server}: {said}")),
        _ if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            Error::failed_precondition(format!("{server}: {said}"))
        }
        Some("40") => Error::new(
            ErrorKind::Conflict,
            format!(
                "{server} undid a transaction that others got in the way of, several times: {said}"
            ),
        ),
        // Too many connections, no disk space, no memory.
        Some("53") => Error::unavailable(format!("{server} has no room: {said}")),
        _ => Error::internal(format!("{server} refused a statement ({})", code.code())),
    }
}

/// An error without an answer of the server: of the network, of TLS, or of the driver.
fn describe_silence(target: &Target, error: &tokio_postgres::Error) -> Error {
    let server = format!("PostgreSQL at {target}");
    if let Some(tls) = cause::<rustls::Error>(error) {
        return Error::failed_precondition(format!("no TLS with {server}: {tls}"));
    }
    let words = error.to_string();
    let detail = error.source().map(ToString::to_string).unwrap_or_default();
    if words.contains("TLS") {
        return Error::failed_precondition(format!("no TLS with {server}: {detail}"));
    }
    if words.contains("authentication") {
        return Error::failed_precondition(format!("{server} refuses the login: {detail}"));
    }
    if error.is_closed() || cause::<std::io::Error>(error).is_some() || words.contains("connect") {
        let reason = if detail.is_empty() { words } else { detail };
        return Error::unavailable(format!("{server} is away: {reason}"));
    }
    Error::internal(format!("talking to {server} failed: {words}"))
}

/// The first cause of a type. An I/O error hides what it carries one step down.
fn cause<T: StdError + 'static>(error: &tokio_postgres::Error) -> Option<&T> {
    let mut next = error.source();
    while let Some(inner) = next {
        if let Some(found) = inner.downcast_ref::<T>() {
            return Some(found);
        }
        let carried = inner
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .and_then(|carried| (carried as &(dyn StdError + 'static)).downcast_ref::<T>());
        if carried.is_some() {
            return carried;
        }
        next = inner.source();
    }
    None
}
