//! Connections to one SQLite file, and the threads that wait for it instead of the async ones.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, config::DbConfig};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::fault::{Bound, Fault};
use crate::{
    error::{Error, ErrorKind, Result},
    stores::DatabaseOptions,
};

/// SQL that a connection keeps prepared; least recently used ones go.
const STATEMENTS_CACHED_MAX: usize = 256;
/// Between two attempts to switch a new file to write-ahead logging, which does not wait for locks by itself.
const WAL_RETRY_WAIT: Duration = Duration::from_millis(10);

/// SQLite's own operations between two looks at the clock: some microseconds of work.
const CLOCK_OPERATIONS: i32 = 1_000;

/// What a piece of work is, which decides how long it may take.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// A read or a write.
    Statement,
    /// A load, a migration, the applying of a plan.
    Load,
}

/// A number of connections of one purpose, opened when first needed.
pub(super) struct Pool {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    acquire_timeout: Duration,
}

struct Shared {
    path: PathBuf,
    busy_timeout: Duration,
    statement_timeout: Duration,
    load_timeout: Duration,
    is_read_only: bool,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    /// A pool of `size` connections. `acquire_timeout` bounds the wait for one of them.
    pub(super) fn new(
        path: &Path,
        size: usize,
        is_read_only: bool,
        options: &DatabaseOptions,
        acquire_timeout: Duration,
    ) -> Self {
        Pool {
            shared: Arc::new(Shared {
                path: path.to_owned(),
                busy_timeout: options.connect_timeout,
                statement_timeout: options.statement_timeout,
                load_timeout: options.load_timeout,
                is_read_only,
                idle: Mutex::default(),
            }),
            permits: Arc::new(Semaphore::new(size)),
            acquire_timeout,
        }
    }

    /// Runs a closure on a connection, on a thread that may block, up to the bound of its kind. It runs to its end even
    /// if nobody waits any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        kind: Work,
        work: impl FnOnce(&mut Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        self.run_until(CancellationToken::new(), kind, work).await
    }

    /// The same for long work, which ends with its caller; the token says that the caller is gone.
    pub(super) async fn run_for_caller<T: Send + 'static>(
        &self,
        kind: Work,
        work: impl FnOnce(&mut Connection, &CancellationToken) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let gone = CancellationToken::new();
        let _guard = gone.clone().drop_guard();
        let of_work = gone.clone();
        self.run_until(gone, kind, move |connection| work(connection, &of_work))
            .await
    }

    async fn run_until<T: Send + 'static>(
        &self,
        gone: CancellationToken,
        kind: Work,
        work: impl FnOnce(&mut Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let permits = Arc::clone(&self.permits);
        let permit = tokio::time::timeout(self.acquire_timeout, permits.acquire_owned())
            .await
            .map_err(|_| self.overloaded())?
            .map_err(|closed| Error::internal("a closed pool").with_source(closed))?;
        let shared = Arc::clone(&self.shared);
        let task = tokio::task::spawn_blocking(move || {
            let done = shared.run(gone, shared.bound(kind), work);
            drop(permit);
            done
        });
        task.await
            .map_err(|fault| Error::internal("a database thread ended early").with_source(fault))?
    }

    fn overloaded(&self) -> Error {
        Error::new(
            ErrorKind::Overloaded,
            format!(
                "no connection to the SQLite file {} became free within {} ms",
                self.shared.path.display(),
                self.acquire_timeout.as_millis()
            ),
        )
    }
}

/// Begins a write on the tables as they are, whoever has changed them.
///
/// SQLite prepares a statement by the schema that the connection has read, and compares that with the file only when a
/// statement runs. Of a key that another connection has changed it would say for ever that ON CONFLICT matches none.
pub(super) fn begin_write(connection: &mut Connection) -> Result<Transaction<'_>, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    notice_schema(&transaction)?;
    Ok(transaction)
}

/// Makes a connection read the schema anew where it has changed.
pub(super) fn notice_schema(connection: &Connection) -> Result<(), Fault> {
    let mut any = connection.prepare_cached("SELECT 1 FROM sqlite_master LIMIT 1")?;
    any.exists([])?;
    Ok(())
}

/// Takes the bound away again: for cleaning up after work that it ended, and for whoever is next.
pub(super) fn unwatch(connection: &mut Connection) -> Result<(), Fault> {
    Ok(connection.progress_handler(0, None::<fn() -> bool>)?)
}

impl Shared {
    fn bound(&self, kind: Work) -> Bound {
        match kind {
            Work::Statement => Bound {
                limit: self.statement_timeout,
                setting: "database.statement_ms_max",
            },
            Work::Load => Bound {
                limit: self.load_timeout,
                setting: "database.load_ms_max",
            },
        }
    }

    fn run<T>(
        &self,
        gone: CancellationToken,
        bound: Bound,
        work: impl FnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T> {
        let reused = self.lock_idle().pop();
        let mut connection = match reused {
            Some(connection) => connection,
            None => self.open().map_err(|fault| fault.at(&self.path, bound))?,
        };
        // A panic in here drops the connection, with whatever state it was in.
        let done = self
            .watch(&mut connection, gone, bound.limit)
            .and_then(|()| work(&mut connection));
        let unwatched = unwatch(&mut connection);
        if connection.is_autocommit() && unwatched.is_ok() {
            self.lock_idle().push(connection);
        }
        done.map_err(|fault| fault.at(&self.path, bound))
    }

    /// Stops whatever SQLite does once the caller is gone or the bound has passed, the wait for a locked file included.
    fn watch(
        &self,
        connection: &mut Connection,
        gone: CancellationToken,
        limit: Duration,
    ) -> Result<(), Fault> {
        connection.busy_timeout(self.busy_timeout.min(limit))?;
        // A bound beyond the clock's end is none.
        let give_up_at = Instant::now().checked_add(limit);
        let is_over =
            move || gone.is_cancelled() || give_up_at.is_some_and(|end| Instant::now() >= end);
        Ok(connection.progress_handler(CLOCK_OPERATIONS, Some(is_over))?)
    }

    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<Connection, Fault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(self.busy_timeout)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED_MAX);
        connection.set_transaction_behavior(TransactionBehavior::Deferred);
        // Else a quoted name that no column has is a text: a column that is gone would read as its own name.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
        self.switch_to_wal(&connection)?;
        if connection.is_readonly("main")? {
            return Err(Fault::Own(Error::failed_precondition(format!(
                "the SQLite file {} is not writable",
                self.path.display()
            ))));
        }
        // FULL: a commit is on the disk before it is acknowledged, so that it survives not only the end of the process
        // but also a loss of power. It costs one fsync a write call, whatever the number of rows.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "query_only", self.is_read_only)?;
        Ok(connection)
    }

    /// Readers then never wait for the writer. The mode is kept in the file, so only a new file is switched.
    fn switch_to_wal(&self, connection: &Connection) -> Result<(), Fault> {
        let give_up_at = Instant::now() + self.busy_timeout;
        loop {
            let switched = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| {
                row.get::<_, String>(0)
            });
            match switched {
                Ok(_) => return Ok(()),
                Err(error)
                    if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                        && Instant::now() < give_up_at =>
                {
                    std::thread::sleep(WAL_RETRY_WAIT);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
