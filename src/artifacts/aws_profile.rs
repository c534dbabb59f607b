//! A user's profile as AWS's programs keep it, `~/.aws/credentials` and `~/.aws/config`: what it means, AWS's own library says.
//! Whatever that has to ask for it, it asks through our client, and so of the hosts alone that may be asked.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use aws_config::{
    Region, profile::ProfileFileCredentialsProvider, provider_config::ProviderConfig,
};
use aws_credential_types::{Credentials, provider::ProvideCredentials as _};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use object_store::{CredentialProvider, aws::AwsCredential};
use tokio::{sync::Mutex, time::timeout};

use super::http::{Http, chain};

const DEFAULT_PROFILE: &str = "default";
/// Keys that end sooner are asked for anew.
const VALID_AT_LEAST: Duration = Duration::from_secs(60);
/// What a program of the profile has told on its standard error, which may be anything, comes after this.
const OUTPUT_OF_A_PROGRAM: &str = " Stderr:";

/// Where a profile is, and how it is followed up.
pub(super) struct AwsProfile {
    pub credentials_file: Option<PathBuf>,
    pub config_file: Option<PathBuf>,
    /// As `AWS_PROFILE` names it.
    pub name: Option<String>,
    pub region: String,
    pub allows_http: bool,
    pub request_max: Duration,
}

impl AwsProfile {
    /// What asks for its keys; none where no profile is named, and the files have no default one.
    ///
    /// # Errors
    /// A sentence where a file cannot be read.
    pub(super) fn credentials(
        self,
        http: &Arc<Http>,
    ) -> Result<Option<ProfileCredentials>, String> {
        let mut files = EnvConfigFiles::builder();
        let mut has_default = false;
        for (kind, path) in [
            (EnvConfigFileKind::Credentials, self.credentials_file),
            (EnvConfigFileKind::Config, self.config_file),
        ] {
            let Some(path) = path else { continue };
            let Some(text) = read(&path)? else { continue };
            has_default |= text.lines().any(begins_default);
            files = files.with_file(kind, path);
        }
        if self.name.is_none() && !has_default {
            return Ok(None);
        }
        let client = AwsHttp {
            http: Arc::clone(http),
            allows_http: self.allows_http,
        };
        let config = ProviderConfig::without_region()
            .with_region(Some(Region::new(self.region)))
            .with_http_client(client);
        let provider = ProfileFileCredentialsProvider::builder()
            .configure(&config)
            .profile_files(files.build())
            .profile_name(self.name.as_deref().unwrap_or(DEFAULT_PROFILE))
            .build();
        Ok(Some(ProfileCredentials {
            provider,
            newest: Mutex::new(None),
            request_max: self.request_max,
        }))
    }
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(format!("{}: cannot be read: {fault}", path.display())),
    }
}

fn begins_default(line: &str) -> bool {
    let name = line
        .trim()
        .strip_prefix('[')
        .and_then(|rest| rest.split(']').next());
    let words: Vec<&str> = name.unwrap_or_default().split_whitespace().collect();
    matches!(
        words.as_slice(),
        [DEFAULT_PROFILE] | ["profile", DEFAULT_PROFILE]
    )
}

/// The keys of a profile, asked for anew before they end.
pub(super) struct ProfileCredentials {
    provider: ProfileFileCredentialsProvider,
    newest: Mutex<Option<Credentials>>,
    request_max: Duration,
}

impl fmt::Debug for ProfileCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProfileCredentials")
    }
}

#[async_trait]
impl CredentialProvider for ProfileCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut newest = self.newest.lock().await;
        let is_valid = |keys: &Credentials| {
            let soon = SystemTime::now() + VALID_AT_LEAST;
            keys.expiry().is_none_or(|end| end > soon)
        };
        if !newest.as_ref().is_some_and(is_valid) {
            *newest = Some(self.ask().await.map_err(unusable)?);
        }
        let keys = newest
            .as_ref()
            .ok_or_else(|| unusable("no keys came".to_owned()))?;
        Ok(Arc::new(AwsCredential {
            key_id: keys.access_key_id().to_owned(),
            secret_key: keys.secret_access_key().to_owned(),
            token: keys.session_token().map(str::to_owned),
        }))
    }
}

impl ProfileCredentials {
    async fn ask(&self) -> Result<Credentials, String> {
        match timeout(self.request_max, self.provider.provide_credentials()).await {
            Ok(Ok(keys)) => Ok(keys),
            Ok(Err(fault)) => {
                let why = chain(&fault);
                let told = why.split(OUTPUT_OF_A_PROGRAM).next();
                Err(told.unwrap_or_default().to_owned())
            }
            Err(_) => Err(format!("no keys within {:?}", self.request_max)),
        }
    }
}

fn unusable(why: String) -> object_store::Error {
    object_store::Error::Generic {
        store: "S3",
        source: format!("the profile of AWS: {why}").into(),
    }
}

/// Our client, as AWS's library wants it.
#[derive(Clone)]
struct AwsHttp {
    http: Arc<Http>,
    allows_http: bool,
}

impl fmt::Debug for AwsHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsHttp")
    }
}

impl HttpClient for AwsHttp {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for AwsHttp {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.clone();
        HttpConnectorFuture::new(async move { client.answer(request).await })
    }
}

impl AwsHttp {
    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let request = request
            .try_into_http1x()
            .map_err(|fault| ConnectorError::user(fault.into()))?;
        let (head, body) = request.into_parts();
        let body = body.bytes().map(Bytes::copy_from_slice);
        let body = body.ok_or_else(|| ConnectorError::user("a body that is no text".into()))?;
        let request = http::Request::from_parts(head, body.into());
        // Of a host that must not be asked: not tried again.
        let answer = self.http.service(self.allows_http).answer(request).await;
        let answer = answer.map_err(|fault| match super::http::refusal(&fault) {
            Some(refused) => ConnectorError::user(refused.to_string().into()),
            None => ConnectorError::io(fault.into()),
        })?;
        let (head, body) = answer.into_parts();
        let body = body.bytes().await;
        let body = body.map_err(|fault| ConnectorError::io(fault.into()))?;
        let answer = http::Response::from_parts(head, SdkBody::from(body));
        HttpResponse::try_from(answer).map_err(|fault| ConnectorError::other(fault.into(), None))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::artifacts::AllowedHosts;

    fn open(text: &str, name: Option<&str>) -> Result<Option<ProfileCredentials>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let (_, path) = file.keep().unwrap();
        let profile = AwsProfile {
            credentials_file: Some(path),
            config_file: Some("/nonexistent/config".into()),
            name: name.map(str::to_owned),
            region: "eu-central-1".to_owned(),
            allows_http: false,
            request_max: Duration::from_secs(5),
        };
        let http = Http::new(AllowedHosts::default(), Duration::from_secs(5)).unwrap();
        profile.credentials(&Arc::new(http))
    }

    const TWO: &str = "[default]\naws_access_key_id = A\naws_secret_access_key = a/b+c\\d\n\
        [work]\naws_access_key_id=B\naws_secret_access_key=hunter2\naws_session_token = t\n";

    #[tokio::test]
    async fn profiles_are_found_by_name() {
        let keys = async |name| {
            let found = open(TWO, name).unwrap().unwrap();
            assert!(!format!("{found:?}").contains("hunter2"));
            found.get_credential().await.unwrap()
        };
        let default = keys(None).await;
        assert_eq!(
            (default.key_id.as_str(), default.secret_key.as_str()),
            ("A", "a/b+c\\d")
        );
        let work = keys(Some("work")).await;
        assert_eq!(
            (work.key_id.as_str(), work.token.as_deref()),
            ("B", Some("t"))
        );
    }

    #[tokio::test]
    async fn what_is_missing_is_said_and_no_key_is_shown() {
        assert!(open("[work]\n", None).unwrap().is_none());
        assert!(open("", None).unwrap().is_none());
        let process = "[default]\ncredential_process = echo hunter2 >&2; echo hunter2; exit";
        for (text, name, part) in [
            (TWO, Some("home"), "home"),
            ("[default]\naws_access_key_id = hunter2\n", None, "secret"),
            (&format!("{process} 3"), None, "exit status: 3"),
            (&format!("{process} 0"), None, "could not parse"),
            (
                "[default]\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = other\n[other]\n\
                 aws_access_key_id = A\naws_secret_access_key = hunter2\n[services s]\nsts =\n  endpoint_url = x\n",
                None,
                "",
            ),
        ] {
            let found = open(text, name).unwrap().unwrap();
            let fault = found.get_credential().await.unwrap_err().to_string();
            assert!(!fault.contains("hunter2"), "{fault}");
            assert!(fault.contains(part), "{part} in {fault}");
        }
    }

    #[tokio::test]
    async fn keys_are_asked_for_anew_before_they_end_and_not_sooner() {
        let folder = tempfile::tempdir().unwrap();
        let (asked, keys) = (folder.path().join("asked"), folder.path().join("keys"));
        let program = format!("echo x >> {}; cat {}", asked.display(), keys.display());
        let profile = format!("[default]\ncredential_process = {program}\n");
        let found = open(&profile, None).unwrap().unwrap();
        for (end, count) in [
            ("2001-01-01", 1),
            ("2001-01-01", 2),
            ("2901-01-01", 3),
            ("2001-01-01", 3),
        ] {
            let text = format!(
                r#"{{"Version":1,"AccessKeyId":"A","SecretAccessKey":"b","Expiration":"{end}T00:00:00Z"}}"#
            );
            fs::write(&keys, text).unwrap();
            assert_eq!(found.get_credential().await.unwrap().key_id, "A");
            assert_eq!(fs::read_to_string(&asked).unwrap().lines().count(), count);
        }
    }

    #[test]
    fn a_default_profile_is_one_in_either_file() {
        assert!(begins_default("[default]") && begins_default("  [ profile default ] # mine"));
        assert!(
            !begins_default("[defaults]")
                && !begins_default("default")
                && !begins_default("[sso-session default]")
        );
    }
}
