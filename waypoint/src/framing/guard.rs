//! The bytes of an HTTP/1.1 connection on their way to hyper, stopped where [`Framing`] says so.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ambit_api::normalise::BadRequest;
use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::{Framing, Seen};

/// What hyper reads in the place of the rest of a head that is stopped: no name of a header has such a byte, so hyper
/// answers 400 and ends the connection. In a body it is no chunk's size, which breaks the request off.
const POISON: &[u8] = b"\0\r\n\r\n";

/// How long, and for how many bytes, the end of a connection waits for a client that is still sending: closing on unread
/// bytes resets the connection, and the client would never read why.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 256 * 1024);

/// A connection whose bytes are looked at before they are read.
pub struct Guard<I> {
    io: I,
    framing: Framing,
    switch: Arc<Switch>,
    /// Bytes that came and may not be read before an answer.
    held: Bytes,
    /// What is left of [`POISON`].
    poison: &'static [u8],
    lingering: Option<Lingering>,
}

/// The end of a connection whose client is still sending.
struct Lingering {
    until: Pin<Box<Sleep>>,
    left: usize,
}

/// What the connection and those who answer its requests tell each other.
#[derive(Debug, Default)]
pub struct Switch {
    /// How the request for another protocol was answered.
    answer: AtomicU8,
    waits: AtomicWaker,
    bad: OnceLock<BadRequest>,
}

const UNKNOWN: u8 = 0;
const STAYS: u8 = 1;
const SWITCHES: u8 = 2;

impl Switch {
    /// A request that asked for another protocol was answered: whether with that protocol.
    pub fn answered(&self, switched: bool) {
        self.answer.store(if switched { SWITCHES } else { STAYS }, Ordering::Release);
        self.waits.wake();
    }

    /// Why the connection was stopped, if it was.
    pub fn bad(&self) -> Option<BadRequest> {
        self.bad.get().copied()
    }

    fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<bool> {
        // Registered first: an answer between the look and this must not be missed.
        self.waits.register(cx.waker());
        match self.answer.swap(UNKNOWN, Ordering::AcqRel) {
            UNKNOWN => Poll::Pending,
            answer => Poll::Ready(answer == SWITCHES),
        }
    }
}

impl<I> Guard<I> {
    /// Guards a connection; no line of a head may be longer than `limit` bytes.
    pub fn new(io: I, limit: usize) -> Self {
        Self {
            io,
            framing: Framing::new(limit),
            switch: Arc::default(),
            held: Bytes::new(),
            poison: POISON,
            lingering: None,
        }
    }

    /// Its switch.
    pub fn switch(&self) -> Arc<Switch> {
        self.switch.clone()
    }

    /// How many of the bytes that came next may pass.
    fn look(&mut self, bytes: &[u8]) -> usize {
        match self.framing.look(bytes) {
            Seen::All => bytes.len(),
            Seen::UntilAnswered(passed) => passed,
            Seen::Bad(passed, bad) => {
                // Nothing is looked at after the first.
                let _ = self.switch.bad.set(bad);
                passed
            }
        }
    }

    fn poison(&mut self, out: &mut ReadBuf<'_>) {
        let (now, later) = self.poison.split_at(self.poison.len().min(out.remaining()));
        out.put_slice(now);
        self.poison = later;
    }
}

impl<I: AsyncRead + Unpin> Guard<I> {
    /// Reads until something may pass, or the client's data has ended.
    fn poll_next(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let from = out.filled().len();
        while out.filled().len() == from && out.remaining() > 0 {
            if self.switch.bad().is_some() {
                self.poison(out);
                break;
            }
            if self.framing.is_asked() {
                let switched = ready!(self.switch.poll_answer(cx));
                self.framing.answered(switched);
            }
            if !self.held.is_empty() {
                let next = self.held.slice(..out.remaining().min(self.held.len()));
                let passed = self.look(&next);
                out.put_slice(&next[..passed]);
                self.held.advance(passed);
                continue;
            }
            ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
            let came = out.filled().len() - from;
            if came == 0 {
                break;
            }
            let passed = self.look(&out.filled()[from..]);
            if passed < came {
                self.held = Bytes::copy_from_slice(&out.filled()[from + passed..]);
                out.set_filled(from + passed);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and forgets what a client is still sending.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let lingering = self.lingering.get_or_insert_with(|| Lingering {
            until: Box::pin(tokio::time::sleep(LINGER.0)),
            left: LINGER.1,
        });
        let mut bytes = [0; 4096];
        while lingering.left > 0 && lingering.until.as_mut().poll(cx).is_pending() {
            let mut out = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut out)) {
                Ok(()) if !out.filled().is_empty() => {
                    lingering.left = lingering.left.saturating_sub(out.filled().len());
                }
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Guard<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_next(cx, out)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        }
        if this.framing.is_within() || this.switch.bad().is_some() {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
