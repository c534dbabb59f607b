//! Prediction jobs outlive servers: killed ones, stopped ones, and a database that is away.

use std::time::{Duration, SystemTime};

use ferrocast::grpc::pb::prediction_job::State;

use crate::{
    jobs_support::{
        Client, all_loans, assert_same, at_once, connect, is_halfway, job, made_at_ms, predictions,
        submission, submit, succeeded, until,
    },
    postgres::Postgres,
    serving::Serving,
    support::{Running, fill, filled_sqlite},
};

/// A job that takes seconds, and a lease that does not.
const SETTINGS: [(&str, &str); 4] = [
    ("jobs.chunk_rows_max", "2"),
    ("jobs.lease_ms", "1000"),
    ("jobs.poll_ms", "50"),
    ("jobs.retry_ms", "50"),
];

const ROWS: usize = 3_000;

fn loans() -> Vec<String> {
    let mut loans = all_loans();
    loans.truncate(ROWS);
    loans
}

fn start(url: &str) -> Serving {
    let settings: Vec<String> = SETTINGS
        .iter()
        .flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")])
        .collect();
    // Every look at a job would be a line that nobody reads before the end.
    let log = [
        "--set",
        "telemetry.log_filter=off,ferrocast::inference=info",
    ];
    let settings = settings.iter().map(String::as_str).chain(log);
    Serving::with(url, &settings.collect::<Vec<_>>())
}

async fn client_of(serving: &mut Serving) -> Client {
    let (address, _) = tokio::task::block_in_place(|| serving.banner());
    connect(&address).await
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(now.unwrap().as_millis()).unwrap()
}

/// How many jobs a log says have ended.
fn ends(log: &str) -> usize {
    log.lines()
        .filter(|line| line.contains("prediction job ended"))
        .count()
}

/// Kills a server halfway through a job; another one on the same store ends it, once, and scores only what was left.
async fn a_killed_worker(url: &str) {
    let loans = loans();
    let mut killed = start(url);
    let mut client = client_of(&mut killed).await;
    let id = submit(&mut client, submission(&loans)).await;
    until(&mut client, &id, is_halfway).await;
    let killed_at_ms = now_ms();
    tokio::task::block_in_place(|| {
        killed.signal("KILL");
        assert_eq!(ends(&killed.end().1), 0);
    });

    let mut next = start(url);
    let mut client = client_of(&mut next).await;
    let done = succeeded(&mut client, &id).await;
    assert_eq!(done.attempts, 2);
    let found = predictions(&mut client, &id, 1_000).await;
    assert_same(&found, &at_once(&mut client, &loans).await);
    let made: Vec<u64> = found.iter().map(made_at_ms).collect();
    assert!(made.is_sorted());
    assert!(made[0] <= killed_at_ms && killed_at_ms <= made[ROWS - 1]);
    let log = tokio::task::block_in_place(|| {
        next.signal("TERM");
        next.end().1
    });
    assert_eq!(ends(&log), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_killed_server_finishes_once_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let url = tokio::task::block_in_place(|| filled_sqlite(dir.path()));
    a_killed_worker(&url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_killed_server_finishes_once_on_postgres() {
    let url = Postgres::shared().fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    a_killed_worker(&url).await;
}

/// A server on a database that others share.
async fn serve(url: &str, settings: &[(&str, &str)]) -> Running {
    let all = [&SETTINGS, settings].concat();
    Running::on(url, &all, tempfile::tempdir().unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_gives_its_job_back_at_once() {
    let url = Postgres::shared().fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    // A lease that nobody would wait for.
    let patient = [("jobs.lease_ms", "86400000")];
    let first = serve(&url, &patient).await;
    let loans = loans();
    let mut client = first.predictions().await;
    let id = submit(&mut client, submission(&loans)).await;
    until(&mut client, &id, is_halfway).await;
    drop(client);
    let idle = [("jobs.workers", "0")];
    let watching = serve(&url, &idle).await;
    let mut watcher = watching.predictions().await;
    assert!(first.server.stop().await);
    let given_back = job(&mut watcher, &id).await;
    assert_eq!(
        (given_back.state(), given_back.attempts),
        (State::Queued, 1)
    );
    assert!(is_halfway(&given_back));

    let _second = serve(&url, &patient).await;
    let done = succeeded(&mut watcher, &id).await;
    assert_eq!(done.attempts, 2);
    let found = predictions(&mut watcher, &id, 1_000).await;
    assert_same(&found, &at_once(&mut watcher, &loans).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_share_the_jobs_of_a_database() {
    let url = Postgres::shared().fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    // Nobody is taken for lost on a machine that is busy with the other tests.
    let two = [
        ("jobs.workers", "2"),
        ("jobs.chunk_rows_max", "50"),
        ("jobs.lease_ms", "60000"),
    ];
    let servers = [
        serve(&url, &two).await,
        serve(&url, &two).await,
        serve(&url, &[("jobs.workers", "0")]).await,
    ];
    let loans = &all_loans()[..500];
    let mut submitted = Vec::new();
    for number in 0..24 {
        let mut client = servers[number % 3].predictions().await;
        submitted.push(submit(&mut client, submission(loans)).await);
    }
    let mut client = servers[2].predictions().await;
    let expected = at_once(&mut client, loans).await;
    for id in submitted {
        let done = succeeded(&mut client, &id).await;
        assert_eq!(done.attempts, 1);
        assert_same(&predictions(&mut client, &id, 300).await, &expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_away_costs_an_attempt_and_no_row() {
    let postgres = tokio::task::block_in_place(|| Postgres::start(None));
    let url = postgres.fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    let running = serve(&url, &[]).await;
    let mut client = running.predictions().await;
    let loans = loans();
    let expected = at_once(&mut client, &loans).await;
    let id = submit(&mut client, submission(&loans)).await;
    until(&mut client, &id, is_halfway).await;
    tokio::task::block_in_place(|| {
        postgres.kill();
        // Longer than the lease and some attempts to take a job.
        std::thread::sleep(Duration::from_secs(2));
        postgres.start_again();
    });
    let give_up_at = SystemTime::now() + Duration::from_secs(60);
    while at_once_fails(&mut client, &loans[..1]).await {
        assert!(
            SystemTime::now() < give_up_at,
            "the server never found its database again"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let done = succeeded(&mut client, &id).await;
    assert!(done.attempts >= 2, "{done:?}");
    assert_same(&predictions(&mut client, &id, 1_000).await, &expected);
}

async fn at_once_fails(client: &mut Client, loans: &[String]) -> bool {
    let request = ferrocast::grpc::pb::PredictByEntityRequest {
        model: "credit_risk".into(),
        entities: loans.iter().map(|id| crate::support::loan(id)).collect(),
        ..Default::default()
    };
    client.predict_by_entity(request).await.is_err()
}
