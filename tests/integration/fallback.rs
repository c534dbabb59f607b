//! Who answers where a model cannot: another model, then a constant; for the rows at fault alone, or for all of them.

use std::{fs, path::Path};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::{
    models_support::{copy, copy_of_models, edit_json, edit_text},
    postgres::Postgres,
    support::{Running, fill},
};

const MODEL: &str = "/v1/models/credit_risk";
const BY_ENTITY: &str = "/v1/models/credit_risk:predictByEntity";
const ROWS: &str = "/v1/models/credit_risk:predict";

/// The repository's model with a fallback.
fn models_with(fallback: &str) -> TempDir {
    let dir = copy_of_models();
    let path = dir.path().join("credit_risk/model.toml");
    edit_text(
        &path,
        "[example]",
        &format!("[fallback]\n{fallback}\n[example]"),
    );
    dir
}

/// Adds a model that scores as the first one does, and knows of entities that nobody has heard of.
fn add_simple(models: &Path) {
    let simple = models.join("simple");
    copy(&models.join("credit_risk"), &simple);
    fs::remove_file(simple.join("features.toml")).unwrap();
    let toml = simple.join("model.toml");
    edit_text(&toml, "name = \"credit_risk\"", "name = \"simple\"");
    edit_text(&toml, "= \"reject\"", "= \"allow\"");
    let text = fs::read_to_string(&toml).unwrap();
    let (head, rest) = text.split_once("[fallback]").unwrap();
    let (_, tail) = rest.split_once("[example]").unwrap();
    fs::write(&toml, format!("{head}[example]{tail}")).unwrap();
    edit_json(&simple.join("1/signature.json"), |signature| {
        signature["model"] = json!("simple");
    });
}

async fn serve(models: &TempDir) -> Running {
    let path = models.path().display().to_string();
    Running::with(&[("models.path", &path)]).await
}

fn loans(ids: &[&str]) -> Json {
    let entities: Vec<Json> = ids.iter().map(|id| json!({ "loan_id": id })).collect();
    json!({ "entities": entities })
}

async fn predictions(running: &Running, path: &str, body: Json) -> Vec<Json> {
    let (status, answer) = running.post(path, body).await;
    assert_eq!(status, 200, "{answer}");
    answer["predictions"].as_array().unwrap().clone()
}

/// How often each fallback answered: the other model, the constant.
async fn counted(running: &Running) -> (Json, Json) {
    let (_, model) = running.get(MODEL).await;
    let fallback = &model["fallback"];
    (fallback["byModel"].clone(), fallback["byConstant"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_answers_for_the_rows_at_fault_alone() {
    let models = models_with("model = \"simple\"");
    add_simple(models.path());
    let running = serve(&models).await;
    let told = predictions(
        &running,
        BY_ENTITY,
        loans(&["LC00001", "nobody", "LC00002"]),
    )
    .await;
    for at in [0, 2] {
        assert_eq!(told[at]["fallback"], Json::Null, "{}", told[at]);
    }
    let reason = told[1]["fallback"]["reason"].as_str().unwrap();
    assert!(
        reason.contains("entities[1]") && reason.contains("nobody"),
        "{reason}"
    );
    assert_eq!(told[1]["fallback"]["model"], "simple");
    let by_itself = predictions(
        &running,
        "/v1/models/simple:predictByEntity",
        loans(&["nobody"]),
    )
    .await;
    assert_eq!(told[1]["score"], by_itself[0]["score"]);
    assert_eq!(counted(&running).await, (json!("1"), json!("0")));

    // The ledger has it under the model that scored.
    let id = told[1]["predictionId"].as_str().unwrap();
    let (status, kept) = running.get(&format!("/v1/predictions/{id}")).await;
    assert_eq!((status, &kept["model"]), (200, &json!("simple")), "{kept}");

    // The model as a whole is away; the other's own faults are told beside the model's.
    let (status, answer) = running.post(&format!("{MODEL}:unload"), json!({})).await;
    assert_eq!(status, 200, "{answer}");
    let told = predictions(&running, BY_ENTITY, loans(&["LC00001", "nobody"])).await;
    for one in &told {
        assert_eq!(one["fallback"]["model"], "simple");
        let reason = one["fallback"]["reason"].as_str().unwrap();
        assert!(reason.contains("unloaded"), "{reason}");
    }
    let (status, answer) = running.post("/v1/models/simple:unload", json!({})).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = running.post(BY_ENTITY, loans(&["LC00001"])).await;
    assert_eq!(status, 400, "{answer}");
    let message = answer["message"].as_str().unwrap();
    for part in ["\"credit_risk\"", "its fallback \"simple\"", "unloaded"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    // What is wrong with the request, no fallback makes right.
    let (status, answer) = running
        .post(BY_ENTITY, json!({"entities": [{"loan": 1}]}))
        .await;
    assert_eq!(status, 400, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constant_answers_for_refused_values_and_is_no_prediction() {
    let models = models_with("score = 0.25\nlabel = \"good\"");
    edit_text(
        &models.path().join("credit_risk/model.toml"),
        "[example]",
        "[inputs.annual_inc]\nmin = 0\non_invalid = \"reject\"\n[example]",
    );
    let running = serve(&models).await;
    let rows = json!({"rows": [
        {"annual_inc": 5, "term": "term_36"},
        {"annual_inc": -5, "term": "term_36"},
        {"annual_inc": 6, "term": "term_60"},
        {"annual_inc": -6},
    ]});
    let told = predictions(&running, ROWS, rows).await;
    for at in [1, 3] {
        let one = &told[at];
        assert_eq!(one["score"], json!(0.25));
        assert_eq!(
            (&one["label"], &one["predictionId"]),
            (&json!("good"), &json!(""))
        );
        assert_eq!(one["fallback"]["model"], "");
        let reason = one["fallback"]["reason"].as_str().unwrap();
        assert!(
            reason.contains(&format!("rows[{at}].annual_inc")),
            "{reason}"
        );
    }
    // The rows between have their own scores, those that they have alone.
    for (at, row) in [
        (0, json!({"annual_inc": 5, "term": "term_36"})),
        (2, json!({"annual_inc": 6, "term": "term_60"})),
    ] {
        let alone = predictions(&running, ROWS, json!({"rows": [row]})).await;
        assert_eq!(told[at]["score"], alone[0]["score"]);
        assert_eq!(told[at]["fallback"], Json::Null);
    }
    assert_eq!(counted(&running).await, (json!("0"), json!("2")));
    // A row of the wrong shape is the caller's own fault.
    let (status, answer) = running.post(ROWS, json!({"rows": [{"x": 1}]})).await;
    assert_eq!(status, 400, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constant_answers_while_the_store_is_away() {
    let postgres = tokio::task::block_in_place(|| Postgres::start(None));
    let url = postgres.fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    // The other model has no features either; packed rows mean nothing to it.
    let models = models_with("model = \"simple\"\nscore = 0.5");
    add_simple(models.path());
    let path = models.path().display().to_string();
    let settings = [("models.path", path.as_str())];
    let running = Running::on(&url, &settings, tempfile::tempdir().unwrap()).await;
    let told = predictions(&running, BY_ENTITY, loans(&["LC00001"])).await;
    assert_eq!(told[0]["fallback"], Json::Null);

    tokio::task::block_in_place(|| postgres.stop());
    let told = predictions(&running, BY_ENTITY, loans(&["LC00001", "LC00002"])).await;
    for one in &told {
        assert_eq!(one["score"], json!(0.5));
        assert_eq!(one["fallback"]["model"], "");
    }
    tokio::task::block_in_place(|| postgres.start_again());
    running.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_that_is_no_model_is_refused_at_load() {
    let running = serve(&models_with("model = \"nobody\"")).await;
    let (_, model) = running.get(MODEL).await;
    let reason = model["reason"].as_str().unwrap();
    assert!(
        reason.contains("fallback.model: no model is called \"nobody\""),
        "{reason}"
    );
}
