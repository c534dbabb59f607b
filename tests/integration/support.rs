//! What the tests share: prepared stores, running servers, callers.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use ferrocast::{
    app::{self, Server},
    config::{Config, Flags},
    grpc::pb::{
        self, feature_service_client::FeatureServiceClient,
        model_service_client::ModelServiceClient,
        prediction_service_client::PredictionServiceClient,
    },
};
use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tonic::transport::Channel;

/// The repository's own models.
pub fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

/// Runs the binary to its end.
pub fn ferrocast(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// The binary, with nothing of this process's environment that could be a setting.
pub fn command(arguments: &[&str]) -> Command {
    static EMPTY: OnceLock<TempDir> = OnceLock::new();
    // A folder without a .env or a ferrocast.toml.
    let empty = EMPTY.get_or_init(|| tempfile::tempdir().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrocast"));
    command.args(arguments).current_dir(empty.path());
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy();
        if shown.starts_with("FERROCAST_") || shown == "DATABASE_URL" {
            command.env_remove(&name);
        }
    }
    command.env("FERROCAST_ONNX_LIBRARY_PATH", library());
    if !arguments.contains(&"--models") {
        command.arg("--models").arg(models());
    }
    command
}

/// ONNX Runtime, where `make runtime` puts it.
fn library() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/onnxruntime/onnxruntime/capi");
    fs::read_dir(&folder)
        .unwrap_or_else(|fault| {
            panic!(
                "{}: {fault}; `make runtime` brings ONNX Runtime",
                folder.display()
            )
        })
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("libonnxruntime.so"))
        .expect("ONNX Runtime; `make runtime` brings it")
}

/// `ferrocast-historical`, which the same `cargo test --workspace` builds beside this binary.
pub fn historical_program() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_ferrocast")).parent().unwrap();
    let program = folder.join("ferrocast-historical");
    assert!(
        program.is_file(),
        "{} is not there; `cargo build -p ferrocast-historical` makes it",
        program.display()
    );
    program
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Applies the definitions and loads the sample into a database.
pub fn fill(url: &str) {
    for command in ["apply", "materialize"] {
        let done = ferrocast(&[command, "--database-url", url]);
        assert!(done.status.success(), "{command}: {}", text(&done.stderr));
    }
}

/// A copy of an embedded store with the sample in it.
pub fn filled_sqlite(dir: &Path) -> String {
    static FILLED: OnceLock<TempDir> = OnceLock::new();
    let filled = FILLED.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        fill(&sqlite_url(dir.path()));
        dir
    });
    fs::copy(filled.path().join("store.db"), dir.join("store.db")).unwrap();
    sqlite_url(dir)
}

pub fn sqlite_url(dir: &Path) -> String {
    format!("sqlite:{}", dir.join("store.db").display())
}

/// The configuration of a test server: free ports, one worker, the given settings over that.
pub fn config(url: &str, settings: &[(&str, &str)]) -> Config {
    config_in(url, settings, &[])
}

/// As `config`, in an environment.
pub fn config_in(url: &str, settings: &[(&str, &str)], environment: &[(&str, &str)]) -> Config {
    let models = models().display().to_string();
    let library = library().display().to_string();
    let all: Vec<(String, String)> = [
        ("onnx.library_path", library.as_str()),
        ("server.grpc_addr", "127.0.0.1:0"),
        ("server.http_addr", "127.0.0.1:0"),
        ("server.drain_delay_ms", "0"),
        ("models.path", models.as_str()),
        ("models.workers", "1"),
        ("database.url", url),
    ]
    .iter()
    .chain(settings)
    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
    .collect();
    let flags = Flags {
        settings: all,
        config: None,
    };
    let environment: BTreeMap<String, String> = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::from_layers(&flags, &environment, app::settings_faults).unwrap()
}

/// A client without TLS: reqwest makes none without a provider of cryptography, whether it is used or not.
pub fn http_client() -> reqwest::Client {
    // An error says that another test has done it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// A running server with the sample in an embedded store of its own.
pub struct Running {
    pub server: Server,
    pub http: reqwest::Client,
    dir: TempDir,
}

impl Running {
    pub async fn start() -> Running {
        Running::with(&[]).await
    }

    pub async fn with(settings: &[(&str, &str)]) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let url = tokio::task::block_in_place(|| filled_sqlite(dir.path()));
        Running::on(&url, settings, dir).await
    }

    pub async fn on(url: &str, settings: &[(&str, &str)], dir: TempDir) -> Running {
        Running {
            server: Server::start(&config(url, settings)).await.unwrap(),
            http: http_client(),
            dir,
        }
    }

    /// As `with`, in an environment.
    pub async fn within(environment: &[(&str, &str)], settings: &[(&str, &str)]) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let url = tokio::task::block_in_place(|| filled_sqlite(dir.path()));
        let config = config_in(&url, settings, environment);
        Running {
            server: Server::start(&config).await.unwrap(),
            http: http_client(),
            dir,
        }
    }

    /// The embedded store's file.
    pub fn store_file(&self) -> PathBuf {
        self.dir.path().join("store.db")
    }

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.server.grpc_addr()))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    pub async fn features(&self) -> FeatureServiceClient<Channel> {
        FeatureServiceClient::new(self.channel().await)
    }

    pub async fn predictions(&self) -> PredictionServiceClient<Channel> {
        PredictionServiceClient::new(self.channel().await).max_decoding_message_size(64 << 20)
    }

    pub async fn models(&self) -> ModelServiceClient<Channel> {
        ModelServiceClient::new(self.channel().await)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.http_addr().unwrap())
    }

    pub async fn get(&self, path: &str) -> (u16, Json) {
        answer(self.http.get(self.url(path))).await
    }

    pub async fn post(&self, path: &str, body: Json) -> (u16, Json) {
        answer(self.http.post(self.url(path)).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Json) -> (u16, Json) {
        answer(self.http.put(self.url(path)).json(&body)).await
    }

    pub async fn post_text(&self, path: &str, body: &str) -> (u16, Json) {
        let request = self
            .http
            .post(self.url(path))
            .header("content-type", "application/json")
            .body(body.to_owned());
        answer(request).await
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Json) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.text().await.unwrap();
    let json = serde_json::from_str(&body).unwrap_or_else(|_| json!({ "text": body }));
    (status, json)
}

/// An object as gRPC carries it.
pub fn object(fields: &Json) -> Struct {
    let fields = fields.as_object().unwrap().iter();
    Struct {
        fields: fields
            .map(|(name, json)| (name.clone(), value(json)))
            .collect(),
    }
}

/// A JSON value as gRPC carries it.
pub fn value(json: &Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(value) => Kind::NumberValue(value.as_f64().unwrap()),
        Json::String(value) => Kind::StringValue(value.clone()),
        Json::Array(elements) => Kind::ListValue(ListValue {
            values: elements.iter().map(value).collect(),
        }),
        Json::Object(_) => Kind::StructValue(object(json)),
    };
    Value { kind: Some(kind) }
}

/// Definitions to apply.
pub fn apply(definitions: &str) -> pb::ApplyDefinitionsRequest {
    pb::ApplyDefinitionsRequest {
        definitions: definitions.into(),
        ..Default::default()
    }
}

pub fn loan(id: &str) -> Struct {
    object(&json!({ "loan_id": id }))
}

/// The trainer's own score of each sample loan, by XGBoost in Python.
pub fn expected_scores() -> Vec<(String, f64)> {
    let path = models().join("credit_risk/data/expected_scores.csv");
    let mut reader = csv::Reader::from_path(path).unwrap();
    let rows: Vec<(String, f64)> = reader.deserialize().collect::<Result<_, _>>().unwrap();
    assert_eq!(rows.len(), 500);
    rows
}
