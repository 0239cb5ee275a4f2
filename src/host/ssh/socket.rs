//! The byte stream under an SSH connection: buffered, watched, and endable from outside.
//!
//! The SSH library keeps its own task once a handshake begins and does not end it when the
//! caller gives up. Owning the stream is what makes every wait boundable: the [`Switch`]
//! makes all reads and writes fail, so the task ends and the socket closes. The stream also
//! keeps what the server said before its banner, the only evidence of being turned away.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::time::Sleep;

use super::fault::Excess;
use crate::core::foreign::printable;

/// Bytes read from the kernel at once; the library reads twice per packet. Each connection
/// may come to hold as much.
const READ_BUFFER: usize = 64 * 1024;
/// Most bytes taken from a server before it has let us in: lists of algorithms, host key,
/// banners, prompts and refusals. The library queues what a server says meanwhile.
pub(super) const UNADMITTED: u64 = 512 * 1024;
/// Most text kept of what a server says before and in its banner.
const GREETING_LIMIT: usize = 4096;
/// Most characters of an identification line, without its end.
const LONGEST_VERSION: usize = 253;

/// Ends a connection from outside, at once and for good.
#[derive(Debug, Default)]
pub(super) struct Switch {
    tripped: AtomicBool,
    /// The server has let us in.
    admitted: AtomicBool,
    moved: AtomicU64,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Switch {
    /// Makes every read and write fail from here on.
    pub(super) fn trip(&self) {
        self.tripped.store(true, Ordering::SeqCst);
        self.reader.wake();
        self.writer.wake();
    }

    /// The server has let us in: from here on it may send as much as it likes.
    pub(super) fn admit(&self) {
        self.admitted.store(true, Ordering::SeqCst);
    }

    /// Counts what was read; an error once a stranger has sent too much.
    fn hear(&self, bytes: usize) -> io::Result<()> {
        self.count(bytes);
        if self.moved() > UNADMITTED && !self.admitted.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Excess::Unadmitted));
        }
        Ok(())
    }

    /// Bytes read and written so far.
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    fn count(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn check(&self) -> io::Result<()> {
        if self.tripped.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "ended by us"));
        }
        Ok(())
    }
}

/// Trips a switch when dropped, unless disarmed: a cancelled wait then leaves no socket behind.
#[derive(Debug)]
pub(super) struct TripOnDrop(Option<Arc<Switch>>);

impl TripOnDrop {
    pub(super) fn new(switch: Arc<Switch>) -> Self {
        Self(Some(switch))
    }

    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for TripOnDrop {
    fn drop(&mut self) {
        if let Some(switch) = self.0.take() {
            switch.trip();
        }
    }
}

/// What the server said up to and including its identification line (RFC 4253, 4.2).
#[derive(Debug, Default)]
pub(super) struct Greeting {
    said: Mutex<Vec<u8>>,
    complete: AtomicBool,
}

impl Greeting {
    /// `SSH-2.0-...` once it arrived, as it may be shown: 255 characters at most (RFC 4253, 4.2),
    /// after any number of other lines.
    pub(super) fn version(&self) -> Option<String> {
        let said = self.text();
        let version = said.lines().find(|line| line.starts_with("SSH-"));
        version.map(|version| printable(version, LONGEST_VERSION))
    }

    /// Everything said so far. Never to be shown: see [`fault::handshake`](super::fault).
    pub(super) fn text(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).into_owned()
    }

    fn hear(&self, bytes: &[u8]) {
        if self.complete.load(Ordering::Relaxed) || bytes.is_empty() {
            return;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let room = GREETING_LIMIT.saturating_sub(said.len());
        said.extend(bytes.iter().take(room));
        let banner = said
            .split_inclusive(|byte| *byte == b'\n')
            .any(|line| line.starts_with(b"SSH-") && line.ends_with(b"\n"));
        if banner || room == 0 {
            self.complete.store(true, Ordering::Relaxed);
        }
    }
}

/// A stream for the SSH library: TCP, or a channel of a jump host.
#[derive(Debug)]
pub(super) struct Socket<S> {
    inner: BufReader<S>,
    switch: Arc<Switch>,
    greeting: Arc<Greeting>,
    /// A write that makes no progress for this long means the peer is gone. The library
    /// looks at neither keepalive nor replies while it is blocked in a write.
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub(super) fn new(
        inner: S,
        switch: Arc<Switch>,
        greeting: Arc<Greeting>,
        stall: Duration,
    ) -> Self {
        let inner = BufReader::with_capacity(READ_BUFFER, inner);
        Self { inner, switch, greeting, stall, stalled: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.switch.reader.register(context.waker());
        this.switch.check()?;
        let available = match Pin::new(&mut this.inner).poll_fill_buf(context)? {
            Poll::Ready(bytes) => bytes,
            Poll::Pending => return Poll::Pending,
        };
        let count = available.len().min(into.remaining());
        let (taken, _) = available.split_at(count);
        into.put_slice(taken);
        this.greeting.hear(taken);
        this.switch.hear(count)?;
        Pin::new(&mut this.inner).consume(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.switch.writer.register(context.waker());
        self.switch.check()?;
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        if let Poll::Ready(result) = &written {
            self.switch.count(*result.as_ref().unwrap_or(&0));
            self.stalled = None;
            return written;
        }
        let limit = self.stall;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.switch.writer.register(context.waker());
        self.switch.check()?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    /// Never fails: the library would otherwise keep the reason of the end to itself.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.switch.writer.register(context.waker());
        if self.switch.check().is_err() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_shutdown(context).map(|_| Ok(()))
    }
}
