//! Parquet files as sources.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, DictionaryArray, FixedSizeListArray,
    Float32Array, Float64Array, Int8Array, Int32Array, Int64Array, LargeListArray,
    LargeStringArray, ListArray, NullArray, StringArray, StringViewArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
    types::{Int32Type, Int64Type},
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field};
use ferrocast::features::{ListValue, Value};

use crate::{
    fixtures::*,
    sources::{Folder, fault, rows, source, view},
};

/// The features that `columns` fills, each from another type of Arrow's.
const FEATURES: [(&str, &str); 13] = [
    ("b", "bool"),
    ("wide", "int64"),
    ("f", "float"),
    ("d", "double"),
    ("from_int", "double"),
    ("from_float", "double"),
    ("large", "string"),
    ("seen", "string"),
    ("coded", "string"),
    ("raw", "bytes"),
    ("ms", "timestamp"),
    ("day", "timestamp"),
    ("nothing", "string"),
];

fn columns() -> Vec<(&'static str, ArrayRef)> {
    let coded: DictionaryArray<Int32Type> = [Some("a"), None, Some("a")].into_iter().collect();
    vec![
        (
            "t",
            Arc::new(TimestampNanosecondArray::from(vec![-1, 1_999, 0])) as ArrayRef,
        ),
        ("id", Arc::new(Int32Array::from(vec![1, 2, 3]))),
        (
            "b",
            Arc::new(BooleanArray::from(vec![Some(true), None, None])),
        ),
        (
            "wide",
            Arc::new(Int8Array::from(vec![Some(-1), None, None])),
        ),
        (
            "f",
            Arc::new(Float32Array::from(vec![Some(0.1), None, None])),
        ),
        (
            "d",
            Arc::new(Float64Array::from(vec![Some(0.1), None, None])),
        ),
        (
            "from_int",
            Arc::new(Int64Array::from(vec![Some(1 << 53), None, None])),
        ),
        (
            "from_float",
            Arc::new(Float32Array::from(vec![Some(0.5), None, None])),
        ),
        (
            "large",
            Arc::new(LargeStringArray::from(vec![Some("l"), None, None])),
        ),
        (
            "seen",
            Arc::new(StringViewArray::from(vec![Some("v"), None, None])),
        ),
        ("coded", Arc::new(coded)),
        (
            "raw",
            Arc::new(BinaryArray::from_opt_vec(vec![
                Some(b"\0".as_slice()),
                None,
                None,
            ])),
        ),
        (
            "ms",
            Arc::new(
                TimestampMillisecondArray::from(vec![Some(2), None, None])
                    .with_timezone("Europe/Warsaw"),
            ),
        ),
        (
            "day",
            Arc::new(Date32Array::from(vec![Some(1), None, None])),
        ),
        ("nothing", Arc::new(NullArray::new(3))),
        ("extra", Arc::new(UInt64Array::from(vec![1, 2, 3]))),
    ]
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

/// What the first row of `columns` becomes.
fn first_values() -> Vec<Value> {
    vec![
        Value::Bool(true),
        Value::Int64(-1),
        Value::Float(0.1),
        Value::Double(0.1),
        Value::Double(9_007_199_254_740_992.0),
        Value::Double(0.5),
        text("l"),
        text("v"),
        text("a"),
        Value::Bytes(vec![0]),
        Value::Timestamp(at(2_000)),
        Value::Timestamp(at(86_400_000_000)),
        Value::Null,
    ]
}

#[test]
fn parquet_columns_become_values() {
    let folder = Folder::new();
    let path = folder.parquet(columns());
    let view = view(&FEATURES, false);
    assert_eq!(source(&path, &view).unwrap().row_count(), Some(3));
    let rows = rows(&path, &view).unwrap();
    assert_eq!(rows[0], write_row(id(1), -1, 77, first_values()));
    assert_eq!(rows[1].row.event_timestamp, at(1));
    assert!(rows[1].row.values.iter().all(Value::is_null));
    assert_eq!(rows[2].row.values[8], text("a"));
}

#[test]
fn parquet_faults_name_file_row_and_column() {
    let folder = Folder::new();
    let times = || -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(vec![1, 2])) };
    let ids = || -> ArrayRef { Arc::new(Int64Array::from(vec![1, 2])) };
    let lossy: ArrayRef = Arc::new(Int64Array::from(vec![1, (1 << 53) + 1]));
    let x = view(&[("x", "double")], false);
    let path = folder.parquet(vec![("id", ids()), ("t", times()), ("x", lossy.clone())]);
    fault(
        &path,
        &x,
        &[
            "row 2",
            "\"x\"",
            "9007199254740993 is no double without loss",
        ],
    );

    let strings: ArrayRef = Arc::new(StringArray::from(vec!["1", "2"]));
    let three = view(&[("x", "double"), ("i", "int32"), ("gone", "bool")], false);
    let path = folder.parquet(vec![
        ("id", ids()),
        ("t", strings.clone()),
        ("x", strings),
        ("i", lossy),
    ]);
    let words = [
        "\"t\"",
        "\"x\"",
        "expected a double, found Utf8",
        "\"i\"",
        "found Int64",
        "\"gone\"",
        "missing",
    ];
    fault(&path, &three, &words);

    let holes: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let path = folder.parquet(vec![("id", holes), ("t", times()), ("x", ids())]);
    fault(&path, &x, &["row 2", "\"id\"", "no value"]);

    let path = folder.parquet(vec![
        ("id", ids()),
        ("t", times()),
        ("x", ids()),
        ("x", ids()),
    ]);
    fault(&path, &x, &["\"x\"", "more than once"]);

    let never: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![0, i64::MAX]));
    let path = folder.parquet(vec![("id", ids()), ("t", never), ("x", ids())]);
    fault(&path, &x, &["row 2", "\"t\"", "years 1 to 9999"]);
}

#[test]
fn a_dictionarys_fault_is_told_with_the_row_that_uses_it() {
    let folder = Folder::new();
    let count = 6;
    let lossy = (1 << 53) + 1;
    let coded = DictionaryArray::<Int32Type>::try_new(
        Int32Array::from(vec![0, 0, 0, 0, 1, 0]),
        Arc::new(Int64Array::from(vec![7, lossy])),
    );
    let path = folder.parquet(vec![
        (
            "id",
            Arc::new(Int64Array::from_iter_values(0..count)) as ArrayRef,
        ),
        (
            "t",
            Arc::new(TimestampMicrosecondArray::from_iter_values(0..count)),
        ),
        ("x", Arc::new(coded.unwrap())),
    ]);
    let x = view(&[("x", "double")], false);
    fault(&path, &x, &["row 5", "\"x\"", "9007199254740993"]);
}

#[test]
fn what_no_store_can_keep_is_told_with_its_place() {
    let folder = Folder::new();
    let coded: DictionaryArray<Int32Type> = ["a", "a", "a", "a", "a", "b\0d"].into_iter().collect();
    let columns = |city: ArrayRef| {
        vec![
            (
                "id",
                Arc::new(Int64Array::from_iter_values(0..6)) as ArrayRef,
            ),
            (
                "t",
                Arc::new(TimestampMicrosecondArray::from_iter_values(0..6)),
            ),
            ("city", city),
        ]
    };
    let city = view(&[("city", "string")], false);
    let path = folder.parquet(columns(Arc::new(coded)));
    fault(&path, &city, &["row 6", "\"city\"", "NUL"]);
    let path = folder.csv("id,t,city\n1,1970-01-01T00:00:00Z,a\n2,1970-01-01T00:00:00Z,b\0d\n");
    fault(&path, &city, &["row 2", "\"city\"", "NUL"]);
}

#[test]
fn a_key_that_is_too_long_is_told_with_its_place() {
    let folder = Folder::new();
    let mut keyed = view(&[("x", "double")], false);
    keyed.join_keys[0].value_type = ferrocast::catalog::ValueType::String;
    let long = "k".repeat(ferrocast::features::KEY_BYTES_MAX + 1);
    let time = "1970-01-01T00:00:00Z";
    let path = folder.csv(format!("id,t,x\nshort,{time},1\n{long},{time},1\n"));
    fault(&path, &keyed, &["row 2", "\"id\"", "2001 bytes"]);
}

#[test]
fn many_rows_come_in_batches_and_keep_their_numbers() {
    let folder = Folder::new();
    let count = 10_000_i64;
    let mut ids: Vec<Option<i64>> = (0..count).map(Some).collect();
    let times: Vec<i64> = (0..count).collect();
    let x = view(&[("x", "double")], false);
    let file = |ids: Vec<Option<i64>>| {
        folder.parquet(vec![
            ("id", Arc::new(Int64Array::from(ids)) as ArrayRef),
            (
                "t",
                Arc::new(TimestampMicrosecondArray::from(times.clone())),
            ),
            ("x", Arc::new(Float64Array::from(vec![1.0; 10_000]))),
        ])
    };
    assert_eq!(rows(&file(ids.clone()), &x).unwrap().len(), 10_000);
    ids[9_000] = None;
    fault(&file(ids), &x, &["row 9001", "\"id\""]);
}

#[test]
fn a_cut_off_parquet_file_is_a_fault_and_no_panic() {
    let folder = Folder::new();
    let x = view(&[("x", "double")], false);
    let values: Vec<i64> = (0..5_000).map(|value| value * 7_919 % 5_003).collect();
    let path = folder.parquet(vec![
        ("id", Arc::new(Int64Array::from(values.clone())) as ArrayRef),
        (
            "t",
            Arc::new(TimestampMicrosecondArray::from(values.clone())),
        ),
        ("x", Arc::new(Int64Array::from(values))),
    ]);
    let mut bytes = std::fs::read(&path).unwrap();
    // The footer stays, the pages' headers do not.
    for byte in &mut bytes[4..2_000] {
        *byte = 0xff;
    }
    std::fs::write(&path, bytes).unwrap();
    fault(&path, &x, &["damaged"]);
}

/// Lists of every kind of Arrow's: whole, and cut out of longer ones.
#[test]
fn lists_of_every_form_become_values() {
    type Rows = Vec<Option<Vec<Option<i64>>>>;
    let given: Rows = vec![
        Some(vec![Some(9), Some(9)]),
        Some(vec![Some(1), Some(2)]),
        None,
        Some(vec![Some(-3), Some(1 << 53)]),
        Some(vec![Some(9), Some(9)]),
    ];
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(given.clone());
    let large = LargeListArray::from_iter_primitive::<Int64Type, _, _>(given.clone());
    let fixed = FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>(given, 2);
    let expected = [
        Value::List(ListValue::Int64(vec![1, 2])),
        Value::Null,
        Value::List(ListValue::Int64(vec![-3, 1 << 53])),
    ];
    let folder = Folder::new();
    let cut = |array: &dyn Array| array.slice(1, 3);
    for array in [cut(&list), cut(&large), cut(&fixed)] {
        let path = folder.parquet(with_keys(3, vec![("x", array)]));
        let rows = rows(&path, &view(&[("x", "list<int64>")], false)).unwrap();
        let values: Vec<Value> = rows
            .into_iter()
            .map(|row| row.row.values[0].clone())
            .collect();
        assert_eq!(values, expected);
    }
    // The same integers are exact as doubles.
    let path = folder.parquet(with_keys(3, vec![("x", cut(&list))]));
    let doubles = rows(&path, &view(&[("x", "list<double>")], false)).unwrap();
    let last = Value::List(ListValue::Double(vec![-3.0, 9_007_199_254_740_992.0]));
    assert_eq!(doubles[2].row.values[0], last);
}

/// A column of lists, each row's elements a part of `elements`.
fn list_column(lengths: &[usize], elements: ArrayRef) -> ArrayRef {
    let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
    let field = Field::new("item", elements.data_type().clone(), true);
    Arc::new(ListArray::new(Arc::new(field), offsets, elements, None))
}

fn with_keys(
    count: i64,
    mut columns: Vec<(&'static str, ArrayRef)>,
) -> Vec<(&'static str, ArrayRef)> {
    let ids = Arc::new(Int64Array::from_iter_values(0..count));
    let times = Arc::new(TimestampMicrosecondArray::from_iter_values(0..count));
    columns.extend([("id", ids as ArrayRef), ("t", times as ArrayRef)]);
    columns
}

#[test]
fn elements_of_every_type_become_values_to_the_bit() {
    let coded: DictionaryArray<Int32Type> = ["a", "", "a"].into_iter().collect();
    let elements: Vec<(&str, &str, ArrayRef)> = vec![
        (
            "b",
            "list<bool>",
            Arc::new(BooleanArray::from(vec![true, false, true])),
        ),
        (
            "i",
            "list<int32>",
            Arc::new(Int32Array::from(vec![i32::MIN, 0, i32::MAX])),
        ),
        (
            "l",
            "list<int64>",
            Arc::new(Int64Array::from(vec![i64::MIN, 0, i64::MAX])),
        ),
        (
            "f",
            "list<float>",
            Arc::new(Float32Array::from(vec![0.1, -0.0, f32::INFINITY])),
        ),
        (
            "d",
            "list<double>",
            Arc::new(Float64Array::from(vec![0.1, -0.0, f64::NEG_INFINITY])),
        ),
        ("s", "list<string>", Arc::new(coded)),
        (
            "y",
            "list<bytes>",
            Arc::new(BinaryArray::from(vec![b"\0".as_slice(), b"", b"ab"])),
        ),
        (
            "w",
            "list<timestamp>",
            Arc::new(Date32Array::from(vec![0, 1, 2])),
        ),
    ];
    let expected = [
        ListValue::Bool(vec![true, false]),
        ListValue::Int32(vec![i32::MIN, 0]),
        ListValue::Int64(vec![i64::MIN, 0]),
        ListValue::Float(vec![0.1, -0.0]),
        ListValue::Double(vec![0.1, -0.0]),
        ListValue::String(vec!["a".to_owned(), String::new()]),
        ListValue::Bytes(vec![vec![0], Vec::new()]),
        ListValue::Timestamp(vec![at(0), at(86_400_000_000)]),
    ];
    let features: Vec<(&str, &str)> = elements.iter().map(|(name, of, _)| (*name, *of)).collect();
    let columns = elements
        .iter()
        .map(|(name, _, array)| (*name, list_column(&[2, 0, 1], Arc::clone(array))));
    let folder = Folder::new();
    let path = folder.parquet(with_keys(3, columns.collect()));
    let rows = rows(&path, &view(&features, false)).unwrap();
    for (index, list) in expected.iter().enumerate() {
        let Value::List(found) = &rows[0].row.values[index] else {
            panic!("{:?}", rows[0].row.values[index]);
        };
        assert!(found.is_same(list), "{found} {list}");
        let empty = Value::List(ListValue::empty(list.element_type()));
        assert_eq!(rows[1].row.values[index], empty);
    }
}

#[test]
fn an_elements_fault_names_row_column_and_element() {
    let folder = Folder::new();
    let file = |elements: ArrayRef| {
        folder.parquet(with_keys(3, vec![("x", list_column(&[2, 0, 2], elements))]))
    };
    let doubles = view(&[("x", "list<double>")], false);
    let holes = file(Arc::new(Float64Array::from(vec![
        Some(1.0),
        Some(2.0),
        Some(3.0),
        None,
    ])));
    fault(
        &holes,
        &doubles,
        &["row 3", "\"x\"", "element 1", "cannot be null"],
    );
    let lossy = file(Arc::new(Int64Array::from(vec![1, 2, (1 << 53) + 1, 3])));
    fault(
        &lossy,
        &doubles,
        &["row 3", "\"x\"", "element 0", "9007199254740993"],
    );
    let texts = view(&[("x", "list<string>")], false);
    let nul = file(Arc::new(StringArray::from(vec!["a", "b", "c", "d\0"])));
    fault(&nul, &texts, &["row 3", "\"x\"", "NUL"]);
    fault(
        &nul,
        &doubles,
        &["\"x\"", "expected a list<double>", "Utf8"],
    );
    let untyped = file(Arc::new(NullArray::new(4)));
    fault(&untyped, &texts, &["row 1", "element 0", "cannot be null"]);
}

#[test]
fn what_stands_below_a_null_list_is_no_fault() {
    let folder = Folder::new();
    let elements = Int64Array::from(vec![1, 2, (1 << 53) + 1, 3]);
    let field = Arc::new(Field::new("item", DataType::Int64, true));
    let nulls = NullBuffer::from(vec![true, false]);
    let fixed = FixedSizeListArray::new(field, 2, Arc::new(elements), Some(nulls));
    let path = folder.parquet(with_keys(2, vec![("x", Arc::new(fixed))]));
    let rows = rows(&path, &view(&[("x", "list<double>")], false)).unwrap();
    assert_eq!(rows[1].row.values, [Value::Null]);
}

#[test]
fn rows_that_are_wide_come_in_smaller_batches() {
    let folder = Folder::new();
    let (count, width) = (600, 4_096);
    let numbers = (0..count * width).map(|number| f64::from(number).sin());
    let elements = Float64Array::from_iter_values(numbers);
    let lengths = vec![usize::try_from(width).unwrap(); usize::try_from(count).unwrap()];
    let column = list_column(&lengths, Arc::new(elements));
    let path = folder.parquet(with_keys(i64::from(count), vec![("x", column)]));
    let mut source = source(&path, &view(&[("x", "list<double>")], false)).unwrap();
    let first = source.next_batch().unwrap().unwrap();
    assert!(first.len() < 300, "{}", first.len());
    let mut total = first.len();
    while let Some(batch) = source.next_batch().unwrap() {
        total += batch.len();
    }
    assert_eq!(total, 600);
}
