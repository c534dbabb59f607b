//! How many prediction jobs there are, and how they go: the same one twice, too many, failed, cancelled, expired.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ferrocast::{
    error::{Error, ErrorKind},
    inference::{JobBounds, JobEnd, JobState, JobStore, NewJob, PredictionJob},
};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{fixtures::*, for_every_sql_store, jobs_support::*};

for_every_sql_store!(
    a_failed_job_leaves_nothing_behind,
    a_cancelled_job_is_nobodys,
    what_is_too_old_expires_and_is_forgotten_later,
    the_same_request_is_the_same_job,
    of_the_same_request_at_once_one_job_is_made,
    no_more_jobs_wait_than_may,
    no_more_is_kept_than_may,
);

async fn a_failed_job_leaves_nothing_behind(fixture: Fixture) {
    let store = &fixture.store;
    let id = submit(store).await;
    let held = claimed(store).await.hold;
    assert!(append(store, &held, &chunk(0, "in vain")).await);
    assert!(end(store, &held, JobEnd::Failed(fault())).await);
    let failed = job(store, id).await;
    assert_eq!(
        (failed.state, failed.error),
        (JobState::Failed, Some(fault()))
    );
    assert!(results(store, id).await.is_empty());
    assert!(store.job_input(id).await.unwrap().is_empty());
    // The room is free again, to the byte.
    let exact = JobBounds {
        bytes_max: u64::try_from(new_job().input.iter().map(Vec::len).sum::<usize>()).unwrap(),
        ..BOUNDS
    };
    store.submit_job(&new_job(), &exact).await.unwrap();
}

async fn a_cancelled_job_is_nobodys(fixture: Fixture) {
    let store = &fixture.store;
    let (first, second) = (submit(store).await, submit(store).await);
    let running = claimed(store).await;
    assert!(append(store, &running.hold, &chunk(0, "in vain")).await);
    for id in [first, second] {
        let cancelled = store.cancel_job(id, LONG).await.unwrap().unwrap();
        assert_eq!((cancelled.id, cancelled.state), (id, JobState::Cancelled));
        assert!(cancelled.ended_at.is_some());
        assert!(store.job_input(id).await.unwrap().is_empty());
    }
    assert!(results(store, first).await.is_empty());
    assert_worthless(store, &running.hold).await;
    assert_eq!(claim(store, LONG).await, None);

    submit(store).await;
    let done = claimed(store).await;
    complete(store, &done).await;
    let before = job(store, done.job.id).await;
    let after = store.cancel_job(done.job.id, LONG).await.unwrap();
    assert_eq!(after, Some(before));
    assert_eq!(results(store, done.job.id).await.len(), 3);
    assert_eq!(store.cancel_job(Uuid::now_v7(), LONG).await.unwrap(), None);
}

async fn what_is_too_old_expires_and_is_forgotten_later(fixture: Fixture) {
    let store = &fixture.store;
    let at_once = JobBounds {
        run_max: Duration::ZERO,
        ..BOUNDS
    };
    let kept = submit(store).await;
    let running = claimed(store).await;
    assert_eq!(running.job.id, kept);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(store.submit_job(&new_job(), &at_once).await.unwrap().id);
    }
    let overtaken = claimed(store).await;

    // Two at a time.
    let mut unended = Vec::new();
    for expected in [2, 1, 0] {
        let expired = store.expire_jobs(2, &fault(), LONG).await.unwrap();
        assert_eq!((expired.emptied, expired.forgotten), (0, 0));
        assert_eq!(expired.unended.len(), expected);
        unended.extend(expired.unended);
    }
    for job in &unended {
        assert_eq!((job.state, &job.error), (JobState::Expired, &Some(fault())));
    }
    let unended: BTreeSet<Uuid> = unended.iter().map(|job| job.id).collect();
    assert_eq!(unended, ids.into_iter().collect());
    assert_worthless(store, &overtaken.hold).await;
    assert!(store.job_input(overtaken.job.id).await.unwrap().is_empty());

    for number in 0..3 {
        assert!(append(store, &running.hold, &chunk(number, "soon gone")).await);
    }
    let ended = store.end_job(&running.hold, &JobEnd::Succeeded, Duration::ZERO);
    assert!(ended.await.unwrap());
    let expired = store
        .expire_jobs(9, &fault(), Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(
        (expired.unended.len(), expired.emptied, expired.forgotten),
        (0, 1, 0)
    );
    let emptied = job(store, kept).await;
    assert_eq!(
        (emptied.state, emptied.done, emptied.error),
        (JobState::Expired, 25, None)
    );
    assert!(results(store, kept).await.is_empty());
    let expired = store.expire_jobs(9, &fault(), LONG).await.unwrap();
    assert_eq!((expired.emptied, expired.forgotten), (0, 1));
    assert_eq!(store.prediction_job(kept).await.unwrap(), None);
}

async fn the_same_request_is_the_same_job(fixture: Fixture) {
    let store = &fixture.store;
    let first = store.submit_job(&named("mine"), &BOUNDS).await.unwrap();
    let full = JobBounds {
        queued_max: 1,
        ..BOUNDS
    };
    // Where there is no room for another one, too.
    let again = store.submit_job(&named("mine"), &full).await.unwrap();
    assert_eq!(again, first);
    let claimed = claimed(store).await;
    complete(store, &claimed).await;
    let again = store.submit_job(&named("mine"), &BOUNDS).await.unwrap();
    assert_eq!((again.id, again.state), (first.id, JobState::Succeeded));

    let other = NewJob {
        input_digest: "another".to_owned(),
        ..named("mine")
    };
    let refused = store.submit_job(&other, &BOUNDS).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.message().contains("\"mine\""), "{refused}");
    assert!(store.submit_job(&named("yours"), &BOUNDS).await.unwrap().id != first.id);
}

/// What comes of submissions at once, through two stores.
async fn submit_at_once(
    fixture: &Fixture,
    jobs: Vec<NewJob>,
    bounds: JobBounds,
) -> Vec<Result<PredictionJob, Error>> {
    let another = fixture.another().await;
    let mut callers = JoinSet::new();
    for (number, job) in jobs.into_iter().enumerate() {
        let store = if number % 2 == 0 {
            &fixture.store
        } else {
            &another
        };
        let store = Arc::clone(store);
        callers.spawn(async move { store.submit_job(&job, &bounds).await });
    }
    callers.join_all().await
}

async fn of_the_same_request_at_once_one_job_is_made(fixture: Fixture) {
    let jobs = (0..8).map(|_| named("mine")).collect();
    let kept = submit_at_once(&fixture, jobs, BOUNDS).await;
    let ids: BTreeSet<Uuid> = kept.into_iter().map(|job| job.unwrap().id).collect();
    assert_eq!(ids.len(), 1);
    let claimed = claimed(&fixture.store).await;
    assert!(ids.contains(&claimed.job.id));
    assert_eq!(
        fixture.store.job_input(claimed.job.id).await.unwrap(),
        new_job().input
    );
    assert_eq!(claim(&fixture.store, LONG).await, None);
}

async fn no_more_jobs_wait_than_may(fixture: Fixture) {
    let bounds = JobBounds {
        queued_max: 3,
        ..BOUNDS
    };
    let jobs = (0..10).map(|_| new_job()).collect();
    let answers = submit_at_once(&fixture, jobs, bounds).await;
    let (kept, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((kept.len(), refused.len()), (3, 7));
    for refused in refused {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Overloaded);
        assert!(refused.message().contains("jobs.queued_max"), "{refused}");
    }
    // A job that runs does not wait.
    claimed(&fixture.store).await;
    fixture.store.submit_job(&new_job(), &bounds).await.unwrap();
    assert!(fixture.store.submit_job(&new_job(), &bounds).await.is_err());
}

async fn no_more_is_kept_than_may(fixture: Fixture) {
    let store = &fixture.store;
    submit(store).await;
    let done = claimed(store).await;
    complete(store, &done).await;
    let input = new_job().input.iter().map(Vec::len).sum::<usize>();
    let results = results(store, done.job.id).await.concat().len();
    let all = u64::try_from(input + results).unwrap();
    for (bounds, setting) in [
        (
            JobBounds {
                kept_max: 1,
                ..BOUNDS
            },
            "jobs.kept_max",
        ),
        (
            JobBounds {
                bytes_max: all - 1,
                ..BOUNDS
            },
            "jobs.bytes_max",
        ),
    ] {
        let refused = store.submit_job(&new_job(), &bounds).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Overloaded);
        assert!(refused.message().contains(setting), "{refused}");
    }
    let bounds = JobBounds {
        kept_max: 2,
        bytes_max: all,
        ..BOUNDS
    };
    store.submit_job(&new_job(), &bounds).await.unwrap();
}
