//! MLflow's model registry, by its REST API; files through the artifact proxy of the tracking server, or from the object
//! store that the registry names.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{
    http::{Http, away, shortened},
    objects::Objects,
};
use crate::{
    config::Secret,
    error::{Error, Result},
    inference::{ByteStream, Offer, OfferedVersion, VersionSource, Wanted, version_number},
};

const SCHEME: &str = "mlflow:";

/// The largest answer of the registry: a model with some thousand aliases and tags.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Versions that the registry is asked about at once.
const ASKED_AT_ONCE: usize = 4;

/// Below the address of the tracking server.
const REGISTRY_PATH: &str = "api/2.0/mlflow";
const PROXY_PATH: &str = "api/2.0/mlflow-artifacts/artifacts";

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
    pub(super) fn authority(&self) -> (String, Option<u16>) {
        let host = self.url.host_str().unwrap_or_default();
        (host.to_owned(), self.url.port_or_known_default())
    }

    fn authorize(&self, request: RequestBuilder) -> RequestBuilder {
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
    fn page<'a>(&self, path: &str, parts: impl IntoIterator<Item = &'a str>) -> Url {
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

/// Which versions of a registered model are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pick {
    /// Those of its aliases.
    Aliases,
    /// Those of its aliases, of which one answers.
    Alias(String),
    /// One.
    Version(u64),
}

/// A registered model, `mlflow:/name`, `mlflow:/name@alias` or `mlflow:/name/3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MlflowLocation {
    name: String,
    pick: Pick,
}

impl MlflowLocation {
    /// Reads a location; none where it is not one of MLflow.
    ///
    /// # Errors
    /// `FailedPrecondition` where it names no model.
    pub(super) fn parse(location: &str) -> Result<Option<MlflowLocation>> {
        let Some(rest) = location.strip_prefix(SCHEME) else {
            return Ok(None);
        };
        let unusable = || {
            Error::failed_precondition(format!(
                "{location}: expected mlflow:/name@alias, mlflow:/name/version or mlflow:/name"
            ))
        };
        let path = rest.strip_prefix('/').ok_or_else(unusable)?;
        let (name, pick) = match (path.split_once('@'), path.split_once('/')) {
            (Some((name, alias)), None) if !alias.is_empty() => {
                (name, Pick::Alias(alias.to_owned()))
            }
            (None, Some((name, number))) => (
                name,
                Pick::Version(version_number(number).ok_or_else(unusable)?),
            ),
            (None, None) => (path, Pick::Aliases),
            (Some(_), _) => return Err(unusable()),
        };
        if name.trim().is_empty() {
            return Err(unusable());
        }
        Ok(Some(MlflowLocation {
            name: name.to_owned(),
            pick,
        }))
    }
}

/// A registered model of a tracking server.
pub(super) struct MlflowSource {
    server: MlflowServer,
    location: MlflowLocation,
    http: Arc<Http>,
    objects: Arc<Objects>,
}

#[derive(Deserialize)]
struct RegisteredModelAnswer {
    registered_model: RegisteredModel,
}

#[derive(Deserialize)]
struct RegisteredModel {
    #[serde(default)]
    aliases: Vec<RegisteredAlias>,
}

#[derive(Deserialize)]
struct RegisteredAlias {
    alias: String,
    version: String,
}

#[derive(Deserialize)]
struct ModelVersionAnswer {
    model_version: RegisteredVersion,
}

#[derive(Deserialize)]
struct RegisteredVersion {
    /// A number; as text, where the server wrote it so.
    #[serde(default)]
    creation_timestamp: serde_json::Value,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    status_message: Option<String>,
}

#[derive(Deserialize)]
struct DownloadAnswer {
    artifact_uri: String,
}

/// What MLflow says where it refuses.
#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    message: String,
}

impl MlflowSource {
    pub(super) fn new(
        server: MlflowServer,
        location: MlflowLocation,
        http: Arc<Http>,
        objects: Arc<Objects>,
    ) -> MlflowSource {
        MlflowSource {
            server,
            location,
            http,
            objects,
        }
    }

    /// Asks the registry.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        parameters: &[(&str, &str)],
    ) -> Result<T> {
        let mut url = self.server.page(REGISTRY_PATH, method.split('/'));
        url.query_pairs_mut().extend_pairs(parameters);
        let answer = self.get(url).await?;
        let text = bounded_text(answer).await?;
        serde_json::from_str(&text).map_err(|fault| {
            Error::unavailable(format!(
                "the tracking server's answer to {method} makes no sense ({fault}); is there an MLflow at mlflow.tracking_uri?"
            ))
        })
    }

    /// A page of the tracking server, with what it wants to know of who asks.
    async fn get(&self, url: Url) -> Result<Response> {
        let answer = self.http.get(url, |request| self.server.authorize(request));
        let answer = answer
            .await
            .map_err(|fault| fault.within("the tracking server"))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = bounded_text(answer).await.unwrap_or_default();
        let refusal: Refusal = serde_json::from_str(&text).unwrap_or_default();
        let said = if refusal.message.is_empty() {
            status.to_string()
        } else {
            shortened(&refusal.message)
        };
        Err(match status {
            StatusCode::NOT_FOUND => {
                Error::not_found(format!("the tracking server has it not: {said}"))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Error::failed_precondition(format!(
                    "the tracking server does not let us in ({said}): mlflow.username and mlflow.password, or mlflow.token"
                ))
            }
            _ => Error::unavailable(format!("the tracking server answers {status}: {said}")),
        })
    }

    async fn aliases(&self) -> Result<BTreeMap<String, u64>> {
        let name = [("name", self.location.name.as_str())];
        let answer: RegisteredModelAnswer = self.ask("registered-models/get", &name).await?;
        let aliases = answer.registered_model.aliases.into_iter();
        aliases
            .map(|RegisteredAlias { alias, version }| match version_number(&version) {
                Some(number) => Ok((alias, number)),
                None => Err(Error::unavailable(format!(
                    "the tracking server says that the alias \"{}\" means version \"{}\", which is no number",
                    shortened(&alias),
                    shortened(&version)
                ))),
            })
            .collect()
    }

    async fn version(&self, number: u64) -> Result<OfferedVersion> {
        let version = number.to_string();
        let asked = [
            ("name", self.location.name.as_str()),
            ("version", version.as_str()),
        ];
        let found: ModelVersionAnswer = match self.ask("model-versions/get", &asked).await {
            Ok(found) => found,
            Err(fault) if fault.kind() == crate::error::ErrorKind::NotFound => {
                return Ok(OfferedVersion {
                    number,
                    fingerprint: String::new(),
                    place: Err(fault.message().to_owned()),
                });
            }
            Err(fault) => return Err(fault),
        };
        let RegisteredVersion {
            creation_timestamp,
            status,
            status_message,
        } = found.model_version;
        let place = match status.as_deref() {
            None | Some("READY") => {
                let found: DownloadAnswer =
                    self.ask("model-versions/get-download-uri", &asked).await?;
                Ok(found.artifact_uri)
            }
            Some(status) => Err(format!(
                "the registry says that it is {}: {}",
                shortened(status),
                shortened(status_message.as_deref().unwrap_or_default())
            )),
        };
        // A model that was deleted and registered anew begins with version 1 again.
        let told = format!(
            "{}\n{version}\n{creation_timestamp}\n{place:?}",
            self.location.name
        );
        Ok(OfferedVersion {
            number,
            fingerprint: hex::encode(Sha256::digest(told)),
            place,
        })
    }

    /// The numbers that are asked for: what answers comes first.
    fn numbers(
        &self,
        aliases: &BTreeMap<String, u64>,
        wanted: &Wanted,
    ) -> Result<(Vec<u64>, Option<String>)> {
        let first = match &self.location.pick {
            Pick::Aliases => None,
            Pick::Version(number) => Some(*number),
            Pick::Alias(alias) => Some(*aliases.get(alias).ok_or_else(|| {
                Error::not_found(format!(
                    "the registered model \"{}\" has no alias \"{alias}\"",
                    self.location.name
                ))
            })?),
        };
        let aliased: BTreeSet<u64> = aliases.values().copied().collect();
        let mut others: Vec<u64> = aliased
            .into_iter()
            .filter(|number| Some(*number) != first)
            .collect();
        let room = wanted.versions_max.saturating_sub(first.iter().len());
        // The newest of them.
        let left_out = others.len().saturating_sub(room);
        others.drain(..left_out);
        let remark = (left_out > 0).then(|| {
            format!(
                "its aliases mean {left_out} versions more than artifacts.versions_max allows; the oldest were left out"
            )
        });
        let mut numbers: Vec<u64> = first.into_iter().chain(others).collect();
        let meant = wanted
            .meant
            .iter()
            .filter(|number| !numbers.contains(number));
        numbers.extend(meant.copied().collect::<Vec<_>>());
        Ok((numbers, remark))
    }
}

#[async_trait]
impl VersionSource for MlflowSource {
    async fn offer(&self, wanted: &Wanted) -> Result<Offer> {
        let is_one = matches!(self.location.pick, Pick::Version(_));
        let aliases = if is_one {
            BTreeMap::new()
        } else {
            self.aliases().await?
        };
        let (numbers, remark) = self.numbers(&aliases, wanted)?;
        if numbers.is_empty() {
            return Err(Error::not_found(format!(
                "the registered model \"{}\" has no alias, and no version is named",
                self.location.name
            )));
        }
        let asked = numbers.into_iter().map(|number| self.version(number));
        let asked = futures_util::stream::iter(asked).buffered(ASKED_AT_ONCE);
        let versions: Vec<OfferedVersion> = asked.try_collect().await?;
        let is_offered = |number: &u64| versions.iter().any(|version| version.number == *number);
        let aliases = aliases.into_iter().filter(|(_, number)| is_offered(number));
        Ok(Offer {
            aliases: (!is_one).then(|| aliases.collect()),
            default_alias: match &self.location.pick {
                Pick::Alias(alias) => Some(alias.clone()),
                Pick::Aliases | Pick::Version(_) => None,
            },
            has_own_numbers: true,
            is_whole: false,
            remark,
            versions,
        })
    }

    async fn open(&self, version: &OfferedVersion, file: &str) -> Result<ByteStream> {
        let place = version.place.clone().map_err(Error::failed_precondition)?;
        match proxied(&self.server, &place) {
            Some(folder) => {
                let parts = folder.split('/').filter(|part| !part.is_empty());
                let url = self.server.page(PROXY_PATH, parts.chain([file]));
                let answer = self.get(url).await?;
                Ok(answer.bytes_stream().map_err(away).boxed())
            }
            None if is_object_store(&place) => self.objects.folder(&place)?.read(&[file]).await,
            None => Err(Error::failed_precondition(format!(
                "the registry says that its files are at {}, where only the tracking server itself can read; start it with --serve-artifacts",
                shortened(&place)
            ))),
        }
    }
}

/// The folder below the tracking server's artifact proxy that a URI means; none where it is elsewhere.
fn proxied(server: &MlflowServer, uri: &str) -> Option<String> {
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

fn is_object_store(uri: &str) -> bool {
    const SCHEMES: [&str; 9] = [
        "s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss", "https",
    ];
    uri.split_once("://")
        .is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
}

async fn bounded_text(answer: Response) -> Result<String> {
    let mut bytes = Vec::new();
    let mut parts = answer.bytes_stream();
    while let Some(part) = parts.next().await {
        bytes.extend_from_slice(&part.map_err(|fault| away(fault.without_url()))?);
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(Error::unavailable(format!(
                "the tracking server's answer is larger than {ANSWER_BYTES_MAX} bytes"
            )));
        }
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::unavailable("the tracking server's answer is no text"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn server(url: &str) -> MlflowServer {
        MlflowServer::new(&url.into(), None, Secret::default(), Secret::default()).unwrap()
    }

    #[test]
    fn locations_name_a_model_and_which_versions_are_meant() {
        let parse = |text: &str| MlflowLocation::parse(text).unwrap();
        let located = |name: &str, pick| {
            let name = name.to_owned();
            Some(MlflowLocation { name, pick })
        };
        assert_eq!(
            parse("mlflow:/m@champion"),
            located("m", Pick::Alias("champion".to_owned()))
        );
        assert_eq!(parse("mlflow:/m/3"), located("m", Pick::Version(3)));
        assert_eq!(parse("mlflow:/m"), located("m", Pick::Aliases));
        assert_eq!(parse("s3://bucket/m"), None);
        for bad in [
            "mlflow:m",
            "mlflow:/",
            "mlflow:/m@",
            "mlflow:/m/",
            "mlflow:/m/03",
            "mlflow:/m/a",
            "mlflow:/m@a/3",
            "mlflow:/ @a",
            "mlflow://m",
        ] {
            assert!(MlflowLocation::parse(bad).is_err(), "{bad}");
        }
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
