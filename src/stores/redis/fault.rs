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
            // A cluster's connection drops what it cannot place, and says no more of it.
            Fault::Driver(error) => {
                error.is_unrecoverable_error()
                    || error.is_io_error()
                    || error.kind() == Kind::Client
            }
        }
    }

    /// Whether a key is not where it was looked for.
    pub(super) fn is_of_place(&self) -> bool {
        matches!(self, Fault::Driver(error) if error.is_cluster_error())
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
    let kind = error.kind();
    let server = format!("Redis at {place}");
    if kind == Kind::Io {
        // Of the network or of TLS: nothing of what was sent is in it.
        let words = error.to_string();
        if words.contains("certificate") {
            return Error::failed_precondition(format!("no TLS with {server}: {words}"));
        }
        return Error::unavailable(format!("{server} is away: {error}")).with_source(error);
    }
    if kind == Kind::ClusterConnectionNotFound || kind == Kind::Client {
        return Error::unavailable(format!(
            "{server} is away: no node of the cluster answers for the keys"
        ));
    }
    if kind == Kind::AuthenticationFailed {
        return Error::failed_precondition(format!("{server} refuses the login"));
    }
    if kind == Kind::InvalidClientConfig {
        return Error::failed_precondition(format!("{server} cannot be used with these settings"));
    }
    if kind == Kind::Parse || kind == Kind::UnexpectedReturnType {
        return Error::internal(format!(
            "{server} answered with something else than is documented"
        ));
    }
    of_code(&server, &code)
}

/// An error that the server has sent, by the word that it begins with.
fn of_code(server: &str, code: &str) -> Error {
    match code {
        "LOADING" => Error::unavailable(format!("{server} is starting and reads its data")),
        "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK" => Error::unavailable(format!(
            "{server} is a cluster in which some keys have no node now ({code})"
        )),
        "READONLY" => Error::unavailable(format!("{server} takes no writes, as a replica does")),
        "OOM" => Error::unavailable(format!("{server} has no room (maxmemory)")),
        "MISCONF" => Error::unavailable(format!("{server} cannot write its data to disk")),
        "BUSY" => Error::unavailable(format!("{server} is busy with a script")),
        "NOREPLICAS" => Error::unavailable(format!("{server} has too few replicas to write")),
        "NOAUTH" | "WRONGPASS" => Error::failed_precondition(format!("{server} refuses the login")),
        "NOPERM" => Error::failed_precondition(format!(
            "{server} does not allow this user a command that is needed"
        )),
        "CROSSSLOT" => Error::failed_precondition(format!(
            "{server} is a cluster; set online.redis_cluster = true"
        )),
        "WRONGTYPE" => Error::failed_precondition(format!(
            "{server} holds something else under a key of ours; choose another online.key_prefix"
        )),
        _ => Error::internal(format!("{server} refused a command ({code})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn every_word_of_a_server_has_its_kind_and_place() {
        let unavailable = [
            "LOADING",
            "CLUSTERDOWN",
            "MOVED",
            "READONLY",
            "OOM",
            "MISCONF",
        ];
        let preconditions = ["NOAUTH", "NOPERM", "CROSSSLOT", "WRONGTYPE"];
        let expected = unavailable.map(|code| (code, ErrorKind::Unavailable));
        let expected = expected
            .into_iter()
            .chain(preconditions.map(|code| (code, ErrorKind::FailedPrecondition)));
        for (code, kind) in expected.chain([("ERR", ErrorKind::Internal)]) {
            let error = redis::make_extension_error(code.to_owned(), Some("hunter2".to_owned()));
            let fault = Fault::Driver(error).at("h:1");
            assert_eq!(fault.kind(), kind, "{code}");
            assert!(fault.message().contains("h:1"), "{fault}");
            assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
        }
    }
}
