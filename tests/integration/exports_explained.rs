//! Explanations of real exports: each library's own contributions, or the version is refused.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::{
    exports::{all, broken, exports, is_built, row_of, says, serving},
    models_support::edit_json,
};

#[tokio::test(flavor = "multi_thread")]
async fn contributions_are_those_of_the_library_that_trained() {
    let running = serving(&exports().join("models")).await;
    let mut compared = 0;
    for (name, signature, golden) in all(&exports().join("models")) {
        if !is_built(&signature) || golden["explained"].is_null() {
            continue;
        }
        compared += 1;
        // XGBoost adds up 32-bit floats.
        let allowed = if name.starts_with("xgboost") {
            1e-5
        } else {
            1e-9
        };
        let explained = &golden["explained"];
        let wanted = explained["contributions"].as_array().unwrap();
        let rows = explained["rows"].as_array().unwrap();
        for (row, wanted) in rows.iter().zip(wanted) {
            let row = usize::try_from(row.as_u64().unwrap()).unwrap();
            // What two classes explain is the second one, of three classes the file has the first.
            let class = match signature["task"].as_str().unwrap() {
                "multiclass_classification" => signature["classes"][0].as_str().unwrap(),
                _ => "",
            };
            let body = json!({"row": row_of(&golden, row, true), "class": class});
            let path = format!("/v1/models/{name}:explain");
            let (status, answer) = running.post(&path, body).await;
            assert_eq!(status, 200, "{answer}");
            let near = |told: &Json, wanted: &Json| {
                let (told, wanted) = (told.as_f64().unwrap(), wanted.as_f64().unwrap());
                let scale = wanted.abs().max(1.0);
                assert!(
                    (told - wanted).abs() < allowed * scale,
                    "{name} {row}: {answer}"
                );
            };
            near(&answer["baseValue"], &explained["base_value"]);
            for told in answer["contributions"].as_array().unwrap() {
                let names = golden["inputs"].as_array().unwrap();
                let at = names.iter().position(|name| *name == told["input"]);
                near(&told["contribution"], &wanted[at.unwrap()]);
            }
        }
    }
    let expected = if cfg!(feature = "lightgbm") { 8 } else { 4 };
    assert_eq!(compared, expected);
}

#[test]
fn an_explanation_that_is_not_the_trainers() {
    let name = "lightgbm_categories";
    let told = broken(name, &[], |model| {
        edit_json(&model.join("1/golden.json"), |golden| {
            let told = &mut golden["explained"]["contributions"][0][1];
            *told = json!(told.as_f64().unwrap() + 1e-3);
        });
    });
    let part = if cfg!(feature = "lightgbm") {
        "the trainer explains it by"
    } else {
        "FEATURES=lightgbm"
    };
    says(
        &told,
        &["golden.json", part][usize::from(!cfg!(feature = "lightgbm"))..],
    );
}

/// Trees whose columns are told of the wrong inputs add up all the same; the trainer's own contributions notice.
#[test]
fn contributions_of_other_inputs() {
    let shifted = |model: &Path| {
        edit_json(&model.join("1/signature.json"), |signature| {
            signature["explain"]["columns"]
                .as_array_mut()
                .unwrap()
                .rotate_left(1);
        });
    };
    let told = broken("xgboost_multiclass", &[], shifted);
    says(&told, &["golden.json", "the trainer explains it by"]);
    for (change, named) in [
        (
            json!(null),
            "the trainer's own contributions of some rows are needed",
        ),
        (
            json!({"rows": [10_000], "base_value": 0, "contributions": [[]]}),
            "positions of some of the",
        ),
        (
            json!({"rows": [], "base_value": 0, "contributions": []}),
            "positions of some of the",
        ),
    ] {
        let told = broken("xgboost_multiclass", &[], |model| {
            edit_json(&model.join("1/golden.json"), |golden| {
                golden["explained"] = change.clone();
            });
        });
        says(&told, &["golden.json", named]);
    }
}
