//! Columns as they come in real files: other widths, other units, dictionaries; and the values that no later row may reach.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, Date32Array, Decimal128Array, DictionaryArray,
    FixedSizeBinaryArray, Float32Array, Int16Array, Int32Array, Int64Array, LargeStringArray,
    ListArray, NullArray, RecordBatch, StringArray, StringViewArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
    cast::AsArray,
    types::{Float64Type, Int32Type, Int64Type},
};
use serde_json::json;

use crate::{
    cells::{Cell, cells},
    support::{Folder, MEMORY, view},
};

fn strings(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn micros(values: &[i64]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values.to_vec()))
}

fn doubles(batch: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    let column = batch.column_by_name(name).unwrap();
    column.as_primitive::<Float64Type>().iter().collect()
}

/// One key, a history of two rows at 1 s and 2 s, and spine times in any type.
fn at_times(history: ArrayRef, spine: ArrayRef) -> Vec<Option<f64>> {
    let folder = Folder::new();
    let rows = spine.len();
    let values: ArrayRef = Arc::new(Float32Array::from(vec![1.5, 2.5]));
    folder.write(
        "history.parquet",
        vec![
            ("k", strings(&["a", "a"])),
            ("event_timestamp", history),
            ("x", values),
        ],
    );
    folder.write(
        "spine.parquet",
        vec![("k", strings(&vec!["a"; rows])), ("event_timestamp", spine)],
    );
    let view = view(&folder, &[("k", "string")], &[("x", "double")]);
    doubles(&folder.join(&folder.plan(&[view], MEMORY)), "x")
}

#[test]
fn no_value_from_after_the_time_of_the_row() {
    let history = micros(&[1_000_000, 2_000_000]);
    let spine = micros(&[
        999_999,
        1_000_000,
        1_999_999,
        2_000_000,
        i64::from(i32::MAX),
    ]);
    let expected = [None, Some(1.5), Some(1.5), Some(2.5), Some(2.5)];
    assert_eq!(at_times(history, spine), expected);
}

#[test]
fn times_of_every_unit_meet() {
    let seconds = || Arc::new(TimestampSecondArray::from(vec![1, 2])) as ArrayRef;
    // A nanosecond too few is too early; what is below a microsecond is cut downwards, on both sides.
    let nanos = vec![999_999_999, 1_000_000_000, 1_999_999_999, 2_000_000_000, -1];
    let nanos = Arc::new(TimestampNanosecondArray::from(nanos).with_timezone("+02:00"));
    let expected = [None, Some(1.5), Some(1.5), Some(2.5), None];
    assert_eq!(at_times(seconds(), nanos), expected);
    let millis =
        Arc::new(TimestampMillisecondArray::from(vec![999, 1_000, 2_000]).with_timezone("UTC"));
    assert_eq!(at_times(seconds(), millis), [None, Some(1.5), Some(2.5)]);
    let days = Arc::new(Date32Array::from(vec![0, 1]));
    assert_eq!(at_times(seconds(), days), [None, Some(2.5)]);
    let history = Arc::new(TimestampNanosecondArray::from(vec![-1_001, 1_000_000_999]));
    assert_eq!(
        at_times(history, micros(&[-3, -2, 999_999, 1_000_000])),
        [None, Some(1.5), Some(1.5), Some(2.5)]
    );
}

#[test]
fn an_age_of_exactly_the_ttl_is_fresh() {
    let folder = Folder::new();
    let values: ArrayRef = Arc::new(Int32Array::from(vec![7]));
    folder.write(
        "history.parquet",
        vec![
            ("k", strings(&["a"])),
            ("event_timestamp", micros(&[100])),
            ("x", values),
        ],
    );
    folder.write(
        "spine.parquet",
        vec![
            ("k", strings(&["a", "a"])),
            ("event_timestamp", micros(&[150, 151])),
        ],
    );
    let mut view = view(&folder, &[("k", "string")], &[("x", "double")]);
    view["ttl_micros"] = json!(50);
    let joined = folder.join(&folder.plan(&[view.clone()], MEMORY));
    assert_eq!(doubles(&joined, "x"), [Some(7.0), None]);
    // Time off does not count: one that covers the last moment keeps it, one after it does not.
    for (off, last) in [
        ([120, 121], Some(7.0)),
        ([150, 151], Some(7.0)),
        ([151, 152], None),
    ] {
        view["off_micros"] = json!([off]);
        let joined = folder.join(&folder.plan(&[view.clone()], MEMORY));
        assert_eq!(doubles(&joined, "x"), [Some(7.0), last], "{off:?}");
    }
}

/// The spine's key column, joined with a history whose key is "1", "2" or the like.
fn by_key(key_type: &str, spine: ArrayRef, history: ArrayRef) -> Vec<Option<f64>> {
    let folder = Folder::new();
    let values: ArrayRef = Arc::new(Int16Array::from_iter_values(
        0..i16::try_from(history.len()).unwrap(),
    ));
    let times = |rows| micros(&vec![0; rows]);
    folder.write(
        "history.parquet",
        vec![
            ("event_timestamp", times(history.len())),
            ("k", history),
            ("x", values),
        ],
    );
    folder.write(
        "spine.parquet",
        vec![("event_timestamp", times(spine.len())), ("k", spine)],
    );
    let view = view(&folder, &[("k", key_type)], &[("x", "double")]);
    doubles(&folder.join(&folder.plan(&[view], MEMORY)), "x")
}

#[test]
fn keys_of_other_widths_meet() {
    let narrow = || Arc::new(Int32Array::from(vec![5, -6])) as ArrayRef;
    let expected = [Some(1.0), None, Some(0.0)];
    let wide = Arc::new(Int64Array::from(vec![Some(-6), None, Some(5)]));
    assert_eq!(by_key("int64", wide.clone(), narrow()), expected);
    assert_eq!(by_key("int32", wide, narrow()), expected);
    let unsigned = Arc::new(UInt64Array::from(vec![5]));
    assert_eq!(by_key("int64", unsigned, narrow()), [Some(0.0)]);
    let dictionary: DictionaryArray<Int32Type> =
        vec![Some("b"), None, Some("a")].into_iter().collect();
    let large = Arc::new(LargeStringArray::from(vec!["a", "b"]));
    assert_eq!(by_key("string", Arc::new(dictionary), large), expected);
    let views = Arc::new(StringViewArray::from(vec![
        "",
        "a text longer than twelve bytes",
    ]));
    assert_eq!(
        by_key(
            "string",
            views,
            strings(&["", "a text longer than twelve bytes"])
        ),
        [Some(0.0), Some(1.0)]
    );
    let fixed = FixedSizeBinaryArray::try_from_iter([[1, 2], [3, 4]].iter()).unwrap();
    let bytes = Arc::new(BinaryArray::from(vec![&[3, 4][..], &[1, 2][..]]));
    assert_eq!(
        by_key("bytes", Arc::new(fixed), bytes),
        [Some(1.0), Some(0.0)]
    );
    let nulls = Arc::new(NullArray::new(2));
    assert_eq!(by_key("int32", nulls, narrow()), [None, None]);
}

#[test]
fn composite_keys_are_not_mixed_up() {
    let folder = Folder::new();
    folder.write(
        "history.parquet",
        vec![
            ("a", strings(&["a", "ab"])),
            ("b", strings(&["bc", "c"])),
            ("event_timestamp", micros(&[0, 0])),
            ("x", Arc::new(Int32Array::from(vec![1, 2]))),
        ],
    );
    folder.write(
        "spine.parquet",
        vec![
            ("b", strings(&["c", "bc", "abc"])),
            ("a", strings(&["ab", "a", ""])),
            ("event_timestamp", micros(&[0, 0, 0])),
        ],
    );
    let view = view(
        &folder,
        &[("a", "string"), ("b", "string")],
        &[("x", "double")],
    );
    let joined = folder.join(&folder.plan(&[view], MEMORY));
    assert_eq!(doubles(&joined, "x"), [Some(2.0), Some(1.0), None]);
}

#[test]
fn every_column_of_the_spine_stays_as_it_is() {
    let folder = Folder::new();
    let dictionary: DictionaryArray<Int32Type> =
        vec![Some("x"), None, Some("y")].into_iter().collect();
    let decimal = Decimal128Array::from(vec![Some(125), None, Some(-1)]);
    let decimal = decimal.with_precision_and_scale(9, 2).unwrap();
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
    ]);
    let zoned = TimestampNanosecondArray::from(vec![1, 2_001, 3]).with_timezone("Europe/Berlin");
    let spine: Vec<(&str, ArrayRef)> = vec![
        ("dictionary", Arc::new(dictionary)),
        ("decimal", Arc::new(decimal)),
        ("lists", Arc::new(lists)),
        ("k", Arc::new(LargeStringArray::from(vec!["a", "b", "a"]))),
        ("event_timestamp", Arc::new(zoned)),
    ];
    folder.write("spine.parquet", spine.clone());
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1), None]),
        Some(vec![]),
    ]);
    folder.write(
        "history.parquet",
        vec![
            ("k", strings(&["a", "b"])),
            ("event_timestamp", micros(&[0, 0])),
            ("x", Arc::new(lists)),
        ],
    );
    let view = view(&folder, &[("k", "string")], &[("x", "list<int64>")]);
    let joined = folder.join(&folder.plan(&[view], MEMORY));
    for (index, (name, column)) in spine.iter().enumerate() {
        assert_eq!(joined.schema().field(index).name(), name);
        assert_eq!(joined.column(index), column, "{name}");
    }
    let one = || Cell::List(vec![Cell::Int(1), Cell::Null]);
    let expected = [one(), Cell::List(Vec::new()), one()];
    assert_eq!(cells("list<int64>", joined.column(spine.len())), expected);
}

#[test]
fn a_spine_without_rows_and_a_view_without_history() {
    let folder = Folder::new();
    folder.write(
        "spine.parquet",
        vec![("k", strings(&[])), ("event_timestamp", micros(&[]))],
    );
    let mut view = view(&folder, &[("k", "string")], &[("x", "double")]);
    view["history"] = json!([]);
    assert_eq!(
        folder
            .join(&folder.plan(&[view.clone()], MEMORY))
            .num_rows(),
        0
    );
    folder.write(
        "spine.parquet",
        vec![("k", strings(&["a"])), ("event_timestamp", micros(&[1]))],
    );
    let joined = folder.join(&folder.plan(&[view], MEMORY));
    assert_eq!(doubles(&joined, "x"), [None]);
}
