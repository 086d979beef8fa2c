//! The server end of a tunnel: requests come out one after another, each with its own answer.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use h2::server::{Connection, SendResponse};
use http::{HeaderMap, Method, Request, Response, StatusCode};

use super::pool::TunnelLoad;
use super::stream::Place;
use super::wire::{Chunk, Keepalive, Lifetime, Wire};
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
pub struct Respond {
    respond: SendResponse<Chunk>,
    recv: h2::RecvStream,
    place: Place,
}

impl Respond {
    /// Answers 200 with these headers; the stream is open.
    pub fn accept(mut self, headers: HeaderMap) -> Result<Stream, TunnelError> {
        let mut answer = Response::new(());
        *answer.headers_mut() = headers;
        let send = self.respond.send_response(answer, false)?;
        Ok(Stream::new(send, self.recv, HeaderMap::new(), self.place))
    }

    /// Answers with another status and ends the stream.
    pub fn refuse(mut self, status: StatusCode) {
        let mut answer = Response::new(());
        *answer.status_mut() = status;
        // Fails only if the peer has gone.
        let _ = self.respond.send_response(answer, true);
    }
}

/// Serves one tunnel until it closes: calls `handler` with each request (which spawns its life, never blocks), sends
/// GOAWAY when `drain` resolves, when no stream was open for the idle time-out, and when the peer's certificate ends.
/// Open streams go on after GOAWAY until they end; dropping this future closes them.
pub async fn serve(
    stream: TlsStream,
    peer: Peer,
    settings: &Settings,
    drain: impl Future<Output = ()>,
    mut handler: impl FnMut(Ask),
) -> Result<(), TunnelError> {
    let wire = Wire::new(stream);
    let mut connection = greet(&wire, settings).await?;
    let load = Arc::new(TunnelLoad::new(settings));
    let mut keepalive = connection.ping_pong().map(|pings| Keepalive::new(pings, settings));
    let mut lifetime = Lifetime::new(peer.not_after, settings);
    let peer = Rc::new(peer);
    let mut drain = pin!(drain);
    let mut closing = Closing::No;
    poll_fn(|cx| {
        if keepalive.as_mut().is_some_and(|keepalive| keepalive.poll_dead(cx).is_ready()) {
            return Poll::Ready(Err(TunnelError::PingTimedOut(settings.ping_timeout)));
        }
        if matches!(closing, Closing::No)
            && (drain.as_mut().poll(cx).is_ready() || lifetime.poll_over(cx, &load).is_ready())
        {
            closing = Closing::Announced;
            connection.graceful_shutdown();
        }
        let outcome = loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => handler(ask(request, respond, &peer, &load)),
                Poll::Ready(Some(Err(cause))) => break Poll::Ready(Err(cause.into())),
                Poll::Ready(None) => break Poll::Ready(Ok(())),
                Poll::Pending => break Poll::Pending,
            }
        };
        match (outcome, wire.poll_send(cx)) {
            (Poll::Pending, Poll::Ready(Err(cause))) => Poll::Ready(Err(cause.into())),
            (outcome, _) => outcome,
        }
    })
    .await
}

/// Whether GOAWAY was sent.
enum Closing {
    No,
    Announced,
}

/// Exchanges the preface and our settings.
async fn greet(wire: &Wire, settings: &Settings) -> Result<Connection<Wire, Chunk>, TunnelError> {
    let mut handshake = pin!(settings.server().handshake::<_, Chunk>(wire.clone()));
    let greeted = poll_fn(|cx| {
        let outcome = handshake.as_mut().poll(cx);
        match (outcome, wire.poll_send(cx)) {
            (Poll::Pending, Poll::Ready(Err(cause))) => Poll::Ready(Err(TunnelError::Io(cause))),
            (outcome, _) => outcome.map_err(Into::into),
        }
    });
    tokio::time::timeout(settings.preface_timeout, greeted)
        .await
        .map_err(|_| TunnelError::TimedOut(settings.preface_timeout))?
}

fn ask(
    request: Request<h2::RecvStream>,
    respond: SendResponse<Chunk>,
    peer: &Rc<Peer>,
    load: &Arc<TunnelLoad>,
) -> Ask {
    let (parts, recv) = request.into_parts();
    Ask {
        method: parts.method,
        authority: parts.uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default(),
        headers: parts.headers,
        peer: peer.clone(),
        respond: Respond { respond, recv, place: Place::take(load) },
    }
}
