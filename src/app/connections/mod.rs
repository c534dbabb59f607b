//! HTTP/2 on the gRPC listener's connections.

mod bell;
mod calls;
mod listener;

use std::time::Duration;

use futures_util::StreamExt;
use hyper::{Request, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{net::TcpListener, time};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::ServiceExt;

use self::{
    calls::Answering,
    listener::{Connection, connections},
};

/// How often a silent connection is asked whether its peer is there, and how long the answer may take.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Calls at once on one connection; more wait at the caller.
const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;

/// Streams of a connection, over all its time, that are reset for what its caller did wrong; then it is closed (RUSTSEC-2024-0003).
const RESETS_PER_CONNECTION_MAX: usize = 1_024;

/// What one stream may send ahead of who reads it, and all streams of a connection together.
///
/// h2 ends a connection for its small DATA frames: of each that waits to be read, the bytes short of 256 count, against
/// half of the connection's window. Streams of small batches are to be held up by their own windows before that: two
/// of the smallest messages that there are, some twenty of a row each.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// The smallest message of gRPC is its own head, and a DATA frame of its own where its sender waits for none to join it.
const MESSAGE_BYTES_MIN: u32 = 5;
const _: () = assert!(
    2 * (STREAM_WINDOW_BYTES / MESSAGE_BYTES_MIN) * (256 - MESSAGE_BYTES_MIN)
        < CONNECTION_WINDOW_BYTES / 2
);

/// Answers on a listener's connections, so many at once, until the stop; then what has begun may end in this time. Says
/// whether all of it did.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Routes,
    connections_max: usize,
    stop: CancellationToken,
    drain_max: Duration,
) -> bool {
    let routes = routes.prepare();
    let open = GracefulShutdown::new();
    {
        let mut incoming = std::pin::pin!(connections(listener, connections_max, stop.clone()));
        while let Some(Some(connection)) = stop.run_until_cancelled(incoming.next()).await {
            answer(connection, routes.clone(), &open);
        }
    }
    time::timeout(drain_max, open.shutdown()).await.is_ok()
}

/// Answers on a connection until it closes.
fn answer(connection: Connection, routes: Routes, open: &GracefulShutdown) {
    let peer = connection.peer();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        routes.clone().oneshot(request)
    });
    let answering = Answering::new(|arrivals| {
        let connection = http2::Builder::new(arrivals)
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .max_local_error_reset_streams(RESETS_PER_CONNECTION_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .serve_connection(TokioIo::new(connection), service);
        open.watch(connection)
    });
    tokio::spawn(async move {
        if let Err(fault) = answering.await {
            tracing::debug!(%fault, "a connection broke off");
        }
    });
}
