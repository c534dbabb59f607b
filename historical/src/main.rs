//! `ferrocast-historical`: point-in-time joins for training sets, as a process of its own.
//!
//! Reads a plan from stdin and hands it to `join`; owns the command line, the last line on stderr and the exit code.
//! Knows nothing of Ferrocast's server: `ferrocast historical` runs it as a child process.

mod asof;
mod budget;
mod convert;
mod error;
mod history;
mod input;
mod join;
mod keys;
mod matches;
mod merge;
mod output;
mod partition;
mod plan;
mod progress;
mod size;
mod spine;
mod spool;
mod times;
mod value_type;
mod view;
mod work;

use std::{io::Write, panic, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::error::{Error, Result};

/// Point-in-time joins: a training set from labels and the history of features.
#[derive(Parser)]
#[command(name = "ferrocast-historical", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reads a plan as JSON from stdin and writes the training set that it describes.
    ///
    /// Progress goes to stderr, one JSON object a line; an error is the last of them, and the exit code is 1.
    Join,
}

fn main() -> ExitCode {
    let Cli {
        command: Command::Join,
    } = Cli::parse();
    match guarded(join::run_stdin) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// A damaged file may make a decoder panic; that is an error as any other, and unwinding removes the work files.
fn guarded(run: fn() -> Result<()>) -> Result<()> {
    panic::set_hook(Box::new(|_| {}));
    panic::catch_unwind(run).unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied());
        Err(Error::internal(format!(
            "the join stopped: {}; is one of the files damaged?",
            text.unwrap_or("unknown fault")
        )))
    })
}

/// Nobody may be there to read it any more, which is no reason to fail twice.
pub(crate) fn report(error: &Error) {
    let _ = writeln!(std::io::stderr().lock(), "{}", error.to_json());
}
