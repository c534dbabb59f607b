//! The gRPC listener's connections, a bounded number of them: more wait in the system's backlog.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use ferrocast_gateway::Opening;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long to wait after an accept that failed, as it does where file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a caller may take to send what HTTP/2 begins with; after that the pings of the server find who is silent.
const OPENING_WAIT_MAX: Duration = Duration::from_secs(10);

/// A connection, which holds its place until it is closed. Until its caller has begun, it ends with the wait for that, and
/// with the server: nothing is lost, and a stop does not wait for it.
pub(super) struct Connection {
    opening: Opening,
    _place: OwnedSemaphorePermit,
}

/// The connections of a listener, so many at once.
pub(super) fn connections(
    listener: TcpListener,
    connections_max: usize,
    stop: CancellationToken,
) -> impl Stream<Item = Connection> {
    let places = Arc::new(Semaphore::new(connections_max));
    let state = (listener, places, stop);
    futures_util::stream::unfold(state, |(listener, places, stop)| async move {
        loop {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            match listener.accept().await {
                Ok((stream, _)) => {
                    prepare(&stream);
                    let connection = Connection {
                        opening: Opening::new(stream, silence(stop.clone())),
                        _place: place,
                    };
                    return Some((connection, (listener, places, stop)));
                }
                Err(fault) => {
                    tracing::warn!(%fault, "a connection could not be accepted");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

async fn silence(stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = time::sleep(OPENING_WAIT_MAX) => {}
    }
}

/// Answers are small and whole: they should not wait for more to send.
fn prepare(stream: &TcpStream) {
    if let Err(fault) = stream.set_nodelay(true) {
        tracing::debug!(%fault, "a connection takes no TCP_NODELAY");
    }
}

impl Connection {
    /// Who calls.
    pub(super) fn peer(&self) -> TcpConnectInfo {
        self.opening.stream().connect_info()
    }

    fn opening(self: Pin<&mut Self>) -> Pin<&mut Opening> {
        Pin::new(&mut self.get_mut().opening)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.opening().poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.opening().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.opening().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.opening().poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.opening().poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.opening.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::{FutureExt, StreamExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn beyond_the_bound_a_connection_waits_for_one_to_close() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut accepted = std::pin::pin!(connections(listener, 1, CancellationToken::new()));
        let _callers = (
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        );
        let first = accepted.next().await.unwrap();
        assert!(accepted.next().now_or_never().is_none());
        drop(first);
        assert!(accepted.next().await.is_some());
    }

    /// What ends the wait of a connection on which these bytes have come: the time that it took, if anything.
    async fn waited_after(sent: &[u8]) -> Option<Duration> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut accepted = std::pin::pin!(connections(listener, 1, CancellationToken::new()));
        let mut caller = TcpStream::connect(address).await.unwrap();
        let mut connection = accepted.next().await.unwrap();
        caller.write_all(sent).await.unwrap();
        let mut bytes = vec![0; sent.len()];
        connection.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, sent);
        time::pause();
        let began_at = time::Instant::now();
        let read = time::timeout(OPENING_WAIT_MAX * 10, connection.read(&mut [0; 8])).await;
        time::resume();
        let read = read.ok()?;
        assert_eq!(read.unwrap(), 0);
        Some(began_at.elapsed())
    }

    #[tokio::test]
    async fn the_wait_goes_on_until_all_of_the_preface_has_come() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for some in [0, 1, preface.len() - 1] {
            let waited = waited_after(preface.get(..some).unwrap()).await.unwrap();
            assert!(waited < OPENING_WAIT_MAX * 2, "{some}: {waited:?}");
        }
        assert_eq!(waited_after(preface).await, None);
    }

    #[tokio::test]
    async fn a_caller_who_says_nothing_does_not_hold_a_stop_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut accepted = std::pin::pin!(connections(listener, 1, stop.clone()));
        let _caller = TcpStream::connect(address).await.unwrap();
        let mut connection = accepted.next().await.unwrap();
        let mut bytes = [0; 8];
        assert!(connection.read(&mut bytes).now_or_never().is_none());
        stop.cancel();
        assert_eq!(connection.read(&mut bytes).await.unwrap(), 0);
    }
}
