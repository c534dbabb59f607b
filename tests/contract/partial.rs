//! Writes of some features, and rows that are late for some of them.

use ferrocast::{
    catalog::FeatureView,
    features::{OnlineStore, RowTime, Value, WriteRow},
};

use crate::{fixtures::*, for_every_store};

for_every_store!(
    what_is_left_out_keeps_its_value_and_its_time,
    a_late_part_fills_what_is_older,
    a_late_whole_row_fills_what_is_older,
    a_newer_whole_row_makes_a_row_whole,
    the_same_part_again_is_late,
    the_same_time_for_other_features_is_news,
    parts_in_one_batch,
    a_load_meets_parts,
    a_bad_part_undoes_the_batch,
    many_parts,
);

/// A view `pairs` with the features x and y.
async fn pairs(fixture: &Fixture) -> std::sync::Arc<FeatureView> {
    let text = one_view("pairs", ID, &format!("{X}, {Y}"));
    fixture.apply(&text).await.remove(0)
}

fn double(value: f64) -> Option<Value> {
    Some(Value::Double(value))
}

fn x(event: i64, value: f64) -> WriteRow {
    part(id(1), event, 0, &[double(value), None])
}

fn y(event: i64, value: f64) -> WriteRow {
    part(id(1), event, 0, &[None, double(value)])
}

fn both(event: i64, x: f64, y: f64) -> WriteRow {
    write_row(id(1), event, 0, vec![Value::Double(x), Value::Double(y)])
}

type Cell = Option<(Value, RowTime)>;

fn cell(event: i64, value: f64) -> Cell {
    Some((Value::Double(value), time(event, 0)))
}

async fn assert_cells(fixture: &Fixture, view: &FeatureView, expected: [Cell; 2]) {
    let row = fixture.row(view, id(1)).await.unwrap();
    assert_eq!(cells(&row), expected);
    let newest = expected.iter().flatten().map(|(_, time)| *time).max();
    assert_eq!(Some(row.time()), newest);
    let is_whole = expected
        .iter()
        .all(|cell| cell.as_ref().map(|(_, time)| *time) == newest);
    assert_eq!(row.is_whole(), is_whole);
}

async fn what_is_left_out_keeps_its_value_and_its_time(fixture: Fixture) {
    let view = pairs(&fixture).await;
    assert_eq!(fixture.write(&view, vec![x(1, 1.0)]).await, counts(1, 0));
    assert_cells(&fixture, &view, [cell(1, 1.0), None]).await;
    assert_eq!(fixture.write(&view, vec![y(2, 2.0)]).await, counts(1, 0));
    assert_cells(&fixture, &view, [cell(1, 1.0), cell(2, 2.0)]).await;
    assert_eq!(fixture.write(&view, vec![x(4, 3.0)]).await, counts(1, 0));
    assert_cells(&fixture, &view, [cell(4, 3.0), cell(2, 2.0)]).await;
    // A second server sees the same.
    let other = fixture.another().await;
    let found = other.read(&view, &[id(1)]).await.unwrap();
    assert_eq!(
        cells(found[0].as_ref().unwrap()),
        [cell(4, 3.0), cell(2, 2.0)]
    );
}

async fn a_late_part_fills_what_is_older(fixture: Fixture) {
    let view = pairs(&fixture).await;
    fixture.write(&view, vec![x(9, 1.0)]).await;
    assert_eq!(fixture.write(&view, vec![y(3, 2.0)]).await, counts(1, 0));
    assert_cells(&fixture, &view, [cell(9, 1.0), cell(3, 2.0)]).await;
    assert_eq!(fixture.write(&view, vec![x(8, 3.0)]).await, counts(0, 1));
    assert_eq!(fixture.write(&view, vec![y(2, 3.0)]).await, counts(0, 1));
    assert_eq!(fixture.write(&view, vec![y(5, 4.0)]).await, counts(1, 0));
    assert_cells(&fixture, &view, [cell(9, 1.0), cell(5, 4.0)]).await;
}

async fn a_late_whole_row_fills_what_is_older(fixture: Fixture) {
    let view = pairs(&fixture).await;
    fixture.write(&view, vec![both(1, 1.0, 1.0)]).await;
    fixture.write(&view, vec![x(9, 2.0)]).await;
    assert_cells(&fixture, &view, [cell(9, 2.0), cell(1, 1.0)]).await;
    let between = both(5, 3.0, 3.0);
    assert_eq!(
        fixture.write(&view, vec![between.clone()]).await,
        counts(1, 0)
    );
    assert_cells(&fixture, &view, [cell(9, 2.0), cell(5, 3.0)]).await;
    assert_eq!(fixture.write(&view, vec![between]).await, counts(0, 1));
    assert_eq!(
        fixture.write(&view, vec![both(4, 0.0, 0.0)]).await,
        counts(0, 1)
    );
    assert_cells(&fixture, &view, [cell(9, 2.0), cell(5, 3.0)]).await;
}

async fn a_newer_whole_row_makes_a_row_whole(fixture: Fixture) {
    let view = pairs(&fixture).await;
    fixture.write(&view, vec![x(1, 1.0), y(2, 1.0)]).await;
    assert_eq!(
        fixture.write(&view, vec![both(3, 2.0, 3.0)]).await,
        counts(1, 0)
    );
    assert_cells(&fixture, &view, [cell(3, 2.0), cell(3, 3.0)]).await;
    // Parts that come to be of one time do too.
    fixture.write(&view, vec![x(4, 5.0)]).await;
    fixture.write(&view, vec![y(4, 6.0)]).await;
    assert_cells(&fixture, &view, [cell(4, 5.0), cell(4, 6.0)]).await;
}

async fn the_same_part_again_is_late(fixture: Fixture) {
    let view = pairs(&fixture).await;
    let rows = vec![x(1, 1.0), part(id(2), 1, 1, &[None, double(1.0)])];
    assert_eq!(fixture.write(&view, rows.clone()).await, counts(2, 0));
    assert_eq!(fixture.write(&view, rows).await, counts(0, 2));
    assert_eq!(fixture.write(&view, vec![x(1, 2.0)]).await, counts(0, 1));
    assert_cells(&fixture, &view, [cell(1, 1.0), None]).await;
    // A correction was made later.
    let corrected = part(id(1), 1, 1, &[double(3.0), None]);
    assert_eq!(fixture.write(&view, vec![corrected]).await, counts(1, 0));
}

async fn the_same_time_for_other_features_is_news(fixture: Fixture) {
    let view = pairs(&fixture).await;
    fixture.write(&view, vec![x(1, 1.0)]).await;
    assert_eq!(fixture.write(&view, vec![y(1, 2.0)]).await, counts(1, 0));
    assert_cells(&fixture, &view, [cell(1, 1.0), cell(1, 2.0)]).await;
    // Of equally new values the one that is there stays.
    assert_eq!(
        fixture.write(&view, vec![both(1, 8.0, 8.0)]).await,
        counts(0, 1)
    );
    assert_cells(&fixture, &view, [cell(1, 1.0), cell(1, 2.0)]).await;
}

async fn parts_in_one_batch(fixture: Fixture) {
    let view = pairs(&fixture).await;
    let other = part(id(2), 1, 1, &[double(1.0), None]);
    let rows = vec![x(3, 1.0), y(2, 2.0), other, both(1, 9.0, 9.0), x(2, 9.0)];
    assert_eq!(fixture.write(&view, rows).await, counts(3, 2));
    assert_cells(&fixture, &view, [cell(3, 1.0), cell(2, 2.0)]).await;
    // Of the two, one is late against what is stored; together they change it.
    let rows = vec![x(3, 5.0), y(4, 5.0)];
    assert_eq!(fixture.write(&view, rows).await, counts(2, 0));
    assert_cells(&fixture, &view, [cell(3, 1.0), cell(4, 5.0)]).await;
}

async fn a_load_meets_parts(fixture: Fixture) {
    let view = pairs(&fixture).await;
    let rows: Vec<WriteRow> = (0_i32..2_500)
        .map(|entity| {
            let cells = if entity % 2 == 0 {
                [double(1.0), None]
            } else {
                [None, double(1.0)]
            };
            part(id(entity.into()), 5, 0, &cells)
        })
        .collect();
    assert_eq!(fixture.write(&view, rows).await, counts(2_500, 0));
    let whole = |event| -> Vec<WriteRow> {
        (0..3_000)
            .map(|entity| write_row(id(entity), event, 0, vec![Value::Double(2.0); 2]))
            .collect()
    };
    assert_eq!(fixture.load(&view, whole(4)).await, counts(3_000, 0));
    let filled = fixture.row(&view, id(2)).await.unwrap();
    assert_eq!(cells(&filled), [cell(5, 1.0), cell(4, 2.0)]);
    let filled = fixture.row(&view, id(2_499)).await.unwrap();
    assert_eq!(cells(&filled), [cell(4, 2.0), cell(5, 1.0)]);
    assert!(fixture.row(&view, id(2_999)).await.unwrap().is_whole());
    assert_eq!(fixture.load(&view, whole(4)).await, counts(0, 3_000));
    assert_eq!(fixture.load(&view, whole(6)).await, counts(3_000, 0));
    assert!(fixture.row(&view, id(2)).await.unwrap().is_whole());
}

async fn a_bad_part_undoes_the_batch(fixture: Fixture) {
    let view = pairs(&fixture).await;
    fixture.write(&view, vec![x(1, 1.0)]).await;
    let text = Some(Value::String("no number".into()));
    let bad = part(id(3), 1, 1, &[None, text]);
    let rows = vec![x(2, 2.0), y(2, 2.0), bad];
    let error = fixture.store.write(&view, rows).await.unwrap_err();
    assert_eq!(error.fields()[0].field, "rows[2].y");
    assert_cells(&fixture, &view, [cell(1, 1.0), None]).await;
}

async fn many_parts(fixture: Fixture) {
    let view = pairs(&fixture).await;
    for (event, cells) in [(1, [double(1.0), None]), (2, [None, double(2.0)])] {
        let rows = (0..2_000).map(|entity| part(id(entity), event, 0, &cells));
        let rows = rows.collect();
        assert_eq!(fixture.write(&view, rows).await, counts(2_000, 0));
    }
    let keys: Vec<_> = (0..2_000).map(id).collect();
    for row in fixture.store.read(&view, &keys).await.unwrap() {
        assert_eq!(cells(&row.unwrap()), [cell(1, 1.0), cell(2, 2.0)]);
    }
}
