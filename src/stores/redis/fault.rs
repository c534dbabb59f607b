//! What the driver's errors mean to whoever runs the server, each with the servers' hosts and ports and never with what
//! was sent: an old server repeats a login's password in its answer.

use std::time::Duration;

use redis::{ErrorKind as Kind, RedisError, ServerErrorKind};

use crate::error::Error;

/// An error on its way out of a piece of work on a connection.
#[derive(Debug)]
pub(super) enum Fault {
    /// The driver's or the server's.
    Driver(RedisError),
    /// No answer within the bound.
    Timeout {
        /// How long.
        limit: Duration,
        /// The setting that says so.
        setting: &'static str,
    },
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        Fault::Driver(error)
    }
}

impl Fault {
    /// Whether the connection is of no more use, for whatever comes next.
    pub(super) fn is_of_connection(&self) -> bool {
        match self {
            Fault::Timeout { .. } => true,
            Fault::Driver(error) => error.is_unrecoverable_error() || error.is_io_error(),
        }
    }

    /// Whether the server does not have a script.
    pub(super) fn is_of_script(&self) -> bool {
        matches!(self, Fault::Driver(error) if error.kind() == Kind::Server(ServerErrorKind::NoScript))
    }

    /// The error for the caller; `place` is the servers' hosts and ports.
    pub(super) fn at(self, place: &str) -> Error {
        match self {
            Fault::Timeout { limit, setting } => Error::unavailable(format!(
                "Redis at {place} did not get done within {} ms ({setting})",
                limit.as_millis()
            )),
            Fault::Driver(error) => describe(place, error),
        }
    }
}

fn describe(place: &str, error: RedisError) -> Error {
    let code = error.code().unwrap_or_default().to_owned();
    let server = format!("Redis at {place}");
    match error.kind() {
        Kind::AuthenticationFailed => {
            Error::failed_precondition(format!("{server} refuses the login"))
        }
        Kind::InvalidClientConfig => {
            Error::failed_precondition(format!("{server} cannot be used with these settings"))
        }
        // Of the network: nothing of what was sent is in it.
        Kind::Io => Error::unavailable(format!("{server} is away: {error}")).with_source(error),
        Kind::ClusterConnectionNotFound => Error::unavailable(format!(
            "{server} is away: no node of the cluster answers for the keys"
        )),
        Kind::Server(kind) => of_server(&server, &code, kind),
        _ => of_code(&server, &code),
    }
}

fn of_server(server: &str, code: &str, kind: ServerErrorKind) -> Error {
    match kind {
        ServerErrorKind::BusyLoading => {
            Error::unavailable(format!("{server} is starting and reads its data"))
        }
        ServerErrorKind::ClusterDown
        | ServerErrorKind::MasterDown
        | ServerErrorKind::TryAgain
        | ServerErrorKind::Moved
        | ServerErrorKind::Ask => Error::unavailable(format!(
            "{server} is a cluster in which some keys have no node now ({code})"
        )),
        ServerErrorKind::ReadOnly => {
            Error::unavailable(format!("{server} takes no writes, as a replica does"))
        }
        ServerErrorKind::NoPerm => Error::failed_precondition(format!(
            "{server} does not allow this user a command that is needed"
        )),
        ServerErrorKind::CrossSlot => Error::failed_precondition(format!(
            "{server} is a cluster; set online.redis_cluster = true"
        )),
        _ => of_code(server, code),
    }
}

fn of_code(server: &str, code: &str) -> Error {
    match code {
        "OOM" => Error::unavailable(format!("{server} has no room (maxmemory)")),
        "MISCONF" => Error::unavailable(format!("{server} cannot write its data to disk")),
        "BUSY" => Error::unavailable(format!("{server} is busy with a script")),
        "NOREPLICAS" => Error::unavailable(format!("{server} has too few replicas to write")),
        "NOAUTH" | "WRONGPASS" => Error::failed_precondition(format!("{server} refuses the login")),
        "WRONGTYPE" => Error::failed_precondition(format!(
            "{server} holds something else under a key of ours; choose another online.key_prefix"
        )),
        _ => Error::internal(format!("{server} refused a command ({code})")),
    }
}
