//! The client end of a tunnel.

use std::sync::Arc;
use std::time::Duration;

use ambit_api::reason::Reason;
use http::{HeaderMap, StatusCode};

use super::pool::TunnelLoad;
use super::{Settings, Stream};
use crate::tls::{Peer, TlsStream};

/// What to ask the peer for.
#[derive(Clone, Debug)]
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
    /// The tunnel takes no new streams; the request was not sent.
    #[error("the tunnel takes no new streams")]
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
pub struct Tunnel {
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
}

impl TunnelError {
    /// The end this failure means for a connection.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TimedOut(_) | Self::PingTimedOut(_) => Reason::TimedOut,
            Self::Http2(_) => Reason::HandshakeFailed,
        }
    }
}

impl Tunnel {
    /// Asks the peer for a stream.
    pub async fn open(&self, request: &ConnectRequest) -> Result<Stream, ConnectError> {
        let _ = request;
        Err(ConnectError::TunnelClosed)
    }

    /// How busy it is.
    pub fn load(&self) -> &Arc<TunnelLoad> {
        &self.load
    }

    /// Whether it takes new streams.
    pub fn is_usable(&self) -> bool {
        true
    }

    /// Takes no new streams; open ones go on, then the connection closes with GOAWAY.
    pub fn retire(&self) {}

    /// Resolves once the connection is closed.
    pub async fn closed(&self) {}
}

/// Starts HTTP/2 on a TLS connection. The connection is driven by a task of its own on the current worker. The tunnel
/// retires by itself when the peer's certificate ends.
pub async fn connect(stream: TlsStream, peer: Peer, settings: &Settings) -> Result<Tunnel, TunnelError> {
    let _ = (stream, peer, settings);
    Err(TunnelError::TimedOut(Duration::ZERO))
}
