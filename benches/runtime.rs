//! What runs a model: the runtimes side by side, 200 trees of depth 6 over 30 columns, rows of chance that do not come again soon
//! (a processor learns the ways of a row that does). Compare the fastest of each: what else runs on the machine is in the others.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

#[path = "../tests/support/forest.rs"]
mod forest;

use divan::{Bencher, counter::ItemsCount};
use ferrocast::{
    inference::{Batch, ModelFiles, RuntimeLoader, Signature, TensorData},
    runtimes::{compiled::CompiledLoader, onnx::OnnxLoader},
};
use forest::Forest;

/// Rows that are scored in turn.
const ROWS: usize = 4_000;

/// Rows a call.
const SIZES: [usize; 4] = [1, 8, 64, 1_000];

fn main() {
    divan::main();
}

#[divan::bench(args = SIZES, sample_count = 500)]
fn onnx(bencher: Bencher<'_, '_>, rows: usize) {
    run(bencher, &OnnxLoader::open(None, 1_000).unwrap(), rows);
}

#[divan::bench(args = SIZES, sample_count = 500)]
fn trees(bencher: Bencher<'_, '_>, rows: usize) {
    run(bencher, &CompiledLoader, rows);
}

fn run(bencher: Bencher<'_, '_>, loader: &dyn RuntimeLoader, rows: usize) {
    let forest = Forest::default();
    let signature = Signature::parse(&forest::signature(forest.columns)).unwrap();
    let model = forest.model();
    let files = ModelFiles {
        model: &model,
        explain: None,
    };
    let mut runtime = loader.load(files, &signature, 1).unwrap().remove(0);
    let mut random = fastrand::Rng::with_seed(2);
    let batch = Batch {
        rows: ROWS,
        tensors: vec![TensorData::Float(forest::rows(
            ROWS,
            forest.columns,
            &mut random,
        ))],
    };
    let mut first = 0;
    bencher.counter(ItemsCount::new(rows)).bench_local(|| {
        first = if first + 2 * rows > ROWS {
            0
        } else {
            first + rows
        };
        runtime.run(&batch, first..first + rows).unwrap()
    });
}
