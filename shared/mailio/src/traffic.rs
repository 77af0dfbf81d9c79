//! What the connections to mail servers carry, counted where bytes enter and leave the sockets: below TLS and compression, so
//! that the count is what the line has for its payload. The headers of TCP and IP come on top (some 3 % of full packets), as
//! do packets that were lost and sent again. `spool`, Maildir and `sendmail` use no line of ours, and count as nothing.

use core::pin::Pin;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::{Context, Poll, ready};
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Counts the bytes of every connection that is made with it; its copies count together.
#[derive(Clone, Debug, Default)]
pub struct Traffic(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    received: AtomicU64,
    sent: AtomicU64,
}

/// Bytes by their direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// From mail servers.
    pub received: u64,
    /// To mail servers.
    pub sent: u64,
}

impl Carried {
    /// In both directions.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.received.saturating_add(self.sent)
    }
}

impl Traffic {
    /// What was carried since the start.
    #[must_use]
    pub fn carried(&self) -> Carried {
        Carried {
            received: self.0.received.load(Ordering::Relaxed),
            sent: self.0.sent.load(Ordering::Relaxed),
        }
    }

    /// What was carried since this was last called; what this gives is given once.
    #[must_use]
    pub fn take(&self) -> Carried {
        Carried {
            received: self.0.received.swap(0, Ordering::Relaxed),
            sent: self.0.sent.swap(0, Ordering::Relaxed),
        }
    }
}

/// A socket whose bytes are counted.
#[derive(Debug)]
pub(crate) struct Counted<S> {
    inner: S,
    traffic: Traffic,
}

impl<S> Counted<S> {
    pub(crate) fn new(inner: S, traffic: Traffic) -> Self {
        Self { inner, traffic }
    }

    fn note_sent(&self, written: usize) {
        self.traffic.0.sent.fetch_add(written as u64, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        let read = buf.filled().len().saturating_sub(before);
        this.traffic.0.received.fetch_add(read as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, buf))?;
        this.note_sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write_vectored(cx, bufs))?;
        this.note_sent(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
