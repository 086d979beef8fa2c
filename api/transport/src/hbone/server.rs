//! The server end of a tunnel.

use std::future::Future;
use std::rc::Rc;

use http::{HeaderMap, Method, StatusCode};

use super::{Settings, Stream, TunnelError};
use crate::tls::{Peer, TlsStream};

/// One request of a peer.
pub struct Ask {
    /// The method; anything but CONNECT is to be refused with 400.
    pub method: Method,
    /// `ip:port` or `host:port` as sent; empty if the request had none.
    pub authority: String,
    /// The request's headers.
    pub headers: HeaderMap,
    /// Who asks, from its certificate.
    pub peer: Rc<Peer>,
    /// How to answer.
    pub respond: Respond,
}

/// The one answer to an [`Ask`]; dropping it unanswered resets the stream.
pub struct Respond {}

impl Respond {
    /// Answers 200 with these headers; the stream is open.
    pub fn accept(self, headers: HeaderMap) -> Result<Stream, TunnelError> {
        let _ = headers;
        Err(TunnelError::TimedOut(std::time::Duration::ZERO))
    }

    /// Answers with another status and ends the stream.
    pub fn refuse(self, status: StatusCode) {
        let _ = status;
    }
}

/// Serves one tunnel until it closes: calls `handler` with each request (which spawns its life, never blocks), sends
/// GOAWAY when `drain` resolves, when nothing was asked for the idle time-out, and when the peer's certificate ends.
/// Open streams go on after GOAWAY until they end; dropping this future closes them.
pub async fn serve(
    stream: TlsStream,
    peer: Peer,
    settings: &Settings,
    drain: impl Future<Output = ()>,
    handler: impl FnMut(Ask),
) -> Result<(), TunnelError> {
    let _ = (stream, peer, settings, drain, handler);
    Ok(())
}
