//! Prediction jobs under their workers: each is one worker's at a time, and what is stored of it is stored once.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ferrocast::inference::{ClaimRequest, JobEnd, JobFilter, JobState, JobStore, NewJob};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{fixtures::*, for_every_sql_store, jobs_support::*};

for_every_sql_store!(
    a_job_is_as_it_was_submitted,
    jobs_are_listed_the_newest_first_page_by_page,
    of_many_workers_each_job_has_one,
    the_job_that_waited_longest_is_taken_of_models_that_the_worker_has,
    a_lease_that_ran_out_is_worth_nothing,
    a_lease_that_lasts_keeps_others_away,
    chunks_come_in_order_and_pages_are_exact,
    another_version_begins_anew,
    a_failed_attempt_waits_and_says_why,
    an_attempt_that_is_not_counted_leaves_its_tries,
    what_a_worker_declines_is_taken_by_others,
    a_waiting_job_without_attempts_left_is_given_up,
    a_job_that_is_given_back_goes_first_and_the_attempt_does_not_count,
    a_job_whose_workers_vanish_is_given_up,
);

async fn a_job_is_as_it_was_submitted(fixture: Fixture) {
    let store = &fixture.store;
    let new = NewJob {
        request_id: Some("mine, \u{1f600}".to_owned()),
        ..new_job()
    };
    let kept = store.submit_job(&new, &BOUNDS).await.unwrap();
    assert_eq!(kept, job(store, new.id).await);
    assert_eq!(kept.id, new.id);
    assert_eq!(kept.request_id, new.request_id);
    assert_eq!(
        (&kept.model, &kept.wanted_version),
        (&new.model, &new.wanted_version)
    );
    assert_eq!((kept.total, kept.done, kept.chunk_rows), (25, 0, 10));
    assert_eq!((kept.attempts, kept.tries), (0, 0));
    assert_eq!((kept.version, kept.error), (None, None));
    assert_eq!((kept.started_at, kept.ended_at), (None, None));
    let lasts = kept.expires_at.micros() - kept.submitted_at.micros();
    assert_eq!(u128::try_from(lasts).unwrap(), LONG.as_micros());
    assert_eq!(store.job_input(new.id).await.unwrap(), new.input);
    assert_eq!(store.prediction_job(Uuid::now_v7()).await.unwrap(), None);
}

async fn jobs_are_listed_the_newest_first_page_by_page(fixture: Fixture) {
    let store = &fixture.store;
    let mut ids = Vec::new();
    for number in 0..5 {
        let new = NewJob {
            model: if number == 2 { "other" } else { "one" }.to_owned(),
            ..new_job()
        };
        ids.push(store.submit_job(&new, &BOUNDS).await.unwrap().id);
    }
    ids.reverse();
    store.cancel_job(ids[1], LONG).await.unwrap();
    let list = async |filter: JobFilter| -> Vec<Uuid> {
        let found = store.prediction_jobs(&filter).await.unwrap();
        found.into_iter().map(|job| job.id).collect()
    };
    let all = JobFilter {
        limit: 3,
        ..JobFilter::default()
    };
    assert_eq!(list(all.clone()).await, ids[..3]);
    let older = JobFilter {
        before: Some(ids[2]),
        ..all.clone()
    };
    assert_eq!(list(older).await, ids[3..]);
    let of_model = JobFilter {
        model: Some("other".to_owned()),
        ..all.clone()
    };
    assert_eq!(list(of_model).await, [ids[2]]);
    let cancelled = JobFilter {
        state: Some(JobState::Cancelled),
        ..all
    };
    assert_eq!(list(cancelled).await, [ids[1]]);
}

/// Two stores, as two servers have them.
async fn of_many_workers_each_job_has_one(fixture: Fixture) {
    let mut ids = BTreeSet::new();
    for _ in 0..40 {
        ids.insert(submit(&fixture.store).await);
    }
    let another = fixture.another().await;
    let mut workers = JoinSet::new();
    for number in 0..8 {
        let store = if number % 2 == 0 {
            &fixture.store
        } else {
            &another
        };
        let store = Arc::clone(store);
        workers.spawn(async move {
            let mut taken = Vec::new();
            while let Some(claimed) = claim(&store, LONG).await {
                taken.push(claimed.job.id);
            }
            taken
        });
    }
    let taken = workers.join_all().await.concat();
    assert_eq!(taken.len(), 40);
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), ids);
}

async fn the_job_that_waited_longest_is_taken_of_models_that_the_worker_has(fixture: Fixture) {
    let store = &fixture.store;
    let strange = NewJob {
        model: "strange".to_owned(),
        ..new_job()
    };
    store.submit_job(&strange, &BOUNDS).await.unwrap();
    let ids = [submit(store).await, submit(store).await];
    for id in ids {
        let claimed = claimed(store).await;
        assert_eq!(claimed.job.id, id);
        assert_eq!(claimed.job.state, JobState::Running);
        assert_eq!((claimed.job.attempts, claimed.job.tries), (1, 1));
        assert!(claimed.job.started_at >= Some(claimed.job.submitted_at));
        assert_eq!(claimed.job, job(store, id).await);
    }
    assert_eq!(claim(store, LONG).await, None);
    assert_eq!(job(store, strange.id).await.state, JobState::Queued);
}

async fn a_lease_that_ran_out_is_worth_nothing(fixture: Fixture) {
    let store = &fixture.store;
    let id = submit(store).await;
    let first = claim(store, Duration::ZERO).await.unwrap();
    assert!(store.pin_job(&first.hold, &version("1")).await.unwrap());
    // It renews the lease: so far nobody has claimed the job anew.
    let stored = chunk(0, "first");
    assert!(
        store
            .append_result(&first.hold, &stored, Duration::ZERO)
            .await
            .unwrap()
    );

    let second = claimed(store).await;
    assert_eq!((second.job.id, second.job.attempts), (id, 2));
    assert_eq!(
        (second.job.done, &second.job.version),
        (10, &Some(version("1")))
    );
    assert_eq!(second.job.started_at, first.job.started_at);
    let before = job(store, id).await;
    assert_worthless(store, &first.hold).await;
    assert_eq!(job(store, id).await, before);
    assert_eq!(results(store, id).await, ["first"]);

    assert!(append(store, &second.hold, &chunk(1, "second")).await);
    assert!(append(store, &second.hold, &chunk(2, "third")).await);
    assert!(end(store, &second.hold, JobEnd::Succeeded).await);
    assert_worthless(store, &first.hold).await;
    assert_worthless(store, &second.hold).await;
    assert_eq!(results(store, id).await, ["first", "second", "third"]);
    let ended = job(store, id).await;
    assert_eq!((ended.state, ended.done), (JobState::Succeeded, 25));
    assert!(ended.ended_at > ended.started_at);
    assert!(store.job_input(id).await.unwrap().is_empty());
    assert_eq!(claim(store, LONG).await, None);
}

async fn a_lease_that_lasts_keeps_others_away(fixture: Fixture) {
    let store = &fixture.store;
    submit(store).await;
    let claimed = claim(store, Duration::ZERO).await.unwrap();
    assert!(store.renew_job(&claimed.hold, LONG).await.unwrap());
    assert_eq!(claim(store, LONG).await, None);
}

async fn chunks_come_in_order_and_pages_are_exact(fixture: Fixture) {
    let store = &fixture.store;
    let id = submit(store).await;
    let held = claimed(store).await.hold;
    assert!(!end(store, &held, JobEnd::Succeeded).await);
    assert!(!append(store, &held, &chunk(1, "too early")).await);
    for number in 0..3 {
        assert!(append(store, &held, &chunk(number, &number.to_string())).await);
        // The answer was lost, and it is sent again.
        assert!(!append(store, &held, &chunk(number, "again")).await);
        let progress = job(store, id).await;
        assert_eq!(
            (progress.done, progress.tries),
            ((number * 10 + 10).min(25), 1)
        );
    }
    assert!(end(store, &held, JobEnd::Succeeded).await);
    for (chunks, expected) in [
        (0..3, vec!["0", "1", "2"]),
        (1..2, vec!["1"]),
        (2..9, vec!["2"]),
        (3..9, Vec::new()),
    ] {
        let found = store.job_results(id, chunks).await.unwrap();
        let expected: Vec<&[u8]> = expected.iter().map(|text| text.as_bytes()).collect();
        assert_eq!(found, expected);
    }
    assert!(
        store
            .job_results(Uuid::now_v7(), 0..9)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn another_version_begins_anew(fixture: Fixture) {
    let store = &fixture.store;
    let id = submit(store).await;
    let held = claimed(store).await.hold;
    assert!(store.pin_job(&held, &version("1")).await.unwrap());
    assert!(append(store, &held, &chunk(0, "by 1")).await);
    assert!(store.pin_job(&held, &version("2")).await.unwrap());
    assert_eq!(results(store, id).await, [""; 0]);
    let pinned = job(store, id).await;
    assert_eq!((pinned.done, pinned.version), (0, Some(version("2"))));
    for number in 0..3 {
        assert!(append(store, &held, &chunk(number, "by 2")).await);
    }
    assert!(end(store, &held, JobEnd::Succeeded).await);
    assert_eq!(results(store, id).await, ["by 2"; 3]);
}

async fn a_failed_attempt_waits_and_says_why(fixture: Fixture) {
    let store = &fixture.store;
    let id = submit(store).await;
    let held = claimed(store).await.hold;
    assert!(append(store, &held, &chunk(0, "stays")).await);
    assert!(
        store
            .retry_job(&held, Duration::ZERO, &fault(), true)
            .await
            .unwrap()
    );
    let waiting = job(store, id).await;
    assert_eq!(
        (waiting.state, &waiting.error),
        (JobState::Queued, &Some(fault()))
    );
    assert_worthless(store, &held).await;

    let again = claimed(store).await;
    assert_eq!(
        (again.job.attempts, again.job.tries, again.job.done),
        (2, 2, 10)
    );
    assert!(
        store
            .retry_job(&again.hold, LONG, &fault(), true)
            .await
            .unwrap()
    );
    assert_eq!(claim(store, LONG).await, None);
    assert_eq!(results(store, id).await, ["stays"]);
}

async fn an_attempt_that_is_not_counted_leaves_its_tries(fixture: Fixture) {
    let store = &fixture.store;
    let id = submit(store).await;
    for attempt in 1..=5 {
        let held = claimed(store).await;
        assert_eq!((held.job.attempts, held.job.tries), (attempt, 1));
        let fault = fault();
        let retried = store.retry_job(&held.hold, Duration::ZERO, &fault, false);
        assert!(retried.await.unwrap());
    }
    let waiting = job(store, id).await;
    assert_eq!((waiting.tries, waiting.error), (0, Some(fault())));
}

async fn what_a_worker_declines_is_taken_by_others(fixture: Fixture) {
    let store = &fixture.store;
    let ids = [submit(store).await, submit(store).await];
    let declining = |declined: &[Uuid]| ClaimRequest {
        declined: declined.to_vec(),
        ..request(LONG)
    };
    let none = store.claim_job(&declining(&ids)).await.unwrap();
    assert_eq!(none, None);
    let second = store.claim_job(&declining(&ids[..1])).await.unwrap();
    assert_eq!(second.unwrap().job.id, ids[1]);
    assert_eq!(claimed(store).await.job.id, ids[0]);
}

/// As where fewer attempts are allowed than there were.
async fn a_waiting_job_without_attempts_left_is_given_up(fixture: Fixture) {
    let store = &fixture.store;
    let id = submit(store).await;
    for _ in 0..2 {
        let held = claimed(store).await;
        let fault = fault();
        let retried = store.retry_job(&held.hold, Duration::ZERO, &fault, true);
        assert!(retried.await.unwrap());
    }
    assert!(
        store
            .fail_lost_jobs(3, &fault(), LONG)
            .await
            .unwrap()
            .is_empty()
    );
    let failed = store.fail_lost_jobs(2, &fault(), LONG).await.unwrap();
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].id, failed[0].state), (id, JobState::Failed));
}

async fn a_job_that_is_given_back_goes_first_and_the_attempt_does_not_count(fixture: Fixture) {
    let store = &fixture.store;
    let ids = [submit(store).await, submit(store).await];
    for attempt in 1..=5 {
        let claimed = claimed(store).await;
        assert_eq!(claimed.job.id, ids[0]);
        assert_eq!((claimed.job.attempts, claimed.job.tries), (attempt, 1));
        assert!(store.give_back_job(&claimed.hold).await.unwrap());
        assert_worthless(store, &claimed.hold).await;
    }
    assert_eq!(job(store, ids[0]).await.state, JobState::Queued);
}

async fn a_job_whose_workers_vanish_is_given_up(fixture: Fixture) {
    let store = &fixture.store;
    let id = submit(store).await;
    let give_up = async || store.fail_lost_jobs(3, &fault(), LONG).await.unwrap();
    for tries in 1..=3 {
        assert!(give_up().await.is_empty());
        let claimed = claim(store, Duration::ZERO).await.unwrap();
        assert_eq!(claimed.job.tries, tries);
    }
    assert_eq!(claim(store, LONG).await, None);
    let failed = give_up().await;
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].id, failed[0].state), (id, JobState::Failed));
    assert_eq!(failed[0].error, Some(fault()));
    assert!(give_up().await.is_empty());

    // Who gets on begins to count anew.
    let id = submit(store).await;
    for number in 0..3 {
        let claimed = claim(store, Duration::ZERO).await.unwrap();
        let stored = chunk(number, "on");
        assert!(
            store
                .append_result(&claimed.hold, &stored, Duration::ZERO)
                .await
                .unwrap()
        );
    }
    assert!(give_up().await.is_empty());
    let last = claimed(store).await;
    assert_eq!((last.job.id, last.job.attempts, last.job.tries), (id, 4, 2));
    assert!(end(store, &last.hold, JobEnd::Succeeded).await);
}
