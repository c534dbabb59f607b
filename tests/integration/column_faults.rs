//! Columns that do not fit: each fault is named, and nothing is written.

use ferrocast::grpc::pb::{self, AnswerFormat, TypedColumn, ValueType};
use prost_types::Struct;
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    columns::{as_columns, definitions, read},
    support::{Running, apply},
};

/// The fields that are at fault, and what is said of them.
fn violations(refused: &tonic::Status) -> Vec<(String, String)> {
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    let details = refused.get_error_details();
    let found = details.bad_request().unwrap().field_violations.iter();
    found
        .map(|violation| (violation.field.clone(), violation.description.clone()))
        .collect()
}

/// A change of a good write, the field that it puts at fault, and what is said.
type Spoiled = (
    fn(&mut pb::WriteFeaturesRequest),
    &'static str,
    &'static str,
);

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_does_not_fit_is_named() {
    let running = Running::start().await;
    let mut client = running.features().await;
    client
        .apply_definitions(apply(&definitions()))
        .await
        .unwrap();
    let cases: Vec<Spoiled> = vec![
        (
            |w| w.columns[3].name = "f99".into(),
            "columns[3].name",
            "f99",
        ),
        (
            |w| w.columns[3].name = "f0".into(),
            "columns[3].type",
            "BOOL",
        ),
        (
            |w| {
                w.columns[3].name = "f0".into();
                w.columns[3].r#type = 0;
            },
            "columns[3].int32s",
            "bools",
        ),
        (
            |w| w.columns[3].r#type = ValueType::Bool.into(),
            "columns[3].type",
            "BOOL",
        ),
        (|w| w.columns[3].r#type = 99, "columns[3].type", "99"),
        (
            |w| w.columns[3].int32s.truncate(2),
            "columns[3].int32s",
            "2 rows",
        ),
        (
            |w| w.columns[3].int64s = vec![1],
            "columns[3].int64s",
            "int32s",
        ),
        (
            |w| w.columns[3].lengths = vec![1],
            "columns[3].lengths",
            "int32",
        ),
        (
            |w| w.columns[3].null_rows = vec![0, 3],
            "columns[3].nullRows[1]",
            "no row 3",
        ),
        (
            |w| w.columns[3].absent_rows = vec![u32::MAX],
            "columns[3].absentRows[0]",
            "no row",
        ),
        (
            |w| {
                w.columns[3].null_rows = vec![1];
                w.columns[3].absent_rows = vec![1];
            },
            "columns[3].absentRows[0]",
            "nullRows",
        ),
        (
            |w| w.columns[12].lengths = vec![2, 0],
            "columns[12].lengths",
            "2 rows",
        ),
        (
            |w| w.columns[12].lengths = vec![2, 0, 2],
            "columns[12].lengths",
            "add up to 4",
        ),
        (
            |w| w.columns[12].lengths = vec![u32::MAX; 3],
            "columns[12].lengths",
            "add up",
        ),
        (
            |w| w.columns[11].timestamps[1] = i64::MAX,
            "columns[11].timestamps",
            "row 1",
        ),
        (
            |w| w.columns[19].timestamps[1] = i64::MIN,
            "columns[19].timestamps",
            "row 0",
        ),
        (
            |w| w.columns[0].null_rows = vec![0],
            "columns[0].nullRows",
            "join key",
        ),
        (
            |w| w.columns[1].absent_rows = vec![0],
            "columns[1].absentRows",
            "join key",
        ),
        (|w| drop(w.columns.remove(1)), "columns", "part"),
        (|w| w.columns.truncate(2), "columns", "feature"),
        (
            |w| w.columns = vec![w.columns[0].clone(); 23],
            "columns",
            "23 are more than the 22",
        ),
        (
            |w| {
                let twice = w.columns[3].clone();
                w.columns.push(twice);
            },
            "columns[20].name",
            "twice",
        ),
        (
            |w| w.columns[9].strings[2] = "\0".into(),
            "rows[2].f7",
            "NUL",
        ),
        (
            |w| w.columns[17].strings[2] = "\0".into(),
            "rows[2].f15",
            "NUL",
        ),
        (
            |w| w.columns[1].bytes[1] = vec![0; 3_000],
            "rows[1].part",
            "2000",
        ),
        (|w| w.rows = vec![Struct::default()], "columns", "beside"),
        (
            |w| {
                for column in w.columns.iter_mut().skip(2) {
                    column.absent_rows = vec![1];
                }
            },
            "rows[1]",
            "nothing",
        ),
    ];
    for (spoil, field, said) in cases {
        let mut write = as_columns();
        spoil(&mut write);
        let refused = client.write_features(write).await.expect_err(field);
        let violations = violations(&refused);
        let named = violations
            .iter()
            .any(|(at, what)| at == field && what.contains(said));
        assert!(named, "{field} {said}: {violations:?}");
    }
    // Nothing of all that was written.
    let packed = client.get_online_features(read(AnswerFormat::Packed)).await;
    for column in packed.unwrap().into_inner().packed_columns {
        assert_eq!(column.statuses, [3, 3, 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_faults_are_told_and_not_all() {
    let running = Running::start().await;
    let mut client = running.features().await;
    client
        .apply_definitions(apply(&definitions()))
        .await
        .unwrap();
    let mut write = as_columns();
    write.columns.truncate(2);
    let odd = (0..15).map(|i| TypedColumn {
        name: format!("odd{i}"),
        ..Default::default()
    });
    write.columns.extend(odd);
    let refused = client.write_features(write).await.unwrap_err();
    assert_eq!(violations(&refused).len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn key_columns_that_do_not_fit_are_named() {
    let running = Running::start().await;
    let mut client = running.features().await;
    client
        .apply_definitions(apply(&definitions()))
        .await
        .unwrap();
    type Spoiled = (fn(&mut pb::GetOnlineFeaturesRequest), &'static str);
    let cases: Vec<Spoiled> = vec![
        (
            |r| r.entity_columns[0].null_rows = vec![0],
            "entityColumns[0].nullRows",
        ),
        (
            |r| r.entity_columns[1].absent_rows = vec![2],
            "entityColumns[1].absentRows",
        ),
        (
            |r| r.entity_columns[0].name = "ident".into(),
            "entityColumns[0].name",
        ),
        (
            |r| r.entity_columns[1].bytes = vec![],
            "entityColumns[1].bytes",
        ),
        (|r| r.entity_columns[0].int64s = vec![], "entityColumns[0]"),
        (|r| r.entity_columns[0].r#type = 6, "entityColumns[0].type"),
        (|r| drop(r.entity_columns.pop()), "entityColumns"),
        (
            |r| r.entity_columns[1] = r.entity_columns[0].clone(),
            "entityColumns[1].name",
        ),
        (
            |r| r.entity_columns.push(TypedColumn::default()),
            "entityColumns",
        ),
        (|r| r.entities = vec![Struct::default()], "entityColumns"),
        (|r| r.feature_service = "x".into(), "featureService"),
        (|r| r.features = vec![], "features"),
        (|r| r.format = 9, "format"),
        (|r| r.max_age = seconds(-1, 0), "maxAge"),
        (|r| r.max_age = seconds(0, -1), "maxAge"),
        (|r| r.max_age = seconds(0, 1_000_000_000), "maxAge"),
        (|r| r.max_age = seconds(i64::MAX, 0), "maxAge"),
        (
            |r| {
                r.entity_columns[0].int64s = (0..10_001).collect();
                r.entity_columns[1].bytes = vec![vec![]; 10_001];
            },
            "entityColumns[0]",
        ),
    ];
    for (spoil, field) in cases {
        let mut request = read(AnswerFormat::Packed);
        spoil(&mut request);
        let refused = client.get_online_features(request).await.expect_err(field);
        let violations = violations(&refused);
        assert!(
            violations.iter().any(|(at, _)| at == field),
            "{field}: {violations:?}"
        );
    }
}

fn seconds(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}
