//! Which hosts may be asked for models.

use std::{fmt, net::IpAddr, str::FromStr};

/// Where the machines of the large clouds ask for credentials of their own. They are asked for nothing else: what they are
/// asked, the client of the object store decides.
const CREDENTIAL_HOSTS: [&str; 9] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
    "metadata.google.internal",
    "oauth2.googleapis.com",
    "iamcredentials.googleapis.com",
    "login.microsoftonline.com",
];

/// AWS's services for tokens and for single sign-on have a host in each region.
const CREDENTIAL_SERVICES: [&str; 3] = ["sts", "oidc", "portal.sso"];
const CREDENTIAL_DOMAIN: &str = ".amazonaws.com";

/// AWS's own addresses on a machine of version 6, as 169.254.0.0/16 is of version 4.
const AWS_LOCAL: [u16; 2] = [0xfd00, 0x0ec2];

/// Whether a host is this machine's own source of credentials, which speaks without TLS: an address, and no name.
pub(super) fn is_link_local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.segments().starts_with(&AWS_LOCAL),
        Err(_) => false,
    }
}

/// A service's host of a region, or of all.
fn gives_tokens(host: &str) -> bool {
    let Some(name) = host.strip_suffix(CREDENTIAL_DOMAIN) else {
        return false;
    };
    CREDENTIAL_SERVICES.iter().any(|service| {
        let region = name.strip_prefix(service);
        region.is_some_and(|rest| {
            rest.is_empty()
                || rest
                    .strip_prefix('.')
                    .is_some_and(|region| !region.contains('.'))
        })
    })
}

/// A host, with its port where only that one may be asked, or `*.` and a domain for all hosts in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AllowedHost {
    host: String,
    port: Option<u16>,
    is_domain: bool,
}

impl FromStr for AllowedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<AllowedHost, String> {
        let unusable = || {
            format!(
                "\"{text}\" is no host, as models.example.com, 10.0.0.7:9000 or *.s3.eu-central-1.amazonaws.com"
            )
        };
        let (is_domain, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !rest.ends_with(']') => {
                (host, Some(port.parse().map_err(|_| unusable())?))
            }
            Some(_) | None => (rest, None),
        };
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let is_address = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '[' | ']' | '.');
        let is_good = if is_bracketed {
            host.chars().all(is_address)
        } else {
            host.chars().all(is_host)
        };
        if host.is_empty() || !is_good {
            return Err(unusable());
        }
        Ok(AllowedHost {
            host: host.to_ascii_lowercase(),
            port,
            is_domain,
        })
    }
}

impl AllowedHost {
    fn allows(&self, host: &str, port: Option<u16>) -> bool {
        let is_host = if self.is_domain {
            host.strip_suffix(&self.host)
                .is_some_and(|before| before.len() > 1 && before.ends_with('.'))
        } else {
            host == self.host
        };
        is_host && self.port.is_none_or(|allowed| Some(allowed) == port)
    }
}

/// The hosts that may be asked; none: no host may.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowedHosts {
    hosts: Vec<AllowedHost>,
}

/// A request that must not be sent, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused(pub(super) String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl AllowedHosts {
    /// Those that settings name.
    ///
    /// # Errors
    /// A sentence about the first that is no host.
    pub fn parse(names: &[String]) -> Result<AllowedHosts, String> {
        let hosts = names.iter().map(|name| name.parse());
        Ok(AllowedHosts {
            hosts: hosts.collect::<Result<_, _>>()?,
        })
    }

    /// Allows one more.
    pub(super) fn allow(&mut self, (host, port): (String, Option<u16>)) {
        self.hosts.push(AllowedHost {
            host,
            port,
            is_domain: false,
        });
    }

    /// Whether a host may be asked for models, or for the credentials to do so.
    ///
    /// # Errors
    /// `Refused` where it may not.
    pub(super) fn check(&self, host: &str, port: Option<u16>) -> Result<(), Refused> {
        let host = host.to_ascii_lowercase();
        let gives_credentials = CREDENTIAL_HOSTS.contains(&host.as_str()) || gives_tokens(&host);
        if gives_credentials || self.hosts.iter().any(|allowed| allowed.allows(&host, port)) {
            return Ok(());
        }
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        Err(Refused(format!(
            "the host {host}{port} is not among those that artifacts.allowed_hosts names"
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn allowed(names: &[&str]) -> AllowedHosts {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        AllowedHosts::parse(&names).unwrap()
    }

    #[test]
    fn only_hosts_that_are_named_may_be_asked() {
        let hosts = allowed(&[
            "Models.example.com",
            "127.0.0.1:9000",
            "*.s3.eu-central-1.amazonaws.com",
            "[::1]:8080",
        ]);
        let may = |host: &str, port| hosts.check(host, Some(port)).is_ok();
        assert!(may("models.example.com", 443));
        assert!(may("MODELS.example.com", 8443));
        assert!(may("127.0.0.1", 9000));
        assert!(may("bucket.s3.eu-central-1.amazonaws.com", 443));
        assert!(may("[::1]", 8080));
        for (host, port) in [
            ("127.0.0.1", 9001),
            ("example.com", 443),
            ("evil-models.example.com", 443),
            ("models.example.com.evil.net", 443),
            ("s3.eu-central-1.amazonaws.com", 443),
            (".s3.eu-central-1.amazonaws.com", 443),
            ("evils3.eu-central-1.amazonaws.com", 443),
            ("[::1]", 8081),
        ] {
            assert!(!may(host, port), "{host}:{port}");
        }
    }

    #[test]
    fn nothing_is_allowed_by_default_but_asking_for_credentials() {
        let hosts = AllowedHosts::default();
        let refused = hosts.check("models.example.com", Some(443)).unwrap_err();
        assert!(
            refused.to_string().contains("models.example.com:443"),
            "{refused}"
        );
        assert!(hosts.check("169.254.169.254", Some(80)).is_ok());
        assert!(
            hosts
                .check("sts.eu-central-1.amazonaws.com", Some(443))
                .is_ok()
        );
        for good in ["sts", "oidc.eu-west-1", "portal.sso.eu-west-1"] {
            let host = format!("{good}.amazonaws.com");
            assert!(hosts.check(&host, Some(443)).is_ok(), "{host}");
        }
        assert!(is_link_local("169.254.169.254") && is_link_local("[fd00:ec2::254]"));
        for name in [
            "169.254.evil.net",
            "10.0.0.1",
            "[fd00:ec3::254]",
            "localhost",
        ] {
            assert!(!is_link_local(name), "{name}");
        }
        // The latter: a bucket that anyone may have.
        for bad in [
            "sts.evil.net",
            "evilsts.amazonaws.com",
            "sts.evil.s3.amazonaws.com",
        ] {
            assert!(hosts.check(bad, Some(443)).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in [
            "",
            "https://host",
            "host/path",
            "host:port",
            "*.",
            "a b",
            "u@host",
            "[::g]",
        ] {
            assert!(AllowedHosts::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
