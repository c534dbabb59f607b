//! The command line: one file a command. Sees `app` and `config`, and what it has to name of the domain.

mod apply;
mod check;
mod describe;
mod historical;
mod materialize;
mod migrate;
mod output;
mod predictions;
mod refill;
mod serve;
mod signals;
mod table;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    app,
    config::{Config, Flags},
    error::{Error, ErrorKind, Result},
    telemetry,
};

/// The exit code for a command line or configuration that cannot be used (EX_USAGE of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// Keeps features and predicts from them, in one process.
#[derive(Debug, Parser)]
#[command(name = "ferrocast", version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ferrocast apply && ferrocast materialize && ferrocast serve
  ferrocast serve --grpc-addr 0.0.0.0:50051 --database-url postgres://user@host/db
  ferrocast serve --set limits.entities_max=500 --set telemetry.log_format=json
  ferrocast check --models ./models

Every setting can be given as --set section.name=value, in the environment as FERROCAST_SECTION_NAME,
or in ferrocast.toml (or --config FILE) as name = value under [section]; in this order.";

/// What every command takes.
#[derive(Debug, Args)]
struct Common {
    /// The configuration file; ferrocast.toml is read where there is one.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// `postgres://…` or `sqlite:PATH` (also DATABASE_URL).
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Where the embedded store is kept.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// The model repository.
    #[arg(long, global = true, value_name = "DIR")]
    models: Option<String>,
    /// Any setting, as limits.entities_max=500; can be repeated.
    #[arg(long = "set", global = true, value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve gRPC and REST.
    Serve(serve::Serve),
    /// Bring the database's schema up to date.
    Migrate(migrate::Migrate),
    /// Apply definitions files: create what is new, change what can be changed without losing data.
    Apply(apply::Apply),
    /// Load feature views from their sources (Parquet, CSV, SQL), each file in one transaction.
    Materialize(materialize::Materialize),
    /// Fill Redis from the database, after it lost its data.
    Refill(refill::Refill),
    /// Make a training set: a point-in-time join of labels with features.
    Historical(historical::Historical),
    /// Show a feature view: definition, loads, statistics.
    Describe(describe::Describe),
    /// What the ledger has: export predictions to Parquet.
    Predictions(predictions::Predictions),
    /// Check configuration, definitions and models, and start nothing.
    Check(check::Check),
}

/// ONNX Runtime's official builds tell their maker of each use, and write about it into the user's folders, unless this is set
/// before they are opened. Whoever sets it otherwise in the environment has it so.
const NO_TELEMETRY: &[u8] = b"ORT_DISABLE_TELEMETRY=1";

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // While there is no other thread that could read the environment.
    if let Err(fault) = dotenvy::from_read(NO_TELEMETRY) {
        output::fault(&Error::internal("the environment cannot be set").with_source(fault));
        return ExitCode::FAILURE;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(fault) => {
            // Help and version come this way, too.
            let code = if fault.use_stderr() { EXIT_USAGE } else { 0 };
            return match fault.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::FAILURE,
            };
        }
    };
    let config = match cli
        .flags()
        .and_then(|flags| Config::load(&flags, app::settings_faults))
    {
        Ok(config) => config,
        Err(fault) => {
            output::fault(&fault);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match run(cli.command, &config) {
        Ok(code) => code,
        Err(fault) => {
            output::fault(&fault);
            match fault.kind() {
                ErrorKind::InvalidArgument => ExitCode::from(EXIT_USAGE),
                ErrorKind::Unauthenticated
                | ErrorKind::PermissionDenied
                | ErrorKind::NotFound
                | ErrorKind::FailedPrecondition
                | ErrorKind::Conflict
                | ErrorKind::Overloaded
                | ErrorKind::Timeout
                | ErrorKind::Unavailable
                | ErrorKind::Internal => ExitCode::FAILURE,
            }
        }
    }
}

fn run(command: Command, config: &Config) -> Result<ExitCode> {
    let _logs = telemetry::start(&config.telemetry)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.server.threads)
        .enable_all()
        .build()
        .map_err(|fault| {
            Error::unavailable("the system gives no threads to run on").with_source(fault)
        })?;
    let code = runtime.block_on(async {
        match command {
            Command::Serve(_) => serve::run(config).await,
            Command::Migrate(_) => migrate::run(config).await,
            Command::Apply(command) => apply::run(config, &command).await,
            Command::Materialize(command) => materialize::run(config, &command).await,
            Command::Refill(command) => refill::run(config, &command).await,
            Command::Historical(command) => historical::run(config, &command).await,
            Command::Describe(command) => describe::run(config, &command).await,
            Command::Predictions(command) => predictions::run(config, &command).await,
            Command::Check(_) => check::run(config).await,
        }
    });
    // What a second signal left running is not waited for.
    runtime.shutdown_background();
    code
}

impl Cli {
    fn flags(&self) -> Result<Flags> {
        let mut settings = Vec::new();
        for text in &self.common.settings {
            let (name, value) = text.split_once('=').ok_or_else(|| {
                // What was given may be a URL with a password.
                Error::invalid("--set", "expected NAME=VALUE, as limits.entities_max=500")
            })?;
            settings.push((name.trim().to_owned(), value.to_owned()));
        }
        let (grpc_addr, http_addr) = match &self.command {
            Command::Serve(serve) => (serve.grpc_addr.as_ref(), serve.http_addr.as_ref()),
            Command::Migrate(_)
            | Command::Apply(_)
            | Command::Materialize(_)
            | Command::Historical(_)
            | Command::Refill(_)
            | Command::Describe(_)
            | Command::Predictions(_)
            | Command::Check(_) => (None, None),
        };
        let named = [
            ("server.grpc_addr", grpc_addr),
            ("server.http_addr", http_addr),
            ("server.data_dir", self.common.data_dir.as_ref()),
            ("models.path", self.common.models.as_ref()),
            ("database.url", self.common.database_url.as_ref()),
        ];
        for (key, value) in named {
            settings.extend(value.map(|value| (key.to_owned(), value.clone())));
        }
        Ok(Flags {
            settings,
            config: self.common.config.clone(),
        })
    }
}
