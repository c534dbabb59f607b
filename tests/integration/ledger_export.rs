//! `ferrocast predictions export`: what was answered, read back from Parquet.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{Float32Type, Float64Type, Int64Type, TimestampMicrosecondType},
};
use ferrocast::{
    app::open_store,
    exports::export_predictions,
    features::{Timestamp, widen},
    inference::{LedgerSpan, first_id_at},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value as Json, json};

use crate::{
    models_support::{add_opposite, copy_of_models},
    postgres::Postgres,
    support::{
        Running, command, config, expected_scores, ferrocast, fill, filled_sqlite, sqlite_url, text,
    },
};

const FROM: &str = "2020-01-01";

pub fn export(url: &str, further: &[&str]) -> (i32, String, String) {
    let mut arguments = vec!["predictions", "export", "--database-url", url];
    arguments.extend(further);
    let done = ferrocast(&arguments);
    (
        done.status.code().unwrap(),
        text(&done.stdout),
        text(&done.stderr),
    )
}

pub fn read(path: &Path) -> Vec<RecordBatch> {
    let file = fs::File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    assert!(!batches.is_empty());
    batches
}

fn string(batch: &RecordBatch, column: &str, row: usize) -> Option<String> {
    let cells = batch.column_by_name(column).unwrap().as_string::<i32>();
    cells.is_valid(row).then(|| cells.value(row).to_owned())
}

fn file_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with("store.db")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_in_the_file() {
    let models = copy_of_models();
    add_opposite(models.path(), "2");
    let store = tempfile::tempdir().unwrap();
    let _ = tokio::task::block_in_place(|| filled_sqlite(store.path()));
    let url = sqlite_url(store.path());
    let path = models.path().display().to_string();
    let settings = [
        ("models.path", path.as_str()),
        ("models.shadows_busy_percent_max", "100"),
    ];
    let running = Running::on(&url, &settings, tempfile::tempdir().unwrap()).await;
    let shadow = json!({ "traffic": { "shadow": ["2"] } });
    let (status, answer) = running.put("/v1/models/credit_risk/traffic", shadow).await;
    assert_eq!(status, 200, "{answer}");

    let loans: Vec<String> = expected_scores()
        .into_iter()
        .map(|(id, _)| id)
        .take(40)
        .collect();
    let entities: Vec<Json> = loans.iter().map(|id| json!({ "loan_id": id })).collect();
    let body = json!({ "entities": entities, "includeFeatures": true });
    let (_, by_entity) = running
        .post("/v1/models/credit_risk:predictByEntity", body)
        .await;
    let body = json!({ "rows": [{ "annual_inc": 0.1, "term": "term_36" }] });
    let (_, by_row) = running.post("/v1/models/credit_risk:predict", body).await;
    // Shadows come after the answer.
    loop {
        let (_, counts) = running.get("/v1/ledger").await;
        let number = |name: &str| counts[name].as_str().unwrap().parse::<u64>().unwrap();
        if number("written") + number("queued") == 82 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(running.server.stop().await);

    let mut answered = BTreeMap::new();
    let answers = [&by_entity, &by_row];
    for answer in answers
        .iter()
        .flat_map(|a| a["predictions"].as_array().unwrap())
    {
        answered.insert(
            answer["predictionId"].as_str().unwrap().to_owned(),
            answer.clone(),
        );
    }
    let out = store.path().join("all.parquet");
    let shown = out.display().to_string();
    let flags = ["--from", FROM, "--model", "credit_risk", "--out", &shown];
    let (code, stdout, stderr) = tokio::task::block_in_place(|| export(&url, &flags));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("82 predictions"), "{stdout}");
    assert_eq!(file_names(store.path()), ["all.parquet"]);
    assert_typed(&read(&out), &answered, &loans);

    // Any model: inputs as JSON.
    let out = store.path().join("json.parquet");
    let shown = out.display().to_string();
    let flags = [
        "--from",
        FROM,
        "--to",
        "2999-01-01T00:00:00Z",
        "--out",
        &shown,
    ];
    let (code, _, stderr) = tokio::task::block_in_place(|| export(&url, &flags));
    assert_eq!(code, 0, "{stderr}");
    let mut rows = 0;
    for batch in read(&out) {
        for row in 0..batch.num_rows() {
            rows += 1;
            let inputs = string(&batch, "inputs", row).unwrap();
            let inputs: Json = serde_json::from_str(&inputs).unwrap();
            assert_eq!(inputs.as_object().unwrap().len(), 22, "{inputs}");
            let statuses = string(&batch, "statuses", row);
            let is_of_entity = string(&batch, "entity", row).is_some();
            assert_eq!(statuses.is_some(), is_of_entity);
            if !is_of_entity {
                assert_eq!(inputs["annual_inc"], json!(0.1));
                assert_eq!(inputs["int_rate"], Json::Null);
            }
        }
    }
    assert_eq!(rows, 82);
}

fn assert_typed(batches: &[RecordBatch], answered: &BTreeMap<String, Json>, loans: &[String]) {
    let (mut answers, mut shadows, mut last) = (0, 0, String::new());
    for batch in batches {
        let floats = |name: &str| {
            batch
                .column_by_name(name)
                .unwrap()
                .as_primitive::<Float32Type>()
        };
        let scores = batch
            .column_by_name("score")
            .unwrap()
            .as_primitive::<Float64Type>();
        let latencies = batch
            .column_by_name("latency_us")
            .unwrap()
            .as_primitive::<Int64Type>();
        let times = batch.column_by_name("time").unwrap();
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let outputs = batch.column_by_name("outputs").unwrap().as_list::<i32>();
        for row in 0..batch.num_rows() {
            let id = string(batch, "prediction_id", row).unwrap();
            assert!(id > last, "in the order of time");
            last.clone_from(&id);
            assert!(latencies.value(row) > 0 && times.value(row) > 0);
            assert_eq!(outputs.value(row).len(), 2);
            assert_eq!(string(batch, "model", row).unwrap(), "credit_risk");
            assert_eq!(string(batch, "digest", row).unwrap().len(), 64);
            let role = string(batch, "role", row).unwrap();
            let version = string(batch, "version", row).unwrap();
            let Some(answer) = answered.get(&id) else {
                assert_eq!((&*role, &*version), ("SHADOW", "2"));
                shadows += 1;
                continue;
            };
            answers += 1;
            assert_eq!((&*role, &*version), ("ANSWER", "1"));
            assert_eq!(Some(scores.value(row)), answer["score"].as_f64());
            assert_eq!(
                string(batch, "label", row).as_deref(),
                answer["label"].as_str()
            );
            let income = floats("input_annual_inc").value(row);
            let Some(entity) = string(batch, "entity", row) else {
                assert!((income - 0.1).abs() < f32::EPSILON);
                assert!(floats("input_int_rate").is_null(row));
                assert_eq!(string(batch, "status_annual_inc", row), None);
                continue;
            };
            let entity: Json = serde_json::from_str(&entity).unwrap();
            assert!(loans.contains(&entity["loan_id"].as_str().unwrap().to_owned()));
            let shown = &answer["features"]["applicant:annual_inc"];
            assert_eq!(Some(widen(income)), shown.as_f64());
            assert_eq!(
                string(batch, "input_term", row).as_deref(),
                answer["features"]["loan_terms:term"].as_str()
            );
            assert_eq!(
                string(batch, "status_annual_inc", row).as_deref(),
                answer["featureStatuses"]["applicant:annual_inc"].as_str()
            );
            let event = batch.column_by_name("event_timestamp_annual_inc").unwrap();
            assert!(event.is_valid(row));
        }
    }
    assert_eq!((answers, shadows), (41, 41));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_leaves_no_file() {
    let store = tempfile::tempdir().unwrap();
    let url = tokio::task::block_in_place(|| filled_sqlite(store.path()));
    let out = store.path().join("out.parquet");
    fs::write(&out, "here before").unwrap();
    let shown = out.display().to_string();
    let beyond = store
        .path()
        .join("nowhere/out.parquet")
        .display()
        .to_string();
    let cases: [(&[&str], i32, &str); 5] = [
        (
            &["--from", FROM, "--model", "unknown", "--out", &shown],
            1,
            "\"unknown\"",
        ),
        (&["--from", "noon", "--out", &shown], 64, "--from"),
        (
            &["--from", FROM, "--to", "2019-12-31", "--out", &shown],
            64,
            "--to",
        ),
        (&["--from", FROM, "--out", &beyond], 1, "nowhere"),
        (&["--out", &shown], 64, "--from"),
    ];
    for (flags, expected, named) in cases {
        let (code, _, stderr) = tokio::task::block_in_place(|| export(&url, flags));
        assert_eq!(code, expected, "{stderr}");
        assert!(stderr.contains(named), "{stderr}");
    }
    assert_eq!(fs::read_to_string(&out).unwrap(), "here before");
    assert_eq!(file_names(store.path()), ["out.parquet"]);

    // Nothing was predicted: a file without rows.
    let (code, stdout, stderr) =
        tokio::task::block_in_place(|| export(&url, &["--from", FROM, "--out", &shown]));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("0 predictions"), "{stdout}");
    let file = fs::File::open(&out).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
}

/// More than one page of the export.
const ROWS: usize = 6_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_for_its_age_meanwhile_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let url = tokio::task::block_in_place(|| filled_sqlite(dir.path()));
    let running = Running::on(&url, &[], tempfile::tempdir().unwrap()).await;
    let rows = vec![json!({ "annual_inc": 1 }); ROWS];
    let (status, answer) = running
        .post("/v1/models/credit_risk:predict", json!({ "rows": rows }))
        .await;
    assert_eq!(status, 200, "{}", answer["message"]);
    assert!(running.server.stop().await);

    let store = open_store(&config(&url, &[])).await.unwrap();
    let span = LedgerSpan {
        first: first_id_at(Timestamp::EPOCH),
        end: first_id_at(Timestamp::now()),
        model: None,
    };
    let out = dir.path().join("out.parquet");
    let file = dir.path().join("store.db");
    let drop_all = |rows: u64| {
        if rows < ROWS as u64 {
            let database = rusqlite::Connection::open(&file).unwrap();
            let sql = "DELETE FROM ferrocast_predictions";
            assert_eq!(database.execute(sql, []).unwrap(), ROWS);
        }
    };
    let exported = export_predictions(store.as_ref(), span, &out, drop_all).await;
    let error = exported.unwrap_err();
    assert!(error.message().contains("ledger.retention_days"), "{error}");
    assert_eq!(file_names(dir.path()), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_an_export_finds_no_part_of_a_file() {
    let url = Postgres::shared().fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    let database = Postgres::shared()
        .connect(url.rsplit('/').next().unwrap())
        .await;
    // Whoever reads waits.
    database
        .batch_execute("BEGIN; LOCK TABLE ferrocast_predictions")
        .await
        .unwrap();
    for signal in ["TERM", "INT"] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out.parquet").display().to_string();
        let flags = ["predictions", "export", "--from", FROM, "--out", &out];
        let mut child = command(&[&flags[..], &["--database-url", &url]].concat())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while file_names(dir.path()).is_empty() {
            assert_eq!(child.try_wait().unwrap(), None);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let process = child.id().to_string();
        let kill = Command::new("kill").args(["-s", signal, &process]).status();
        assert!(kill.unwrap().success());
        let done = tokio::task::block_in_place(|| child.wait_with_output().unwrap());
        assert!(!done.status.success());
        let stderr = text(&done.stderr);
        assert!(stderr.contains("no file was written"), "{signal}: {stderr}");
        assert_eq!(file_names(dir.path()), [""; 0], "{signal}");
    }
}
