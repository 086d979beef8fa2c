//! Packets over a unix socket, each with at most one descriptor: how pods' namespaces are handed over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use tokio::io::unix::AsyncFd;

/// Largest packet we take. Istio's peers have a buffer of [`PEER_PACKET`] bytes: stay below that when sending.
pub const MAX_PACKET: usize = 64 * 1024;

/// Largest packet Istio's peers take.
pub const PEER_PACKET: usize = 1024;

/// A listening SOCK_SEQPACKET socket.
pub struct Listener(AsyncFd<OwnedFd>);

/// A connected SOCK_SEQPACKET socket.
pub struct Socket(AsyncFd<OwnedFd>);

impl Listener {
    /// Listens at a path; a stale socket file there is replaced, with mode 0600.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let _ = (
            path,
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC,
            Backlog::MAXCONN,
        );
        let _: Option<UnixAddr> = None;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<Socket> {
        let _ = self.0.as_fd();
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Socket {
    /// Connects to a path.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sends one packet.
    pub async fn send(&self, packet: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let _ = (packet, fd, self.0.as_fd());
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Receives one packet into `buffer`; `(0, None)` means that the peer closed.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
        let _ = buffer;
        Err(io::ErrorKind::Unsupported.into())
    }
}
