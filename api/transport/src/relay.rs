//! Joins two byte streams until both have ended: back-pressure, half-close and resets pass through both ways.

mod direction;
mod socket_io;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ambit_api::reason::Reason;
use tokio::net::TcpStream;

use crate::hbone::Stream;
use crate::socket;
use direction::{Across, Down, Moved, Stop, Up};

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
///
/// Not an `async fn`: that would keep every argument twice, and there is one of these per connection.
pub fn relay<'a>(
    near: TcpStream,
    far: Far,
    counters: &'a Counters,
    until: impl Future<Output = Reason> + 'a,
    idle: Duration,
) -> impl Future<Output = Tally> + 'a {
    let (tcp, far) = match far {
        Far::Tcp(socket) => (Some(socket), FarEnd::Tcp { up: Across::default(), down: Across::default() }),
        Far::Hbone(stream) => (None, FarEnd::Hbone { stream, up: Up::default(), down: Down::default() }),
    };
    run(near, tcp, far, (counters, idle), until)
}

async fn run(
    near: TcpStream,
    tcp: Option<TcpStream>,
    mut far: FarEnd,
    (counters, idle): (&Counters, Duration),
    until: impl Future<Output = Reason>,
) -> Tally {
    let ended = {
        let mut joined = Joined::new(&near, tcp.as_ref(), &mut far);
        let mut until = pin!(until);
        let mut quiet = pin!(quiet(counters, idle));
        let mut near_broke = pin!(socket_io::broke(&near));
        let mut far_broke = pin!(socket_io::broke(tcp.as_ref().unwrap_or(&near)));
        poll_fn(|cx| {
            // Bytes first: what has arrived is carried even if this is the last turn.
            if let Poll::Ready(ended) = joined.poll(counters, cx) {
                return Poll::Ready(ended);
            }
            let (up_stalled, down_stalled) = joined.stalled();
            if up_stalled && near_broke.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ended::Reset(Side::Near));
            }
            if down_stalled && far_broke.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ended::Reset(Side::Far));
            }
            if let Poll::Ready(reason) = until.as_mut().poll(cx) {
                return Poll::Ready(Ended::Cut(reason));
            }
            quiet.as_mut().poll(cx).map(|()| Ended::Cut(Reason::IdleTimeout))
        })
        .await
    };
    if ended != Ended::Clean {
        reset(&near, tcp.as_ref(), &mut far);
    }
    Tally { sent: counters.sent(), received: counters.received(), ended }
}

/// Resets both sides, so that neither takes what it has for complete.
fn reset(near: &TcpStream, tcp: Option<&TcpStream>, far: &mut FarEnd) {
    socket::arm_reset(near);
    if let Some(tcp) = tcp {
        socket::arm_reset(tcp);
    }
    if let FarEnd::Hbone { stream, .. } = far {
        stream.reset();
    }
}

/// Resolves when the counters stood still for `idle`. Looks twice per `idle` instead of restarting a timer per byte.
async fn quiet(counters: &Counters, idle: Duration) {
    let mut before = None;
    let mut still = 0;
    while still < QUIET_LOOKS {
        tokio::time::sleep(idle / QUIET_LOOKS).await;
        let now = Some((counters.sent(), counters.received()));
        still = if now == before { still + 1 } else { 0 };
        before = now;
    }
}

/// Both ends and what is on its way between them.
struct Joined<'a> {
    near: &'a TcpStream,
    /// The far socket; a stream needs none.
    tcp: &'a TcpStream,
    far: &'a mut FarEnd,
    up: Progress,
    down: Progress,
}

enum FarEnd {
    Tcp { up: Across, down: Across },
    Hbone { stream: Stream, up: Up, down: Down },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Moving,
    Ended,
}

impl<'a> Joined<'a> {
    fn new(near: &'a TcpStream, tcp: Option<&'a TcpStream>, far: &'a mut FarEnd) -> Self {
        Self { near, tcp: tcp.unwrap_or(near), far, up: Progress::Moving, down: Progress::Moving }
    }

    fn poll(&mut self, counters: &Counters, cx: &mut Context<'_>) -> Poll<Ended> {
        if let Err(Stop(side)) = self.advance(counters, cx) {
            return Poll::Ready(Ended::Reset(side));
        }
        match (self.up, self.down) {
            (Progress::Ended, Progress::Ended) => Poll::Ready(Ended::Clean),
            _ => Poll::Pending,
        }
    }

    fn advance(&mut self, counters: &Counters, cx: &mut Context<'_>) -> Result<(), Stop> {
        let (near, tcp) = (self.near, self.tcp);
        if self.up == Progress::Moving {
            let moved = match self.far {
                FarEnd::Tcp { up, .. } => up.poll((near, Side::Near), (tcp, Side::Far), &counters.sent, cx),
                FarEnd::Hbone { stream, up, .. } => up.poll(near, stream, &counters.sent, cx),
            };
            self.up = Progress::after(moved)?;
        }
        if self.down == Progress::Moving {
            let moved = match self.far {
                FarEnd::Tcp { down, .. } => {
                    down.poll((tcp, Side::Far), (near, Side::Near), &counters.received, cx)
                }
                FarEnd::Hbone { stream, down, .. } => down.poll(stream, near, &counters.received, cx),
            };
            self.down = Progress::after(moved)?;
        }
        Ok(())
    }

    /// Which directions wait for their output: nobody reads their sockets then, so they are watched for resets.
    fn stalled(&self) -> (bool, bool) {
        match &*self.far {
            FarEnd::Tcp { up, down } => (up.is_stalled(), down.is_stalled()),
            FarEnd::Hbone { up, .. } => (up.is_stalled(), false),
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
