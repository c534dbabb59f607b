//! `runtime = "trees"`: the same answers to the bit as ONNX Runtime, of every export of trees over a matrix, in a fraction of the
//! time; what it cannot run is refused by name, and a version goes on by the runtime that it had.

use std::{fs, ops::Range, path::Path};

use ferrocast::{
    inference::{Batch, ModelFiles, Output, Runtime, RuntimeLoader, Signature, TensorData},
    runtimes::{compiled::CompiledLoader, onnx::OnnxLoader},
};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::{
    exports::{all, broken, exports, row_of, says, serving},
    forest::{self, Forest},
    models_support::{copy, edit_json, edit_text},
    support::Running,
};

/// Rows of chance a model.
const ROWS: usize = 20_000;

/// The exports that are trees over one matrix of floats.
const QUALIFYING: [&str; 12] = [
    "catboost_codes",
    "catboost_multiclass",
    "catboost_regression",
    "lightgbm_binary_onnx",
    "lightgbm_categories_onnx",
    "sklearn_forest",
    "sklearn_forest_regression",
    "sklearn_one_probability",
    "xgboost_binary",
    "xgboost_multiclass",
    "xgboost_ranking",
    "xgboost_regression",
];

/// Both runtimes over one model.
struct Both {
    onnx: Box<dyn Runtime>,
    trees: Box<dyn Runtime>,
    columns: usize,
}

impl Both {
    fn of(model: &[u8], signature: &str) -> Both {
        let signature = Signature::parse(signature).unwrap();
        let onnx = OnnxLoader::open(None, 1_000).unwrap();
        let load = |loader: &dyn RuntimeLoader| {
            let files = ModelFiles {
                model,
                explain: None,
            };
            loader.load(files, &signature, 1).unwrap().remove(0)
        };
        Both {
            onnx: load(&onnx),
            trees: load(&CompiledLoader),
            columns: signature.tensors[0].columns,
        }
    }

    /// How many numbers there are that differ, and how many different ones.
    fn differences(&mut self, numbers: Vec<f32>) -> (usize, usize) {
        let rows = numbers.len() / self.columns;
        let batch = Batch {
            rows,
            tensors: vec![TensorData::Float(numbers)],
        };
        let (mut differing, mut known) = (0, std::collections::HashSet::new());
        for part in parts(rows) {
            let [one, other] = [&mut self.onnx, &mut self.trees]
                .map(|runtime| bits(&runtime.run(&batch, part.clone()).unwrap()));
            assert_eq!(one.len(), other.len());
            differing += one.iter().zip(&other).filter(|(a, b)| a != b).count();
            known.extend(one);
        }
        (differing, known.len())
    }
}

/// All rows, some at once: one, many, more than either runtime takes in a run.
fn parts(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let sizes = [1, 2, 7, 64, 65, 129, 300].into_iter().cycle();
    let mut first = 0;
    sizes.map_while(move |size| {
        let part = first..rows.min(first + size);
        first = part.end;
        (!part.is_empty()).then_some(part)
    })
}

fn bits(output: &Output) -> Vec<u32> {
    let Output::Float(values) = output else {
        panic!("no floats: {output:?}")
    };
    // Which of all NaN it is tells nothing.
    let bits = |value: &f32| {
        if value.is_nan() {
            u32::MAX
        } else {
            value.to_bits()
        }
    };
    values.iter().map(bits).collect()
}

/// Numbers about what a column is known to hold: on it, beside it, between two; and what no column should hold.
fn wild(known: &[Vec<f32>], rows: usize, random: &mut fastrand::Rng) -> Vec<f32> {
    let mut numbers = Vec::with_capacity(rows * known.len());
    for _ in 0..rows {
        let is_tame = random.bool();
        for known in known {
            let [one, other] = [(); 2].map(|()| *random.choice(known).unwrap());
            numbers.push(match random.u32(..12) {
                0 => f32::NAN,
                1 => one.next_up(),
                2 => one.next_down(),
                3..6 => one,
                6 if !is_tame => f32::INFINITY,
                7 if !is_tame => f32::NEG_INFINITY,
                8 if !is_tame => f32::from_bits(random.u32(..)),
                9 if !is_tame => -0.0,
                _ => one + (other - one) * random.f32(),
            });
        }
    }
    numbers
}

/// By column, what the golden rows hold, in the numbers of the tensor: the sides of thresholds among them.
fn golden_numbers(signature: &Json, golden: &Json) -> Vec<Vec<f32>> {
    let inputs = signature["inputs"].as_array().unwrap();
    let column = |(at, input): (usize, &Json)| {
        let rows = golden["rows"].as_array().unwrap().iter();
        let numbers = rows.filter_map(|row| match &row[at] {
            Json::String(text) => {
                let known = input["categories"].as_array()?;
                known
                    .iter()
                    .position(|known| known == text)
                    .map(|at| at as f32)
            }
            value => value.as_f64().map(|number| number as f32),
        });
        numbers.chain([0.0]).collect()
    };
    inputs.iter().enumerate().map(column).collect()
}

#[test]
fn every_export_of_trees_answers_as_onnx_runtime_to_the_bit() {
    let folder = exports().join("models");
    let mut random = fastrand::Rng::with_seed(11);
    for (name, signature, golden) in all(&folder) {
        if !QUALIFYING.contains(&name.as_str()) {
            continue;
        }
        let version = folder.join(&name).join("1");
        let model = fs::read(version.join("model.onnx")).unwrap();
        let mut both = Both::of(&model, &signature.to_string());
        let rows = wild(&golden_numbers(&signature, &golden), ROWS, &mut random);
        let (differing, known) = both.differences(rows);
        assert_eq!(differing, 0, "{name}");
        assert!(known > ROWS / 20, "{name}: {known} different numbers");
    }
}

#[test]
fn forests_of_chance_answer_as_onnx_runtime_to_the_bit() {
    const ODD: &[f32] = &[
        0.0,
        -0.0,
        1.0,
        f32::MIN,
        f32::MAX,
        f32::INFINITY,
        f32::NEG_INFINITY,
        1.0e-45,
        f32::NAN,
    ];
    const ALL: &[&str] = &[
        "BRANCH_LEQ",
        "BRANCH_LT",
        "BRANCH_GTE",
        "BRANCH_GT",
        "BRANCH_EQ",
        "BRANCH_NEQ",
    ];
    let odd = |modes, seed| Forest {
        trees: 40,
        columns: 5,
        modes,
        thresholds: ODD,
        leaf_share: 0.2,
        seed,
        ..Forest::default()
    };
    let forests = [
        Forest::default(),
        Forest {
            depth: 11,
            trees: 50,
            leaf_share: 0.3,
            ..Forest::default()
        },
        odd(&ALL[0..1], 2),
        odd(&ALL[1..2], 3),
        odd(&ALL[2..3], 4),
        odd(&ALL[3..4], 5),
        odd(&ALL[5..6], 6),
        odd(
            &[
                "BRANCH_LEQ",
                "BRANCH_LT",
                "BRANCH_GTE",
                "BRANCH_GT",
                "BRANCH_NEQ",
            ],
            7,
        ),
    ];
    let mut random = fastrand::Rng::with_seed(12);
    for forest in forests {
        let mut both = Both::of(&forest.model(), &forest::signature(forest.columns));
        let known: Vec<f32> = (0..50)
            .map(|_| forest::normal(&mut random))
            .chain(ODD.to_vec())
            .collect();
        let numbers = wild(&vec![known; forest.columns], ROWS / 2, &mut random);
        let (differing, known) = both.differences(numbers);
        assert_eq!(differing, 0, "{forest:?}");
        assert!(known > 1_000, "{forest:?}: {known} different numbers");
    }
}

/// A copy of some exports, and of a use case whose graph fills in missing values, whose model.toml asks for a runtime.
fn asking(names: &[&str], runtime: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let model = dir.path().join(name);
        let known = exports().join("models").join(name);
        let use_case = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("models")
            .join(name);
        copy(if known.is_dir() { &known } else { &use_case }, &model);
        ask(&model, runtime);
    }
    dir
}

fn ask(model: &Path, runtime: &str) {
    let path = model.join("model.toml");
    let old = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("runtime = \"{runtime}\"\n{old}")).unwrap();
}

async fn answers(running: &Running, name: &str, rows: &[Json]) -> Json {
    let path = format!("/v1/models/{name}:predict");
    let (status, mut answer) = running.post(&path, json!({"rows": rows})).await;
    assert_eq!(status, 200, "{answer}");
    for prediction in answer["predictions"].as_array_mut().unwrap() {
        prediction.as_object_mut().unwrap().remove("predictionId");
    }
    answer["predictions"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_export_of_trees_is_served_by_them_as_by_onnx_runtime() {
    let names = [&QUALIFYING[..], &["stock_direction"]].concat();
    let folder = asking(&names, "trees");
    let trees = serving(folder.path()).await;
    let other = asking(&names, "onnx");
    let onnx = serving(other.path()).await;
    let mut explained = 0;
    for (name, _, golden) in all(folder.path()) {
        let (_, model) = trees.get(&format!("/v1/models/{name}")).await;
        assert_eq!(model["versions"][0]["runtime"], "trees", "{model}");
        let count = golden["rows"].as_array().unwrap().len();
        let rows: Vec<Json> = (0..count).map(|row| row_of(&golden, row, true)).collect();
        assert_eq!(
            answers(&trees, &name, &rows).await,
            answers(&onnx, &name, &rows).await,
            "{name}"
        );
        let path = format!("/v1/models/{name}:explain");
        let mut answers = Vec::new();
        for running in [&trees, &onnx] {
            let (status, mut answer) = running.post(&path, json!({"row": rows[0]})).await;
            // What cannot be explained by one cannot be by the other.
            let told = if status == 200 {
                answer["prediction"]
                    .as_object_mut()
                    .unwrap()
                    .remove("predictionId");
                &answer
            } else {
                &answer["message"]
            };
            answers.push((status, told.clone()));
        }
        assert_eq!(answers[0], answers[1], "{name}");
        explained += usize::from(answers[0].0 == 200);
    }
    assert_eq!(explained, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_changes_its_runtime_while_it_serves() {
    let dir = asking(&["xgboost_binary"], "trees");
    let model = dir.path().join("xgboost_binary");
    let running = serving(dir.path()).await;
    let version = async |runtime: &str, part: &str| {
        for _ in 0..200 {
            let (_, found) = running.get("/v1/models/xgboost_binary").await;
            let version = &found["versions"][0];
            let reason = version["reason"].as_str().unwrap_or_default();
            if version["runtime"] == runtime
                && reason.contains(part)
                && reason.is_empty() == part.is_empty()
            {
                assert_eq!(version["state"], "READY", "{found}");
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("never by {runtime}, with {part}");
    };
    version("trees", "").await;
    edit_text(&model.join("model.toml"), "runtime = \"trees\"\n", "");
    version("onnx", "").await;
    ask(&model, "tree");
    // What cannot be is told, and what was goes on.
    version("onnx", "no runtime \"tree\"").await;
    edit_text(
        &model.join("model.toml"),
        "runtime = \"tree\"",
        "runtime = \"trees\"",
    );
    version("trees", "").await;
}

#[test]
fn what_the_trees_cannot_run_is_refused_by_name() {
    for (name, part) in [
        ("sklearn_forest_columns", "the signature has 8 tensors"),
        ("sklearn_logistic", "cannot run the operator Normalizer"),
        ("sklearn_logistic_doubles", "\"x\" is one of double"),
    ] {
        let told = broken(name, &[], |model| ask(model, "trees"));
        says(&told, &[name, part, "leave runtime out of model.toml"]);
    }
    // A version whose own signature names the trees would have no referee.
    let told = broken("xgboost_binary", &[], |model| {
        edit_json(&model.join("1/signature.json"), |signature| {
            signature["runtime"] = json!("trees");
        });
    });
    says(&told, &["runs ONNX files", "this one says \"trees\""]);
}
