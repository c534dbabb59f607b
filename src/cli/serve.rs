//! `ferrocast serve`.

use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output;
use crate::{
    app::{Server, banner},
    config::Config,
    error::{Error, Result},
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
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let server = tokio::select! {
        started = Server::start(config) => started?,
        () = either(&mut terminate, &mut interrupt) => return Ok(ExitCode::SUCCESS),
    };
    tracing::info!(
        grpc_addr = %server.grpc_addr(),
        http_addr = server.http_addr().map(tracing::field::display),
        "serving"
    );
    output::line(&banner(&server));

    let code = tokio::select! {
        () = either(&mut terminate, &mut interrupt) => ExitCode::SUCCESS,
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
        () = either(&mut terminate, &mut interrupt) => {
            tracing::warn!("ended at once");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind)
        .map_err(|fault| Error::internal("signals cannot be listened to").with_source(fault))
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
