//! Materialize: views are loaded by a task of its own, and the caller is told how it goes on.
//!
//! A caller who takes messages slowly does not hold the load up: of one source only the newest message waits. A caller
//! who goes away takes the load along; the source under way is then not loaded at all.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{Stream, stream};
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Request, Status};
use tracing::Instrument;

use crate::{
    error::{Error, ErrorKind, Result},
    features::{
        LoadPlan, LoadProgress, MaterializeOptions, MaterializeOutcome, Materializer, ProgressSink,
        views_to_load,
    },
    grpc::{
        FeatureApi, InFlight,
        convert::{wire_counts, wire_timestamp},
        pb, to_status,
    },
};

/// Loads on behalf of callers, so many at once.
#[derive(Clone)]
pub struct Loads {
    /// What loads; it must not read what its callers may not see.
    pub materializer: Materializer,
    /// A place a load.
    pub places: Arc<Semaphore>,
}

/// The messages about a load.
pub(in crate::grpc) type ProgressStream =
    Pin<Box<dyn Stream<Item = Result<pb::MaterializeProgress, Status>> + Send>>;

impl FeatureApi {
    /// Begins to load; what is wrong with the request is answered before the first message.
    pub(in crate::grpc) async fn load(
        &self,
        mut request: Request<pb::MaterializeRequest>,
    ) -> Result<ProgressStream> {
        let in_flight = request.extensions_mut().remove::<InFlight>();
        let request = request.into_inner();
        let views = views_to_load(&self.catalog.snapshot(), &request.views)?;
        let place = Arc::clone(&self.loads.places)
            .try_acquire_owned()
            .map_err(|_| {
                Error::new(
                    ErrorKind::Overloaded,
                    "as many views are being loaded as may be at once (limits.materializations_max); try again later",
                )
            })?;
        let materializer = self.loads.materializer.clone();
        let plans = materializer.plan(views).await?;
        let options = MaterializeOptions {
            incremental: request.incremental,
            force: request.force,
        };
        let mailbox = Arc::new(Mailbox::default());
        let told = Arc::clone(&mailbox);
        let stopping = self.stream.stopping.clone();
        let work = async move {
            let ended = run(&materializer, &plans, options, &told, &stopping).await;
            drop((place, in_flight));
            ended
        };
        let told = Told {
            mailbox,
            task: Some(AbortOnDropHandle::new(tokio::spawn(work.in_current_span()))),
            fault: None,
        };
        let messages = stream::unfold(told, |mut told| async {
            let message = told.next().await?;
            Some((message, told))
        });
        Ok(Box::pin(messages))
    }
}

async fn run(
    materializer: &Materializer,
    plans: &[LoadPlan],
    options: MaterializeOptions,
    mailbox: &Arc<Mailbox>,
    stopping: &CancellationToken,
) -> Result<()> {
    let told = Arc::clone(mailbox);
    let sink: ProgressSink = Arc::new(move |progress| told.put(progress));
    tokio::select! {
        biased;
        () = stopping.cancelled() => Err(Error::unavailable(
            "the server stops; what is done stays, load the rest on another server",
        )),
        ended = materializer.run(plans, options, &sink) => ended,
    }
}

/// What the caller has not been told yet: at the most one message a source.
#[derive(Default)]
struct Mailbox {
    waiting: Mutex<VecDeque<LoadProgress>>,
    changed: Notify,
}

impl Mailbox {
    fn put(&self, progress: LoadProgress) {
        let mut waiting = self.lock();
        match waiting.back_mut() {
            Some(last) if last.view == progress.view && last.source == progress.source => {
                *last = progress;
            }
            Some(_) | None => waiting.push_back(progress),
        }
        drop(waiting);
        self.changed.notify_one();
    }

    fn take(&self) -> Option<LoadProgress> {
        self.lock().pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<LoadProgress>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is told of a load under way; dropping it ends the load.
struct Told {
    mailbox: Arc<Mailbox>,
    task: Option<AbortOnDropHandle<Result<()>>>,
    fault: Option<Status>,
}

impl Told {
    async fn next(&mut self) -> Option<Result<pb::MaterializeProgress, Status>> {
        loop {
            if let Some(progress) = self.mailbox.take() {
                return Some(Ok(wire_progress(progress)));
            }
            let Some(task) = &mut self.task else {
                return self.fault.take().map(Err);
            };
            tokio::select! {
                () = self.mailbox.changed.notified() => {}
                ended = task => {
                    // What was told last comes before the end.
                    self.task = None;
                    let ended = ended.unwrap_or_else(|fault| {
                        Err(Error::internal("a load broke off").with_source(fault))
                    });
                    self.fault = ended.err().map(|fault| to_status(&fault));
                }
            }
        }
    }
}

fn wire_progress(progress: LoadProgress) -> pb::MaterializeProgress {
    let outcome = progress.done.map(|done| done.outcome);
    let result = match outcome {
        Some(MaterializeOutcome::Loaded(counts)) => Some(wire_counts(counts)),
        Some(MaterializeOutcome::Unchanged) | None => None,
    };
    pb::MaterializeProgress {
        view: progress.view,
        source: progress.source,
        rows_read: progress.rows_read,
        rows_total: progress.rows_total.unwrap_or_default(),
        is_done: progress.done.is_some(),
        is_unchanged: outcome == Some(MaterializeOutcome::Unchanged),
        result,
        watermark: progress
            .done
            .and_then(|done| done.watermark)
            .map(wire_timestamp),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn of_each_source_only_the_newest_message_waits() {
        let mailbox = Mailbox::default();
        let progress = |source: &str, rows_read| LoadProgress {
            view: "v".to_owned(),
            keeps_history: false,
            source: source.to_owned(),
            rows_read,
            rows_total: None,
            done: None,
        };
        for rows in 0..1_000 {
            mailbox.put(progress("a.csv", rows));
        }
        mailbox.put(progress("b.csv", 1));
        assert_eq!(mailbox.lock().len(), 2);
        assert_eq!(mailbox.take().unwrap().rows_read, 999);
        assert_eq!(mailbox.take().unwrap().source, "b.csv");
        assert_eq!(mailbox.take(), None);
    }
}
