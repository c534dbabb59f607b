//! The threads that run a version: a runtime each, one bounded queue before them.

use std::{
    collections::VecDeque,
    fmt,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time};

use super::{Batch, Explanation, Output, Runtime};
use crate::error::{Error, ErrorKind, Result};

/// Small requests that wait are run together, up to about so many rows: beyond, trees gain nothing.
const ROWS_TOGETHER: usize = 128;

/// A part of a batch that is given to one worker; smaller ones cost more to hand over than they gain.
const ROWS_APART: usize = 128;

/// Rows of a large batch that are run together: after so many others have their turn.
const ROWS_PART_MAX: usize = 512;

/// Between two attempts to find a place in a full queue for a part of a batch that has begun.
const PLACE_WAIT: Duration = Duration::from_millis(1);

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

/// A runtime, and whether its own thread waits for it.
struct Seat {
    runtime: Mutex<Box<dyn Runtime>>,
    is_wanted: AtomicBool,
}

impl Seat {
    /// For its own thread, which waits for whoever has it.
    fn take(&self) -> MutexGuard<'_, Box<dyn Runtime>> {
        self.is_wanted.store(true, Ordering::Relaxed);
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_wanted.store(false, Ordering::Relaxed);
        runtime
    }

    /// For others: where it is free, and its own thread is content.
    fn borrow(&self) -> Option<MutexGuard<'_, Box<dyn Runtime>>> {
        if self.is_wanted.load(Ordering::Relaxed) {
            return None;
        }
        match self.runtime.try_lock() {
            Ok(runtime) => Some(runtime),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// What waits for a thread.
struct Waiting {
    queue: Receiver<Job>,
    /// What was taken from the queue and was too large to go with those before it: the next in turn.
    kept: Option<Job>,
}

/// The worker threads of one version. They end when this is dropped and the queue is empty.
pub struct Workers {
    queue: SyncSender<Job>,
    seats: Arc<[Seat]>,
    /// Rows that the caller's own thread runs, because handing them over takes about as long.
    here_rows_max: usize,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} workers", self.seats.len())
    }
}

impl Workers {
    /// Starts a thread a runtime; up to `queue_max` parts of batches wait for one. Up to `here_rows_max` rows are run by
    /// whoever asks, where a runtime is free.
    ///
    /// # Errors
    /// `Unavailable` where the system gives no thread.
    pub fn start(
        name: &str,
        runtimes: Vec<Box<dyn Runtime>>,
        queue_max: usize,
        here_rows_max: usize,
    ) -> Result<Workers> {
        let (queue, jobs) = mpsc::sync_channel(queue_max);
        let waiting = Waiting {
            queue: jobs,
            kept: None,
        };
        let jobs = Arc::new(Mutex::new(waiting));
        let seats: Arc<[Seat]> = runtimes
            .into_iter()
            .map(|runtime| Seat {
                runtime: Mutex::new(runtime),
                is_wanted: AtomicBool::new(false),
            })
            .collect();
        for number in 0..seats.len() {
            let (jobs, seats) = (Arc::clone(&jobs), Arc::clone(&seats));
            thread::Builder::new()
                .name(format!("model-{name}"))
                .spawn(move || work(&seats, number, &jobs))
                .map_err(|fault| {
                    Error::unavailable("no thread could be started for a model").with_source(fault)
                })?;
        }
        Ok(Workers {
            queue,
            seats,
            here_rows_max,
        })
    }

    /// Runs a batch on this very thread, where it is short and a runtime is free: to hand it over would take longer.
    fn run_here(&self, batch: &Batch) -> Option<Result<Output>> {
        if batch.rows > self.here_rows_max {
            return None;
        }
        let mut runtime = self.seats.iter().find_map(Seat::borrow)?;
        Some(run(runtime.as_mut(), batch, 0..batch.rows))
    }

    /// Scores a short batch on this thread, any other on the next free ones, a large one part by part on several at once: of its parts no more wait than
    /// keep the threads busy, so that others get in between.
    ///
    /// # Errors
    /// `Overloaded` at once where the queue is full; what the runtime answers.
    pub async fn run(&self, batch: Arc<Batch>) -> Result<Output> {
        if let Some(output) = self.run_here(&batch) {
            return output;
        }
        let count = self.seats.len().max(1);
        let mut parts = parts(batch.rows, count);
        let mut begun = VecDeque::new();
        for rows in parts.by_ref().take(count + 1) {
            let (job, answered) = scoring(&batch, rows);
            // Where a later part finds no place, those before are cancelled with their receivers.
            self.give(job)?;
            begun.push_back(answered);
        }
        let mut output: Option<Output> = None;
        while let Some(answered) = begun.pop_front() {
            let part = answered.await.map_err(|fault| {
                Error::internal("a model's thread gave no answer").with_source(fault)
            })??;
            if let Some(rows) = parts.next() {
                let (job, answered) = scoring(&batch, rows);
                self.give_patiently(job).await?;
                begun.push_back(answered);
            }
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
            TrySendError::Disconnected(_) => have_ended(),
        })
    }

    /// As `give`, for a batch that was let in: waits for a place.
    async fn give_patiently(&self, mut job: Job) -> Result<()> {
        loop {
            match self.queue.try_send(job) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(back)) => job = back,
                Err(TrySendError::Disconnected(_)) => return Err(have_ended()),
            }
            time::sleep(PLACE_WAIT).await;
        }
    }
}

fn have_ended() -> Error {
    Error::internal("the model's threads have ended")
}

/// Rows for a thread, and where their scores come.
fn scoring(batch: &Arc<Batch>, rows: Range<usize>) -> (Job, oneshot::Receiver<Result<Output>>) {
    let (answer, answered) = oneshot::channel();
    let batch = Arc::clone(batch);
    let job = Job::Score(Scoring {
        batch,
        rows,
        answer,
    });
    (job, answered)
}

/// Cuts rows into parts of about the same size, none larger than one may be: as many as there are workers, where each is
/// worth handing over, or more.
fn parts(rows: usize, workers: usize) -> impl Iterator<Item = Range<usize>> {
    let count = (rows / ROWS_APART).clamp(1, workers);
    let count = count.max(rows.div_ceil(ROWS_PART_MAX));
    let size = rows.div_ceil(count).max(1);
    (0..rows.max(1))
        .step_by(size)
        .map(move |first| first..rows.min(first + size))
}

fn work(seats: &[Seat], number: usize, jobs: &Mutex<Waiting>) {
    let Some(seat) = seats.get(number) else {
        return;
    };
    loop {
        let Some((scoring, explaining)) =
            next_jobs(&mut jobs.lock().unwrap_or_else(PoisonError::into_inner))
        else {
            return;
        };
        let mut runtime = seat.take();
        answer(runtime.as_mut(), scoring);
        for job in explaining {
            let explained = guarded(|| runtime.explain(&job.batch));
            drop(job.answer.send(explained));
        }
    }
}

/// The next job, and small ones that wait behind it already; none at the end. Waits for no company, and takes none that
/// would hold up who was there before. Nobody waits for what was cancelled.
fn next_jobs(waiting: &mut Waiting) -> Option<(Vec<Scoring>, Vec<Explaining>)> {
    let mut job = match waiting.kept.take() {
        Some(job) => job,
        None => waiting.queue.recv().ok()?,
    };
    let (mut rows, mut scoring, mut explaining) = (0, Vec::new(), Vec::new());
    loop {
        match job {
            Job::Score(one) if !one.answer.is_closed() => {
                if rows > 0 && rows + one.rows.len() > ROWS_TOGETHER {
                    waiting.kept = Some(Job::Score(one));
                    break;
                }
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
        match waiting.queue.try_recv() {
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
    async fn a_full_queue_sheds_and_a_panic_is_survived() {
        let (begun, begins) = mpsc::sync_channel(8);
        let (order, orders) = mpsc::sync_channel(8);
        let workers =
            Arc::new(Workers::start("test", vec![Box::new(Told { begun, orders })], 1, 0).unwrap());
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

        let next = spawn(4);
        begins.recv().unwrap();
        order.send(true).unwrap();
        assert_eq!(next.await.unwrap().unwrap().len(), 4);
    }

    /// A worker that does as it is told, how many rows each of its runs has, and what tells it.
    fn told() -> (Arc<Workers>, Receiver<usize>, SyncSender<bool>) {
        let (begun, begins) = mpsc::sync_channel(64);
        let (order, orders) = mpsc::sync_channel(64);
        let runtimes: Vec<Box<dyn Runtime>> = vec![Box::new(Told { begun, orders })];
        let workers = Arc::new(Workers::start("test", runtimes, 8, 0).unwrap());
        (workers, begins, order)
    }

    type Running = tokio::task::JoinHandle<Result<Output>>;

    /// Scores rows in the background; returns once they run or wait in the queue.
    async fn begin(workers: &Arc<Workers>, rows: u16) -> Running {
        let workers = Arc::clone(workers);
        let running = tokio::spawn(async move { workers.run(batch(0..rows)).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        running
    }

    /// Answers at once, with the thread that it ran on.
    struct Noting {
        threads: SyncSender<thread::ThreadId>,
    }

    impl Runtime for Noting {
        fn run(&mut self, _: &Batch, rows: Range<usize>) -> Result<Output> {
            self.threads.send(thread::current().id()).unwrap();
            Ok(Output::Float(vec![0.0; rows.len()]))
        }
    }

    #[tokio::test]
    async fn a_short_batch_is_run_where_it_is_asked_for_unless_the_runtime_is_taken() {
        let (threads, ran) = mpsc::sync_channel(8);
        let runtimes: Vec<Box<dyn Runtime>> = vec![Box::new(Noting { threads })];
        let workers = Workers::start("test", runtimes, 8, 2).unwrap();
        let here = thread::current().id();
        workers.run(batch(0..2)).await.unwrap();
        assert_eq!(ran.recv().unwrap(), here);
        workers.run(batch(0..3)).await.unwrap();
        let its_own = ran.recv().unwrap();
        assert_ne!(its_own, here);

        let seats = Arc::clone(&workers.seats);
        // Its thread answers before it lets go.
        let taken = loop {
            if let Some(taken) = seats.first().unwrap().borrow() {
                break taken;
            }
            thread::yield_now();
        };
        let (done, is_done) = mpsc::sync_channel(1);
        let waiting = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let output = runtime.block_on(workers.run(batch(0..1)));
            done.send(output.is_ok()).unwrap();
        });
        // Whoever comes while the runtime's own thread waits for it lets that go first.
        while !seats.first().unwrap().is_wanted.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        drop(taken);
        assert!(is_done.recv().unwrap());
        assert_eq!(ran.recv().unwrap(), its_own);
        waiting.join().unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_cancelled_while_it_waits_is_never_run() {
        let (workers, begins, order) = told();
        let first = begin(&workers, 1).await;
        assert_eq!(begins.recv().unwrap(), 1);
        let cancelled = begin(&workers, 20).await;
        let next = begin(&workers, 3).await;
        cancelled.abort();
        assert!(cancelled.await.unwrap_err().is_cancelled());
        order.send(true).unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(begins.recv().unwrap(), 3);
        order.send(true).unwrap();
        assert_eq!(next.await.unwrap().unwrap().len(), 3);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_small_batch_neither_waits_for_a_large_one_behind_it_nor_for_all_of_one_before_it() {
        let (workers, begins, order) = told();
        let first = begin(&workers, 1).await;
        assert_eq!(begins.recv().unwrap(), 1);
        let small = begin(&workers, 2).await;
        let large = begin(&workers, 5_000).await;
        order.send(true).unwrap();
        first.await.unwrap().unwrap();
        // By itself, although the large one waits behind it.
        assert_eq!(begins.recv().unwrap(), 2);
        order.send(true).unwrap();
        small.await.unwrap().unwrap();

        assert_eq!(begins.recv().unwrap(), 500);
        let late = begin(&workers, 4).await;
        let mut runs = vec![500];
        order.send(true).unwrap();
        while runs.last() != Some(&4) {
            runs.push(begins.recv().unwrap());
            order.send(true).unwrap();
        }
        assert!(late.await.unwrap().is_ok());
        assert!(runs.len() <= 4, "{runs:?}");
        let left = 10 - (runs.len() - 1);
        for _ in 0..left {
            assert_eq!(begins.recv().unwrap(), 500);
            order.send(true).unwrap();
        }
        let output = large.await.unwrap().unwrap();
        let expected: Vec<f64> = (0..5_000_u16).map(f64::from).collect();
        assert_eq!(floats(&output), expected);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_waits_is_run_together_and_each_gets_its_own() {
        let (begun, begins) = mpsc::sync_channel(8);
        let (order, orders) = mpsc::sync_channel(8);
        let workers =
            Arc::new(Workers::start("test", vec![Box::new(Told { begun, orders })], 8, 0).unwrap());
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
        assert_eq!(cut(1_025, 1), [0..342, 342..684, 684..1_025]);
    }
}
