//! A TLS stream that reads far ahead below rustls and writes many records at once.
//!
//! rustls takes one record per read of the socket; a read-ahead of sixteen records below it saves most of those calls.
//! The buffer is lent only while bytes are in hand: an idle tunnel holds none.

use std::io::{self, BufRead, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::Connection;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::buffer::{self, Buffer};

/// Reads whose ciphertext may wait for the socket: one full frame and the tail of the one before it.
const OUTPUT_READS: usize = 2;

/// An established TLS connection.
///
/// `poll_write` only encrypts; `poll_flush` (or a full output) puts records on the wire, as many per call as fit.
pub struct TlsStream {
    io: ReadAhead,
    session: Connection,
    end: ReadEnd,
}

/// Whether the peer has ended its side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadEnd {
    Open,
    Closed,
}

/// A socket with a lent buffer of bytes already read from it.
pub(super) struct ReadAhead {
    socket: TcpStream,
    held: Option<Held>,
}

struct Held {
    buffer: Buffer,
    start: usize,
    end: usize,
}

impl TlsStream {
    pub(super) fn new(io: ReadAhead, mut session: Connection) -> Self {
        session.set_buffer_limit(Some(OUTPUT_READS * buffer::size()));
        Self { io, session, end: ReadEnd::Open }
    }

    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        &self.io.socket
    }

    pub(super) fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.session.peer_certificates().and_then(|chain| chain.first())
    }

    pub(super) fn alpn(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }

    /// Hands the next ciphertext to rustls. Ready with false at the end of the stream.
    fn poll_decrypt(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        ready!(self.io.poll_fill(cx))?;
        let taken = match &mut self.io.held {
            Some(held) => self.session.read_tls(&mut &held.buffer.bytes()[held.start..held.end])?,
            None => self.session.read_tls(&mut io::empty())?,
        };
        self.io.consume(taken);
        if let Err(cause) = self.session.process_new_packets() {
            // The peer is told why, if its socket takes it right now.
            let _ = self.poll_send(cx);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, cause)));
        }
        Poll::Ready(Ok(taken > 0))
    }

    /// Writes records until none waits.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut SocketWriter { socket: &mut self.io.socket, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(cause) => return Poll::Ready(Err(cause)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_encrypt(
        &mut self,
        cx: &mut Context<'_>,
        mut encrypt: impl FnMut(&mut rustls::Writer<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let taken = encrypt(&mut self.session.writer())?;
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
            ready!(self.poll_send(cx))?;
        }
    }
}

impl AsyncRead for TlsStream {
    /// Fills `out` as far as the bytes at hand allow.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        loop {
            // Chunk by chunk: a read into the whole of `out` would have to be given zeroed memory each time.
            let mut reader = this.session.reader();
            match reader.fill_buf() {
                Ok([]) => return Poll::Ready(Ok(())),
                Ok(chunk) if out.remaining() > 0 => {
                    let taken = chunk.len().min(out.remaining());
                    out.put_slice(&chunk[..taken]);
                    reader.consume(taken);
                    continue;
                }
                Err(cause) if cause.kind() != io::ErrorKind::WouldBlock && out.filled().len() == before => {
                    return Poll::Ready(Err(cause));
                }
                // Nothing more to take now, or no room; an error after some bytes comes again with the next read.
                _ => {}
            }
            let some = out.filled().len() > before;
            if out.remaining() == 0 || (some && this.io.held.is_none()) {
                return Poll::Ready(Ok(()));
            }
            if this.end == ReadEnd::Closed {
                return Poll::Ready(Ok(()));
            }
            match this.poll_decrypt(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => this.end = ReadEnd::Closed,
                Poll::Ready(Err(cause)) => return Poll::Ready(Err(cause)),
                Poll::Pending if some => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.get_mut().poll_encrypt(cx, |writer| writer.write(data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if data.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.get_mut().poll_encrypt(cx, |writer| writer.write_vectored(data))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // rustls remembers that it was sent and does not repeat it.
        this.session.send_close_notify();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.io.socket).poll_shutdown(cx)
    }
}

impl ReadAhead {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, held: None }
    }

    /// Makes sure that bytes are held, or that the end was reached (then nothing is held).
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_some() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.socket.poll_read_ready(cx))?;
        let mut buffer = Buffer::take();
        let mut space = ReadBuf::new(buffer.bytes_mut());
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut space))?;
        let end = space.filled().len();
        if end > 0 {
            self.held = Some(Held { buffer, start: 0, end });
        }
        Poll::Ready(Ok(()))
    }

    fn consume(&mut self, count: usize) {
        if let Some(held) = &mut self.held {
            held.start += count;
            if held.start == held.end {
                self.held = None;
            }
        }
    }
}

/// The side that tokio-rustls uses during the handshake.
impl AsyncRead for ReadAhead {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_fill(cx))?;
        if let Some(held) = &this.held {
            let count = out.remaining().min(held.end - held.start);
            out.put_slice(&held.buffer.bytes()[held.start..held.start + count]);
            this.consume(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Lets rustls write to the socket; a socket that is full wakes the task later.
struct SocketWriter<'a, 'b> {
    socket: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl SocketWriter<'_, '_> {
    fn settle(outcome: Poll<io::Result<usize>>) -> io::Result<usize> {
        match outcome {
            Poll::Ready(done) => done,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for SocketWriter<'_, '_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Self::settle(Pin::new(&mut *self.socket).poll_write(self.cx, data))
    }

    fn write_vectored(&mut self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::settle(Pin::new(&mut *self.socket).poll_write_vectored(self.cx, data))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
