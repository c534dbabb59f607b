//! Every type over the wire and back, to the bit: written as objects and as columns, read in each form.

use ferrocast::grpc::pb::{self, AnswerFormat, TypedColumn, ValueType};
use prost::Message;
use serde_json::{Value as Json, json};

use crate::postgres::Postgres;
use crate::support::{Running, apply, object, value};

/// A type, its values in three rows as a packed column, and the same as JSON writes them.
fn samples() -> Vec<(&'static str, TypedColumn, Json)> {
    let column = |value_type: ValueType| TypedColumn {
        r#type: value_type.into(),
        ..Default::default()
    };
    let (min, max) = (-62_135_596_800_000_000, 253_402_300_799_999_999);
    let with = |value_type, fill: &dyn Fn(&mut TypedColumn)| {
        let mut column = column(value_type);
        fill(&mut column);
        column
    };
    // Of the lists: two elements, none, one.
    let list = |value_type, fill: &dyn Fn(&mut TypedColumn)| {
        let mut column = with(value_type, fill);
        column.lengths = vec![2, 0, 1];
        column
    };
    vec![
        (
            "bool",
            with(ValueType::Bool, &|c| c.bools = vec![true, false, true]),
            json!([true, false, true]),
        ),
        (
            "int32",
            with(ValueType::Int32, &|c| {
                c.int32s = vec![i32::MIN, 0, i32::MAX]
            }),
            json!([i32::MIN, 0, i32::MAX]),
        ),
        (
            "int64",
            with(ValueType::Int64, &|c| {
                c.int64s = vec![i64::MIN, (1 << 53) + 1, i64::MAX];
            }),
            json!([
                "-9223372036854775808",
                "9007199254740993",
                "9223372036854775807"
            ]),
        ),
        (
            "float",
            with(ValueType::Float, &|c| c.floats = vec![0.1, -0.0, f32::NAN]),
            json!([0.1, -0.0, "NaN"]),
        ),
        (
            "float",
            with(ValueType::Float, &|c| {
                c.floats = vec![f32::INFINITY, f32::NEG_INFINITY, f32::MAX];
            }),
            json!(["Infinity", "-Infinity", 3.4028235e38]),
        ),
        (
            "double",
            with(ValueType::Double, &|c| {
                c.doubles = vec![0.1, -0.0, f64::NAN]
            }),
            json!([0.1, -0.0, "NaN"]),
        ),
        (
            "double",
            with(ValueType::Double, &|c| {
                c.doubles = vec![f64::INFINITY, f64::NEG_INFINITY, 5e-324];
            }),
            json!(["Infinity", "-Infinity", 5e-324]),
        ),
        (
            "string",
            with(ValueType::String, &|c| {
                c.strings = vec![String::new(), "ä\"\\\n".into(), "NaN".into()];
            }),
            json!(["", "ä\"\\\n", "NaN"]),
        ),
        (
            "bytes",
            with(ValueType::Bytes, &|c| {
                c.bytes = vec![vec![], vec![0, 255], vec![1]];
            }),
            json!(["", "AP8=", "AQ=="]),
        ),
        (
            "timestamp",
            with(ValueType::Timestamp, &|c| c.timestamps = vec![-1, min, max]),
            json!([
                "1969-12-31T23:59:59.999999Z",
                "0001-01-01T00:00:00Z",
                "9999-12-31T23:59:59.999999Z"
            ]),
        ),
        (
            "list<bool>",
            list(ValueType::BoolList, &|c| c.bools = vec![true, false, true]),
            json!([[true, false], [], [true]]),
        ),
        (
            "list<int32>",
            list(ValueType::Int32List, &|c| {
                c.int32s = vec![i32::MIN, i32::MAX, 0]
            }),
            json!([[i32::MIN, i32::MAX], [], [0]]),
        ),
        (
            "list<int64>",
            list(ValueType::Int64List, &|c| {
                c.int64s = vec![i64::MIN, i64::MAX, 7];
            }),
            json!([["-9223372036854775808", "9223372036854775807"], [], [7]]),
        ),
        (
            "list<float>",
            list(ValueType::FloatList, &|c| {
                c.floats = vec![0.1, -0.0, f32::NAN]
            }),
            json!([[0.1, -0.0], [], ["NaN"]]),
        ),
        (
            "list<double>",
            list(ValueType::DoubleList, &|c| {
                c.doubles = vec![f64::INFINITY, -0.0, f64::NAN];
            }),
            json!([["Infinity", -0.0], [], ["NaN"]]),
        ),
        (
            "list<string>",
            list(ValueType::StringList, &|c| {
                c.strings = vec![String::new(), "a,b".into(), "null".into()];
            }),
            json!([["", "a,b"], [], ["null"]]),
        ),
        (
            "list<bytes>",
            list(ValueType::BytesList, &|c| {
                c.bytes = vec![vec![], vec![0, 255], vec![1]];
            }),
            json!([["", "AP8="], [], ["AQ=="]]),
        ),
        (
            "list<timestamp>",
            list(ValueType::TimestampList, &|c| {
                c.timestamps = vec![-1, 0, max]
            }),
            json!([
                ["1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z"],
                [],
                ["9999-12-31T23:59:59.999999Z"]
            ]),
        ),
    ]
}

pub fn definitions() -> String {
    let features: Vec<String> = samples()
        .iter()
        .enumerate()
        .map(|(index, (name, ..))| format!(r#"{{ name = "f{index}", type = "{name}" }}"#))
        .collect();
    format!(
        r#"
        project = "types"
        [[entities]]
        name = "thing"
        join_keys = [{{ name = "id", type = "int64" }}, {{ name = "part", type = "bytes" }}]
        [[feature_views]]
        name = "every"
        entity = "thing"
        features = [{}]
        "#,
        features.join(", ")
    )
}

const FIRST_ID: i64 = 9_007_199_254_740_993;

fn key_columns() -> Vec<TypedColumn> {
    let id = TypedColumn {
        name: "id".into(),
        r#type: ValueType::Int64.into(),
        int64s: (FIRST_ID..FIRST_ID + 3).collect(),
        ..Default::default()
    };
    let part = TypedColumn {
        name: "part".into(),
        bytes: vec![vec![0], vec![255], vec![]],
        ..Default::default()
    };
    vec![id, part]
}

fn key_objects() -> Vec<Json> {
    let ids = FIRST_ID..FIRST_ID + 3;
    ids.zip(["AA==", "/w==", ""])
        .map(|(id, part)| json!({"id": id.to_string(), "part": part}))
        .collect()
}

/// All samples as rows.
fn as_rows() -> pb::WriteFeaturesRequest {
    let mut rows = key_objects();
    for (row, fields) in rows.iter_mut().enumerate() {
        for (index, (_, _, json)) in samples().iter().enumerate() {
            fields[format!("f{index}")] = json[row].clone();
        }
    }
    pb::WriteFeaturesRequest {
        view: "every".into(),
        rows: rows.iter().map(object).collect(),
        ..Default::default()
    }
}

/// All samples as columns.
pub fn as_columns() -> pb::WriteFeaturesRequest {
    let mut columns = key_columns();
    for (index, (_, column, _)) in samples().into_iter().enumerate() {
        columns.push(TypedColumn {
            name: format!("f{index}"),
            ..column
        });
    }
    pb::WriteFeaturesRequest {
        view: "every".into(),
        columns,
        ..Default::default()
    }
}

pub fn read(format: AnswerFormat) -> pb::GetOnlineFeaturesRequest {
    pb::GetOnlineFeaturesRequest {
        features: (0..samples().len())
            .map(|i| format!("every:f{i}"))
            .collect(),
        entity_columns: key_columns(),
        format: format.into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_goes_there_and_back_in_every_form() {
    every_type_on(Running::start().await).await;
    let url = Postgres::shared().fresh_database().await;
    every_type_on(Running::on(&url, &[], tempfile::tempdir().unwrap()).await).await;
}

async fn every_type_on(running: Running) {
    let mut client = running.features().await;
    client
        .apply_definitions(apply(&definitions()))
        .await
        .unwrap();
    for write in [as_rows(), as_columns()] {
        let written = client.write_features(write).await.unwrap().into_inner();
        assert_eq!(written.written, 3);

        let packed = client.get_online_features(read(AnswerFormat::Packed)).await;
        let packed = packed.unwrap().into_inner();
        let columns = client
            .get_online_features(read(AnswerFormat::Unspecified))
            .await;
        let columns = columns.unwrap().into_inner();
        let rows = client.get_online_features(read(AnswerFormat::Rows)).await;
        let rows = rows.unwrap().into_inner();
        assert_eq!(rows.rows.len(), 3);
        for (row, key) in rows.rows.iter().zip(key_objects()) {
            assert_eq!(row.entity, Some(object(&key)));
        }
        for (index, (name, column, json)) in samples().into_iter().enumerate() {
            let full_name = format!("every:f{index}");
            let expected = TypedColumn {
                name: full_name.clone(),
                ..column
            };
            let found = &packed.packed_columns[index];
            assert_eq!(found.statuses, [1, 1, 1], "{name}");
            assert_eq!(found.event_timestamps.len(), 3);
            // As bytes, so that NaN equals NaN and -0 does not equal 0.
            let found = found.values.as_ref().unwrap();
            assert_eq!(found.encode_to_vec(), expected.encode_to_vec(), "{found:?}");

            let found = &columns.columns[index];
            assert_eq!(found.feature, full_name);
            assert_eq!(found.age_bound, Some(prost_types::Duration::default()));
            for (row, (found, json)) in found
                .values
                .iter()
                .zip(json.as_array().unwrap())
                .enumerate()
            {
                let expected = value(json).encode_to_vec();
                assert_eq!(found.encode_to_vec(), expected, "{name} {found:?}");
                let in_row = &rows.rows[row].values.as_ref().unwrap().fields[&full_name];
                assert_eq!(in_row.encode_to_vec(), expected, "{name} {in_row:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn null_is_not_absent_and_neither_is_a_value() {
    let running = Running::start().await;
    let mut client = running.features().await;
    client
        .apply_definitions(apply(&definitions()))
        .await
        .unwrap();
    let mut write = as_columns();
    for column in write.columns.iter_mut().skip(2) {
        column.null_rows = vec![1];
        column.absent_rows = vec![2];
    }
    // What stands in the place of a value that is not there counts for nothing.
    let timestamps = write.columns.iter_mut().find(|c| c.name == "f9").unwrap();
    timestamps.timestamps = vec![0, i64::MAX, i64::MIN];
    // The last row has to say something.
    write.columns[2].absent_rows = Vec::new();
    client.write_features(write).await.unwrap();

    let packed = client.get_online_features(read(AnswerFormat::Packed)).await;
    for (index, column) in packed
        .unwrap()
        .into_inner()
        .packed_columns
        .iter()
        .enumerate()
    {
        let values = column.values.as_ref().unwrap();
        let (statuses, nulls) = match index {
            0 => ([1, 2, 1], vec![1]),
            _ => ([1, 2, 3], vec![1, 2]),
        };
        assert_eq!(
            (column.statuses.as_slice(), &values.null_rows),
            (&statuses[..], &nulls)
        );
        assert_eq!(column.event_timestamps[2] == 0, index > 0);
        assert_eq!(values.absent_rows, [0_u32; 0]);
    }
    let rows = client.get_online_features(read(AnswerFormat::Rows)).await;
    let rows = rows.unwrap().into_inner().rows;
    assert_eq!(rows[2].statuses["every:f1"], 3);
    assert_eq!(rows[2].event_timestamps.len(), 1);
    assert_eq!(rows[1].event_timestamps.len(), samples().len());
    let values = rows[2].values.as_ref().unwrap();
    assert_eq!(values.fields["every:f1"], value(&Json::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn narrow_integers_serve_as_wide_ones_and_times_come_as_columns() {
    let running = Running::start().await;
    let mut client = running.features().await;
    client
        .apply_definitions(apply(&definitions()))
        .await
        .unwrap();
    let ids = |value_type: ValueType| TypedColumn {
        name: "id".into(),
        r#type: value_type.into(),
        int32s: vec![-7, 7],
        ..Default::default()
    };
    let parts = TypedColumn {
        name: "part".into(),
        bytes: vec![vec![1], vec![1]],
        ..Default::default()
    };
    let times = |name: &str, micros: [i64; 2]| TypedColumn {
        name: name.into(),
        timestamps: micros.to_vec(),
        ..Default::default()
    };
    let write = |numbers: [i32; 2], made: [i64; 2]| pb::WriteFeaturesRequest {
        view: "every".into(),
        columns: vec![
            ids(ValueType::Unspecified),
            parts.clone(),
            TypedColumn {
                name: "f2".into(),
                r#type: ValueType::Int32.into(),
                int32s: numbers.to_vec(),
                ..Default::default()
            },
            times("event_timestamp", [5, 5]),
            times("created_at", made),
        ],
        ..Default::default()
    };
    let first = client
        .write_features(write([1, 2], [10, 10]))
        .await
        .unwrap();
    assert_eq!((first.get_ref().written, first.get_ref().late), (2, 0));
    // The same again is the same; one that was made later is a correction.
    let again = client
        .write_features(write([3, 4], [10, 11]))
        .await
        .unwrap();
    assert_eq!((again.get_ref().written, again.get_ref().late), (1, 1));

    let read = pb::GetOnlineFeaturesRequest {
        features: vec!["every:f2".into()],
        entity_columns: vec![parts.clone(), ids(ValueType::Int32)],
        format: AnswerFormat::Packed.into(),
        ..Default::default()
    };
    let answer = client.get_online_features(read).await.unwrap().into_inner();
    let column = &answer.packed_columns[0];
    assert_eq!(column.values.as_ref().unwrap().int64s, [1, 4]);
    assert_eq!(column.event_timestamps, [5, 5]);
}
