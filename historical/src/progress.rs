//! Progress as JSON lines on stderr, for the parent process.

use std::{
    io::Write,
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_millis(250);

/// How far one phase is.
pub(crate) struct Progress {
    phase: &'static str,
    view: Option<String>,
    done: u64,
    of: u64,
    told: Option<Instant>,
}

impl Progress {
    /// Starts a phase, which has so much to do.
    pub(crate) fn new(phase: &'static str, view: Option<&str>, of: u64) -> Self {
        Progress {
            phase,
            view: view.map(str::to_owned),
            done: 0,
            of,
            told: None,
        }
    }

    /// Some more is done. Says so at the end, and else not more than four times a second.
    pub(crate) fn add(&mut self, more: usize) {
        self.done += u64::try_from(more).unwrap_or_default();
        let is_due = self.told.is_none_or(|told| told.elapsed() >= PAUSE);
        if is_due || self.done == self.of {
            self.tell();
            self.told = Some(Instant::now());
        }
    }

    fn tell(&self) {
        let mut progress =
            serde_json::json!({"phase": self.phase, "done": self.done, "of": self.of});
        if let (Some(view), Some(object)) = (&self.view, progress.as_object_mut()) {
            object.insert("view".to_owned(), view.clone().into());
        }
        let line = serde_json::json!({"progress": progress});
        // A parent that does not listen is no reason to stop.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}
