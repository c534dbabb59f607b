//! Scoring beside the answer: by a version that has yet to prove itself, after the answer is made, for nobody to wait for.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};
use uuid::Uuid;

use super::{Predictor, Role, Subject, busyness::Busyness};
use crate::{
    error::Result,
    features::{FeatureTable, FeatureValue},
    inference::{Aside, Batch, BoundInput, Model, Output, ReadyVersion, ScoredBatch},
};

/// Requests that wait to be scored beside their answers, and the places that they take until they are; whoever finds none, or
/// a busy server, is counted and left out.
#[derive(Clone)]
pub struct Shadows {
    options: ShadowOptions,
    places: Arc<Semaphore>,
    busyness: Arc<Busyness>,
    waiting: Arc<Mutex<Vec<Shadow>>>,
    aside: Arc<Aside>,
}

/// What shadows may take.
#[derive(Debug, Clone, Copy)]
pub struct ShadowOptions {
    /// Requests that wait or are scored at once.
    pub max: usize,
    /// None begins to wait while the server uses more of its processors, of a hundred.
    pub busy_percent_max: u32,
    /// So long after an answer, which is written by then, those that wait are scored one after the other: to wake a thread
    /// for each would take longer than its score.
    pub delay: Duration,
}

/// A request that a version scores beside its answer.
struct Shadow {
    predictor: Predictor,
    model: Arc<Model>,
    version: Arc<ReadyVersion>,
    subject: Subject,
    answered: Vec<Arc<ScoredBatch>>,
    _place: OwnedSemaphorePermit,
}

impl Shadows {
    /// Starts the thread that scores them.
    ///
    /// # Errors
    /// `Unavailable` where the system gives no thread.
    pub fn start(options: ShadowOptions) -> Result<Shadows> {
        Ok(Shadows {
            options,
            places: Arc::new(Semaphore::new(options.max)),
            busyness: Arc::default(),
            waiting: Arc::default(),
            aside: Arc::new(Aside::start(options.max)?),
        })
    }

    /// Scores what is ready while nobody else wants the processor.
    pub(super) async fn run(&self, version: &ReadyVersion, batch: Arc<Batch>) -> Result<Output> {
        self.aside.run(&version.workers, batch).await
    }

    /// A place for one, where the answers leave one.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        if self.busyness.percent() > self.options.busy_percent_max {
            return None;
        }
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Lets a version score a request in the background.
    pub(super) fn add(
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
        let shadow = Shadow {
            predictor: predictor.clone(),
            model: Arc::clone(model),
            version,
            subject: subject.clone(),
            answered: answered.to_vec(),
            _place: place,
        };
        let is_first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(shadow);
            waiting.len() == 1
        };
        if is_first {
            tokio::spawn(score_later(self.options.delay, Arc::clone(&self.waiting)));
        }
    }
}

/// Scores what waits after a while. One after the other: where the thread that scores them gets no processor, they take no
/// time of the others either.
async fn score_later(delay: Duration, waiting: Arc<Mutex<Vec<Shadow>>>) {
    time::sleep(delay).await;
    let shadows = mem::take(&mut *waiting.lock().unwrap_or_else(PoisonError::into_inner));
    for shadow in shadows {
        shadow.score().await;
    }
}

impl Shadow {
    async fn score(self) {
        let rows = self.subject.len();
        let positions = (0..rows).collect();
        let features = read_for(&self.predictor, &self.answered, &self.version, rows);
        let answer_ids = answer_ids(&self.answered, rows);
        let scored = self.predictor.score(
            &self.model,
            Arc::clone(&self.version),
            &self.subject,
            (positions, features),
            Role::Shadow,
        );
        match scored.await {
            Ok(mut scored) => {
                scored.answer_ids = answer_ids;
                self.predictor.ledger.record(&Arc::new(scored));
            }
            Err(fault) => {
                self.version.counters.add_shadow_dropped(rows);
                tracing::debug!(model = self.model.name, %fault, "a shadow could not score");
            }
        }
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
