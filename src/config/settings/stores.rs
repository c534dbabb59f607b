//! Where features and predictions are kept, and what stands before it.

use super::{Setting, setting};

pub(super) const STORES: &[Setting] = &[
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
        "database.pinned_connections_max",
        "2",
        "Connections to Postgres beside these that only read features by entity, several queries at once on each; 0: reads take one of those",
    ),
    setting(
        "database.pinned_queries_max",
        "4",
        "Queries at once on one such connection; reads beyond take one of the others, as do those that find it silent for a tenth of the wait",
    ),
    setting(
        "database.pinned_wait_ms_max",
        "250",
        "How long nothing comes on such a connection before the queries that share it are cancelled, and asked again on others, ms",
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
];
