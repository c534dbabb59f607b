//! How many rows are worth no hand-over: measured when a version is loaded.

use std::time::{Duration, Instant};

use super::{Batch, Runtime};
use crate::error::Result;

/// The fastest of so many runs counts: others had to wait for a processor.
const RUNS: usize = 5;

/// How many rows a runtime scores within a time, at the pace of one row alone; 0 where one takes longer.
///
/// # Errors
/// What the runtime answers.
pub(super) fn rows_within(max: Duration, runtime: &mut dyn Runtime, one: &Batch) -> Result<usize> {
    let mut fastest = Duration::MAX;
    for _ in 0..RUNS {
        let began = Instant::now();
        runtime.run(one, 0..1)?;
        fastest = fastest.min(began.elapsed());
    }
    let rows = max.as_nanos() / fastest.as_nanos().max(1);
    Ok(usize::try_from(rows).unwrap_or(usize::MAX))
}
