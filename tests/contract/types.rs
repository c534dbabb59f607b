//! Values of every type come back as they were, to the bit.

use ferrocast::{
    catalog::{ScalarType, ValueType},
    features::{ListValue, OnlineStore, Timestamp, Value, WriteRow},
};

use crate::{fixtures::*, for_every_store};

for_every_store!(
    every_type_comes_back_as_it_was_written,
    every_type_comes_back_as_it_was_loaded,
    a_null_is_not_what_was_never_written,
    long_lists,
);

fn every_feature() -> String {
    let features: Vec<String> = ValueType::all()
        .enumerate()
        .map(|(index, value_type)| format!(r#"{{ name = "v{index}", type = "{value_type}" }}"#))
        .collect();
    features.join(", ")
}

/// A value as text: floats by their bits, so that NaN equals NaN and -0 does not equal 0.
fn bits(value: &Value) -> String {
    match value {
        Value::Float(float) if !float.is_nan() => format!("float {:x}", float.to_bits()),
        Value::Double(double) if !double.is_nan() => format!("double {:x}", double.to_bits()),
        Value::List(list) => {
            let elements: Vec<String> = list.elements().iter().map(bits).collect();
            format!("{}{elements:?}", list.element_type().value_type())
        }
        other => format!("{other:?}"),
    }
}

/// Values at the edges of each scalar type, a list a type, in the order of `ScalarType::ALL`.
fn scalar_edges() -> Vec<Vec<Value>> {
    let earliest = Timestamp::parse("0001-01-01T00:00:00Z").unwrap();
    let latest = at(Timestamp::MICROS_MAX);
    vec![
        vec![Value::Bool(true), Value::Bool(false)],
        vec![Value::Int32(i32::MIN), Value::Int32(i32::MAX)],
        vec![
            Value::Int64(i64::MIN),
            Value::Int64(i64::MAX),
            Value::Int64((1 << 53) + 1),
        ],
        [
            0.1,
            f32::MIN_POSITIVE,
            f32::MAX,
            1.0e-45,
            -0.0,
            f32::NAN,
            f32::INFINITY,
            16_777_217.0,
        ]
        .map(Value::Float)
        .to_vec(),
        [
            0.1,
            f64::MIN_POSITIVE,
            f64::MAX,
            5e-324,
            -0.0,
            f64::NAN,
            f64::NEG_INFINITY,
            3.0,
        ]
        .map(Value::Double)
        .to_vec(),
        [
            "",
            "NaN",
            "'; DROP TABLE x; --",
            "żółw 🐢",
            "{\"a\":null}",
            "NULL",
            "\\N",
            &"long ü ".repeat(20_000),
        ]
        .map(|text| Value::String(text.into()))
        .to_vec(),
        vec![
            Value::Bytes(Vec::new()),
            Value::Bytes(vec![0, 1, 255, 0]),
            Value::Bytes(b"NaN".to_vec()),
        ],
        [
            earliest,
            latest,
            Timestamp::EPOCH,
            at(-1),
            at(1_452_000_000_000_001),
        ]
        .map(Value::Timestamp)
        .to_vec(),
    ]
}

/// The same and lists of them: empty, one a value, and of all values at once; in the order of `ValueType::all`.
fn edges() -> Vec<Vec<Value>> {
    let mut all = scalar_edges();
    for (element, scalars) in ScalarType::ALL.into_iter().zip(scalar_edges()) {
        let list = |values: &[Value]| {
            let mut list = ListValue::empty(element);
            for value in values {
                list.push(value.clone()).unwrap();
            }
            Value::List(list)
        };
        let mut lists = vec![list(&[]), list(&scalars)];
        lists.extend(scalars.chunks(1).map(list));
        all.push(lists);
    }
    all
}

fn rows() -> Vec<WriteRow> {
    let columns = edges();
    let longest = columns.iter().map(Vec::len).max().unwrap();
    (0..=longest)
        .map(|index| {
            let values = columns
                .iter()
                .map(|column| column.get(index).cloned().unwrap_or(Value::Null));
            write_row(id(i64::try_from(index).unwrap()), 7, 8, values.collect())
        })
        .collect()
}

async fn assert_as_written(fixture: &Fixture, written: &[WriteRow]) {
    let view = fixture.view("all_types").await;
    let keys: Vec<_> = written.iter().map(|row| row.key.clone()).collect();
    let found = fixture.store.read(&view, &keys).await.unwrap();
    for (written, read) in written.iter().zip(found) {
        let read = read.unwrap();
        assert_eq!(read.time(), time(7, 8));
        assert!(read.is_whole());
        let expected: Vec<_> = written.row.values.iter().map(bits).collect();
        let actual: Vec<_> = read.values.iter().map(bits).collect();
        assert_eq!(actual, expected);
    }
}

async fn every_type_comes_back_as_it_was_written(fixture: Fixture) {
    let text = one_view_with_history("all_types", ID, &every_feature());
    let view = fixture.apply(&text).await.remove(0);
    fixture.write(&view, rows()).await;
    assert_as_written(&fixture, &rows()).await;
    let shown = |rows: &[WriteRow]| {
        let values = rows.iter().map(|write| {
            let values: Vec<_> = write.row.values.iter().map(bits).collect();
            (write.key.to_string(), values)
        });
        let mut shown: Vec<_> = values.collect();
        shown.sort();
        shown
    };
    let history = fixture.history(&view).await;
    assert_eq!(shown(&history), shown(&rows()));
}

async fn every_type_comes_back_as_it_was_loaded(fixture: Fixture) {
    let text = one_view("all_types", ID, &every_feature());
    let view = fixture.apply(&text).await.remove(0);
    fixture.load(&view, rows()).await;
    assert_as_written(&fixture, &rows()).await;
    // Rows that meet a partial one go another way.
    let mut newer = rows();
    for write in &mut newer {
        write.row.event_timestamp = at(6);
    }
    let text = one_view("all_types_again", ID, &every_feature());
    let view = fixture.apply(&text).await.remove(0);
    let mut nothing = vec![None; view.features.len()];
    nothing[0] = Some(Value::Bool(true));
    let parts = newer
        .iter()
        .map(|row| part(row.key.clone(), 1, 1, &nothing));
    fixture.write(&view, parts.collect()).await;
    fixture.load(&view, newer.clone()).await;
    for write in newer {
        let read = fixture.row(&view, write.key).await.unwrap();
        let expected: Vec<_> = write.row.values.iter().map(bits).collect();
        let actual: Vec<_> = read.values.iter().map(bits).collect();
        assert_eq!(actual, expected);
    }
}

async fn a_null_is_not_what_was_never_written(fixture: Fixture) {
    let text = one_view("all_types", ID, &every_feature());
    let view = fixture.apply(&text).await.remove(0);
    let count = view.features.len();
    for index in 0..count {
        let mut only = vec![None; count];
        only[index] = Some(Value::Null);
        let entity = id(i64::try_from(index).unwrap());
        let row = part(entity.clone(), 3, 4, &only);
        fixture.write(&view, vec![row.clone()]).await;
        assert_eq!(fixture.row(&view, entity).await, Some(row.row));
    }
}

async fn long_lists(fixture: Fixture) {
    let list = r#"{ name = "embedding", type = "list<float>" }"#;
    let view = fixture
        .apply(&one_view("embeddings", ID, list))
        .await
        .remove(0);
    let values = (0..4_096_i16).map(|index| f32::from(index) / 7.0);
    let value = Value::List(ListValue::Float(values.collect()));
    let row = write_row(id(1), 1, 1, vec![value]);
    fixture.write(&view, vec![row.clone()]).await;
    assert_eq!(fixture.row(&view, id(1)).await, Some(row.row));
}
