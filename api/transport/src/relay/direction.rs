//! One direction of a relay, as a state machine that is polled: no buffer is held while nothing is in hand.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;

use super::Side;
use super::socket_io;
use crate::buffer::{self, Buffer};
use crate::hbone::{Broken, Stream};

/// The head of a DATA frame: with it, what one read brings fills TLS records exactly.
const FRAME_HEAD: usize = 9;

/// Reads up to here are copied to memory of their own size; larger ones travel in the buffer they were read into.
const COPIED: usize = 64 * 1024;

/// Chunks gathered into one write.
const GATHERED: usize = 16;

/// Turns a direction takes before other tasks get theirs.
const TURNS: usize = 16;

/// Stops both directions before their end: this side was reset or broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop(pub(super) Side);

/// Outcome of polling: ready once the direction has ended cleanly.
pub(super) type Moved = Poll<Result<(), Stop>>;

/// A socket to a stream of a tunnel.
#[derive(Default)]
pub(super) struct Up {
    stalled: bool,
}

impl Up {
    /// Whether it waits for its output, and so does not look at its input.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    pub(super) fn poll(
        &mut self,
        near: &TcpStream,
        far: &mut Stream,
        count: &AtomicU64,
        cx: &mut Context<'_>,
    ) -> Moved {
        for _ in 0..TURNS {
            match ready!(self.turn(near, far, count, cx)) {
                Ok(Some(_more)) => {}
                Ok(None) => return Poll::Ready(Ok(())),
                Err(stop) => return Poll::Ready(Err(stop)),
            }
        }
        far.want_nothing();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn turn(
        &mut self,
        near: &TcpStream,
        far: &mut Stream,
        count: &AtomicU64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<usize>, Stop>> {
        self.stalled = false;
        // Credit is asked for only with data at the door: it is taken from the tunnel's other streams.
        if near.poll_read_ready(cx).map_err(|_| Stop(Side::Near))?.is_pending() {
            far.want_nothing();
            return match far.poll_reset(cx) {
                Poll::Ready(broken) => over(broken),
                Poll::Pending => Poll::Pending,
            };
        }
        let credit = match far.poll_credit(cx, buffer::size() - FRAME_HEAD) {
            Poll::Ready(Ok(credit)) => credit,
            Poll::Ready(Err(broken)) => return over(broken),
            Poll::Pending => {
                self.stalled = true;
                return Poll::Pending;
            }
        };
        let mut buffer = Buffer::take();
        let read = ready!(socket_io::poll_read(near, cx, &mut buffer.bytes_mut()[..credit]))
            .map_err(|_| Stop(Side::Near))?;
        let outcome = if read == 0 { far.finish() } else { far.send(buffer.into_bytes(read, COPIED)) };
        if let Err(broken) = outcome {
            return over(broken);
        }
        count.fetch_add(read as u64, Relaxed);
        Poll::Ready(Ok((read > 0).then_some(read)))
    }
}

/// A peer that has sent everything and wants nothing more ends this direction only; what it sent is still delivered.
fn over(broken: Broken) -> Poll<Result<Option<usize>, Stop>> {
    Poll::Ready(match broken {
        Broken::Done => Ok(None),
        Broken::Reset => Err(Stop(Side::Far)),
    })
}

/// A stream of a tunnel to a socket; holds only chunks that the socket has not taken, whose credit the peer lacks.
#[derive(Default)]
pub(super) struct Down {
    waiting: VecDeque<Bytes>,
    ended: bool,
}

impl Down {
    pub(super) fn poll(
        &mut self,
        far: &mut Stream,
        near: &TcpStream,
        count: &AtomicU64,
        cx: &mut Context<'_>,
    ) -> Moved {
        for _ in 0..TURNS {
            self.gather(far, cx)?;
            if self.waiting.is_empty() {
                if !self.ended {
                    return Poll::Pending;
                }
                return Poll::Ready(socket_io::finish(near).map_err(|_| Stop(Side::Near)));
            }
            let written = ready!(self.write(near, cx)).map_err(|_| Stop(Side::Near))?;
            self.took(written);
            far.release(written);
            count.fetch_add(written as u64, Relaxed);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn gather(&mut self, far: &mut Stream, cx: &mut Context<'_>) -> Result<(), Stop> {
        while !self.ended && self.waiting.len() < GATHERED {
            match far.poll_chunk(cx) {
                Poll::Ready(Some(Ok(chunk))) if chunk.is_empty() => {}
                Poll::Ready(Some(Ok(chunk))) => self.waiting.push_back(chunk),
                Poll::Ready(Some(Err(Broken::Reset))) => return Err(Stop(Side::Far)),
                Poll::Ready(Some(Err(Broken::Done)) | None) => self.ended = true,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn write(&self, near: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); GATHERED];
        for (slice, chunk) in slices.iter_mut().zip(&self.waiting) {
            *slice = IoSlice::new(chunk);
        }
        socket_io::poll_write(near, cx, &slices[..self.waiting.len()])
    }

    fn took(&mut self, mut count: usize) {
        while count > 0 {
            let Some(first) = self.waiting.front_mut() else {
                return;
            };
            if first.len() > count {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.waiting.pop_front();
        }
    }
}

/// A socket to a socket; holds only what the other has not taken.
#[derive(Default)]
pub(super) struct Across {
    waiting: Bytes,
}

impl Across {
    /// Whether it waits for its output, and so does not look at its input.
    pub(super) fn is_stalled(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn poll(
        &mut self,
        (from, from_side): (&TcpStream, Side),
        (to, to_side): (&TcpStream, Side),
        count: &AtomicU64,
        cx: &mut Context<'_>,
    ) -> Moved {
        for _ in 0..TURNS {
            while !self.waiting.is_empty() {
                let written = ready!(socket_io::poll_write(to, cx, &[IoSlice::new(&self.waiting)]))
                    .map_err(|_| Stop(to_side))?;
                self.waiting.advance(written);
                count.fetch_add(written as u64, Relaxed);
            }
            ready!(from.poll_read_ready(cx)).map_err(|_| Stop(from_side))?;
            let mut buffer = Buffer::take();
            let read =
                ready!(socket_io::poll_read(from, cx, buffer.bytes_mut())).map_err(|_| Stop(from_side))?;
            if read == 0 {
                return Poll::Ready(socket_io::finish(to).map_err(|_| Stop(to_side)));
            }
            let taken = match socket_io::poll_write(to, cx, &[IoSlice::new(&buffer.bytes()[..read])]) {
                Poll::Ready(outcome) => outcome.map_err(|_| Stop(to_side))?,
                Poll::Pending => 0,
            };
            count.fetch_add(taken as u64, Relaxed);
            if taken < read {
                // Memory of its own size: a stalled connection must not hold a whole buffer.
                self.waiting = Bytes::copy_from_slice(&buffer.bytes()[taken..read]);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
