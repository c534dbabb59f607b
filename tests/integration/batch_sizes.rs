//! A row scores the same to the bit, whatever company it has: replay and the sharing of runs rest on it.

use ferrocast::grpc::pb;
use prost_types::Struct;

use crate::{
    exports::{all, exports, row_of, serving},
    jobs_support::Client,
    support::object,
};

/// More than what one call of ONNX Runtime takes, by a row.
const ROWS: usize = 129;

/// The scores and probabilities of rows that are sent so many at once, as bits.
async fn bits(client: &mut Client, model: &str, rows: &[Struct], size: usize) -> Vec<Vec<u64>> {
    let mut found = Vec::new();
    for part in rows.chunks(size) {
        let request = pb::PredictRequest {
            model: model.to_owned(),
            rows: part.to_vec(),
            ..Default::default()
        };
        let answer = client.predict(request).await;
        let answer = answer.unwrap_or_else(|fault| panic!("{model}: {fault}"));
        for one in answer.into_inner().predictions {
            let mut classes: Vec<_> = one.probabilities.into_iter().collect();
            classes.sort_by(|one, other| one.0.cmp(&other.0));
            let numbers = classes.into_iter().map(|(_, number)| number);
            found.push(numbers.chain([one.score]).map(f64::to_bits).collect());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_scores_the_same_alone_and_in_every_company() {
    let folder = exports().join("models");
    let running = serving(&folder).await;
    let mut client = running.predictions().await;
    let models = all(&folder);
    let onnx = models
        .iter()
        .filter(|(_, signature, _)| signature["runtime"] == "onnx");
    let mut count = 0;
    for (name, _, golden) in onnx {
        let golden_rows = golden["rows"].as_array().unwrap().len();
        let rows: Vec<Struct> = (0..ROWS)
            .map(|row| object(&row_of(golden, row % golden_rows, true)))
            .collect();
        let together = bits(&mut client, name, &rows, ROWS).await;
        for size in [1, 2, 7, 64, 128] {
            let apart = bits(&mut client, name, &rows, size).await;
            let differing = together
                .iter()
                .zip(&apart)
                .filter(|(one, other)| one != other);
            assert_eq!(
                (differing.count(), apart.len()),
                (0, ROWS),
                "{name}, {size} at once"
            );
        }
        count += 1;
    }
    assert!(count >= 14, "{count} models");
}
