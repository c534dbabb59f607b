//! What commands print: results to standard output, faults to standard error.

use std::{
    error::Error as _,
    io::{self, Write},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::Error;

/// Prints a line. A reader that has gone away (`ferrocast check | head`) is no fault of ours.
pub(super) fn line(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// A bar that counts rows: on a terminal, nothing elsewhere.
pub(super) fn progress_bar(rows: Option<u64>) -> ProgressBar {
    let bar = rows.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let template = "{msg} {wide_bar} {human_pos}/{human_len} rows, {per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Prints an error, a line a field at fault, and its causes.
pub(super) fn fault(error: &Error) {
    let mut stderr = io::stderr().lock();
    let _ = if error.fields().len() > 1 {
        error
            .fields()
            .iter()
            .try_for_each(|each| writeln!(stderr, "error: {}: {}", each.field, each.description))
    } else {
        writeln!(stderr, "error: {error}")
    };
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = writeln!(stderr, "  because: {cause}");
        source = cause.source();
    }
}
