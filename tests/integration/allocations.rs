//! What a row more takes of memory on its way to a score: nothing but what its messages take, however it comes. A text that is
//! longer than 24 bytes takes its own.

use std::{fs, thread};

use allocation_counter::measure;
use ferrocast::{
    features::Value,
    grpc::pb::{self, prediction_service_client::PredictionServiceClient},
    inference::{Batch, Layout, ModelFiles, RuntimeLoader, Signature, TensorData},
    runtimes::{compiled::CompiledLoader, onnx::OnnxLoader},
};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tonic::{Response, Status, transport::Channel};

use crate::{
    forest::{self, Forest},
    support::{Running, filled_sqlite, loan, models, object},
};

/// Rows of the smaller of two requests; the other has twice as many.
const ROWS: usize = 200;

type Client = PredictionServiceClient<Channel>;
type Answer = Result<Response<pb::PredictResponse>, Status>;

/// Holds what a row more takes. Lists that grow once more, and messages of some more frames, are far fewer than rows.
fn assert_a_row_takes(expected: i64, mut allocations: impl FnMut(usize) -> i64) {
    // What is kept from run to run is brought to its size first, and runs of another size keep it.
    for rows in [2 * ROWS, 1] {
        allocations(rows);
    }
    let (one, twice) = (allocations(ROWS), allocations(2 * ROWS));
    let rows = i64::try_from(ROWS).unwrap();
    let more = twice - one - expected * rows;
    assert!(
        more.abs() < rows / 4,
        "{one} of {rows} rows, {twice} of twice as many"
    );
}

fn counted(work: impl FnOnce()) -> i64 {
    i64::try_from(measure(work).count_total).unwrap()
}

/// Holds what a row more takes in a runtime.
fn assert_a_row_of(
    expected: i64,
    loader: &dyn RuntimeLoader,
    model: &[u8],
    signature: &Signature,
    batch: &Batch,
) {
    let files = ModelFiles {
        model,
        explain: None,
    };
    let mut runtime = loader.load(files, signature, 1).unwrap().remove(0);
    assert_a_row_takes(expected, |rows| {
        counted(|| drop(runtime.run(batch, 0..rows).unwrap()))
    });
}

#[test]
fn a_runtime_allocates_for_a_run_and_not_for_a_row() {
    let forest = Forest::default();
    let signature = Signature::parse(&forest::signature(forest.columns)).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let rows = forest::rows(2 * ROWS, forest.columns, &mut random);
    let batch = Batch {
        rows: 2 * ROWS,
        tensors: vec![TensorData::Float(rows)],
    };
    let onnx = OnnxLoader::open(None, 1_000).unwrap();
    for loader in [&onnx as &dyn RuntimeLoader, &CompiledLoader] {
        assert_a_row_of(0, loader, &forest.model(), &signature, &batch);
    }
}

#[test]
fn of_texts_onnx_runtime_has_its_own_copies_and_nobody_else() {
    let folder = models().join("credit_risk/1");
    let text = fs::read_to_string(folder.join("signature.json")).unwrap();
    let signature = Signature::parse(&text).unwrap();
    let layout = Layout::new(&signature);
    let mut batch = layout.empty_batch(2 * ROWS);
    let texts = signature.inputs.iter().enumerate();
    let texts: Vec<usize> = texts
        .filter(|(_, input)| !input.categories.is_empty())
        .map(|(position, _)| position)
        .collect();
    assert_eq!(texts.len(), 5);
    for row in 0..2 * ROWS {
        for input in &texts {
            let text = Value::String(signature.inputs[*input].categories[0].as_str().into());
            let set = counted(|| layout.set(&mut batch, row, *input, &text).unwrap());
            assert_eq!(set, 0);
        }
    }
    let onnx = OnnxLoader::open(None, 1_000).unwrap();
    let model = fs::read(folder.join("model.onnx")).unwrap();
    // A C string each, which the crate makes of every text.
    assert_a_row_of(5, &onnx, &model, &signature, &batch);
}

/// A server on the thread that counts; its callers are on others, and so are the models' own threads.
struct Counted {
    runtime: Runtime,
    running: Running,
}

impl Counted {
    fn new(settings: &[(&str, &str)]) -> Counted {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let url = filled_sqlite(dir.path());
        let running = runtime.block_on(Running::on(&url, settings, dir));
        Counted { runtime, running }
    }

    /// What the server allocates for a call beyond what a copy of the question and one of the answer take.
    fn beyond_messages<Q: Clone + Send + 'static>(
        &self,
        question: Q,
        rows: usize,
        ask: impl AsyncFnOnce(&mut Client, Q) -> Answer + Send + 'static,
    ) -> i64 {
        let own = counted(|| drop(question.clone()));
        let url = format!("http://{}", self.running.server.grpc_addr());
        let (sender, mut answered) = tokio::sync::mpsc::channel(1);
        let caller = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let answer = runtime.unwrap().block_on(async {
                let mut client = Client::connect(url).await.unwrap();
                ask(&mut client, question).await
            });
            sender.blocking_send(answer).unwrap();
        });
        let mut answer = None;
        let took = counted(|| answer = self.runtime.block_on(answered.recv()));
        caller.join().unwrap();
        let answer = answer.unwrap().unwrap().into_inner();
        assert_eq!(answer.predictions.len(), rows);
        took - own - counted(|| drop(answer.clone()))
    }
}

#[test]
fn a_row_more_takes_no_memory_but_that_of_its_messages() {
    let settings = [
        ("cache.bytes_max", "100000000"),
        // Whatever this thread is busy with, its rows stay in the cache.
        ("cache.stale_ms_max", "0"),
        // Written behind the answers, by the same thread here.
        ("ledger.enabled", "false"),
        // What models take has tests of its own.
        ("models.inline_us_max", "0"),
    ];
    let server = Counted::new(&settings);
    let model = || "credit_risk".to_owned();

    // Two views, 22 features of which five are texts, out of the cache.
    assert_a_row_takes(0, |rows| {
        let question = pb::PredictByEntityRequest {
            model: model(),
            entities: (1..=rows).map(|at| loan(&format!("LC{at:05}"))).collect(),
            ..Default::default()
        };
        server.beyond_messages(question, rows, async |client, question| {
            client.predict_by_entity(question).await
        })
    });

    assert_a_row_takes(0, |rows| {
        let question = pb::PredictRequest {
            model: model(),
            dense: Some(pb::DenseRows {
                values: vec![1.0; rows * 22],
                row_count: u32::try_from(rows).unwrap(),
            }),
            ..Default::default()
        };
        server.beyond_messages(question, rows, async |client, question| {
            client.predict(question).await
        })
    });

    let row = object(&json!({"term": "term_36", "int_rate": 13.5, "annual_inc": 50_000}));
    // A list of its names and values.
    assert_a_row_takes(1, |rows| {
        let question = pb::PredictRequest {
            model: model(),
            rows: vec![row.clone(); rows],
            ..Default::default()
        };
        server.beyond_messages(question, rows, async |client, question| {
            client.predict(question).await
        })
    });
}
