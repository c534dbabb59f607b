//! Reads a connection URL as libpq does: the parameters that tokio-postgres does not know, which are those of TLS, are
//! taken out first.
//!
//! No message in here repeats the URL or a value of it: it may hold a password.

use std::{borrow::Cow, fmt, path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Config, Host};

use crate::error::{Error, Result};

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// What tokio-postgres reads itself.
const DRIVER_PARAMETERS: [&str; 18] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
    "sslnegotiation",
];

/// libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS only where the server refuses without.
    Allow,
    /// TLS where the server can; the default.
    Prefer,
    /// TLS, whoever the server is; as `VerifyCa` where a root certificate is given.
    Require,
    /// TLS with a certificate from a trusted authority, whatever its name.
    VerifyCa,
    /// TLS with a certificate from a trusted authority for the host's name.
    VerifyFull,
}

impl FromStr for SslMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<SslMode> {
        match text {
            "disable" => Ok(SslMode::Disable),
            "allow" => Ok(SslMode::Allow),
            "prefer" => Ok(SslMode::Prefer),
            "require" => Ok(SslMode::Require),
            "verify-ca" => Ok(SslMode::VerifyCa),
            "verify-full" => Ok(SslMode::VerifyFull),
            _ => Err(fault(
                "sslmode is one of disable, allow, prefer, require, verify-ca, verify-full",
            )),
        }
    }
}

/// Whose signature is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RootCerts {
    /// The operating system's authorities.
    System,
    /// Those of a PEM file.
    File(PathBuf),
}

/// The TLS part of a connection URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsParameters {
    /// What is asked of the connection.
    pub(super) mode: SslMode,
    /// `sslrootcert`, where it is given.
    pub(super) roots: Option<RootCerts>,
    /// `sslcert`, a PEM file with the client's certificate chain.
    pub(super) client_cert: Option<PathBuf>,
    /// `sslkey`, a PEM file with the client's private key.
    pub(super) client_key: Option<PathBuf>,
}

/// A connection URL, read.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// What tokio-postgres needs; its `Debug` leaves out the password.
    pub(super) config: Config,
    /// What TLS needs.
    pub(super) tls: TlsParameters,
}

impl Target {
    /// Reads `postgres://…` or `postgresql://…`.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown parameter, which is named, or a value that makes no sense.
    pub(super) fn parse(text: &str) -> Result<Target> {
        if !SCHEMES.iter().any(|scheme| text.starts_with(scheme)) {
            return Err(fault("it begins with postgres:// or postgresql://"));
        }
        let (driver_text, tls) = split_url(text)?;
        let config: Config = driver_text.parse().map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            fault(&cause.unwrap_or_else(|| "it cannot be read".to_owned()))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(fault("it names no host"));
        }
        let mut target = Target {
            config,
            tls: tls_parameters(tls)?,
        };
        if target.is_local() {
            // As in libpq: there is nobody on the way of a Unix socket.
            target.tls.mode = SslMode::Disable;
        }
        Ok(target)
    }

    fn is_local(&self) -> bool {
        let hosts = self.config.get_hosts();
        !hosts.is_empty() && hosts.iter().all(|host| !matches!(host, Host::Tcp(_)))
    }
}

impl fmt::Display for Target {
    /// The servers' names and ports, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        });
        let numbered = self.config.get_hostaddrs().iter().map(ToString::to_string);
        let hosts: Vec<String> = if self.config.get_hosts().is_empty() {
            numbered.collect()
        } else {
            named.collect()
        };
        let ports = self.config.get_ports();
        for (index, host) in hosts.iter().enumerate() {
            let port = ports.get(index).or(ports.first()).unwrap_or(&5432);
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{host}:{port}")?;
        }
        Ok(())
    }
}

type Pairs = Vec<(String, String)>;

/// Takes the TLS parameters out of a URL's query.
fn split_url(url: &str) -> Result<(String, Pairs)> {
    // A password may hold a question mark: the query begins after the host.
    let host_at = url.find('@').unwrap_or_default();
    let (before, from_host) = url.split_at(host_at);
    let Some((host, query)) = from_host.split_once('?') else {
        return Ok((url.to_owned(), Vec::new()));
    };
    let mut kept = Vec::new();
    let mut tls = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| fault("a parameter without a value"))?;
        let key = decoded(key)?;
        if takes(&key)? {
            tls.push((key.into_owned(), decoded(value)?.into_owned()));
        } else {
            kept.push(pair);
        }
    }
    let query = if kept.is_empty() {
        String::new()
    } else {
        format!("?{}", kept.join("&"))
    };
    Ok((format!("{before}{host}{query}"), tls))
}

fn decoded(text: &str) -> Result<Cow<'_, str>> {
    percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| fault("a parameter that is not UTF-8"))
}

/// Whether a parameter is one of TLS, which we read ourselves.
fn takes(key: &str) -> Result<bool> {
    if matches!(key, "sslmode" | "sslrootcert" | "sslcert" | "sslkey") {
        return Ok(true);
    }
    if DRIVER_PARAMETERS.contains(&key) {
        return Ok(false);
    }
    Err(fault(&format!("unknown parameter \"{key}\"")))
}

fn tls_parameters(pairs: Pairs) -> Result<TlsParameters> {
    let mut mode = None;
    let mut roots = None;
    let mut client_cert = None;
    let mut client_key = None;
    for (key, value) in pairs {
        match key.as_str() {
            "sslmode" => mode = Some(value.parse()?),
            "sslrootcert" if value == "system" => roots = Some(RootCerts::System),
            "sslrootcert" => roots = Some(RootCerts::File(value.into())),
            "sslcert" => client_cert = Some(value.into()),
            _ => client_key = Some(value.into()),
        }
    }
    if client_cert.is_some() != client_key.is_some() {
        return Err(fault("sslcert and sslkey belong together"));
    }
    // As in libpq: a public authority signs for anybody, so without the name it proves nothing.
    let is_system = roots == Some(RootCerts::System);
    let mode = mode.unwrap_or(if is_system {
        SslMode::VerifyFull
    } else {
        SslMode::Prefer
    });
    if is_system && mode != SslMode::VerifyFull {
        return Err(fault("sslrootcert=system needs sslmode=verify-full"));
    }
    Ok(TlsParameters {
        mode,
        roots,
        client_cert,
        client_key,
    })
}

fn fault(sentence: &str) -> Error {
    Error::invalid("database URL", sentence)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tls_parameters_are_taken_out_and_the_rest_goes_on() {
        let target = Target::parse(
            "postgresql://me:se%3Fcret@db.example:6432,other/prod?sslmode=verify-full&channel_binding=require&sslrootcert=%2Fetc%2Fca.pem",
        )
        .unwrap();
        assert_eq!(target.tls.mode, SslMode::VerifyFull);
        assert_eq!(
            target.tls.roots,
            Some(RootCerts::File("/etc/ca.pem".into()))
        );
        assert_eq!(target.config.get_password(), Some("se?cret".as_bytes()));
        assert_eq!(target.config.get_dbname(), Some("prod"));
        assert_eq!(
            target.config.get_channel_binding(),
            tokio_postgres::config::ChannelBinding::Require
        );
        assert_eq!(target.to_string(), "db.example:6432, other:5432");
    }

    #[test]
    fn every_mode_has_its_name_and_the_default_is_prefer() {
        let mode = |parameters: &str| {
            Target::parse(&format!("postgres://h/d{parameters}"))
                .unwrap()
                .tls
                .mode
        };
        assert_eq!(mode(""), SslMode::Prefer);
        assert_eq!(mode("?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("?sslmode=allow"), SslMode::Allow);
        assert_eq!(mode("?sslmode=require"), SslMode::Require);
        assert_eq!(mode("?sslmode=verify-ca"), SslMode::VerifyCa);
        assert_eq!(mode("?sslrootcert=system"), SslMode::VerifyFull);
        let socket = Target::parse("postgres:///d?host=/run/postgresql&sslmode=require").unwrap();
        assert_eq!(socket.tls.mode, SslMode::Disable);
    }

    #[test]
    fn what_is_not_understood_is_named_without_the_password() {
        let message = |text: &str| Target::parse(text).unwrap_err().message().to_owned();
        let unknown = message("postgres://me:hunter2@h/d?sslcrl=x");
        assert!(unknown.contains("\"sslcrl\""), "{unknown}");
        for bad in [
            "postgres://me:hunter2@h/d?sslmode=yes",
            "postgres://me:hunter2@h:port/d",
            "postgres://me:hunter2@h/d?sslcert=a",
            "postgres://me:hunter2@h/d?sslrootcert=system&sslmode=require",
            "postgres://",
            "host=h password=hunter2",
            "hunter2",
        ] {
            let message = message(bad);
            assert!(!message.contains("hunter2"), "{message}");
        }
        let target = Target::parse("postgres://me:hunter2@h/d").unwrap();
        assert!(!format!("{target:?}").contains("hunter2"));
    }
}
