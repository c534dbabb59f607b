//! What tells a command to stop: SIGTERM, or an interrupt from the terminal.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Error, Result};

/// Both signals, listened to from now on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen; the process no longer ends by itself.
    ///
    /// # Errors
    /// `Internal` where the system refuses.
    pub(super) fn listen() -> Result<Signals> {
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind)
        .map_err(|fault| Error::internal("signals cannot be listened to").with_source(fault))
}
