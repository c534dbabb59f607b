//! Models: where they come from, how they are run, their jobs.

use super::{Setting, setting};

pub(super) const MODELS: &[Setting] = &[
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
        "64",
        "Requests that wait to be scored beside their answers, or are, at once; those beyond are not, so that answers do not wait for them",
    ),
    setting(
        "models.shadows_busy_percent_max",
        "25",
        "None is scored beside its answer while the server uses more of its processors, of a hundred, so that answers are not slower for them",
    ),
    setting(
        "models.shadows_delay_ms",
        "20",
        "How long after an answer a shadow scores, together with others of that time, so that no thread is woken for each, ms",
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
];
