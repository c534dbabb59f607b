//! A connection whose caller has to begin: until it is known what it speaks, the wait for that has a bound.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What HTTP/2 begins with; hyper waits without a bound for the rest of it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that ends, as if its caller had closed it, where a wait is over before its caller has sent all of HTTP/2's
/// preface, or anything else.
pub struct Opening {
    stream: TcpStream,
    /// The wait, and how much of the preface has been read; none once the beginning is known.
    begins: Option<(Wait, usize)>,
    is_over: bool,
}

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Opening {
    /// A connection that has just been accepted, and what ends it until its caller has begun.
    pub fn new(stream: TcpStream, wait: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            stream,
            begins: Some((Box::pin(wait), 0)),
            is_over: false,
        }
    }

    /// The connection itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn pinned(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().stream)
    }

    fn note(&mut self, bytes: &[u8]) {
        let Some((_, read)) = &mut self.begins else {
            return;
        };
        let expected = PREFACE.get(*read..).unwrap_or_default();
        *read += bytes.len();
        if bytes.len() >= expected.len() || !expected.starts_with(bytes) {
            self.begins = None;
        }
    }
}

impl AsyncRead for Opening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = self.as_mut().pinned().poll_read(context, buffer)?;
        if read.is_ready() {
            self.note(buffer.filled().get(before..).unwrap_or_default());
            return Poll::Ready(Ok(()));
        }
        let Some((wait, _)) = &mut self.begins else {
            return Poll::Pending;
        };
        ready!(wait.as_mut().poll(context));
        self.is_over = true;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Opening {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
