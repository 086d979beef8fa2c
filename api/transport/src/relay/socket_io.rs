//! Reads and writes on a shared socket, so that one future may watch it for errors while others move its bytes.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Reads what is there; 0 at the end.
pub(super) fn poll_read(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_read_ready(cx))?;
        let mut read = 0;
        let outcome = socket.try_io(Interest::READABLE, || {
            read = recv(socket.as_raw_fd(), buffer, MsgFlags::empty())?;
            // A short read emptied the socket. Saying so now spares the next turn a read that finds nothing.
            if read > 0 && read < buffer.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match outcome {
            _ if read > 0 => return Poll::Ready(Ok(read)),
            Ok(()) => return Poll::Ready(Ok(0)),
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
            Err(cause) => return Poll::Ready(Err(cause)),
        }
    }
}

/// Writes what fits.
pub(super) fn poll_write(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    data: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        let outcome = match data {
            [one] => socket.try_write(one),
            many => socket.try_write_vectored(many),
        };
        match outcome {
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return Poll::Ready(outcome),
        }
    }
}

/// Ends our data towards the socket.
pub(super) fn finish(socket: &TcpStream) -> io::Result<()> {
    SockRef::from(socket).shutdown(Shutdown::Write)
}

/// Resolves when the socket was reset or broke, also while nobody reads it.
pub(super) async fn broke(socket: Rc<TcpStream>) {
    while socket.ready(Interest::ERROR).await.is_ok_and(|ready| !ready.is_error()) {}
}
