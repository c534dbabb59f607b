//! Logs: readable on a terminal, a line of JSON an event otherwise. Always to standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

use crate::{
    config::{LogFormat, TelemetryConfig},
    error::{Error, Result},
};

/// Starts logging, once a process.
///
/// # Errors
/// `InvalidArgument` for a filter that does not parse; `Internal` where logging was started before.
pub fn start(config: &TelemetryConfig) -> Result<()> {
    let filter = EnvFilter::try_new(&config.log_filter)
        .map_err(|fault| Error::invalid("telemetry.log_filter", fault.to_string()))?;
    let as_json = match config.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = if as_json {
        lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .try_init()
    } else {
        lines.with_ansi(io::stderr().is_terminal()).try_init()
    };
    started.map_err(|fault| Error::internal(format!("logging cannot be started: {fault}")))
}
