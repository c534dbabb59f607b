//! Servers of one database, each with rows in memory: a write through any of them, or by a command, is seen by all within
//! `cache.stale_ms_max`.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::{
    postgres::Postgres,
    redis_server::{Redis, fresh_prefix},
    support::{Running, ferrocast, fill, filled_sqlite, text},
};

const STALE_MAX: Duration = Duration::from_millis(1_500);
const LOAN: &str = "LC00001";

/// A server with a cache, on a database with the sample in it.
async fn start(url: &str, further: &[(&str, &str)]) -> Running {
    let mut settings = vec![
        ("cache.bytes_max", "16777216"),
        ("cache.age_ms_max", "3600000"),
        ("cache.stale_ms_max", "1500"),
    ];
    settings.extend(further);
    Running::on(url, &settings, tempfile::tempdir().unwrap()).await
}

/// The loan's income as a server tells it, and how old that may be.
async fn income(server: &Running) -> (Json, bool) {
    let asked = json!({ "features": ["applicant:annual_inc"], "entities": [{ "loan_id": LOAN }] });
    let (status, answer) = server.post("/v1/features:get", asked).await;
    assert_eq!(status, 200, "{answer}");
    let column = &answer["columns"][0];
    let is_kept = column["ageBound"].as_str().is_some_and(|age| age != "0s");
    (column["values"][0].clone(), is_kept)
}

/// Reads until the answer comes out of memory.
async fn keeps(server: &Running, wanted: &Json) {
    let give_up_at = Instant::now() + Duration::from_secs(60);
    loop {
        let (value, is_kept) = income(server).await;
        assert_eq!(value, *wanted);
        if is_kept {
            return;
        }
        assert!(Instant::now() < give_up_at, "nothing is kept");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn sees(server: &Running, changed_at: Instant, wanted: &Json) {
    tokio::time::sleep_until((changed_at + STALE_MAX).into()).await;
    for _ in 0..10 {
        assert_eq!(income(server).await.0, *wanted);
    }
}

async fn write(server: &Running, income: &Json) -> Instant {
    let row = json!({ "loan_id": LOAN, "annual_inc": income });
    let body = json!({ "rows": [row] });
    let (status, answer) = server.post("/v1/featureViews/applicant:write", body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["written"], "1", "{answer}");
    Instant::now()
}

/// Runs a command on the database.
fn run(url: &str, arguments: &[&str]) -> Instant {
    let database = ["--database-url", url];
    let done = tokio::task::block_in_place(|| ferrocast(&[arguments, &database].concat()));
    assert!(done.status.success(), "{}", text(&done.stderr));
    Instant::now()
}

/// Writes through one server and by a command, and looks through the other.
async fn tell_each_other(url: &str, a: &Running, b: &Running, command: &[&str]) {
    let before = income(b).await.0;
    keeps(a, &before).await;
    keeps(b, &before).await;
    for (from, to, value) in [(a, b, json!(50_001.5)), (b, a, json!(50_002.5))] {
        let changed_at = write(from, &value).await;
        assert_eq!(income(from).await.0, value);
        sees(to, changed_at, &value).await;
        keeps(to, &value).await;
    }
    // A newer record of the loan, out of a file.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("newer.csv");
    let names = "loan_id,event_timestamp,created_at,annual_inc,emp_length,addr_state,verification_status,delinq_2yrs,\
                 inq_last_6mths,inq_last_12m,inq_fi,revol_util,all_util,acc_now_delinq,delinq_amnt,open_il_6m,\
                 open_il_12m,open_il_24m,num_il_tl,total_bal_il,total_il_high_credit_limit";
    let row = format!("{LOAN},2099-01-01T00:00:00Z,2099-01-01T00:00:00Z,50003.5,,,,,,,,,,,,,,,,,");
    std::fs::write(&file, format!("{names}\n{row}\n")).unwrap();
    let from = ["materialize", "applicant", "--from", file.to_str().unwrap()];
    let changed_at = run(url, &[&from, command].concat());
    for server in [a, b] {
        sees(server, changed_at, &json!(50_003.5)).await;
        keeps(server, &json!(50_003.5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_one_postgres_tell_each_other() {
    let url = Postgres::shared().fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    let (a, b) = (start(&url, &[]).await, start(&url, &[]).await);
    tell_each_other(&url, &a, &b, &[]).await;
    // A server that cannot be told any more asks the database.
    let watcher = Postgres::shared()
        .connect(url.rsplit('/').next().unwrap())
        .await;
    let deafen = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                  WHERE datname = current_database() AND query = 'LISTEN ferrocast_rows'";
    assert_eq!(watcher.query(deafen, &[]).await.unwrap().len(), 2);
    let row = json!({ "loan_id": LOAN, "annual_inc": 50_004.5, "eventTimestamp": "2099-02-01T00:00:00Z" });
    let body = json!({ "rows": [row] });
    let (status, answer) = a.post("/v1/featureViews/applicant:write", body).await;
    assert_eq!(status, 200, "{answer}");
    sees(&b, Instant::now(), &json!(50_004.5)).await;
    keeps(&b, &json!(50_004.5)).await;
    assert!(a.server.stop().await);
    assert!(b.server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_one_redis_tell_each_other() {
    let url = Postgres::shared().fresh_database().await;
    let (redis, prefix) = (Redis::shared().url(), fresh_prefix());
    let online = [
        ("online.redis_urls", redis.as_str()),
        ("online.key_prefix", prefix.as_str()),
    ];
    let command = [
        "--set".to_owned(),
        format!("online.redis_urls={redis}"),
        "--set".to_owned(),
        format!("online.key_prefix={prefix}"),
    ];
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    for name in ["apply", "materialize"] {
        run(&url, &[&[name], command.as_slice()].concat());
    }
    let (a, b) = (start(&url, &online).await, start(&url, &online).await);
    tell_each_other(&url, &a, &b, &command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_of_one_file_tell_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let url = tokio::task::block_in_place(|| filled_sqlite(folder.path()));
    let (a, b) = (start(&url, &[]).await, start(&url, &[]).await);
    tell_each_other(&url, &a, &b, &[]).await;
}
