//! Bodies on their way: a request's towards an endpoint, an answer's towards the client. Pieces pass one by one, taken
//! only when the other side takes them.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ambit_process::overload::Pieces;
use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use crate::filter::messages::Messages;
use crate::filter::respond::Speaks;
use crate::judge::Verdicts;
use crate::record::{Ended, Passed, Tail};
use crate::retry::replay::{Attempt, Whole};

/// A request's body as one attempt sends it.
pub struct Outgoing {
    kind: Sent,
    finished: Rc<Finished>,
    /// Judges again while the body is on its way.
    judged: Option<Verdicts>,
}

enum Sent {
    Nothing,
    Streamed {
        attempt: Attempt<Incoming>,
        sent: u64,
        messages: Option<Messages>,
        passed: Rc<Passed>,
        pieces: Pieces,
    },
    Copied {
        bytes: Option<Bytes>,
        trailers: Option<HeaderMap>,
    },
}

/// Whether a request has been sent to its end.
#[derive(Debug, Default)]
pub struct Finished(Cell<bool>);

/// A piece of a body as it travels on: so that it does not hold the whole of a buffer while it waits, if memory is bounded.
fn travelling(frame: Frame<Bytes>, pieces: Pieces) -> Frame<Bytes> {
    match pieces {
        Pieces::Shared => frame,
        Pieces::Copied => frame.map_data(|data| Bytes::copy_from_slice(&data)),
    }
}

/// Why a request's body ends early.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The client's did.
    #[error("{0}")]
    Client(#[from] crate::retry::replay::Broken<hyper::Error>),
    /// A change of policy forbids the request.
    #[error("a policy change forbids it")]
    Forbidden,
}

/// Why an answer's body ends early; the client gets a reset.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The endpoint's did.
    #[error("{0}")]
    Endpoint(#[from] hyper::Error),
    /// A change of policy forbids the request.
    #[error("a policy change forbids it")]
    Forbidden,
    /// The time for the whole request is over.
    #[error("the request's time is over")]
    TimedOut,
}

/// An answer's body. What is left to do when it ends, however it ends, is done by its [`Tail`].
pub struct Answer {
    kind: Got,
    tail: Option<Box<Tail>>,
}

enum Got {
    Nothing,
    Local(Bytes),
    Streamed { body: Incoming, deadline: Option<Pin<Box<Sleep>>>, pieces: Pieces },
}

impl Finished {
    /// Whether it has.
    pub fn get(&self) -> bool {
        self.0.get()
    }
}

impl Outgoing {
    /// Without a body.
    pub fn none() -> Self {
        Self { kind: Sent::Nothing, finished: Rc::new(Finished(Cell::new(true))), judged: None }
    }

    /// One attempt's body; how far the farthest of them came is left in `passed`.
    pub fn attempt(
        attempt: Attempt<Incoming>,
        judged: Option<Verdicts>,
        (passed, speaks): (Rc<Passed>, Speaks),
        pieces: Pieces,
    ) -> Self {
        let finished = Rc::new(Finished(Cell::new(attempt.is_end_stream())));
        let messages = (speaks == Speaks::Grpc).then(Messages::default);
        Self { kind: Sent::Streamed { attempt, sent: 0, messages, passed, pieces }, finished, judged }
    }

    /// A copy of a body that has passed.
    pub fn copy(whole: Whole) -> Self {
        let bytes = Some(whole.bytes).filter(|bytes| !bytes.is_empty());
        let finished = Rc::new(Finished(Cell::new(bytes.is_none() && whole.trailers.is_none())));
        Self { kind: Sent::Copied { bytes, trailers: whole.trailers }, finished, judged: None }
    }

    /// Whether it has been sent to its end, for whoever lends the connection again.
    pub fn finished(&self) -> Rc<Finished> {
        self.finished.clone()
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("finished", &self.finished).finish_non_exhaustive()
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let next = match &mut this.kind {
            Sent::Nothing => None,
            Sent::Copied { bytes, trailers } => {
                bytes.take().map(Frame::data).or_else(|| trailers.take().map(Frame::trailers)).map(Ok)
            }
            Sent::Streamed { attempt, sent, messages, passed, pieces } => {
                if let Some(judged) = &mut this.judged
                    && judged.poll_forbidden(cx).is_ready()
                {
                    return Poll::Ready(Some(Err(Cut::Forbidden)));
                }
                let next = ready!(Pin::new(attempt).poll_frame(cx));
                if let Some(Ok(frame)) = &next
                    && let Some(data) = frame.data_ref()
                {
                    *sent += data.len() as u64;
                    messages.iter_mut().for_each(|messages| messages.pass(data));
                    passed.reach(*sent, messages.as_ref().map_or(0, Messages::whole));
                }
                next.map(|frame| frame.map(|frame| travelling(frame, *pieces)).map_err(Cut::Client))
            }
        };
        if next.is_none() || this.is_end_stream() {
            this.finished.0.set(true);
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Sent::Nothing => true,
            Sent::Streamed { attempt, .. } => attempt.is_end_stream(),
            Sent::Copied { bytes, trailers } => bytes.is_none() && trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Sent::Nothing => SizeHint::with_exact(0),
            Sent::Streamed { attempt, .. } => attempt.size_hint(),
            Sent::Copied { bytes, .. } => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

impl Answer {
    /// One of ours.
    pub fn local(bytes: Bytes, tail: Option<Box<Tail>>) -> Self {
        let kind = if bytes.is_empty() { Got::Nothing } else { Got::Local(bytes) };
        Self { kind, tail }
    }

    /// The endpoint's.
    pub fn streamed(body: Incoming, deadline: Option<tokio::time::Instant>, tail: Box<Tail>) -> Self {
        let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        let pieces = tail.pieces();
        Self { kind: Got::Streamed { body, deadline, pieces }, tail: Some(tail) }
    }

    fn end(&mut self, ended: Ended) {
        if let Some(tail) = self.tail.take() {
            tail.end(ended);
        }
    }

    fn broke(&mut self, broken: Broken) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.end(match broken {
            Broken::Endpoint(_) => Ended::Reset,
            Broken::Forbidden => Ended::Forbidden,
            Broken::TimedOut => Ended::TimedOut,
        });
        Poll::Ready(Some(Err(broken)))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let (body, deadline, pieces) = match &mut this.kind {
            Got::Streamed { body, deadline, pieces } => (body, deadline, *pieces),
            Got::Nothing => {
                this.end(Ended::Whole);
                return Poll::Ready(None);
            }
            Got::Local(_) => {
                let Got::Local(bytes) = std::mem::replace(&mut this.kind, Got::Nothing) else {
                    return Poll::Ready(None);
                };
                this.tail.iter_mut().for_each(|tail| tail.sent(bytes.len()));
                this.end(Ended::Whole);
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        };
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let last = body.is_end_stream() || frame.is_trailers();
                if let Some(tail) = &mut this.tail {
                    tail.passed(&frame);
                    if tail.is_forbidden() {
                        return this.broke(Broken::Forbidden);
                    }
                }
                if last {
                    this.end(Ended::Whole);
                }
                Poll::Ready(Some(Ok(travelling(frame, pieces))))
            }
            Poll::Ready(Some(Err(cause))) => this.broke(Broken::Endpoint(cause)),
            Poll::Ready(None) => {
                this.end(Ended::Whole);
                Poll::Ready(None)
            }
            Poll::Pending => {
                if deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
                    return this.broke(Broken::TimedOut);
                }
                if this.tail.as_mut().is_some_and(|tail| tail.poll_forbidden(cx).is_ready()) {
                    return this.broke(Broken::Forbidden);
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Got::Nothing => true,
            Got::Local(bytes) => bytes.is_empty(),
            Got::Streamed { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Got::Nothing => SizeHint::with_exact(0),
            Got::Local(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Got::Streamed { body, .. } => body.size_hint(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // A body that had no more to say is dropped unasked.
        let ended = if self.is_end_stream() { Ended::Whole } else { Ended::ClientGone };
        self.end(ended);
    }
}
