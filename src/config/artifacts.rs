//! Where versions of models come from that are not in the repository: its sections of the configuration, `artifacts` and
//! `mlflow`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{MEMORY_BYTES_MAX, Secret, layers::Layers, millis, whole};

/// Each is loaded, and takes memory and threads.
const VERSIONS_MAX: usize = 100;

/// What object stores are told by the environment, by their own names.
const STORE_PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// What names a file of AWS's programs, and where it is otherwise.
const AWS_CREDENTIALS_FILE: (&str, &str) = ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
const AWS_CONFIG_FILE: (&str, &str) = ("AWS_CONFIG_FILE", ".aws/config");

/// How versions are fetched.
#[derive(Debug, Clone)]
pub struct ArtifactsConfig {
    /// Where they are kept.
    pub cache_dir: PathBuf,
    /// Which hosts may be asked, the tracking server beside them.
    pub allowed_hosts: Vec<String>,
    /// Between two looks at a source.
    pub poll_interval: Duration,
    /// How long an answer may take to begin, and a download be silent.
    pub request_max: Duration,
    /// How long a look, or the fetch of one version, may take.
    pub fetch_max: Duration,
    /// How long the start waits for sources.
    pub start_max: Duration,
    /// The largest version, bytes.
    pub version_bytes_max: u64,
    /// Versions of one model.
    pub versions_max: usize,
    /// What the environment tells object stores.
    pub environment: Vec<(String, Secret)>,
    /// Where AWS's programs keep a user's credentials.
    pub aws_credentials_file: Option<PathBuf>,
    /// Where they keep what is said of his profiles.
    pub aws_config_file: Option<PathBuf>,
}

/// MLflow's tracking server.
#[derive(Debug, Clone)]
pub struct MlflowConfig {
    /// Its address, which may hold a password; empty: none.
    pub tracking_uri: Secret,
    /// Who asks it.
    pub username: Option<String>,
    /// His password.
    pub password: Secret,
    /// A token in place of both.
    pub token: Secret,
    /// What its webhooks are signed with; empty: none are taken.
    pub webhook_secret: Secret,
}

/// Reads the section.
pub(super) fn read(layers: &mut Layers, environment: &BTreeMap<String, String>) -> ArtifactsConfig {
    let version_bytes_max = whole(layers, "artifacts.version_bytes_max", 1, MEMORY_BYTES_MAX);
    let cache_dir = layers.text("artifacts.cache_dir").map(PathBuf::from);
    let of_store = environment.iter().filter(|(name, value)| {
        let is_of_store = STORE_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        is_of_store && !value.is_empty()
    });
    ArtifactsConfig {
        cache_dir: cache_dir.unwrap_or_else(|| {
            PathBuf::from(layers.text("server.data_dir").unwrap_or_default()).join("models")
        }),
        allowed_hosts: layers.list("artifacts.allowed_hosts"),
        poll_interval: millis(layers, "artifacts.poll_ms", 50),
        request_max: millis(layers, "artifacts.request_ms_max", 1),
        fetch_max: millis(layers, "artifacts.fetch_ms_max", 1),
        start_max: millis(layers, "artifacts.start_ms_max", 0),
        version_bytes_max: u64::try_from(version_bytes_max).unwrap_or(u64::MAX),
        versions_max: whole(layers, "artifacts.versions_max", 1, VERSIONS_MAX),
        environment: of_store
            .map(|(name, value)| (name.clone(), Secret::from(value.as_str())))
            .collect(),
        aws_credentials_file: aws_file(environment, AWS_CREDENTIALS_FILE),
        aws_config_file: aws_file(environment, AWS_CONFIG_FILE),
    }
}

/// Reads the section `mlflow`.
pub(super) fn read_mlflow(layers: &Layers) -> MlflowConfig {
    let secret = |key| Secret::from(layers.text(key).unwrap_or_default());
    MlflowConfig {
        tracking_uri: secret("mlflow.tracking_uri"),
        username: layers.text("mlflow.username"),
        password: secret("mlflow.password"),
        token: secret("mlflow.token"),
        webhook_secret: secret("mlflow.webhook_secret"),
    }
}

fn aws_file(
    environment: &BTreeMap<String, String>,
    (name, default): (&str, &str),
) -> Option<PathBuf> {
    let named = environment.get(name).map(PathBuf::from);
    let home = environment.get("HOME").map(PathBuf::from);
    named.or_else(|| Some(home?.join(default)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Config, Flags};

    fn read(settings: &[(&str, &str)], environment: &[(&str, &str)]) -> Config {
        let owned = |entries: &[(&str, &str)]| -> Vec<(String, String)> {
            let entries = entries.iter();
            entries
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        let flags = Flags {
            settings: owned(settings),
            config: None,
        };
        let environment = owned(environment).into_iter().collect();
        Config::from_layers(&flags, &environment, |_| Vec::new()).unwrap()
    }

    #[test]
    fn mlflows_own_names_are_read_and_ours_go_before_them() {
        let theirs = [
            ("MLFLOW_TRACKING_URI", "http://u:hunter2@theirs"),
            ("MLFLOW_TRACKING_USERNAME", "ada"),
            ("MLFLOW_TRACKING_PASSWORD", "hunter2"),
            ("MLFLOW_TRACKING_TOKEN", "hunter2"),
        ];
        let config = read(&[], &theirs);
        assert_eq!(config.mlflow.username.as_deref(), Some("ada"));
        assert_eq!(config.mlflow.password.reveal(), "hunter2");
        assert_eq!(config.mlflow.token.reveal(), "hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
        let ours = ("FERROCAST_MLFLOW_TRACKING_URI", "http://ours");
        let config = read(&[], &[theirs.as_slice(), &[ours]].concat());
        assert_eq!(config.mlflow.tracking_uri.reveal(), "http://ours");
        let config = read(&[("mlflow.tracking_uri", "http://flag")], &theirs);
        assert_eq!(config.mlflow.tracking_uri.reveal(), "http://flag");
    }

    #[test]
    fn stores_are_told_what_is_theirs_and_nothing_is_printed() {
        let config = read(
            &[("server.data_dir", "/srv/ferrocast")],
            &[
                ("AWS_SECRET_ACCESS_KEY", "hunter2"),
                ("AWS_SESSION_TOKEN", ""),
                ("PATH", "/bin"),
                ("HOME", "/home/ada"),
            ],
        );
        let artifacts = &config.artifacts;
        assert_eq!(artifacts.environment.len(), 1);
        assert_eq!(artifacts.cache_dir, PathBuf::from("/srv/ferrocast/models"));
        let file = artifacts.aws_credentials_file.as_deref();
        assert_eq!(file, Some("/home/ada/.aws/credentials".as_ref()));
        let file = artifacts.aws_config_file.as_deref();
        assert_eq!(file, Some("/home/ada/.aws/config".as_ref()));
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
