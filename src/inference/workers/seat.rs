//! A runtime that its own thread has, and that others may borrow for what is short.

use std::{
    cell::Cell,
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::inference::Runtime;

thread_local! {
    /// The seat that this thread borrowed last, of whichever model: what its runtime reads is still near this processor.
    static LAST: Cell<usize> = const { Cell::new(0) };
}

/// Borrows a seat for the calling thread, the one that it had last where that is free.
pub(super) fn borrow_one(seats: &[Seat]) -> Option<MutexGuard<'_, Box<dyn Runtime>>> {
    let last = LAST.get();
    if let Some(runtime) = seats.get(last).and_then(Seat::borrow) {
        return Some(runtime);
    }
    for (number, seat) in seats.iter().enumerate() {
        if let Some(runtime) = seat.borrow() {
            LAST.set(number);
            return Some(runtime);
        }
    }
    None
}

/// A runtime, and whether its own thread waits for it.
pub(super) struct Seat {
    runtime: Mutex<Box<dyn Runtime>>,
    pub(super) is_wanted: AtomicBool,
}

impl Seat {
    pub(super) fn new(runtime: Box<dyn Runtime>) -> Seat {
        Seat {
            runtime: Mutex::new(runtime),
            is_wanted: AtomicBool::new(false),
        }
    }

    /// For its own thread, which waits for whoever has it.
    pub(super) fn take(&self) -> MutexGuard<'_, Box<dyn Runtime>> {
        self.is_wanted.store(true, Ordering::Relaxed);
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_wanted.store(false, Ordering::Relaxed);
        runtime
    }

    /// For others: where it is free, and its own thread is content.
    pub(super) fn borrow(&self) -> Option<MutexGuard<'_, Box<dyn Runtime>>> {
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
