//! Files as sources, from opening to rows.

use std::path::{Path, PathBuf};

use arrow_array::{ArrayRef, RecordBatch};
use ferrocast::{
    catalog::{Definitions, FeatureView},
    error::{Error, ErrorKind},
    features::{ListValue, RowSource, Sources, Value, ViewSource, WriteRow},
    sources::{FileSources, digest, open},
};
use parquet::arrow::ArrowWriter;

use crate::fixtures::*;

/// A view of the entity `thing` with the key `id`, times in `t` and, where asked, `made`.
pub fn view(features: &[(&str, &str)], made: bool) -> FeatureView {
    let features: Vec<String> = features
        .iter()
        .map(|(name, value_type)| format!(r#"{{ name = "{name}", type = "{value_type}" }}"#))
        .collect();
    let made = if made {
        r#", created_timestamp_field = "made""#
    } else {
        ""
    };
    let text = format!(
        r#"
        project = "demo"
        [[entities]]
        name = "thing"
        join_keys = [{{ name = "id", type = "int64" }}]
        [[feature_views]]
        name = "numbers"
        entity = "thing"
        source = {{ path = "a.csv", timestamp_field = "t"{made} }}
        features = [{}]
        "#,
        features.join(", ")
    );
    FeatureView::clone(&Definitions::parse(&text).unwrap().views[0])
}

pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn csv(&self, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join("rows.csv");
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn parquet(&self, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
        let path = self.0.path().join("rows.parquet");
        let nullable = columns.into_iter().map(|(name, array)| (name, array, true));
        let batch = RecordBatch::try_from_iter_with_nullable(nullable).unwrap();
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        path
    }
}

pub fn source(path: &Path, view: &FeatureView) -> Result<Box<dyn RowSource>, Error> {
    open(path, view, at(77))
}

pub fn rows(path: &Path, view: &FeatureView) -> Result<Vec<WriteRow>, Error> {
    let mut source = source(path, view)?;
    let mut rows = Vec::new();
    while let Some(batch) = source.next_batch()? {
        rows.extend(batch);
    }
    Ok(rows)
}

pub fn fault(path: &Path, view: &FeatureView, words: &[&str]) {
    let error = rows(path, view).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
    let file = path.display().to_string();
    for word in words.iter().chain([&file.as_str()]) {
        assert!(error.message().contains(word), "{word}: {error}");
    }
}

#[test]
fn csv_cells_become_values() {
    let folder = Folder::new();
    let features = [
        ("b", "bool"),
        ("i", "int32"),
        ("d", "double"),
        ("s", "string"),
        ("raw", "bytes"),
        ("when", "timestamp"),
    ];
    let path = folder.csv(
        "\u{feff}when,extra,b,i,d,s,raw,t,id,made\r\n\
         1970-01-01T00:00:01+00:00,x,true,-5,NaN,\"a \"\"b\"\",\nc\",00ff,1970-01-01T00:00:00.000005Z,1,1970-01-01T00:00:00Z\r\n\
         ,,,,,,,1970-01-01T00:00:00Z,2,1970-01-01T00:00:00Z\r\n",
    );
    let rows = rows(&path, &view(&features, true)).unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].key, id(1));
    assert_eq!(rows[0].row.event_timestamp, at(5));
    assert_eq!(rows[0].row.created_at, at(0));
    let values = &rows[0].row.values;
    assert_eq!(values[..2], [Value::Bool(true), Value::Int32(-5)]);
    assert!(matches!(values[2], Value::Double(nan) if nan.is_nan()));
    assert_eq!(
        values[3..],
        [
            Value::String("a \"b\",\nc".into()),
            Value::Bytes(vec![0, 255]),
            Value::Timestamp(at(1_000_000))
        ]
    );
    assert!(rows[1].row.values.iter().all(Value::is_null));
}

#[test]
fn csv_faults_name_file_row_and_column() {
    let folder = Folder::new();
    let view = view(&[("x", "double"), ("y", "float")], false);
    let time = "1970-01-01T00:00:00Z";
    let header = "id,t,x,y\n";
    let file = |body: String| folder.csv(format!("{header}{body}"));
    fault(
        &folder.csv("x,x\n"),
        &view,
        &[
            "\"id\"",
            "\"t\"",
            "\"y\"",
            "missing",
            "int64",
            "more than once",
        ],
    );
    fault(
        &file(format!("1,{time},1,1\n2,{time},one,1\n")),
        &view,
        &["row 2", "\"x\"", "\"one\" is no double", "line 3"],
    );
    fault(
        &file(format!("1,{time},1,1\n,{time},1,1\n")),
        &view,
        &["row 2", "\"id\"", "no value"],
    );
    fault(
        &file("1,,1,1\n".to_owned()),
        &view,
        &["row 1", "\"t\"", "no value"],
    );
    fault(
        &file("1,2016-01-04,1,1\n".to_owned()),
        &view,
        &["row 1", "\"t\"", "RFC 3339"],
    );
    fault(
        &file(format!("1,{time},1,1e39\n")),
        &view,
        &["row 1", "\"y\"", "more than a float"],
    );
    fault(
        &file(format!("1,{time},1,1\n2,{time},1\n")),
        &view,
        &["row 2"],
    );
    fault(
        &folder.csv(b"id,t,x,y\n\xff,a,b,c\n"),
        &view,
        &["row 1", "UTF-8"],
    );
    fault(&folder.csv(""), &view, &["missing"]);
}

#[test]
fn a_file_that_is_not_there_or_no_such_file_is_named() {
    let folder = Folder::new();
    let x = view(&[("x", "double")], false);
    let missing = folder.0.path().join("missing.parquet");
    let error = source(&missing, &x).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("missing.parquet"), "{error}");
    let error = digest(&missing, &x).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);

    let folder_named_so = folder.0.path().join("folder.csv");
    std::fs::create_dir(&folder_named_so).unwrap();
    let error = source(&folder_named_so, &x).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);

    let corrupt = folder.0.path().join("corrupt.parquet");
    std::fs::write(&corrupt, "PAR1 not at all").unwrap();
    fault(&corrupt, &x, &["Parquet"]);
    let other = folder.0.path().join("rows.json");
    std::fs::write(&other, "[]").unwrap();
    fault(&other, &x, &[".csv"]);
}

#[test]
fn the_digest_changes_with_content_and_definition() {
    let folder = Folder::new();
    let x = view(&[("x", "double")], false);
    let path = folder.csv("id,t,x\n");
    let first = digest(&path, &x).unwrap();
    assert_eq!(first.len(), 64);
    assert_eq!(digest(&path, &x).unwrap(), first);
    assert_ne!(
        digest(&path, &view(&[("y", "double")], false)).unwrap(),
        first
    );
    let path = folder.csv("id,t,x\n1,1970-01-01T00:00:00Z,1\n");
    assert_ne!(digest(&path, &x).unwrap(), first);
}

#[test]
fn csv_cells_hold_lists_as_json() {
    let folder = Folder::new();
    let features = view(&[("x", "list<int64>"), ("y", "list<string>")], false);
    let time = "1970-01-01T00:00:00Z";
    let path = folder.csv(format!(
        "id,t,x,y\n1,{time},\"[1, \"\"9223372036854775807\"\"]\",[]\n2,{time},,\"[\"\"a,b\"\"]\"\n"
    ));
    let rows = rows(&path, &features).unwrap();
    let numbers = Value::List(ListValue::Int64(vec![1, i64::MAX]));
    assert_eq!(
        rows[0].row.values,
        [numbers, Value::List(ListValue::String(Vec::new()))]
    );
    let texts = Value::List(ListValue::String(vec!["a,b".to_owned()]));
    assert_eq!(rows[1].row.values, [Value::Null, texts]);
    let path = folder.csv(format!("id,t,x,y\n1,{time},\"[1, null]\",[]\n"));
    fault(&path, &features, &["row 1", "\"x\"", "element 1", "line 2"]);
    let path = folder.csv(format!("id,t,x,y\n1,{time},1,[]\n"));
    fault(&path, &features, &["row 1", "\"x\"", "JSON array"]);
}

/// The names of what a given file or folder means.
fn found(path: &Path) -> Result<Vec<String>, Error> {
    let sources = FileSources::given(path.to_owned());
    match sources.find(&view(&[("x", "double")], false))? {
        ViewSource::Query => panic!("{}: a query", path.display()),
        ViewSource::Files(files) => {
            let prefix = format!("{}/", path.display());
            let names = files.into_iter().map(|file| {
                let name = file.name.trim_start_matches(&prefix);
                name.to_owned()
            });
            Ok(names.collect())
        }
    }
}

#[test]
fn a_folder_means_the_data_files_below_it() {
    let folder = Folder::new();
    let root = folder.0.path().join("root");
    for name in [
        "b.csv",
        "a.PARQUET",
        "day=2/part.csv",
        "day=1/part.csv",
        "readme.txt",
        ".hidden.csv",
        "_SUCCESS",
        "_temporary/part.csv",
        ".git/part.csv",
        "late.csv.tmp",
        "half.tmp/part.csv",
        "other",
    ] {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    let expected = ["a.PARQUET", "b.csv", "day=1/part.csv", "day=2/part.csv"];
    assert_eq!(found(&root).unwrap(), expected);

    // Links that lead back, or twice to the same, change nothing.
    let link = |to: &Path, name: &str| {
        std::os::unix::fs::symlink(to, root.join(name)).unwrap();
    };
    link(&root, "day=1/again");
    link(&root.join("day=2"), "day=3");
    link(Path::new("nowhere"), "nowhere");
    assert_eq!(found(&root).unwrap(), expected);
    // A link to a folder elsewhere is followed.
    let elsewhere = folder.0.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("more.csv"), "").unwrap();
    link(&elsewhere, "linked");
    assert!(
        found(&root)
            .unwrap()
            .contains(&"linked/more.csv".to_owned())
    );
}

#[test]
fn a_folder_without_data_and_one_that_is_not_there_are_told() {
    let folder = Folder::new();
    let fault = found(folder.0.path()).unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::FailedPrecondition);
    assert!(fault.message().contains("no .parquet or .csv"), "{fault}");
    let missing = folder.0.path().join("missing.csv");
    assert_eq!(found(&missing).unwrap(), [missing.display().to_string()]);
    assert_eq!(
        source(&missing, &view(&[("x", "double")], false))
            .err()
            .unwrap()
            .kind(),
        ErrorKind::NotFound
    );
    // More folders in folders than anybody has.
    let mut deep = folder.0.path().to_owned();
    for _ in 0..40 {
        deep = deep.join("d");
    }
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("a.csv"), "").unwrap();
    let fault = found(folder.0.path()).unwrap_err();
    assert!(fault.message().contains("folders in folders"), "{fault}");
}

#[test]
fn an_upper_case_extension_is_one() {
    let folder = Folder::new();
    let path = folder.0.path().join("ROWS.CSV");
    std::fs::write(&path, "id,t,x\n1,1970-01-01T00:00:00Z,1\n").unwrap();
    assert_eq!(
        rows(&path, &view(&[("x", "double")], false)).unwrap().len(),
        1
    );
}
