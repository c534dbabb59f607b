//! Releases at run time: aliases, traffic, loading and unloading, kept in the database with who and when.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::{
    models_support::{add_opposite, copy_of_models},
    support::{Running, expected_scores, filled_sqlite},
};

const MODEL: &str = "/v1/models/credit_risk";
const PREDICT: &str = "/v1/models/credit_risk:predictByEntity";

/// A server with the versions 1 and 2, of which 2 scores the other class. Version 1 is the champion.
struct Two {
    running: Running,
    models: TempDir,
    store: TempDir,
}

impl Two {
    async fn start() -> Two {
        Two::start_with(&[]).await
    }

    async fn start_with(settings: &[(&str, &str)]) -> Two {
        let models = copy_of_models();
        add_opposite(models.path(), "2");
        let store = tempfile::tempdir().unwrap();
        let _ = tokio::task::block_in_place(|| filled_sqlite(store.path()));
        let running = Two::serve_with(&models, &store, settings).await;
        Two {
            running,
            models,
            store,
        }
    }

    async fn serve(models: &TempDir, store: &TempDir) -> Running {
        Two::serve_with(models, store, &[]).await
    }

    async fn serve_with(models: &TempDir, store: &TempDir, more: &[(&str, &str)]) -> Running {
        let url = crate::support::sqlite_url(store.path());
        let path = models.path().display().to_string();
        let mut settings = vec![
            ("models.path", path.as_str()),
            ("models.watch_interval_ms", "50"),
        ];
        settings.extend(more);
        Running::on(&url, &settings, tempfile::tempdir().unwrap()).await
    }

    /// Which version answers a request that names none.
    async fn answers(&self) -> String {
        let (status, answer) = self.running.post(PREDICT, loans(["LC00001"])).await;
        assert_eq!(status, 200, "{answer}");
        answer["predictions"][0]["version"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    async fn set_alias(&self, alias: &str, body: Json) -> (u16, Json) {
        self.running
            .put(&format!("{MODEL}/aliases/{alias}"), body)
            .await
    }
}

fn loans<'a>(ids: impl IntoIterator<Item = &'a str>) -> Json {
    let entities: Vec<Json> = ids.into_iter().map(|id| json!({ "loan_id": id })).collect();
    json!({ "entities": entities })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_moves_comes_back_and_outlives_the_server() {
    let two = Two::start().await;
    assert_eq!(two.answers().await, "1");
    let body =
        json!({"version": "2", "expectedVersion": "1", "actor": "ada", "reason": "won the test"});
    let (status, model) = two.set_alias("champion", body).await;
    assert_eq!(
        (status, &model["aliases"]["champion"]),
        (200, &json!("2")),
        "{model}"
    );
    assert_eq!(model["defaultVersion"], "2");
    assert_eq!(two.answers().await, "2");

    // A server that starts later on the same database knows it, too; and one that runs follows.
    let other = Two::serve(&two.models, &two.store).await;
    assert_eq!(other.get(MODEL).await.1["defaultVersion"], "2");
    let (status, _) = other
        .post(&format!("{MODEL}/aliases/champion:rollback"), json!({}))
        .await;
    assert_eq!(status, 200);
    becomes(&two.running, |model| model["defaultVersion"] == "1").await;
    assert_eq!(two.answers().await, "1");

    let (_, listed) = other.get(&format!("{MODEL}/releaseEvents")).await;
    let events = listed["events"].as_array().unwrap();
    let told = |event: &Json| -> Vec<String> {
        ["kind", "name", "before", "after", "actor", "reason", "peer"]
            .map(|field| event[field].as_str().unwrap().to_owned())
            .to_vec()
    };
    assert_eq!(told(&events[0])[..4], ["ALIAS", "champion", "2", "1"]);
    assert_eq!(
        told(&events[1]),
        [
            "ALIAS",
            "champion",
            "1",
            "2",
            "ada",
            "won the test",
            "127.0.0.1"
        ]
    );
    assert!(events[1]["time"].as_str().unwrap() > "2026");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_is_set_by_whoever_knows_what_it_means() {
    let two = Two::start().await;
    let (status, answer) = two
        .set_alias("champion", json!({"version": "2", "expectedVersion": "7"}))
        .await;
    assert_eq!(
        (status, &answer["status"]),
        (409, &json!("ABORTED")),
        "{answer}"
    );
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.contains("means version 1, and version 7"),
        "{message}"
    );
    // Of those who expect the same at the same time, one wins.
    let both = (
        two.set_alias("challenger", json!({"version": "1", "expectedVersion": ""})),
        two.set_alias("challenger", json!({"version": "2", "expectedVersion": ""})),
    );
    let (one, other) = tokio::join!(both.0, both.1);
    let mut statuses = [one.0, other.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);

    for (alias, body, status) in [
        ("champion", json!({"version": "9"}), 404),
        ("champion", json!({"version": "challenger"}), 400),
        ("7", json!({"version": "1"}), 400),
        ("a%20b", json!({"version": "1"}), 400),
    ] {
        let (answered, answer) = two.set_alias(alias, body.clone()).await;
        assert_eq!(answered, status, "{alias} {body}: {answer}");
    }
    let path = format!("{MODEL}/aliases/nothing:rollback");
    let (status, answer) = two.running.post(&path, json!({})).await;
    assert_eq!(
        (status, &answer["status"]),
        (400, &json!("FAILED_PRECONDITION"))
    );
    // Taken away, it means nothing; what model.toml says does not come back by itself.
    let (status, model) = two.set_alias("challenger", json!({"version": ""})).await;
    assert_eq!(status, 200);
    assert_eq!(model["aliases"].get("challenger"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_answer_their_share_always_the_same_entities() {
    let two = Two::start().await;
    let expected = expected_scores();
    let scored = async |running: &Running| -> BTreeMap<String, String> {
        let (status, answer) = running
            .post(PREDICT, loans(expected.iter().map(|(id, _)| id.as_str())))
            .await;
        assert_eq!(status, 200, "{answer}");
        let predictions = answer["predictions"].as_array().unwrap().iter();
        predictions
            .zip(&expected)
            .map(|(prediction, (id, score))| {
                let version = prediction["version"].as_str().unwrap();
                let score = if version == "2" { 1.0 - score } else { *score };
                let served = prediction["score"].as_f64().unwrap();
                assert!(
                    (served - score).abs() < 1e-5,
                    "{id} by {version}: {served}, {score}"
                );
                (id.clone(), version.to_owned())
            })
            .collect()
    };
    let traffic = json!({"traffic": {"canary": [{"version": "2", "percent": 20}]}});
    let path = format!("{MODEL}/traffic");
    let (status, model) = two.running.put(&path, traffic).await;
    assert_eq!(status, 200, "{model}");
    let by_canary = |scored: &BTreeMap<String, String>| -> Vec<String> {
        let found = scored.iter().filter(|(_, version)| *version == "2");
        found.map(|(id, _)| id.clone()).collect()
    };
    let first = by_canary(&scored(&two.running).await);
    // 20 percent of 500, give or take five standard deviations.
    assert!((55..=145).contains(&first.len()), "{}", first.len());
    // The same entities a second time, on another server, and one by one.
    let other = Two::serve(&two.models, &two.store).await;
    assert_eq!(by_canary(&scored(&other).await), first);
    for id in [&first[0], &first[1]] {
        let (_, answer) = two.running.post(PREDICT, loans([id.as_str()])).await;
        assert_eq!(answer["version"], "2");
    }
    // Whoever scores it, an entity at fault is named by its place in the request.
    let mut faulty = loans(first.iter().map(String::as_str));
    faulty["entities"][40] = json!({"loan_id": 7});
    let (status, answer) = two.running.post(PREDICT, faulty).await;
    let message = answer["message"].as_str().unwrap();
    assert!(
        status == 400 && message.contains("entities[40].loan_id"),
        "{message}"
    );
    // A larger share keeps those that had it.
    let traffic = json!({"traffic": {"canary": [{"version": "2", "percent": 60.5}]},
                         "expectedRevision": model["releaseRevision"]});
    assert_eq!(two.running.put(&path, traffic.clone()).await.0, 200);
    let more = by_canary(&scored(&two.running).await);
    assert!(more.len() > first.len() && first.iter().all(|id| more.contains(id)));
    // The revision is another now.
    let (status, answer) = two.running.put(&path, traffic).await;
    assert_eq!(status, 409, "{answer}");
    // Whoever names a version gets it.
    let named = format!("{MODEL}/versions/1:predictByEntity");
    let (_, answer) = two.running.post(&named, loans([first[0].as_str()])).await;
    assert_eq!(answer["predictions"][0]["version"], "1");
    // Back to model.toml, which knows no canary.
    assert_eq!(two.running.put(&path, json!({})).await.0, 200);
    assert!(by_canary(&scored(&two.running).await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_that_make_no_sense_are_refused() {
    let two = Two::start().await;
    for (canary, status, named) in [
        (
            json!([{"version": "2", "percent": 101}]),
            400,
            "traffic.canary[0].percent",
        ),
        (
            json!([{"version": "2", "percent": 0}]),
            400,
            "traffic.canary[0].percent",
        ),
        (
            json!([{"version": "2", "percent": 60}, {"version": "1", "percent": 60}]),
            400,
            "100 percent",
        ),
        (json!([{"version": "9", "percent": 1}]), 404, "9"),
    ] {
        let body = json!({"traffic": {"canary": canary}});
        let (answered, answer) = two.running.put(&format!("{MODEL}/traffic"), body).await;
        assert_eq!(answered, status, "{answer}");
        assert!(answer.to_string().contains(named), "{named} in {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shadows_score_and_never_answer() {
    let two = Two::start_with(&[("models.shadows_busy_percent_max", "100")]).await;
    let traffic = json!({"traffic": {"shadow": ["2"]}});
    let (status, answer) = two.running.put(&format!("{MODEL}/traffic"), traffic).await;
    assert_eq!(status, 200, "{answer}");
    for _ in 0..5 {
        assert_eq!(two.answers().await, "1");
    }
    becomes(&two.running, |model| {
        model["versions"][1]["shadowPredictions"] == "5"
            && model["versions"][0]["predictions"] == "5"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_leaves_shadows_out_and_counts_them() {
    let two = Two::start_with(&[("models.shadows_busy_percent_max", "0")]).await;
    let traffic = json!({"traffic": {"shadow": ["2"]}});
    let (status, answer) = two.running.put(&format!("{MODEL}/traffic"), traffic).await;
    assert_eq!(status, 200, "{answer}");
    let until = std::time::Instant::now() + Duration::from_secs(20);
    let mut answers = 0;
    let count = |text: &Json| text.as_str().unwrap().parse::<u64>().unwrap();
    loop {
        for _ in 0..20 {
            assert_eq!(two.answers().await, "1");
            answers += 1;
        }
        let (_, model) = two.running.get(MODEL).await;
        let [first, second] = [&model["versions"][0], &model["versions"][1]];
        assert_eq!(count(&first["predictions"]), answers);
        let dropped = count(&second["shadowsDropped"]);
        if dropped > 0 && count(&second["shadowPredictions"]) + dropped == answers {
            return;
        }
        assert!(std::time::Instant::now() < until, "{model}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unloaded_stays_so_until_it_is_loaded() {
    let two = Two::start().await;
    let (status, answer) = two
        .running
        .post(&format!("{MODEL}:unload"), json!({"version": "1"}))
        .await;
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer["message"].as_str().unwrap().contains("the default"),
        "{answer}"
    );
    let (status, model) = two
        .running
        .post(&format!("{MODEL}:unload"), json!({"version": "2"}))
        .await;
    assert_eq!(
        (status, &model["versions"][1]["state"]),
        (200, &json!("UNLOADED")),
        "{model}"
    );
    let named = format!("{MODEL}/versions/2:predictByEntity");
    let (status, answer) = two.running.post(&named, loans(["LC00001"])).await;
    assert_eq!(status, 400);
    assert!(
        answer["message"].as_str().unwrap().contains("LoadModel"),
        "{answer}"
    );
    // A server that starts later does not load it.
    let other = Two::serve(&two.models, &two.store).await;
    assert_eq!(other.get(MODEL).await.1["versions"][1]["state"], "UNLOADED");
    let (status, model) = two
        .running
        .post(&format!("{MODEL}:load"), json!({"version": "2"}))
        .await;
    assert_eq!(
        (status, &model["versions"][1]["state"]),
        (200, &json!("READY")),
        "{model}"
    );
    becomes(&other, |model| model["versions"][1]["state"] == "READY").await;
    // All of it goes, where that is asked for.
    let (status, model) = two
        .running
        .post(&format!("{MODEL}:unload"), json!({}))
        .await;
    assert_eq!(status, 200, "{model}");
    assert_eq!(two.running.post(PREDICT, loans(["LC00001"])).await.0, 400);
}

/// Waits until the model is as wanted.
async fn becomes(running: &Running, is_so: impl Fn(&Json) -> bool) {
    let polled = async {
        while !is_so(&running.get(MODEL).await.1) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), polled).await;
    let (_, model) = running.get(MODEL).await;
    waited.unwrap_or_else(|_| panic!("the model stays {model}"));
}
