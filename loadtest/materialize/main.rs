//! How fast rows get into PostgreSQL: `OnlineStore::load`, beside `COPY` by psql of the same rows into the same table.
//!
//! Starts a throw-away PostgreSQL of its own. See README.md.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "../../tests/support/guard.rs"]
mod guard;
#[path = "../../tests/support/postgres.rs"]
mod postgres;

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use ferrocast::{
    catalog::{ApplyOptions, Definitions, FeatureView, apply_definitions},
    config::Secret,
    features::{
        EntityKey, LoadInput, Materialization, OnlineStore, ROW_BATCH_ROWS, RowTime, StoredRow,
        Timestamp, Value, WriteRow,
    },
    stores::{DatabaseOptions, Store, open},
};
use tokio::sync::mpsc;
use tokio_postgres::Client;

const FEATURES: usize = 10;

/// As a server for some work has it, and not as the tests have it.
const SERVER_SETTINGS: [&str; 6] = [
    "shared_buffers = '1GB'",
    "fsync = on",
    "full_page_writes = on",
    "max_wal_size = '8GB'",
    "autovacuum = on",
    "synchronous_commit = on",
];

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let row_count: u64 = arguments
        .next()
        .map_or(1_000_000, |text| text.parse().unwrap());
    let key_type = arguments.next().unwrap_or_else(|| "int64".to_owned());
    let server = postgres::Postgres::start(None);
    let settings = server.connect("postgres").await;
    for setting in SERVER_SETTINGS {
        let sql = format!("ALTER SYSTEM SET {setting}");
        settings.batch_execute(&sql).await.unwrap();
    }
    drop(settings);
    server.stop();
    server.start_again();

    let url = server.fresh_database().await;
    let client = server.connect(url.rsplit('/').next().unwrap()).await;
    let store = open(&DatabaseOptions::new(Secret::from(url.as_str())))
        .await
        .unwrap();
    store.migrate().await.unwrap();
    let view = apply(&store, &key_type).await;
    let bench = Bench {
        server: &server,
        url: &url,
        client: &client,
        store,
        view,
        row_count,
        key_type,
    };
    println!(
        "{row_count} rows of a {} key and {FEATURES} doubles",
        bench.key_type
    );
    let baseline = bench.psql_copy().await;
    bench
        .load(
            "into an empty table, in the order of the key",
            1,
            false,
            false,
            baseline,
        )
        .await;
    bench
        .load(
            "into the full table, every row newer",
            2,
            false,
            false,
            baseline,
        )
        .await;
    bench
        .load(
            "into the full table, every row newer, while it is read",
            3,
            false,
            true,
            baseline,
        )
        .await;
    bench
        .load(
            "into the full table, every row late",
            2,
            false,
            false,
            baseline,
        )
        .await;
    client.batch_execute("TRUNCATE fv_bench").await.unwrap();
    bench
        .load("into an empty table, in no order", 1, true, false, baseline)
        .await;
    bench
        .load(
            "into the full table, in no order, every row newer",
            2,
            true,
            false,
            baseline,
        )
        .await;
}

struct Bench<'a> {
    server: &'a postgres::Postgres,
    url: &'a str,
    client: &'a Client,
    store: Arc<Store>,
    view: Arc<FeatureView>,
    row_count: u64,
    key_type: String,
}

async fn apply(store: &Store, key_type: &str) -> Arc<FeatureView> {
    let features: Vec<String> = (0..FEATURES)
        .map(|n| format!(r#"{{ name = "f{n}", type = "double" }}"#))
        .collect();
    let text = format!(
        r#"
        project = "bench"
        [[entities]]
        name = "thing"
        join_keys = [{{ name = "id", type = "{key_type}" }}]
        [[feature_views]]
        name = "bench"
        entity = "thing"
        features = [{}]
        "#,
        features.join(", ")
    );
    let definitions = Definitions::parse(&text).unwrap();
    let applied = apply_definitions(store, &definitions, ApplyOptions::default()).await;
    Arc::clone(applied.unwrap().1.view("bench").unwrap())
}

impl Bench<'_> {
    fn key(&self, number: u64) -> EntityKey {
        let value = match self.key_type.as_str() {
            "int64" => Value::Int64(i64::try_from(number).unwrap()),
            _ => Value::String(format!("customer-{number:012}")),
        };
        EntityKey::new(vec![value]).unwrap()
    }

    fn batches(&self, event: i64, is_shuffled: bool) -> Vec<Vec<WriteRow>> {
        // An odd multiplier: every number below a power of two comes once.
        let span = self.row_count.next_power_of_two();
        let numbers = 0..span;
        let numbers: Vec<u64> = numbers
            .map(|n| {
                if is_shuffled {
                    n.wrapping_mul(0x9e37_79b9) % span
                } else {
                    n
                }
            })
            .filter(|n| *n < self.row_count)
            .collect();
        let time = Timestamp::from_micros(event).unwrap();
        let row = |number: &u64| WriteRow {
            key: self.key(*number),
            row: StoredRow::whole(
                RowTime {
                    event_timestamp: time,
                    created_at: time,
                },
                (0..FEATURES)
                    .map(|f| Value::Double((*number as f64).sqrt() + f as f64))
                    .collect(),
            ),
        };
        numbers
            .chunks(ROW_BATCH_ROWS)
            .map(|chunk| chunk.iter().map(row).collect())
            .collect()
    }

    /// What PostgreSQL takes by itself for the same rows; in seconds.
    async fn psql_copy(&self) -> f64 {
        let key = if self.key_type == "int64" {
            "g::bigint"
        } else {
            "'customer-' || lpad(g::text, 12, '0')"
        };
        let features: Vec<String> = (0..FEATURES).map(|f| format!("sqrt(g) + {f}")).collect();
        let folder = tempfile::tempdir().unwrap();
        let mut best = f64::INFINITY;
        for format in ["binary", "csv"] {
            let file = folder.path().join(format);
            let file = file.display();
            let select = format!(
                "SELECT {key}, 'epoch'::timestamptz, 'epoch'::timestamptz, {}, NULL::jsonb, 0 FROM generate_series(0, {}) AS g",
                features.join(", "),
                self.row_count - 1
            );
            self.psql(&format!("\\copy ({select}) to '{file}' {format}"));
            self.client
                .batch_execute("DROP TABLE IF EXISTS copied; CREATE TABLE copied (LIKE fv_bench INCLUDING ALL)")
                .await
                .unwrap();
            self.client.batch_execute("CHECKPOINT").await.unwrap();
            let started = Instant::now();
            self.psql(&format!("\\copy copied from '{file}' {format}"));
            let seconds = started.elapsed().as_secs_f64();
            let rate = self.row_count as f64 / seconds;
            println!(
                "{seconds:6.2} s  {rate:9.0} rows/s  psql \\copy, {format}, into an empty table"
            );
            best = best.min(seconds);
            fs::remove_file(format!("{file}")).unwrap();
        }
        self.client
            .batch_execute("DROP TABLE copied")
            .await
            .unwrap();
        best
    }

    fn psql(&self, command: &str) {
        let program = postgres::find_programs().join("psql");
        let done = Command::new(program)
            .args([
                "--no-psqlrc",
                "--quiet",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                command,
                self.url,
            ])
            .env("PGPASSWORD", self.server.password())
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    async fn load(&self, what: &str, event: i64, is_shuffled: bool, is_read: bool, baseline: f64) {
        let batches = self.batches(event, is_shuffled);
        self.client.batch_execute("CHECKPOINT").await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let reads = Arc::new(AtomicU64::new(0));
        let reader =
            is_read.then(|| tokio::spawn(self.reader(Arc::clone(&stop), Arc::clone(&reads))));
        let (sender, receiver) = mpsc::channel(4);
        let started = Instant::now();
        let sending = async move {
            for batch in batches {
                sender.send(Some(Ok(batch))).await.unwrap();
            }
            sender.send(None).await.unwrap();
        };
        let note = Materialization {
            view: "bench".to_owned(),
            source: "memory".to_owned(),
            digest: event.to_string(),
        };
        let loading = self
            .store
            .load(&self.view, LoadInput::Rows(receiver), &note);
        let (counts, ()) = tokio::join!(loading, sending);
        let counts = counts.unwrap();
        let seconds = started.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        if let Some(reader) = reader {
            reader.await.unwrap();
        }
        assert_eq!(counts.written + counts.late, self.row_count);
        println!(
            "{seconds:6.2} s  {:9.0} rows/s  {:4.2} × psql  load, {what}{}",
            self.row_count as f64 / seconds,
            seconds / baseline,
            if is_read {
                format!(" ({} reads of 100 rows)", reads.load(Ordering::Relaxed))
            } else {
                String::new()
            }
        );
    }

    fn reader(
        &self,
        stop: Arc<AtomicBool>,
        reads: Arc<AtomicU64>,
    ) -> impl Future<Output = ()> + use<> {
        let (store, view) = (Arc::clone(&self.store), Arc::clone(&self.view));
        let step = self.row_count / 100;
        let keys: Vec<EntityKey> = (0..100).map(|n| self.key(n * step)).collect();
        async move {
            while !stop.load(Ordering::Relaxed) {
                let found = store.read(&view, &keys).await.unwrap();
                assert!(found.iter().all(Option::is_some));
                reads.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
