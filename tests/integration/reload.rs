//! Files of models that change under a running server: what is good takes over, what is not leaves the old one alone.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ferrocast::grpc::pb::{
    LoadModelRequest, PredictByEntityRequest, UnloadModelRequest,
    model_service_client::ModelServiceClient,
};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::{
    models_support::{add_opposite, copy_of_models, edit_json, edit_text},
    serving::Serving,
    support::{Running, expected_scores, filled_sqlite, loan},
};

const MODEL: &str = "/v1/models/credit_risk";

async fn serve(models: &TempDir) -> Running {
    let path = models.path().display().to_string();
    Running::with(&[
        ("models.path", path.as_str()),
        ("models.watch_interval_ms", "50"),
    ])
    .await
}

/// Without the alias of model.toml, the newest version that is ready answers.
fn follow_the_newest(models: &TempDir) {
    let path = models.path().join("credit_risk/model.toml");
    edit_text(&path, "champion = \"1\"", "");
}

async fn becomes(running: &Running, what: &str, is_so: impl Fn(&Json) -> bool) {
    let polled = async {
        while !is_so(&running.get(MODEL).await.1) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), polled).await;
    let (_, model) = running.get(MODEL).await;
    waited.unwrap_or_else(|_| panic!("never {what}: {model}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_takes_over_once_it_has_passed_its_checks() {
    let models = copy_of_models();
    follow_the_newest(&models);
    let running = serve(&models).await;
    assert_eq!(running.get(MODEL).await.1["defaultVersion"], "1");
    add_opposite(models.path(), "2");
    becomes(&running, "version 2", |model| {
        model["defaultVersion"] == "2"
    })
    .await;

    // The next one is broken: it says why, and 2 goes on.
    add_opposite(models.path(), "3");
    let golden = models.path().join("credit_risk/3/golden.json");
    edit_json(&golden, |golden| golden["scores"][7] = json!(0.5));
    becomes(&running, "version 3 refused", |model| {
        let reason = model["versions"][2]["reason"].as_str().unwrap_or_default();
        reason.contains("golden row 7")
    })
    .await;
    let (_, model) = running.get(MODEL).await;
    assert_eq!(
        (&model["defaultVersion"], &model["versions"][2]["state"]),
        (&json!("2"), &json!("REFUSED"))
    );

    // Mended, it takes over.
    fs::copy(models.path().join("credit_risk/2/golden.json"), &golden).unwrap();
    becomes(&running, "version 3", |model| {
        model["defaultVersion"] == "3"
    })
    .await;
    // Taken away, the one before answers again.
    fs::remove_dir_all(models.path().join("credit_risk/3")).unwrap();
    becomes(&running, "version 2 again", |model| {
        model["defaultVersion"] == "2" && model["versions"].as_array().unwrap().len() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_replaced_by_broken_ones_change_nothing() {
    let models = copy_of_models();
    let running = serve(&models).await;
    let model = models.path().join("credit_risk");
    let whole = fs::read(model.join("1/model.onnx")).unwrap();
    fs::write(model.join("1/model.onnx"), &whole[..1_000]).unwrap();
    becomes(&running, "a reason", |model| {
        let version = &model["versions"][0];
        version["state"] == "READY" && version["reason"].as_str().unwrap().contains("SHA-256")
    })
    .await;
    let (status, answer) = running
        .post(&format!("{MODEL}:load"), json!({"version": "1"}))
        .await;
    assert_eq!(status, 400);
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("goes on as it was"),
        "{answer}"
    );

    fs::write(model.join("model.toml"), "name = ").unwrap();
    becomes(&running, "a broken model.toml", |model| {
        model["reason"]
            .as_str()
            .unwrap_or_default()
            .contains("model.toml")
    })
    .await;
    let body = json!({"entities": [{"loan_id": "LC00001"}]});
    let (status, answer) = running
        .post(&format!("{MODEL}:predictByEntity"), body)
        .await;
    assert_eq!(status, 200, "{answer}");
    // The alias of model.toml means it, so it goes on even where its folder has gone.
    fs::copy(
        crate::support::models().join("credit_risk/model.toml"),
        model.join("model.toml"),
    )
    .unwrap();
    fs::remove_dir_all(model.join("1")).unwrap();
    becomes(&running, "a folder that is gone", |model| {
        let version = &model["versions"][0];
        version["state"] == "READY" && version["reason"].as_str().unwrap().contains("gone")
    })
    .await;
}

/// Swaps under load: no request fails, and each is answered by one version as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_swaps_fail_no_request() {
    let models = copy_of_models();
    add_opposite(models.path(), "2");
    let running = serve(&models).await;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let expected = Arc::new(expected_scores());
    let mut callers = Vec::new();
    for caller in 0..4 {
        let mut client = running.predictions().await;
        let (stop, answered, expected) = (
            Arc::clone(&stop),
            Arc::clone(&answered),
            Arc::clone(&expected),
        );
        callers.push(tokio::spawn(async move {
            for turn in 0_usize.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let first = (turn * 7 + caller) % (expected.len() - 3);
                let asked = &expected[first..first + 3];
                let request = PredictByEntityRequest {
                    model: "credit_risk".into(),
                    entities: asked.iter().map(|(id, _)| loan(id)).collect(),
                    ..Default::default()
                };
                let answer = client
                    .predict_by_entity(request)
                    .await
                    .unwrap()
                    .into_inner();
                for (prediction, (id, score)) in answer.predictions.iter().zip(asked) {
                    assert_eq!(prediction.version, answer.version);
                    let wanted = if answer.version == "2" {
                        1.0 - score
                    } else {
                        *score
                    };
                    assert!(
                        (prediction.score - wanted).abs() < 1e-5,
                        "{id}: {prediction:?}"
                    );
                }
                let version: usize = answer.version.parse().unwrap();
                answered[version - 1].fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for swap in 0..50 {
        // Loaded anew each time, not only named anew: the version that answers nothing meanwhile is swapped out.
        let (on, off) = if swap % 2 == 0 {
            ("2", "1")
        } else {
            ("1", "2")
        };
        let alias = json!({ "version": on });
        let (status, answer) = running
            .put(&format!("{MODEL}/aliases/champion"), alias)
            .await;
        assert_eq!(status, 200, "{answer}");
        for what in ["unload", "load"] {
            let path = format!("{MODEL}:{what}");
            let (status, answer) = running.post(&path, json!({ "version": off })).await;
            assert_eq!(status, 200, "{answer}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let counts = [0, 1].map(|version| answered[version].load(Ordering::Relaxed));
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
}

/// What 200 reloads leave behind is less than a tenth of what they would have kept.
#[tokio::test(flavor = "multi_thread")]
async fn memory_returns_after_an_unload() {
    let models = copy_of_models();
    add_opposite(models.path(), "2");
    let store = tempfile::tempdir().unwrap();
    let url = tokio::task::block_in_place(|| filled_sqlite(store.path()));
    // A process of its own, whose memory is nobody else's; its log is not read, and so has to stay short.
    let path = models.path().display().to_string();
    let mut serving = Serving::with(
        &url,
        &["--models", &path, "--set", "telemetry.log_filter=error"],
    );
    let (address, _) = serving.banner();
    let mut client = ModelServiceClient::connect(format!("http://{address}"))
        .await
        .unwrap();
    let mut reload = async |times: usize| {
        for _ in 0..times {
            let (model, version) = ("credit_risk".to_owned(), "2".to_owned());
            let unload = UnloadModelRequest {
                model: model.clone(),
                version: version.clone(),
                ..Default::default()
            };
            client.unload_model(unload).await.unwrap();
            let load = LoadModelRequest {
                model,
                version,
                ..Default::default()
            };
            client.load_model(load).await.unwrap();
        }
    };
    // The allocator keeps some of what was freed, as the first reloads show.
    reload(20).await;
    let before = serving.resident_bytes();
    reload(200).await;
    let kept = serving.resident_bytes().saturating_sub(before);
    // Each worker has a session, which takes more than its file of 67 kB: 200 that stayed would be above 200 MB here.
    assert!(kept < 20 << 20, "{kept} bytes");
}
