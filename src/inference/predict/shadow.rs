//! Scoring beside the answer: by a version that has yet to prove itself, after the answer is made, for nobody to wait for.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{Predictor, Role, Subject};
use crate::inference::{Model, ReadyVersion};

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
    ) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            version.counters.add_shadow_dropped(subject.len());
            return;
        };
        let (predictor, model, subject) = (predictor.clone(), Arc::clone(model), subject.clone());
        tokio::spawn(async move {
            let _place = place;
            let positions = (0..subject.len()).collect();
            let counters = Arc::clone(&version.counters);
            let scored = predictor
                .score(&model, version, &subject, positions, Role::Shadow)
                .await;
            match scored {
                Ok(scored) => predictor.ledger.record(&Arc::new(scored)),
                Err(fault) => {
                    counters.add_shadow_dropped(subject.len());
                    tracing::debug!(model = model.name, %fault, "a shadow could not score");
                }
            }
        });
    }
}
