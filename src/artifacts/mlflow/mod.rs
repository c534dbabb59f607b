//! MLflow's model registry, by its REST API; files through the artifact proxy of the tracking server, or from the object
//! store that the registry names.

mod location;
mod server;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _};
use reqwest::{Response, StatusCode, Url};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

pub(super) use self::location::MlflowLocation;
pub use self::server::MlflowServer;
use self::{
    location::Pick,
    server::{PROXY_PATH, REGISTRY_PATH, is_object_store, proxied},
};
use super::{
    http::{Http, away, shortened},
    objects::Objects,
};
use crate::{
    error::{Error, ErrorKind, Result},
    inference::{ByteStream, Offer, OfferedVersion, VersionSource, Wanted, version_number},
};

/// The largest answer of the registry: a model with some thousand aliases and tags.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Versions that the registry is asked about at once.
const ASKED_AT_ONCE: usize = 4;

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
            Err(fault) if fault.kind() == ErrorKind::NotFound => {
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
