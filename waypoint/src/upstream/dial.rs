//! Makes connections: a plain socket, or a stream of a tunnel with our own identity, and HTTP on it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_api::identity::Identity;
use ambit_api::reason::Reason;
use ambit_api::workload::{TunnelProtocol, Workload};
use ambit_discovery::credentials::Held;
use ambit_discovery::resolve::HBONE_PORT;
use ambit_process::overload::Work;
use ambit_process::spawn::spawn_local;
use ambit_transport::addr::ServerAddr;
use ambit_transport::hbone::client::{self, ConnectRequest, TunnelError};
use ambit_transport::hbone::pool::{Key, OpenError, Pool};
use ambit_transport::hbone::{self, Io};
use ambit_transport::socket::{self, DialError, DialOptions, Netns};
use ambit_transport::tls::{self, TlsError};
use http::{HeaderMap, HeaderValue};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::line::{Rest, Shared, Single};
use super::{Peer, Target};
use crate::limits::{Limits, Slot};
use crate::mesh::Own;
use crate::serve::LocalExecutor;

/// Tells the far proxy who asks; telemetry only.
const SOURCE: (&str, &str) = ("x-istio-source", "waypoint");

/// A worker's way to make connections. Clones are the same.
#[derive(Clone)]
pub struct Dialler {
    own: Arc<Own>,
    tunnels: Pool<TunnelFailed>,
    netns: Netns,
}

/// A connection to an application.
pub enum Socket {
    /// Plain.
    Plain(TcpStream),
    /// A stream of a tunnel.
    Tunnel(hbone::Stream),
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DialFailed {
    /// TCP.
    #[error("{0}")]
    Tcp(#[from] DialError),
    /// The tunnel.
    #[error("{0}")]
    Tunnel(#[from] OpenError<TunnelFailed>),
    /// No certificate in time.
    #[error("no certificate for {0}")]
    NoCertificate(Identity),
    /// HTTP could not begin.
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// Too slow in all.
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
}

/// Why a tunnel could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TunnelFailed {
    /// TCP.
    #[error("{0}")]
    Tcp(#[from] DialError),
    /// TLS.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// HTTP/2.
    #[error("{0}")]
    Http2(#[from] TunnelError),
}

impl DialFailed {
    /// What it means for a request.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Tcp(failed) => failed.reason(),
            Self::Tunnel(failed) => failed.reason(TunnelFailed::reason),
            Self::NoCertificate(_) => Reason::NoCertificate,
            Self::Http(_) => Reason::ConnectFailed,
            Self::TimedOut(_) => Reason::TimedOut,
        }
    }
}

impl TunnelFailed {
    fn reason(&self) -> Reason {
        match self {
            Self::Tcp(failed) => failed.reason(),
            Self::Tls(failed) => failed.reason(),
            Self::Http2(failed) => failed.reason(),
        }
    }
}

impl Dialler {
    /// For one worker.
    pub fn new(own: Arc<Own>, tunnels: Pool<TunnelFailed>) -> std::io::Result<Self> {
        Ok(Self { own, tunnels, netns: Netns::current()? })
    }

    /// A connection to the target, within what its traffic policy allows for connecting.
    pub async fn dial(&self, peer: &Peer, at: SocketAddr, within: Duration) -> Result<Socket, DialFailed> {
        let dialled = async {
            match peer {
                Peer::Endpoint(workload) if workload.tunnel == TunnelProtocol::Plain => {
                    let options = DialOptions { timeout: within, ..DialOptions::default() };
                    Ok(Socket::Plain(socket::dial(&self.netns, ServerAddr::from(at), &options).await?))
                }
                Peer::Endpoint(workload) => {
                    let server = SocketAddr::new(at.ip(), HBONE_PORT);
                    Ok(Socket::Tunnel(self.tunnel(server, at, expected(workload)).await?))
                }
                Peer::Waypoint(tunnel) => {
                    Ok(Socket::Tunnel(self.tunnel(tunnel.server, at, tunnel.expected.clone()).await?))
                }
            }
        };
        tokio::time::timeout(within, dialled).await.map_err(|_| DialFailed::TimedOut(within))?
    }

    /// An HTTP/1.1 connection.
    pub(super) async fn single(&self, target: &Target, slot: Option<Slot>) -> Result<Single, DialFailed> {
        let limits = target.limits().filter(|_| slot.is_some()).cloned();
        match self.dial(&target.peer, target.at, target.terms.connect).await? {
            Socket::Plain(socket) => self.first(socket, target, slot, limits).await,
            Socket::Tunnel(stream) => self.first(Io::new(stream), target, slot, limits).await,
        }
    }

    /// An HTTP/2 connection.
    pub(super) async fn shared(&self, target: &Target, slot: Option<Slot>) -> Result<Shared, DialFailed> {
        match self.dial(&target.peer, target.at, target.terms.connect).await? {
            Socket::Plain(socket) => self.second(socket, target, slot).await,
            Socket::Tunnel(stream) => self.second(Io::new(stream), target, slot).await,
        }
    }

    async fn tunnel(
        &self,
        server: SocketAddr,
        authority: SocketAddr,
        expected: Arc<[Identity]>,
    ) -> Result<hbone::Stream, DialFailed> {
        let own = &self.own;
        let key = Key {
            pod: own.pod_uid.clone(),
            identity: own.identity.clone(),
            to: ServerAddr::from(server),
            expected,
        };
        let held = certificate(own).await?;
        let mut headers = HeaderMap::with_capacity(1);
        headers.insert(SOURCE.0, HeaderValue::from_static(SOURCE.1));
        let request = ConnectRequest { authority: authority.to_string(), headers };
        let within = own.times.connect;
        let options = DialOptions { timeout: within, keepalive: None, ..DialOptions::default() };
        let open = self.tunnels.open(&key, &request, || async {
            own.overload.charge(Work::Tunnel).spend();
            let stream = socket::dial(&self.netns, key.to, &options).await?;
            let config = held.client.expecting(key.expected.clone());
            let (stream, peer) = tls::connect(stream, config, within).await?;
            Ok(client::connect(stream, peer, &own.hbone).await?)
        });
        Ok(open.await?)
    }

    /// HTTP/1.1 on a connection.
    async fn first<I>(
        &self,
        io: I,
        target: &Target,
        slot: Option<Slot>,
        limits: Option<Arc<Limits>>,
    ) -> Result<Single, DialFailed>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(self.own.overload.sizes().http1_buffer)
            .handshake(TokioIo::new(io))
            .await?;
        let rest = Rc::<Rest>::default();
        let resting = rest.clone();
        spawn_local("upstream", async move {
            // The slot is the connection's, whoever holds its other end.
            let _slot = slot;
            let connection = connection.with_upgrades();
            match limits {
                None => drop(connection.await),
                Some(limits) => tokio::select! {
                    _ended = connection => {}
                    () = resting.until_wanted(&limits) => {}
                },
            }
        });
        Ok(Single::new(sender, target.terms.uses, target.terms.idle, rest))
    }

    /// HTTP/2 on a connection.
    async fn second<I>(&self, io: I, target: &Target, slot: Option<Slot>) -> Result<Shared, DialFailed>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let sizes = self.own.overload.sizes();
        let (sender, mut connection) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(sizes.stream_window)
            .initial_connection_window_size(sizes.http2_window)
            .max_send_buf_size(sizes.send_buffer)
            .handshake(TokioIo::new(io))
            .await?;
        let (shared, state) = Shared::new(sender, target.terms.uses, target.terms.idle);
        spawn_local("upstream", async move {
            let _slot = slot;
            // How it ended is told to each of its requests.
            let _ended = poll_fn(|cx| {
                let ended = Pin::new(&mut connection).poll(cx);
                state.permits(connection.current_max_send_streams());
                ended
            })
            .await;
        });
        Ok(shared)
    }
}

/// Our certificate, waiting a little for one that is on its way.
pub async fn certificate(own: &Own) -> Result<Arc<Held>, DialFailed> {
    let mut state = own.certificate.clone();
    if let Some(held) = state.borrow().usable_at(SystemTime::now()) {
        return Ok(held.clone());
    }
    let usable = state.wait_for(|state| state.usable_at(SystemTime::now()).is_some());
    let waited = tokio::time::timeout(own.times.configuration_wait, usable).await;
    let held = waited.ok().and_then(Result::ok).and_then(|state| state.usable_at(SystemTime::now()).cloned());
    held.ok_or_else(|| DialFailed::NoCertificate(own.identity.clone()))
}

/// Whom we expect at a workload's tunnel; nobody if its names form no identity, which refuses everybody.
fn expected(workload: &Workload) -> Arc<[Identity]> {
    workload.identity().into_iter().collect()
}
