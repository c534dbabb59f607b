//! The threads that run a version: a runtime each, one bounded queue before them.

mod aside;
mod seat;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time};

pub use self::aside::Aside;
use self::seat::{Seat, borrow_one};
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
        let seats: Arc<[Seat]> = runtimes.into_iter().map(Seat::new).collect();
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
        let mut runtime = borrow_one(&self.seats)?;
        Some(run(runtime.as_mut(), batch, 0..batch.rows))
    }

    /// Scores a short batch on this thread, any other as `run_apart`.
    ///
    /// # Errors
    /// `Overloaded` at once where the queue is full; what the runtime answers.
    pub async fn run(&self, batch: Arc<Batch>) -> Result<Output> {
        if let Some(output) = self.run_here(&batch) {
            return output;
        }
        self.run_apart(batch).await
    }

    /// Scores a batch on the next free threads, a large one part by part on several at once: of its parts no more wait than
    /// keep the threads busy, so that others get in between.
    ///
    /// # Errors
    /// As `run`.
    async fn run_apart(&self, batch: Arc<Batch>) -> Result<Output> {
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
    let Some(own) = seats.get(number) else {
        return;
    };
    loop {
        let Some((scoring, explaining)) =
            next_jobs(&mut jobs.lock().unwrap_or_else(PoisonError::into_inner))
        else {
            return;
        };
        // Somebody may have borrowed its own; another one is as good.
        let free = own.borrow().or_else(|| seats.iter().find_map(Seat::borrow));
        let mut runtime = free.unwrap_or_else(|| own.take());
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
