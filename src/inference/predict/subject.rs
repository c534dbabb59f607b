//! What is to be scored, in the form in which it came.

use std::{ops::Range, sync::Arc};

use crate::{
    catalog::Field,
    error::{Error, Result},
    features::{RawRow, Timestamp},
    inference::{
        ReadyVersion,
        release::{bucket_of, bucket_of_numbers},
    },
};

/// Rows or entities to score; cheap to clone.
#[derive(Debug, Clone)]
pub enum Subject {
    /// Rows, input name to value.
    Rows(Arc<[RawRow]>),
    /// Packed numbers, row after row in the order of the signature.
    Dense {
        /// The numbers.
        values: Arc<[f32]>,
        /// How many rows they are.
        rows: usize,
    },
    /// Entities, join key to value.
    Entities {
        /// The entities.
        rows: Arc<[RawRow]>,
        /// The moment whose features are read; none: the newest.
        as_of: Option<Timestamp>,
    },
}

impl Subject {
    /// Entities with their newest features.
    pub fn entities(rows: Vec<RawRow>) -> Subject {
        Subject::Entities {
            rows: rows.into(),
            as_of: None,
        }
    }

    /// How many rows or entities.
    pub fn len(&self) -> usize {
        match self {
            Subject::Rows(rows) | Subject::Entities { rows, .. } => rows.len(),
            Subject::Dense { rows, .. } => *rows,
        }
    }

    /// Whether there is nothing to score.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entity of a row, as the caller named it; none where rows came with the request.
    pub fn entity(&self, row: usize) -> Option<&RawRow> {
        match self {
            Subject::Entities { rows, .. } => rows.get(row),
            Subject::Rows(_) | Subject::Dense { .. } => None,
        }
    }

    /// The same for a version that takes other inputs, as far as rows at some positions are concerned: without the keys that
    /// it does not know.
    ///
    /// # Errors
    /// `FailedPrecondition` for packed numbers, whose meaning is that of another model's inputs.
    pub(super) fn taken_by(&self, version: &ReadyVersion, positions: &[usize]) -> Result<Subject> {
        match self {
            Subject::Entities { .. } => Ok(self.clone()),
            Subject::Dense { .. } => Err(Error::failed_precondition(
                "packed numbers mean nothing to another model; send rows",
            )),
            Subject::Rows(rows) => {
                let mut taken = vec![RawRow::default(); rows.len()];
                for position in positions {
                    if let (Some(row), Some(own)) = (rows.get(*position), taken.get_mut(*position))
                    {
                        let is_known =
                            |name: &str| version.signature.inputs.iter().any(|i| i.name == name);
                        let fields = row.fields.iter().filter(|(name, _)| is_known(name));
                        own.fields = fields.cloned().collect();
                    }
                }
                Ok(Subject::Rows(taken.into()))
            }
        }
    }

    /// Some of its rows, by themselves. What a caller sent as rows or numbers has been laid out, and needs no second copy.
    pub(super) fn part(&self, rows: &Range<usize>) -> Subject {
        match self {
            Subject::Entities { rows: all, as_of } => Subject::Entities {
                rows: all.get(rows.clone()).unwrap_or_default().into(),
                as_of: *as_of,
            },
            Subject::Rows(_) | Subject::Dense { .. } => Subject::Rows(Arc::from([])),
        }
    }

    /// The field of the request that has it.
    pub(super) fn field(&self) -> &'static str {
        match self {
            Subject::Rows(_) => "rows",
            Subject::Dense { .. } => "dense.rowCount",
            Subject::Entities { .. } => "entities",
        }
    }

    /// What messages call a row.
    pub(super) fn place(&self, row: usize) -> String {
        match self {
            Subject::Rows(_) => format!("rows[{row}]"),
            Subject::Dense { .. } => format!("dense.values (row {row})"),
            Subject::Entities { .. } => format!("entities[{row}]"),
        }
    }

    /// Where a row falls among the shares of the traffic: by its entity, else by all that it is. `join_keys`: what the
    /// catalog knows of the entity's, so that it is the same however it is written.
    pub(super) fn bucket(
        &self,
        model: &str,
        columns: usize,
        join_keys: &[Field],
        row: usize,
    ) -> u32 {
        match self {
            Subject::Rows(rows) => rows.get(row).map_or(0, |row| bucket_of(model, row, &[])),
            Subject::Entities { rows, .. } => {
                let row = rows.get(row);
                row.map_or(0, |row| bucket_of(model, row, join_keys))
            }
            Subject::Dense { values, .. } => {
                let cells = values.get(row * columns..(row + 1) * columns);
                bucket_of_numbers(model, cells.unwrap_or_default())
            }
        }
    }
}

pub(super) fn check_dense(values: &[f32], rows: usize, inputs: usize) -> Result<()> {
    if rows.checked_mul(inputs) == Some(values.len()) {
        return Ok(());
    }
    Err(Error::invalid(
        "dense.values",
        format!(
            "{} values are not {rows} rows of the model's {inputs} inputs",
            values.len()
        ),
    ))
}
