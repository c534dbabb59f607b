//! Connections to one SQLite file, and the threads that wait for it instead of the async ones.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::Semaphore;

use super::fault::Fault;
use crate::error::{Error, ErrorKind, Result};

/// SQL that a connection keeps prepared; least recently used ones go.
const STATEMENTS_CACHED_MAX: usize = 256;
/// Between two attempts to switch a new file to write-ahead logging, which does not wait for locks by itself.
const WAL_RETRY_WAIT: Duration = Duration::from_millis(10);

/// A number of connections of one purpose, opened when first needed.
pub(super) struct Pool {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    acquire_timeout: Duration,
}

struct Shared {
    path: PathBuf,
    busy_timeout: Duration,
    is_read_only: bool,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    /// A pool of `size` connections. `busy_timeout` bounds the wait for other processes, `acquire_timeout` the one for
    /// a connection.
    pub(super) fn new(
        path: &Path,
        size: usize,
        is_read_only: bool,
        busy_timeout: Duration,
        acquire_timeout: Duration,
    ) -> Self {
        Pool {
            shared: Arc::new(Shared {
                path: path.to_owned(),
                busy_timeout,
                is_read_only,
                idle: Mutex::default(),
            }),
            permits: Arc::new(Semaphore::new(size)),
            acquire_timeout,
        }
    }

    /// Runs a closure on a connection, on a thread that may block. It runs to its end even if nobody waits any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let permits = Arc::clone(&self.permits);
        let permit = tokio::time::timeout(self.acquire_timeout, permits.acquire_owned())
            .await
            .map_err(|_| self.overloaded())?
            .map_err(|closed| Error::internal("a closed pool").with_source(closed))?;
        let shared = Arc::clone(&self.shared);
        let task = tokio::task::spawn_blocking(move || {
            let done = shared.run(work);
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

impl Shared {
    fn run<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T, Fault>) -> Result<T> {
        let reused = self.lock_idle().pop();
        let mut connection = match reused {
            Some(connection) => connection,
            None => self.open().map_err(|fault| fault.at(&self.path))?,
        };
        // A panic in here drops the connection, with whatever state it was in.
        let done = work(&mut connection);
        if connection.is_autocommit() {
            self.lock_idle().push(connection);
        }
        done.map_err(|fault| fault.at(&self.path))
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
