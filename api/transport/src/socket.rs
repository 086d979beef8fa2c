//! Sockets in a pod's network namespace: exclusive listeners, dials with a spoofed source, and the reset.

mod netns;

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::time::Duration;

use ambit_api::reason::Reason;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpSocket, TcpStream};

use crate::addr::{ClientAddr, LocalAddr, OriginalDst, ServerAddr};
use crate::buffer;
pub use netns::{Netns, NetnsId};

/// The mark that in-pod redirection rules let pass (l4-protocols §1.3).
pub const PACKET_MARK: u32 = 1337;

/// The ports of [`SourcePort::Apart`].
const APART: RangeInclusive<u16> = 10_000..=32_000;

/// Ports of that range to try before the kernel chooses from its own.
const PORT_ATTEMPTS: usize = 8;

/// How long `accept` pauses when the process or the machine has no descriptor or memory left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Whether a listener must be able to keep the client's address towards the application (`ENABLE_ORIG_SRC`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transparent {
    /// Tried; where the kernel refuses, [`is_transparent`] says so.
    #[default]
    BestEffort,
    /// The listener fails without it.
    Required,
    /// Not tried.
    Off,
}

/// TCP keepalive of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes before the connection is dead.
    pub retries: u32,
}

/// How to listen.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// SO_MARK; needs privileges.
    pub mark: Option<u32>,
    /// IP_TRANSPARENT.
    pub transparent: Transparent,
    /// Length of the accept queue.
    pub backlog: u32,
    /// Keepalive that accepted sockets inherit; `None` on 15008, where HTTP/2 pings serve.
    pub keepalive: Option<Keepalive>,
}

/// Which port goes with a source address whose port is left open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourcePort {
    /// The kernel's choice, made when the destination is known, so that one port serves many destinations.
    #[default]
    Kernel,
    /// One below those that clients choose from by default (32768 and up). For a connection that shows an application
    /// the address of a client which itself has connections to that application in this namespace: with the same port
    /// too, connection tracking would take the packets of the one for the other's.
    Apart,
}

/// How to dial.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// SO_MARK; needs privileges.
    pub mark: Option<u32>,
    /// Source address to show instead of our own; the port is 0 to let the kernel choose.
    pub bind: Option<SocketAddr>,
    /// The port of `bind` when that is 0.
    pub source_port: SourcePort,
    /// Bound on the TCP handshake.
    pub timeout: Duration,
    /// Keepalive of the new socket.
    pub keepalive: Option<Keepalive>,
}

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No answer in time.
    #[error("no answer from {to} within {within:?}")]
    TimedOut {
        /// Whom we dialled.
        to: ServerAddr,
        /// The bound.
        within: Duration,
    },
    /// The peer or the network refused.
    #[error("cannot connect to {to}: {cause}")]
    Connect {
        /// Whom we dialled.
        to: ServerAddr,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The socket could not be made (namespace, mark, source address).
    #[error("cannot make a socket towards {to}: {cause}")]
    Socket {
        /// Whom we wanted to dial.
        to: ServerAddr,
        /// What the kernel said.
        cause: io::Error,
    },
}

/// A listener on the current runtime whose accepted sockets are not yet bound to any runtime, so that the worker
/// that is to own one registers it (once) with [`adopt`].
pub struct Listener(AsyncFd<mio::net::TcpListener>);

impl Default for Keepalive {
    /// Istio's values.
    fn default() -> Self {
        Self { idle: Duration::from_secs(180), interval: Duration::from_secs(180), retries: 9 }
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            mark: None,
            transparent: Transparent::default(),
            backlog: 4096,
            keepalive: Some(Keepalive::default()),
        }
    }
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            mark: None,
            bind: None,
            source_port: SourcePort::Kernel,
            timeout: Duration::from_secs(10),
            keepalive: Some(Keepalive::default()),
        }
    }
}

impl DialError {
    /// The end this failure means for a connection.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TimedOut { .. } => Reason::TimedOut,
            Self::Connect { .. } => Reason::ConnectFailed,
            Self::Socket { .. } => Reason::Io,
        }
    }
}

/// Listens on every address of the namespace: `[::]` for both families, or `0.0.0.0` where there is no IPv6.
pub fn listen_any(netns: &Netns, port: u16, options: &ListenOptions) -> io::Result<std::net::TcpListener> {
    match listen(netns, SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port), options) {
        Err(cause) if no_ipv6(&cause) => {
            listen(netns, SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port), options)
        }
        outcome => outcome,
    }
}

/// Listens on one address, exclusively: SO_REUSEPORT is never set, so that no application of the same uid can join the
/// port and take our connections (l4-protocols §1.9).
pub fn listen(netns: &Netns, on: SocketAddr, options: &ListenOptions) -> io::Result<std::net::TcpListener> {
    netns.run(|| {
        let socket = Socket::new(Domain::for_address(on), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        // Lets us bind while old connections linger in TIME_WAIT; it does not let a second listener in.
        socket.set_reuse_address(true)?;
        if on.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        if let Some(mark) = options.mark {
            socket.set_mark(mark)?;
        }
        match (options.transparent, set_transparent(&socket, on.ip())) {
            (Transparent::Required, Err(cause)) => return Err(cause),
            (Transparent::BestEffort, Err(cause)) => tracing::debug!(%cause, "no IP_TRANSPARENT"),
            _ => {}
        }
        // Accepted sockets inherit these, which saves calls on each.
        buffer::bound_kernel(&socket)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(keepalive) = options.keepalive {
            socket.set_tcp_keepalive(&keepalive.into())?;
        }
        socket.bind(&on.into())?;
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        Ok(socket.into())
    })
}

/// Whether the kernel granted IP_TRANSPARENT to a listener.
pub fn is_transparent(listener: &impl AsFd) -> bool {
    let socket = SockRef::from(listener);
    socket.ip_transparent_v4().unwrap_or(false) || socket.ip_transparent_v6().unwrap_or(false)
}

impl Listener {
    /// Registers a listener with the current runtime.
    pub fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // Its `accept` makes sockets non-blocking in the same call.
        crate::sys::watch(mio::net::TcpListener::from_std(listener)).map(Self)
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<LocalAddr> {
        self.0.get_ref().local_addr().map(Into::into)
    }

    /// The next connection. Never fails: a client that gave up is skipped, exhaustion of descriptors or memory is
    /// logged and waited out without spinning.
    pub async fn accept(&self) -> (std::net::TcpStream, ClientAddr) {
        loop {
            match self.try_accept().await {
                Ok((stream, client)) => return (stream, client.into()),
                Err(cause) if client_gave_up(&cause) => {
                    tracing::trace!(%cause, "a client gave up in the queue")
                }
                Err(cause) => {
                    tracing::warn!(%cause, "cannot accept, pausing");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    async fn try_accept(&self) -> io::Result<(std::net::TcpStream, SocketAddr)> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|listener| listener.get_ref().accept()) {
                Ok(Ok((stream, client))) => return Ok((stream.into(), client)),
                Ok(Err(cause)) => return Err(cause),
                Err(_would_block) => {}
            }
        }
    }
}

/// Registers an accepted socket with the current runtime.
pub fn adopt(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream)
}

/// Connects from inside a namespace. The namespace is left again before the TCP handshake is awaited.
pub async fn dial(netns: &Netns, to: ServerAddr, options: &DialOptions) -> Result<TcpStream, DialError> {
    match dial_once(netns, to, options).await {
        // The port serves this destination already, or its last connection there is only winding down.
        Err(DialError::Connect { cause, .. })
            if options.source_port == SourcePort::Apart
                && cause.kind() == io::ErrorKind::AddrNotAvailable =>
        {
            dial_once(netns, to, &DialOptions { source_port: SourcePort::Kernel, ..options.clone() }).await
        }
        outcome => outcome,
    }
}

async fn dial_once(netns: &Netns, to: ServerAddr, options: &DialOptions) -> Result<TcpStream, DialError> {
    let socket = netns.run(|| prepare(to, options)).map_err(|cause| DialError::Socket { to, cause })?;
    match tokio::time::timeout(options.timeout, socket.connect(to.get())).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(cause)) if cause.kind() == io::ErrorKind::TimedOut => {
            Err(DialError::TimedOut { to, within: options.timeout })
        }
        Ok(Err(cause)) => Err(DialError::Connect { to, cause }),
        Err(_elapsed) => Err(DialError::TimedOut { to, within: options.timeout }),
    }
}

fn prepare(to: ServerAddr, options: &DialOptions) -> io::Result<TcpSocket> {
    let socket = Socket::new(Domain::for_address(to.get()), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    buffer::bound_kernel(&socket)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(mark) = options.mark {
        socket.set_mark(mark)?;
    }
    if let Some(keepalive) = options.keepalive {
        socket.set_tcp_keepalive(&keepalive.into())?;
    }
    if let Some(source) = options.bind {
        // This also lets us bind an address that is not ours; IP_FREEBIND would add nothing.
        set_transparent(&socket, source.ip())?;
        bind_as(&socket, source, options.source_port)?;
    }
    Ok(TcpSocket::from_std_stream(socket.into()))
}

fn bind_as(socket: &Socket, source: SocketAddr, port: SourcePort) -> io::Result<()> {
    if source.port() != 0 {
        return socket.bind(&source.into());
    }
    if port == SourcePort::Apart {
        // One port may serve several destinations.
        socket.set_reuse_address(true)?;
        for _ in 0..PORT_ATTEMPTS {
            match socket.bind(&SocketAddr::new(source.ip(), next_port()).into()) {
                // Somebody listens there.
                Err(cause) if cause.kind() == io::ErrorKind::AddrInUse => {}
                outcome => return outcome,
            }
        }
    }
    setsockopt(socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&source.into())
}

/// The next port of our range on this thread. In turn rather than at random: the one used longest ago is the likeliest
/// to be free.
fn next_port() -> u16 {
    thread_local! {
        static TURN: Cell<u64> = Cell::new(RandomState::new().hash_one(std::thread::current().id()));
    }
    let turn = TURN.get();
    TURN.set(turn.wrapping_add(1));
    let width = u64::from(*APART.end() - *APART.start());
    APART.start() + u16::try_from(turn % width).unwrap_or(0)
}

fn set_transparent(socket: &Socket, family: IpAddr) -> io::Result<()> {
    match family {
        IpAddr::V4(_) => socket.set_ip_transparent_v4(true),
        IpAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
}

/// What the client dialled before the redirection rule; the local address where there was none.
pub fn original_dst(stream: &impl AsFd) -> io::Result<OriginalDst> {
    let socket = SockRef::from(stream);
    let found =
        socket.original_dst_v4().or_else(|_| socket.original_dst_v6()).or_else(|_| socket.local_addr())?;
    let address = found.as_socket().ok_or_else(|| io::Error::other("a socket without an IP address"))?;
    Ok(address.into())
}

/// Sets TCP keepalive on a connected socket.
pub fn set_keepalive(stream: &impl AsFd, keepalive: Keepalive) -> io::Result<()> {
    SockRef::from(stream).set_tcp_keepalive(&keepalive.into())
}

/// Closes with a reset instead of a clean end, so that the peer knows that data may be missing.
pub fn abort(stream: TcpStream) {
    arm_reset(&stream);
    drop(stream);
}

/// Makes a later close of this socket a reset.
pub(crate) fn arm_reset(stream: &TcpStream) {
    // Fails only on a socket that is already dead.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn no_ipv6(cause: &io::Error) -> bool {
    matches!(cause.raw_os_error(), Some(code)
        if code == nix::errno::Errno::EAFNOSUPPORT as i32 || code == nix::errno::Errno::EADDRNOTAVAIL as i32)
}

fn client_gave_up(cause: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(cause.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

impl From<Keepalive> for TcpKeepalive {
    fn from(keepalive: Keepalive) -> Self {
        Self::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.retries)
    }
}
