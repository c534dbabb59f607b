//! The calls of a connection. Those that came together run together, in the task that reads and writes the connection: nobody
//! is woken on another thread for one, and their answers go out in one piece. Of many, or of long ones, other threads take parts.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use hyper::rt::Executor;
use pin_project_lite::pin_project;

use super::bell::Bell;

/// So many run one after the other; of more that came together, other threads may take parts. Measured in
/// loadtest/README.md.
const TOGETHER_MAX: usize = 16;

/// For so long calls are begun one after the other; what waits then, other threads may take.
const TOGETHER_TIME_MAX: Duration = Duration::from_micros(500);

/// So often a connection is looked after before others are.
const ROUNDS_MAX: usize = 4;

/// A call, until it is answered. One that panics breaks off, and no other with it.
type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The calls that came, and nobody has looked at.
#[derive(Clone, Default)]
pub(super) struct Arrived(Arc<Mutex<VecDeque<Call>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Arrived {
    fn execute(&self, call: F) {
        let call = Box::pin(AssertUnwindSafe(call).catch_unwind().map(drop));
        self.lock().push_back(call);
    }
}

impl Arrived {
    fn take(&self) -> VecDeque<Call> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls that run one after the other where they can. It ends when all have.
#[derive(Default)]
struct Calls {
    waiting: VecDeque<Call>,
    running: FuturesUnordered<Call>,
}

impl Calls {
    fn add(&mut self, mut calls: VecDeque<Call>) {
        if calls.len() > TOGETHER_MAX {
            hand_over(calls.split_off(TOGETHER_MAX));
        }
        self.waiting.append(&mut calls);
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        let since = Instant::now();
        while let Some(mut call) = self.waiting.pop_front() {
            if call.as_mut().poll(context).is_pending() {
                self.running.push(call);
            }
            if since.elapsed() > TOGETHER_TIME_MAX {
                hand_over(std::mem::take(&mut self.waiting));
            }
        }
        while let Poll::Ready(Some(())) = self.running.poll_next_unpin(context) {}
    }
}

impl Future for Calls {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.go_on(context);
        if self.running.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// Lets any thread take these calls, in two parts at least: the last task that a thread starts it keeps for itself.
fn hand_over(mut calls: VecDeque<Call>) {
    let size = calls.len().div_ceil(2).min(TOGETHER_MAX);
    while !calls.is_empty() {
        let rest = calls.split_off(size.min(calls.len()));
        let part = Calls {
            waiting: std::mem::replace(&mut calls, rest),
            running: FuturesUnordered::new(),
        };
        tokio::spawn(part);
    }
}

pin_project! {
    /// A connection with its calls. It ends as the connection does, and ends what runs then.
    pub(super) struct Answering<C> {
        #[pin]
        connection: C,
        arrived: Arrived,
        calls: Calls,
        bell: Arc<Bell>,
        waker: Waker,
    }
}

impl<C> Answering<C> {
    /// Of a connection that executes its calls by these that arrived.
    pub(super) fn new(connection: C, arrived: Arrived) -> Answering<C> {
        let bell = Arc::new(Bell::default());
        Answering {
            connection,
            arrived,
            calls: Calls::default(),
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
            this.calls.add(this.arrived.take());
            this.calls.go_on(&mut inner);
            if !this.bell.has_rung() {
                break;
            }
        }
        this.bell.close();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use tokio::{sync::oneshot, task::yield_now, time::timeout};

    use super::*;

    const WAIT_MAX: Duration = Duration::from_secs(10);

    /// A connection that brings these calls, and ends once so many have been answered.
    async fn answered(calls: Vec<Call>, until: (&Arc<AtomicUsize>, usize)) {
        let arrived = Arrived::default();
        let executor = arrived.clone();
        let (answered, all) = until;
        let mut calls = Some(calls);
        let connection = poll_fn(move |context| {
            for call in calls.take().unwrap_or_default() {
                executor.execute(call);
            }
            if answered.load(Ordering::SeqCst) >= all {
                return Poll::Ready(());
            }
            // As a connection is, by each answer, on whatever thread.
            let waker = context.waker().clone();
            tokio::spawn(async move {
                yield_now().await;
                waker.wake();
            });
            Poll::Pending
        });
        let answering = Answering::new(connection, arrived);
        timeout(WAIT_MAX, answering).await.unwrap();
    }

    fn call(answered: &Arc<AtomicUsize>) -> Call {
        let answered = Arc::clone(answered);
        Box::pin(async move {
            answered.fetch_add(1, Ordering::SeqCst);
        })
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn few_run_where_they_came_and_of_many_others_take_parts() {
        for count in [1, TOGETHER_MAX, TOGETHER_MAX + 1, 10 * TOGETHER_MAX] {
            let done = Arc::new(AtomicUsize::new(0));
            let calls = (0..count).map(|_| call(&done)).collect();
            answered(calls, (&done, count)).await;
            assert_eq!(done.load(Ordering::SeqCst), count);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_waits_for_a_long_one_runs_elsewhere() {
        let done = Arc::new(AtomicUsize::new(0));
        let (begun, has_begun) = std::sync::mpsc::channel();
        // Each waits on its thread for the other, as no two on one thread could.
        let (other, is_there) = std::sync::mpsc::channel();
        let long: Call = Box::pin({
            let done = Arc::clone(&done);
            async move {
                has_begun.recv_timeout(WAIT_MAX).unwrap();
                other.send(()).unwrap();
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
        let first: Call = Box::pin(async { thread::sleep(2 * TOGETHER_TIME_MAX) });
        let second: Call = Box::pin({
            let done = Arc::clone(&done);
            async move {
                begun.send(()).unwrap();
                is_there.recv_timeout(WAIT_MAX).unwrap();
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
        answered(vec![first, long, second], (&done, 2)).await;
    }

    #[tokio::test]
    async fn a_call_that_waits_goes_on_when_it_can_and_one_that_panics_breaks_off_alone() {
        let done = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = oneshot::channel::<()>();
        let waits: Call = Box::pin({
            let done = Arc::clone(&done);
            async move {
                receiver.await.unwrap();
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
        let tells: Call = Box::pin(async move { sender.send(()).unwrap() });
        let breaks: Call = Box::pin(async { panic!("as a defect would") });
        answered(vec![waits, breaks, tells, call(&done)], (&done, 2)).await;
    }

    #[tokio::test]
    async fn what_is_rung_in_the_last_round_is_not_lost() {
        let mut polls = 0;
        let restless = poll_fn(move |context| {
            polls += 1;
            if polls > 10 * ROUNDS_MAX {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        let answering = Answering::new(restless, Arrived::default());
        timeout(WAIT_MAX, answering).await.unwrap();
    }

    #[tokio::test]
    async fn what_runs_ends_with_its_connection() {
        let (sender, mut receiver) = oneshot::channel::<()>();
        let endless: Call = Box::pin(async move {
            let _held = sender;
            std::future::pending().await
        });
        let done = Arc::new(AtomicUsize::new(0));
        answered(vec![endless, call(&done)], (&done, 1)).await;
        assert_eq!(
            receiver.try_recv(),
            Err(oneshot::error::TryRecvError::Closed)
        );
    }
}
