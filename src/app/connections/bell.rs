//! What wakes a task, but not while it runs: it looks by itself then whether there is more to do. Woken while it runs, a task is
//! put at the end of its thread's queue, and another thread is woken to take it from there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// What is rung to wake a task.
#[derive(Debug, Default)]
pub(super) struct Bell {
    task: AtomicWaker,
    is_open: AtomicBool,
    has_rung: AtomicBool,
}

impl Bell {
    /// The task of this waker runs, and looks by itself.
    pub(super) fn open(&self, task: &Waker) {
        self.is_open.store(true, Ordering::SeqCst);
        self.task.register(task);
    }

    /// The task looks at everything from here on.
    pub(super) fn hush(&self) {
        // Both swap, and do not store: what is looked at from here on is to be what it was when it was rung.
        self.has_rung.swap(false, Ordering::SeqCst);
    }

    /// Whether there is more to look at than there was.
    pub(super) fn has_rung(&self) -> bool {
        self.has_rung.load(Ordering::SeqCst)
    }

    /// The task waits from here on, unless there is more to look at.
    pub(super) fn close(&self) {
        // In this order, against the other one of ringing: one of both sees the other.
        self.is_open.store(false, Ordering::SeqCst);
        if self.has_rung() {
            self.task.wake();
        }
    }

    /// There is more to look at.
    pub(super) fn ring(&self) {
        self.has_rung.swap(true, Ordering::SeqCst);
        if !self.is_open.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Bell>) {
        self.ring();
    }
}
