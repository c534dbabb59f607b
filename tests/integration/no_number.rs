//! A model that answers no number for a row: the row is refused, and named.

use serde_json::{Value as Json, json};

use crate::{
    exports::{exports, read, row_of, serving},
    models_support::{copy, edit_text},
};

const NAME: &str = "sklearn_logistic_doubles";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_score_is_refused_or_left_to_the_fallback() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join(NAME);
    copy(&exports().join("models").join(NAME), &model);
    let golden = read(&model.join("1/golden.json"));
    let good = row_of(&golden, 0, true);
    let mut without = good.clone();
    for value in without.as_object_mut().unwrap().values_mut() {
        *value = json!(1e308);
    }
    let body = json!({ "rows": [good, without, good] });
    let path = format!("/v1/models/{NAME}:predict");
    let running = serving(dir.path()).await;
    let (status, answer) = running.post(&path, body.clone()).await;
    assert_eq!(
        (status, &answer["status"]),
        (400, &json!("FAILED_PRECONDITION")),
        "{answer}"
    );
    assert_eq!(answer["message"], "the model answers no number for rows[1]");
    assert!(running.server.stop().await);

    let fallback = "[fallback]\nscore = 0.25\nlabel = \"malignant\"\n[inputs.mean_radius]";
    edit_text(&model.join("model.toml"), "[inputs.mean_radius]", fallback);
    let running = serving(dir.path()).await;
    let (status, answer) = running.post(&path, body).await;
    assert_eq!(status, 200, "{answer}");
    let told = answer["predictions"].as_array().unwrap();
    let scores: Vec<&Json> = told.iter().map(|one| &one["score"]).collect();
    assert_eq!(scores[1], &json!(0.25));
    assert_eq!(scores[0], scores[2]);
    assert_ne!(scores[0], scores[1]);
    let reason = told[1]["fallback"]["reason"].as_str().unwrap();
    assert!(reason.contains("no number for rows[1]"), "{answer}");
    let (_, model) = running.get(&format!("/v1/models/{NAME}")).await;
    assert_eq!(model["versions"][0]["predictions"], "2", "{model}");
}
