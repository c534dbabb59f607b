//! History, and going through all rows.

use std::{collections::BTreeSet, sync::Arc};

use ferrocast::{
    catalog::FeatureView,
    error::ErrorKind,
    features::{OnlineStore, Scan, Value, WriteRow},
};
use tokio::sync::mpsc;

use crate::{fixtures::*, for_every_store};

for_every_store!(
    every_row_is_kept,
    a_load_keeps_every_row,
    parts_are_kept_as_they_were_written,
    a_row_is_kept_once,
    a_failed_write_keeps_nothing,
    a_history_begins_with_what_is_there,
    an_entity_goes_with_its_history,
    a_scan_gives_every_row_once,
    a_scan_from_a_time_on,
    a_scan_of_nothing,
    a_scan_that_nobody_takes_ends,
    a_view_without_history_says_so,
    a_scan_is_of_one_moment,
);

async fn kept(fixture: &Fixture) -> Arc<FeatureView> {
    let text = one_view_with_history("numbers", ID, &format!("{X}, {Y}"));
    fixture.apply(&text).await.remove(0)
}

fn row(entity: i64, event: i64, x: f64) -> WriteRow {
    let values = vec![Value::Double(x), Value::Double(x)];
    write_row(id(entity), event, 0, values)
}

async fn every_row_is_kept(fixture: Fixture) {
    let view = kept(&fixture).await;
    let rows = vec![row(1, 1, 1.0), row(1, 3, 3.0), row(2, 2, 2.0)];
    assert_eq!(fixture.write(&view, rows).await, counts(2, 1));
    // A late one too.
    assert_eq!(
        fixture.write(&view, vec![row(1, 2, 4.0)]).await,
        counts(0, 1)
    );
    let expected = in_order(vec![
        row(1, 1, 1.0),
        row(1, 2, 4.0),
        row(2, 2, 2.0),
        row(1, 3, 3.0),
    ]);
    assert_eq!(fixture.history(&view).await, expected);
    let newest = fixture.row(&view, id(1)).await.unwrap();
    assert_eq!(newest, row(1, 3, 3.0).row);
}

async fn a_load_keeps_every_row(fixture: Fixture) {
    let view = kept(&fixture).await;
    fixture.write(&view, vec![row(1, 2, 1.0)]).await;
    let rows = vec![
        row(1, 1, 2.0),
        row(1, 2, 3.0),
        row(1, 3, 4.0),
        row(1, 3, 5.0),
    ];
    assert_eq!(fixture.load(&view, rows.clone()).await, counts(1, 3));
    let expected = [row(1, 1, 2.0), row(1, 2, 1.0), row(1, 3, 4.0)];
    assert_eq!(fixture.history(&view).await, expected);
    assert_eq!(fixture.load(&view, rows).await, counts(0, 4));
    assert_eq!(fixture.history(&view).await, expected);
}

async fn parts_are_kept_as_they_were_written(fixture: Fixture) {
    let view = kept(&fixture).await;
    let x = part(id(1), 2, 0, &[Some(Value::Double(1.0)), None]);
    let y = part(id(1), 3, 0, &[None, Some(Value::Null)]);
    let late = part(id(1), 1, 0, &[None, Some(Value::Double(2.0))]);
    for part in [&x, &y, &late] {
        fixture.write(&view, vec![part.clone()]).await;
    }
    assert_eq!(fixture.history(&view).await, [late, x, y]);
}

async fn a_row_is_kept_once(fixture: Fixture) {
    let view = kept(&fixture).await;
    let x = part(id(1), 2, 0, &[Some(Value::Double(1.0)), None]);
    let y = part(id(1), 2, 0, &[None, Some(Value::Double(1.0))]);
    let whole = row(1, 2, 1.0);
    let rows = vec![x, y, whole];
    fixture.write(&view, rows.clone()).await;
    assert_eq!(fixture.history(&view).await.len(), 3);
    // A retry, as one call or as many, in another order, with its rows there twice.
    fixture.write(&view, rows.clone()).await;
    let mut twice: Vec<WriteRow> = rows.iter().chain(&rows).cloned().collect();
    twice.reverse();
    fixture.write(&view, twice).await;
    for row in rows {
        fixture.write(&view, vec![row]).await;
    }
    assert_eq!(fixture.history(&view).await.len(), 3);
    // Made at another time, it is another row.
    let mut corrected = row(1, 2, 5.0);
    corrected.row.created_at = at(1);
    fixture.write(&view, vec![corrected]).await;
    assert_eq!(fixture.history(&view).await.len(), 4);
}

async fn a_failed_write_keeps_nothing(fixture: Fixture) {
    let view = kept(&fixture).await;
    let mut bad = row(2, 1, 1.0);
    bad.row.values[1] = Value::Bool(true);
    let rows = vec![row(1, 1, 1.0), bad];
    fixture.store.write(&view, rows.clone()).await.unwrap_err();
    let messages = vec![Some(Ok(rows)), None];
    let loaded = load(&fixture.store, &view, messages, &note("bad")).await;
    loaded.unwrap_err();
    assert_eq!(fixture.history(&view).await, []);
}

async fn a_history_begins_with_what_is_there(fixture: Fixture) {
    let features = format!("{X}, {Y}");
    let text = one_view("numbers", ID, &features);
    let view = fixture.apply(&text).await.remove(0);
    let x = part(id(2), 2, 0, &[Some(Value::Double(1.0)), None]);
    let rows = vec![row(1, 1, 1.0), row(1, 2, 2.0), x.clone()];
    fixture.write(&view, rows).await;
    let view = kept(&fixture).await;
    assert!(view.history);
    let expected = in_order(vec![row(1, 2, 2.0), x]);
    assert_eq!(fixture.history(&view).await, expected);
    // It goes when it is wanted no longer, and begins anew.
    let view = fixture.apply(&text).await.remove(0);
    fixture.write(&view, vec![row(1, 3, 3.0)]).await;
    let view = kept(&fixture).await;
    let history = fixture.history(&view).await;
    assert_eq!(history.len(), 2);
    assert!(history.contains(&row(1, 3, 3.0)));
}

async fn an_entity_goes_with_its_history(fixture: Fixture) {
    let view = kept(&fixture).await;
    let rows = vec![row(1, 1, 1.0), row(1, 2, 2.0), row(2, 1, 3.0)];
    fixture.write(&view, rows).await;
    let views = [Arc::clone(&view)];
    assert_eq!(fixture.store.delete(&views, &id(1)).await.unwrap(), 1);
    assert_eq!(fixture.history(&view).await, [row(2, 1, 3.0)]);
}

fn number_rows(count: i32) -> Vec<WriteRow> {
    (0..count)
        .map(|entity| number(entity.into(), (entity % 10).into(), 0, entity.into()))
        .collect()
}

fn sorted(mut rows: Vec<WriteRow>) -> Vec<WriteRow> {
    rows.sort_by_key(|write| format!("{:?}", write.key));
    rows
}

async fn a_scan_gives_every_row_once(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let rows = number_rows(3_456);
    fixture.write(&view, rows.clone()).await;
    let found = fixture.scan(&view, Scan::default()).await.unwrap();
    assert_eq!(sorted(found), sorted(rows));
}

async fn a_scan_from_a_time_on(fixture: Fixture) {
    let view = kept(&fixture).await;
    let rows = vec![
        row(1, 1, 1.0),
        row(1, 5, 2.0),
        row(2, 4, 3.0),
        row(3, 3, 4.0),
    ];
    fixture.write(&view, rows).await;
    let since = Some(at(4));
    let found = fixture
        .scan(
            &view,
            Scan {
                history: false,
                since,
            },
        )
        .await;
    assert_eq!(sorted(found.unwrap()), [row(1, 5, 2.0), row(2, 4, 3.0)]);
    let since = Some(at(2));
    let found = fixture
        .scan(
            &view,
            Scan {
                history: true,
                since,
            },
        )
        .await;
    let expected = [row(1, 5, 2.0), row(2, 4, 3.0), row(3, 3, 4.0)];
    assert_eq!(sorted(found.unwrap()), expected);
}

async fn a_scan_of_nothing(fixture: Fixture) {
    let view = kept(&fixture).await;
    assert_eq!(fixture.scan(&view, Scan::default()).await.unwrap(), []);
    assert_eq!(fixture.history(&view).await, []);
}

async fn a_scan_that_nobody_takes_ends(fixture: Fixture) {
    let view = numbers(&fixture).await;
    fixture.write(&view, number_rows(10_000)).await;
    // More of them than there are connections, so that none may be kept.
    for _ in 0..20 {
        let (sink, mut batches) = mpsc::channel(1);
        let scan = fixture.store.scan(&view, Scan::default(), sink);
        let taking = async {
            let first = batches.recv().await.unwrap();
            assert!(!first.is_empty());
            drop(batches);
        };
        let (scanned, ()) = tokio::join!(scan, taking);
        scanned.unwrap();
    }
    let found = fixture.scan(&view, Scan::default()).await.unwrap();
    assert_eq!(found.len(), 10_000);
}

async fn a_view_without_history_says_so(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let scan = Scan {
        history: true,
        since: None,
    };
    let error = fixture.scan(&view, scan).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.message().contains("keeps no history"), "{error}");
}

async fn a_scan_is_of_one_moment(fixture: Fixture) {
    let view = numbers(&fixture).await;
    let all = |event| {
        (0..5_000)
            .map(move |entity| number(entity, event, 0, 0.0))
            .collect()
    };
    fixture.write(&view, all(1)).await;
    let (sink, mut batches) = mpsc::channel(1);
    let scan = fixture.store.scan(&view, Scan::default(), sink);
    let taking = async {
        let mut times = BTreeSet::new();
        let mut count = 0;
        while let Some(batch) = batches.recv().await {
            if count == 0 {
                fixture.write(&view, all(2)).await;
            }
            count += batch.len();
            times.extend(batch.iter().map(|write| write.row.time()));
        }
        assert_eq!(count, 5_000);
        assert_eq!(times, BTreeSet::from([time(1, 0)]));
    };
    let (scanned, ()) = tokio::join!(scan, taking);
    scanned.unwrap();
}
