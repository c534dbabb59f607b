//! The as-of join itself, by Polars. The only file that knows it.

use polars_core::{
    frame::DataFrame,
    prelude::{BinaryChunked, Column, IntoColumn, NamedFrom, NewChunkedArray, PolarsError, Series},
};
use polars_ops::frame::{AsofJoinBy, AsofStrategy};

use crate::error::{Error, Result};

const KEY: &str = "key";
const TIME: &str = "time";
const POSITION: &str = "position";

/// Rows of one side, in the order of their times.
pub(crate) struct Side<'a> {
    /// Each row's join key.
    pub(crate) keys: Vec<&'a [u8]>,
    /// Each row's time in microseconds, ascending.
    pub(crate) times: Vec<i64>,
}

impl Side<'_> {
    fn columns(self) -> Vec<Column> {
        let keys = BinaryChunked::from_slice(KEY.into(), &self.keys);
        let times = Series::new(TIME.into(), self.times);
        vec![keys.into_column(), times.into_column()]
    }
}

/// For each row of the left side the last row of the right side with the same key that is not after it, by its position.
///
/// # Errors
/// `Internal` where the engine refuses.
pub(crate) fn last_not_after(left: Side<'_>, right: Side<'_>) -> Result<Vec<Option<u32>>> {
    let (left_count, right_count) = (left.keys.len(), right.keys.len());
    if left_count == 0 || right_count == 0 {
        return Ok(vec![None; left_count]);
    }
    let right_rows = u32::try_from(right_count).map_err(|_| Error::internal("too many rows"))?;
    let mut right = right.columns();
    let positions: Vec<u32> = (0..right_rows).collect();
    right.push(Series::new(POSITION.into(), positions).into_column());
    let joined = join(left.columns(), left_count, right, right_count);
    let positions = joined.map_err(|fault| Error::internal(format!("the as-of join: {fault}")))?;
    if positions.len() == left_count {
        Ok(positions)
    } else {
        Err(Error::internal("the as-of join lost rows"))
    }
}

fn join(
    left: Vec<Column>,
    left_count: usize,
    right: Vec<Column>,
    right_count: usize,
) -> Result<Vec<Option<u32>>, PolarsError> {
    let left = DataFrame::new(left_count, left)?;
    let right = DataFrame::new(right_count, right)?;
    // Equal times match; of equal times the last row is taken.
    let joined = left.join_asof_by(
        &right,
        TIME,
        TIME,
        [KEY],
        [KEY],
        AsofStrategy::Backward,
        None,
        true,
        false,
    )?;
    Ok(joined.column(POSITION)?.u32()?.iter().collect())
}
