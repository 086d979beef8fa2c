//! A stream of a tunnel as a byte stream, for whoever speaks a protocol of its own on it.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Broken, Stream};

/// Bytes one write may take: more would only wait in the tunnel.
const WRITE: usize = 64 * 1024;

/// A stream that is read and written like a socket. Credit goes back to the peer as the reader takes bytes, never
/// before; writes wait for the peer's credit. Dropping it before both sides have ended resets the stream.
pub struct Io {
    stream: Stream,
    /// Received and not yet taken by the reader; its credit is still ours.
    held: Bytes,
    read: ReadEnd,
}

/// Whether the peer's data has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadEnd {
    Open,
    Ended,
}

impl Io {
    /// Wraps a stream.
    pub fn new(mut stream: Stream) -> Self {
        stream.forget_headers();
        Self { stream, held: Bytes::new(), read: ReadEnd::Open }
    }

    /// The stream, and what was received but not read; its credit is to be given back by the caller.
    pub fn into_parts(self) -> (Stream, Bytes) {
        (self.stream, self.held)
    }

    /// What was received and not read, waiting until it is more than `known` bytes or the peer's data has ended. The
    /// bytes stay, and so does their credit: meant for the first few of a stream.
    pub async fn peek(&mut self, known: usize) -> io::Result<&[u8]> {
        poll_fn(|cx| self.poll_more(cx, known)).await?;
        Ok(&self.held)
    }

    fn poll_more(&mut self, cx: &mut Context<'_>, known: usize) -> Poll<io::Result<()>> {
        while self.held.len() <= known && self.read == ReadEnd::Open {
            let Some(chunk) = ready!(self.poll_chunk(cx))? else { continue };
            self.held = match self.held.is_empty() {
                true => chunk,
                false => [&*self.held, &*chunk].concat().into(),
            };
        }
        Poll::Ready(Ok(()))
    }

    /// The next chunk; `None` at the end, which is remembered.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        match ready!(self.stream.poll_chunk(cx)) {
            Some(Ok(chunk)) => Poll::Ready(Ok(Some(chunk))),
            None | Some(Err(Broken::Done)) => {
                self.read = ReadEnd::Ended;
                Poll::Ready(Ok(None))
            }
            Some(Err(Broken::Reset)) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    /// Makes sure that bytes are held; `false` at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.held.is_empty() {
            if self.read == ReadEnd::Ended {
                return Poll::Ready(Ok(false));
            }
            if let Some(chunk) = ready!(self.poll_chunk(cx))? {
                self.held = chunk;
            }
        }
        Poll::Ready(Ok(true))
    }

    fn poll_gather(&mut self, cx: &mut Context<'_>, data: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let wanted = data.iter().map(|slice| slice.len()).sum::<usize>().min(WRITE);
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        let credit = match ready!(self.stream.poll_credit(cx, wanted)) {
            Ok(credit) => credit.min(wanted),
            Err(_broken) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        };
        let mut bytes = BytesMut::with_capacity(credit);
        for slice in data {
            let part = slice.len().min(credit - bytes.len());
            bytes.extend_from_slice(&slice[..part]);
        }
        let sent = self.stream.send(bytes.freeze());
        self.stream.want_nothing();
        Poll::Ready(sent.map(|()| credit).map_err(|_broken| io::ErrorKind::BrokenPipe.into()))
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if ready!(this.poll_fill(cx))? {
            let count = this.held.len().min(out.remaining());
            out.put_slice(&this.held[..count]);
            this.held.advance(count);
            this.stream.release(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_gather(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_gather(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The tunnel's own task sends, once per turn for all its streams.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A peer that wants no more of our data has, for our purposes, seen its end.
        let _ = self.get_mut().stream.finish();
        Poll::Ready(Ok(()))
    }
}
