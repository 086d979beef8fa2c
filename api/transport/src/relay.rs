//! Joins two byte streams until both have ended: back-pressure, half-close and resets pass through both ways.

mod direction;
mod gate;
mod socket_io;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ambit_api::reason::Reason;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::hbone::Stream;
use crate::socket;
use direction::{Across, Down, Moved, Stop, Up};
use gate::Gated;

/// Consecutive looks without a byte moved after which a relay is idle.
const QUIET_LOOKS: u32 = 2;

/// The other end of a relay.
pub enum Far {
    /// A plain socket.
    Tcp(TcpStream),
    /// A stream of a tunnel.
    Hbone(Stream),
}

/// Bytes carried so far; readable from anywhere while the connection is open.
#[derive(Debug, Default)]
pub struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
}

/// Which end of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The socket that was accepted or captured.
    Near,
    /// What we connected it to.
    Far,
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Both sides ended their data.
    Clean,
    /// A side was reset (or broke), and so was the other.
    Reset(Side),
    /// We cut it, with a reset both ways.
    Cut(Reason),
}

/// What a relay carried and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Bytes from near to far.
    pub sent: u64,
    /// Bytes from far to near.
    pub received: u64,
    /// How it ended.
    pub ended: Ended,
}

impl Counters {
    /// Bytes from near to far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes from far to near.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn sending(&self) -> &AtomicU64 {
        &self.sent
    }

    pub(crate) fn receiving(&self) -> &AtomicU64 {
        &self.received
    }
}

impl Ended {
    /// The reason to report; `None` after a clean end.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Clean => None,
            Self::Reset(_) => Some(Reason::Reset),
            Self::Cut(reason) => Some(reason),
        }
    }
}

/// Carries bytes both ways until both sides have ended, one is reset, `until` says why to stop, or nothing moved for
/// `idle` (give or take half of it).
pub fn relay<U: Future<Output = Reason>>(
    near: TcpStream,
    far: Far,
    counters: &Counters,
    until: U,
    idle: Duration,
) -> Relay<'_, U> {
    let near = Rc::new(near);
    let (tcp, far) = match far {
        Far::Tcp(socket) => {
            (Some(Rc::new(socket)), FarEnd::Tcp { up: Across::default(), down: Across::default() })
        }
        Far::Hbone(mut stream) => {
            stream.forget_headers();
            (None, FarEnd::Hbone { stream: Box::new(stream), up: Up::default(), down: Down::default() })
        }
    };
    let joined =
        Joined { near, tcp, far, up: Progress::Moving, down: Progress::Moving, watched: [None, None] };
    Relay { joined, counters, ends: Gated::new(Ends::new(until, counters, idle)) }
}

pin_project_lite::pin_project! {
    /// A relay at work; see [`relay`]. A type of its own and not an `async fn`, which would hold its arguments twice:
    /// there is one of these per connection.
    #[must_use = "nothing moves unless it is polled"]
    pub struct Relay<'a, U> {
        joined: Joined,
        counters: &'a Counters,
        #[pin]
        ends: Gated<Ends<'a, U>>,
    }
}

impl<U: Future<Output = Reason>> Future for Relay<'_, U> {
    type Output = Tally;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Tally> {
        let this = self.project();
        // Bytes first: what has arrived is carried even if this is the last turn.
        let ended = match this.joined.poll(this.counters, cx) {
            Poll::Ready(ended) => ended,
            Poll::Pending => Ended::Cut(ready!(this.ends.poll(cx))),
        };
        if ended != Ended::Clean {
            this.joined.reset();
        }
        Poll::Ready(Tally { sent: this.counters.sent(), received: this.counters.received(), ended })
    }
}

pin_project_lite::pin_project! {
    /// What ends a relay from outside.
    pub(crate) struct Ends<'a, U> {
        #[pin]
        until: U,
        #[pin]
        quiet: Quiet,
        counters: &'a Counters,
    }
}

impl<'a, U> Ends<'a, U> {
    pub(crate) fn new(until: U, counters: &'a Counters, idle: Duration) -> Self {
        Self { until, quiet: Quiet::new(idle), counters }
    }
}

impl<U: Future<Output = Reason>> Future for Ends<'_, U> {
    type Output = Reason;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reason> {
        let this = self.project();
        match this.until.poll(cx) {
            Poll::Ready(reason) => Poll::Ready(reason),
            Poll::Pending => this.quiet.poll(this.counters, cx).map(|()| Reason::IdleTimeout),
        }
    }
}

pin_project_lite::pin_project! {
    /// Ready when the counters stood still for a while. Looks twice in that time instead of restarting a timer per byte.
    struct Quiet {
        #[pin]
        timer: Sleep,
        look: Duration,
        before: Option<(u64, u64)>,
        still: u32,
    }
}

impl Quiet {
    fn new(idle: Duration) -> Self {
        let look = idle / QUIET_LOOKS;
        Self { timer: tokio::time::sleep(look), look, before: None, still: 0 }
    }

    fn poll(self: Pin<&mut Self>, counters: &Counters, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            ready!(this.timer.as_mut().poll(cx));
            let now = Some((counters.sent(), counters.received()));
            *this.still = if now == *this.before { *this.still + 1 } else { 0 };
            *this.before = now;
            if *this.still >= QUIET_LOOKS {
                return Poll::Ready(());
            }
            this.timer.as_mut().reset(Instant::now() + *this.look);
        }
    }
}

/// Both ends and what is on its way between them.
struct Joined {
    near: Rc<TcpStream>,
    /// The far socket; a stream needs none.
    tcp: Option<Rc<TcpStream>>,
    far: FarEnd,
    up: Progress,
    down: Progress,
    /// Watch over near and far, from when nobody has read there for the first time.
    watched: [Option<Watch>; 2],
}

/// Ready once a socket was reset or broke.
type Watch = Pin<Box<dyn Future<Output = ()>>>;

enum FarEnd {
    Tcp { up: Across, down: Across },
    Hbone { stream: Box<Stream>, up: Up, down: Down },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Moving,
    Ended,
}

impl Joined {
    fn poll(&mut self, counters: &Counters, cx: &mut Context<'_>) -> Poll<Ended> {
        if let Err(Stop(side)) = self.advance(counters, cx) {
            return Poll::Ready(Ended::Reset(side));
        }
        match (self.up, self.down) {
            (Progress::Ended, Progress::Ended) => Poll::Ready(Ended::Clean),
            _ => self.poll_broken(cx).map(Ended::Reset),
        }
    }

    fn advance(&mut self, counters: &Counters, cx: &mut Context<'_>) -> Result<(), Stop> {
        let near = &*self.near;
        let tcp = self.tcp.as_deref().unwrap_or(near);
        if self.up == Progress::Moving {
            let moved = match &mut self.far {
                FarEnd::Tcp { up, .. } => up.poll((near, Side::Near), (tcp, Side::Far), &counters.sent, cx),
                FarEnd::Hbone { stream, up, .. } => up.poll(near, stream, &counters.sent, cx),
            };
            self.up = Progress::after(moved)?;
        }
        if self.down == Progress::Moving {
            let moved = match &mut self.far {
                FarEnd::Tcp { down, .. } => {
                    down.poll((tcp, Side::Far), (near, Side::Near), &counters.received, cx)
                }
                FarEnd::Hbone { stream, down, .. } => down.poll(stream, near, &counters.received, cx),
            };
            self.down = Progress::after(moved)?;
        }
        Ok(())
    }

    /// A direction that waits for its output does not read its input, which is watched for resets meanwhile.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Side> {
        let (up, down) = match &self.far {
            FarEnd::Tcp { up, down } => (up.is_stalled(), down.is_stalled()),
            FarEnd::Hbone { up, .. } => (up.is_stalled(), false),
        };
        let [near, far] = &mut self.watched;
        let watch = |socket: &Rc<TcpStream>| -> Watch { Box::pin(socket_io::broke(socket.clone())) };
        if up && near.get_or_insert_with(|| watch(&self.near)).as_mut().poll(cx).is_ready() {
            return Poll::Ready(Side::Near);
        }
        let tcp = self.tcp.as_ref().unwrap_or(&self.near);
        if down && far.get_or_insert_with(|| watch(tcp)).as_mut().poll(cx).is_ready() {
            return Poll::Ready(Side::Far);
        }
        Poll::Pending
    }

    /// Resets both sides, so that neither takes what it has for complete.
    fn reset(&mut self) {
        socket::arm_reset(&self.near);
        if let Some(tcp) = &self.tcp {
            socket::arm_reset(tcp);
        }
        if let FarEnd::Hbone { stream, .. } = &mut self.far {
            stream.reset();
        }
    }
}

impl Progress {
    fn after(moved: Moved) -> Result<Self, Stop> {
        match moved {
            Poll::Ready(outcome) => outcome.map(|()| Self::Ended),
            Poll::Pending => Ok(Self::Moving),
        }
    }
}
