//! Prediction jobs: each is one worker's at a time, and what is stored of it is stored once.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ferrocast::{
    error::ErrorKind,
    inference::{
        ChunkResult, ClaimRequest, ClaimedJob, Hold, JobBounds, JobEnd, JobError, JobFilter,
        JobState, JobStore, NewJob, PinnedVersion, PredictionJob,
    },
    stores::Store,
};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{fixtures::*, for_every_sql_store};

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
    a_job_that_is_given_back_goes_first_and_the_attempt_does_not_count,
    a_job_whose_workers_vanish_is_given_up,
    a_failed_job_leaves_nothing_behind,
    a_cancelled_job_is_nobodys,
    what_is_too_old_expires_and_is_forgotten_later,
    the_same_request_is_the_same_job,
    of_the_same_request_at_once_one_job_is_made,
    no_more_jobs_wait_than_may,
    no_more_is_kept_than_may,
);

const LONG: Duration = Duration::from_secs(600);

const BOUNDS: JobBounds = JobBounds {
    queued_max: 1_000,
    kept_max: 1_000,
    bytes_max: 1 << 30,
    run_max: LONG,
};

/// A job of 25 rows in chunks of 10.
fn new_job() -> NewJob {
    NewJob {
        id: Uuid::now_v7(),
        request_id: None,
        input_digest: "digest".to_owned(),
        model: "one".to_owned(),
        wanted_version: "chämpion".to_owned(),
        total: 25,
        chunk_rows: 10,
        input: vec![(0..=255).collect(), Vec::new(), vec![7; 100_000]],
    }
}

fn named(request_id: &str) -> NewJob {
    NewJob {
        request_id: Some(request_id.to_owned()),
        ..new_job()
    }
}

async fn submit(store: &Store) -> Uuid {
    let kept = store.submit_job(&new_job(), &BOUNDS).await.unwrap();
    assert_eq!(kept.state, JobState::Queued);
    kept.id
}

fn request(lease: Duration) -> ClaimRequest {
    ClaimRequest {
        worker: "here".to_owned(),
        models: vec!["other".to_owned(), "one".to_owned()],
        lease,
        attempts_max: 3,
    }
}

async fn claim(store: &Store, lease: Duration) -> Option<ClaimedJob> {
    store.claim_job(&request(lease)).await.unwrap()
}

async fn claimed(store: &Store) -> ClaimedJob {
    claim(store, LONG).await.expect("a job waits")
}

async fn job(store: &Store, id: Uuid) -> PredictionJob {
    store.prediction_job(id).await.unwrap().unwrap()
}

fn version(version: &str) -> PinnedVersion {
    PinnedVersion {
        version: version.to_owned(),
        digest: format!("digest of {version}"),
    }
}

/// The predictions of a chunk, which begins at a tenth row.
fn chunk(number: u32, content: &str) -> ChunkResult {
    ChunkResult {
        chunk: number,
        done_before: number * 10,
        done: (number * 10 + 10).min(25),
        result: content.as_bytes().to_vec(),
    }
}

async fn append(store: &Store, hold: &Hold, chunk: &ChunkResult) -> bool {
    store.append_result(hold, chunk, LONG).await.unwrap()
}

async fn results(store: &Store, id: Uuid) -> Vec<String> {
    let found = store.job_results(id, 0..100).await.unwrap();
    let found = found.into_iter();
    found
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .collect()
}

fn fault() -> JobError {
    JobError {
        kind: ErrorKind::InvalidArgument,
        message: "entities[3]: it's \"wrong\"".to_owned(),
    }
}

async fn end(store: &Store, hold: &Hold, end: JobEnd) -> bool {
    store.end_job(hold, &end, LONG).await.unwrap()
}

/// Scores all of a job.
async fn complete(store: &Store, claimed: &ClaimedJob) {
    for number in 0..3 {
        let chunk = chunk(number, &format!("chunk {number}"));
        assert!(append(store, &claimed.hold, &chunk).await);
    }
    assert!(end(store, &claimed.hold, JobEnd::Succeeded).await);
}

/// Whatever a hold allows is refused.
async fn assert_worthless(store: &Store, hold: &Hold) {
    assert!(!store.renew_job(hold, LONG).await.unwrap());
    assert!(!store.pin_job(hold, &version("9")).await.unwrap());
    for number in 0..3 {
        assert!(!append(store, hold, &chunk(number, "stale")).await);
    }
    assert!(!end(store, hold, JobEnd::Succeeded).await);
    assert!(!end(store, hold, JobEnd::Failed(fault())).await);
    assert!(!store.retry_job(hold, LONG, &fault()).await.unwrap());
    assert!(!store.give_back_job(hold).await.unwrap());
}

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
            .retry_job(&held, Duration::ZERO, &fault())
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
    assert!(store.retry_job(&again.hold, LONG, &fault()).await.unwrap());
    assert_eq!(claim(store, LONG).await, None);
    assert_eq!(results(store, id).await, ["stays"]);
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
) -> Vec<Result<PredictionJob, ferrocast::error::Error>> {
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
