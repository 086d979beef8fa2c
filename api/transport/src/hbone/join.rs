//! Joins two streams of tunnels: what one peer sends, the other gets, without a copy; credit, ends and resets pass through.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ambit_api::reason::Reason;
use bytes::Bytes;

use super::{Broken, Stream};
use crate::relay::{Counters, Ended, Ends, Side, Tally};

/// Chunks one direction moves before the other gets its turn.
const TURNS: usize = 16;

/// One direction: what was received and waits for the other side's credit.
struct Way<'c> {
    from: Side,
    to: Side,
    count: &'c AtomicU64,
    held: Bytes,
    source: Progress,
    done: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Moving,
    Ended,
}

/// As [`crate::relay::relay`], between two streams. `first` was received from `near` before the join, and its credit
/// is still to be given back.
pub async fn join<U: Future<Output = Reason>>(
    (near, first): (Stream, Bytes),
    far: Stream,
    counters: &Counters,
    until: U,
    idle: Duration,
) -> Tally {
    let (mut near, mut far) = (near, far);
    let mut up = Way::new((Side::Near, Side::Far), counters.sending(), first);
    let mut down = Way::new((Side::Far, Side::Near), counters.receiving(), Bytes::new());
    let mut ends = pin!(Ends::new(until, counters, idle));
    let ended = poll_fn(|cx| {
        let moved = up.poll(&mut near, &mut far, cx).and_then(|()| down.poll(&mut far, &mut near, cx));
        match moved {
            Err(side) => return Poll::Ready(Ended::Reset(side)),
            Ok(()) if up.done == Progress::Ended && down.done == Progress::Ended => {
                return Poll::Ready(Ended::Clean);
            }
            Ok(()) => {}
        }
        ends.as_mut().poll(cx).map(Ended::Cut)
    })
    .await;
    if ended != Ended::Clean {
        near.reset();
        far.reset();
    }
    Tally { sent: counters.sent(), received: counters.received(), ended }
}

impl<'c> Way<'c> {
    fn new((from, to): (Side, Side), count: &'c AtomicU64, held: Bytes) -> Self {
        Self { from, to, count, held, source: Progress::Moving, done: Progress::Moving }
    }

    /// Moves what can be moved; an error names the side that broke.
    fn poll(&mut self, from: &mut Stream, to: &mut Stream, cx: &mut Context<'_>) -> Result<(), Side> {
        for _ in 0..TURNS {
            if self.done == Progress::Ended {
                return Ok(());
            }
            if self.fill(from, cx)?.is_pending() {
                return match to.poll_reset(cx) {
                    Poll::Ready(broken) => self.stop(broken),
                    Poll::Pending => Ok(()),
                };
            }
            if self.held.is_empty() {
                self.done = Progress::Ended;
                return to.finish().or_else(|broken| self.stop(broken));
            }
            let credit = match to.poll_credit(cx, self.held.len()) {
                Poll::Ready(Ok(credit)) => credit.min(self.held.len()),
                Poll::Ready(Err(broken)) => return self.stop(broken),
                Poll::Pending => return Ok(()),
            };
            if let Err(broken) = to.send(self.held.split_to(credit)) {
                return self.stop(broken);
            }
            to.want_nothing();
            from.release(credit);
            self.count.fetch_add(credit as u64, Ordering::Relaxed);
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Ready with bytes held, or with none at the end.
    fn fill(&mut self, from: &mut Stream, cx: &mut Context<'_>) -> Result<Poll<()>, Side> {
        while self.held.is_empty() && self.source == Progress::Moving {
            match from.poll_chunk(cx) {
                Poll::Ready(Some(Ok(chunk))) => self.held = chunk,
                Poll::Ready(Some(Err(Broken::Reset))) => return Err(self.from),
                Poll::Ready(Some(Err(Broken::Done)) | None) => self.source = Progress::Ended,
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
        Ok(Poll::Ready(()))
    }

    /// The sink takes no more: the end of this direction alone if its peer has all it wants, of both otherwise.
    fn stop(&mut self, broken: Broken) -> Result<(), Side> {
        self.done = Progress::Ended;
        match broken {
            Broken::Done => Ok(()),
            Broken::Reset => Err(self.to),
        }
    }
}
