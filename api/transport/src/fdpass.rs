//! Packets over a unix socket, each with at most one descriptor: how pods' namespaces are handed over.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    accept4, bind, connect, getsockopt, listen, recvmsg, sendmsg, socket, sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys;

/// Largest packet we take. Istio's peers have a buffer of [`PEER_PACKET`] bytes: stay below that when sending.
pub const MAX_PACKET: usize = 64 * 1024;

/// Largest packet Istio's peers take.
pub const PEER_PACKET: usize = 1024;

/// Descriptors that one packet can carry at most.
const SCM_MAX_FD: usize = 253;

const FLAGS: SockFlag = SockFlag::SOCK_CLOEXEC.union(SockFlag::SOCK_NONBLOCK);

/// A listening SOCK_SEQPACKET socket.
pub struct Listener(AsyncFd<OwnedFd>);

/// A connected SOCK_SEQPACKET socket.
pub struct Socket(AsyncFd<OwnedFd>);

/// Who is at the other end, as the kernel saw it when the connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProcess {
    /// The process; `None` when it is in another PID namespace that we cannot see into.
    pub pid: Option<u32>,
    /// The user it ran as, in our user namespace.
    pub uid: u32,
}

impl PeerProcess {
    /// Whether it ran as root or as our own user: nobody else has business on a socket of ours.
    pub fn is_trusted(&self) -> bool {
        self.uid == 0 || self.uid == nix::unistd::geteuid().as_raw()
    }
}

impl Listener {
    /// Listens at a path that only our own user may use; a stale socket file there is replaced.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(path)?;
        }
        let fd = new_socket()?;
        bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        // Nobody can connect before listen, so there is no moment with wider permissions.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listen(&fd, Backlog::new(64)?)?;
        sys::watch(fd).map(Self)
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<Socket> {
        let accept = |fd: &OwnedFd| Ok(accept4(fd.as_raw_fd(), FLAGS)?);
        let accepted = self.0.async_io(Interest::READABLE, accept).await?;
        Socket::new(sys::own_received(accepted))
    }
}

impl Socket {
    /// Connects to a path.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let fd = new_socket()?;
        // A unix socket connects at once or not at all.
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        Self::new(fd)
    }

    fn new(fd: OwnedFd) -> io::Result<Self> {
        sys::watch(fd).map(Self)
    }

    /// Who is at the other end.
    pub fn peer(&self) -> io::Result<PeerProcess> {
        let found = getsockopt(self.0.get_ref(), sockopt::PeerCredentials)?;
        Ok(PeerProcess { pid: u32::try_from(found.pid()).ok().filter(|pid| *pid != 0), uid: found.uid() })
    }

    /// Sends one packet, which may not be empty: an empty one would look like the end.
    pub async fn send(&self, packet: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        if packet.is_empty() || packet.len() > MAX_PACKET {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a packet has 1 to 65536 bytes"));
        }
        let fds: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights[..] };
        let send = |socket: &OwnedFd| {
            let data = [IoSlice::new(packet)];
            Ok(sendmsg::<()>(socket.as_raw_fd(), &data, control, MsgFlags::MSG_NOSIGNAL, None)?)
        };
        self.0.async_io(Interest::WRITABLE, send).await.map(drop)
    }

    /// Receives one packet into `buffer`; `(0, None)` means that the peer closed. A packet that does not fit, or that
    /// carries more than one descriptor, is an error, and whatever descriptors came are closed.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
        self.0.async_io(Interest::READABLE, |socket| receive(socket, buffer)).await
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, FLAGS, None)?)
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut data = [IoSliceMut::new(buffer)];
    // Room for all that the kernel lets anybody send, so that a surplus is received and closed, never lost from view.
    let mut control = nix::cmsg_space!([RawFd; SCM_MAX_FD]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut data, Some(&mut control), flags)?;
    let mut received = Vec::new();
    // The kernel's truncation flag is checked below; what did arrive is owned, and so closed, first.
    if let Ok(parts) = message.cmsgs() {
        for part in parts {
            if let ControlMessageOwned::ScmRights(fds) = part {
                received.extend(fds.into_iter().map(sys::own_received));
            }
        }
    }
    let refused = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    if message.flags.contains(MsgFlags::MSG_TRUNC) {
        return refused("a packet larger than the buffer");
    }
    if message.flags.contains(MsgFlags::MSG_CTRUNC) || received.len() > 1 {
        return refused("a packet with more than one descriptor");
    }
    Ok((message.bytes, received.pop()))
}
