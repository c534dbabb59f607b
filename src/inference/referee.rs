//! Two runtimes of one version: the one that a person chose, and the signature's, which it has to be like to the bit.

use super::{Batch, Layout, Output, Runtime, Signature, golden::GoldenRows};
use crate::{
    error::{Error, Result},
    features::Value,
};

/// Rows that are made of the golden ones, each value of another of them: thresholds and missing values in new company.
const CROSSED: usize = 1_000;

/// Rows a run, the first of them alone.
const ROWS_PER_RUN: [usize; 4] = [1, 7, 64, 128];

/// Which rows are made is the same at every load.
const SEED: u64 = 6;

/// A runtime and its referee, with their names.
pub(super) struct Pair<'a> {
    pub(super) names: [&'a str; 2],
    pub(super) runtimes: [&'a mut dyn Runtime; 2],
}

impl GoldenRows {
    /// Has both runtimes score the golden rows, and rows that are crossed from them.
    ///
    /// # Errors
    /// `FailedPrecondition` that names the first row that they differ in, with both numbers; what a runtime answers.
    pub(super) fn check_alike(
        &self,
        mut pair: Pair<'_>,
        layout: &Layout,
        signature: &Signature,
    ) -> Result<()> {
        let golden = self.rows();
        let mut random = fastrand::Rng::with_seed(SEED);
        let crossed = (0..CROSSED).map(|_| crossed(golden, &mut random));
        let crossed: Vec<Vec<&Value>> = crossed.collect();
        let own = golden.iter().map(|row| row.iter().collect());
        let rows: Vec<Vec<&Value>> = own.chain(crossed).collect();
        let mut first = 0;
        for size in ROWS_PER_RUN.into_iter().cycle() {
            let part = rows.iter().skip(first).take(size);
            if part.len() == 0 {
                break;
            }
            let batch = batch(part, layout)?;
            if let Some((row, fault)) = pair.difference(&batch, signature)? {
                return Err(Error::failed_precondition(format!(
                    "{}: {fault}; leave runtime out of model.toml, and {} runs it",
                    named(first + row, golden.len()),
                    pair.names[1]
                )));
            }
            first += size;
        }
        Ok(())
    }
}

/// A row whose values are each of some golden row.
fn crossed<'a>(golden: &'a [Vec<Value>], random: &mut fastrand::Rng) -> Vec<&'a Value> {
    let inputs = golden.first().map_or(0, Vec::len);
    let of_any = |input| golden.get(random.usize(..golden.len()))?.get(input);
    (0..inputs).filter_map(of_any).collect()
}

fn named(row: usize, golden: usize) -> String {
    match row.checked_sub(golden) {
        None => format!("golden row {row}"),
        Some(row) => format!("row {row} of those that are crossed from the golden rows"),
    }
}

fn batch<'a>(
    rows: impl ExactSizeIterator<Item = &'a Vec<&'a Value>>,
    layout: &Layout,
) -> Result<Batch> {
    let mut batch = layout.empty_batch(rows.len());
    for (row, values) in rows.enumerate() {
        for (input, value) in values.iter().enumerate() {
            let set = layout.set(&mut batch, row, input, value);
            set.map_err(|fault| Error::failed_precondition(format!("golden rows: {fault}")))?;
        }
    }
    Ok(batch)
}

impl Pair<'_> {
    /// The first row of a batch that is not scored the same to the bit, and how.
    fn difference(
        &mut self,
        batch: &Batch,
        signature: &Signature,
    ) -> Result<Option<(usize, String)>> {
        let [one, referee] = &mut self.runtimes;
        let answered = [
            one.run(batch, 0..batch.rows)?,
            referee.run(batch, 0..batch.rows)?,
        ];
        let [one, referee] = &answered;
        let [name, referee_name] = self.names;
        let columns = signature.columns();
        let differing = (0..batch.rows * columns).find(|at| !is_same(one, referee, *at));
        Ok(differing.map(|at| {
            let number = |output: &Output| output.get(at).unwrap_or(f64::NAN);
            let fault = format!(
                "runtime = \"{name}\" answers {}, and {referee_name} {}, which it has to be like to the bit",
                number(one),
                number(referee)
            );
            (at / columns, fault)
        }))
    }
}

fn is_same(one: &Output, other: &Output, at: usize) -> bool {
    match (one.get(at), other.get(at)) {
        // Which of all NaN it is tells nothing.
        (Some(one), Some(other)) => {
            one.to_bits() == other.to_bits() || (one.is_nan() && other.is_nan())
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ops::Range;

    use super::*;
    use crate::inference::TensorData;

    const SIGNATURE: &str = r#"{"format_version": 1, "model": "m", "version": "1", "runtime": "onnx", "task": "regression",
        "file": "model.onnx", "sha256": "00", "output": "y", "golden": {"file": "golden.json", "tolerance": 1e-5},
        "inputs": [{"name": "a", "type": "double", "tensor": "x", "column": 0},
            {"name": "b", "type": "double", "tensor": "x", "column": 1}],
        "tensors": [{"name": "x", "type": "float", "columns": 2}]}"#;

    const GOLDEN: &str = r#"{"inputs": ["a", "b"], "rows": [[1.0, 2.0], [3.0, 4.0], [5.0, null]],
        "scores": [3.0, 7.0, 5.0], "kinds": ["sample", "sample", "missing"]}"#;

    /// Adds what is there; of the row that it is wrong about, a bit more.
    struct Adding {
        wrong: Option<[f32; 2]>,
    }

    impl Runtime for Adding {
        fn run(&mut self, batch: &Batch, rows: Range<usize>) -> Result<Output> {
            let Some(TensorData::Float(data)) = batch.tensors.first() else {
                return Err(Error::internal("no floats"));
            };
            let rows = data.chunks_exact(2).skip(rows.start).take(rows.len());
            let sum = |row: &[f32]| {
                let sum = row.iter().filter(|value| !value.is_nan()).sum::<f32>();
                match self.wrong {
                    Some(wrong) if row == wrong => sum.next_up(),
                    Some(_) | None => sum,
                }
            };
            Ok(Output::Float(rows.map(sum).collect()))
        }
    }

    fn compared(wrong: Option<[f32; 2]>) -> Result<()> {
        let signature = Signature::parse(SIGNATURE).unwrap();
        let golden = GoldenRows::parse(GOLDEN, &signature).unwrap();
        let pair = Pair {
            names: ["trees", "onnx"],
            runtimes: [&mut Adding { wrong }, &mut Adding { wrong: None }],
        };
        golden.check_alike(pair, &Layout::new(&signature), &signature)
    }

    #[test]
    fn a_bit_in_a_golden_row_or_one_that_is_crossed_is_a_difference() {
        assert!(compared(None).is_ok());
        let golden = compared(Some([3.0, 4.0])).unwrap_err().to_string();
        assert!(
            golden.contains("golden row 1: runtime = \"trees\" answers 7.0000005, and onnx 7"),
            "{golden}"
        );
        assert!(golden.contains("leave runtime out"), "{golden}");
        // A row that is not among the golden ones.
        let crossed = compared(Some([1.0, 4.0])).unwrap_err().to_string();
        assert!(
            crossed.contains("crossed from the golden rows"),
            "{crossed}"
        );
        assert!(compared(Some([9.0, 9.0])).is_ok());
    }
}
