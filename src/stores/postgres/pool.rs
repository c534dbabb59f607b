//! Connections: made as `sslmode` says, checked before they are used again, every wait bounded.
//!
//! Whoever stops waiting for an answer leaves a connection that is still busy: see `lease`.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use deadpool_postgres::{
    Connect, Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime,
    TimeoutType,
};
use futures_util::{Stream, StreamExt, stream};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_postgres::{AsyncMessage, config::SslMode as DriverSslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    fault::{Bound, Fault},
    lease::{Canceller, Lease},
    pinned::{Pinned, Place},
    tls,
    url::{SslMode, Target},
};
use crate::{
    error::{Error, ErrorKind, Result},
    stores::DatabaseOptions,
};

/// A connection that has rested longer is asked whether it still answers: firewalls forget idle ones.
pub(super) const IDLE_UNCHECKED_MAX: Duration = Duration::from_secs(10);
/// The answer to that, from a server that is there.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// The server stops a statement itself; this much later we stop waiting for it to say so.
const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// Without these a peer that vanished would be noticed after two hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);

/// What is acknowledged has to survive a crash, also where a role or database has that switched off for speed.
const KEEP_WHAT_IS_ANSWERED: &str = "SELECT set_config('synchronous_commit', 'on', false) \
     WHERE current_setting('synchronous_commit') = 'off'";

/// A server and the connections to it.
pub(super) struct Database {
    pool: Pool,
    connector: Arc<Connector>,
    target: Target,
    options: DatabaseOptions,
    connect_timeout: Duration,
    pinned: Pinned,
}

impl Database {
    /// Prepares a pool; connects nowhere yet.
    pub(super) fn new(options: &DatabaseOptions) -> Result<Database> {
        let mut target = Target::parse(options.url.reveal())?;
        let config = &mut target.config;
        let connect_timeout = config
            .get_connect_timeout()
            .copied()
            .unwrap_or(options.connect_timeout);
        config.connect_timeout(connect_timeout);
        config.keepalives_idle(KEEPALIVE_IDLE);
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(TCP_USER_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("ferrocast");
        }
        let connector = Arc::new(Connector {
            tls: tls::connector(&target.tls)?,
            mode: target.tls.mode,
            setup: format!(
                "SET statement_timeout = {}; {KEEP_WHAT_IS_ANSWERED}",
                options.statement_timeout.as_millis()
            ),
        });
        let manager = Manager::from_connect(
            target.config.clone(),
            SharedConnector(Arc::clone(&connector)),
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let pool = Pool::builder(manager)
            .max_size(options.pool_size.max(1))
            .wait_timeout(Some(options.acquire_timeout))
            .create_timeout(Some(connect_timeout))
            .recycle_timeout(Some(CHECK_TIMEOUT))
            .pre_recycle(Hook::async_fn(|client, metrics| {
                Box::pin(async move {
                    if metrics.last_used() <= IDLE_UNCHECKED_MAX {
                        return Ok(());
                    }
                    check(client).await
                })
            }))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::internal("no connection pool").with_source(error))?;
        Ok(Database {
            pool,
            pinned: Pinned::new(options, connector.tls.clone()),
            connector,
            target,
            options: options.clone(),
            connect_timeout,
        })
    }

    /// Where the database is, for messages.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// How the database is used.
    pub(super) fn options(&self) -> &DatabaseOptions {
        &self.options
    }

    /// A connection of the pool, for one piece of work.
    pub(super) async fn lease(&self) -> Result<Lease> {
        // Of many connections that hang each one is found out by itself; somebody is waiting for the first that does not.
        let options = &self.options;
        let bound = options
            .acquire_timeout
            .saturating_add(CHECK_TIMEOUT)
            .saturating_add(self.connect_timeout);
        let taken = timeout(bound, self.pool.get()).await;
        let taken = taken.map_err(|_| self.no_connection(bound))?;
        let client = taken.map_err(|error| self.pool_fault(error))?;
        Ok(Lease::new(client, self.connector.tls.clone()))
    }

    /// A place for a query on a connection that only reads by key, where one has room.
    pub(super) async fn place(&self) -> Option<Place<'_>> {
        let has_pool_room = || {
            let status = self.pool.status();
            // Those that are being made have a user, and count for nothing else yet.
            let users = (status.size + status.waiting).saturating_sub(status.available);
            users < status.max_size
        };
        self.pinned.place(has_pool_room).await
    }

    /// Ends a lease after a read: the connection becomes one that only reads by key where there are too few.
    pub(super) fn adopt(&self, lease: Lease) {
        self.pinned.adopt(lease);
    }

    /// A connection of its own, for work that holds a lock of the session.
    pub(super) async fn lone_client(&self) -> Result<LoneClient> {
        self.connect_alone(None).await
    }

    /// A connection of its own, which passes on what others notify it of.
    pub(super) async fn listener(&self, notices: mpsc::Sender<String>) -> Result<LoneClient> {
        self.connect_alone(Some(notices)).await
    }

    async fn connect_alone(&self, notices: Option<mpsc::Sender<String>>) -> Result<LoneClient> {
        let bound = Bound {
            limit: self.connect_timeout,
            setting: "database.connect_ms_max",
        };
        let connecting = self.connector.connect(&self.target.config, notices);
        let connected = timeout(bound.limit, connecting).await;
        let (client, task) = connected
            .map_err(|_| Fault::Timeout(bound).at(&self.target))?
            .map_err(|error| Fault::Driver(error).at(&self.target))?;
        let canceller = Canceller::new(client.cancel_token(), self.connector.tls.clone());
        Ok(LoneClient {
            client,
            task,
            canceller: Some(canceller),
        })
    }

    /// Waits for an answer to one statement, a little longer than the server is allowed to take.
    pub(super) async fn bounded<T, E: Into<Fault>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Fault> {
        let bound = Bound {
            limit: self.options.statement_timeout.saturating_add(ANSWER_GRACE),
            setting: "database.statement_ms_max",
        };
        bounded_by(bound, work).await
    }

    /// Waits for work of many statements.
    pub(super) async fn bounded_as_load<T>(
        &self,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let bound = Bound {
            limit: self.options.load_timeout,
            setting: "database.load_ms_max",
        };
        bounded_by(bound, work).await
    }

    fn no_connection(&self, within: Duration) -> Error {
        Error::unavailable(format!(
            "no connection to PostgreSQL at {} within {} ms",
            self.target,
            within.as_millis()
        ))
    }

    fn pool_fault(&self, error: PoolError) -> Error {
        match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                Fault::Driver(error).at(&self.target)
            }
            PoolError::Timeout(TimeoutType::Wait) => Error::new(
                ErrorKind::Overloaded,
                format!(
                    "none of the {} connections to PostgreSQL became free within {} ms",
                    self.options.pool_size,
                    self.options.acquire_timeout.as_millis()
                ),
            ),
            PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle) => {
                self.no_connection(self.connect_timeout)
            }
            other @ (PoolError::Closed
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(HookError::Message(_))) => {
                Error::internal("the connection pool does not work").with_source(other)
            }
        }
    }
}

/// Asks a connection that has rested whether it still answers; the pool's bound on recycling does not hold for its hooks.
pub(super) async fn check(client: &tokio_postgres::Client) -> Result<(), HookError> {
    match timeout(CHECK_TIMEOUT, client.simple_query("")).await {
        Ok(checked) => checked.map(|_| ()).map_err(HookError::Backend),
        Err(_) => Err(HookError::message("no answer")),
    }
}

async fn bounded_by<T, E: Into<Fault>>(
    bound: Bound,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Fault> {
    match timeout(bound.limit, work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Fault::Timeout(bound)),
    }
}

/// A connection that is closed when it is dropped, and whose statement is cancelled then unless it had settled.
pub(super) struct LoneClient {
    /// The connection.
    pub(super) client: tokio_postgres::Client,
    task: JoinHandle<()>,
    canceller: Option<Canceller>,
}

impl LoneClient {
    /// Nothing runs on the connection any more.
    pub(super) fn settle(mut self) {
        self.canceller = None;
    }
}

impl Drop for LoneClient {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(canceller) = self.canceller.take() {
            canceller.spawn(1);
        }
    }
}

type Connected = Result<(tokio_postgres::Client, JoinHandle<()>), tokio_postgres::Error>;

/// Makes connections; shared by the pool and the lone ones.
struct Connector {
    tls: MakeRustlsConnect,
    mode: SslMode,
    setup: String,
}

struct SharedConnector(Arc<Connector>);

impl Connect for SharedConnector {
    fn connect(
        &self,
        config: &tokio_postgres::Config,
    ) -> Pin<Box<dyn Future<Output = Connected> + Send + '_>> {
        let config = config.clone();
        let connector = Arc::clone(&self.0);
        Box::pin(async move { connector.connect(&config, None).await })
    }
}

impl Connector {
    /// Connects as the mode says: `allow` and `prefer` have a second way where the server refuses the first.
    async fn connect(
        &self,
        config: &tokio_postgres::Config,
        notices: Option<mpsc::Sender<String>>,
    ) -> Connected {
        let (first, second) = match self.mode {
            SslMode::Disable => (DriverSslMode::Disable, None),
            SslMode::Allow => (DriverSslMode::Disable, Some(DriverSslMode::Require)),
            SslMode::Prefer => (DriverSslMode::Prefer, Some(DriverSslMode::Disable)),
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                (DriverSslMode::Require, None)
            }
        };
        let attempt = self.attempt(config, first, notices.clone());
        let refused = match (attempt.await, second) {
            (Err(error), Some(_)) if is_refusal(&error) => error,
            (done, _) => return done,
        };
        let Some(second) = second else {
            return Err(refused);
        };
        // Of two refusals the first tells more: the second server answer is often only "no encryption".
        let attempt = self.attempt(config, second, notices);
        attempt.await.map_err(|_| refused)
    }

    async fn attempt(
        &self,
        config: &tokio_postgres::Config,
        mode: DriverSslMode,
        notices: Option<mpsc::Sender<String>>,
    ) -> Connected {
        let mut config = config.clone();
        config.ssl_mode(mode);
        let (client, mut connection) = config.connect(self.tls.clone()).await?;
        let task = tokio::spawn(async move {
            let ended = match notices {
                None => connection.await,
                Some(notices) => {
                    let mut messages = stream::poll_fn(|context| connection.poll_message(context));
                    pass_on(&mut messages, &notices).await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        client.batch_execute(&self.setup).await?;
        Ok((client, task))
    }
}

/// Passes notices on until the connection ends, or nobody takes them.
async fn pass_on(
    messages: &mut (impl Stream<Item = Result<AsyncMessage, tokio_postgres::Error>> + Unpin),
    notices: &mpsc::Sender<String>,
) -> Result<(), tokio_postgres::Error> {
    while let Some(message) = messages.next().await {
        if let AsyncMessage::Notification(notice) = message?
            && notices.send(notice.payload().to_owned()).await.is_err()
        {
            break;
        }
    }
    Ok(())
}

/// Whether a server that is there has refused: by an error of its own, or in the TLS handshake.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some() || error.to_string().contains("TLS")
}
