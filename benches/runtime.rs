//! What runs a model: the runtimes side by side, 200 trees of depth 6 over 30 columns, rows of chance that do not come again soon
//! (a processor learns the ways of a row that does).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

mod forest;

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ferrocast::{
    inference::{Batch, ModelFiles, Runtime, RuntimeLoader, Signature, TensorData},
    runtimes::{compiled::CompiledLoader, onnx::OnnxLoader},
};
use forest::Forest;

/// Rows that are scored in turn.
const ROWS: usize = 4_000;

fn runtimes(criterion: &mut Criterion) {
    let forest = Forest::default();
    let (model, columns) = (forest.model(), forest.columns);
    let signature = Signature::parse(&forest::signature(columns)).unwrap();
    let onnx = OnnxLoader::open(None, 1_000).unwrap();
    let loaders: [&dyn RuntimeLoader; 2] = [&onnx, &CompiledLoader];
    let batch = Batch {
        rows: ROWS,
        tensors: vec![TensorData::Float(forest::rows(
            ROWS,
            columns,
            &mut fastrand::Rng::with_seed(2),
        ))],
    };
    let mut group = criterion.benchmark_group("runtime");
    group.measurement_time(Duration::from_secs(3));
    for rows in [1, 8, 64, 1_000] {
        group.throughput(Throughput::Elements(rows as u64));
        for loader in loaders {
            let files = ModelFiles {
                model: &model,
                explain: None,
            };
            let mut loaded = loader.load(files, &signature, 1).unwrap();
            let runtime: &mut dyn Runtime = loaded[0].as_mut();
            let mut first = 0;
            group.bench_function(BenchmarkId::new(loader.name(), rows), |bencher| {
                bencher.iter(|| {
                    first = if first + 2 * rows > ROWS {
                        0
                    } else {
                        first + rows
                    };
                    black_box(runtime.run(black_box(&batch), first..first + rows).unwrap())
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, runtimes);
criterion_main!(benches);
