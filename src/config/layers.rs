//! Flags over environment over file over defaults, flattened to text by name, with all faults collected.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::settings::settings;
use crate::error::{Result, Violations};

/// The file that is read where none is named, if it is there.
const DEFAULT_FILE: &str = "ferrocast.toml";
const ENV_PREFIX: &str = "FERROCAST_";
const ENV_CONFIG: &str = "FERROCAST_CONFIG";
/// What others call our settings: hosted databases and twelve-factor platforms, MLflow's own client.
const THEIR_NAMES: [(&str, &str); 5] = [
    ("DATABASE_URL", "database.url"),
    ("MLFLOW_TRACKING_URI", "mlflow.tracking_uri"),
    ("MLFLOW_TRACKING_USERNAME", "mlflow.username"),
    ("MLFLOW_TRACKING_PASSWORD", "mlflow.password"),
    ("MLFLOW_TRACKING_TOKEN", "mlflow.token"),
];

/// A value and where it comes from, for error messages.
#[derive(Debug, Clone)]
struct Entry {
    text: String,
    origin: String,
}

/// What was given, by any means.
#[derive(Debug, Default)]
pub(super) struct Layers {
    entries: BTreeMap<&'static str, Entry>,
    faults: Violations,
}

/// What the command line says: setting and value, and the configuration file.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// Setting to value, as `server.grpc_addr`.
    pub settings: Vec<(String, String)>,
    /// The configuration file.
    pub config: Option<PathBuf>,
}

impl Layers {
    /// Gathers the layers, the lowest first. `environment` is the process's, over a `.env` file's.
    pub(super) fn gather(flags: &Flags, environment: &BTreeMap<String, String>) -> Layers {
        let mut layers = Layers::default();
        for setting in settings() {
            layers.put(setting.key, setting.default.to_owned(), "the default");
        }
        let in_environment = environment.get(ENV_CONFIG).filter(|path| !path.is_empty());
        let named = flags
            .config
            .clone()
            .or_else(|| in_environment.map(PathBuf::from));
        match named {
            Some(path) => layers.add_file(&path),
            None if Path::new(DEFAULT_FILE).is_file() => layers.add_file(Path::new(DEFAULT_FILE)),
            None => {}
        }
        layers.add_environment(environment);
        for (key, text) in &flags.settings {
            match known(key) {
                Some(key) => layers.put(key, text.clone(), "the command line"),
                None => layers.fault(key, "there is no such setting"),
            }
        }
        layers
    }

    fn put(&mut self, key: &'static str, text: String, origin: &str) {
        let origin = origin.to_owned();
        self.entries.insert(key, Entry { text, origin });
    }

    /// Notes a fault of a setting.
    pub(super) fn fault(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.faults.add(field, description);
    }

    /// The value that was read, if there were no faults.
    pub(super) fn into_result<T>(self, value: T) -> Result<T> {
        self.faults.into_result(value)
    }

    fn add_file(&mut self, path: &Path) {
        let place = path.display().to_string();
        let table = fs::read_to_string(path)
            .map_err(|fault| format!("cannot be read: {fault}"))
            .and_then(|text| {
                text.parse::<toml::Table>()
                    .map_err(|fault| without_the_line(&text, &fault))
            });
        let table = match table {
            Ok(table) => table,
            Err(fault) => return self.fault(place, fault),
        };
        for (section, content) in table {
            let toml::Value::Table(content) = content else {
                self.fault(
                    format!("{place}: {section}"),
                    "there is no such section; settings stand in sections, as [server]",
                );
                continue;
            };
            for (name, value) in content {
                let full = format!("{section}.{name}");
                match (known(&full), plain_text(&value)) {
                    (Some(key), Some(text)) => self.put(key, text, &place),
                    (Some(_), None) => self.fault(
                        format!("{place}: {full}"),
                        "expected text, a number, true, false or a list of them",
                    ),
                    (None, _) => {
                        self.fault(format!("{place}: {full}"), "there is no such setting");
                    }
                }
            }
        }
    }

    fn add_environment(&mut self, environment: &BTreeMap<String, String>) {
        for (name, key) in THEIR_NAMES {
            // Compose's `${DATABASE_URL:-}` is empty where nothing is set.
            let text = environment.get(name);
            if let Some(text) = text.filter(|text| !text.trim().is_empty()) {
                self.put(key, text.clone(), name);
            }
        }
        let by_env_name: BTreeMap<String, &'static str> = settings()
            .map(|setting| (setting.env_name(), setting.key))
            .collect();
        for (name, text) in environment {
            match by_env_name.get(name) {
                Some(key) => self.put(key, text.clone(), name),
                None if name.starts_with(ENV_PREFIX) && name != ENV_CONFIG => {
                    self.fault(name, "there is no such setting");
                }
                None => {}
            }
        }
    }

    /// The text of a setting; none where it is empty.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.entries
            .get(key)
            .map(|entry| entry.text.trim().to_owned())
            .filter(|text| !text.is_empty())
    }

    /// A setting as a type, checked; a fault is noted with its origin, and the type's default taken.
    pub(super) fn parse<T>(
        &mut self,
        key: &'static str,
        is_good: impl Fn(&T) -> bool,
        expected: &str,
    ) -> T
    where
        T: FromStr + Default,
        T::Err: Display,
    {
        let Some(entry) = self.entries.get(key).cloned() else {
            self.fault(key, "there is no such setting");
            return T::default();
        };
        match entry.text.trim().parse() {
            Ok(value) if is_good(&value) => value,
            Ok(_) | Err(_) => {
                self.fault(
                    key,
                    format!(
                        "\"{}\" (from {}) is not {expected}",
                        entry.text, entry.origin
                    ),
                );
                T::default()
            }
        }
    }

    /// A setting with a list, parted by `;` or by lines.
    pub(super) fn list(&self, key: &str) -> Vec<String> {
        self.text(key)
            .unwrap_or_default()
            .split([';', '\n'])
            .map(|part| part.trim().to_owned())
            .filter(|part| !part.is_empty())
            .collect()
    }
}

/// A fault of a configuration file with its line number and without the line, which may hold a password.
fn without_the_line(text: &str, fault: &toml::de::Error) -> String {
    let place = fault.span().and_then(|span| text.get(..span.start));
    let line = place.map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}: {}", fault.message())
}

fn known(key: &str) -> Option<&'static str> {
    settings()
        .map(|setting| setting.key)
        .find(|known| *known == key)
}

fn plain_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(value) => Some(value.to_string()),
        toml::Value::Array(values) => values
            .iter()
            .map(plain_text)
            .collect::<Option<Vec<String>>>()
            .map(|parts| parts.join("\n")),
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}
