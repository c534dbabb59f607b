//! Every setting there is: its name, default and meaning. The README's table is made from this list.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in the configuration file, `section.name`.
    pub key: &'static str,
    /// What it is where nobody sets it; empty: not set.
    pub default: &'static str,
    /// What it does, with its unit.
    pub doc: &'static str,
}

impl Setting {
    /// Its name in the environment.
    pub fn env_name(&self) -> String {
        format!("FERROCAST_{}", self.key.replace('.', "_").to_uppercase())
    }
}

const fn setting(key: &'static str, default: &'static str, doc: &'static str) -> Setting {
    Setting { key, default, doc }
}

/// Every setting, by section.
pub const SETTINGS: &[Setting] = &[
    setting(
        "server.grpc_addr",
        "127.0.0.1:50051",
        "Where gRPC is served",
    ),
    setting(
        "server.http_addr",
        "127.0.0.1:8080",
        "Where REST and the docs are served; `off`: nowhere",
    ),
    setting(
        "server.threads",
        "0",
        "Threads that answer requests; 0: as many as processors",
    ),
    setting(
        "server.data_dir",
        "data",
        "Where the embedded store is kept",
    ),
    setting(
        "server.message_bytes_max",
        "16777216",
        "The largest request message, bytes",
    ),
    setting(
        "server.answer_bytes_max",
        "67108864",
        "The largest answer, bytes: of the values that it reads, and of the message that REST passes on",
    ),
    setting(
        "server.connections_max",
        "4096",
        "Connections open at once on each listener; more wait",
    ),
    setting(
        "server.requests_in_flight_max",
        "1024",
        "Requests answered at once; those beyond are shed with RESOURCE_EXHAUSTED",
    ),
    setting(
        "server.request_ms_max",
        "30000",
        "How long a request may take where its caller sets no shorter deadline, ms",
    ),
    setting(
        "server.stream_idle_ms_max",
        "60000",
        "How long a stream of writes may be without a batch, ms",
    ),
    setting(
        "server.stream_requests_max",
        "8",
        "Requests of one StreamPredict that are scored at once; more are held up by flow control",
    ),
    setting(
        "server.health_interval_ms",
        "5000",
        "How often the store is asked whether it answers; health says NOT_SERVING while it does not, ms",
    ),
    setting(
        "server.drain_ms_max",
        "10000",
        "How long a stop waits for running requests, and then for the ledger to be written, ms",
    ),
    setting(
        "server.drain_delay_ms",
        "200",
        "How long a stop goes on answering after health says NOT_SERVING, so that load balancers notice, ms",
    ),
    setting(
        "database.url",
        "",
        "`postgres://…` or `sqlite:PATH`; not set: SQLite in the data dir. `DATABASE_URL` is read, too",
    ),
    setting(
        "database.migrate_at_start",
        "true",
        "Whether commands bring an old schema up to date, or refuse to run on it",
    ),
    setting(
        "database.connections_max",
        "16",
        "Connections to Postgres, or readers of SQLite",
    ),
    setting(
        "database.connect_ms_max",
        "5000",
        "How long connecting may take, ms",
    ),
    setting(
        "database.acquire_ms_max",
        "2000",
        "How long a request waits for a free connection, ms",
    ),
    setting(
        "database.statement_ms_max",
        "10000",
        "How long one statement may take, ms",
    ),
    setting(
        "database.load_ms_max",
        "3600000",
        "How long one materialization or migration may take, ms",
    ),
    setting(
        "database.catalog_interval_ms",
        "1000",
        "How often the store is asked for definitions that another process has applied, ms",
    ),
    setting(
        "reads.queries_max",
        "2",
        "Queries of one feature view that run at once; reads that come meanwhile go together as the next one",
    ),
    setting(
        "reads.query_keys_max",
        "1000",
        "Entities that are joined to one query; a single request may ask for more",
    ),
    setting(
        "reads.waiting_keys_max",
        "100000",
        "Entities of one feature view that may wait to be read; requests beyond are refused with RESOURCE_EXHAUSTED",
    ),
    setting(
        "cache.bytes_max",
        "0",
        "Rows kept in memory before the store, bytes; 0: none",
    ),
    setting(
        "cache.age_ms_max",
        "60000",
        "How long a row is answered from memory: what comes by plain SQL is seen after this at the latest, ms",
    ),
    setting(
        "cache.stale_ms_max",
        "1000",
        "What another server or command writes is seen after this at the latest, ms; 0: nobody is listened to, and only `cache.age_ms_max` holds",
    ),
    setting(
        "online.redis_urls",
        "",
        "The Redis that features are read from, a list: one `redis://` or `rediss://[user:password@]host:port[/db]`, or nodes of a cluster; not set: the database",
    ),
    setting(
        "online.redis_cluster",
        "false",
        "Whether a single URL is a node of a Redis Cluster; several always are",
    ),
    setting(
        "online.ca_file",
        "",
        "Authorities that sign the certificates of `rediss://` servers, a PEM file; not set: the system's",
    ),
    setting(
        "online.key_prefix",
        "ferrocast",
        "What every key in Redis begins with; another one for every database that shares a Redis",
    ),
    setting(
        "online.connections_max",
        "4",
        "Connections to Redis, or to each node of a cluster; each takes many requests at once",
    ),
    setting(
        "online.pipeline_max",
        "256",
        "Keys of one command, and commands of one request that are on their way to Redis at once",
    ),
    setting(
        "online.connect_ms_max",
        "2000",
        "How long connecting to Redis may take, ms",
    ),
    setting(
        "online.command_ms_max",
        "2000",
        "How long a command to Redis may take, with connecting anew and retries in a cluster that is failing over, ms",
    ),
    setting(
        "online.probe_ms",
        "1000",
        "How often a Redis Cluster is asked whether a node has lost its data, ms; a single Redis is asked with every read",
    ),
    setting(
        "historical.program",
        "",
        "Where `ferrocast-historical` is, which makes training sets; not set: beside the binary, or on the PATH",
    ),
    setting(
        "historical.memory_bytes_max",
        "1073741824",
        "Memory for the rows of one training set, bytes; more go through files",
    ),
    setting(
        "historical.work_dir",
        "",
        "Where files go that do not outlive the making of a training set; not set: the system's folder for such",
    ),
    setting(
        "historical.joins_max",
        "1",
        "Training sets that a server makes at once; those beyond are refused with RESOURCE_EXHAUSTED",
    ),
    setting(
        "historical.join_ms_max",
        "3600000",
        "How long the making of a training set may take, ms",
    ),
    setting("models.path", "models", "The model repository"),
    setting(
        "models.workers",
        "0",
        "Threads a model version; 0: as many as cores",
    ),
    setting(
        "models.queue_max",
        "256",
        "Batches that may wait for a version's threads; those beyond are shed",
    ),
    setting(
        "models.inline_us_max",
        "100",
        "What a model scores in less time is scored by the thread that asks, not handed to one of the version's, µs; measured at load",
    ),
    setting(
        "models.file_bytes_max",
        "268435456",
        "The largest file of a version, bytes",
    ),
    setting(
        "models.nodes_max",
        "10000",
        "The most nodes that a graph may have",
    ),
    setting(
        "models.watch_interval_ms",
        "1000",
        "How often the repository's files and what is released are looked at, ms",
    ),
    setting(
        "models.drift_window_ms",
        "86400000",
        "Of how long a time drift is told, at the most, and half of it at the least, ms",
    ),
    setting(
        "models.shadows_max",
        "8",
        "Requests that are scored beside their answers at once; those beyond are not, so that answers do not wait for them",
    ),
    setting(
        "models.shadows_busy_percent_max",
        "25",
        "None is scored beside its answer while the server uses more of its processors, of a hundred, so that answers are not slower for them",
    ),
    setting(
        "onnx.library_path",
        "",
        "ONNX Runtime's shared library; not set: searched beside the binary, in .tools and in the system's folders",
    ),
    setting(
        "artifacts.cache_dir",
        "",
        "Where versions are kept that come from MLflow or an object store; not set: `models` in the data dir",
    ),
    setting(
        "artifacts.allowed_hosts",
        "",
        "Hosts that may be asked for models, a list: `s3.eu-central-1.amazonaws.com`, `10.0.0.7:9000`, `*.example.com`; the tracking server always may",
    ),
    setting(
        "artifacts.poll_ms",
        "30000",
        "How often a source is asked for new versions and aliases, give or take a tenth, ms; up to ten times as long where it fails",
    ),
    setting(
        "artifacts.request_ms_max",
        "10000",
        "How long a source may take to begin an answer, and be silent in it, ms",
    ),
    setting(
        "artifacts.fetch_ms_max",
        "600000",
        "How long one look at a source, or the fetch of one version, may take, ms",
    ),
    setting(
        "artifacts.start_ms_max",
        "10000",
        "How long a start waits for sources before it goes on with what was fetched before, ms",
    ),
    setting(
        "artifacts.version_bytes_max",
        "1073741824",
        "The largest version that is fetched, bytes; one file of it: `models.file_bytes_max`",
    ),
    setting(
        "artifacts.versions_max",
        "4",
        "Versions of a model that are kept and loaded from a source; beyond it only those that an alias, the default or the traffic means",
    ),
    setting(
        "mlflow.tracking_uri",
        "",
        "MLflow's tracking server, `https://…`; `MLFLOW_TRACKING_URI` is read, too",
    ),
    setting(
        "mlflow.username",
        "",
        "Who asks it; `MLFLOW_TRACKING_USERNAME` is read, too",
    ),
    setting(
        "mlflow.password",
        "",
        "With which password; `MLFLOW_TRACKING_PASSWORD` is read, too",
    ),
    setting(
        "mlflow.token",
        "",
        "Or with which token; `MLFLOW_TRACKING_TOKEN` is read, too",
    ),
    setting(
        "mlflow.webhook_secret",
        "",
        "What MLflow signs its webhooks with; not set: there is no `/webhooks/mlflow`",
    ),
    setting(
        "jobs.workers",
        "1",
        "Prediction jobs that this server works on at once; 0: none, other servers of the database do",
    ),
    setting(
        "jobs.entities_max",
        "100000",
        "Entities or rows of one prediction job",
    ),
    setting(
        "jobs.chunk_rows_max",
        "500",
        "Entities or rows of a job that are scored and stored together",
    ),
    setting(
        "jobs.attempts_max",
        "3",
        "Attempts that a job may take without getting on; the job has failed then",
    ),
    setting(
        "jobs.retry_ms",
        "15000",
        "How long a job waits after an attempt that failed; doubled with each that does not get on, ms",
    ),
    setting(
        "jobs.lease_ms",
        "30000",
        "How long a worker that is not heard of any more keeps its job; another takes it then, ms",
    ),
    setting(
        "jobs.poll_ms",
        "1000",
        "How often an idle worker asks the database for a job; one submitted here it takes at once, ms",
    ),
    setting(
        "jobs.sweep_ms",
        "60000",
        "How often the database is looked through for jobs whose time is up, ms",
    ),
    setting(
        "jobs.queued_max",
        "1000",
        "Jobs that may wait; those beyond are refused with RESOURCE_EXHAUSTED",
    ),
    setting(
        "jobs.kept_max",
        "100000",
        "Jobs that the database keeps, ended ones among them; those beyond are refused with RESOURCE_EXHAUSTED",
    ),
    setting(
        "jobs.bytes_max",
        "1073741824",
        "Inputs and predictions that the database keeps of all jobs, bytes; a job beyond is refused with RESOURCE_EXHAUSTED. Predictions of the jobs that were let in may go beyond it",
    ),
    setting(
        "jobs.run_hours_max",
        "24",
        "How long a job may take from its submission to its end; it is EXPIRED then, hours",
    ),
    setting(
        "jobs.result_retention_hours",
        "24",
        "How long the predictions of an ended job are kept, hours; the job itself, EXPIRED, is kept as long again",
    ),
    setting(
        "ledger.enabled",
        "true",
        "Whether predictions are kept, to be shown, replayed and exported",
    ),
    setting(
        "ledger.sample_percent",
        "100",
        "How many of a hundred predictions are kept, by a hash of their ids",
    ),
    setting(
        "ledger.queue_bytes_max",
        "67108864",
        "What may wait to be written, bytes; predictions beyond are answered, counted and not kept",
    ),
    setting(
        "ledger.batch_max",
        "1000",
        "Predictions that are written together",
    ),
    setting(
        "ledger.flush_ms_max",
        "1000",
        "How long a prediction waits for others to be written with, ms",
    ),
    setting(
        "ledger.retry_ms_max",
        "60000",
        "How long writing is tried again where the database is away, ms; after it the predictions are counted and not kept",
    ),
    setting(
        "ledger.retention_days",
        "30",
        "How many whole days (UTC) are kept beside the current one; 0: all",
    ),
    setting("limits.entities_max", "10000", "Entities or rows a request"),
    setting("limits.features_max", "1000", "Features a request"),
    setting(
        "limits.values_max",
        "300000",
        "Values a request: entities or rows times features, rows times inputs",
    ),
    setting(
        "limits.definitions_bytes_max",
        "1048576",
        "Bytes of a definitions file",
    ),
    setting(
        "limits.materializations_max",
        "2",
        "Materializations that callers run at once; those beyond are refused with RESOURCE_EXHAUSTED",
    ),
    setting(
        "gateway.cors_allowed_origins",
        "",
        "Web origins that may call REST, a list (in the environment parted by `;`); `*`: any",
    ),
    setting(
        "gateway.aliases",
        "",
        "Further URLs for a route, a list, as `POST /predict -> POST /v1/models/credit_risk:predictByEntity`",
    ),
    setting(
        "telemetry.log_filter",
        "info,refinery_core=warn,tokio_postgres=warn",
        "What is logged, as `info,ferrocast=debug`",
    ),
    setting(
        "telemetry.log_format",
        "auto",
        "`text`, `json`, or `auto`: text on a terminal, JSON otherwise",
    ),
    setting(
        "telemetry.log_lines_max",
        "10000",
        "Log lines that may wait to be written; those beyond are lost, and counted at the end, so that requests do not wait for who reads them",
    ),
];

/// The README's configuration table, in Markdown.
pub fn markdown_table() -> String {
    let mut table = String::from("| setting | default | what it does |\n|---|---|---|\n");
    for setting in SETTINGS {
        let default = match setting.default {
            "" => "—".to_owned(),
            default => format!("`{default}`"),
        };
        table.push_str(&format!(
            "| `{}` | {default} | {} |\n",
            setting.key, setting.doc
        ));
    }
    table
}
