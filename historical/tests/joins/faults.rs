//! Every fault says where it is: the plan's place, or file, row and column.

use std::{fs, sync::Arc};

use arrow_array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
    TimestampSecondArray, UInt64Array,
};
use serde_json::{Value, json};

use crate::support::{Folder, MEMORY, view};

const LOSSY: i64 = (1 << 53) + 1;

fn strings(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn times(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values.to_vec()))
}

/// A spine and a history of two rows that go together.
fn folder() -> Folder {
    let folder = Folder::new();
    write(&folder, "spine.parquet", &[]);
    write(&folder, "history.parquet", &[]);
    folder
}

/// The columns that both files have, some of them replaced.
fn write(folder: &Folder, name: &str, others: &[(&'static str, ArrayRef)]) {
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("k", strings(&[Some("a"), Some("b")])),
        ("event_timestamp", times(&[Some(1), Some(2)])),
    ];
    if name == "history.parquet" {
        columns.push(("x", Arc::new(Int32Array::from(vec![1, 2]))));
    }
    for (name, array) in others {
        columns.retain(|(own, _)| own != name);
        columns.push((name, Arc::clone(array)));
    }
    folder.write(name, columns);
}

fn plan(folder: &Folder) -> Value {
    let view = view(folder, &[("k", "string")], &[("x", "double")]);
    folder.plan(&[view], MEMORY)
}

fn assert_fault(folder: &Folder, plan: &Value, kind: &str, parts: &[&str]) {
    let (own, message) = folder.fault(plan);
    assert_eq!(own, kind, "{message}");
    for part in parts {
        assert!(message.contains(part), "\"{part}\" is not in: {message}");
    }
}

#[test]
fn a_good_plan_has_no_fault() {
    let folder = folder();
    assert_eq!(folder.join(&plan(&folder)).num_rows(), 2);
}

#[test]
fn faults_of_the_spine() {
    let cases: [(&str, ArrayRef, &[&str]); 6] = [
        (
            "event_timestamp",
            times(&[Some(1), None]),
            &["row 2", "event_timestamp", "no time"],
        ),
        (
            "event_timestamp",
            Arc::new(TimestampSecondArray::from(vec![0, 1 << 60])),
            &["row 2", "event_timestamp", "9999"],
        ),
        (
            "event_timestamp",
            Arc::new(Int64Array::from(vec![0, 1])),
            &["event_timestamp", "Int64", "timestamp"],
        ),
        (
            "k",
            Arc::new(Float64Array::from(vec![0.0, 1.0])),
            &["\"k\"", "Float64", "string", "loan"],
        ),
        (
            "x",
            Arc::new(Int32Array::from(vec![1, 2])),
            &["\"x\"", "output", "loan"],
        ),
        (
            "k",
            Arc::new(Int32Array::from(vec![1, 2])),
            &["\"k\"", "Int32", "string"],
        ),
    ];
    for (name, array, parts) in cases {
        let folder = folder();
        write(&folder, "spine.parquet", &[(name, array)]);
        assert_fault(
            &folder,
            &plan(&folder),
            "invalid_argument",
            &[&["spine.parquet"], parts].concat(),
        );
    }
}

#[test]
fn faults_of_the_history() {
    let lossy: ArrayRef = Arc::new(Int64Array::from(vec![1, LOSSY]));
    let unsigned: ArrayRef = Arc::new(UInt64Array::from(vec![1, u64::MAX]));
    let cases: [(&str, ArrayRef, &[&str]); 7] = [
        (
            "event_timestamp",
            times(&[Some(1), None]),
            &["row 2", "event_timestamp", "no value"],
        ),
        (
            "k",
            strings(&[Some("a"), None]),
            &["row 2", "\"k\"", "no value"],
        ),
        (
            "k",
            Arc::new(Int32Array::from(vec![1, 2])),
            &["\"k\"", "expected a string", "Int32"],
        ),
        (
            "x",
            lossy,
            &["row 2", "\"x\"", "9007199254740993", "double"],
        ),
        (
            "x",
            unsigned,
            &["row 2", "\"x\"", "18446744073709551615", "double"],
        ),
        (
            "x",
            strings(&[None, None]),
            &["\"x\"", "expected a double", "Utf8", "without loss"],
        ),
        (
            "_missing",
            strings(&[None, None]),
            &["\"_missing\"", "list<string>", "Utf8"],
        ),
    ];
    for (name, array, parts) in cases {
        let folder = folder();
        write(&folder, "history.parquet", &[(name, array)]);
        assert_fault(
            &folder,
            &plan(&folder),
            "invalid_argument",
            &[&["history.parquet"], parts].concat(),
        );
    }
}

#[test]
fn a_key_that_its_type_does_not_hold() {
    let folder = folder();
    write(
        &folder,
        "spine.parquet",
        &[("k", Arc::new(Int64Array::from(vec![1, 1 << 40])))],
    );
    write(
        &folder,
        "history.parquet",
        &[("k", Arc::new(Int32Array::from(vec![1, 2])))],
    );
    let view = view(&folder, &[("k", "int32")], &[("x", "double")]);
    let plan = folder.plan(&[view], MEMORY);
    let parts = ["spine.parquet", "row 2", "\"k\"", "1099511627776", "int32"];
    assert_fault(&folder, &plan, "invalid_argument", &parts);
}

#[test]
fn columns_that_are_missing_come_all_at_once() {
    let folder = folder();
    let keys = [("k", "string"), ("branch", "int64")];
    let mut history = view(&folder, &keys, &[("x", "double"), ("y", "bool")]);
    history["history"][0]["created_timestamp_field"] = json!("written");
    let plan = folder.plan(std::slice::from_ref(&history), MEMORY);
    assert_fault(
        &folder,
        &plan,
        "invalid_argument",
        &["spine.parquet", "branch", "missing"],
    );
    let branch: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    write(&folder, "spine.parquet", &[("branch", branch)]);
    let parts = [
        "history.parquet",
        "\"branch\"",
        "\"written\"",
        "\"y\"",
        "missing",
        "bool",
    ];
    assert_fault(&folder, &plan, "invalid_argument", &parts);
}

#[test]
fn of_many_faults_the_first_are_told() {
    let folder = folder();
    let names: Vec<String> = (0..600).map(|number| format!("feature_{number}")).collect();
    let features: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "double")).collect();
    let view = view(&folder, &[("k", "string")], &features);
    let (kind, message) = folder.fault(&folder.plan(&[view], MEMORY));
    assert_eq!(kind, "invalid_argument");
    assert!(message.contains("\"feature_19\""), "{message}");
    assert!(message.ends_with("; and 580 more"), "{message}");
    assert_eq!(message.matches("it is missing").count(), 20);
}

#[test]
fn columns_that_are_there_twice() {
    let folder = folder();
    let k = || strings(&[Some("a"), Some("b")]);
    let at = times(&[Some(1), Some(2)]);
    folder.write(
        "spine.parquet",
        vec![("k", k()), ("event_timestamp", at), ("k", k())],
    );
    let parts = ["spine.parquet", "\"k\"", "more than once"];
    assert_fault(&folder, &plan(&folder), "invalid_argument", &parts);
}

#[test]
fn outputs_of_one_name() {
    let folder = folder();
    let mut both = plan(&folder);
    let mut second = both["views"][0].clone();
    second["name"] = json!("account");
    both["views"].as_array_mut().unwrap().push(second);
    let parts = ["account", "\"x\"", "already"];
    assert_fault(&folder, &both, "invalid_argument", &parts);
}

#[test]
fn faults_of_the_plan() {
    let cases: [(&str, Value, &[&str]); 12] = [
        ("/memory_bytes_max", json!(5), &["memory_bytes_max", "5"]),
        ("/views", json!([]), &["views"]),
        ("/views/0/join_keys", json!([]), &["views[0]", "join_keys"]),
        ("/views/0/features", json!([]), &["views[0]", "features"]),
        (
            "/views/0/ttl_micros",
            json!(-1),
            &["views[0]", "ttl_micros"],
        ),
        (
            "/views/0/off_micros",
            json!([[1, 2], [2, 3]]),
            &["the plan", "off_micros[1]", "with time between"],
        ),
        (
            "/views/0/off_micros",
            json!([[1, 300_000_000_000_000_000_i64]]),
            &["the plan", "off_micros[0]", "years 1 to 9999"],
        ),
        (
            "/views/0/join_keys/0/type",
            json!("double"),
            &["\"k\"", "double", "int32"],
        ),
        (
            "/views/0/features/0/type",
            json!("list<list<bool>>"),
            &["list<list<bool>>", "no type"],
        ),
        (
            "/views/0/features/0/type",
            json!("text"),
            &["\"text\"", "no type", "string"],
        ),
        ("/out", json!({"arrow_stream": false}), &["out", "path"]),
        (
            "/out",
            json!({"arrow_stream": true, "path": "x"}),
            &["out", "either"],
        ),
    ];
    let folder = folder();
    for (place, value, parts) in cases {
        let mut plan = plan(&folder);
        *plan.pointer_mut(place).unwrap() = value;
        assert_fault(&folder, &plan, "invalid_argument", parts);
    }
    let mut unknown = plan(&folder);
    unknown["spines"] = json!(1);
    assert_fault(
        &folder,
        &unknown,
        "invalid_argument",
        &["the plan", "spines"],
    );
}

#[test]
fn files_that_are_not_there_or_no_files() {
    let folder = folder();
    fs::write(folder.path("text.parquet"), "no Parquet").unwrap();
    let history = "/views/0/history/0/files/0/path";
    let cases = [
        (
            "/spine/file/path",
            "gone.parquet",
            "not_found",
            "gone.parquet",
        ),
        (history, "gone.parquet", "not_found", "gone.parquet"),
        (
            history,
            "text.parquet",
            "invalid_argument",
            "no readable Parquet file",
        ),
        (history, "work", "failed_precondition", "no regular file"),
        ("/work_dir", "gone", "not_found", "gone"),
        ("/out/path", "gone/train.parquet", "not_found", "gone"),
        (
            "/out/path",
            "history.parquet",
            "invalid_argument",
            "another path",
        ),
    ];
    for (place, name, kind, part) in cases {
        let mut plan = plan(&folder);
        *plan.pointer_mut(place).unwrap() = json!(folder.path(name));
        assert_fault(&folder, &plan, kind, &[part]);
    }
}

#[test]
fn a_file_is_named_as_the_plan_shows_it() {
    let places = [
        ("/spine/file", "spine.parquet"),
        ("/views/0/history/0/files/0", "history.parquet"),
    ];
    for (place, name) in places {
        let folder = folder();
        let mut plan = plan(&folder);
        let faults = [
            (folder.path("gone.parquet"), "it.csv: there is no such file"),
            (folder.path("work"), "it.csv is no regular file"),
            (
                folder.path(name),
                "it.csv, row 2, column \"event_timestamp\"",
            ),
        ];
        write(
            &folder,
            name,
            &[("event_timestamp", times(&[Some(1), None]))],
        );
        for (path, start) in faults {
            *plan.pointer_mut(place).unwrap() = json!({"path": path, "shown": "it.csv"});
            let (_, message) = folder.fault(&plan);
            assert!(message.starts_with(start), "{message}");
        }
    }
}

#[test]
fn a_damaged_file_is_named_wherever_it_is_cut() {
    let folder = folder();
    let whole = fs::read(folder.path("history.parquet")).unwrap();
    for damaged in (4..whole.len() - 12).step_by(7) {
        let mut bytes = whole.clone();
        bytes[damaged] ^= 0xff;
        fs::write(folder.path("history.parquet"), &bytes).unwrap();
        let done = crate::support::run(&plan(&folder));
        folder.assert_no_work_files();
        if done.status.success() {
            // Some bytes carry nothing that this join reads, or only values.
            fs::remove_file(folder.path("train.parquet")).unwrap();
            continue;
        }
        assert_eq!(done.status.code(), Some(1));
        assert!(!folder.path("train.parquet").exists());
        let (_, message) = crate::support::last_error(&String::from_utf8_lossy(&done.stderr));
        assert!(!message.is_empty());
    }
}
