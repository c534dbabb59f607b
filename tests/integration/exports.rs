//! Real exports of really trained models (training/exports): what is served scores as the library does, and what a library
//! writes that cannot be trusted is refused, with a sentence that says how to export without it.

use std::{fs, path::Path};

use ferrocast::grpc::pb;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::{
    models_support::{copy, edit_json, edit_text},
    support::{Running, ferrocast, object, sqlite_url, text},
};

pub fn exports() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

pub fn read(path: &Path) -> Json {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The models of a folder: name, signature and golden rows.
pub fn all(folder: &Path) -> Vec<(String, Json, Json)> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let version = entry.path().join("1");
            (
                entry.file_name().into_string().unwrap(),
                read(&version.join("signature.json")),
                read(&version.join("golden.json")),
            )
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Whether this build has the runtime that a model asks for.
pub fn is_built(signature: &Json) -> bool {
    cfg!(feature = "lightgbm") || signature["runtime"] != "lightgbm"
}

/// A server of the models of a folder, with their definitions applied.
pub async fn serving(folder: &Path) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let url = sqlite_url(dir.path());
    let folder = folder.display().to_string();
    let applied = tokio::task::block_in_place(|| {
        ferrocast(&["apply", "--models", &folder, "--database-url", &url])
    });
    assert!(applied.status.success(), "{}", text(&applied.stderr));
    Running::on(&url, &[("models.path", &folder)], dir).await
}

/// A golden row as an object, missing values as null or left out.
pub fn row_of(golden: &Json, row: usize, has_nulls: bool) -> Json {
    let names = golden["inputs"].as_array().unwrap();
    let values = golden["rows"][row].as_array().unwrap();
    let cells = names.iter().zip(values);
    let kept = cells.filter(|(_, value)| !value.is_null() || has_nulls);
    kept.map(|(name, value)| (name.as_str().unwrap().to_owned(), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Holds a served row against the library's own prediction.
fn holds(name: &str, row: usize, signature: &Json, golden: &Json, served: &pb::Prediction) {
    let is_classifier = signature["classes"].is_array();
    let close = |what: &str, expected: f64, served: f64| {
        let scale = if is_classifier {
            1.0
        } else {
            expected.abs().max(1.0)
        };
        let tolerance = signature["golden"]["tolerance"].as_f64().unwrap() * scale;
        assert!(
            (expected - served).abs() <= tolerance,
            "{name}, row {row}, {what}: the library says {expected}, the server {served}"
        );
    };
    close(
        "score",
        golden["scores"][row].as_f64().unwrap(),
        served.score,
    );
    let Some(classes) = signature["classes"].as_array() else {
        assert!(served.label.is_empty() && served.probabilities.is_empty());
        return;
    };
    let outputs: Vec<f64> = golden["outputs"][row]
        .as_array()
        .unwrap()
        .iter()
        .map(|output| output.as_f64().unwrap())
        .collect();
    assert_eq!(served.probabilities.len(), classes.len());
    for (class, expected) in classes.iter().zip(&outputs) {
        let class = class.as_str().unwrap();
        close(class, *expected, served.probabilities[class]);
    }
    let most = outputs.iter().copied().fold(f64::MIN, f64::max);
    let label = outputs.iter().position(|output| *output == most).unwrap();
    // On the edge between two classes rounding decides.
    if outputs.iter().filter(|o| most - **o < 1e-4).count() == 1 {
        assert_eq!(
            served.label,
            classes[label].as_str().unwrap(),
            "{name} {row}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_export_scores_as_its_library_does() {
    let folder = exports().join("models");
    let running = serving(&folder).await;
    let mut client = running.predictions().await;
    let models = all(&folder);
    assert!(models.len() >= 18, "{} models", models.len());
    for (name, signature, golden) in &models {
        let count = golden["rows"].as_array().unwrap().len();
        let request = pb::PredictRequest {
            model: name.clone(),
            rows: (0..count)
                .map(|row| object(&row_of(golden, row, row % 2 == 0)))
                .collect(),
            ..Default::default()
        };
        let answer = client.predict(request).await;
        if !is_built(signature) {
            let refused = answer.unwrap_err();
            assert!(refused.message().contains("FEATURES=lightgbm"), "{refused}");
            continue;
        }
        let answer = answer.unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let predictions = answer.into_inner().predictions;
        assert_eq!(predictions.len(), count);
        for (row, served) in predictions.iter().enumerate() {
            holds(name, row, signature, golden, served);
        }
        // One row by itself scores as it does among many.
        let alone = pb::PredictRequest {
            model: name.clone(),
            rows: vec![object(&row_of(golden, count - 1, true))],
            ..Default::default()
        };
        let alone = client.predict(alone).await.unwrap().into_inner();
        assert_eq!(
            alone.predictions[0].score,
            predictions[count - 1].score,
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_scores_as_what_is_sent() {
    let folder = exports().join("models");
    let running = serving(&folder).await;
    let (mut features, mut client) = (running.features().await, running.predictions().await);
    let models = all(&folder);
    for wanted in [
        "catboost_codes",
        "lightgbm_categories",
        "sklearn_forest_columns",
        "xgboost_multiclass",
    ] {
        let (name, signature, golden) = models.iter().find(|(name, ..)| name == wanted).unwrap();
        if !is_built(signature) {
            continue;
        }
        let key = format!("{name}_id");
        let rows = golden["rows"].as_array().unwrap().len();
        let stored = (0..rows).map(|row| {
            let mut fields = row_of(golden, row, true);
            fields[&key] = json!(row.to_string());
            object(&fields)
        });
        let write = pb::WriteFeaturesRequest {
            view: name.clone(),
            rows: stored.collect(),
            ..Default::default()
        };
        features.write_features(write).await.unwrap();
        let request = pb::PredictByEntityRequest {
            model: name.clone(),
            entities: (0..rows)
                .map(|row| object(&json!({ key.as_str(): row.to_string() })))
                .collect(),
            ..Default::default()
        };
        let answer = client.predict_by_entity(request).await.unwrap();
        for (row, served) in answer.into_inner().predictions.iter().enumerate() {
            holds(name, row, signature, golden, served);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_a_model_of_numbers_does_not_know_is_missing_and_told() {
    let running = serving(&exports().join("models")).await;
    let path = "/v1/models/catboost_codes:predict";
    let row = |term: Json| {
        json!({"rows": [{"term": term, "sub_grade": "B2", "verification_status": "Verified",
            "annual_inc": 52_000, "int_rate": 11.5, "revol_util": 40}]})
    };
    let (_, unknown) = running.post(path, row(json!("term_48"))).await;
    let (_, missing) = running.post(path, row(Json::Null)).await;
    let (_, known) = running.post(path, row(json!("term_60"))).await;
    let score = |answer: &Json| answer["predictions"][0]["score"].clone();
    assert_eq!(score(&unknown), score(&missing), "{unknown}");
    assert_ne!(score(&unknown), score(&known), "{known}");
    let violation = &unknown["predictions"][0]["violations"][0];
    assert_eq!(violation["input"], "term", "{unknown}");
    assert!(
        violation["kind"]
            .as_str()
            .unwrap()
            .contains("UNKNOWN_CATEGORY"),
        "{unknown}"
    );
    assert_eq!(known["predictions"][0]["violations"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_export_that_cannot_be_trusted_is_refused_by_name() {
    let folder = exports().join("refused");
    let expected: [(&str, &[&str]); 9] = [
        (
            "catboost_zipmap",
            &["ZipMap", "CatBoost", "models/README.md"],
        ),
        ("custom_operator", &["com.microsoft", "CDist"]),
        (
            "external_data",
            &["in another file", "save_as_external_data"],
        ),
        ("linear_trees", &["tree 0", "linear_tree=false"]),
        (
            "nan_unaware",
            &[
                "golden row",
                "may differ by",
                "does the exported model know them",
            ],
        ),
        ("newer_opset", &["version 27", "target_opset 26"]),
        (
            "subgraph_if",
            &["(If)", "graph of its own", "without loops and branches"],
        ),
        ("subgraph_scan", &["(Scan)", "graph of its own"]),
        ("zipmap", &["ZipMap", "options={\"zipmap\": False}"]),
    ];
    let found = all(&folder);
    let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, expected.map(|(name, _)| name));

    let shown = folder.display().to_string();
    let checked = ferrocast(&["check", "--models", &shown]);
    assert!(!checked.status.success());
    let lines = text(&checked.stderr);
    let running = serving(&folder).await;
    for ((name, signature, _), (_, parts)) in found.iter().zip(expected) {
        let named = format!("model {name} version 1: ");
        let line = lines.lines().find(|line| line.contains(&named));
        let line = line.unwrap_or_else(|| panic!("{name} in {lines}"));
        let (status, model) = running.get(&format!("/v1/models/{name}")).await;
        assert_eq!(status, 200, "{model}");
        let version = &model["versions"][0];
        assert_eq!(version["state"], "REFUSED", "{model}");
        let parts = if is_built(signature) {
            parts
        } else {
            &["FEATURES=lightgbm"]
        };
        for part in parts {
            assert!(line.contains(part), "{name}: {part} in {line}");
            let reason = version["reason"].as_str().unwrap();
            assert!(reason.contains(part), "{name}: {part} in {reason}");
        }
        let (status, answer) = running
            .post(&format!("/v1/models/{name}:predict"), json!({"rows": [{}]}))
            .await;
        assert_eq!(
            (status, &answer["status"]),
            (400, &json!("FAILED_PRECONDITION")),
            "{answer}"
        );
    }
}

/// Breaks a copy of a good export, and returns what `check` says of it.
pub fn broken(name: &str, settings: &[&str], break_it: impl FnOnce(&Path)) -> String {
    let dir: TempDir = tempfile::tempdir().unwrap();
    let model = dir.path().join(name);
    copy(&exports().join("models").join(name), &model);
    break_it(&model);
    let models = dir.path().display().to_string();
    let mut arguments = vec!["check", "--models", &models];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    let checked = ferrocast(&arguments);
    assert!(!checked.status.success(), "{}", text(&checked.stdout));
    text(&checked.stderr)
}

#[track_caller]
pub fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[test]
fn a_file_that_is_too_large() {
    let told = broken("xgboost_binary", &["models.file_bytes_max=8000"], |_| {});
    says(
        &told,
        &["model.onnx", "8000 bytes", "models.file_bytes_max"],
    );
    let told = broken("sklearn_logistic", &["models.nodes_max=3"], |_| {});
    says(&told, &["4 nodes", "models.nodes_max"]);
}

#[test]
fn a_probability_beside_the_score_that_is_off_by_a_thousandth() {
    let told = broken("xgboost_multiclass", &[], |model| {
        edit_json(&model.join("1/golden.json"), |golden| {
            let outputs = golden["outputs"][5].as_array().unwrap();
            let least = |a: &usize, b: &usize| {
                let of = |at: usize| outputs[at].as_f64().unwrap();
                of(*a).total_cmp(&of(*b))
            };
            let at = (0..3).min_by(least).unwrap();
            let off = outputs[at].as_f64().unwrap() + 1e-3;
            golden["outputs"][5][at] = json!(off);
        });
    });
    says(&told, &["golden row 5", "probability of \"class_"]);
}

#[test]
fn a_multi_class_model_without_all_probabilities() {
    let told = broken("catboost_multiclass", &[], |model| {
        edit_json(&model.join("1/golden.json"), |golden| {
            golden.as_object_mut().unwrap().remove("outputs");
        });
    });
    says(&told, &["golden.json", "outputs", "3 classes"]);
}

#[test]
fn a_value_that_is_off_relative_to_its_size() {
    let shift = |part: f64| {
        move |model: &Path| {
            edit_json(&model.join("1/golden.json"), |golden| {
                let value = golden["scores"][0].as_f64().unwrap();
                assert!(value > 50.0);
                golden["scores"][0] = json!(value * (1.0 + part));
            });
        }
    };
    let told = broken("xgboost_regression", &[], shift(2e-5));
    says(&told, &["golden row 0", "score"]);
    // A hundred times the absolute tolerance, and within the relative one.
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("xgboost_regression");
    copy(&exports().join("models/xgboost_regression"), &model);
    shift(8e-6)(&model);
    let checked = ferrocast(&["check", "--models", &dir.path().display().to_string()]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
}

#[test]
fn a_model_that_says_nothing_about_missing_values() {
    // A linear model without an imputer: the library itself has no answer, so no golden row has a missing value.
    let name = "sklearn_logistic_doubles";
    let told = broken(name, &[], |model| {
        let path = model.join("model.toml");
        let rejecting = fs::read_to_string(&path).unwrap();
        let (allowing, _) = rejecting.split_once("[inputs").unwrap();
        fs::write(&path, allowing).unwrap();
    });
    says(
        &told,
        &["golden.json", "mean_radius", "on_missing = \"reject\""],
    );
    let told = broken("xgboost_binary", &[], |model| {
        edit_json(&model.join("1/golden.json"), |golden| {
            for row in golden["rows"].as_array_mut().unwrap() {
                if row[3].is_null() {
                    row[3] = json!(500.0);
                }
            }
        });
    });
    says(&told, &["golden.json", "null) of mean_area, so"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_rejects_missing_values_is_never_given_one() {
    let running = serving(&exports().join("models")).await;
    let path = "/v1/models/sklearn_logistic_doubles:predict";
    let (status, answer) = running.post(path, json!({"rows": [{}]})).await;
    assert_eq!(status, 400, "{answer}");
    says(
        &answer.to_string(),
        &["rows[0].mean_radius", "rejects missing"],
    );
}

#[test]
fn a_feature_of_another_type_or_a_file_of_another_digest() {
    let told = broken("sklearn_forest_columns", &[], |model| {
        edit_text(
            &model.join("features.toml"),
            r#"name = "is_long", type = "bool""#,
            r#"name = "is_long", type = "int64""#,
        );
    });
    says(&told, &["input is_long", "bool", "int64"]);
    let told = broken("sklearn_forest_columns", &[], |model| {
        edit_text(
            &model.join("features.toml"),
            r#"name = "is_long""#,
            r#"name = "is_short""#,
        );
    });
    says(&told, &["input is_long", "no feature \"is_long\""]);
    let told = broken("lightgbm_binary", &[], |model| {
        edit_text(&model.join("1/model.txt"), "leaf_value=", "leaf_value= ");
    });
    says(&told, &["model.txt", "SHA-256"]);
}

#[test]
fn a_category_that_the_model_was_not_trained_on() {
    let told = broken("catboost_codes", &[], |model| {
        let path = model.join("model.toml");
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("[inputs.term]\ncategories = [\"term_36\", \"term_48\"]\n");
        fs::write(path, text).unwrap();
    });
    says(&told, &["inputs.term", "term_48"]);
}
