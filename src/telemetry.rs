//! Logs: readable on a terminal, a line of JSON an event otherwise. Always to standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

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

/// Starts logging, once a process.
///
/// # Errors
/// `InvalidArgument` for a filter that does not parse; `Internal` where logging was started before.
pub fn start(config: &TelemetryConfig) -> Result<()> {
    let filter = filter(config)?;
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
