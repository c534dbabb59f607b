//! The gRPC listener's connections, a bounded number of them: more wait in the system's backlog.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

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

/// How long a caller may take to say anything.
const FIRST_BYTE_WAIT_MAX: Duration = Duration::from_secs(10);

/// A connection, which holds its place until it is closed. Until its caller has said anything, it ends with the wait for
/// that, and with the server: nothing is lost, and a stop does not wait for it.
pub(super) struct Connection {
    stream: TcpStream,
    silence: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _place: OwnedSemaphorePermit,
}

/// The connections of a listener, so many at once.
pub(super) fn connections(
    listener: TcpListener,
    connections_max: usize,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(connections_max));
    let state = (listener, places, stop);
    futures_util::stream::unfold(state, |(listener, places, stop)| async move {
        loop {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            match listener.accept().await {
                Ok((stream, _)) => {
                    prepare(&stream);
                    let connection = Connection {
                        stream,
                        silence: Some(Box::pin(silence(stop.clone()))),
                        _place: place,
                    };
                    return Some((Ok(connection), (listener, places, stop)));
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
        () = time::sleep(FIRST_BYTE_WAIT_MAX) => {}
    }
}

/// Answers are small and whole: they should not wait for more to send.
fn prepare(stream: &TcpStream) {
    if let Err(fault) = stream.set_nodelay(true) {
        tracing::debug!(%fault, "a connection takes no TCP_NODELAY");
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl Connection {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.as_mut().stream().poll_read(context, buffer);
        if read.is_ready() {
            self.silence = None;
            return read;
        }
        match &mut self.silence {
            // As if the caller had closed it.
            Some(silence) => silence.as_mut().poll(context).map(|()| Ok(())),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::{FutureExt, StreamExt};
    use tokio::io::AsyncReadExt;

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
        let first = accepted.next().await.unwrap().unwrap();
        assert!(accepted.next().now_or_never().is_none());
        drop(first);
        assert!(accepted.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_caller_who_says_nothing_does_not_hold_a_stop_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut accepted = std::pin::pin!(connections(listener, 1, stop.clone()));
        let _caller = TcpStream::connect(address).await.unwrap();
        let mut connection = accepted.next().await.unwrap().unwrap();
        let mut bytes = [0; 8];
        assert!(connection.read(&mut bytes).now_or_never().is_none());
        stop.cancel();
        assert_eq!(connection.read(&mut bytes).await.unwrap(), 0);
    }
}
