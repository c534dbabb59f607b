//! The threads that run a version: a runtime each, one bounded queue before them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
};

use tokio::sync::oneshot;

use super::{Batch, Output, Runtime};
use crate::error::{Error, ErrorKind, Result};

struct Job {
    batch: Batch,
    answer: oneshot::Sender<Result<Output>>,
}

/// The worker threads of one version. They end when this is dropped and the queue is empty.
#[derive(Debug)]
pub struct Workers {
    queue: SyncSender<Job>,
}

impl Workers {
    /// Starts a thread a runtime; up to `queue_max` batches wait for one.
    ///
    /// # Errors
    /// `Unavailable` where the system gives no thread.
    pub fn start(name: &str, runtimes: Vec<Box<dyn Runtime>>, queue_max: usize) -> Result<Workers> {
        let (queue, jobs) = mpsc::sync_channel(queue_max);
        let jobs = Arc::new(Mutex::new(jobs));
        for runtime in runtimes {
            let jobs = Arc::clone(&jobs);
            thread::Builder::new()
                .name(format!("model-{name}"))
                .spawn(move || work(runtime, &jobs))
                .map_err(|fault| {
                    Error::unavailable("no thread could be started for a model").with_source(fault)
                })?;
        }
        Ok(Workers { queue })
    }

    /// Scores a batch on the next free thread.
    ///
    /// # Errors
    /// `Overloaded` at once where the queue is full; what the runtime answers.
    pub async fn run(&self, batch: Batch) -> Result<Output> {
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send(Job { batch, answer })
            .map_err(|fault| match fault {
                TrySendError::Full(_) => Error::new(
                    ErrorKind::Overloaded,
                    "the model's queue is full; try again later",
                ),
                TrySendError::Disconnected(_) => Error::internal("the model's threads have ended"),
            })?;
        answered.await.map_err(|fault| {
            Error::internal("a model's thread gave no answer").with_source(fault)
        })?
    }
}

fn work(mut runtime: Box<dyn Runtime>, jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else {
            return;
        };
        // Nobody waits for a cancelled request.
        if job.answer.is_closed() {
            continue;
        }
        let output = catch_unwind(AssertUnwindSafe(|| runtime.run(&job.batch)))
            .unwrap_or_else(|_| Err(Error::internal("the model's runtime panicked")));
        // The caller may have gone away meanwhile, which is no fault.
        drop(job.answer.send(output));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    /// Runs when it is told to, and panics when it is told that.
    struct Told {
        begun: SyncSender<()>,
        orders: Receiver<bool>,
    }

    impl Runtime for Told {
        fn run(&mut self, batch: &Batch) -> Result<Output> {
            self.begun.send(()).unwrap();
            assert!(self.orders.recv().unwrap(), "told to panic");
            Ok(Output::Float(vec![0.5; batch.rows]))
        }
    }

    fn batch(rows: usize) -> Batch {
        Batch {
            rows,
            tensors: Vec::new(),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_full_queue_sheds_a_panic_is_survived_and_the_cancelled_are_skipped() {
        let (begun, begins) = mpsc::sync_channel(8);
        let (order, orders) = mpsc::sync_channel(8);
        let workers =
            Arc::new(Workers::start("test", vec![Box::new(Told { begun, orders })], 1).unwrap());
        let spawn = |rows| {
            let workers = Arc::clone(&workers);
            tokio::spawn(async move { workers.run(batch(rows)).await })
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
}
