//! The client end of a tunnel: one connection, driven by a task of its own, handing out streams.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ambit_api::reason::Reason;
use futures_util::FutureExt;
use h2::client::{Connection, SendRequest};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use tokio::sync::watch;

use super::pool::TunnelLoad;
use super::stream::Place;
use super::wire::{Chunk, Keepalive, Lifetime, Wire};
use super::{Settings, Stream};
use crate::tls::{Peer, TlsStream};

/// What to ask the peer for.
#[derive(Clone, Debug, Default)]
pub struct ConnectRequest {
    /// `ip:port` or `host:port`.
    pub authority: String,
    /// `baggage`, `forwarded`, `traceparent` and so on.
    pub headers: HeaderMap,
}

/// Why a tunnel did not come about or broke.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The peer did not speak HTTP/2 in time.
    #[error("no HTTP/2 preface within {0:?}")]
    TimedOut(Duration),
    /// Pings stay unanswered: the peer is gone.
    #[error("no answer to a ping within {0:?}")]
    PingTimedOut(Duration),
    /// HTTP/2 or the connection failed.
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    /// The connection failed while sending.
    #[error("tunnel lost: {0}")]
    Io(#[from] std::io::Error),
}

/// Why a CONNECT failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No answer in time.
    #[error("no answer to CONNECT within {0:?}")]
    TimedOut(Duration),
    /// The peer answered with another status than 200.
    #[error("CONNECT refused with status {0}")]
    Refused(StatusCode),
    /// The tunnel takes no new streams, or broke before the answer: no byte of an application was sent, so the request
    /// may be sent again elsewhere.
    #[error("the tunnel is closed")]
    TunnelClosed,
    /// The stream or tunnel broke.
    #[error("CONNECT failed: {0}")]
    Http2(#[from] h2::Error),
    /// The request cannot be written as HTTP.
    #[error("invalid CONNECT request: {0}")]
    Invalid(String),
}

/// The client end of one tunnel; a handle, cheap to clone, of one worker.
#[derive(Clone)]
pub struct Tunnel(Rc<Inner>);

struct Inner {
    /// Gone once the tunnel is retired; the connection closes when its last stream ends.
    sender: RefCell<Option<SendRequest<Chunk>>>,
    load: Arc<TunnelLoad>,
    peer: Peer,
    connect_timeout: Duration,
    closed: watch::Receiver<()>,
}

/// The task that moves a tunnel's bytes.
struct Driver {
    connection: Connection<Wire, Chunk>,
    wire: Wire,
    keepalive: Option<Keepalive>,
    lifetime: Lifetime,
    ping_timeout: Duration,
    tunnel: std::rc::Weak<Inner>,
    load: Arc<TunnelLoad>,
}

impl ConnectError {
    /// The end this failure means for a connection.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TimedOut(_) => Reason::TimedOut,
            Self::Refused(_) => Reason::Refused,
            Self::TunnelClosed | Self::Http2(_) => Reason::ConnectFailed,
            Self::Invalid(_) => Reason::BadRequest,
        }
    }

    fn from_h2(cause: h2::Error) -> Self {
        if cause.is_go_away() || cause.is_io() || cause.reason() == Some(h2::Reason::REFUSED_STREAM) {
            return Self::TunnelClosed;
        }
        Self::Http2(cause)
    }
}

impl TunnelError {
    /// The end this failure means for a connection.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TimedOut(_) | Self::PingTimedOut(_) => Reason::TimedOut,
            Self::Http2(_) | Self::Io(_) => Reason::HandshakeFailed,
        }
    }
}

impl Tunnel {
    /// Asks the peer for a stream and waits for its answer.
    pub async fn open(&self, request: &ConnectRequest) -> Result<Stream, ConnectError> {
        let place = Place::take(&self.0.load);
        let within = self.0.connect_timeout;
        match tokio::time::timeout(within, self.ask(request, place)).await {
            Ok(outcome) => {
                if matches!(outcome, Err(ConnectError::TunnelClosed)) {
                    self.retire();
                }
                outcome
            }
            Err(_elapsed) => Err(ConnectError::TimedOut(within)),
        }
    }

    async fn ask(&self, request: &ConnectRequest, place: Place) -> Result<Stream, ConnectError> {
        let head = head(request)?;
        let sender = self.0.sender.borrow().clone().ok_or(ConnectError::TunnelClosed)?;
        // A connection that has ended refuses here, before anything is sent.
        let mut sender = sender.ready().await.map_err(|_| ConnectError::TunnelClosed)?;
        let (answer, send) = sender.send_request(head, false).map_err(ConnectError::from_h2)?;
        drop(sender);
        let (parts, recv) = answer.await.map_err(ConnectError::from_h2)?.into_parts();
        if parts.status != StatusCode::OK {
            return Err(ConnectError::Refused(parts.status));
        }
        Ok(Stream::new(send, recv, parts.headers, place))
    }

    /// How busy it is.
    pub fn load(&self) -> &Arc<TunnelLoad> {
        &self.0.load
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// Whether it takes new streams at all; whether it has room is [`TunnelLoad::has_room`].
    pub fn is_usable(&self) -> bool {
        !self.0.load.is_closed()
    }

    /// Takes no new streams; open ones go on, then the connection closes with GOAWAY.
    pub fn retire(&self) {
        self.0.load.close();
        self.0.sender.borrow_mut().take();
    }

    /// Resolves once the connection is closed.
    pub async fn closed(&self) {
        self.closing().await;
    }

    /// The same without holding on to the tunnel.
    pub(super) fn closing(&self) -> impl Future<Output = ()> + use<> {
        let mut closed = self.0.closed.clone();
        // Nothing is ever sent; the channel ends with the driver.
        async move { while closed.changed().await.is_ok() {} }
    }
}

/// Starts HTTP/2 on a TLS connection. The connection is driven by a task of its own on the current worker. The tunnel
/// retires by itself when the peer's certificate ends and when it has had no streams for the idle time-out.
pub async fn connect(stream: TlsStream, peer: Peer, settings: &Settings) -> Result<Tunnel, TunnelError> {
    let wire = Wire::new(stream);
    let (sender, mut connection) = settings.client().handshake::<_, Chunk>(wire.clone()).await?;
    let load = Arc::new(TunnelLoad::new(settings));
    let (alive, closed) = watch::channel(());
    let inner = Rc::new(Inner {
        sender: RefCell::new(Some(sender)),
        load: load.clone(),
        connect_timeout: settings.connect_timeout,
        closed,
        peer,
    });
    let driver = Driver {
        keepalive: connection.ping_pong().map(|pings| Keepalive::new(pings, settings)),
        lifetime: Lifetime::new(inner.peer.not_after, settings),
        ping_timeout: settings.ping_timeout,
        tunnel: Rc::downgrade(&inner),
        connection,
        wire,
        load,
    };
    ambit_process::spawn::spawn_local("tunnel", drive(driver, alive));
    Ok(Tunnel(inner))
}

async fn drive(mut driver: Driver, alive: watch::Sender<()>) {
    let outcome = poll_fn(|cx| driver.poll(cx)).await;
    driver.load.close();
    if let Err(cause) = outcome {
        tracing::debug!(%cause, "tunnel closed");
    }
    drop(driver);
    drop(alive);
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TunnelError>> {
        if self.keepalive.as_mut().is_some_and(|keepalive| keepalive.poll_dead(cx).is_ready()) {
            return Poll::Ready(Err(TunnelError::PingTimedOut(self.ping_timeout)));
        }
        if self.lifetime.poll_over(cx, &self.load).is_ready() {
            self.load.close();
            if let Some(tunnel) = self.tunnel.upgrade() {
                tunnel.sender.borrow_mut().take();
            }
        }
        let outcome = self.connection.poll_unpin(cx);
        let sent = self.wire.poll_send(cx);
        match (outcome, sent) {
            (Poll::Ready(outcome), _) => Poll::Ready(outcome.map_err(Into::into)),
            (Poll::Pending, Poll::Ready(Err(cause))) => Poll::Ready(Err(cause.into())),
            (Poll::Pending, _) => {
                self.load.limit_to(self.connection.max_concurrent_send_streams());
                Poll::Pending
            }
        }
    }
}

fn head(request: &ConnectRequest) -> Result<Request<()>, ConnectError> {
    let invalid = |cause: http::Error| ConnectError::Invalid(cause.to_string());
    let uri = Uri::builder().authority(request.authority.as_str()).build().map_err(invalid)?;
    let mut head = Request::builder().method(Method::CONNECT).uri(uri).body(()).map_err(invalid)?;
    head.headers_mut().clone_from(&request.headers);
    Ok(head)
}
