//! Large messages are read and written off the threads that answer everybody else, a bounded number at once: what a body
//! says is held as objects meanwhile, many times the size of its bytes.

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::fault::Fault;

/// Smaller messages are worked on where they are: handing over would cost more than the work.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// Does work on a message of so many bytes, in place or on a thread of its own.
///
/// # Errors
/// What the work answers; 504 where the deadline runs out first.
pub(crate) async fn on_message<T, W>(
    places: &Semaphore,
    bytes: usize,
    deadline: Instant,
    work: W,
) -> Result<T, Fault>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, Fault> + Send + 'static,
{
    if bytes <= INLINE_BYTES_MAX {
        return work();
    }
    let done = async {
        let _place = places.acquire().await;
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(work)).await
    };
    match timeout_at(deadline, done).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(Fault::bad_answer(panic)),
        Err(_) => Err(Fault::deadline()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn large_work_leaves_the_callers_thread_and_waits_for_a_place() {
        let here = std::thread::current().id();
        let deadline = Instant::now() + Duration::from_secs(60);
        let where_is = |places: &'static Semaphore, bytes| {
            on_message(places, bytes, deadline, || Ok(std::thread::current().id()))
        };
        static PLACES: Semaphore = Semaphore::const_new(1);
        static NO_PLACES: Semaphore = Semaphore::const_new(0);
        assert!(matches!(where_is(&PLACES, 10).await, Ok(thread) if thread == here));
        assert!(matches!(where_is(&PLACES, 1 << 20).await, Ok(thread) if thread != here));
        assert!(where_is(&NO_PLACES, 10).await.is_ok());
        let over = on_message(&NO_PLACES, 1 << 20, Instant::now(), || Ok(())).await;
        assert!(over.is_err());
    }
}
