//! A shadow costs the database no second look: it takes the features that the answer has read.

use std::time::Duration;

use serde_json::json;

use crate::{
    models_support::{add_opposite, copy_of_models},
    postgres::Postgres,
    support::{Running, fill},
};

const CALLS: u64 = 40;

/// How often the tables of features have been looked into, by connections that have ended.
async fn looks(database: &str) -> i64 {
    let client = Postgres::shared().connect(database).await;
    let sql = "SELECT coalesce(sum(seq_scan + coalesce(idx_scan, 0)), 0)::bigint FROM pg_stat_user_tables \
               WHERE relname NOT LIKE 'ferrocast%' AND relname NOT LIKE 'refinery%'";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Predicts so often, with version 2 beside each answer or without; returns how often features were looked for.
async fn predict(url: &str, models: &str, has_shadow: bool) -> i64 {
    let database = url.rsplit('/').next().unwrap();
    let before = looks(database).await;
    // Every one of them has a place.
    let settings = [
        ("models.path", models),
        ("models.shadows_max", "64"),
        ("models.shadows_busy_percent_max", "100"),
    ];
    let running = Running::on(url, &settings, tempfile::tempdir().unwrap()).await;
    let shadow: &[&str] = if has_shadow { &["2"] } else { &[] };
    let body = json!({ "traffic": { "shadow": shadow } });
    let (status, answer) = running.put("/v1/models/credit_risk/traffic", body).await;
    assert_eq!(status, 200, "{answer}");
    let body = json!({ "entities": [{ "loan_id": "LC00001" }, { "loan_id": "LC00002" }] });
    for _ in 0..CALLS {
        let path = "/v1/models/credit_risk:predictByEntity";
        let (status, answer) = running.post(path, body.clone()).await;
        assert_eq!(status, 200, "{answer}");
    }
    let wanted = if has_shadow { 2 * CALLS } else { 0 }.to_string();
    loop {
        let (_, model) = running.get("/v1/models/credit_risk").await;
        let version = model["versions"].as_array().unwrap().iter();
        let second = version.clone().find(|version| version["version"] == "2");
        if second.unwrap()["shadowPredictions"] == wanted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(running.server.stop().await);
    // Connections tell what they did as they end.
    let mut after = looks(database).await;
    loop {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let later = looks(database).await;
        if later == after {
            return after - before;
        }
        after = later;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_reads_no_features_again() {
    let url = Postgres::shared().fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    let models = copy_of_models();
    add_opposite(models.path(), "2");
    let path = models.path().display().to_string();
    let alone = predict(&url, &path, false).await;
    let calls = i64::try_from(CALLS).unwrap();
    assert!(alone >= calls, "{alone} looks");
    let beside = predict(&url, &path, true).await;
    assert!(
        beside < alone + calls / 2,
        "{alone} looks without a shadow, {beside} with one"
    );
}
