//! Scoring beside the answer: by a version that has yet to prove itself, after the answer is made, for nobody to wait for.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::{Predictor, Role, Subject, busyness::Busyness};
use crate::{
    features::{FeatureTable, FeatureValue},
    inference::{BoundInput, Model, ReadyVersion, ScoredBatch},
};

/// The places of those who score beside answers; whoever finds none, or a busy server, is counted and left out.
#[derive(Debug, Clone)]
pub struct Shadows {
    places: Arc<Semaphore>,
    busyness: Arc<Busyness>,
    busy_percent_max: u32,
}

impl Shadows {
    /// So many requests at once, and only while the server uses no more than so many of a hundred of its processors.
    pub fn new(max: usize, busy_percent_max: u32) -> Shadows {
        Shadows {
            places: Arc::new(Semaphore::new(max)),
            busyness: Arc::new(Busyness::default()),
            busy_percent_max,
        }
    }

    /// A place for one, where the answers leave one.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        if self.busyness.percent() > self.busy_percent_max {
            return None;
        }
        Arc::clone(&self.places).try_acquire_owned().ok()
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
        let Some(place) = self.place() else {
            version.counters.add_shadow_dropped(subject.len());
            return;
        };
        let (predictor, model, subject) = (predictor.clone(), Arc::clone(model), subject.clone());
        let answered = answered.to_vec();
        tokio::spawn(async move {
            let _place = place;
            let positions = (0..subject.len()).collect();
            let counters = Arc::clone(&version.counters);
            let features = read_for(&predictor, &answered, &version, subject.len());
            let answer_ids = answer_ids(&answered, subject.len());
            drop(answered);
            let scored = predictor
                .score(
                    &model,
                    version,
                    &subject,
                    (positions, features),
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
    predictor: &Predictor,
    answered: &[Arc<ScoredBatch>],
    version: &ReadyVersion,
    rows: usize,
) -> Option<FeatureTable> {
    let selection = version.selection(&predictor.catalog.snapshot()).ok()?;
    let mut values = Vec::with_capacity(version.inputs.len() * rows);
    let mut age_bounds = Vec::with_capacity(version.inputs.len());
    for input in &version.inputs {
        age_bounds.push(put_read(answered, input, rows, &mut values)?);
    }
    FeatureTable::new(selection, rows, values, age_bounds)
}

/// Adds the values of one input, one an entity; returns how old they are at the most.
fn put_read(
    answered: &[Arc<ScoredBatch>],
    input: &BoundInput,
    rows: usize,
    values: &mut Vec<FeatureValue>,
) -> Option<Duration> {
    let mut cells: Vec<Option<&FeatureValue>> = vec![None; rows];
    let mut age_bound = Duration::ZERO;
    for part in answered {
        // What was too old for the answer's version has been taken out of its columns.
        let is_same = |own: &BoundInput| {
            own.feature == input.feature && (own.max_age.is_none() || own.max_age == input.max_age)
        };
        let at = part.version.inputs.iter().position(is_same)?;
        let features = part.features.as_ref()?;
        for (position, value) in part.positions.iter().zip(features.column(at)) {
            *cells.get_mut(*position)? = Some(value);
        }
        age_bound = age_bound.max(features.age_bound(at));
    }
    for cell in cells {
        values.push(cell?.clone());
    }
    Some(age_bound)
}
