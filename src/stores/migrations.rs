//! The numbered SQL of `migrations/`, built into the binary, and the comparison of a database's history with it.

use std::collections::BTreeSet;

use refinery::Runner;

use crate::error::{Error, Result};

#[allow(
    missing_docs,
    unreachable_pub,
    reason = "the macro writes a module of its own"
)]
mod postgres_files {
    refinery::embed_migrations!("migrations/postgres");
}

#[allow(
    missing_docs,
    unreachable_pub,
    reason = "the macro writes a module of its own"
)]
mod sqlite_files {
    refinery::embed_migrations!("migrations/sqlite");
}

/// The table in which the applied migrations are written down.
pub(super) const HISTORY_TABLE: &str = "refinery_schema_history";

/// The migrations for Postgres; all that are missing go in one transaction.
pub(super) fn for_postgres() -> Runner {
    postgres_files::migrations::runner().set_grouped(true)
}

/// The migrations for SQLite; all that are missing go in one transaction.
pub(super) fn for_sqlite() -> Runner {
    sqlite_files::migrations::runner().set_grouped(true)
}

fn known_versions(runner: &Runner) -> BTreeSet<i64> {
    let known = runner.get_migrations().iter();
    known
        .map(|migration| i64::from(migration.version()))
        .collect()
}

/// Checks that a database has had no version that this binary does not know.
///
/// # Errors
/// `FailedPrecondition`: the database is newer than the binary.
pub(super) fn check_not_newer(runner: &Runner, applied: &[i32]) -> Result<()> {
    let known = known_versions(runner);
    let applied: BTreeSet<i64> = applied.iter().copied().map(i64::from).collect();
    if let Some(newer) = applied.difference(&known).last() {
        let last = known.last().copied().unwrap_or_default();
        return Err(Error::failed_precondition(format!(
            "the database's schema is at version {newer} and this ferrocast knows versions up to {last}; install a newer ferrocast"
        )));
    }
    Ok(())
}

/// Checks that the versions that a database has had are those that this binary knows.
///
/// # Errors
/// `FailedPrecondition`: the database is behind, or newer than the binary.
pub(super) fn check_versions(runner: &Runner, applied: &[i32]) -> Result<()> {
    check_not_newer(runner, applied)?;
    let applied: BTreeSet<i64> = applied.iter().copied().map(i64::from).collect();
    let missing = known_versions(runner).difference(&applied).count();
    if missing > 0 {
        return Err(Error::failed_precondition(format!(
            "the database's schema is {missing} migration(s) behind this ferrocast; run `ferrocast migrate`"
        )));
    }
    Ok(())
}

/// What a failed migration means to whoever ran it.
pub(super) fn fault(error: refinery::Error) -> Error {
    let mut sentence = format!("migrating the database failed: {error}");
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        sentence = format!("{sentence}: {inner}");
        cause = inner.source();
    }
    Error::failed_precondition(sentence).with_source(error)
}

/// The names of the migrations that a run has applied.
pub(super) fn applied_names(report: &refinery::Report) -> Vec<String> {
    let applied = report.applied_migrations().iter();
    applied.map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_databases_have_the_same_history() {
        let names = |runner: Runner| -> Vec<String> {
            runner
                .get_migrations()
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(names(for_postgres()), names(for_sqlite()));
    }

    #[test]
    fn a_database_behind_and_a_database_ahead_read_differently() {
        let runner = for_sqlite();
        let all: Vec<i32> = runner
            .get_migrations()
            .iter()
            .map(refinery::Migration::version)
            .collect();
        assert!(check_versions(&runner, &all).is_ok());
        let behind = check_versions(&runner, &[]).unwrap_err();
        assert!(behind.message().contains("ferrocast migrate"), "{behind}");
        let ahead = check_versions(&runner, &[all, vec![999]].concat()).unwrap_err();
        assert!(ahead.message().contains("newer ferrocast"), "{ahead}");
    }
}
