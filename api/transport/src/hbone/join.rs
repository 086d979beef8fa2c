//! Joins two streams of tunnels: what one peer sends, the other gets, without a copy; credit, ends and resets pass through.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ambit_api::reason::Reason;
use bytes::Bytes;

use super::{Broken, Stream};
use crate::relay::{Counters, Ended, Ends, Side, Tally};

/// Chunks one direction moves before the other gets its turn.
const TURNS: usize = 16;

/// One direction: what was received and waits for the other side's credit.
#[derive(Default)]
struct Way {
    held: Bytes,
    source: Progress,
    done: Progress,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Progress {
    #[default]
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
    let mut up = Way { held: first, ..Way::default() };
    let mut down = Way::default();
    let mut ends = pin!(Ends::new(until, counters, idle));
    let ended = poll_fn(|cx| {
        let moved = up
            .poll(&mut near, &mut far, (Side::Near, Side::Far), cx, |count| counters.count_sent(count))
            .and_then(|()| {
                let count = |count| counters.count_received(count);
                down.poll(&mut far, &mut near, (Side::Far, Side::Near), cx, count)
            });
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

impl Way {
    /// Moves what can be moved; an error names the side that broke.
    fn poll(
        &mut self,
        from: &mut Stream,
        to: &mut Stream,
        (source, sink): (Side, Side),
        cx: &mut Context<'_>,
        count: impl Fn(usize),
    ) -> Result<(), Side> {
        for _ in 0..TURNS {
            if self.done == Progress::Ended {
                return Ok(());
            }
            if self.fill(from, cx).map_err(|()| source)?.is_pending() {
                return match to.poll_reset(cx) {
                    Poll::Ready(broken) => self.stop(broken, sink),
                    Poll::Pending => Ok(()),
                };
            }
            if self.held.is_empty() {
                self.done = Progress::Ended;
                return to.finish().or_else(|broken| self.stop(broken, sink));
            }
            let credit = match to.poll_credit(cx, self.held.len()) {
                Poll::Ready(Ok(credit)) => credit.min(self.held.len()),
                Poll::Ready(Err(broken)) => return self.stop(broken, sink),
                Poll::Pending => return Ok(()),
            };
            if let Err(broken) = to.send(self.held.split_to(credit)) {
                return self.stop(broken, sink);
            }
            to.want_nothing();
            from.release(credit);
            count(credit);
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Ready with bytes held, or with none at the end.
    fn fill(&mut self, from: &mut Stream, cx: &mut Context<'_>) -> Result<Poll<()>, ()> {
        while self.held.is_empty() && self.source == Progress::Moving {
            match from.poll_chunk(cx) {
                Poll::Ready(Some(Ok(chunk))) => self.held = chunk,
                Poll::Ready(Some(Err(Broken::Reset))) => return Err(()),
                Poll::Ready(Some(Err(Broken::Done)) | None) => self.source = Progress::Ended,
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
        Ok(Poll::Ready(()))
    }

    /// The sink takes no more: the end of this direction alone if its peer has all it wants, of both otherwise.
    fn stop(&mut self, broken: Broken, sink: Side) -> Result<(), Side> {
        self.done = Progress::Ended;
        match broken {
            Broken::Done => Ok(()),
            Broken::Reset => Err(sink),
        }
    }
}
