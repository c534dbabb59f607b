//! Workers with runtimes that do as they are told.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
use std::sync::atomic::Ordering;

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

/// On a thread of its own, which has had none before.
#[test]
fn a_thread_comes_back_to_the_runtime_that_it_had() {
    thread::spawn(comes_back).join().unwrap();
}

fn comes_back() {
    let (threads, _ran) = mpsc::sync_channel(8);
    let seat = || {
        let threads = threads.clone();
        Seat::new(Box::new(Noting { threads }))
    };
    let seats = [seat(), seat(), seat()];
    let free = || -> Vec<bool> { seats.iter().map(|s| s.borrow().is_some()).collect() };
    let first = seats[0].borrow().unwrap();
    let borrowed = borrow_one(&seats).unwrap();
    assert_eq!(free(), [false, false, true]);
    drop((first, borrowed));
    // The first is free again, and not its own.
    let again = borrow_one(&seats).unwrap();
    assert_eq!(free(), [true, false, true]);
    drop(again);
    // A model of fewer runtimes.
    assert!(borrow_one(&seats[..1]).is_some());
    assert!(borrow_one(&[]).is_none());
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
