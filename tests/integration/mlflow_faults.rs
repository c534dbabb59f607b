//! A registry that is away, hangs, or has what must not be served: what answered goes on, and GetModel says why.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};

use crate::{
    front::{Front, Mood},
    mlflow::{MODEL, Registered, WAIT_MAX, answers, becomes, problem},
    models_support::{copy, edit_json},
    support::Running,
};

/// The folders of the cache that hold a version, and those of fetches that have not ended.
fn held(cache: &Path) -> (Vec<String>, usize) {
    let mut versions = Vec::new();
    let mut fetching = 0;
    for source in fs::read_dir(cache.join("credit_risk"))
        .into_iter()
        .flatten()
    {
        for entry in fs::read_dir(source.unwrap().path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.starts_with(".fetching") {
                fetching += 1;
            } else if let Some((number, _)) = name.split_once('-') {
                versions.push(number.to_owned());
            }
        }
    }
    versions.sort();
    (versions, fetching)
}

/// Waits until these versions are held, and no fetch is under way: of a version that is refused, one is now and then.
async fn holds(registered: &Registered, versions: &[&str]) {
    let cache = registered.cache.path();
    let wanted: Vec<String> = versions
        .iter()
        .map(|version| (*version).to_owned())
        .collect();
    let polled = async {
        while held(cache) != (wanted.clone(), 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(WAIT_MAX, polled).await;
    waited.unwrap_or_else(|_| panic!("{versions:?} are never held: {:?}", held(cache)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_fetched_last_answers_where_the_registry_is_away() {
    let registered = Registered::new().await;
    registered.champion("2").await;
    let front = Front::before(registered.mlflow.port()).await;
    let running = registered.serve(&front.url(), &[]).await;
    assert_eq!(answers(&running).await, "2");
    for mood in [Mood::Away, Mood::Nonsense] {
        front.behaves(mood);
        let model = becomes(&running, "away", |model| !problem(model).is_empty()).await;
        assert!(problem(&model).contains("the tracking server"), "{model}");
        assert_eq!(answers(&running).await, "2");
        front.behaves(Mood::Open);
        becomes(&running, "back", |model| problem(model).is_empty()).await;
    }
    // A server that starts now has only its disk.
    front.behaves(Mood::Away);
    let later = registered.serve(&front.url(), &[]).await;
    let (_, model) = later.get(MODEL).await;
    assert_eq!(model["defaultVersion"], "2");
    assert!(problem(&model).contains("the tracking server"), "{model}");
    assert_eq!(model["source"].get("reachedAt"), None, "{model}");
    assert_eq!(answers(&later).await, "2");
    front.behaves(Mood::Open);
    registered.champion("1").await;
    for server in [&running, &later] {
        becomes(server, "back and at 1", |model| {
            problem(model).is_empty() && model["defaultVersion"] == "1"
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_holds_no_start_up() {
    let registered = Registered::new().await;
    let front = Front::before(registered.mlflow.port()).await;
    front.behaves(Mood::Silent);
    let began = Instant::now();
    let settings = [
        ("artifacts.start_ms_max", "500"),
        ("artifacts.request_ms_max", "2000"),
    ];
    let running = registered.serve(&front.url(), &settings).await;
    // A start takes its time on a busy machine; without the bound it would take all of a minute's retries.
    assert!(began.elapsed().as_secs() < 60);
    // Nothing has ever been fetched: the model says why it is not there, and the server is.
    let model = becomes(&running, "a reason", |model| {
        model["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("does not answer"))
    })
    .await;
    assert!(
        model["reason"].as_str().unwrap().contains(&registered.name),
        "{model}"
    );
    assert_eq!(running.get("/health/ready").await.0, 200);
    front.behaves(Mood::Open);
    becomes(&running, "there", |model| model["defaultVersion"] == "1").await;
    assert_eq!(answers(&running).await, "1");
}

/// Registers a version that must not be served and lets the champion mean it: 1 goes on, and the reason is told, also by
/// a server that starts later.
async fn refused(
    registered: &Registered,
    settings: &[(&str, &str)],
    folder: &str,
    reason: &str,
) -> Running {
    let running = registered.serve(&registered.mlflow.url(), settings).await;
    assert_eq!(answers(&running).await, "1");
    let number = registered.register(folder).await;
    registered.champion(&number).await;
    let model = becomes(&running, "told", |model| {
        problem(model).contains("champion")
    })
    .await;
    let told = |model: &Json| {
        let versions = model["versions"].as_array().unwrap().clone();
        let version = versions
            .into_iter()
            .find(|version| version["version"] == number);
        version
            .map(|version| version["reason"].as_str().unwrap().to_owned())
            .unwrap_or_default()
    };
    assert!(told(&model).contains(reason), "{reason} in {model}");
    assert!(problem(&model).contains("version 1 goes on"), "{model}");
    assert_eq!(answers(&running).await, "1");
    let later = registered.serve(&registered.mlflow.url(), settings).await;
    let (_, model) = later.get(MODEL).await;
    assert_eq!(model["defaultVersion"], "1", "{model}");
    assert_eq!(answers(&later).await, "1");
    running
}

fn spoil(registered: &Registered, spoil: impl FnOnce(&Path)) -> &'static str {
    let made = registered.folder("9");
    copy(&registered.folder("1"), &made);
    spoil(&made);
    "9"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_champion_that_fails_its_golden_rows_does_not_answer() {
    let registered = Registered::new().await;
    let folder = spoil(&registered, |made| {
        edit_json(&made.join("golden.json"), |golden| {
            golden["scores"][7] = json!(0.5)
        });
    });
    let running = refused(&registered, &[], folder, "golden row 7").await;
    // The next good one takes over from 1.
    registered.champion("2").await;
    becomes(&running, "version 2", |model| {
        model["defaultVersion"] == "2" && problem(model).is_empty()
    })
    .await;
    assert_eq!(answers(&running).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_the_signatures_is_not_fetched() {
    let registered = Registered::new().await;
    let folder = spoil(&registered, |made| {
        let path = made.join("model.onnx");
        let mut bytes = fs::read(&path).unwrap();
        bytes.push(0);
        fs::write(path, bytes).unwrap();
    });
    refused(&registered, &[], folder, "SHA-256").await;
    holds(&registered, &["1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_outside_of_its_folder_is_not_fetched() {
    let registered = Registered::new().await;
    let folder = spoil(&registered, |made| {
        edit_json(&made.join("signature.json"), |signature| {
            signature["golden"]["file"] = json!("..");
        });
    });
    refused(&registered, &[], folder, "no name of a file").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_models_version_is_not_fetched() {
    let registered = Registered::new().await;
    let folder = spoil(&registered, |made| {
        edit_json(&made.join("signature.json"), |signature| {
            signature["model"] = json!("other")
        });
    });
    refused(&registered, &[], folder, "the model \"other\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_not_fetched() {
    let registered = Registered::new().await;
    let fetched = ["signature.json", "model.onnx", "golden.json", "trees.json"];
    let size = |name: &str| {
        fs::metadata(registered.folder("1").join(name))
            .unwrap()
            .len()
    };
    let bound = (fetched.map(size).iter().sum::<u64>() + 1_000).to_string();
    let folder = spoil(&registered, |made| {
        edit_json(&made.join("signature.json"), |signature| {
            signature["training"]["padding"] = json!("x".repeat(100_000));
        });
    });
    let settings = [("artifacts.version_bytes_max", bound.as_str())];
    refused(
        &registered,
        &settings,
        folder,
        "artifacts.version_bytes_max",
    )
    .await;
    holds(&registered, &["1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_off_leaves_nothing_and_is_tried_again() {
    let registered = Registered::new().await;
    let front = Front::before(registered.mlflow.port()).await;
    let running = registered.serve(&front.url(), &[]).await;
    assert_eq!(answers(&running).await, "1");
    // The registry's answers are small, the files are not.
    front.behaves(Mood::CutsAfter(20_000));
    registered.champion("2").await;
    let model = becomes(&running, "a reason", |model| {
        model["versions"][1]["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty())
    })
    .await;
    assert_eq!(
        (&model["versions"][1]["state"], &model["defaultVersion"]),
        (&json!("REFUSED"), &json!("1"))
    );
    assert_eq!(answers(&running).await, "1");
    holds(&registered, &["1"]).await;
    front.behaves(Mood::Open);
    becomes(&running, "version 2", |model| {
        model["defaultVersion"] == "2"
    })
    .await;
    assert_eq!(answers(&running).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_the_model_or_the_alias_says_so() {
    let registered = Registered::new().await;
    let running = registered.serve(&registered.mlflow.url(), &[]).await;
    registered
        .mlflow
        .delete_alias(&registered.name, "champion")
        .await;
    let model = becomes(&running, "no alias", |model| {
        problem(model).contains("no alias \"champion\"")
    })
    .await;
    assert_eq!(model["defaultVersion"], "1");
    assert_eq!(answers(&running).await, "1");
    registered.champion("2").await;
    becomes(&running, "version 2", |model| {
        model["defaultVersion"] == "2"
    })
    .await;

    // Nobody has said where the registry is: the model says what to set, and the server starts.
    let unset = registered
        .serve("", &[("artifacts.cache_dir", "/nonexistent")])
        .await;
    let (_, model) = unset.get(MODEL).await;
    let reason = model["reason"].as_str().unwrap();
    assert!(reason.contains("no tracking server is set"), "{model}");
    // A database of MLflow's, as its own programs take one, is no server: the same.
    let database = "sqlite:////home/ada/hunter2.db";
    let other = registered
        .serve(database, &[("artifacts.cache_dir", "/nonexistent")])
        .await;
    let (_, model) = other.get(MODEL).await;
    let reason = model["reason"].as_str().unwrap();
    assert!(reason.contains("MLFLOW_TRACKING_URI"), "{model}");
    assert!(!reason.contains("hunter2"), "{model}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_leave_the_disk_beyond_the_bound() {
    let registered = Registered::new().await;
    for _ in 3..=5 {
        registered.register("1").await;
    }
    let running = registered
        .serve(&registered.mlflow.url(), &[("artifacts.versions_max", "2")])
        .await;
    for champion in ["3", "4", "5"] {
        registered.champion(champion).await;
        becomes(&running, champion, |model| {
            model["defaultVersion"] == champion
        })
        .await;
    }
    let model = becomes(&running, "two versions", |model| {
        model["versions"].as_array().unwrap().len() == 2
    })
    .await;
    assert_eq!(model["versions"][0]["version"], "4", "{model}");
    holds(&registered, &["4", "5"]).await;
}
