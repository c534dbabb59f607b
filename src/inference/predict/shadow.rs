//! Scoring beside the answer: by a version that has yet to prove itself, after the answer is made, for nobody to wait for.

use std::sync::Arc;

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{Predictor, Role, Subject};
use crate::{
    features::{FeatureColumn, FeatureValue},
    inference::{BoundInput, Model, ReadyVersion, ScoredBatch},
};

/// The places of those who score beside answers; whoever finds none is counted and left out.
#[derive(Debug, Clone)]
pub struct Shadows {
    places: Arc<Semaphore>,
}

impl Shadows {
    /// So many requests at once.
    pub fn new(max: usize) -> Shadows {
        Shadows {
            places: Arc::new(Semaphore::new(max)),
        }
    }

    /// Lets a version score a request in the background.
    pub(super) fn start(
        &self,
        predictor: &Predictor,
        model: &Arc<Model>,
        version: Arc<ReadyVersion>,
        subject: &Subject,
        answered: &[Arc<ScoredBatch>],
    ) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            version.counters.add_shadow_dropped(subject.len());
            return;
        };
        let (predictor, model, subject) = (predictor.clone(), Arc::clone(model), subject.clone());
        let answered = answered.to_vec();
        tokio::spawn(async move {
            let _place = place;
            let positions = (0..subject.len()).collect();
            let counters = Arc::clone(&version.counters);
            let columns = read_for(&answered, &version, subject.len());
            let answer_ids = answer_ids(&answered, subject.len());
            drop(answered);
            let scored = predictor
                .score(
                    &model,
                    version,
                    &subject,
                    (positions, columns),
                    Role::Shadow,
                )
                .await;
            match scored {
                Ok(mut scored) => {
                    scored.answer_ids = answer_ids;
                    predictor.ledger.record(&Arc::new(scored));
                }
                Err(fault) => {
                    counters.add_shadow_dropped(subject.len());
                    tracing::debug!(model = model.name, %fault, "a shadow could not score");
                }
            }
        });
    }
}

/// The ids of the answers to so many rows; none where not all have one.
fn answer_ids(answered: &[Arc<ScoredBatch>], rows: usize) -> Option<Vec<Uuid>> {
    let mut ids = vec![None; rows];
    for part in answered {
        for (position, id) in part.positions.iter().zip(&part.ids) {
            *ids.get_mut(*position)? = Some(*id);
        }
    }
    ids.into_iter().collect()
}

/// The features of a version's inputs, as the answer to so many entities has read them; none where it has not read all.
fn read_for(
    answered: &[Arc<ScoredBatch>],
    version: &ReadyVersion,
    rows: usize,
) -> Option<Vec<FeatureColumn>> {
    let inputs = version.inputs.iter();
    inputs
        .map(|input| column_for(answered, input, rows))
        .collect()
}

fn column_for(
    answered: &[Arc<ScoredBatch>],
    input: &BoundInput,
    rows: usize,
) -> Option<FeatureColumn> {
    let mut cells: Vec<Option<&FeatureValue>> = vec![None; rows];
    let mut column: Option<FeatureColumn> = None;
    for part in answered {
        // What was too old for the answer's version has been taken out of its columns.
        let is_same = |own: &BoundInput| {
            own.feature == input.feature && (own.max_age.is_none() || own.max_age == input.max_age)
        };
        let at = part.version.inputs.iter().position(is_same)?;
        let read = part.features.as_ref()?.get(at)?;
        for (position, value) in part.positions.iter().zip(&read.values) {
            *cells.get_mut(*position)? = Some(value);
        }
        let age_bound = column.map_or(read.age_bound, |column| {
            column.age_bound.max(read.age_bound)
        });
        column = Some(FeatureColumn {
            reference: read.reference.clone(),
            value_type: read.value_type,
            values: Vec::new(),
            age_bound,
        });
    }
    let values = cells.into_iter().map(Option::<&FeatureValue>::cloned);
    Some(FeatureColumn {
        values: values.collect::<Option<_>>()?,
        ..column?
    })
}
