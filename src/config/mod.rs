//! Configuration: one struct a concern, read once at the start, every fault reported at once.
//!
//! The only place that reads the environment. Imports nothing of ours but `error`.

mod artifacts;
mod cache;
mod database;
mod historical;
mod jobs;
mod layers;
mod ledger;
mod online;
mod reads;
mod secret;
mod server;
mod settings;

use std::{collections::BTreeMap, env, path::PathBuf, str::FromStr, thread, time::Duration};

pub use artifacts::{ArtifactsConfig, MlflowConfig};
pub use cache::CacheConfig;
pub use database::DatabaseConfig;
pub use historical::HistoricalConfig;
pub use jobs::JobsConfig;
pub use layers::Flags;
pub use ledger::LedgerConfig;
pub use online::OnlineConfig;
pub use reads::ReadsConfig;
pub use secret::Secret;
pub use server::ServerConfig;
pub use settings::{Setting, markdown_table, settings};

use crate::error::{Error, Result, Violation};
use layers::Layers;

/// Read below the environment, where there is one in the working folder.
const ENV_FILE: &str = ".env";

/// Where models are, and how they run.
#[derive(Debug, Clone)]
pub struct ModelsConfig {
    /// The model repository.
    pub path: PathBuf,
    /// Threads a version.
    pub workers: usize,
    /// Batches that may wait for a version's threads.
    pub queue_max: usize,
    /// What takes no longer is scored where it is asked for.
    pub inline_max: Duration,
    /// The largest file of a version, bytes.
    pub file_bytes_max: usize,
    /// The most nodes that a graph may have.
    pub nodes_max: usize,
    /// How often the repository's files and what is released are looked at.
    pub watch_interval: Duration,
    /// Of how long a time drift is told, at the most.
    pub drift_window: Duration,
    /// Requests that wait to be scored beside their answers, or are, at once.
    pub shadows_max: usize,
    /// Of the processors in use, of a hundred, beyond which none is.
    pub shadows_busy_percent_max: u32,
    /// How long after its answer a shadow scores.
    pub shadows_delay: Duration,
    /// ONNX Runtime's shared library; none: searched for.
    pub onnx_library_path: Option<PathBuf>,
}

/// How much one request may ask for.
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// Entities or rows.
    pub entities_max: usize,
    /// Features.
    pub features_max: usize,
    /// Values: entities or rows times features, rows times inputs.
    pub values_max: usize,
    /// Bytes of a definitions file.
    pub definitions_bytes_max: usize,
    /// Materializations that callers run at once.
    pub materializations_max: usize,
}

/// The REST gateway.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Web origins that may call.
    pub cors_allowed_origins: Vec<String>,
    /// Further URLs, as `POST /predict -> POST /v1/…`.
    pub aliases: Vec<String>,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// A line of JSON an event.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text {
            "auto" => Ok(LogFormat::Auto),
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => Err(other.to_owned()),
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// What, as `info,ferrocast=debug`.
    pub log_filter: String,
    /// How.
    pub log_format: LogFormat,
    /// Lines that may wait to be written.
    pub log_lines_max: usize,
}

/// Everything that can be configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub server: ServerConfig,
    /// Which database.
    pub database: DatabaseConfig,
    /// How reads are joined.
    pub reads: ReadsConfig,
    /// Rows kept in memory.
    pub cache: CacheConfig,
    /// Which Redis.
    pub online: OnlineConfig,
    /// How training sets are made.
    pub historical: HistoricalConfig,
    /// Where models are.
    pub models: ModelsConfig,
    /// How versions are fetched that are elsewhere.
    pub artifacts: ArtifactsConfig,
    /// Which tracking server.
    pub mlflow: MlflowConfig,
    /// Prediction jobs.
    pub jobs: JobsConfig,
    /// How predictions are kept.
    pub ledger: LedgerConfig,
    /// How much one request may ask for.
    pub limits: LimitsConfig,
    /// The REST gateway.
    pub gateway: GatewayConfig,
    /// Logs.
    pub telemetry: TelemetryConfig,
}

impl Config {
    /// Reads the configuration of this process: flags over environment over `.env` over file over defaults.
    ///
    /// `further` checks what only those who use a setting can read, so that its faults come with the others.
    ///
    /// # Errors
    /// `InvalidArgument` with every fault, each with the setting's name and where its value came from.
    pub fn load(flags: &Flags, further: impl Fn(&Config) -> Vec<Violation>) -> Result<Config> {
        let mut environment = BTreeMap::new();
        // This folder's only: one further up may belong to something else.
        match dotenvy::from_path_iter(ENV_FILE) {
            Ok(entries) => {
                for (index, entry) in entries.enumerate() {
                    // The fault itself would show the line, which may hold a password.
                    let (name, value) = entry.map_err(|_| {
                        let entry = index + 1;
                        Error::invalid(
                            ENV_FILE,
                            format!("entry {entry} is not of the form NAME=VALUE"),
                        )
                    })?;
                    environment.insert(name, value);
                }
            }
            Err(fault) if fault.not_found() => {}
            Err(_) => return Err(Error::invalid(ENV_FILE, "cannot be read")),
        }
        // Names and values that are not UTF-8 cannot be ours.
        environment.extend(env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }));
        Config::from_layers(flags, &environment, further)
    }

    /// As `load`, from a given environment.
    ///
    /// # Errors
    /// As `load`.
    pub fn from_layers(
        flags: &Flags,
        environment: &BTreeMap<String, String>,
        further: impl Fn(&Config) -> Vec<Violation>,
    ) -> Result<Config> {
        let mut layers = Layers::gather(flags, environment);
        let config = Config {
            server: server::read(&mut layers),
            database: database::read(&mut layers),
            reads: reads::read(&mut layers),
            cache: cache::read(&mut layers),
            online: online::read(&mut layers),
            historical: historical::read(&mut layers),
            models: read_models(&mut layers),
            artifacts: artifacts::read(&mut layers, environment),
            mlflow: artifacts::read_mlflow(&layers),
            jobs: jobs::read(&mut layers),
            ledger: ledger::read(&mut layers),
            limits: LimitsConfig {
                entities_max: count(&mut layers, "limits.entities_max"),
                features_max: count(&mut layers, "limits.features_max"),
                values_max: whole(&mut layers, "limits.values_max", 1, VALUES_MAX),
                definitions_bytes_max: bytes(&mut layers, "limits.definitions_bytes_max"),
                materializations_max: count(&mut layers, "limits.materializations_max"),
            },
            gateway: GatewayConfig {
                cors_allowed_origins: layers.list("gateway.cors_allowed_origins"),
                aliases: layers.list("gateway.aliases"),
            },
            telemetry: TelemetryConfig {
                log_filter: layers.text("telemetry.log_filter").unwrap_or_else(|| {
                    layers.fault("telemetry.log_filter", "is empty; `off` logs nothing");
                    String::new()
                }),
                log_format: layers.parse("telemetry.log_format", |_| true, "auto, text or json"),
                log_lines_max: count(&mut layers, "telemetry.log_lines_max"),
            },
        };
        for fault in further(&config) {
            layers.fault(fault.field, fault.description);
        }
        layers.into_result(config)
    }
}

fn read_models(layers: &mut Layers) -> ModelsConfig {
    let path = PathBuf::from(layers.text("models.path").unwrap_or_default());
    if path.as_os_str().is_empty() {
        layers.fault("models.path", "is empty");
    }
    ModelsConfig {
        path,
        workers: threads(layers, "models.workers"),
        queue_max: count(layers, "models.queue_max"),
        inline_max: Duration::from_micros(
            u64::try_from(whole(layers, "models.inline_us_max", 0, INLINE_MICROS_MAX))
                .unwrap_or_default(),
        ),
        file_bytes_max: bytes(layers, "models.file_bytes_max"),
        nodes_max: count(layers, "models.nodes_max"),
        watch_interval: millis(layers, "models.watch_interval_ms", 50),
        drift_window: millis(layers, "models.drift_window_ms", 1_000),
        shadows_max: count(layers, "models.shadows_max"),
        shadows_busy_percent_max: layers.parse(
            "models.shadows_busy_percent_max",
            |percent: &u32| *percent <= 100,
            "a whole number from 0 to 100",
        ),
        shadows_delay: millis(layers, "models.shadows_delay_ms", 1),
        onnx_library_path: layers.text("onnx.library_path").map(PathBuf::from),
    }
}

/// A number of threads; 0 is as many as processors.
fn threads(layers: &mut Layers, key: &'static str) -> usize {
    match whole(layers, key, 0, WORKERS_MAX) {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// More of anything that is counted is a slip of the keyboard, and could exhaust the machine at the start.
const COUNT_MAX: usize = 1_000_000;
const WORKERS_MAX: usize = 1_024;
/// The asynchronous threads have others to answer.
const INLINE_MICROS_MAX: usize = 10_000;
const CONNECTIONS_MAX: usize = 1_000;
const BYTES_MAX: usize = 1 << 31;
/// A tebibyte.
const MEMORY_BYTES_MAX: usize = 1 << 40;
const VALUES_MAX: usize = 100_000_000;
/// A week.
const MILLIS_MAX: u64 = 7 * 86_400_000;

fn count(layers: &mut Layers, key: &'static str) -> usize {
    whole(layers, key, 1, COUNT_MAX)
}

fn bytes(layers: &mut Layers, key: &'static str) -> usize {
    whole(layers, key, 1, BYTES_MAX)
}

fn whole(layers: &mut Layers, key: &'static str, least: usize, most: usize) -> usize {
    let expected = format!("a whole number from {least} to {most}");
    layers.parse(key, |number| (least..=most).contains(number), &expected)
}

fn millis(layers: &mut Layers, key: &'static str, least: u64) -> Duration {
    let expected = format!("a whole number of milliseconds from {least} to {MILLIS_MAX}");
    let is_good = |millis: &u64| (least..=MILLIS_MAX).contains(millis);
    Duration::from_millis(layers.parse(key, is_good, &expected))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(flags: &Flags, environment: &BTreeMap<String, String>) -> Result<Config> {
        Config::from_layers(flags, environment, |_| Vec::new())
    }

    fn flags(settings: &[(&str, &str)]) -> Flags {
        Flags {
            settings: settings
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            config: None,
        }
    }

    fn environment(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn defaults_bind_to_loopback_and_use_the_embedded_store() {
        let config = read(&Flags::default(), &BTreeMap::new()).unwrap();
        assert!(config.server.grpc_addr.ip().is_loopback());
        assert!(config.server.http_addr.unwrap().ip().is_loopback());
        assert_eq!(config.database.url.reveal(), "sqlite:data/ferrocast.db");
    }

    #[test]
    fn flags_go_over_environment_over_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "[limits]\nentities_max = 1\nfeatures_max = 1\n[models]\nqueue_max = 1\n",
        )
        .unwrap();
        let flags = Flags {
            config: Some(file.path().to_path_buf()),
            ..flags(&[("limits.entities_max", "3")])
        };
        let environment = environment(&[
            ("FERROCAST_LIMITS_ENTITIES_MAX", "2"),
            ("FERROCAST_LIMITS_FEATURES_MAX", "2"),
            ("DATABASE_URL", "postgres://a@b/c"),
        ]);
        let config = read(&flags, &environment).unwrap();
        assert_eq!(config.limits.entities_max, 3);
        assert_eq!(config.limits.features_max, 2);
        assert_eq!(config.models.queue_max, 1);
        assert_eq!(config.database.url.reveal(), "postgres://a@b/c");
    }

    #[test]
    fn an_empty_database_url_of_the_environment_is_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[database]\nurl = \"postgres://a@b/c\"\n").unwrap();
        let flags = Flags {
            config: Some(file.path().to_path_buf()),
            ..Flags::default()
        };
        for empty in ["", " "] {
            let config = read(&flags, &environment(&[("DATABASE_URL", empty)])).unwrap();
            assert_eq!(config.database.url.reveal(), "postgres://a@b/c");
        }
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "[server]\ngprc_addr = \"x\"\n[models]\nqueue_max = 0\n",
        )
        .unwrap();
        let flags = Flags {
            config: Some(file.path().to_path_buf()),
            ..flags(&[("server.grpc_addr", "here"), ("no.such", "1")])
        };
        let environment = environment(&[
            ("FERROCAST_SERVER_HTTP_ADR", "off"),
            ("DATABASE_URL", "mysql://secret@host"),
        ]);
        let error = read(&flags, &environment).unwrap_err();
        for part in [
            "server.gprc_addr: there is no such setting",
            "FERROCAST_SERVER_HTTP_ADR: there is no such setting",
            "no.such: there is no such setting",
            "server.grpc_addr: \"here\" (from the command line) is not an address",
            "models.queue_max: \"0\" (from ",
            "database.url: expected postgres://",
        ] {
            assert!(error.message().contains(part), "{part} in {error}");
        }
        assert!(!error.message().contains("secret@host"));
    }

    #[test]
    fn a_line_that_does_not_parse_is_not_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "[database]\nurl = \"postgres://u:hunter2@h/d\n";
        std::fs::write(file.path(), text).unwrap();
        let flags = Flags {
            config: Some(file.path().to_path_buf()),
            ..Flags::default()
        };
        let error = read(&flags, &BTreeMap::new()).unwrap_err();
        assert!(error.message().contains("line 2"), "{error}");
        assert!(!error.message().contains("hunter2"), "{error}");
    }

    #[test]
    fn numbers_that_would_exhaust_the_machine_are_refused() {
        for setting in settings() {
            if setting.default.parse::<u64>().is_ok() {
                let huge = flags(&[(setting.key, "18446744073709551615")]);
                let error = read(&huge, &BTreeMap::new()).unwrap_err();
                assert!(error.message().contains(setting.key), "{error}");
            }
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let config = read(
            &flags(&[("database.url", "postgres://u:hunter2@h/d")]),
            &BTreeMap::new(),
        )
        .unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
