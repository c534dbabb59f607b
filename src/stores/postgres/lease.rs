//! A connection lent for one piece of work, and what becomes of it when nobody waits for the end of that.

use std::time::Duration;

use deadpool_postgres::{Client, ClientWrapper, Object};
use tokio::runtime::Handle;
use tokio_postgres::CancelToken;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault::Fault;
use crate::error::{Error, Result};

/// A server that cannot be asked within this to stop a statement will stop it at the statement's own bound.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// In this a server has gone on from the statement that was stopped to the one that was asked behind it.
const NEXT_STATEMENT_WAIT: Duration = Duration::from_millis(100);

/// A connection of the pool.
///
/// It has to be settled when the work on it has ended. Dropped before, because the caller is gone or its deadline has
/// passed, the connection is still busy: the next request would queue behind a statement that nobody waits for. So it
/// leaves the pool, and the server is asked to stop.
pub(super) struct Lease {
    client: Option<Client>,
    tls: MakeRustlsConnect,
}

impl Lease {
    /// Lends a connection; `tls` is how the server is reached a second time.
    pub(super) fn new(client: Client, tls: MakeRustlsConnect) -> Self {
        Lease {
            client: Some(client),
            tls,
        }
    }

    /// The connection; there is one until the lease settles, which consumes it.
    pub(super) fn client(&mut self) -> Result<&mut ClientWrapper> {
        let client = self.client.as_deref_mut();
        client.ok_or_else(|| Error::internal("a connection that was given back is in use"))
    }

    /// Ends the lease after its work: the connection goes back to the pool.
    pub(super) fn give_back(mut self) {
        self.client = None;
    }

    /// Ends the lease after its work, and takes the connection out of the pool.
    pub(super) fn keep(mut self) -> Option<ClientWrapper> {
        self.client.take().map(Object::take)
    }

    /// Ends the lease: the connection goes back to the pool, or away where the fault was its own.
    pub(super) fn settle<T>(mut self, done: Result<T, Fault>) -> Result<T, Fault> {
        match &done {
            // The server may go on with what we no longer wait for.
            Err(Fault::Timeout(_)) => {}
            Err(fault) => {
                if let Some(client) = self.client.take() {
                    if fault.is_of_connection() {
                        drop(Object::take(client));
                    } else if fault.is_of_plan() {
                        client.statement_cache.clear();
                    }
                }
            }
            Ok(_) => self.give_back(),
        }
        done
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            let canceller = Canceller::new(client.cancel_token(), self.tls.clone());
            drop(Object::take(client));
            canceller.spawn(1);
        }
    }
}

/// Asks the server to stop what a connection does.
pub(super) struct Canceller {
    token: CancelToken,
    tls: MakeRustlsConnect,
}

impl Canceller {
    /// Prepares the asking.
    pub(super) fn new(token: CancelToken, tls: MakeRustlsConnect) -> Self {
        Canceller { token, tls }
    }

    /// Asks, on connections of its own, once for each of so many statements that may follow each other. Without a runtime
    /// the whole process is about to end.
    pub(super) fn spawn(self, statements: u32) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            for asked in 0..statements {
                if asked > 0 {
                    tokio::time::sleep(NEXT_STATEMENT_WAIT).await;
                }
                self.ask().await;
            }
        });
    }

    async fn ask(&self) {
        let asked = self.token.cancel_query(self.tls.clone());
        match tokio::time::timeout(CANCEL_TIMEOUT, asked).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a statement could not be cancelled"),
            Err(_) => tracing::debug!("a statement could not be cancelled in time"),
        }
    }
}
