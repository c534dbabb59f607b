//! A text that a model gets as a number keeps its text in the ledger: another version may number it otherwise.

use std::path::Path;

use arrow_array::cast::AsArray;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::{
    exports::exports,
    ledger_export::{export, read},
    models_support::{copy, edit_json},
    support::{Running, ferrocast, sqlite_url, text},
};

const NAME: &str = "lightgbm_categories_onnx";
const FEATURES: [(&str, &str); 2] = [("sub_grade", "E1"), ("term", "term_60")];

/// The model, and version 2 of it: the same trees, given the sub-grades in the other order.
fn two_versions() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join(NAME);
    copy(&exports().join("models").join(NAME), &model);
    let second = model.join("2");
    copy(&model.join("1"), &second);
    let mut known = Vec::new();
    edit_json(&second.join("signature.json"), |signature| {
        signature["version"] = json!("2");
        let inputs = signature["inputs"].as_array_mut().unwrap();
        let input = inputs.iter_mut().find(|input| input["name"] == "sub_grade");
        let categories = input.unwrap()["categories"].as_array_mut().unwrap();
        known.clone_from(categories);
        categories.reverse();
    });
    edit_json(&second.join("golden.json"), |golden| {
        let inputs = golden["inputs"].as_array().unwrap();
        let place = inputs.iter().position(|input| input == "sub_grade");
        for row in golden["rows"].as_array_mut().unwrap() {
            let cell = &mut row[place.unwrap()];
            if let Some(at) = known.iter().position(|text| text == cell) {
                *cell = known[known.len() - 1 - at].clone();
            }
        }
    });
    dir
}

async fn serve(models: &Path, url: &str) -> Running {
    let models = models.display().to_string();
    Running::on(
        url,
        &[("models.path", &models)],
        tempfile::tempdir().unwrap(),
    )
    .await
}

/// Scores one row by a version: its prediction.
async fn predict(running: &Running, version: &str) -> Json {
    let mut row = json!({"annual_inc": 42_000, "int_rate": 19.99, "revol_util": 57.3});
    for (name, value) in FEATURES {
        row[name] = json!(value);
    }
    let path = format!("/v1/models/{NAME}/versions/{version}:predict");
    let (status, answer) = running.post(&path, json!({ "rows": [row] })).await;
    assert_eq!(status, 200, "{answer}");
    answer["predictions"][0].clone()
}

async fn replay(running: &Running, prediction: &Json, version: &str) -> (u16, Json) {
    let id = prediction["predictionId"].as_str().unwrap();
    let path = format!("/v1/predictions/{id}:replay");
    running.post(&path, json!({ "version": version })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_with_other_numbers_gets_the_same_texts() {
    let (models, store) = (two_versions(), tempfile::tempdir().unwrap());
    let url = sqlite_url(store.path());
    let shown = models.path().display().to_string();
    let applied = tokio::task::block_in_place(|| {
        ferrocast(&["apply", "--models", &shown, "--database-url", &url])
    });
    assert!(applied.status.success(), "{}", text(&applied.stderr));
    let running = serve(models.path(), &url).await;
    let (first, second) = (predict(&running, "1").await, predict(&running, "2").await);
    assert_ne!(first["score"], second["score"]);

    let (status, replayed) = replay(&running, &first, "2").await;
    assert_eq!(status, 200, "{replayed}");
    assert_eq!(replayed["score"], second["score"], "{replayed}");
    assert_eq!(replayed["identical"], false, "{replayed}");
    assert_eq!(replayed["sameVersion"], false, "{replayed}");
    let (_, replayed) = replay(&running, &first, "").await;
    assert_eq!(replayed["identical"], true, "{replayed}");
    assert_eq!(replayed["sameVersion"], true, "{replayed}");
    let inputs = replayed["recorded"]["inputs"].as_array().unwrap();
    for (name, value) in FEATURES {
        let input = inputs.iter().find(|input| input["name"] == name).unwrap();
        assert_eq!(input["value"], value, "{replayed}");
    }
    assert!(running.server.stop().await);

    assert_exported(store.path(), &url);

    // Records of old have the number alone: whoever has other numbers must not guess.
    forget_categories(store.path());
    let running = serve(models.path(), &url).await;
    let (_, replayed) = replay(&running, &first, "").await;
    assert_eq!(replayed["identical"], true, "{replayed}");
    let (status, answer) = replay(&running, &first, "2").await;
    assert_eq!(status, 400, "{answer}");
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.contains("sub_grade: ") && message.contains("number of a category"),
        "{answer}"
    );
}

fn assert_exported(folder: &Path, url: &str) {
    let out = folder.join("out.parquet");
    let shown = out.display().to_string();
    for further in [vec!["--model", NAME], Vec::new()] {
        let flags = [vec!["--from", "2020-01-01", "--out", &shown], further].concat();
        let (code, _, stderr) = tokio::task::block_in_place(|| export(url, &flags));
        assert_eq!(code, 0, "{stderr}");
        let batches = read(&out);
        for (name, value) in FEATURES {
            if let Some(column) = batches[0].column_by_name(&format!("input_{name}")) {
                assert_eq!(column.as_string::<i32>().value(0), value);
            } else {
                let inputs = batches[0].column_by_name("inputs").unwrap();
                let inputs: Json =
                    serde_json::from_str(inputs.as_string::<i32>().value(0)).unwrap();
                assert_eq!(inputs[name], value);
            }
        }
    }
}

fn forget_categories(folder: &Path) {
    let store = rusqlite::Connection::open(folder.join("store.db")).unwrap();
    let changed = store.execute(
        "UPDATE ferrocast_prediction_versions SET description = (SELECT json_group_object(key, CASE key WHEN 'inputs' \
         THEN json((SELECT json_group_array(json_remove(value, '$.categories')) FROM json_each(description, '$.inputs'))) \
         ELSE CASE type WHEN 'array' THEN json(value) ELSE value END END) FROM json_each(description))",
        [],
    );
    assert_eq!(changed.unwrap(), 2);
}
