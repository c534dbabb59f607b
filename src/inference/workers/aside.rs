//! The thread for scores that nobody waits for: it runs while no other thread wants the processor.

use std::{
    ops::Range,
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
};

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::sync::oneshot;

use super::{Seat, Workers, run};
use crate::{
    error::{Error, ErrorKind, Result},
    inference::{Batch, Output},
};

/// Rows that are run at once: an answer by the same version finds its runtime again after so many.
const ROWS_AT_ONCE: usize = 128;

/// A batch, the threads that have the runtimes for it, and who may want the scores.
struct Errand {
    workers: Arc<Workers>,
    batch: Arc<Batch>,
    answer: oneshot::Sender<Result<Output>>,
}

/// One thread for all versions. It ends when this is dropped and what waits for it is done.
#[derive(Debug)]
pub struct Aside {
    queue: SyncSender<Errand>,
}

impl Aside {
    /// Starts the thread; up to `queue_max` batches wait for it.
    ///
    /// # Errors
    /// `Unavailable` where the system gives no thread.
    pub fn start(queue_max: usize) -> Result<Aside> {
        let (queue, errands) = mpsc::sync_channel(queue_max);
        thread::Builder::new()
            .name("aside".to_owned())
            .spawn(move || work(&errands))
            .map_err(|fault| {
                Error::unavailable("no thread could be started for shadows").with_source(fault)
            })?;
        Ok(Aside { queue })
    }

    /// Scores a batch once the thread has time, on a runtime that no answer needs. A version with one runtime runs it as any
    /// other batch: who has to wait for a thread of low priority may wait for long.
    ///
    /// # Errors
    /// `Overloaded` where the queue is full or no runtime is free; what the runtime answers.
    pub async fn run(&self, workers: &Arc<Workers>, batch: Arc<Batch>) -> Result<Output> {
        if workers.seats.len() < 2 {
            return workers.run_apart(batch).await;
        }
        let (answer, answered) = oneshot::channel();
        let errand = Errand {
            workers: Arc::clone(workers),
            batch,
            answer,
        };
        self.queue
            .try_send(errand)
            .map_err(|_| busy("the queue for shadows is full"))?;
        answered.await.map_err(|fault| {
            Error::internal("the thread for shadows gave no answer").with_source(fault)
        })?
    }
}

fn busy(reason: &str) -> Error {
    Error::new(ErrorKind::Overloaded, reason)
}

fn work(errands: &Receiver<Errand>) {
    step_back();
    while let Ok(errand) = errands.recv() {
        if errand.answer.is_closed() {
            continue;
        }
        let output = run_where_free(&errand.workers.seats, &errand.batch);
        drop(errand.answer.send(output));
    }
}

/// Leaves the processor to every other thread that wants it.
fn step_back() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if let Err(fault) =
        set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy)
    {
        tracing::warn!(%fault, "the thread for shadows has the priority of all others");
    }
}

/// Runs a batch part by part, each where a runtime is free just then.
fn run_where_free(seats: &[Seat], batch: &Batch) -> Result<Output> {
    let mut output: Option<Output> = None;
    for rows in parts(batch.rows) {
        let free = seats.iter().rev().find_map(Seat::borrow);
        let mut runtime = free.ok_or_else(|| busy("the version answers on all of its threads"))?;
        let part = run(runtime.as_mut(), batch, rows)?;
        match &mut output {
            Some(all) => all.append(part)?,
            None => output = Some(part),
        }
    }
    output.ok_or_else(|| Error::internal("a batch without rows"))
}

fn parts(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows)
        .step_by(ROWS_AT_ONCE)
        .map(move |first| first..rows.min(first + ROWS_AT_ONCE))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use thread_priority::thread_schedule_policy;

    use super::*;
    use crate::inference::{Runtime, TensorData};

    /// What a run was: its rows, its thread, how that is scheduled.
    type Ran = (Range<usize>, Option<String>, ThreadSchedulePolicy);

    /// Answers a one-column batch with its own values, and tells of each run.
    struct Telling {
        runs: SyncSender<Ran>,
    }

    impl Runtime for Telling {
        fn run(&mut self, batch: &Batch, rows: Range<usize>) -> Result<Output> {
            let name = thread::current().name().map(str::to_owned);
            let policy = thread_schedule_policy().unwrap();
            self.runs.send((rows.clone(), name, policy)).unwrap();
            let Some(TensorData::Float(values)) = batch.tensors.first() else {
                return Err(Error::internal("a batch of floats"));
            };
            Ok(Output::Float(values.get(rows).unwrap().to_vec()))
        }
    }

    fn workers(count: usize) -> (Arc<Workers>, Receiver<Ran>) {
        let (runs, ran) = mpsc::sync_channel(64);
        let telling = || -> Box<dyn Runtime> { Box::new(Telling { runs: runs.clone() }) };
        let runtimes = (0..count).map(|_| telling()).collect();
        let workers = Workers::start("test", runtimes, 8, 1_000).unwrap();
        (Arc::new(workers), ran)
    }

    fn batch(rows: u16) -> Arc<Batch> {
        Arc::new(Batch {
            rows: rows.into(),
            tensors: vec![TensorData::Float((0..rows).map(f32::from).collect())],
        })
    }

    #[tokio::test]
    async fn runs_part_by_part_on_a_thread_that_leaves_the_processor_to_all_others() {
        let (workers, ran) = workers(2);
        let aside = Aside::start(1).unwrap();
        let output = aside.run(&workers, batch(300)).await.unwrap();
        let scores: Vec<f64> = (0..300).filter_map(|at| output.get(at)).collect();
        assert_eq!(scores, (0..300).map(f64::from).collect::<Vec<f64>>());
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let on = |rows| (rows, Some("aside".to_owned()), idle);
        let runs: Vec<Ran> = ran.try_iter().collect();
        assert_eq!(runs, [on(0..128), on(128..256), on(256..300)]);
    }

    #[test]
    fn takes_a_free_runtime_and_none_that_answers() {
        let (workers, ran) = workers(2);
        let answering = workers.seats.last().unwrap().borrow().unwrap();
        run_where_free(&workers.seats, &batch(1)).unwrap();
        assert_eq!(ran.try_iter().count(), 1);

        let also = workers.seats.first().unwrap().borrow().unwrap();
        let refused = run_where_free(&workers.seats, &batch(1)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Overloaded);
        drop((answering, also));
    }

    #[tokio::test]
    async fn a_version_of_one_runtime_runs_it_on_its_own_thread() {
        let (workers, ran) = workers(1);
        let aside = Aside::start(1).unwrap();
        aside.run(&workers, batch(1)).await.unwrap();
        let (_, name, policy) = ran.recv().unwrap();
        assert_eq!(name.as_deref(), Some("model-test"));
        let usual = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
        assert_eq!(policy, usual);
    }
}
