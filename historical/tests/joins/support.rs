//! A folder with files, and the binary run on a plan.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_schema::{Field, Schema};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    file::properties::WriterProperties,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Enough for every small file.
pub const MEMORY: usize = 256 << 20;
/// So little that a thousand rows are partitioned.
pub const LITTLE_MEMORY: usize = 1 << 20;

/// A folder for the files of one test.
pub struct Folder {
    folder: TempDir,
}

impl Folder {
    pub fn new() -> Self {
        let folder = Folder {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(folder.path("work")).unwrap();
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a Parquet file of named columns.
    pub fn write(&self, name: &str, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
        let field =
            |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
        let path = self.path(name);
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(700))
            .build();
        let file = File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        path
    }

    /// A plan that reads `spine.parquet` and writes `train.parquet`.
    pub fn plan(&self, views: &[Value], memory: usize) -> Value {
        json!({
            "spine": {"file": {"path": self.path("spine.parquet")}, "timestamp_field": "event_timestamp"},
            "views": views,
            "out": {"path": self.path("train.parquet")},
            "memory_bytes_max": memory,
            "work_dir": self.path("work"),
        })
    }

    /// The rows that a plan makes; nothing else is left behind.
    pub fn join(&self, plan: &Value) -> RecordBatch {
        self.join_in_parts(plan).0
    }

    /// The rows that a plan makes, and into how many partitions its views went at most.
    pub fn join_in_parts(&self, plan: &Value) -> (RecordBatch, u64) {
        let mut parts = 0;
        let done = run(plan);
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{stderr}");
        for line in stderr.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let of = line["progress"]["of"].as_u64().unwrap();
            if line["progress"]["phase"] == "join" {
                parts = parts.max(of);
            }
        }
        self.assert_no_work_files();
        let file = File::open(self.path("train.parquet")).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let schema = Arc::clone(reader.schema());
        let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
        (
            arrow_select::concat::concat_batches(&schema, &batches).unwrap(),
            parts,
        )
    }

    /// The rows that a plan writes to stdout.
    pub fn stream(&self, plan: &Value) -> RecordBatch {
        let done = run(plan);
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        self.assert_no_work_files();
        let reader = StreamReader::try_new(done.stdout.as_slice(), None).unwrap();
        let schema = reader.schema();
        let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        arrow_select::concat::concat_batches(&schema, &batches).unwrap()
    }

    /// Kind and sentence of the error that a plan ends with; nothing is left behind.
    pub fn fault(&self, plan: &Value) -> (String, String) {
        let done = run(plan);
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{stderr}");
        self.assert_no_work_files();
        assert!(!self.path("train.parquet").exists());
        last_error(&stderr)
    }

    pub fn assert_no_work_files(&self) {
        assert_eq!(fs::read_dir(self.path("work")).unwrap().count(), 0);
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(!name.to_string_lossy().contains("partial"), "{name:?}");
        }
    }
}

pub fn last_error(stderr: &str) -> (String, String) {
    let last: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
    let text = |field: &str| last["error"][field].as_str().unwrap().to_owned();
    (text("kind"), text("message"))
}

/// Starts the binary and gives it a plan.
pub fn start(plan: &Value) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ferrocast-historical"))
        .arg("join")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(plan.to_string().as_bytes()).unwrap();
    child
}

pub fn run(plan: &Value) -> Output {
    start(plan).wait_with_output().unwrap()
}

/// A view of one history file without a column for the time of writing.
pub fn view(folder: &Folder, keys: &[(&str, &str)], features: &[(&str, &str)]) -> Value {
    let keys: Vec<Value> = keys
        .iter()
        .map(|(name, key_type)| json!({"name": name, "type": key_type}))
        .collect();
    let features: Vec<Value> = features
        .iter()
        .map(|(name, value_type)| json!({"name": name, "type": value_type, "output": name}))
        .collect();
    json!({
        "name": "loan",
        "join_keys": keys,
        "ttl_micros": null,
        "off_micros": [],
        "features": features,
        "history": [{
            "files": [{"path": folder.path("history.parquet")}],
            "timestamp_field": "event_timestamp",
            "created_timestamp_field": null,
        }],
    })
}
