//! Reads that come while others run: how many queries they are, what they see, and what of one caller's is another's.

use std::{sync::Arc, time::Duration};

use ferrocast::{
    catalog::FeatureView,
    error::{Error, ErrorKind, Result},
    features::{EntityKey, FrontStore, JoinBounds, OnlineStore, StoredRow, Value},
};
use tokio::task::JoinHandle;

use crate::{fixtures::*, gate::eventually, gated::Gated};

const ONE_AT_ONCE: JoinBounds = JoinBounds {
    queries_max: 1,
    query_keys_max: 1_000,
    waiting_keys_max: 100,
};

type Answer = Result<Vec<Option<StoredRow>>>;

/// A view with a row of each of some entities, a gate before it, and reads that are joined before that.
struct Scene {
    fixture: Fixture,
    view: Arc<FeatureView>,
    gated: Arc<Gated>,
    store: Arc<FrontStore>,
}

impl Scene {
    async fn new(bounds: JoinBounds) -> Scene {
        Scene::saying(bounds, |_| None).await
    }

    async fn saying(
        bounds: JoinBounds,
        says: impl Fn(&[EntityKey]) -> Option<Error> + Send + Sync + 'static,
    ) -> Scene {
        let fixture = sqlite().await;
        let view = numbers(&fixture).await;
        let rows = (1..=9).map(|entity| number(entity, 1, 0, 1.0));
        fixture.write(&view, rows.collect()).await;
        let gated = Gated::saying(fixture.store.clone(), Box::new(says));
        let store = Arc::new(FrontStore::new(gated.clone(), bounds, None));
        Scene {
            fixture,
            view,
            gated,
            store,
        }
    }

    /// Begins to read; the caller has come as far as it can by itself when this returns.
    async fn begin(&self, entities: &[i64]) -> JoinHandle<Answer> {
        let (store, view) = (Arc::clone(&self.store), Arc::clone(&self.view));
        let keys: Vec<EntityKey> = entities.iter().map(|entity| id(*entity)).collect();
        let reading = tokio::spawn(async move { store.read(&view, &keys).await });
        // On this runtime of one thread everyone else has had a turn then.
        tokio::task::yield_now().await;
        reading
    }

    /// A read that is under way, and holds up those after it.
    async fn begin_first(&self, entity: i64) -> JoinHandle<Answer> {
        let first = self.begin(&[entity]).await;
        self.gated.has_read().await;
        first
    }
}

fn x(answer: &[Option<StoredRow>]) -> Vec<Option<Value>> {
    let value = |row: &Option<StoredRow>| row.as_ref().map(|row| row.values[0].clone());
    answer.iter().map(value).collect()
}

#[tokio::test]
async fn what_waits_goes_as_one_query_and_each_key_once() {
    let scene = Scene::new(ONE_AT_ONCE).await;
    let first = scene.begin_first(1).await;
    let mut waiting = Vec::new();
    for caller in 0..40 {
        waiting.push(scene.begin(&[2 + caller % 4, 100]).await);
    }
    scene.gated.open();
    assert_eq!(
        x(&first.await.unwrap().unwrap()),
        [Some(Value::Double(1.0))]
    );
    for reading in waiting {
        let found = reading.await.unwrap().unwrap();
        assert_eq!(x(&found), [Some(Value::Double(1.0)), None]);
    }
    let joined: Vec<EntityKey> = [2, 100, 3, 4, 5].map(id).into();
    assert_eq!(scene.gated.reads(), [vec![id(1)], joined]);
}

#[tokio::test]
async fn as_many_queries_run_at_once_as_are_allowed() {
    let bounds = JoinBounds {
        queries_max: 2,
        ..ONE_AT_ONCE
    };
    let scene = Scene::new(bounds).await;
    let mut reading = vec![scene.begin_first(1).await, scene.begin_first(2).await];
    for entity in [3, 4] {
        reading.push(scene.begin(&[entity]).await);
    }
    assert_eq!(scene.gated.reads().len(), 2);
    scene.gated.let_one_through();
    scene.gated.has_read().await;
    assert_eq!(scene.gated.reads()[2], [id(3), id(4)]);
    scene.gated.open();
    for reading in reading {
        assert!(reading.await.unwrap().unwrap()[0].is_some());
    }
}

/// It must not be answered by the query that is under way, which has read before the write.
#[tokio::test]
async fn a_read_that_begins_after_a_write_sees_it() {
    let scene = Scene::new(ONE_AT_ONCE).await;
    let early = scene.begin_first(1).await;
    let rows = vec![number(1, 2, 0, 2.0)];
    scene.store.write(&scene.view, rows).await.unwrap();
    let late = scene.begin(&[1]).await;
    // As another process would.
    let rows = vec![number(1, 3, 0, 3.0)];
    scene.fixture.write(&scene.view, rows).await;
    let latest = scene.begin(&[1]).await;
    scene.gated.open();
    assert_eq!(
        x(&early.await.unwrap().unwrap()),
        [Some(Value::Double(1.0))]
    );
    for reading in [late, latest] {
        let found = reading.await.unwrap().unwrap();
        assert_eq!(x(&found), [Some(Value::Double(3.0))]);
    }
}

#[tokio::test]
async fn whoever_leaves_takes_nobody_along() {
    let scene = Scene::new(ONE_AT_ONCE).await;
    let first = scene.begin_first(1).await;
    let leaves_early = scene.begin(&[2]).await;
    let leaves_late = scene.begin(&[2]).await;
    let stays = scene.begin(&[2, 3]).await;
    leaves_early.abort();
    scene.gated.let_one_through();
    scene.gated.has_read().await;
    leaves_late.abort();
    assert!(leaves_late.await.unwrap_err().is_cancelled());
    scene.gated.open();
    assert!(first.await.unwrap().is_ok());
    let found = stays.await.unwrap().unwrap();
    assert_eq!(
        x(&found),
        [Some(Value::Double(1.0)), Some(Value::Double(1.0))]
    );
    assert_eq!(scene.gated.given_up(), 0);
}

#[tokio::test]
async fn a_query_that_nobody_waits_for_is_given_up_and_leaves_its_place() {
    let scene = Scene::new(ONE_AT_ONCE).await;
    let first = scene.begin_first(1).await;
    let gone = scene.begin(&[2]).await;
    gone.abort();
    first.abort();
    eventually(async || scene.gated.given_up() == 1).await;
    let next = scene.begin_first(3).await;
    scene.gated.open();
    assert!(next.await.unwrap().unwrap()[0].is_some());
    // Nobody was left to ask for the second.
    assert_eq!(scene.gated.reads(), [[id(1)], [id(3)]]);
}

#[tokio::test]
async fn a_store_that_is_away_is_away_for_everyone_who_waited() {
    let away = |_: &[EntityKey]| Some(Error::unavailable("the store is away"));
    let scene = Scene::saying(ONE_AT_ONCE, away).await;
    let mut reading = vec![scene.begin_first(1).await];
    for entity in [2, 3, 2] {
        reading.push(scene.begin(&[entity]).await);
    }
    scene.gated.open();
    for reading in reading {
        let fault = reading.await.unwrap().unwrap_err();
        assert_eq!(fault.kind(), ErrorKind::Unavailable);
        assert_eq!(fault.message(), "the store is away");
    }
    assert_eq!(scene.gated.reads().len(), 2);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_the_concern_of_who_asked_for_it() {
    let unfit = |keys: &[EntityKey]| {
        let is_asked = keys.contains(&id(3));
        is_asked.then(|| Error::failed_precondition("the row of 3 holds no number"))
    };
    let scene = Scene::saying(ONE_AT_ONCE, unfit).await;
    let first = scene.begin_first(1).await;
    let (good, bad) = (scene.begin(&[2]).await, scene.begin(&[3, 4]).await);
    scene.gated.open();
    assert!(first.await.unwrap().is_ok());
    assert!(good.await.unwrap().unwrap()[0].is_some());
    let fault = bad.await.unwrap().unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::FailedPrecondition);
}

#[tokio::test]
async fn a_query_that_panics_is_an_error_and_leaves_its_place() {
    let scene = Scene::saying(ONE_AT_ONCE, |keys| {
        assert!(!keys.contains(&id(1)), "as the test wants it");
        None
    })
    .await;
    let first = scene.begin_first(1).await;
    let second = scene.begin(&[2]).await;
    scene.gated.open();
    let fault = first.await.unwrap().unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::Internal);
    assert!(second.await.unwrap().unwrap()[0].is_some());
    let third = scene.begin(&[3]).await;
    assert!(third.await.unwrap().unwrap()[0].is_some());
}

#[tokio::test]
async fn more_keys_than_may_wait_are_refused() {
    let bounds = JoinBounds {
        waiting_keys_max: 3,
        ..ONE_AT_ONCE
    };
    let scene = Scene::new(bounds).await;
    let first = scene.begin_first(1).await;
    // However large it is, one may wait.
    let waits = scene.begin(&[2, 3, 4, 5]).await;
    let refused = scene.begin(&[6]).await;
    let fault = refused.await.unwrap().unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::Overloaded);
    assert!(
        fault.message().contains("reads.waiting_keys_max"),
        "{fault}"
    );
    scene.gated.open();
    assert!(first.await.unwrap().is_ok());
    assert_eq!(waits.await.unwrap().unwrap().len(), 4);
    // They wait no more.
    assert!(scene.begin(&[6]).await.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_query_has_no_more_keys_than_are_allowed() {
    let bounds = JoinBounds {
        query_keys_max: 2,
        ..ONE_AT_ONCE
    };
    let scene = Scene::new(bounds).await;
    let mut reading = vec![scene.begin_first(1).await];
    for entities in [&[2][..], &[3], &[4], &[5, 6, 7], &[8]] {
        reading.push(scene.begin(entities).await);
    }
    scene.gated.open();
    for reading in reading {
        assert!(reading.await.unwrap().is_ok());
    }
    let asked = [&[1][..], &[2, 3], &[4], &[5, 6, 7], &[8]];
    let asked = asked.map(|ids| ids.iter().copied().map(id).collect::<Vec<_>>());
    assert_eq!(scene.gated.reads(), asked);
}

/// What is waiting is of one definition: another one reads other columns.
#[tokio::test]
async fn another_definition_is_another_query() {
    const Y: &str = r#"{ name = "y", type = "double" }"#;
    let scene = Scene::new(ONE_AT_ONCE).await;
    let first = scene.begin_first(1).await;
    let both = one_view("numbers", ID, &format!("{X}, {Y}"));
    let wider = scene.fixture.apply(&both).await.remove(0);
    let store = Arc::clone(&scene.store);
    let second = tokio::spawn(async move { store.read(&wider, &[id(1)]).await });
    let deadline = tokio::time::timeout(Duration::from_secs(60), scene.gated.has_read());
    deadline.await.unwrap();
    scene.gated.open();
    assert_eq!(
        first.await.unwrap().unwrap()[0]
            .clone()
            .unwrap()
            .values
            .len(),
        1
    );
    assert_eq!(
        second.await.unwrap().unwrap()[0]
            .clone()
            .unwrap()
            .values
            .len(),
        2
    );
}
