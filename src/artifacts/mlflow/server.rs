//! A tracking server: its address, who asks it, and which files it hands out.

use reqwest::{RequestBuilder, Url};

use crate::config::Secret;

/// Below the address of the tracking server.
pub(super) const REGISTRY_PATH: &str = "api/2.0/mlflow";
pub(super) const PROXY_PATH: &str = "api/2.0/mlflow-artifacts/artifacts";

/// A tracking server, and who asks it.
#[derive(Debug, Clone)]
pub struct MlflowServer {
    url: Url,
    username: Option<String>,
    password: Secret,
    token: Secret,
}

impl MlflowServer {
    /// At a URL, which may hold user and password. As for MLflow's own client, these go before a token.
    ///
    /// # Errors
    /// A sentence without the URL, which may hold a password.
    pub fn new(
        url: &Secret,
        username: Option<String>,
        password: Secret,
        token: Secret,
    ) -> Result<MlflowServer, String> {
        let unusable =
            || "expected http://… or https://…, the address of a tracking server".to_owned();
        let mut url = Url::parse(url.reveal()).map_err(|_| unusable())?;
        if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none() {
            return Err(unusable());
        }
        let decoded = |text: &str| {
            let text = percent_encoding::percent_decode_str(text);
            text.decode_utf8_lossy().into_owned()
        };
        let named = (!url.username().is_empty()).then(|| decoded(url.username()));
        let secret = url
            .password()
            .map(|password| Secret::from(decoded(password)));
        // Neither fails for a URL that has a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_query(None);
        url.set_fragment(None);
        Ok(MlflowServer {
            url,
            username: username.or(named),
            password: secret
                .filter(|_| password.reveal().is_empty())
                .unwrap_or(password),
            token,
        })
    }

    /// Host and port.
    pub(in crate::artifacts) fn authority(&self) -> (String, Option<u16>) {
        let host = self.url.host_str().unwrap_or_default();
        (host.to_owned(), self.url.port_or_known_default())
    }

    pub(super) fn authorize(&self, request: RequestBuilder) -> RequestBuilder {
        let token = self.token.reveal();
        match &self.username {
            Some(username) if !self.password.reveal().is_empty() => {
                request.basic_auth(username, Some(self.password.reveal()))
            }
            Some(_) | None if !token.is_empty() => request.bearer_auth(token),
            Some(_) | None => request,
        }
    }

    /// A page below the server's address.
    pub(super) fn page<'a>(&self, path: &str, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments
                .pop_if_empty()
                .extend(path.split('/'))
                .extend(parts);
        }
        url
    }

    fn is_at(&self, url: &Url) -> bool {
        let same = |url: &Url| {
            (
                url.host_str().map(str::to_owned),
                url.port_or_known_default(),
            )
        };
        same(&self.url) == same(url)
    }
}

/// The folder below the tracking server's artifact proxy that a URI means; none where it is elsewhere.
pub(super) fn proxied(server: &MlflowServer, uri: &str) -> Option<String> {
    let url = Url::parse(uri).ok()?;
    let path = match (url.scheme(), url.host_str().unwrap_or_default()) {
        ("mlflow-artifacts", "") => url.path(),
        ("mlflow-artifacts", _) => {
            let other = Url::parse(&format!(
                "{}{}",
                server.url.scheme(),
                uri.strip_prefix(url.scheme())?
            ))
            .ok()?;
            return server.is_at(&other).then(|| decoded(other.path()));
        }
        ("http" | "https", _) if server.is_at(&url) => {
            url.path().split_once(PROXY_PATH).map(|(_, path)| path)?
        }
        _ => return None,
    };
    Some(decoded(path))
}

fn decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path)
        .decode_utf8_lossy()
        .into_owned()
}

pub(super) fn is_object_store(uri: &str) -> bool {
    const SCHEMES: [&str; 9] = [
        "s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss", "https",
    ];
    uri.split_once("://")
        .is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn server(url: &str) -> MlflowServer {
        MlflowServer::new(&url.into(), None, Secret::default(), Secret::default()).unwrap()
    }

    #[test]
    fn a_tracking_server_is_no_database_and_hides_its_password() {
        let known = server("https://u:hunter2@mlflow.example.com/tracking");
        assert_eq!(known.username.as_deref(), Some("u"));
        assert_eq!(known.password.reveal(), "hunter2");
        assert!(!format!("{known:?}").contains("hunter2"));
        let page = known.page(REGISTRY_PATH, ["registered-models", "get"]);
        assert_eq!(
            page.as_str(),
            "https://mlflow.example.com/tracking/api/2.0/mlflow/registered-models/get"
        );
        for bad in ["sqlite:///mlflow.db", "./mlruns", "databricks", "http://"] {
            let made = MlflowServer::new(&bad.into(), None, Secret::default(), Secret::default());
            assert!(made.is_err(), "{bad}");
        }
    }

    #[test]
    fn files_are_read_through_the_tracking_server_and_through_no_other() {
        let server = server("http://127.0.0.1:5000/base");
        for (uri, folder) in [
            (
                "mlflow-artifacts:/1/a/artifacts/version",
                Some("/1/a/artifacts/version"),
            ),
            ("mlflow-artifacts://127.0.0.1:5000/1/a", Some("/1/a")),
            (
                "http://127.0.0.1:5000/base/api/2.0/mlflow-artifacts/artifacts/1/a",
                Some("/1/a"),
            ),
            ("mlflow-artifacts://evil.net/1/a", None),
            (
                "http://evil.net/api/2.0/mlflow-artifacts/artifacts/1/a",
                None,
            ),
            ("http://127.0.0.1:5000/elsewhere", None),
            ("s3://bucket/1/a", None),
            ("/srv/mlruns/1/a", None),
            ("file:///srv/mlruns/1/a", None),
        ] {
            assert_eq!(proxied(&server, uri).as_deref(), folder, "{uri}");
        }
        assert!(is_object_store("s3://bucket/1/a"));
        assert!(!is_object_store("file:///srv/mlruns/1/a"));
    }

    #[test]
    fn names_cannot_lead_out_of_their_folder() {
        let server = server("http://127.0.0.1:5000");
        let url = server.page(
            PROXY_PATH,
            ["1", "..", "..", "a/../b", "?x", "signature.json"],
        );
        assert!(
            url.path()
                .starts_with("/api/2.0/mlflow-artifacts/artifacts/1/"),
            "{url}"
        );
        assert!(
            !url.path().contains("/../") && url.query().is_none(),
            "{url}"
        );
    }
}
