//! Random joins, held against the brute-force one.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, RecordBatch, StringArray,
    builder::{ListBuilder, StringBuilder},
};
use serde_json::{Value, json};

use crate::{
    brute::{HistoryRow, SpineRow, View},
    cells::{Cell, SCALARS, cells, column},
    random::Random,
    support::{Folder, LITTLE_MEMORY, MEMORY},
};

/// Two views of the same spine: one of them by two keys.
const KEYS: [&[(&str, &str)]; 3] = [
    &[("loan_id", "string"), ("branch", "int32")],
    &[("account", "int64")],
    &[("card", "bytes")],
];

/// Whether each file of a view has a column for the time of writing.
const FILES: [bool; 4] = [true, true, false, false];

/// How the rows of a test are made.
struct Shape {
    spine_rows: usize,
    history_rows: usize,
    keys: usize,
    times: usize,
    memory: usize,
    /// One key of three rows in four.
    is_skewed: bool,
}

struct Case {
    types: Vec<String>,
    spine_columns: Vec<(&'static str, &'static str, Vec<Cell>)>,
    spine_times: Vec<i64>,
    views: Vec<View>,
    plans: Vec<Value>,
}

fn key(random: &mut Random, shape: &Shape, key_type: &str) -> Cell {
    let is_common = shape.is_skewed && !random.one_in(4);
    random.key(key_type, if is_common { 1 } else { shape.keys })
}

fn make(seed: u64, shape: &Shape, folder: &Folder) -> Case {
    let mut random = Random(seed);
    let lists = SCALARS.iter().map(|scalar| format!("list<{scalar}>"));
    let types: Vec<String> = SCALARS
        .iter()
        .map(|s| (*s).to_owned())
        .chain(lists)
        .collect();
    let mut spine_columns = Vec::new();
    for (name, key_type) in KEYS.iter().copied().flatten().copied() {
        let cells = (0..shape.spine_rows).map(|_| match random.one_in(20) {
            true => Cell::Null,
            false => key(&mut random, shape, key_type),
        });
        spine_columns.push((name, key_type, cells.collect()));
    }
    let times = (0..shape.spine_rows).map(|_| random.time(shape.times));
    let spine_times = times.collect();
    let mut case = Case {
        types,
        spine_columns,
        spine_times,
        views: Vec::new(),
        plans: Vec::new(),
    };
    for (index, keys) in KEYS.iter().enumerate() {
        make_view(&mut random, shape, folder, index, keys, &mut case);
    }
    write_spine(folder, &case);
    case
}

fn make_view(
    random: &mut Random,
    shape: &Shape,
    folder: &Folder,
    index: usize,
    keys: &[(&str, &str)],
    case: &mut Case,
) {
    // The first view has no row that is partial; each has files with a time of writing and some without.
    let has_partial = index > 0;
    let mut rows = Vec::new();
    let mut sources = Vec::new();
    for (file, has_created) in FILES.into_iter().enumerate() {
        let own: Vec<HistoryRow> = (0..shape.history_rows / FILES.len())
            .map(|_| HistoryRow {
                key: keys
                    .iter()
                    .map(|(_, key_type)| key(random, shape, key_type))
                    .collect(),
                time: random.time(shape.times),
                created: has_created.then(|| random.time(4)),
                file,
                missing: match has_partial && random.one_in(3) {
                    true => (0..case.types.len()).filter(|_| random.one_in(2)).collect(),
                    false => Vec::new(),
                },
                values: case
                    .types
                    .iter()
                    .map(|value_type| random.cell(value_type))
                    .collect(),
            })
            .collect();
        let name = format!("history-{index}-{file}.parquet");
        write_history(
            folder,
            &name,
            keys,
            &case.types,
            &own,
            has_partial && file != 1,
        );
        let own = own.into_iter().map(|mut row| {
            // The second file is one without partial rows.
            if file == 1 {
                row.missing.clear();
            }
            row
        });
        rows.extend(own);
        sources.push(json!({
            "files": [{"path": folder.path(&name)}],
            "timestamp_field": "at",
            "created_timestamp_field": has_created.then_some("created"),
        }));
    }
    let ttl = [
        None,
        Some(0),
        Some(i64::try_from(shape.times / 10).unwrap()),
    ][index];
    let off = match ttl {
        Some(_) => random.stretches(shape.times),
        None => Vec::new(),
    };
    let key_plan = keys
        .iter()
        .map(|(name, key_type)| json!({"name": name, "type": key_type}));
    let features = case.types.iter().enumerate().map(|(position, value_type)| {
        json!({"name": format!("f{position}"), "type": value_type, "output": format!("v{index}_{position}")})
    });
    case.plans.push(json!({
        "name": format!("view-{index}"),
        "join_keys": key_plan.collect::<Vec<_>>(),
        "ttl_micros": ttl,
        "off_micros": off,
        "features": features.collect::<Vec<_>>(),
        "history": sources,
    }));
    let feature_count = case.types.len();
    case.views.push(View {
        ttl,
        off,
        feature_count,
        rows,
    });
}

fn write_history(
    folder: &Folder,
    name: &str,
    keys: &[(&str, &str)],
    types: &[String],
    rows: &[HistoryRow],
    has_partial: bool,
) {
    let names: Vec<String> = (0..types.len())
        .map(|position| format!("f{position}"))
        .collect();
    let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
    for (index, (name, key_type)) in keys.iter().enumerate() {
        let cells: Vec<Cell> = rows.iter().map(|row| row.key[index].clone()).collect();
        columns.push((name, column(key_type, &cells)));
    }
    let times: Vec<Cell> = rows.iter().map(|row| Cell::Time(row.time)).collect();
    columns.push(("at", column("timestamp", &times)));
    if rows.iter().any(|row| row.created.is_some()) {
        let created: Vec<Cell> = rows
            .iter()
            .map(|row| Cell::Time(row.created.unwrap()))
            .collect();
        columns.push(("created", column("timestamp", &created)));
    }
    if has_partial {
        let mut missing = ListBuilder::new(StringBuilder::new());
        for row in rows {
            for feature in &row.missing {
                missing.values().append_value(&names[*feature]);
            }
            missing.values().append_value("of another plan");
            missing.append(true);
        }
        columns.push(("_missing", Arc::new(missing.finish())));
    }
    for (position, value_type) in types.iter().enumerate() {
        let cells: Vec<Cell> = rows
            .iter()
            .map(|row| row.values[position].clone())
            .collect();
        columns.push((&names[position], column(value_type, &cells)));
    }
    folder.write(name, columns);
}

fn write_spine(folder: &Folder, case: &Case) {
    let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
    for (name, key_type, cells) in &case.spine_columns {
        columns.push((name, column(key_type, cells)));
    }
    let times: Vec<Cell> = case
        .spine_times
        .iter()
        .map(|time| Cell::Time(*time))
        .collect();
    columns.push(("event_timestamp", column("timestamp", &times)));
    let notes = (0..times.len()).map(|row| Some(format!("row {row}")));
    columns.push(("note", Arc::new(notes.collect::<StringArray>())));
    folder.write("spine.parquet", columns);
}

fn check(case: &Case, joined: &RecordBatch) {
    assert_eq!(joined.num_rows(), case.spine_times.len());
    for (row, note) in cells("string", joined.column_by_name("note").unwrap())
        .iter()
        .enumerate()
    {
        assert_eq!(*note, Cell::Text(format!("row {row}")));
    }
    let mut place = case.spine_columns.len() + 2;
    for (index, view) in case.views.iter().enumerate() {
        let got: Vec<Vec<Cell>> = case
            .types
            .iter()
            .enumerate()
            .map(|(position, value_type)| {
                let name = format!("v{index}_{position}");
                assert_eq!(*joined.schema().field(place + position).name(), name);
                cells(value_type, joined.column(place + position))
            })
            .collect();
        place += case.types.len();
        let (mut matched, mut kept_by_off) = (0, 0);
        let without_off = View {
            off: Vec::new(),
            rows: view.rows.clone(),
            ..*view
        };
        for (row, time) in case.spine_times.iter().enumerate() {
            let keys = KEYS[index].iter().map(|(name, _)| {
                let column = case.spine_columns.iter().find(|column| column.0 == *name);
                column.unwrap().2[row].clone()
            });
            let spine = SpineRow {
                key: keys.collect(),
                time: *time,
            };
            let expected = view.values(&spine);
            let without = without_off.values(&spine);
            kept_by_off += usize::from(expected != without);
            matched += expected.iter().filter(|cell| !cell.is_null()).count();
            for (position, expected) in expected.iter().enumerate() {
                let place = format!("view {index}, feature {position}, row {row}: {spine:?}");
                assert_eq!(got[position][row], *expected, "{place}");
            }
        }
        assert!(matched > 0, "view {index}: a test of nulls only");
        assert!(
            kept_by_off > 0 || view.off.is_empty(),
            "view {index}: time off made no difference"
        );
    }
}

fn hold(seed: u64, shape: &Shape) {
    let folder = Folder::new();
    let case = make(seed, shape, &folder);
    let mut plan = folder.plan(&case.plans, shape.memory);
    let (joined, parts) = folder.join_in_parts(&plan);
    assert_eq!(
        parts > 1,
        shape.memory == LITTLE_MEMORY,
        "{parts} partitions"
    );
    check(&case, &joined);
    if parts > 1 {
        return;
    }
    plan["out"] = json!({"arrow_stream": true});
    check(&case, &folder.stream(&plan));
}

#[test]
fn small_joins_in_memory_are_those_of_brute_force() {
    for seed in 0..8 {
        let shape = Shape {
            spine_rows: 150,
            history_rows: 240,
            keys: 12,
            times: 60,
            memory: MEMORY,
            is_skewed: false,
        };
        hold(seed, &shape);
    }
}

#[test]
fn partitioned_joins_are_those_of_brute_force() {
    for seed in 100..102 {
        let shape = Shape {
            spine_rows: 2_500,
            history_rows: 3_000,
            keys: 300,
            times: 500,
            memory: LITTLE_MEMORY,
            is_skewed: false,
        };
        hold(seed, &shape);
    }
}

#[test]
fn a_key_that_most_rows_have_is_joined_block_by_block() {
    let shape = Shape {
        spine_rows: 1_500,
        history_rows: 3_600,
        keys: 50,
        times: 3_000,
        memory: LITTLE_MEMORY,
        is_skewed: true,
    };
    hold(200, &shape);
}
