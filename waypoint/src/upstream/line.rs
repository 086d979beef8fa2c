//! One connection towards an endpoint, and one request on it.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Home;
use crate::body::{Finished, Outgoing};
use crate::limits::{Limits, Uses};

/// Streams opened before the peer's settings have arrived.
const UNTOLD_STREAMS: usize = 100;

/// A connection that may carry one request now.
pub enum Line {
    /// HTTP/1.1: this request alone.
    Single {
        /// The connection.
        single: Single,
        /// Where it goes afterwards.
        home: Home,
    },
    /// A place on an HTTP/2 connection.
    Shared(Place),
}

/// Held while an answer is under way; what remains to be done with the connection.
pub enum Lease {
    /// To be given back.
    Single {
        /// The connection.
        single: Single,
        /// Where it goes.
        home: Home,
        /// Whether the request has been sent to its end.
        request: Rc<Finished>,
    },
    /// A place to be left.
    Shared(Place),
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendFailed {
    /// The connection had ended: nothing was sent, and here it is again.
    #[error("the connection had been closed")]
    Unsent(Box<Request<Outgoing>>),
    /// The peer says that it has not looked at it.
    #[error("refused: {0}")]
    Refused(hyper::Error),
    /// The connection or stream broke after something was sent.
    #[error("{0}")]
    Broke(hyper::Error),
}

/// An HTTP/1.1 connection.
pub struct Single {
    sender: http1::SendRequest<Outgoing>,
    uses: Uses,
    rest: Rc<Rest>,
    since: Instant,
    idle: Duration,
}

/// Whether a connection is idle; known to the pool and to the task that drives it.
#[derive(Debug, Default)]
pub(super) struct Rest {
    idle: Cell<bool>,
    changed: Notify,
}

/// An HTTP/2 connection.
pub(super) struct Shared {
    sender: http2::SendRequest<Outgoing>,
    state: Rc<State>,
    idle: Duration,
}

/// What the pool and the task that drives a connection know of it.
pub(super) struct State {
    streams: Cell<usize>,
    /// As many as the peer's settings permit.
    theirs: Cell<usize>,
    since: Cell<Instant>,
    uses: RefCell<Uses>,
}

/// One request's place on an HTTP/2 connection.
pub struct Place {
    sender: http2::SendRequest<Outgoing>,
    state: Rc<State>,
}

impl Line {
    /// Sends a request and waits for the head of its answer.
    pub async fn send(self, request: Request<Outgoing>) -> Result<(Response<Incoming>, Lease), SendFailed> {
        match self {
            Self::Single { mut single, home } => {
                single.uses.spend();
                let finished = request.body().finished();
                let sent = single.sender.try_send_request(request).await;
                let answer = sent.map_err(|mut failed| match failed.take_message() {
                    Some(request) => SendFailed::Unsent(Box::new(request)),
                    None => SendFailed::Broke(failed.into_error()),
                })?;
                Ok((answer, Lease::Single { single, home, request: finished }))
            }
            Self::Shared(mut place) => {
                let sent = place.sender.try_send_request(request).await;
                let answer = sent.map_err(|mut failed| match failed.take_message() {
                    Some(request) => SendFailed::Unsent(Box::new(request)),
                    None => refused_or_broke(failed.into_error()),
                })?;
                Ok((answer, Lease::Shared(place)))
            }
        }
    }
}

impl Lease {
    /// The answer has ended; the connection may serve again if the request has ended too.
    pub fn end(self) {
        if let Self::Single { single, home, request } = self
            && request.get()
        {
            home.give_back(single);
        }
    }
}

impl Single {
    pub(super) fn new(
        sender: http1::SendRequest<Outgoing>,
        uses: Option<NonZeroU32>,
        idle: Duration,
        rest: Rc<Rest>,
    ) -> Self {
        Self { sender, uses: Uses::new(uses), rest, since: Instant::now(), idle }
    }

    /// Waits until the last answer is over; `false` if the connection is.
    pub(super) async fn ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(super) fn is_spent(&self) -> bool {
        self.uses.is_spent()
    }

    pub(super) fn is_stale(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= self.idle
    }

    pub(super) fn set_idle(&mut self, idle: bool) {
        self.rest.idle.set(idle);
        if idle {
            self.since = Instant::now();
            self.rest.changed.notify_one();
        }
    }
}

impl Rest {
    /// Resolves when the connection is idle and somebody elsewhere waits for its slot.
    pub(super) async fn until_wanted(&self, limits: &Limits) {
        loop {
            while !self.idle.get() {
                self.changed.notified().await;
            }
            limits.wanted().await;
            if self.idle.get() {
                return;
            }
        }
    }
}

impl Shared {
    pub(super) fn new(
        sender: http2::SendRequest<Outgoing>,
        uses: Option<NonZeroU32>,
        idle: Duration,
    ) -> (Self, Rc<State>) {
        let state = Rc::new(State {
            streams: Cell::new(0),
            theirs: Cell::new(UNTOLD_STREAMS),
            since: Cell::new(Instant::now()),
            uses: RefCell::new(Uses::new(uses)),
        });
        (Self { sender, state: state.clone(), idle }, state)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.state.streams.get() == 0
            && (self.state.uses.borrow().is_spent()
                || now.saturating_duration_since(self.state.since.get()) >= self.idle)
    }

    /// Whether one more request fits.
    pub(super) fn has_room(&self, ours: Option<NonZeroU32>) -> bool {
        let ours = ours.and_then(|most| usize::try_from(most.get()).ok()).unwrap_or(usize::MAX);
        !self.state.uses.borrow().is_spent() && self.state.streams.get() < ours.min(self.state.theirs.get())
    }

    /// Takes a place.
    pub(super) fn enter(&self) -> Place {
        self.state.uses.borrow_mut().spend();
        self.state.streams.set(self.state.streams.get() + 1);
        Place { sender: self.sender.clone(), state: self.state.clone() }
    }
}

impl State {
    /// The peer's settings permit so many streams.
    pub(super) fn permits(&self, streams: usize) {
        self.theirs.set(streams);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.state.streams.set(self.state.streams.get() - 1);
        self.state.since.set(Instant::now());
    }
}

/// What HTTP/2 says about a request it did not answer.
fn refused_or_broke(error: hyper::Error) -> SendFailed {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(http2) = inner.downcast_ref::<h2::Error>() {
            if http2.reason() == Some(h2::Reason::REFUSED_STREAM) || http2.is_go_away() {
                return SendFailed::Refused(error);
            }
            break;
        }
        cause = inner.source();
    }
    SendFailed::Broke(error)
}
