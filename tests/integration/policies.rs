//! What model.toml says of inputs: their age, their range, their categories, and what stands in for them.

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::{
    models_support::{copy_of_models, edit_text},
    support::{Running, ferrocast, text},
};

const PREDICT: &str = "/v1/models/credit_risk:predict";
const BY_ENTITY: &str = "/v1/models/credit_risk:predictByEntity";

fn with_policies(policies: &str) -> TempDir {
    let dir = copy_of_models();
    let path = dir.path().join("credit_risk/model.toml");
    edit_text(&path, "[example]", &format!("{policies}\n[example]"));
    dir
}

async fn serve(models: &TempDir) -> Running {
    let path = models.path().display().to_string();
    Running::with(&[("models.path", &path)]).await
}

fn violations(prediction: &Json) -> Vec<(String, String, bool)> {
    let told = prediction["violations"].as_array().unwrap().iter();
    told.map(|violation| {
        let text = |field: &str| violation[field].as_str().unwrap().to_owned();
        let is_defaulted = violation["defaulted"].as_bool().unwrap();
        (text("input"), text("kind"), is_defaulted)
    })
    .collect()
}

async fn scores(running: &Running, rows: Json) -> Vec<f64> {
    let (status, answer) = running.post(PREDICT, json!({ "rows": rows })).await;
    assert_eq!(status, 200, "{answer}");
    let predictions = answer["predictions"].as_array().unwrap().iter();
    predictions
        .map(|prediction| prediction["score"].as_f64().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_outside_is_named_counted_and_handled_as_asked() {
    let models = with_policies(
        r#"
        [inputs.annual_inc]
        min = 0
        max = 1e7
        on_invalid = "missing"
        [inputs.int_rate]
        max = 0.5
        on_invalid = "default"
        default = 0.1
        [inputs.term]
        categories = ["term_36", "term_60"]
        [inputs.funded_amnt]
        on_missing = "default"
        default = 10000
        "#,
    );
    let running = serve(&models).await;
    let rows = json!([
        {"annual_inc": -5, "int_rate": 0.9, "term": "term_48", "funded_amnt": 2000},
        {"annual_inc": 5, "int_rate": 0.2, "term": "term_36"},
        {"annual_inc": 0, "int_rate": 0.5, "term": "term_60", "funded_amnt": 1},
    ]);
    let (status, answer) = running.post(PREDICT, json!({ "rows": rows })).await;
    assert_eq!(status, 200, "{answer}");
    let told = |at: usize| violations(&answer["predictions"][at]);
    let named =
        |input: &str, kind: &str, is_defaulted| (input.to_owned(), kind.to_owned(), is_defaulted);
    assert_eq!(
        told(0),
        [
            named("term", "UNKNOWN_CATEGORY", false),
            named("int_rate", "OUT_OF_RANGE", true),
            named("annual_inc", "OUT_OF_RANGE", false),
        ]
    );
    assert_eq!(told(1), [named("funded_amnt", "MISSING", true)]);
    assert_eq!(told(2), []);

    // The model got what the policies say.
    let as_asked = scores(
        &running,
        json!([
            {"annual_inc": -5, "int_rate": 0.9, "term": "term_36", "funded_amnt": 2000},
            {"annual_inc": 5, "int_rate": 0.2, "term": "term_36"},
        ]),
    )
    .await;
    let by_hand = scores(
        &running,
        json!([
            {"int_rate": 0.1, "term": "term_36", "funded_amnt": 2000},
            {"annual_inc": 5, "int_rate": 0.2, "term": "term_36", "funded_amnt": 10000},
        ]),
    )
    .await;
    assert_eq!(as_asked, by_hand);

    let (_, model) = running.get("/v1/models/credit_risk").await;
    let inputs = model["versions"][0]["inputs"].as_array().unwrap();
    let counted = |name: &str| {
        let input = inputs.iter().find(|input| input["name"] == name).unwrap();
        input["violations"].clone()
    };
    assert_eq!(
        counted("term"),
        json!([{"kind": "UNKNOWN_CATEGORY", "count": "1"}])
    );
    assert_eq!(
        counted("annual_inc"),
        json!([{"kind": "OUT_OF_RANGE", "count": "2"}])
    );
    assert_eq!(
        counted("funded_amnt"),
        json!([{"kind": "MISSING", "count": "2"}])
    );
    assert_eq!(counted("sub_grade"), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_does_not_hide_from_drift_what_was_missing() {
    let models = with_policies(
        "[inputs.annual_inc]\non_missing = \"default\"\ndefault = 50000\n\
         [inputs.int_rate]\nmax = 0.5\non_invalid = \"default\"\ndefault = 0.1\n\
         on_missing = \"default\"",
    );
    let running = serve(&models).await;
    let rows: Vec<Json> = (0..50)
        .map(|row| match row % 2 {
            0 => json!({}),
            _ => json!({"annual_inc": 50_000, "int_rate": 0.9}),
        })
        .collect();
    scores(&running, json!(rows)).await;
    let (_, model) = running.get("/v1/models/credit_risk").await;
    let inputs = model["versions"][0]["inputs"].as_array().unwrap();
    for name in ["annual_inc", "int_rate"] {
        let input = inputs.iter().find(|input| input["name"] == name).unwrap();
        let drift = &input["drift"];
        assert_eq!(
            (&drift["rows"], &drift["missingShare"]),
            (&json!("50"), &json!(0.5)),
            "{name}: {drift}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rejected_names_row_and_bounds() {
    let models = with_policies(
        "[inputs.annual_inc]\nmin = 0\non_invalid = \"reject\"\n\
         [inputs.term]\ncategories = [\"term_36\"]\non_invalid = \"reject\"",
    );
    let running = serve(&models).await;
    for (row, named) in [
        (
            json!({"annual_inc": -1, "term": "term_36"}),
            vec!["rows[1].annual_inc", "-1", "0 to infinity"],
        ),
        (
            json!({"annual_inc": 1, "term": "term_60"}),
            vec!["rows[1].term", "term_60", "none of the texts"],
        ),
    ] {
        let (status, answer) = running.post(PREDICT, json!({"rows": [{}, row]})).await;
        assert_eq!(
            (status, &answer["status"]),
            (400, &json!("FAILED_PRECONDITION"))
        );
        for part in named {
            assert!(
                answer["message"].as_str().unwrap().contains(part),
                "{part} in {answer}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_older_than_its_input_allows_is_missing() {
    let models = with_policies(
        "[inputs.annual_inc]\nmax_age = \"1h\"\n\
         [inputs.addr_state]\nmax_age = \"1h\"\non_missing = \"default\"\ndefault = \"CA\"",
    );
    let running = serve(&models).await;
    // The sample is of 2016; its views have no TTL.
    let body = json!({"entities": [{"loan_id": "LC00001"}], "includeFeatures": true});
    let (status, answer) = running.post(BY_ENTITY, body.clone()).await;
    assert_eq!(status, 200, "{answer}");
    let prediction = &answer["predictions"][0];
    assert_eq!(
        violations(prediction),
        [
            ("annual_inc".to_owned(), "TOO_OLD".to_owned(), false),
            ("addr_state".to_owned(), "TOO_OLD".to_owned(), true),
        ]
    );
    assert_eq!(
        prediction["featureStatuses"]["applicant:annual_inc"],
        "OUTSIDE_TTL"
    );
    assert_eq!(
        prediction["featureStatuses"]["applicant:emp_length"],
        "PRESENT"
    );

    // Written now, it is fresh.
    let write = json!({"rows": [{"loan_id": "LC00001", "annual_inc": 1}]});
    let (status, _) = running
        .post("/v1/featureViews/applicant:write", write)
        .await;
    assert_eq!(status, 200);
    let (_, answer) = running.post(BY_ENTITY, body).await;
    assert_eq!(violations(&answer["predictions"][0]).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_make_no_sense_refuse_the_version() {
    for (policies, named) in [
        ("[inputs.annual_inc]\nmax_age = \"soon\"", "no duration"),
        ("[inputs.annual_inc]\nmin = 2\nmax = 1", "min to max"),
        ("[inputs.annual_inc]\ncategories = [\"a\"]", "for strings"),
        ("[inputs.term]\nmin = 1", "for numbers"),
        (
            "[inputs.term]\ndefault = 3\non_missing = \"default\"",
            "expected a string",
        ),
        (
            "[inputs.term]\non_missing = \"default\"",
            "asks for a default",
        ),
        ("[inputs.term]\ndefault = \"x\"", "no policy asks"),
        (
            "[inputs.annual_inc]\nmax = 1\non_missing = \"default\"\ndefault = 2",
            "default: it is outside",
        ),
        (
            "[inputs.term]\ncategories = [\"a\"]\non_missing = \"default\"\ndefault = \"b\"",
            "default: it is none of the categories",
        ),
        (
            "[inputs.annual_inc]\non_missing = \"default\"\ndefault = 1e39",
            "the default of the input",
        ),
        (
            "[inputs.annual_inc]\non_invalid = \"reject\"",
            "needs min, max or categories",
        ),
    ] {
        let dir = with_policies(policies);
        let models = dir.path().display().to_string();
        let checked = ferrocast(&["check", "--models", &models]);
        let stderr = text(&checked.stderr);
        assert!(
            !checked.status.success() && stderr.contains(named),
            "{named} in {stderr}"
        );
    }
}
