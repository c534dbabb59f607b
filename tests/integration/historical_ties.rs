//! Training equals serving where rows are equally new: in a file, across files of both formats, and after a file was changed.

use std::{fs, fs::File, path::Path, sync::Arc};

use arrow_array::{
    ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray, cast::AsArray, types::Int64Type,
};
use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};
use serde_json::json;

use crate::support::{Running, ferrocast, historical_program, text};

const DEFINITIONS: &str = r#"
    project = "ties"
    [[entities]]
    name = "thing"
    join_keys = [{ name = "id", type = "int64" }]
    [[feature_views]]
    name = "undated"
    entity = "thing"
    source = { path = "undated/" }
    features = [{ name = "u", type = "int64" }]
    [[feature_views]]
    name = "dated"
    entity = "thing"
    source = { path = "dated/", created_timestamp_field = "made" }
    features = [{ name = "d", type = "int64" }]
    [[feature_views]]
    name = "changed"
    entity = "thing"
    source = { path = "changed.csv", created_timestamp_field = "made" }
    history = true
    features = [{ name = "c", type = "int64" }]
"#;

const IDS: i64 = 12;

/// A row of a file: id, event time and time of writing in seconds, value.
type Row = (i64, i64, i64, i64);

/// Few ids and times, so that most rows are as new as another; no value twice.
fn rows(seed: i64) -> Vec<Row> {
    let mut state = seed.wrapping_mul(1_442_695_040_888_963_407);
    let mut below = |end: i64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33).rem_euclid(end)
    };
    (0..60)
        .map(|row| (below(IDS), below(3), below(2), seed * 1_000 + row))
        .collect()
}

fn write_csv(path: &Path, feature: &str, rows: &[Row]) {
    let mut text = format!("id,event_timestamp,made,{feature}\n");
    for (id, at, made, value) in rows {
        let time = |second: &i64| format!("1970-01-01T00:00:0{second}Z");
        text.push_str(&format!("{id},{},{},{value}\n", time(at), time(made)));
    }
    fs::write(path, text).unwrap();
}

fn write_parquet(path: &Path, feature: &str, rows: &[Row]) {
    let whole = |cell: fn(&Row) -> i64| Int64Array::from_iter_values(rows.iter().map(cell));
    let times = |cell: fn(&Row) -> i64| {
        let micros = rows.iter().map(|row| cell(row) * 1_000_000);
        TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC")
    };
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(whole(|row| row.0))),
        ("event_timestamp", Arc::new(times(|row| row.1))),
        ("made", Arc::new(times(|row| row.2))),
        (feature, Arc::new(whole(|row| row.3))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// What a view is served as, by id.
async fn served(running: &Running, feature: &str) -> Vec<Option<i64>> {
    let entities: Vec<_> = (0..IDS).map(|id| json!({"id": id})).collect();
    let body = json!({"features": [feature], "entities": entities, "format": "ROWS"});
    let (status, answer) = running.post("/v1/features:get", body).await;
    assert_eq!(status, 200, "{answer}");
    let rows = answer["rows"].as_array().unwrap().iter();
    rows.map(|row| row["values"][feature].as_i64()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_equally_new_rows_training_has_the_one_that_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    let project = models.join("ties");
    for (view, feature) in [("undated", "u"), ("dated", "d")] {
        let own = project.join(view);
        fs::create_dir_all(&own).unwrap();
        write_parquet(&own.join("a.parquet"), feature, &rows(1));
        write_csv(&own.join("b.csv"), feature, &rows(2));
        write_parquet(&own.join("c.parquet"), feature, &rows(3));
        write_parquet(&own.join("d.parquet"), feature, &rows(4));
        write_csv(&own.join("e.csv"), feature, &rows(5));
    }
    fs::write(project.join("features.toml"), DEFINITIONS).unwrap();
    let changed = project.join("changed.csv");
    write_csv(&changed, "c", &rows(6));
    let url = format!("sqlite:{}", folder.path().join("store.db").display());
    let models = models.display().to_string();
    let run = |arguments: &[&str]| {
        let common = ["--models", &models, "--database-url", &url];
        let all = [arguments, &common].concat();
        let done = tokio::task::block_in_place(|| ferrocast(&all));
        assert!(done.status.success(), "{}", text(&done.stderr));
    };
    run(&["apply"]);
    run(&["materialize"]);
    // Other values of the same times come too late to be served.
    let other: Vec<Row> = rows(6).into_iter().map(|r| (r.0, r.1, r.2, -r.3)).collect();
    write_csv(&changed, "c", &other);
    run(&["materialize"]);

    let (spine, out) = (
        folder.path().join("labels.parquet"),
        folder.path().join("train.parquet"),
    );
    let labels: Vec<Row> = (0..IDS).map(|id| (id, 9, 9, 0)).collect();
    write_parquet(&spine, "label", &labels);
    let program = format!("historical.program={}", historical_program().display());
    let features = ["undated:u", "dated:d", "changed:c"];
    run(&[
        "historical",
        "--set",
        &program,
        "--spine",
        spine.to_str().unwrap(),
        "--features",
        &features.join(","),
        "--out",
        out.to_str().unwrap(),
    ]);
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&out).unwrap()).unwrap();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    let [batch] = batches.as_slice() else {
        panic!("{} batches", batches.len());
    };
    let settings = [("models.path", models.as_str())];
    let running = Running::on(&url, &settings, tempfile::tempdir().unwrap()).await;
    for feature in features {
        let (_, name) = feature.split_once(':').unwrap();
        let column = batch.column_by_name(name).unwrap();
        let joined: Vec<Option<i64>> = column.as_primitive::<Int64Type>().iter().collect();
        assert!(joined.iter().filter(|value| value.is_some()).count() > 9);
        assert_eq!(joined, served(&running, feature).await, "{feature}");
    }
}
