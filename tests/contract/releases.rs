//! Releases of models: one change at a time, each with its event.

use std::sync::Arc;

use ferrocast::{
    inference::{Author, EventKind, Release, ReleaseEvent, ReleaseStore, Share, Traffic},
    stores::Store,
};
use tokio::task::JoinSet;

use crate::{fixtures::*, for_every_sql_store};

for_every_sql_store!(
    a_release_comes_back_as_it_was_kept,
    a_release_of_another_revision_is_not_replaced,
    of_many_at_once_one_is_kept,
);

fn release(revision: i64) -> Release {
    Release {
        revision,
        aliases: [
            ("champion".to_owned(), Some(revision.to_string())),
            ("gone".to_owned(), None),
        ]
        .into(),
        traffic: Some(Traffic {
            canary: vec![Share {
                version: "chällenger".to_owned(),
                weight: 1,
            }],
            shadow: vec!["2".to_owned()],
        }),
        unloaded: ["7".to_owned()].into(),
    }
}

fn event(model: &str, revision: i64) -> ReleaseEvent {
    ReleaseEvent {
        model: model.to_owned(),
        revision,
        at: at(revision),
        author: Author {
            actor: "ada".to_owned(),
            peer: "::1".to_owned(),
            reason: "it's \"better\"".to_owned(),
        },
        kind: EventKind::Alias,
        name: "champion".to_owned(),
        before: (revision > 1).then(|| (revision - 1).to_string()),
        after: Some(revision.to_string()),
    }
}

/// Keeps the release of a revision; says whether it was.
async fn keep(store: &Store, revision: i64) -> bool {
    let (release, event) = (release(revision), event("one", revision));
    store.put_release(&release, &event).await.unwrap()
}

async fn a_release_comes_back_as_it_was_kept(fixture: Fixture) {
    let store = &fixture.store;
    assert!(store.releases().await.unwrap().is_empty());
    assert_eq!(store.releases_revision().await.unwrap(), 0);
    for revision in 1..=3 {
        assert!(keep(store, revision).await);
    }
    assert!(
        store
            .put_release(&release(1), &event("other", 1))
            .await
            .unwrap()
    );
    let found = store.releases().await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found["one"], release(3));
    assert_eq!(found["other"], release(1));
    assert_eq!(store.releases_revision().await.unwrap(), 4);
    let events = store.release_events("one", 2).await.unwrap();
    assert_eq!(events, [event("one", 3), event("one", 2)]);
    let events = store.release_events("one", 10).await.unwrap();
    assert_eq!(events.last(), Some(&event("one", 1)));
    assert!(store.release_events("none", 10).await.unwrap().is_empty());
}

async fn a_release_of_another_revision_is_not_replaced(fixture: Fixture) {
    let store = &fixture.store;
    assert!(keep(store, 1).await);
    for revision in [1, 3] {
        assert!(!keep(store, revision).await, "{revision}");
    }
    assert_eq!(store.releases().await.unwrap()["one"], release(1));
    assert_eq!(store.release_events("one", 10).await.unwrap().len(), 1);
}

async fn of_many_at_once_one_is_kept(fixture: Fixture) {
    for revision in 1..=3 {
        let mut callers = JoinSet::new();
        for _ in 0..8 {
            let store = Arc::clone(&fixture.store);
            callers.spawn(async move { keep(&store, revision).await });
        }
        let kept = callers.join_all().await;
        assert_eq!(kept.into_iter().filter(|kept| *kept).count(), 1);
    }
    assert_eq!(fixture.store.releases_revision().await.unwrap(), 3);
}
