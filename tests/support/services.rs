//! Throw-away services for a test run: MLflow's tracking server, moto's S3 and WsgiDAV, real programs from PyPI, and
//! fake-gcs-server, which has Google's storage API.
//!
//! They listen on free ports of the loopback interface, keep what they have in a folder of their own, and go away with the
//! test process however that ends. Each call has a client of its own: one does not outlive the runtime of its test.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};

use crate::{guard::Guard, postgres::free_port, support::http_client};

/// MLflow makes its tables at the start, and imports much.
const START_WAIT_MAX: Duration = Duration::from_secs(240);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How often another free port is tried: another process may have taken one before our server does.
const PORTS_TRIED_MAX: usize = 5;

/// What MLflow keeps the secrets of webhooks with; of no other use.
const FERNET_KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// Who moto lets change what is there; it checks no signature.
const SOMEBODY: &str = "AWS somebody:signature";

/// Starts the command of its environment on the port that its standard input names, in a group of its own, and ends the
/// whole group at the end of the input.
const GUARD: &str = r#"
pid=
halt() { [ -n "$pid" ] && kill -KILL "-$pid" 2>/dev/null; [ -n "$pid" ] && wait "$pid" 2>/dev/null; pid=; }
while read -r order port; do
    case "$order" in
        start) halt; PORT="$port" setsid sh -c "exec $RUN" >>"$DIR/log" 2>&1 & pid=$!; echo started ;;
        lives) if kill -0 "$pid" 2>/dev/null; then echo yes; else echo no; fi ;;
        stop) halt; echo stopped ;;
    esac
done
halt
rm -rf "$DIR"
"#;

/// A service of our own.
struct Service {
    port: u16,
    dir: PathBuf,
    guard: Guard,
}

impl Service {
    /// Starts a command, which finds Python in $PYTHON, the server of Google's API in $GCS, its port in $PORT and its folder in
    /// $DIR. Blocks until a path of it is answered or, of one that speaks TLS, until it takes connections.
    fn start(name: &str, run: &str, environment: &[(&str, &str)], path: Option<&str>) -> Service {
        let dir = tempfile::Builder::new()
            .prefix(&format!("ferrocast-{name}-"))
            .tempdir()
            .expect("a folder for a throw-away service")
            .keep();
        let mut command = Command::new("sh");
        command
            .current_dir(&dir)
            .env("DIR", &dir)
            .env("PYTHON", tool("services/bin/python"))
            .env("GCS", tool("bin/fake-gcs-server"))
            .env("RUN", run)
            .envs(environment.iter().copied());
        let mut service = Service {
            port: 0,
            dir,
            guard: Guard::start(command, GUARD),
        };
        for _ in 0..PORTS_TRIED_MAX {
            service.port = free_port();
            service.guard.order(&format!("start {}", service.port));
            if service.is_up(path) {
                return service;
            }
        }
        panic!("no {name} on any port; its log:\n{}", service.log());
    }

    fn is_up(&self, path: Option<&str>) -> bool {
        let began = Instant::now();
        while began.elapsed() < START_WAIT_MAX {
            let is_answered = match path {
                Some(path) => get_is_answered(self.port, path),
                None => TcpStream::connect(("127.0.0.1", self.port)).is_ok(),
            };
            if is_answered {
                return true;
            }
            if self.guard.order("lives") != "yes" {
                return false;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        panic!("it does not start; its log:\n{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Whether a path is answered with 200.
fn get_is_answered(port: u16, path: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    let mut head = [0; 12];
    let asked = stream.write_all(request.as_bytes());
    asked.and_then(|()| stream.read_exact(&mut head)).is_ok() && head.ends_with(b" 200")
}

/// A program, where `scripts/services.sh` puts it.
fn tool(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(".tools")
        .join(name);
    assert!(
        path.is_file(),
        "{} is not there; scripts/services.sh brings it",
        path.display()
    );
    path
}

/// The files of a folder and of those in it, with their names from there.
pub fn files_of(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
                files.push((name.to_owned(), path));
            }
        }
    }
    files
}

/// A name that no other test of this run has.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// MLflow's tracking server, with its artifact proxy and webhooks.
pub struct Mlflow {
    service: Service,
}

impl Mlflow {
    /// The server that all tests of a process share, a registered model each; started when first asked for. Blocks.
    pub fn shared() -> &'static Mlflow {
        static SHARED: OnceLock<Mlflow> = OnceLock::new();
        SHARED.get_or_init(|| {
            let run = "\"$PYTHON\" -m mlflow server --host 127.0.0.1 --port $PORT --workers 1 \
                --backend-store-uri \"sqlite:///$DIR/mlflow.db\" --artifacts-destination \"$DIR/artifacts\"";
            let environment = [
                ("MLFLOW_DISABLE_TELEMETRY", "true"),
                ("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false"),
                ("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http"),
                ("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true"),
                ("MLFLOW_WEBHOOK_CACHE_TTL", "0"),
                ("MLFLOW_WEBHOOK_REQUEST_MAX_RETRIES", "1"),
                ("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", FERNET_KEY),
            ];
            Mlflow {
                service: Service::start("mlflow", run, &environment, Some("/health")),
            }
        })
    }

    pub fn url(&self) -> String {
        self.service.url()
    }

    pub fn port(&self) -> u16 {
        self.service.port
    }

    /// Calls its REST API.
    pub async fn call(&self, method: reqwest::Method, path: &str, body: Json) -> Json {
        let url = format!("{}/api/2.0/mlflow/{path}", self.url());
        let request = http_client().request(method, url).json(&body);
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn post(&self, path: &str, body: Json) -> Json {
        self.call(reqwest::Method::POST, path, body).await
    }

    /// A registered model without versions.
    pub async fn new_model(&self) -> String {
        let name = unique("risk");
        self.post("registered-models/create", json!({ "name": name }))
            .await;
        name
    }

    /// Logs a folder's files to a run of its own, and registers them as the next version; returns its number.
    pub async fn register(&self, name: &str, folder: &Path) -> String {
        let (uri, run) = self.log(folder).await;
        self.register_at(name, &uri, &run).await
    }

    /// Logs a folder's files to a run of its own; returns where, and the run.
    pub async fn log(&self, folder: &Path) -> (String, String) {
        let run = self
            .post("runs/create", json!({ "experiment_id": "0" }))
            .await;
        let told = |name: &str| run["run"]["info"][name].as_str().unwrap().to_owned();
        let uri = format!("{}/version", told("artifact_uri"));
        for (name, path) in files_of(folder) {
            self.upload(&uri, &name, fs::read(path).unwrap()).await;
        }
        (uri, told("run_id"))
    }

    /// Writes a file where another one may be.
    pub async fn upload(&self, uri: &str, name: &str, bytes: Vec<u8>) {
        let path = uri.strip_prefix("mlflow-artifacts:").unwrap();
        let url = format!(
            "{}/api/2.0/mlflow-artifacts/artifacts{path}/{name}",
            self.url()
        );
        let answer = http_client().put(url).body(bytes).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// Registers what is at a URI as the next version; returns its number.
    pub async fn register_at(&self, name: &str, uri: &str, run: &str) -> String {
        let body = json!({ "name": name, "source": uri, "run_id": run });
        let made = self.post("model-versions/create", body).await;
        made["model_version"]["version"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub async fn set_alias(&self, name: &str, alias: &str, version: &str) {
        let body = json!({ "name": name, "alias": alias, "version": version });
        self.post("registered-models/alias", body).await;
    }

    pub async fn delete_alias(&self, name: &str, alias: &str) {
        let body = json!({ "name": name, "alias": alias });
        self.call(reqwest::Method::DELETE, "registered-models/alias", body)
            .await;
    }

    /// Has the server tell a URL of changed aliases.
    pub async fn add_webhook(&self, url: &str, secret: &str) {
        let events = ["CREATED", "DELETED"]
            .map(|action| json!({ "entity": "MODEL_VERSION_ALIAS", "action": action }));
        let body =
            json!({ "name": unique("hook"), "url": url, "events": events, "secret": secret });
        self.post("webhooks", body).await;
    }
}

/// S3, by moto.
pub struct S3 {
    service: Service,
    scheme: &'static str,
}

impl S3 {
    /// The server that all tests of a process share, a bucket each; started when first asked for. Blocks.
    pub fn shared() -> &'static S3 {
        static SHARED: OnceLock<S3> = OnceLock::new();
        SHARED.get_or_init(|| S3 {
            service: Service::start(
                "moto",
                "\"$PYTHON\" -m moto.server -H 127.0.0.1 -p $PORT",
                &[],
                Some("/moto-api/data.json"),
            ),
            scheme: "http",
        })
    }

    /// A server of one's own that speaks TLS, with a certificate and its key in files. Blocks.
    pub fn start_tls(certificate: &Path, key: &Path) -> S3 {
        let files = [certificate, key].map(|path| path.display().to_string());
        let environment = [("CERT", files[0].as_str()), ("KEY", files[1].as_str())];
        let run = "\"$PYTHON\" -m moto.server -H 127.0.0.1 -p $PORT -c \"$CERT\" -k \"$KEY\"";
        S3 {
            service: Service::start("moto", run, &environment, None),
            scheme: "https",
        }
    }

    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.service.port)
    }

    /// A client that does not check who the server is.
    fn http(&self) -> reqwest::Client {
        let _ = http_client();
        let builder = reqwest::Client::builder().tls_danger_accept_invalid_certs(true);
        builder.build().unwrap()
    }

    pub fn port(&self) -> u16 {
        self.service.port
    }

    /// A bucket of its own.
    pub async fn new_bucket(&self) -> String {
        let bucket = unique("models");
        self.put(&bucket, Vec::new()).await;
        bucket
    }

    /// Uploads the files of a folder and of those in it.
    pub async fn upload(&self, folder: &Path, prefix: &str) {
        for (name, path) in files_of(folder) {
            self.put(&format!("{prefix}/{name}"), fs::read(path).unwrap())
                .await;
        }
    }

    /// Makes a bucket, or an object in one.
    pub async fn put(&self, key: &str, bytes: Vec<u8>) {
        let url = format!("{}/{key}", self.url());
        let request = self.http().put(url).header("authorization", SOMEBODY);
        let answer = request.body(bytes).send().await.unwrap();
        assert!(answer.status().is_success(), "{key}: {}", answer.status());
    }

    pub async fn delete(&self, key: &str) {
        let url = format!("{}/{key}", self.url());
        let request = self.http().delete(url).header("authorization", SOMEBODY);
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{key}: {}", answer.status());
    }
}

/// Google's storage API, by fake-gcs-server. It checks no credentials.
pub struct Gcs {
    service: Service,
}

impl Gcs {
    /// The server that all tests of a process share, a bucket each; started when first asked for. Blocks.
    pub fn shared() -> &'static Gcs {
        static SHARED: OnceLock<Gcs> = OnceLock::new();
        SHARED.get_or_init(|| {
            let run = "\"$GCS\" -scheme http -backend memory -host 127.0.0.1 -port $PORT -public-host 127.0.0.1";
            Gcs {
                service: Service::start("gcs", run, &[], Some("/_internal/healthcheck")),
            }
        })
    }

    pub fn port(&self) -> u16 {
        self.service.port
    }

    async fn post(&self, path: &str, body: Vec<u8>) {
        let url = format!("{}/{path}", self.service.url());
        let answer = http_client().post(url).body(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    /// A bucket of its own.
    pub async fn new_bucket(&self) -> String {
        let bucket = unique("models");
        let body = json!({ "name": bucket }).to_string();
        self.post("storage/v1/b", body.into_bytes()).await;
        bucket
    }

    /// Uploads the files of a folder and of those in it.
    pub async fn upload(&self, folder: &Path, bucket: &str, prefix: &str) {
        for (name, path) in files_of(folder) {
            let place =
                format!("upload/storage/v1/b/{bucket}/o?uploadType=media&name={prefix}/{name}");
            self.post(&place, fs::read(path).unwrap()).await;
        }
    }
}

/// A WebDAV server, by WsgiDAV.
pub struct WebDav {
    service: Service,
}

impl WebDav {
    /// The server that all tests of a process share, a folder each; started when first asked for. Blocks.
    pub fn shared() -> &'static WebDav {
        static SHARED: OnceLock<WebDav> = OnceLock::new();
        SHARED.get_or_init(|| {
            let run = "\"$PYTHON\" -m wsgidav.server.server_cli --no-config --host 127.0.0.1 --port $PORT \
                --root \"$DIR\" --auth anonymous --server cheroot";
            WebDav {
                service: Service::start("webdav", run, &[], Some("/")),
            }
        })
    }

    pub fn port(&self) -> u16 {
        self.service.port
    }

    /// A folder of its own: its name at the server, and where it lies.
    pub fn new_folder(&self) -> (String, PathBuf) {
        let name = unique("models");
        let path = self.service.dir.join(&name);
        fs::create_dir_all(&path).unwrap();
        (name, path)
    }
}
