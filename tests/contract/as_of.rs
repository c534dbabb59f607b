//! What a view held at a moment, out of its history.

use std::{collections::BTreeMap, sync::Arc};

use ferrocast::{
    catalog::FeatureView,
    error::ErrorKind,
    features::{OnlineStore, StoredRow, Value, WriteRow},
};

use crate::{fixtures::*, for_every_store};

for_every_store!(
    each_moment_has_what_was_true_then,
    parts_are_put_together_as_plain_maps_would,
    more_parts_than_are_read_at_once,
    a_load_is_as_good_as_writes,
    what_was_there_before_the_history_counts,
    an_added_feature_was_never_there_before,
    a_view_without_history_is_refused,
);

async fn kept(fixture: &Fixture) -> Arc<FeatureView> {
    let text = one_view_with_history("numbers", ID, &format!("{X}, {Y}"));
    fixture.apply(&text).await.remove(0)
}

fn row(entity: i64, event: i64, x: f64) -> WriteRow {
    let values = vec![Value::Double(x), Value::Double(-x)];
    write_row(id(entity), event, 0, values)
}

async fn as_of(
    fixture: &Fixture,
    view: &FeatureView,
    ids: &[i64],
    event: i64,
) -> Vec<Option<StoredRow>> {
    let keys: Vec<_> = ids.iter().map(|number| id(*number)).collect();
    let found = fixture.store.read_as_of(view, &keys, at(event)).await;
    found.unwrap()
}

async fn each_moment_has_what_was_true_then(fixture: Fixture) {
    let view = kept(&fixture).await;
    let rows = vec![row(1, 10, 1.0), row(1, 30, 3.0), row(2, 20, 2.0)];
    fixture.write(&view, rows).await;
    // A late one is part of the past.
    fixture.write(&view, vec![row(1, 20, 2.5)]).await;
    for (event, expected) in [
        (9, [None, None]),
        (10, [Some(row(1, 10, 1.0)), None]),
        (19, [Some(row(1, 10, 1.0)), None]),
        (20, [Some(row(1, 20, 2.5)), Some(row(2, 20, 2.0))]),
        (29, [Some(row(1, 20, 2.5)), Some(row(2, 20, 2.0))]),
        (1_000, [Some(row(1, 30, 3.0)), Some(row(2, 20, 2.0))]),
    ] {
        let expected = expected.map(|row| row.map(|write| write.row));
        assert_eq!(as_of(&fixture, &view, &[1, 2], event).await, expected);
        // In the order of the keys, unknown ones among them.
        let [one, two] = expected;
        let told = as_of(&fixture, &view, &[7, 2, 1, 2], event).await;
        assert_eq!(told, [None, two.clone(), one, two], "{event}");
    }
    // An entity that is deleted never was.
    fixture
        .store
        .delete(std::slice::from_ref(&view), &id(1))
        .await
        .unwrap();
    assert_eq!(as_of(&fixture, &view, &[1], 30).await, [None]);
}

/// By entity and feature, what was written when.
type Written = BTreeMap<(i64, usize), BTreeMap<(i64, i64), Option<f64>>>;

async fn parts_are_put_together_as_plain_maps_would(fixture: Fixture) {
    let view = kept(&fixture).await;
    let mut written = Written::new();
    let mut state = 7_u64;
    let mut chosen = |below: u64| {
        // Knuth's linear congruential generator (MMIX); its upper bits.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((state >> 33) % below).unwrap()
    };
    for number in 0..60_u32 {
        let (entity, event) = (chosen(3), chosen(40));
        // No two are made at the same time, so that nothing ties.
        let created = i64::from(number);
        let cells: Vec<Option<Option<f64>>> = (0..2)
            .map(|_| match chosen(4) {
                0 | 1 => None,
                2 => Some(None),
                _ => Some(Some(f64::from(number))),
            })
            .collect();
        for (feature, cell) in cells.iter().enumerate() {
            if let Some(value) = cell {
                let times = written.entry((entity, feature)).or_default();
                times.insert((event, created), *value);
            }
        }
        let cells: Vec<Option<Value>> = cells
            .into_iter()
            .map(|cell| cell.map(|value| value.map_or(Value::Null, Value::Double)))
            .collect();
        let write = part(id(entity), event, created, &cells);
        fixture.write(&view, vec![write]).await;
    }
    for event in -1..41 {
        let told = as_of(&fixture, &view, &[0, 1, 2], event).await;
        for (entity, row) in (0..).zip(told) {
            for feature in 0..2 {
                let times = written.get(&(entity, feature));
                let newest = times.and_then(|t| t.range(..=(event, i64::MAX)).next_back());
                let told = row.as_ref().and_then(|row| {
                    let time = row.feature_time(feature)?;
                    Some((time.event_timestamp, row.values[feature].clone()))
                });
                let expected = newest.map(|((event, _), value)| {
                    (at(*event), value.map_or(Value::Null, Value::Double))
                });
                assert_eq!(told, expected, "{entity}, {feature} as of {event}");
            }
        }
    }
}

async fn more_parts_than_are_read_at_once(fixture: Fixture) {
    let view = kept(&fixture).await;
    let y = part(id(1), 1, 0, &[None, Some(Value::Double(5.0))]);
    let mut rows = vec![y];
    for event in 2..1_300_i32 {
        rows.push(part(
            id(1),
            event.into(),
            0,
            &[Some(Value::Double(f64::from(event))), None],
        ));
    }
    fixture.write(&view, rows).await;
    let told = as_of(&fixture, &view, &[1], 1_200).await.remove(0).unwrap();
    assert_eq!(told.values, [Value::Double(1_200.0), Value::Double(5.0)]);
    assert_eq!(told.feature_time(1).unwrap().event_timestamp, at(1));
}

async fn a_load_is_as_good_as_writes(fixture: Fixture) {
    let view = kept(&fixture).await;
    let rows = vec![row(1, 10, 1.0), row(1, 20, 2.0), row(1, 30, 3.0)];
    fixture.load(&view, rows).await;
    let told = as_of(&fixture, &view, &[1], 25).await;
    assert_eq!(told, [Some(row(1, 20, 2.0).row)]);
}

async fn what_was_there_before_the_history_counts(fixture: Fixture) {
    let text = one_view("numbers", ID, &format!("{X}, {Y}"));
    let view = fixture.apply(&text).await.remove(0);
    let x = part(id(1), 10, 0, &[Some(Value::Double(1.0)), None]);
    let y = part(id(1), 30, 0, &[None, Some(Value::Double(3.0))]);
    fixture.write(&view, vec![x, y]).await;
    let view = kept(&fixture).await;
    // The row there says of both when they became true, though it is itself of the later one.
    let told = as_of(&fixture, &view, &[1], 20).await.remove(0).unwrap();
    assert_eq!(told.values, [Value::Double(1.0), Value::Null]);
    assert_eq!(told.time().event_timestamp, at(10));
    assert_eq!(told.feature_time(1), None);
    assert_eq!(as_of(&fixture, &view, &[1], 9).await, [None]);
}

async fn an_added_feature_was_never_there_before(fixture: Fixture) {
    let text = one_view_with_history("numbers", ID, X);
    let view = fixture.apply(&text).await.remove(0);
    for event in [10, 20] {
        let write = write_row(id(1), event, 0, vec![Value::Double(1.0)]);
        fixture.write(&view, vec![write]).await;
    }
    let view = kept(&fixture).await;
    fixture.write(&view, vec![row(1, 30, 3.0)]).await;
    let told = as_of(&fixture, &view, &[1], 25).await.remove(0).unwrap();
    assert_eq!(told.feature_time(0).unwrap().event_timestamp, at(20));
    assert_eq!(told.feature_time(1), None);
    let told = as_of(&fixture, &view, &[1], 30).await;
    assert_eq!(told, [Some(row(1, 30, 3.0).row)]);
}

async fn a_view_without_history_is_refused(fixture: Fixture) {
    let text = one_view("numbers", ID, X);
    let view = fixture.apply(&text).await.remove(0);
    let refused = fixture.store.read_as_of(&view, &[id(1)], at(1)).await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.message().contains("history = true"), "{error}");
}
