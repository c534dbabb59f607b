//! `ferrocast serve`.

use std::process::ExitCode;

use clap::Args;

use super::{output, signals::Signals};
use crate::{
    app::{Server, banner},
    config::Config,
    error::Result,
};

/// Serve gRPC and REST.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ferrocast serve
  ferrocast serve --grpc-addr 0.0.0.0:50051 --http-addr 0.0.0.0:8080
  DATABASE_URL=postgres://user:password@host/db?sslmode=verify-full ferrocast serve")]
pub(super) struct Serve {
    /// Where gRPC is served [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) grpc_addr: Option<String>,
    /// Where REST and the docs are served, or `off` [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) http_addr: Option<String>,
}

pub(super) async fn run(config: &Config) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let server = tokio::select! {
        started = Server::start(config) => started?,
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    tracing::info!(
        grpc_addr = %server.grpc_addr(),
        http_addr = server.http_addr().map(tracing::field::display),
        "serving"
    );
    output::line(&banner(&server));

    let code = tokio::select! {
        () = signals.next() => ExitCode::SUCCESS,
        () = server.broke_off() => ExitCode::FAILURE,
    };
    tracing::info!("stopping; a second signal ends it at once");
    tokio::select! {
        all_drained = server.stop() => {
            if !all_drained {
                tracing::warn!("stopped before every request had ended (server.drain_ms_max)");
            }
            tracing::info!("stopped");
            Ok(code)
        }
        () = signals.next() => {
            tracing::warn!("ended at once");
            Ok(ExitCode::FAILURE)
        }
    }
}
