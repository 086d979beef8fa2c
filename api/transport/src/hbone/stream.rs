//! One stream of a tunnel: chunks in with credit given back on purpose, chunks out as far as the peer's credit goes.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;

use super::pool::TunnelLoad;
use super::wire::Chunk;

/// One CONNECT stream, either end. Hand it to [`crate::relay::relay`]; dropping it before both ends are done resets it.
pub struct Stream {
    send: SendStream<Chunk>,
    recv: RecvStream,
    headers: HeaderMap,
    place: Place,
}

/// A stream's place in its tunnel's count.
pub(super) struct Place(Arc<TunnelLoad>);

/// The peer or the tunnel ended a stream early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The peer wants no more of our data, having sent all of its own.
    Done,
    /// Reset, or the tunnel is gone.
    Reset,
}

impl Place {
    pub(super) fn take(load: &Arc<TunnelLoad>) -> Self {
        load.enter();
        Self(load.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Stream {
    pub(super) fn new(send: SendStream<Chunk>, recv: RecvStream, headers: HeaderMap, place: Place) -> Self {
        Self { send, recv, headers, place }
    }

    /// The headers the peer's answer carried (client side); empty on the server side, and once bytes are relayed.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Gives the memory of the answer's headers back.
    pub(crate) fn forget_headers(&mut self) {
        self.headers = HeaderMap::new();
    }

    /// The next chunk; `None` after the peer ended its data. Its credit is given back with [`Stream::release`].
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        self.recv.poll_data(cx).map(|next| next.map(|chunk| chunk.map_err(|cause| broken(&cause))))
    }

    /// Gives credit back to the peer, once whoever the bytes are for has taken them.
    pub fn release(&mut self, count: usize) {
        // Fails only on a stream that is over.
        let _ = self.recv.flow_control().release_capacity(count);
    }

    /// Asks for credit to send up to `want` bytes and waits until there is some. Credit that is not used must be given
    /// back with [`Stream::want_nothing`]: it is taken from the tunnel's other streams.
    pub fn poll_credit(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<Result<usize, Broken>> {
        self.send.reserve_capacity(want);
        loop {
            let credit = self.send.capacity();
            if credit > 0 {
                return Poll::Ready(Ok(credit.min(want)));
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(cause)) => return Poll::Ready(Err(broken(&cause))),
                None => return Poll::Ready(Err(Broken::Reset)),
            }
        }
    }

    /// Gives unused credit back to the tunnel.
    pub fn want_nothing(&mut self) {
        self.send.reserve_capacity(0);
    }

    /// Sends bytes within the credit.
    pub fn send(&mut self, bytes: Bytes) -> Result<(), Broken> {
        let chunk = Chunk::new(bytes, &self.place.0);
        self.send.send_data(chunk, false).map_err(|cause| broken(&cause))
    }

    /// Ends our data; the peer's goes on.
    pub fn finish(&mut self) -> Result<(), Broken> {
        let end = Chunk::new(Bytes::new(), &self.place.0);
        self.send.send_data(end, true).map_err(|cause| broken(&cause))
    }

    /// Resets both directions: the peer must not take what it has for complete.
    pub fn reset(&mut self) {
        self.send.send_reset(Reason::CANCEL);
    }

    /// Ready when the peer reset the stream; for when nothing else of it is awaited.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        self.send.poll_reset(cx).map(|outcome| match outcome {
            Ok(Reason::NO_ERROR) => Broken::Done,
            _ => Broken::Reset,
        })
    }
}

fn broken(cause: &h2::Error) -> Broken {
    match cause.reason() {
        Some(Reason::NO_ERROR) if cause.is_reset() => Broken::Done,
        _ => Broken::Reset,
    }
}
