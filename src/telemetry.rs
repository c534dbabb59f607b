//! Logs: readable on a terminal, a line of JSON an event otherwise. Always to standard error, by a thread of their own: whoever
//! reads them slowly, or not at all, holds up no request.

use std::io::{self, IsTerminal, Write};

use tracing::Metadata;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    config::{LogFormat, TelemetryConfig},
    error::{Error, ErrorKind, Result},
};

/// Checks what is to be logged.
///
/// # Errors
/// `InvalidArgument` for a filter that does not parse.
pub fn check(config: &TelemetryConfig) -> Result<()> {
    filter(config).map(|_| ())
}

fn filter(config: &TelemetryConfig) -> Result<EnvFilter> {
    EnvFilter::try_new(&config.log_filter).map_err(|fault| {
        let fault = format!("\"{}\" does not parse: {fault}", config.log_filter);
        Error::new(ErrorKind::InvalidArgument, fault)
    })
}

/// AWS's library tells what a program that gives credentials has said, and at its finest level the command: none of it is
/// logged, whatever is asked for. What goes wrong with it is an error of ours.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    !metadata.target().starts_with("aws_")
}

/// Logging that has been started. What waits is written when this is dropped, if somebody takes it within a second.
#[derive(Debug)]
#[must_use]
pub struct Logs {
    writing: Option<WorkerGuard>,
    lost: ErrorCounter,
}

impl Drop for Logs {
    fn drop(&mut self) {
        drop(self.writing.take());
        let lost = self.lost.dropped_lines();
        if lost > 0 {
            // The last word: there is nobody else to tell.
            let _ = writeln!(
                io::stderr(),
                "{lost} lines of the log were lost: more than telemetry.log_lines_max waited to be written"
            );
        }
    }
}

/// Starts logging, once a process.
///
/// # Errors
/// `InvalidArgument` for a filter that does not parse; `Internal` where logging was started before.
pub fn start(config: &TelemetryConfig) -> Result<Logs> {
    let filter = filter(config)?;
    let as_json = match config.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(config.log_lines_max)
        .lossy(true)
        .thread_name("logs")
        .finish(io::stderr());
    let logs = Logs {
        lost: writer.error_counter(),
        writing: Some(guard),
    };
    let lines = fmt().with_env_filter(filter).with_writer(writer);
    let started = if as_json {
        lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .finish()
            .with(filter_fn(may_be_logged))
            .try_init()
    } else {
        lines
            .with_ansi(io::stderr().is_terminal())
            .finish()
            .with(filter_fn(may_be_logged))
            .try_init()
    };
    started.map_err(|fault| Error::internal(format!("logging cannot be started: {fault}")))?;
    Ok(logs)
}
