//! Models that have to be refused: the server starts, says why, and serves the others.

use std::{fs, path::Path};

use serde_json::json;

use crate::{
    models_support::{copy_of_models, edit_json, edit_text, sha256},
    support::{Running, ferrocast, filled_sqlite, text},
};

/// Breaks a copy, and checks that `check` names the fault and that a server refuses that version and nothing else.
async fn refused(named: &[&str], break_it: impl FnOnce(&Path)) {
    let dir = copy_of_models();
    break_it(&dir.path().join("credit_risk"));
    let models = dir.path().display().to_string();
    let checked = ferrocast(&["check", "--models", &models]);
    assert!(!checked.status.success());
    let stderr = text(&checked.stderr);
    for part in named {
        assert!(stderr.contains(part), "{part} in {stderr}");
    }

    let store = tempfile::tempdir().unwrap();
    let url = tokio::task::block_in_place(|| filled_sqlite(store.path()));
    let running = Running::on(&url, &[("models.path", &models)], store).await;
    let (status, answer) = running
        .post(
            "/v1/models/credit_risk:predictByEntity",
            json!({"entities": [{"loan_id": "LC00001"}]}),
        )
        .await;
    assert_eq!(
        (status, &answer["status"]),
        (400, &json!("FAILED_PRECONDITION")),
        "{answer}"
    );
    let message = answer["message"].as_str().unwrap();
    for part in named {
        assert!(message.contains(part), "{part} in {message}");
    }
    let (status, _) = running.get("/health/ready").await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_onnx_file() {
    // The digest is right, so that the file itself is looked at.
    refused(&["model.onnx", "no ONNX file"], |model| {
        let bytes = b"this is no model".to_vec();
        fs::write(model.join("1/model.onnx"), &bytes).unwrap();
        let digest = sha256(&bytes);
        edit_json(&model.join("1/signature.json"), |s| {
            s["sha256"] = json!(digest)
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_file_cut_short() {
    refused(&["model.onnx"], |model| {
        let path = model.join("1/model.onnx");
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() / 2);
        fs::write(&path, &bytes).unwrap();
        let digest = sha256(&bytes);
        edit_json(&model.join("1/signature.json"), |s| {
            s["sha256"] = json!(digest)
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_than_the_trainer_wrote() {
    refused(&["model.onnx", "SHA-256"], |model| {
        let path = model.join("1/model.onnx");
        let mut bytes = fs::read(&path).unwrap();
        bytes.push(0);
        fs::write(&path, bytes).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_golden_row_that_is_not_reproduced() {
    refused(&["golden.json", "golden row 7", "score"], |model| {
        edit_json(&model.join("1/golden.json"), |golden| {
            let score = golden["scores"][7].as_f64().unwrap();
            golden["scores"][7] = json!(score + 1e-3);
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feature_that_does_not_exist() {
    refused(&["input term", "loan_terms", "tenor"], |model| {
        edit_text(
            &model.join("model.toml"),
            "[example]",
            "[inputs.term]\nfeature = \"loan_terms:tenor\"\n[example]",
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_of_another_type_than_its_feature() {
    refused(&["input annual_inc", "int64", "double"], |model| {
        edit_json(&model.join("1/signature.json"), |signature| {
            let inputs = signature["inputs"].as_array_mut().unwrap();
            let input = inputs.iter_mut().find(|i| i["name"] == "annual_inc");
            input.unwrap()["type"] = json!("int64");
        });
        edit_json(&model.join("1/golden.json"), |_| {});
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_does_not_fit_the_graph() {
    refused(
        &["model.onnx", "no output \"scores\"", "probabilities"],
        |model| {
            edit_json(&model.join("1/signature.json"), |s| {
                s["output"] = json!("scores")
            });
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_with_an_unknown_key() {
    refused(&["signature.json", "treshold"], |model| {
        edit_json(&model.join("1/signature.json"), |s| {
            s["treshold"] = json!(1)
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_model_toml() {
    refused(&["model.toml"], |model| {
        fs::write(model.join("model.toml"), "name = ").unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_value_that_the_model_rejects() {
    let dir = copy_of_models();
    edit_text(
        &dir.path().join("credit_risk/model.toml"),
        "[example]",
        "[inputs.annual_inc]\non_missing = \"reject\"\n[example]",
    );
    let models = dir.path().display().to_string();
    let running = Running::with(&[("models.path", &models)]).await;
    let (status, answer) = running
        .post(
            "/v1/models/credit_risk:predict",
            json!({"rows": [{"annual_inc": 1}, {}]}),
        )
        .await;
    assert_eq!(
        (status, &answer["status"]),
        (400, &json!("FAILED_PRECONDITION"))
    );
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("rows[1].annual_inc"),
        "{answer}"
    );

    let write = json!({"rows": [{"loan_id": "LC00001", "annual_inc": null}]});
    running
        .post("/v1/featureViews/applicant:write", write)
        .await;
    let (status, answer) = running
        .post(
            "/v1/models/credit_risk:predictByEntity",
            json!({"entities": [{"loan_id": "LC00001"}]}),
        )
        .await;
    assert_eq!(status, 400);
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("applicant:annual_inc is null"),
        "{answer}"
    );
}
