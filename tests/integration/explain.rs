//! What each input adds to a score, against XGBoost's own word for it.

use std::{collections::BTreeMap, fs};

use serde_json::{Value as Json, json};

use crate::{
    models_support::{copy_of_models, edit_json, sha256},
    support::{Running, ferrocast, models, text},
};

const EXPLAIN: &str = "/v1/models/credit_risk:explain";

fn golden() -> Json {
    let path = models().join("credit_risk/1/golden.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// By input.
fn contributions(answer: &Json) -> BTreeMap<String, f64> {
    let told = answer["contributions"].as_array().unwrap().iter();
    told.map(|one| {
        let input = one["input"].as_str().unwrap().to_owned();
        (input, one["contribution"].as_f64().unwrap())
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn contributions_are_xgboosts_own_and_lead_to_the_score() {
    let running = Running::start().await;
    let golden = golden();
    let names: Vec<&str> = golden["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let explained = &golden["explained"];
    let rows = explained["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 20);
    for (row, wanted) in rows
        .iter()
        .zip(explained["contributions"].as_array().unwrap())
    {
        let values = golden["rows"][usize::try_from(row.as_u64().unwrap()).unwrap()].as_array();
        let fields: serde_json::Map<String, Json> = names
            .iter()
            .zip(values.unwrap())
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let (status, answer) = running.post(EXPLAIN, json!({ "row": &fields })).await;
        assert_eq!(status, 200, "{answer}");
        let told = contributions(&answer);
        for (name, wanted) in names.iter().zip(wanted.as_array().unwrap()) {
            let wanted = wanted.as_f64().unwrap();
            assert!(
                (told[*name] - wanted).abs() < 1e-4,
                "row {row}, {name}: {} {wanted}",
                told[*name]
            );
        }
        for contribution in answer["contributions"].as_array().unwrap() {
            let name = contribution["input"].as_str().unwrap();
            let given = &contribution["value"];
            match fields[name].as_f64() {
                // The tensor is one of 32-bit floats.
                Some(number) => {
                    let told = given.as_f64().unwrap();
                    assert!(
                        (told - number).abs() <= number.abs() * 1e-7,
                        "{name}: {given}"
                    );
                }
                None => assert_eq!(given, &fields[name], "{name}"),
            }
        }
        let base = answer["baseValue"].as_f64().unwrap();
        assert!((base - explained["base_value"].as_f64().unwrap()).abs() < 1e-4);
        let raw = answer["rawScore"].as_f64().unwrap();
        assert!((base + told.values().sum::<f64>() - raw).abs() < 1e-9);
        let score = answer["prediction"]["score"].as_f64().unwrap();
        assert!(
            (1.0 / (1.0 + (-raw).exp()) - score).abs() < 1e-6,
            "{raw} {score}"
        );
        let sizes: Vec<f64> = answer["contributions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["contribution"].as_f64().unwrap().abs())
            .collect();
        assert!(sizes.is_sorted_by(|one, next| one >= next));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_is_explained_for_either_class() {
    let running = Running::start().await;
    let ask = async |body: Json| {
        let (status, answer) = running.post(EXPLAIN, body).await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let entity = json!({"loan_id": "LC00001"});
    let bad = ask(json!({ "entity": entity })).await;
    assert_eq!(bad["class"], "bad");
    assert_eq!(
        bad["prediction"]["featureStatuses"]["applicant:annual_inc"],
        "PRESENT"
    );
    let good = ask(json!({"entity": entity, "class": "good"})).await;
    assert_eq!(
        good["rawScore"].as_f64().unwrap(),
        -bad["rawScore"].as_f64().unwrap()
    );
    let (bad, good) = (contributions(&bad), contributions(&good));
    assert!(bad.iter().all(|(input, added)| good[input] == -added));

    for (body, named) in [
        (json!({}), "neither row nor entity"),
        (json!({"row": {}, "entity": {}}), "not beside"),
        (json!({"row": {}, "class": "ugly"}), "good, bad"),
        (json!({"row": {"income": 1}}), "no such input"),
    ] {
        let (status, answer) = running.post(EXPLAIN, body).await;
        assert_eq!(status, 400);
        assert!(answer.to_string().contains(named), "{named} in {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_of_another_model_refuse_the_version() {
    let signature = |change: fn(&mut Json)| {
        move |model: &std::path::Path| edit_json(&model.join("1/signature.json"), change)
    };
    let dir = copy_of_models();
    let model = dir.path().join("credit_risk");
    let check =
        || text(&ferrocast(&["check", "--models", &dir.path().display().to_string()]).stderr);
    // One leaf is another, and the digest is right: the golden rows notice.
    let path = model.join("1/trees.json");
    let whole = fs::read_to_string(&path).unwrap();
    edit_json(&path, |document| {
        let tree = &mut document["learner"]["gradient_booster"]["model"]["trees"][0];
        let leaves = tree["left_children"].as_array().unwrap().clone();
        for (at, left) in leaves.iter().enumerate() {
            if left == -1 {
                tree["split_conditions"][at] = json!(5.0);
            }
        }
    });
    let digest = sha256(&fs::read(&path).unwrap());
    edit_json(&model.join("1/signature.json"), |s| {
        s["explain"]["sha256"] = json!(digest)
    });
    assert!(check().contains("they are of another model"), "{}", check());
    // Cut short, it is no file of XGBoost.
    fs::write(&path, &whole[..1_000]).unwrap();
    let digest = sha256(&fs::read(&path).unwrap());
    edit_json(&model.join("1/signature.json"), |s| {
        s["explain"]["sha256"] = json!(digest)
    });
    assert!(
        check().contains("no model that XGBoost wrote"),
        "{}",
        check()
    );
    fs::write(&path, &whole).unwrap();
    assert!(check().contains("SHA-256"), "{}", check());
    let digest = sha256(whole.as_bytes());
    edit_json(&model.join("1/signature.json"), |s| {
        s["explain"]["sha256"] = json!(digest)
    });
    signature(|s| s["explain"]["matrix"] = json!("nowhere"))(&model);
    assert!(check().contains("tree_columns"), "{}", check());
    signature(|s| s["explain"]["columns"][0] = json!(99))(&model);
    assert!(check().contains("there is no input 99"), "{}", check());

    // Without it, the version serves, and says that it cannot explain.
    signature(|s| drop(s.as_object_mut().unwrap().remove("explain")))(&model);
    let path = dir.path().display().to_string();
    let running = Running::with(&[("models.path", &path)]).await;
    let (status, answer) = running.post(EXPLAIN, json!({"row": {}})).await;
    assert_eq!(
        (status, &answer["status"]),
        (400, &json!("FAILED_PRECONDITION"))
    );
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("cannot explain"),
        "{answer}"
    );
}
