//! Serves a router over TCP with every bound that a plain accept loop lacks: connections, header time, drain time.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use crate::opening::Opening;

/// How long to wait after an accept that failed, as it does where file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a silent HTTP/2 connection is asked whether its peer is there, and how long the answer may take.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Bounds of [`serve`].
#[derive(Clone, Debug)]
pub struct ServeLimits {
    /// How many connections are open at once; more wait in the listener's backlog.
    pub connections_max: usize,
    /// How long a caller may take to begin, and to send a request's head.
    pub header_timeout: Duration,
    /// How long requests under way may take once the shutdown has begun.
    pub drain_timeout: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            header_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

/// Serves HTTP/1 and HTTP/2 until `shutdown` is over, then takes nothing new and lets requests under way end within the
/// drain timeout. Says whether all of them did.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ServeLimits,
    shutdown: impl Future<Output = ()> + Send,
) -> bool {
    let places = Arc::new(Semaphore::new(
        limits.connections_max.clamp(1, Semaphore::MAX_PERMITS),
    ));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &places) => accepted,
        };
        if let Some((stream, peer, permit)) = accepted {
            let connection = Connection {
                stream,
                peer,
                permit,
                router: router.clone(),
                header_timeout: limits.header_timeout,
            };
            connections.spawn(connection.run(graceful.watcher()));
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    timeout(limits.drain_timeout, graceful.shutdown())
        .await
        .is_ok()
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            tracing::warn!(target: "gateway", %error, "a connection could not be accepted");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
    router: Router,
    header_timeout: Duration,
}

impl Connection {
    async fn run(self, watcher: Watcher) {
        let Self {
            stream,
            peer,
            permit,
            router,
            header_timeout,
        } = self;
        // Answers are small and whole: they should not wait for more to send.
        let _ = stream.set_nodelay(true);
        // The header timeout of hyper begins when it knows which HTTP is spoken.
        let opening = Opening::new(stream, sleep(header_timeout));
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().oneshot(request)
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(KEEPALIVE_INTERVAL))
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        let connection = builder
            .serve_connection(TokioIo::new(opening), service)
            .into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(target: "gateway", %error, %peer, "a connection broke off");
        }
        drop(permit);
    }
}
