//! Overload: how near the process is to its ceiling on memory, and which new work it may still take on.
//!
//! Memory is looked at ten times a second, more often when half of it is used, and as soon as new work may have used up
//! another thirty-second of it, so that a burst cannot pass the ceiling between two looks. New work is refused first, in this order: new
//! connections of those who have more than their share, then every connection and request. What is open goes on, until the
//! last moment before somebody else would end the whole process.

mod memory;

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tracing::{info, warn};

use memory::Memory;
pub use memory::{Asked, NotACeiling, Origin};

use crate::metrics::Metrics;

/// Time between looks at memory, when there is plenty of it and when half of it is used.
const LOOK: Duration = Duration::from_millis(100);
const CLOSE_LOOK: Duration = Duration::from_millis(20);
const HALF: u64 = 50;

/// Part of the ceiling that new work may use up before memory is looked at again.
const LOOKS: u64 = 32;

/// Time between two lines of the log about refused work, and between two looks at the limit itself, which an orchestrator
/// may change while we run.
const LINE: Duration = Duration::from_secs(1);

/// Parts of the ceiling, in percent, at which a level begins, and below which it ends again.
const TIGHT: (u64, u64) = (80, 70);
const FULL: (u64, u64) = (90, 80);

/// Percent of the ceiling from which on open work must go too.
const LAST: u64 = 95;

/// Time between two such reliefs: what was freed has to be given back first.
const BETWEEN_RELIEFS: Duration = Duration::from_secs(1);

/// How near the ceiling is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Everything is taken on.
    Clear,
    /// New connections are refused to those who have more than their share.
    Tight,
    /// All new work is refused.
    Full,
}

/// A piece of new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A tunnel: TLS, HTTP/2 and the buffers under them.
    Tunnel,
    /// A connection, or a stream that stands for one.
    Connection,
    /// A request on a connection that is open.
    Request,
}

/// How much somebody holds already, compared with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No more than a fair share.
    Modest,
    /// More than that, or it is not known.
    Greedy,
}

/// The guard of one process's memory; clones share it.
#[derive(Clone, Debug)]
pub struct Overload {
    asked: Asked,
    state: Arc<State>,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Debug)]
struct State {
    level: AtomicU8,
    /// Bytes; 0 without a ceiling.
    ceiling: AtomicU64,
    used: AtomicU64,
    /// Bytes that new work may take until the next look.
    room: AtomicI64,
    /// Bytes more that the modest may take.
    reserve: AtomicI64,
    connections_shed: AtomicU64,
    requests_shed: AtomicU64,
}

/// What one look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    level: Level,
    room: i64,
    reserve: i64,
}

impl Level {
    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Clear,
            1 => Self::Tight,
            _ => Self::Full,
        }
    }

    /// The level after this one, with so many bytes in use under this ceiling.
    fn after(self, used: u64, ceiling: u64) -> Self {
        let reaches = |percent: u64| used >= part(ceiling, percent);
        let holds =
            |(begins, ends): (u64, u64), level: Self| reaches(if self >= level { ends } else { begins });
        if holds(FULL, Self::Full) {
            Self::Full
        } else if holds(TIGHT, Self::Tight) {
            Self::Tight
        } else {
            Self::Clear
        }
    }
}

impl Work {
    /// Bytes that it may cost at most before the next look.
    fn cost(self) -> i64 {
        match self {
            Self::Tunnel => 256 << 10,
            Self::Connection => 64 << 10,
            Self::Request => 0,
        }
    }
}

impl Look {
    fn new(before: Level, used: u64, ceiling: u64) -> Self {
        let level = before.after(used, ceiling);
        // Once work is refused it stays so until the level ends, not until one connection has gone.
        let mark = part(ceiling, if level == Level::Clear { TIGHT.0 } else { TIGHT.1 });
        let bytes = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let room = (bytes(mark) - bytes(used)).min(bytes(ceiling / LOOKS).max(Work::Tunnel.cost()));
        Self { level, room, reserve: bytes(part(ceiling, FULL.0)) - bytes(mark) }
    }
}

fn part(ceiling: u64, percent: u64) -> u64 {
    ceiling / 100 * percent
}

impl Overload {
    /// Looks once, so that the first connection is judged by what is so.
    pub fn new(asked: Asked) -> Self {
        let state = State {
            level: AtomicU8::new(Level::Clear as u8),
            ceiling: AtomicU64::new(0),
            used: AtomicU64::new(0),
            room: AtomicI64::new(0),
            reserve: AtomicI64::new(0),
            connections_shed: AtomicU64::new(0),
            requests_shed: AtomicU64::new(0),
        };
        let memory = Arc::new(Mutex::new(Memory::find(asked)));
        let overload = Self { asked, state: Arc::new(state), memory };
        overload.look();
        overload
    }

    /// Registers what is shown of it.
    pub fn register(&self, metrics: &Metrics) {
        metrics.with(|registry| registry.register_collector(Box::new(Shown(self.clone()))));
    }

    /// Whether new work may be taken on; if not, whoever asked refuses it and says so with [`Overload::shed`].
    pub fn admits(&self, work: Work, standing: Standing) -> bool {
        if self.ceiling().is_none() {
            return true;
        }
        if self.level() == Level::Full {
            return false;
        }
        if work == Work::Request {
            return true;
        }
        if self.charge(work.cost(), standing) {
            return true;
        }
        if self.level() > Level::Clear {
            return false;
        }
        // Perhaps what was taken on since the last look has not cost as much.
        self.look();
        self.charge(work.cost(), standing)
    }

    /// Takes room for something until the next look, if there is any.
    fn charge(&self, cost: i64, standing: Standing) -> bool {
        let left = self.state.room.fetch_sub(cost, Ordering::Relaxed).saturating_sub(cost);
        let reserve = match standing {
            Standing::Modest => self.state.reserve.load(Ordering::Relaxed),
            Standing::Greedy => 0,
        };
        let fits = left.saturating_add(reserve) >= 0;
        if !fits {
            // What is refused costs nothing.
            self.state.room.fetch_add(cost, Ordering::Relaxed);
        }
        fits
    }

    /// Counts new work that was refused, by whatever limit.
    pub fn shed(&self, work: Work) {
        let counter = match work {
            Work::Tunnel | Work::Connection => &self.state.connections_shed,
            Work::Request => &self.state.requests_shed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How near the ceiling is.
    pub fn level(&self) -> Level {
        Level::from_number(self.state.level.load(Ordering::Relaxed))
    }

    /// Bytes this process may use; `None` if nothing bounds it.
    pub fn ceiling(&self) -> Option<u64> {
        Some(self.state.ceiling.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Bytes in use at the last look.
    pub fn used(&self) -> u64 {
        self.state.used.load(Ordering::Relaxed)
    }

    /// New connections and requests refused so far.
    pub fn refused(&self) -> (u64, u64) {
        let state = &self.state;
        (state.connections_shed.load(Ordering::Relaxed), state.requests_shed.load(Ordering::Relaxed))
    }

    /// Looks again and again, and says in the log when a level begins or ends and how much was refused; never ends. When
    /// nothing is left, `relieve` has to end something that is open, and says what.
    pub async fn watch(self, mut relieve: impl FnMut() -> Option<String>) {
        let limit = self.memory().limit();
        match limit {
            Some((bytes, origin)) => info!(bytes, %origin, used = self.used(), "memory has a ceiling"),
            None => info!("memory has no ceiling: neither AMBIT_MEMORY_CEILING nor the container sets one"),
        }
        let (mut told, mut line, mut relieved) = (self.refused(), Instant::now(), None::<Instant>);
        loop {
            tokio::time::sleep(self.pause()).await;
            if line.elapsed() > LINE {
                line = Instant::now();
                *self.memory() = Memory::find(self.asked);
                told = self.tell(told);
            }
            let before = self.level();
            self.look();
            self.say(before);
            if self.is_last_moment() && relieved.is_none_or(|then| then.elapsed() > BETWEEN_RELIEFS) {
                relieved = Some(Instant::now());
                let used = self.used();
                match relieve() {
                    Some(ended) => {
                        warn!(used, ended, "memory is used up: open work is ended before all of it is")
                    }
                    None => warn!(used, "memory is used up, and nothing that is open can be ended"),
                }
            }
        }
    }

    fn pause(&self) -> Duration {
        let is_half_used = |ceiling| self.used() >= part(ceiling, HALF);
        if self.ceiling().is_some_and(is_half_used) { CLOSE_LOOK } else { LOOK }
    }

    fn is_last_moment(&self) -> bool {
        self.ceiling().is_some_and(|ceiling| self.used() >= part(ceiling, LAST))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A look that panicked has left it as it was.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) {
        let memory = self.memory();
        self.find(memory.used(), memory.limit().map(|(bytes, _origin)| bytes));
    }

    /// Takes up what a look has found, in bytes.
    fn find(&self, used: u64, ceiling: Option<u64>) {
        let look = match ceiling {
            None => Look { level: Level::Clear, room: 0, reserve: 0 },
            Some(ceiling) => Look::new(self.level(), used, ceiling),
        };
        self.state.used.store(used, Ordering::Relaxed);
        self.state.room.store(look.room, Ordering::Relaxed);
        self.state.reserve.store(look.reserve, Ordering::Relaxed);
        self.state.level.store(look.level as u8, Ordering::Relaxed);
        self.state.ceiling.store(ceiling.unwrap_or(0), Ordering::Relaxed);
    }

    /// Says when a level has begun or ended.
    fn say(&self, before: Level) {
        let (level, used, ceiling) = (self.level(), self.used(), self.ceiling().unwrap_or(0));
        if level == before {
            return;
        }
        match level {
            Level::Clear => info!(used, ceiling, "memory suffices again: all work is taken on"),
            Level::Tight => warn!(used, ceiling, "memory is short: new connections are refused"),
            Level::Full => warn!(used, ceiling, "memory is nearly used up: all new work is refused"),
        }
    }

    /// Says how much was refused since `told`; returns what is told now.
    fn tell(&self, told: (u64, u64)) -> (u64, u64) {
        let now = self.refused();
        if now != told {
            let (connections, requests) = (now.0 - told.0, now.1 - told.1);
            warn!(connections, requests, level = %self.level(), "overloaded: new work was refused within the last second");
        }
        now
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clear => "clear",
            Self::Tight => "tight",
            Self::Full => "full",
        })
    }
}

/// What `/metrics` shows.
#[derive(Debug)]
struct Shown(Overload);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Self(overload) = self;
        let (connections, requests) = overload.refused();
        let counters = [
            ("ambit_connections_shed", "New connections refused because a limit was reached", connections),
            ("ambit_requests_shed", "Requests refused because memory was nearly used up", requests),
        ];
        for (name, help, value) in counters {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        let gauges = [
            ("ambit_memory_used_bytes", "Memory in use", overload.used()),
            (
                "ambit_memory_ceiling_bytes",
                "Memory that may be used; 0 is without a ceiling",
                overload.ceiling().unwrap_or(0),
            ),
            (
                "ambit_overload_level",
                "0 all work is taken on, 1 new connections are refused, 2 all new work is refused",
                overload.level() as u64,
            ),
        ];
        for (name, help, value) in gauges {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
