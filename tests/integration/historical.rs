//! Training sets through the command line and over the wire: from files, from a view's own history, and what is refused.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    cast::AsArray,
    types::{Float64Type, Int64Type},
};
use ferrocast::grpc::pb;
use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{Running, apply, ferrocast, historical_program, object, text};

const HOUR: i64 = 3_600_000_000;

/// A view from a file, one that keeps its own history, one without any.
const DEFINITIONS: &str = r#"
    project = "shops"
    [[entities]]
    name = "shop"
    join_keys = [{ name = "shop_id", type = "int64" }]
    [[feature_views]]
    name = "prices"
    entity = "shop"
    ttl = "2h"
    source = { path = "prices.csv" }
    features = [{ name = "price", type = "double" }]
    [[feature_views]]
    name = "visits"
    entity = "shop"
    history = true
    features = [{ name = "visitors", type = "int64" }, { name = "weather", type = "string" }]
    [[feature_views]]
    name = "forgetful"
    entity = "shop"
    features = [{ name = "x", type = "int64" }]
    [[feature_views]]
    name = "stock"
    entity = "shop"
    source = { path = "stock.parquet" }
    features = [{ name = "amount", type = "int64" }]
    [[feature_services]]
    name = "shop"
    features = ["visits:weather", "prices:price", "visits:visitors"]
"#;

const PRICES: &str = "\
shop_id,event_timestamp,price
1,1970-01-01T01:00:00Z,1.5
1,1970-01-01T02:00:00Z,2.5
2,1970-01-01T01:00:00Z,9.5
";

struct Shops {
    running: Running,
    folder: tempfile::TempDir,
    url: String,
}

/// A server with the views, the file of prices, and some visits written one after the other.
async fn shops() -> Shops {
    shops_with(&[]).await
}

/// As `shops`, with further settings.
async fn shops_with(further: &[(&str, &str)]) -> Shops {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models/shops");
    std::fs::create_dir_all(&models).unwrap();
    std::fs::write(models.join("features.toml"), DEFINITIONS).unwrap();
    std::fs::write(models.join("prices.csv"), PRICES).unwrap();
    let url = format!("sqlite:{}", folder.path().join("store.db").display());
    let models = folder.path().join("models").display().to_string();
    let program = historical_program().display().to_string();
    let applied = tokio::task::block_in_place(|| {
        ferrocast(&["apply", "--models", &models, "--database-url", &url])
    });
    assert!(applied.status.success(), "{}", text(&applied.stderr));
    let own = [
        ("models.path", models.as_str()),
        ("historical.program", program.as_str()),
    ];
    let settings = [&own, further].concat();
    let running = Running::on(&url, &settings, tempfile::tempdir().unwrap()).await;
    let mut client = running.features().await;
    for row in [
        json!({"shop_id": 1, "visitors": 10, "weather": "dry", "eventTimestamp": "1970-01-01T01:00:00Z"}),
        // A part: the weather stays what it was.
        json!({"shop_id": 1, "visitors": 20, "eventTimestamp": "1970-01-01T02:00:00Z"}),
        // Late for reads, and true at its time all the same.
        json!({"shop_id": 1, "visitors": 15, "eventTimestamp": "1970-01-01T01:30:00Z"}),
    ] {
        let request = pb::WriteFeaturesRequest {
            view: "visits".into(),
            rows: vec![object(&row)],
            columns: Vec::new(),
        };
        client.write_features(request).await.unwrap();
    }
    Shops {
        running,
        folder,
        url,
    }
}

/// Labels of shops at times, as Parquet.
pub(crate) fn write_spine(path: &Path, rows: &[(i64, i64)]) {
    let shops = Int64Array::from_iter_values(rows.iter().map(|(shop, _)| *shop));
    let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(_, at)| *at));
    let labels = StringArray::from_iter_values((0..rows.len()).map(|row| format!("row {row}")));
    let columns: [(&str, ArrayRef); 3] = [
        ("label", Arc::new(labels)),
        ("shop_id", Arc::new(shops)),
        ("event_timestamp", Arc::new(times.with_timezone("UTC"))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

const SPINE: [(i64, i64); 5] = [
    (1, 3 * HOUR),
    (1, HOUR + HOUR / 2),
    (1, HOUR - 1),
    (2, 4 * HOUR),
    (3, HOUR),
];

/// (label, weather, price, visitors) of each row.
type Row = (String, Option<String>, Option<f64>, Option<i64>);

fn rows(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        let names: Vec<String> = batch
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        assert_eq!(
            names,
            [
                "label",
                "shop_id",
                "event_timestamp",
                "weather",
                "price",
                "visitors"
            ]
        );
        let labels = batch.column(0).as_string::<i32>();
        let weather = batch.column(3).as_string::<i32>();
        let prices: &Float64Array = batch.column(4).as_primitive::<Float64Type>();
        let visitors: &Int64Array = batch.column(5).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            rows.push((
                labels.value(row).to_owned(),
                (!weather.is_null(row)).then(|| weather.value(row).to_owned()),
                (!prices.is_null(row)).then(|| prices.value(row)),
                (!visitors.is_null(row)).then(|| visitors.value(row)),
            ));
        }
    }
    rows
}

fn expected() -> Vec<Row> {
    let dry = || Some("dry".to_owned());
    let row = |number: usize, weather, price, visitors| {
        (format!("row {number}"), weather, price, visitors)
    };
    vec![
        row(0, dry(), Some(2.5), Some(20)),
        row(1, dry(), Some(1.5), Some(15)),
        // Nothing from after a row's time.
        row(2, None, None, None),
        // The price is older than its TTL allows.
        row(3, None, None, None),
        row(4, None, None, None),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_joins_labels_with_files_and_with_what_was_written() {
    let shops = shops().await;
    let (spine, out) = (
        shops.folder.path().join("labels.parquet"),
        shops.folder.path().join("train.parquet"),
    );
    write_spine(&spine, &SPINE);
    let program = format!("historical.program={}", historical_program().display());
    let models = shops.folder.path().join("models").display().to_string();
    let run = |further: &[&str]| {
        let mut all = vec![
            "historical",
            "--models",
            &models,
            "--database-url",
            &shops.url,
        ];
        let (spine, out) = (spine.to_str().unwrap(), out.to_str().unwrap());
        all.extend(["--set", &program, "--spine", spine, "--out", out]);
        all.extend(further);
        tokio::task::block_in_place(|| ferrocast(&all))
    };
    let done = run(&["--feature-service", "shop"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&out).unwrap()).unwrap();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    assert_eq!(rows(&batches), expected());

    let refused = [
        (vec!["--features", "forgetful:x"], "has no history"),
        (vec!["--features", "prices:cost"], "no feature \"cost\""),
        (vec!["--features", "price"], "view:feature"),
        (vec!["--feature-service", "shop@7"], "no version"),
        (
            vec!["--feature-service", "shop", "--timestamp-field", "at"],
            "at",
        ),
    ];
    for (arguments, part) in refused {
        let done = run(&arguments);
        assert!(!done.status.success(), "{arguments:?}");
        assert!(text(&done.stderr).contains(part), "{}", text(&done.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wire_streams_the_same_training_set() {
    let shops = shops().await;
    let spine = shops.folder.path().join("labels.parquet");
    write_spine(&spine, &SPINE);
    let request = pb::GetHistoricalFeaturesRequest {
        feature_service: "shop@1".into(),
        spine: std::fs::read(&spine).unwrap(),
        ..Default::default()
    };
    let mut client = shops.running.features().await;
    let answer = client
        .get_historical_features(request.clone())
        .await
        .unwrap();
    let mut answer = answer.into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = answer.message().await.unwrap() {
        bytes.extend(part.arrow_ipc);
    }
    let reader = arrow_ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    assert_eq!(rows(&batches), expected());

    let broken = pb::GetHistoricalFeaturesRequest {
        spine: b"no Parquet".to_vec(),
        ..request.clone()
    };
    let mut answer = client
        .get_historical_features(broken)
        .await
        .unwrap()
        .into_inner();
    let fault = answer.message().await.unwrap_err();
    assert_eq!(fault.code(), Code::InvalidArgument, "{fault}");
    assert!(fault.message().starts_with("spine"), "{fault}");
    let unknown = pb::GetHistoricalFeaturesRequest {
        feature_service: "nobody".into(),
        ..request
    };
    let fault = client.get_historical_features(unknown).await.unwrap_err();
    assert_eq!(fault.code(), Code::NotFound);
}

impl Shops {
    /// What a join of some features over the wire ends with.
    async fn fault(&self, features: &[&str]) -> Status {
        let spine = self.folder.path().join("labels.parquet");
        write_spine(&spine, &SPINE);
        let request = pb::GetHistoricalFeaturesRequest {
            features: features.iter().map(|name| (*name).to_owned()).collect(),
            spine: std::fs::read(&spine).unwrap(),
            ..Default::default()
        };
        let mut client = self.running.features().await;
        let answer = client.get_historical_features(request).await.unwrap();
        let mut answer = answer.into_inner();
        loop {
            match answer.message().await {
                Ok(part) => assert!(part.is_some(), "it came to its end"),
                Err(fault) => return fault,
            }
        }
    }

    fn source(&self, name: &str) -> PathBuf {
        self.folder.path().join("models/shops").join(name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_over_the_wire_name_fields_and_none_of_the_server_s_folders() {
    let shops = shops().await;
    let wrong = format!("{PRICES}2,1970-01-01T02:00:00Z,cheap\n");
    std::fs::write(shops.source("prices.csv"), wrong).unwrap();
    let fault = shops.fault(&["prices:price"]).await;
    assert_eq!(fault.code(), Code::InvalidArgument, "{fault}");
    let place = "prices.csv, row 4, column \"price\"";
    assert!(fault.message().starts_with(place), "{fault}");
    let details = fault.get_error_details();
    let fields = &details.bad_request().unwrap().field_violations;
    assert_eq!(fields.first().unwrap().field, place);

    // This one the child finds, which reads the file where it is.
    write_spine(&shops.source("stock.parquet"), &SPINE);
    let fault = shops.fault(&["stock:amount"]).await;
    assert_eq!(fault.code(), Code::InvalidArgument, "{fault}");
    let place = "stock.parquet, column \"amount\": it is missing";
    assert!(fault.message().starts_with(place), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_join_says_so_without_its_paths() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no-program");
    std::fs::write(&file, "").unwrap();
    for setting in ["historical.program", "historical.work_dir"] {
        let shops = shops_with(&[(setting, file.to_str().unwrap())]).await;
        let fault = shops.fault(&["visits:weather"]).await;
        assert_eq!(fault.code(), Code::FailedPrecondition, "{fault}");
        assert!(fault.message().contains(setting), "{fault}");
        assert!(!fault.message().contains("no-program"), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_views_are_refused_before_any_is_read() {
    let shops = shops().await;
    let mut definitions = r#"project = "many"
        [[entities]]
        name = "shop"
        join_keys = [{ name = "shop_id", type = "int64" }]
    "#
    .to_owned();
    // Views without a history, which is found as soon as one is looked for.
    for number in 0..65 {
        definitions.push_str(&format!(
            "[[feature_views]]\nname = \"v{number}\"\nentity = \"shop\"\nfeatures = [{{ name = \"x{number}\", type = \"int64\" }}]\n"
        ));
    }
    let mut client = shops.running.features().await;
    client.apply_definitions(apply(&definitions)).await.unwrap();
    let names: Vec<String> = (0..65)
        .map(|number| format!("v{number}:x{number}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let fault = shops.fault(&names).await;
    assert_eq!(fault.code(), Code::InvalidArgument, "{fault}");
    assert!(fault.message().contains("65 views"), "{fault}");
    let fault = shops.fault(&names[1..]).await;
    assert!(fault.message().contains("no history"), "{fault}");
}
