//! The calls of a connection. Those that came together begin together, in the task that reads and writes the connection: nobody is
//! woken on another thread for one, and their answers go out in one piece. Of many, and of those that wait for long ones, other threads
//! take parts; one that has to wait for something is a task of its own from then on.

use std::{
    collections::VecDeque,
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use hyper::rt::Executor;
use pin_project_lite::pin_project;

use super::bell::Bell;

/// So many begin one after the other; of more that came together, other threads may take parts. Measured in
/// loadtest/README.md.
const TOGETHER_MAX: usize = 16;

/// For so long calls begin one after the other; those that have not then, other threads may take.
const TOGETHER_TIME_MAX: Duration = Duration::from_micros(500);

/// So often a connection is looked after before others are.
const ROUNDS_MAX: usize = 4;

/// A call, until it is answered. One that panics as it runs breaks off, and no other with it.
type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Calls that have not begun, in the order in which they came.
type Queue = Mutex<VecDeque<Call>>;

fn lock(queue: &Queue) -> MutexGuard<'_, VecDeque<Call>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a connection puts its calls. Each of them holds it, so it holds none of them.
#[derive(Debug, Clone)]
pub(super) struct Arrivals {
    queue: Weak<Queue>,
    bell: Arc<Bell>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Arrivals {
    fn execute(&self, call: F) {
        let Some(queue) = self.queue.upgrade() else {
            return;
        };
        let call = Box::pin(AssertUnwindSafe(call).catch_unwind().map(drop));
        lock(&queue).push_back(call);
        self.bell.ring();
    }
}

pin_project! {
    /// A connection that begins its calls. It ends as the connection does.
    pub(super) struct Answering<C> {
        #[pin]
        connection: C,
        queue: Arc<Queue>,
        bell: Arc<Bell>,
        waker: Waker,
    }
}

impl<C> Answering<C> {
    /// Of the connection that this makes, which is to execute its calls by what it is given.
    pub(super) fn new(connect: impl FnOnce(Arrivals) -> C) -> Answering<C> {
        let (queue, bell) = (Arc::<Queue>::default(), Arc::<Bell>::default());
        let arrivals = Arrivals {
            queue: Arc::downgrade(&queue),
            bell: Arc::clone(&bell),
        };
        Answering {
            connection: connect(arrivals),
            queue,
            waker: Waker::from(Arc::clone(&bell)),
            bell,
        }
    }
}

impl<C: Future> Future for Answering<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        let mut this = self.project();
        this.bell.open(context.waker());
        let mut inner = Context::from_waker(this.waker);
        for _ in 0..ROUNDS_MAX {
            this.bell.hush();
            if let Poll::Ready(ended) = this.connection.as_mut().poll(&mut inner) {
                return Poll::Ready(ended);
            }
            let arrived = std::mem::take(&mut *lock(this.queue));
            begin(arrived, &mut inner);
            if !this.bell.has_rung() {
                break;
            }
        }
        this.bell.close();
        Poll::Pending
    }
}

/// Begins calls, one after the other. Those that do not end at once go on as tasks.
fn begin(mut calls: VecDeque<Call>, context: &mut Context<'_>) {
    // One alone is not worth it: it would stay with this thread.
    if calls.len() > TOGETHER_MAX + 1 {
        hand_over(calls.split_off(TOGETHER_MAX));
    }
    let since = Instant::now();
    while let Some(mut call) = calls.pop_front() {
        if call.as_mut().poll(context).is_pending() {
            tokio::spawn(call);
        }
        if calls.len() > 1 && since.elapsed() > TOGETHER_TIME_MAX {
            hand_over(std::mem::take(&mut calls));
        }
    }
}

/// Lets any thread take these calls, in two parts at least: the last task that a thread starts it keeps for itself.
fn hand_over(mut calls: VecDeque<Call>) {
    let size = calls.len().div_ceil(2).min(TOGETHER_MAX);
    while !calls.is_empty() {
        let rest = calls.split_off(size.min(calls.len()));
        let mut part = std::mem::replace(&mut calls, rest);
        tokio::spawn(poll_fn(move |context| {
            begin(std::mem::take(&mut part), context);
            Poll::Ready(())
        }));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::{
        collections::HashSet,
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use tokio::{
        sync::{mpsc, oneshot},
        task::{self, yield_now},
        time::timeout,
    };

    use super::*;

    const WAIT_MAX: Duration = Duration::from_secs(10);

    /// Within a call: it fails before who waits for it.
    const CALL_WAIT_MAX: Duration = Duration::from_secs(5);

    /// A connection that brings these calls, and ends when it is told to; that it is not, as it ends with the calls, is a
    /// failure. As a server has them, on a worker of the runtime.
    async fn answer(calls: Vec<Call>, mut end: mpsc::Receiver<()>) {
        let mut calls = Some(calls);
        let answering = Answering::new(|arrivals| {
            poll_fn(move |context| {
                for call in calls.take().unwrap_or_default() {
                    arrivals.execute(call);
                }
                end.poll_recv(context).map(Option::unwrap)
            })
        });
        let answered = timeout(WAIT_MAX, tokio::spawn(answering)).await;
        answered.unwrap().unwrap();
    }

    /// The task that each of so many calls ran in.
    async fn ran_on(count: usize) -> Vec<task::Id> {
        let (ended, end) = mpsc::channel(1);
        let ran = Arc::new(Mutex::new(Vec::new()));
        let call = |_| -> Call {
            let (ran, ended) = (Arc::clone(&ran), ended.clone());
            Box::pin(async move {
                let mut ran = ran.lock().unwrap();
                ran.push(task::id());
                if ran.len() == count {
                    ended.try_send(()).unwrap();
                }
            })
        };
        answer((0..count).map(call).collect(), end).await;
        std::mem::take(&mut *ran.lock().unwrap())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn few_run_in_the_task_of_their_connection_and_of_many_others_take_parts() {
        let tasks_of = async |count| {
            let ran = ran_on(count).await;
            assert_eq!(ran.len(), count);
            ran.into_iter().collect::<HashSet<_>>().len()
        };
        for (count, tasks) in [
            (1, 1),
            (TOGETHER_MAX + 1, 1),
            (TOGETHER_MAX + 2, 3),
            (4 * TOGETHER_MAX, 4),
        ] {
            let mut found = Vec::new();
            // Where the system lets a thread wait, calls take long, and others take more parts.
            while !found.contains(&tasks) {
                assert!(
                    found.len() < 50,
                    "{count} calls in {found:?} tasks, and never {tasks}"
                );
                found.push(tasks_of(count).await);
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_waits_for_a_long_one_runs_elsewhere() {
        let (ended, end) = mpsc::channel(1);
        // Each waits on its thread for the other, as no two on one thread could.
        let (here, is_here) = std::sync::mpsc::channel();
        let (there, is_there) = std::sync::mpsc::channel();
        let first: Call = Box::pin(async { thread::sleep(2 * TOGETHER_TIME_MAX) });
        let second: Call = Box::pin(async move {
            here.send(()).unwrap();
            is_there.recv_timeout(CALL_WAIT_MAX).unwrap();
            ended.try_send(()).unwrap();
        });
        let third: Call = Box::pin(async move {
            is_here.recv_timeout(CALL_WAIT_MAX).unwrap();
            there.send(()).unwrap();
        });
        answer(vec![first, second, third], end).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_call_that_waits_goes_on_when_it_can_and_one_that_panics_breaks_off_alone() {
        let (ended, end) = mpsc::channel(1);
        let (sender, receiver) = oneshot::channel::<()>();
        let waits: Call = Box::pin(async move {
            receiver.await.unwrap();
            ended.try_send(()).unwrap();
        });
        let breaks: Call = Box::pin(async { panic!("as a defect would") });
        let tells: Call = Box::pin(async move {
            yield_now().await;
            sender.send(()).unwrap();
        });
        answer(vec![waits, breaks, tells], end).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_other_threads_ring_at_any_moment_is_heard() {
        const LAST: usize = usize::MAX;
        let (rung, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (waker, wakers) = std::sync::mpsc::channel::<Waker>();
        let ringing = thread::spawn({
            let (rung, heard) = (Arc::clone(&rung), Arc::clone(&heard));
            move || {
                let waker = wakers.recv_timeout(CALL_WAIT_MAX).unwrap();
                drop(wakers);
                let until = Instant::now() + Duration::from_millis(500);
                for ring in (1..20_000)
                    .take_while(|_| Instant::now() < until)
                    .chain([LAST])
                {
                    rung.store(ring, Ordering::SeqCst);
                    waker.wake_by_ref();
                    let lost = Instant::now() + CALL_WAIT_MAX;
                    while heard.load(Ordering::SeqCst) != ring {
                        assert!(Instant::now() < lost, "ring {ring} was not heard");
                        thread::yield_now();
                    }
                }
            }
        });
        let answering = Answering::new(|_| {
            poll_fn(move |context| {
                // Who rings needs the first only.
                let _ = waker.send(context.waker().clone());
                let ring = rung.load(Ordering::SeqCst);
                heard.store(ring, Ordering::SeqCst);
                if ring == LAST {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
        });
        let answered = timeout(WAIT_MAX, tokio::spawn(answering)).await;
        answered.unwrap().unwrap();
        ringing.join().unwrap();
    }

    #[tokio::test]
    async fn what_is_rung_in_the_last_round_is_not_lost() {
        let mut polls = 0;
        let answering = Answering::new(|_| {
            poll_fn(move |context| {
                polls += 1;
                if polls > 10 * ROUNDS_MAX {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
        });
        timeout(WAIT_MAX, answering).await.unwrap();
    }

    #[tokio::test]
    async fn what_came_with_the_end_of_its_connection_ends_with_it() {
        let (held, mut is_held) = oneshot::channel::<()>();
        let mut held = Some(held);
        let answering = Answering::new(|arrivals| {
            poll_fn(move |_| {
                // As hyper's calls do.
                let (arrivals_held, held) = (arrivals.clone(), held.take());
                arrivals.execute(async move {
                    let _both = (arrivals_held, held);
                    std::future::pending().await
                });
                Poll::Ready(())
            })
        });
        answering.await;
        let closed = Err(oneshot::error::TryRecvError::Closed);
        assert_eq!(is_held.try_recv(), closed);
    }
}
