//! Object stores and folders of this machine: a location is a folder that looks as a model's does, with numbered versions.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{
    ClientConfigKey, ObjectMeta, ObjectStore, ObjectStoreExt as _, ObjectStoreScheme, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    http::HttpBuilder,
    local::LocalFileSystem,
    path::Path,
};
use reqwest::Url;
use sha2::{Digest, Sha256};

use super::{
    aws_profile::AwsProfile,
    http::{Http, chain, refusal},
};
use crate::{
    config::Secret,
    error::{Error, Result},
    inference::{ByteStream, Offer, OfferedVersion, VersionSource, Wanted, version_number},
};

/// Objects below a location that are listed: some fifty versions of many files each.
const OBJECTS_MAX: usize = 10_000;

const RETRIES_MAX: usize = 2;

/// As the library has it.
const AWS_REGION_DEFAULT: &str = "us-east-1";

/// Opens object stores.
pub(super) struct Objects {
    pub http: Arc<Http>,
    pub environment: Vec<(String, Secret)>,
    pub aws_credentials_file: Option<PathBuf>,
    pub aws_config_file: Option<PathBuf>,
    pub request_max: Duration,
}

/// A folder of an object store.
pub(super) struct ObjectFolder {
    store: Arc<dyn ObjectStore>,
    path: Path,
}

impl Objects {
    /// Opens a folder by its URL; nothing is asked yet.
    ///
    /// # Errors
    /// `FailedPrecondition` for a URL that no store has, or that its store does not take.
    pub(super) fn folder(&self, location: &str) -> Result<ObjectFolder> {
        let unusable = |why: String| Error::failed_precondition(format!("{location}: {why}"));
        let url = Url::parse(location).map_err(|fault| unusable(fault.to_string()))?;
        let (scheme, path) = ObjectStoreScheme::parse(&url).map_err(|_| {
            unusable(
                "it is no location; there are mlflow:/, s3://, gs://, az://, https:// and file:///"
                    .to_owned(),
            )
        })?;
        let store = self
            .store(&scheme, &url)
            .map_err(|fault| unusable(chain(&fault)))?
            .ok_or_else(|| unusable("nothing can be read from there".to_owned()))?;
        Ok(ObjectFolder { store, path })
    }

    fn store(
        &self,
        scheme: &ObjectStoreScheme,
        url: &Url,
    ) -> object_store::Result<Option<Arc<dyn ObjectStore>>> {
        let connector = self.http.connector();
        let store: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::Local => Arc::new(LocalFileSystem::new()),
            ObjectStoreScheme::AmazonS3 => {
                let mut builder = AmazonS3Builder::new()
                    .with_url(url.as_str())
                    .with_retry(self.retries())
                    .with_http_connector(connector);
                for (key, value) in self.settings::<AmazonS3ConfigKey>("AWS_") {
                    builder = builder.with_config(key, value);
                }
                Arc::new(self.with_profile(builder)?.build()?)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                // The library would ask without TLS, which is for the machine's own credentials alone.
                let without_tls = GoogleConfigKey::Client(ClientConfigKey::AllowHttp);
                let mut builder = GoogleCloudStorageBuilder::new()
                    .with_url(url.as_str())
                    .with_config(without_tls, "false")
                    .with_retry(self.retries())
                    .with_http_connector(connector);
                for (key, value) in self.settings::<GoogleConfigKey>("GOOGLE_") {
                    builder = builder.with_config(key, value);
                }
                Arc::new(builder.build()?)
            }
            ObjectStoreScheme::MicrosoftAzure => {
                let mut builder = MicrosoftAzureBuilder::new()
                    .with_url(url.as_str())
                    .with_retry(self.retries())
                    .with_http_connector(connector);
                for (key, value) in self.settings::<AzureConfigKey>("AZURE_") {
                    builder = builder.with_config(key, value);
                }
                Arc::new(builder.build()?)
            }
            ObjectStoreScheme::Http => {
                let root = url.join("/").unwrap_or_else(|_| url.clone());
                let is_clear = url.scheme() == "http";
                let builder = HttpBuilder::new()
                    .with_url(root)
                    .with_retry(self.retries())
                    .with_config(ClientConfigKey::AllowHttp, is_clear.to_string())
                    .with_http_connector(connector);
                Arc::new(builder.build()?)
            }
            // The latter: what a later version of the library may know.
            ObjectStoreScheme::Memory | _ => return Ok(None),
        };
        Ok(Some(store))
    }

    /// What the environment says, as far as a store knows the names.
    fn settings<'a, K: std::str::FromStr + 'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (K, String)> + 'a {
        self.environment.iter().filter_map(move |(name, value)| {
            let is_of_store = name.starts_with(prefix);
            let key = name
                .to_ascii_lowercase()
                .parse()
                .ok()
                .filter(|_| is_of_store)?;
            Some((key, value.reveal().to_owned()))
        })
    }

    /// The user's own file comes after the environment and before the machine's credentials, as in AWS's programs.
    fn with_profile(&self, builder: AmazonS3Builder) -> object_store::Result<AmazonS3Builder> {
        use AmazonS3ConfigKey as Key;
        let others = [
            Key::AccessKeyId,
            Key::WebIdentityTokenFile,
            Key::ContainerCredentialsRelativeUri,
            Key::ContainerCredentialsFullUri,
        ];
        let is_known = others
            .iter()
            .any(|key| builder.get_config_value(key).is_some());
        if is_known {
            return Ok(builder);
        }
        let named = self
            .environment
            .iter()
            .find(|(name, _)| name == "AWS_PROFILE");
        let allows_http = Key::Client(ClientConfigKey::AllowHttp);
        let profile = AwsProfile {
            credentials_file: self.aws_credentials_file.clone(),
            config_file: self.aws_config_file.clone(),
            name: named.map(|(_, value)| value.reveal().to_owned()),
            region: builder
                .get_config_value(&Key::Region)
                .unwrap_or_else(|| AWS_REGION_DEFAULT.to_owned()),
            allows_http: builder.get_config_value(&allows_http).as_deref() == Some("true"),
            request_max: self.request_max,
        };
        let credentials = profile.credentials(&self.http);
        let credentials = credentials.map_err(|why| object_store::Error::Generic {
            store: "S3",
            source: why.into(),
        })?;
        Ok(match credentials {
            Some(credentials) => builder.with_credentials(Arc::new(credentials)),
            None => builder,
        })
    }

    fn retries(&self) -> RetryConfig {
        RetryConfig {
            max_retries: RETRIES_MAX,
            retry_timeout: self.request_max,
            ..RetryConfig::default()
        }
    }
}

impl ObjectFolder {
    /// Opens a file by the folders that lead to it, and its name.
    pub(super) async fn read(&self, parts: &[&str]) -> Result<ByteStream> {
        let path: Path = self
            .path
            .parts()
            .chain(parts.iter().map(|part| (*part).into()))
            .collect();
        let found = self.store.get(&path).await.map_err(fault)?;
        Ok(found.into_stream().map_err(fault).boxed())
    }

    /// The files of each version: of objects that are directly in a numbered folder.
    async fn list(&self) -> Result<BTreeMap<u64, Vec<ObjectMeta>>> {
        let mut listed = self.store.list(Some(&self.path)).take(OBJECTS_MAX + 1);
        let mut versions: BTreeMap<u64, Vec<ObjectMeta>> = BTreeMap::new();
        let mut count = 0;
        while let Some(object) = listed.next().await {
            let object = object.map_err(fault)?;
            count += 1;
            if count > OBJECTS_MAX {
                return Err(Error::failed_precondition(format!(
                    "more than {OBJECTS_MAX} objects are there; old versions have to be taken away"
                )));
            }
            let parts = object.location.prefix_match(&self.path);
            let parts: Vec<_> = parts.into_iter().flatten().collect();
            if let [folder, _] = parts.as_slice()
                && let Some(number) = version_number(folder.as_ref())
            {
                versions.entry(number).or_default().push(object);
            }
        }
        Ok(versions)
    }
}

#[async_trait]
impl VersionSource for ObjectFolder {
    async fn offer(&self, wanted: &Wanted) -> Result<Offer> {
        let versions = self.list().await?;
        let newest = versions.keys().rev().take(wanted.versions_max);
        let newest: Vec<u64> = newest.copied().collect();
        if newest.is_empty() {
            return Err(Error::not_found(
                "no version is there: a version is a folder whose name is a number, with signature.json in it",
            ));
        }
        let is_wanted = |number: &u64| newest.contains(number) || wanted.meant.contains(number);
        let offered = versions.iter().filter(|(number, _)| is_wanted(number));
        Ok(Offer {
            versions: offered
                .map(|(number, objects)| OfferedVersion {
                    number: *number,
                    fingerprint: fingerprint(objects),
                    place: Ok(number.to_string()),
                })
                .collect(),
            is_whole: true,
            ..Offer::default()
        })
    }

    async fn open(&self, version: &OfferedVersion, file: &str) -> Result<ByteStream> {
        self.read(&[&version.number.to_string(), file]).await
    }
}

/// Another one where a file is another one, as far as the store tells.
fn fingerprint(objects: &[ObjectMeta]) -> String {
    let mut told: Vec<String> = objects
        .iter()
        .map(|object| {
            let changed = object.last_modified.timestamp_micros();
            format!(
                "{}\n{}\n{changed}\n{:?}\n",
                object.location, object.size, object.e_tag
            )
        })
        .collect();
    told.sort();
    hex::encode(Sha256::digest(told.concat()))
}

fn fault(fault: object_store::Error) -> Error {
    use object_store::Error as Fault;
    if let Some(refused) = refusal(&fault) {
        return Error::failed_precondition(refused.to_string());
    }
    let error = match &fault {
        Fault::NotFound { path, .. } => Error::not_found(format!("{path} is not there")),
        Fault::PermissionDenied { path, .. } | Fault::Unauthenticated { path, .. } => {
            Error::failed_precondition(format!("{path} must not be read with these credentials"))
        }
        Fault::Generic { .. } | _ => Error::unavailable(chain(&fault)),
    };
    error.with_source(fault)
}
