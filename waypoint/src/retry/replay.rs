//! A request body that can be sent again, as long as it stays small.
//!
//! The body streams through from the client to the attempt, and what has passed is kept up to a bound. A further attempt
//! gets what was kept and then the rest of the stream. Beyond the bound nothing is kept any more, and the body can never
//! be replayed; it still streams. A mirror waits for the whole body and gets it only if it was kept to the end.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

#[cfg(test)]
mod tests;

/// One request's body, at hand for attempts and mirrors.
#[derive(Debug)]
pub struct Replay<B> {
    shared: Rc<RefCell<Shared<B>>>,
}

/// The body as one attempt sends it.
#[derive(Debug)]
pub struct Attempt<B> {
    shared: Rc<RefCell<Shared<B>>>,
    /// Which attempt this is; all but the latest are cut off.
    number: u32,
    /// How many of the kept bytes it has sent.
    sent: usize,
    trailers_sent: bool,
}

/// A whole body that stayed within the bound.
#[derive(Clone, Debug, Default)]
pub struct Whole {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its trailers.
    pub trailers: Option<HeaderMap>,
}

/// A whole body to come.
#[derive(Debug)]
pub struct Tee {
    receiver: oneshot::Receiver<Result<Whole, Incomplete>>,
}

/// Why there is no whole body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// It is larger than what is kept.
    #[error("the body is larger than what is kept")]
    TooLarge,
    /// It never ended.
    #[error("the body did not come to its end")]
    Unfinished,
}

/// Why an attempt's body ends early.
#[derive(Debug, thiserror::Error)]
pub enum Broken<E> {
    /// The client's body failed.
    #[error("the client's body broke off")]
    Client(#[source] E),
    /// A later attempt took over.
    #[error("another attempt has taken over")]
    Superseded,
}

/// What an attempt sends next.
type Next<E> = Result<Frame<Bytes>, Broken<E>>;

#[derive(Debug)]
struct Shared<B> {
    source: B,
    kept: Kept,
    bound: usize,
    attempts: u32,
    /// Something was taken from the source.
    begun: bool,
    /// Nothing more comes from the source.
    ended: bool,
    trailers: Option<HeaderMap>,
    tees: Vec<oneshot::Sender<Result<Whole, Incomplete>>>,
    /// There may be another attempt.
    wanted: bool,
}

/// What has passed so far.
#[derive(Debug)]
enum Kept {
    /// All of it.
    All(BytesMut),
    /// Not all of it: too much, or no longer wanted.
    Gone,
}

impl<B: Body<Data = Bytes> + Unpin> Replay<B> {
    /// Keeps up to `bound` bytes of `source`; with 0 the body merely streams.
    pub fn new(source: B, bound: usize) -> Self {
        // A body that says it will not fit is not worth a byte of memory.
        let fits = bound > 0 && source.size_hint().lower() <= bound as u64;
        let kept = if fits { Kept::All(BytesMut::new()) } else { Kept::Gone };
        let ended = source.is_end_stream();
        let shared = Shared {
            source,
            kept,
            bound,
            attempts: 0,
            begun: false,
            ended,
            trailers: None,
            tees: Vec::new(),
            wanted: true,
        };
        Self { shared: Rc::new(RefCell::new(shared)) }
    }

    /// The body for the next attempt, from its beginning. `None`: what has passed is gone. Earlier attempts get no more
    /// of it.
    pub fn attempt(&self) -> Option<Attempt<B>> {
        let mut shared = self.shared.borrow_mut();
        if !shared.at_hand() {
            return None;
        }
        shared.attempts += 1;
        Some(Attempt { shared: self.shared.clone(), number: shared.attempts, sent: 0, trailers_sent: false })
    }

    /// Whether a further attempt would get the whole body.
    pub fn at_hand(&self) -> bool {
        self.shared.borrow().at_hand()
    }

    /// There will be no further attempt: what was kept may go.
    pub fn release(&self) {
        let mut shared = self.shared.borrow_mut();
        shared.wanted = false;
        shared.forget_if_unwanted();
    }

    /// The whole body once it has passed. To be asked for before the first attempt.
    pub fn tee(&self) -> Tee {
        let (sender, receiver) = oneshot::channel();
        let mut shared = self.shared.borrow_mut();
        shared.tees.push(sender);
        if shared.ended {
            shared.finish();
        } else if !shared.at_hand() || matches!(shared.kept, Kept::Gone) {
            shared.overflow();
        }
        Tee { receiver }
    }
}

impl Tee {
    /// Waits for the end of the body.
    ///
    /// # Errors
    /// When it was too large to keep, or never ended.
    pub async fn whole(self) -> Result<Whole, Incomplete> {
        self.receiver.await.unwrap_or(Err(Incomplete::Unfinished))
    }
}

impl<B> Shared<B> {
    /// Nothing was taken from the source yet, or all that was is still here.
    fn at_hand(&self) -> bool {
        !self.begun || matches!(self.kept, Kept::All(_))
    }

    fn keep(&mut self, data: &Bytes) {
        if let Kept::All(kept) = &mut self.kept {
            if kept.len() + data.len() <= self.bound {
                // A copy, not a reference: a small piece would keep a whole read buffer alive.
                kept.extend_from_slice(data);
            } else {
                self.overflow();
            }
        }
    }

    fn overflow(&mut self) {
        self.kept = Kept::Gone;
        for tee in self.tees.drain(..) {
            // A mirror that has gone does not want to know.
            let _gone = tee.send(Err(Incomplete::TooLarge));
        }
    }

    fn finish(&mut self) {
        self.ended = true;
        if !self.tees.is_empty() {
            let bytes = match &self.kept {
                Kept::All(kept) => Bytes::copy_from_slice(kept),
                Kept::Gone => Bytes::new(),
            };
            let whole = Whole { bytes, trailers: self.trailers.clone() };
            for tee in self.tees.drain(..) {
                let _gone = tee.send(Ok(whole.clone()));
            }
        }
        self.forget_if_unwanted();
    }

    fn forget_if_unwanted(&mut self) {
        if !self.wanted && self.tees.is_empty() {
            self.kept = Kept::Gone;
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Attempt<B> {
    fn is_latest(&self, shared: &Shared<B>) -> bool {
        self.number == shared.attempts
    }

    /// What was kept from earlier attempts and this one has not sent yet.
    fn backlog(&self, shared: &Shared<B>) -> usize {
        match &shared.kept {
            Kept::All(kept) => kept.len() - self.sent,
            Kept::Gone => 0,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Attempt<B> {
    type Data = Bytes;
    type Error = Broken<B::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let shared = this.shared.clone();
        let mut shared = shared.borrow_mut();
        if !this.is_latest(&shared) {
            return Poll::Ready(Some(Err(Broken::Superseded)));
        }
        if let Kept::All(kept) = &shared.kept
            && this.sent < kept.len()
        {
            let piece = Bytes::copy_from_slice(&kept[this.sent..]);
            this.sent = kept.len();
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if !shared.ended {
            return this.stream(&mut shared, context);
        }
        let trailers = shared.trailers.clone().filter(|_| !this.trailers_sent);
        this.trailers_sent = true;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.shared.borrow();
        self.is_latest(&shared)
            && self.backlog(&shared) == 0
            && if shared.ended {
                shared.trailers.is_none() || self.trailers_sent
            } else {
                shared.source.is_end_stream()
            }
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.shared.borrow();
        let backlog = self.backlog(&shared) as u64;
        let rest = if shared.ended { SizeHint::with_exact(0) } else { shared.source.size_hint() };
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(backlog));
        }
        hint.set_lower(rest.lower().saturating_add(backlog));
        hint
    }
}

impl<B: Body<Data = Bytes> + Unpin> Attempt<B> {
    /// The next piece from the client.
    fn stream(&mut self, shared: &mut Shared<B>, context: &mut Context<'_>) -> Poll<Option<Next<B::Error>>> {
        let polled = std::task::ready!(Pin::new(&mut shared.source).poll_frame(context));
        shared.begun = true;
        Poll::Ready(match polled {
            Some(Ok(frame)) => Some(Ok(self.pass(shared, frame))),
            Some(Err(error)) => {
                // A body that broke off is never sent again as if it were whole.
                shared.kept = Kept::Gone;
                shared.tees.clear();
                Some(Err(Broken::Client(error)))
            }
            None => {
                shared.finish();
                None
            }
        })
    }

    fn pass(&mut self, shared: &mut Shared<B>, frame: Frame<Bytes>) -> Frame<Bytes> {
        if let Some(data) = frame.data_ref() {
            shared.keep(data);
            self.sent += data.len();
            // The sender may not ask again after the last piece.
            if shared.source.is_end_stream() {
                shared.finish();
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            shared.trailers = matches!(shared.kept, Kept::All(_)).then(|| trailers.clone());
            self.trailers_sent = true;
            shared.finish();
        }
        frame
    }
}
