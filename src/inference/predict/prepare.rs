//! A version's rows of a request, made ready to be scored: read where they are stored, and laid out. Rows that the model
//! does not score are set apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use super::{
    Predictor, Subject,
    layout::{LaidOut, lay_out_dense, lay_out_features, lay_out_rows, leave_out_old},
    subject,
};
use crate::{
    error::{Error, ErrorKind, Result},
    features::{
        FeatureStatus, FeatureTable, Freshness, RawRow, Timestamp, entity_keys_at, read_features,
    },
    inference::{Model, Policy, ReadyVersion},
};

/// Rows that are ready to be scored.
pub(super) struct Prepared {
    pub(super) laid_out: LaidOut,
    /// The stored features, a column an input; none where rows came with the request.
    pub(super) features: Option<FeatureTable>,
    /// Where each row is in the request.
    pub(super) positions: Vec<usize>,
}

/// Why a model does not score a row.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) kind: ErrorKind,
    pub(super) reason: String,
}

/// The rows that a model does not score, by their place in the request.
pub(super) type Left = BTreeMap<usize, Refusal>;

impl Refusal {
    pub(super) fn of(error: &Error) -> Refusal {
        Refusal {
            kind: error.kind(),
            reason: error.message().to_owned(),
        }
    }

    pub(super) fn to_error(&self) -> Error {
        Error::new(self.kind, self.reason.clone())
    }
}

impl Prepared {
    /// Leaves rows out, by their place among these.
    fn leave_out(&mut self, rows: &BTreeSet<usize>) {
        if rows.is_empty() {
            return;
        }
        keep_others(&mut self.positions, rows);
        if let Some(features) = &mut self.features {
            features.leave_out(rows);
        }
    }

    /// The rows that no view has anything of.
    fn unknown_entities(&self) -> BTreeSet<usize> {
        let Some(features) = &self.features else {
            return (0..self.positions.len()).collect();
        };
        let is_known = |row: &usize| {
            let mut columns = 0..features.names().len();
            columns.any(|column| {
                let value = features.column(column).get(*row);
                value.is_some_and(|value| value.status != FeatureStatus::NotFound)
            })
        };
        let rows = 0..self.positions.len();
        rows.filter(|row| !is_known(row)).collect()
    }

    /// Lays the rows out that are left, and sets those apart that an input's policy refuses.
    fn lay_out(&mut self, version: &ReadyVersion, subject: &Subject) -> Result<Left> {
        let positions = &self.positions;
        let mut laid_out = match (subject, &self.features) {
            (Subject::Rows(rows), _) => lay_out_rows(version, rows, positions)?,
            (Subject::Dense { values, rows }, _) => {
                subject::check_dense(values, *rows, version.inputs.len())?;
                lay_out_dense(version, values, positions)?
            }
            (Subject::Entities { .. }, Some(features)) => {
                lay_out_features(version, features, positions)?
            }
            (Subject::Entities { .. }, None) => {
                return Err(Error::internal("entities whose features nobody has read"));
            }
        };
        let refused = mem::take(&mut laid_out.refused);
        self.laid_out = laid_out;
        let refusals = refused.iter().filter_map(|(row, reason)| {
            let refusal = Refusal {
                kind: ErrorKind::FailedPrecondition,
                reason: reason.clone(),
            };
            Some((*positions.get(*row)?, refusal))
        });
        let refusals: Left = refusals.collect();
        self.leave_out(&refused.into_keys().collect());
        Ok(refusals)
    }
}

fn keep_others<T>(all: &mut Vec<T>, rows: &BTreeSet<usize>) {
    let mut row = 0;
    all.retain(|_| {
        row += 1;
        !rows.contains(&(row - 1))
    });
}

impl Predictor {
    /// Reads, unless somebody has, and lays out some rows, but for those that the model does not score: an unknown entity where it rejects such,
    /// a value that a policy refuses.
    ///
    /// # Errors
    /// `InvalidArgument` naming row and key; `Unavailable` where the store is away.
    pub(super) async fn prepare(
        &self,
        model: &Model,
        version: &ReadyVersion,
        subject: &Subject,
        (positions, features): (Vec<usize>, Option<FeatureTable>),
        at: Timestamp,
    ) -> Result<(Prepared, Left)> {
        let mut prepared = Prepared {
            laid_out: LaidOut::empty(version, 0),
            features: None,
            positions,
        };
        let mut left = Left::new();
        if let Subject::Entities {
            rows: entities,
            as_of,
        } = subject
        {
            let freshness = as_of.map_or_else(|| Freshness::at(at), Freshness::as_of);
            let mut features = match features {
                Some(features) => features,
                None => {
                    let read = self.read(version, entities, &prepared.positions, freshness);
                    read.await?
                }
            };
            leave_out_old(version, &mut features, freshness.now);
            prepared.features = Some(features);
            if model.entity_not_found == Policy::Reject {
                let unknown = prepared.unknown_entities();
                let told = unknown.iter().filter_map(|row| {
                    let position = *prepared.positions.get(*row)?;
                    let error = unknown_entity(position, entities.get(position)?);
                    Some((position, Refusal::of(&error)))
                });
                left.extend(told);
                prepared.leave_out(&unknown);
            }
        }
        let refused = prepared.lay_out(version, subject)?;
        if !refused.is_empty() {
            // Without them the rest is laid out anew: a row's place in a batch is fixed.
            left.extend(refused);
            left.extend(prepared.lay_out(version, subject)?);
        }
        Ok((prepared, left))
    }

    /// Reads the features of some entities, a column an input.
    async fn read(
        &self,
        version: &ReadyVersion,
        entities: &[RawRow],
        positions: &[usize],
        freshness: Freshness,
    ) -> Result<FeatureTable> {
        let selection = version.selection(&self.catalog.snapshot())?;
        let keys = entity_keys_at(&selection, entities, positions)?;
        let (store, bytes_max) = (self.store.as_ref(), self.answer_bytes_max);
        read_features(store, selection, &keys, freshness, bytes_max).await
    }
}

fn unknown_entity(position: usize, entity: &RawRow) -> Error {
    let keys: Vec<String> = entity
        .fields
        .iter()
        .map(|(name, value)| format!("{name} {}", value.shown()))
        .collect();
    Error::not_found(format!(
        "entities[{position}]: no features are stored of {}, and the model rejects unknown entities",
        keys.join(", ")
    ))
}
