//! A join that is told to stop leaves nothing behind, and neither does one that fails late.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command},
    sync::Arc,
};

use arrow_array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use serde_json::{Value, json};

use crate::support::{Folder, LITTLE_MEMORY, last_error, start, view};

const ROWS: i64 = 40_000;

/// More rows than a pipe holds, partitioned.
fn folder() -> (Folder, Value) {
    let folder = Folder::new();
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(
        (0..ROWS).map(|row| row % 1_000),
    ));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(0..ROWS));
    let texts = (0..ROWS).map(|row| format!("a text that makes row {row} longer"));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    let both = vec![("k", keys), ("event_timestamp", times)];
    folder.write("spine.parquet", both.clone());
    folder.write("history.parquet", [both, vec![("x", texts)]].concat());
    let view = view(&folder, &[("k", "int64")], &[("x", "string")]);
    let plan = folder.plan(&[view], LITTLE_MEMORY);
    (folder, plan)
}

fn signal(child: &Child, signal: &str) {
    let kill = format!("kill -{signal} {}", child.id());
    assert!(
        Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap()
            .success()
    );
}

/// Reads progress until a phase has begun.
fn wait_for(phase: &str, stderr: &mut impl BufRead) {
    let wanted = format!("\"phase\":\"{phase}\"");
    let mut line = String::new();
    while !line.contains(&wanted) {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "no {phase}");
    }
}

#[test]
fn a_signal_removes_the_work_files() {
    let (folder, mut plan) = folder();
    plan["out"] = json!({"arrow_stream": true});
    for name in ["TERM", "INT", "HUP"] {
        let mut child = start(&plan);
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        // Nobody reads stdout, so the process cannot come to its end.
        wait_for("write", &mut stderr);
        assert_eq!(fs::read_dir(folder.path("work")).unwrap().count(), 1);
        signal(&child, name);
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert!(last_error(&rest).1.contains("told to stop"), "{rest}");
        folder.assert_no_work_files();
    }
}

#[test]
fn a_signal_leaves_no_half_written_output() {
    let (folder, plan) = folder();
    for phase in ["history", "spine", "join", "write"] {
        let mut child = start(&plan);
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        wait_for(phase, &mut stderr);
        signal(&child, "TERM");
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        let output = folder.path("train.parquet");
        // It may have come to its end before the signal: then the output is there, and whole.
        assert_eq!(child.wait().unwrap().success(), output.exists(), "{rest}");
        folder.assert_no_work_files();
        if output.exists() {
            fs::remove_file(&output).unwrap();
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_an_error() {
    let (folder, mut plan) = folder();
    plan["out"] = json!({"arrow_stream": true});
    let mut child = start(&plan);
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let (kind, message) = last_error(&String::from_utf8_lossy(&done.stderr));
    assert_eq!(kind, "failed_precondition");
    assert!(message.contains("stdout"), "{message}");
    folder.assert_no_work_files();
}

#[test]
fn a_fault_in_the_last_row_leaves_nothing() {
    let (folder, plan) = folder();
    let mut keys: Vec<Option<i64>> = (0..ROWS).map(Some).collect();
    keys.push(None);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("k", Arc::new(Int64Array::from(keys))),
        (
            "event_timestamp",
            Arc::new(TimestampMicrosecondArray::from_iter_values(0..=ROWS)),
        ),
        (
            "x",
            Arc::new(StringArray::from_iter_values(
                (0..=ROWS).map(|row| row.to_string()),
            )),
        ),
    ];
    folder.write("history.parquet", columns);
    let (_, message) = folder.fault(&plan);
    assert!(message.contains("row 40001"), "{message}");
}

#[test]
fn an_output_that_was_there_stays_until_the_new_one_is_whole() {
    let (folder, mut plan) = folder();
    let output = folder.path("other.parquet");
    fs::write(&output, "the old one").unwrap();
    plan["out"] = json!({"path": output});
    plan["views"][0]["features"][0]["type"] = json!("bool");
    folder.fault(&plan);
    assert_eq!(fs::read(&output).unwrap(), b"the old one");
    plan["views"][0]["features"][0]["type"] = json!("string");
    assert!(start(&plan).wait_with_output().unwrap().status.success());
    assert_ne!(fs::read(&output).unwrap(), b"the old one");
}
