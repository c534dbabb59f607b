//! The threads that run a version: a runtime each, one bounded queue before them.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
};

use tokio::sync::oneshot;

use super::{Batch, Explanation, Output, Runtime};
use crate::error::{Error, ErrorKind, Result};

/// Small requests that wait are run together, up to about so many rows: beyond, trees gain nothing.
const ROWS_TOGETHER: usize = 128;

/// A part of a batch that is given to one worker; smaller ones cost more to hand over than they gain.
const ROWS_APART: usize = 128;

/// Some rows of a batch, and who waits for their scores.
struct Scoring {
    batch: Arc<Batch>,
    rows: Range<usize>,
    answer: oneshot::Sender<Result<Output>>,
}

/// A batch of one row, and who waits for its explanation.
struct Explaining {
    batch: Arc<Batch>,
    answer: oneshot::Sender<Result<Vec<Explanation>>>,
}

enum Job {
    Score(Scoring),
    Explain(Explaining),
}

/// The worker threads of one version. They end when this is dropped and the queue is empty.
#[derive(Debug)]
pub struct Workers {
    queue: SyncSender<Job>,
    count: usize,
}

impl Workers {
    /// Starts a thread a runtime; up to `queue_max` parts of batches wait for one.
    ///
    /// # Errors
    /// `Unavailable` where the system gives no thread.
    pub fn start(name: &str, runtimes: Vec<Box<dyn Runtime>>, queue_max: usize) -> Result<Workers> {
        let (queue, jobs) = mpsc::sync_channel(queue_max);
        let jobs = Arc::new(Mutex::new(jobs));
        let count = runtimes.len().max(1);
        for runtime in runtimes {
            let jobs = Arc::clone(&jobs);
            thread::Builder::new()
                .name(format!("model-{name}"))
                .spawn(move || work(runtime, &jobs))
                .map_err(|fault| {
                    Error::unavailable("no thread could be started for a model").with_source(fault)
                })?;
        }
        Ok(Workers { queue, count })
    }

    /// Scores a batch on the next free threads, a large one on several at once.
    ///
    /// # Errors
    /// `Overloaded` at once where the queue is full; what the runtime answers.
    pub async fn run(&self, batch: Arc<Batch>) -> Result<Output> {
        let mut answers = Vec::new();
        for rows in parts(batch.rows, self.count) {
            let (answer, answered) = oneshot::channel();
            let batch = Arc::clone(&batch);
            // Where a later part finds no place, those before are cancelled with their receivers.
            self.give(Job::Score(Scoring {
                batch,
                rows,
                answer,
            }))?;
            answers.push(answered);
        }
        let mut output: Option<Output> = None;
        for answered in answers {
            let part = answered.await.map_err(|fault| {
                Error::internal("a model's thread gave no answer").with_source(fault)
            })??;
            match &mut output {
                Some(all) => all.append(part)?,
                None => output = Some(part),
            }
        }
        output.ok_or_else(|| Error::internal("a batch without rows"))
    }

    /// Explains the first row of a batch on the next free thread.
    ///
    /// # Errors
    /// As `run`; `FailedPrecondition` where the version cannot explain.
    pub async fn explain(&self, batch: Arc<Batch>) -> Result<Vec<Explanation>> {
        let (answer, answered) = oneshot::channel();
        self.give(Job::Explain(Explaining { batch, answer }))?;
        answered.await.map_err(|fault| {
            Error::internal("a model's thread gave no answer").with_source(fault)
        })?
    }

    fn give(&self, job: Job) -> Result<()> {
        self.queue.try_send(job).map_err(|fault| match fault {
            TrySendError::Full(_) => Error::new(
                ErrorKind::Overloaded,
                "the model's queue is full; try again later",
            ),
            TrySendError::Disconnected(_) => Error::internal("the model's threads have ended"),
        })
    }
}

/// Cuts rows into parts of about the same size, as many as there are workers, where each is worth handing over.
fn parts(rows: usize, workers: usize) -> impl Iterator<Item = Range<usize>> {
    let count = (rows / ROWS_APART).clamp(1, workers);
    let size = rows.div_ceil(count).max(1);
    (0..rows.max(1))
        .step_by(size)
        .map(move |first| first..rows.min(first + size))
}

fn work(mut runtime: Box<dyn Runtime>, jobs: &Mutex<Receiver<Job>>) {
    loop {
        let Some((scoring, explaining)) =
            next_jobs(&jobs.lock().unwrap_or_else(PoisonError::into_inner))
        else {
            return;
        };
        answer(runtime.as_mut(), scoring);
        for job in explaining {
            let explained = guarded(|| runtime.explain(&job.batch));
            drop(job.answer.send(explained));
        }
    }
}

/// The next job, and small ones that wait behind it already; none at the end. Waits for no company. Nobody waits for what
/// was cancelled.
fn next_jobs(queue: &Receiver<Job>) -> Option<(Vec<Scoring>, Vec<Explaining>)> {
    let mut job = queue.recv().ok()?;
    let (mut rows, mut scoring, mut explaining) = (0, Vec::new(), Vec::new());
    loop {
        match job {
            Job::Score(one) if !one.answer.is_closed() => {
                rows += one.rows.len();
                scoring.push(one);
            }
            // An explanation takes as long as many rows, so it is the last that is taken.
            Job::Explain(one) if !one.answer.is_closed() => {
                explaining.push(one);
                break;
            }
            Job::Score(_) | Job::Explain(_) => {}
        }
        if rows >= ROWS_TOGETHER {
            break;
        }
        match queue.try_recv() {
            Ok(next) => job = next,
            Err(_) => break,
        }
    }
    Some((scoring, explaining))
}

/// Runs jobs together and answers each. Where that fails, each runs alone: the fault is one's, not everybody's.
fn answer(runtime: &mut dyn Runtime, jobs: Vec<Scoring>) {
    if jobs.len() > 1 {
        let rows: Vec<(&Batch, Range<usize>)> = jobs
            .iter()
            .map(|job| (job.batch.as_ref(), job.rows.clone()))
            .collect();
        let joined = Batch::joined(&rows);
        if let Ok(mut output) = run(runtime, &joined, 0..joined.rows) {
            let columns = output.len().checked_div(joined.rows).unwrap_or_default();
            for job in jobs {
                let own = output.take_first(job.rows.len() * columns);
                // The caller may have gone away meanwhile, which is no fault.
                drop(job.answer.send(Ok(own)));
            }
            return;
        }
    }
    for job in jobs {
        let output = run(runtime, &job.batch, job.rows.clone());
        drop(job.answer.send(output));
    }
}

fn run(runtime: &mut dyn Runtime, batch: &Batch, rows: Range<usize>) -> Result<Output> {
    guarded(|| runtime.run(batch, rows))
}

fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::internal("the model's runtime panicked")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::inference::TensorData;

    /// Runs when it is told to, and panics when it is told that.
    struct Told {
        begun: SyncSender<usize>,
        orders: Receiver<bool>,
    }

    impl Runtime for Told {
        fn run(&mut self, batch: &Batch, rows: Range<usize>) -> Result<Output> {
            self.begun.send(rows.len()).unwrap();
            assert!(self.orders.recv().unwrap(), "told to panic");
            let Some(TensorData::Float(data)) = batch.tensors.first() else {
                panic!("a batch of floats")
            };
            Ok(Output::Float(data[rows].to_vec()))
        }
    }

    /// Rows of one column, which is what is answered.
    fn batch(rows: std::ops::Range<u16>) -> Arc<Batch> {
        Arc::new(Batch {
            rows: rows.len(),
            tensors: vec![TensorData::Float(rows.map(f32::from).collect())],
        })
    }

    fn floats(output: &Output) -> Vec<f64> {
        (0..output.len()).filter_map(|at| output.get(at)).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_full_queue_sheds_a_panic_is_survived_and_the_cancelled_are_skipped() {
        let (begun, begins) = mpsc::sync_channel(8);
        let (order, orders) = mpsc::sync_channel(8);
        let workers =
            Arc::new(Workers::start("test", vec![Box::new(Told { begun, orders })], 1).unwrap());
        let spawn = |rows: u16| {
            let workers = Arc::clone(&workers);
            tokio::spawn(async move { workers.run(batch(0..rows)).await })
        };

        let panicking = spawn(1);
        begins.recv().unwrap();
        // One runs, one waits: the third finds the queue full. Whichever of the two gets the place, one is shed.
        let (second, third) = (spawn(2), spawn(3));
        let shed = tokio::select! {
            answer = second => answer.unwrap(),
            answer = third => answer.unwrap(),
        };
        assert_eq!(shed.unwrap_err().kind(), ErrorKind::Overloaded);

        order.send(false).unwrap();
        assert_eq!(
            panicking.await.unwrap().unwrap_err().kind(),
            ErrorKind::Internal
        );
        begins.recv().unwrap();
        order.send(true).unwrap();

        // Waits behind nothing now; cancelled before it runs or while it does, the next one is answered.
        let next = spawn(4);
        begins.recv().unwrap();
        order.send(true).unwrap();
        assert_eq!(next.await.unwrap().unwrap().len(), 4);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_waits_is_run_together_and_each_gets_its_own() {
        let (begun, begins) = mpsc::sync_channel(8);
        let (order, orders) = mpsc::sync_channel(8);
        let workers =
            Arc::new(Workers::start("test", vec![Box::new(Told { begun, orders })], 8).unwrap());
        let spawn = |rows: Range<u16>| {
            let workers = Arc::clone(&workers);
            tokio::spawn(async move { workers.run(batch(rows)).await })
        };
        let first = spawn(0..1);
        assert_eq!(begins.recv().unwrap(), 1);
        let mut waiting = Vec::new();
        for rows in [10..12, 20..23, 30..31] {
            waiting.push(spawn(rows));
            // Until it is in the queue, where the next one follows it.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        order.send(true).unwrap();
        first.await.unwrap().unwrap();
        // All three in one run; it fails, and each is run alone.
        assert_eq!(begins.recv().unwrap(), 6);
        order.send(false).unwrap();
        for rows in [2, 3, 1] {
            assert_eq!(begins.recv().unwrap(), rows);
            order.send(true).unwrap();
        }
        let mut answers = Vec::new();
        for answer in waiting {
            answers.push(floats(&answer.await.unwrap().unwrap()));
        }
        assert_eq!(
            answers,
            [vec![10.0, 11.0], vec![20.0, 21.0, 22.0], vec![30.0]]
        );
    }

    #[test]
    #[expect(clippy::single_range_in_vec_init, reason = "one part is meant")]
    fn large_batches_are_cut_for_several_workers() {
        let cut = |rows, workers| parts(rows, workers).collect::<Vec<_>>();
        assert_eq!(cut(1, 4), [0..1]);
        assert_eq!(cut(200, 4), [0..200]);
        assert_eq!(cut(300, 4), [0..150, 150..300]);
        assert_eq!(cut(1_000, 2), [0..500, 500..1_000]);
        assert_eq!(cut(1_001, 3), [0..334, 334..668, 668..1_001]);
    }
}
