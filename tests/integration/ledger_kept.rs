//! What the ledger keeps, and what it leaves out or loses: counted.

use std::time::Duration;

use ferrocast::inference::is_sampled;
use serde_json::{Value as Json, json};

use crate::{
    ledger::{NEVER_BY_ITSELF, PREDICT_BY_ENTITY, filled_store, predict_loan, serve},
    models_support::{add_opposite, copy_of_models},
    postgres::Postgres,
    support::{Running, expected_scores, fill, sqlite_url},
};

async fn counts(running: &Running) -> Json {
    let (status, counts) = running.get("/v1/ledger").await;
    assert_eq!(status, 200);
    counts
}

fn count(counts: &Json, name: &str) -> u64 {
    counts[name].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_is_kept_and_the_rest_is_counted() {
    for percent in [0_u32, 30, 100] {
        let text = percent.to_string();
        let running = Running::with(&[("ledger.sample_percent", &text)]).await;
        let loans: Vec<Json> = expected_scores()
            .iter()
            .take(60)
            .map(|(id, _)| json!({ "loan_id": id }))
            .collect();
        let (_, answer) = running
            .post(PREDICT_BY_ENTITY, json!({ "entities": loans }))
            .await;
        let mut kept = 0;
        for prediction in answer["predictions"].as_array().unwrap() {
            let id = prediction["predictionId"].as_str().unwrap();
            let is_kept = is_sampled(id.parse().unwrap(), percent * 100);
            let (status, answer) = running.get(&format!("/v1/predictions/{id}")).await;
            assert_eq!(status, if is_kept { 200 } else { 404 }, "{answer}");
            if !is_kept {
                let message = answer["message"].as_str().unwrap();
                assert!(message.contains("ledger.sample_percent"), "{answer}");
            }
            kept += u64::from(is_kept);
        }
        let counts = counts(&running).await;
        assert_eq!(count(&counts, "written"), kept, "{counts}");
        assert_eq!(count(&counts, "notSampled"), 60 - kept, "{counts}");
    }
}

/// What is scored beside an answer is worth something beside it alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_sample_has_shadows_and_their_answers_together() {
    let models = copy_of_models();
    add_opposite(models.path(), "2");
    let path = models.path().display().to_string();
    let settings = [
        ("models.path", path.as_str()),
        ("models.shadows_busy_percent_max", "100"),
        ("ledger.sample_percent", "30"),
    ];
    let running = Running::with(&settings).await;
    let shadow = json!({ "traffic": { "shadow": ["2"] } });
    let (status, answer) = running.put("/v1/models/credit_risk/traffic", shadow).await;
    assert_eq!(status, 200, "{answer}");
    let loans: Vec<Json> = expected_scores()
        .iter()
        .map(|(id, _)| json!({ "loan_id": id }))
        .collect();
    let (_, answer) = running
        .post(PREDICT_BY_ENTITY, json!({ "entities": loans }))
        .await;
    let predictions = answer["predictions"].as_array().unwrap().iter();
    let ids = predictions.map(|one| one["predictionId"].as_str().unwrap().parse().unwrap());
    let kept: u64 = ids.map(|id| u64::from(is_sampled(id, 3_000))).sum();
    let give_up_at = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let counts = counts(&running).await;
        let seen = count(&counts, "written") + count(&counts, "queued");
        if seen + count(&counts, "notSampled") == 1_000 {
            assert_eq!(seen, 2 * kept, "{counts}");
            return;
        }
        assert!(std::time::Instant::now() < give_up_at, "{counts}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_database_refuses_for_a_moment_is_offered_again() {
    let url = Postgres::shared().fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    // A disk's fault, twice: what a sequence counts is not undone.
    let database = Postgres::shared()
        .connect(url.rsplit('/').next().unwrap())
        .await;
    database
        .batch_execute(
            "CREATE SEQUENCE faults; \
             CREATE FUNCTION fail_twice() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF nextval('faults') <= 2 THEN RAISE EXCEPTION 'could not write' USING ERRCODE = '58030'; END IF; \
             RETURN NULL; END $$; \
             CREATE TRIGGER fails BEFORE INSERT ON ferrocast_predictions FOR EACH STATEMENT EXECUTE FUNCTION fail_twice()",
        )
        .await
        .unwrap();
    let running = Running::on(&url, &[], tempfile::tempdir().unwrap()).await;
    let id = predict_loan(&running).await;
    let (status, found) = running.get(&format!("/v1/predictions/{id}")).await;
    assert_eq!(status, 200, "{found}");
    let counts = counts(&running).await;
    assert_eq!(count(&counts, "droppedRefused"), 0, "{counts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_ledger_says_so_and_still_reads_it() {
    let store = filled_store();
    let running = serve(&crate::support::models(), &store).await;
    let id = predict_loan(&running).await;
    assert!(running.server.stop().await);
    let url = sqlite_url(store.path());
    let off = [("ledger.enabled", "false")];
    let running = Running::on(&url, &off, tempfile::tempdir().unwrap()).await;
    let (status, found) = running.get(&format!("/v1/predictions/{id}")).await;
    assert_eq!(status, 200, "{found}");
    let unkept = predict_loan(&running).await;
    let (status, answer) = running.get(&format!("/v1/predictions/{unkept}")).await;
    assert_eq!(status, 404);
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("ledger.enabled"),
        "{answer}"
    );
    assert_eq!(counts(&running).await["enabled"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_writes_what_is_in_the_queue() {
    let store = filled_store();
    let url = sqlite_url(store.path());
    let running = Running::on(&url, &[NEVER_BY_ITSELF], tempfile::tempdir().unwrap()).await;
    let id = predict_loan(&running).await;
    let waiting = counts(&running).await;
    assert_eq!(
        (count(&waiting, "queued"), count(&waiting, "written")),
        (1, 0)
    );
    assert!(count(&waiting, "queuedBytes") > 0);
    assert!(running.server.stop().await);
    let running = Running::on(&url, &[NEVER_BY_ITSELF], tempfile::tempdir().unwrap()).await;
    let (status, found) = running.get(&format!("/v1/predictions/{id}")).await;
    assert_eq!(status, 200, "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_goes_when_the_server_starts() {
    let store = filled_store();
    let file = store.path().join("store.db");
    let url = sqlite_url(store.path());
    let old = "00000000-0000-7000-8000-000000000000";
    let bytes = old.replace('-', "");
    let connection = rusqlite::Connection::open(file).unwrap();
    connection
        .execute_batch(&format!(
            "INSERT INTO ferrocast_predictions VALUES (x'{bytes}', x'00', 0, 0, 0.5, 0, '', '{{}}', x'01')"
        ))
        .unwrap();
    let there = || -> i64 {
        let sql = "SELECT count(*) FROM ferrocast_predictions";
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let settings = [("ledger.retention_days", "0")];
    let running = Running::on(&url, &settings, tempfile::tempdir().unwrap()).await;
    predict_loan(&running).await;
    running.server.stop().await;
    assert_eq!(there(), 2, "kept for ever");
    // Also where nothing new is kept.
    let settings = [("ledger.retention_days", "1"), ("ledger.enabled", "false")];
    let _running = Running::on(&url, &settings, tempfile::tempdir().unwrap()).await;
    let give_up_at = std::time::Instant::now() + Duration::from_secs(60);
    while there() != 1 {
        assert!(std::time::Instant::now() < give_up_at, "it is kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
