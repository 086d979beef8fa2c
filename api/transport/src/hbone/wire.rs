//! What stands between HTTP/2 and TLS: deferred flushes, counted chunks, pings and the lifetime of a tunnel.

use std::cell::RefCell;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Settings;
use super::pool::TunnelLoad;
use crate::tls::TlsStream;

/// Consecutive quiet looks after which a tunnel counts as idle.
const QUIET_LOOKS: u32 = 2;

/// A TLS stream that HTTP/2 writes to without sending. h2 flushes after every frame; here that is a no-op, and the
/// task that drives the connection sends once per turn, so that the frames of many streams share one call.
#[derive(Clone)]
pub(super) struct Wire(Rc<RefCell<TlsStream>>);

/// Bytes on their way into a tunnel; counted in its load until HTTP/2 has written them to TLS.
pub(super) struct Chunk {
    bytes: Bytes,
    counted: usize,
    load: Arc<TunnelLoad>,
}

/// Pings the peer, so that a vanished one is noticed.
pub(super) struct Keepalive {
    pings: PingPong,
    timer: Pin<Box<Sleep>>,
    pinging: Pinging,
    interval: Duration,
    timeout: Duration,
}

enum Pinging {
    Resting,
    Waiting,
}

/// Watches for the end of a tunnel's life: no streams for a while, or the certificate's end.
pub(super) struct Lifetime {
    timer: Pin<Box<Sleep>>,
    look: Duration,
    expires: Instant,
    opened: usize,
    quiet: u32,
}

impl Wire {
    pub(super) fn new(stream: TlsStream) -> Self {
        Self(Rc::new(RefCell::new(stream)))
    }

    /// Puts on the wire what was written.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, out)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }
}

impl Chunk {
    pub(super) fn new(bytes: Bytes, load: &Arc<TunnelLoad>) -> Self {
        load.queue(bytes.len());
        Self { counted: bytes.len(), bytes, load: load.clone() }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.load.unqueue(self.counted);
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

impl Keepalive {
    pub(super) fn new(pings: PingPong, settings: &Settings) -> Self {
        Self {
            pings,
            timer: Box::pin(tokio::time::sleep(settings.ping_interval)),
            pinging: Pinging::Resting,
            interval: settings.ping_interval,
            timeout: settings.ping_timeout,
        }
    }

    /// Ready when the peer has not answered in time.
    pub(super) fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if matches!(self.pinging, Pinging::Waiting) {
                match self.pings.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => self.rest(),
                    // The connection is ending and says so itself.
                    Poll::Ready(Err(_)) => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
            ready!(self.timer.as_mut().poll(cx));
            match self.pinging {
                Pinging::Waiting => return Poll::Ready(()),
                Pinging::Resting if self.pings.send_ping(Ping::opaque()).is_ok() => {
                    self.pinging = Pinging::Waiting;
                    self.timer.as_mut().reset(Instant::now() + self.timeout);
                }
                Pinging::Resting => self.rest(),
            }
        }
    }

    fn rest(&mut self) {
        self.pinging = Pinging::Resting;
        self.timer.as_mut().reset(Instant::now() + self.interval);
    }
}

impl Lifetime {
    pub(super) fn new(not_after: SystemTime, settings: &Settings) -> Self {
        let left = not_after.duration_since(SystemTime::now()).unwrap_or_default();
        let look = (settings.idle_timeout / QUIET_LOOKS).max(Duration::from_millis(1));
        let expires = Instant::now() + left;
        Self { timer: Box::pin(tokio::time::sleep(look.min(left))), look, expires, opened: 0, quiet: 0 }
    }

    /// Ready when the tunnel should take no more streams.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>, load: &TunnelLoad) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            let opened = load.opened();
            if load.streams() == 0 && opened == self.opened {
                self.quiet += 1;
            } else {
                self.quiet = 0;
            }
            if now >= self.expires || self.quiet >= QUIET_LOOKS {
                self.timer.as_mut().reset(now + self.look);
                return Poll::Ready(());
            }
            self.opened = opened;
            self.timer.as_mut().reset(self.expires.min(now + self.look));
        }
    }
}
