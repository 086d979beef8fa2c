//! Overload: how near the process is to its ceiling on memory, and which new work it may still take on.
//!
//! New work is charged what it may come to hold, which windows and buffers bound ([`Sizes`]), before it takes any of it;
//! the charge ends with the work, or within a second, when what it has taken shows in what is in use. So neither a burst of
//! new work nor a late look can pass the ceiling. New work is refused first, in this order: new connections of those who have more
//! than their share, then every connection and request. What is open goes on, until the last moment before somebody else
//! would end the whole process.

mod charges;
mod level;
mod memory;
mod shown;
mod sizes;

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

pub use charges::Charge;
use charges::{Charges, TURN};
pub use level::Level;
use level::{Account, part};
use memory::Memory;
pub use memory::{Asked, NotACeiling, Origin};
pub use sizes::{Pieces, Sizes};

use crate::metrics::Metrics;

/// Time between looks at memory, when there is plenty of it and when half of it is used.
const LOOK: Duration = Duration::from_millis(100);
const CLOSE_LOOK: Duration = Duration::from_millis(20);
const HALF: u64 = 50;

/// Time after a look within which work that does not fit is no cause for another.
const FRESH: Duration = Duration::from_millis(5);

/// Time between two lines of the log about refused work, and between two looks at the limit itself, which an orchestrator
/// may change while we run.
const LINE: Duration = Duration::from_secs(1);

/// Percent of the ceiling from which on open work must go too.
const LAST: u64 = 95;

/// Time between two such reliefs: what was freed has to be given back first.
const BETWEEN_RELIEFS: Duration = Duration::from_secs(1);

/// A ceiling must leave as much for work as the program used before it had any.
const TIMES_IDLE: u64 = 2;

/// A piece of new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A tunnel: TLS, HTTP/2 and the buffers under them.
    Tunnel,
    /// A connection, or a stream that stands for one.
    Connection,
    /// A request on a connection that is open.
    Request,
    /// The same with a body.
    Upload,
}

/// How much somebody holds already, compared with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No more than a fair share.
    Modest,
    /// More than that, or it is not known.
    Greedy,
}

/// A ceiling under which nothing could be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a memory limit of {} MiB ({origin}) is too low: {} MiB are needed at least; raise it, or set AMBIT_MEMORY_CEILING=off to go without protection",
    .ceiling >> 20, .needed.div_ceil(1 << 20)
)]
pub struct TooLow {
    /// Bytes.
    pub ceiling: u64,
    /// Who set it.
    pub origin: Origin,
    /// Bytes that are needed.
    pub needed: u64,
}

/// The guard of one process's memory; clones share it.
#[derive(Clone, Debug)]
pub struct Overload {
    asked: Asked,
    sizes: Sizes,
    /// What the kernel may keep for a connection, if that counts, in bytes.
    kernel: u64,
    state: Arc<State>,
    watched: Arc<Mutex<Watched>>,
}

#[derive(Debug)]
struct State {
    level: AtomicU8,
    /// Bytes; 0 without a ceiling.
    ceiling: AtomicU64,
    used: AtomicU64,
    charges: Arc<Charges>,
    connections_shed: AtomicU64,
    requests_shed: AtomicU64,
}

/// Whoever holds it looks at memory.
#[derive(Debug)]
struct Watched {
    memory: Memory,
    looked: Instant,
    turned: Instant,
}

impl Overload {
    /// Looks once, so that the first connection is judged by what is so.
    ///
    /// # Errors
    /// When the ceiling leaves no room for work.
    pub fn new(asked: Asked) -> Result<Self, TooLow> {
        let memory = Memory::find(asked);
        let (limit, used) = (memory.limit(), memory.used());
        if let Some((ceiling, origin)) = limit {
            let needed = sizes::LEAST.max(TIMES_IDLE * used);
            if ceiling < needed {
                return Err(TooLow { ceiling, origin, needed });
            }
        }
        let overload = Self::with(asked, memory);
        overload.look(&mut overload.watched());
        Ok(overload)
    }

    fn with(asked: Asked, memory: Memory) -> Self {
        let now = Instant::now();
        let state = State {
            level: AtomicU8::new(Level::Clear as u8),
            ceiling: AtomicU64::new(0),
            used: AtomicU64::new(0),
            charges: Arc::default(),
            connections_shed: AtomicU64::new(0),
            requests_shed: AtomicU64::new(0),
        };
        let sizes = Sizes::within(memory.limit().map(|(bytes, _origin)| bytes));
        let kernel = if memory.has_sockets() { sizes.kernel_cost() } else { 0 };
        let watched = Watched { memory, looked: now, turned: now };
        Self { asked, sizes, kernel, state: Arc::new(state), watched: Arc::new(Mutex::new(watched)) }
    }

    /// Registers what is shown of it.
    pub fn register(&self, metrics: &Metrics) {
        metrics.with(|registry| registry.register_collector(Box::new(shown::Shown(self.clone()))));
    }

    /// How large windows and buffers are.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Whether new work may be taken on: the memory it may take, to be held as long as the work lasts. If not, whoever asked
    /// refuses the work and says so with [`Overload::shed`].
    pub fn admit(&self, work: Work, standing: Standing) -> Option<Charge> {
        if self.ceiling().is_none() {
            return Some(Charge::default());
        }
        if self.level() == Level::Full {
            return None;
        }
        // Charged first and given back by drop on refusal, so that two cannot share the last room.
        let charge = self.charge(work);
        // Perhaps what was taken on since the last look has not taken as much.
        if self.fits(work, standing) || (self.look_again() && self.fits(work, standing)) {
            return Some(charge);
        }
        self.state.level.fetch_max(Level::Tight as u8, Ordering::Relaxed);
        None
    }

    /// Charges what cannot be refused any more, as it follows from work that was taken on.
    pub fn charge(&self, work: Work) -> Charge {
        match self.ceiling() {
            Some(_) => self.state.charges.take(self.cost(work)),
            None => Charge::default(),
        }
    }

    fn cost(&self, work: Work) -> u64 {
        let kernel = match work {
            Work::Tunnel | Work::Connection => self.kernel,
            Work::Request | Work::Upload => 0,
        };
        self.sizes.cost(work) + kernel
    }

    fn fits(&self, work: Work, standing: Standing) -> bool {
        self.level().admits(self.account(), work, standing)
    }

    /// Counts new work that was refused, by whatever limit.
    pub fn shed(&self, work: Work) {
        let counter = match work {
            Work::Tunnel | Work::Connection => &self.state.connections_shed,
            Work::Request | Work::Upload => &self.state.requests_shed,
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

    /// Bytes that new work may still take.
    pub fn charged(&self) -> u64 {
        self.state.charges.sum()
    }

    /// New connections and requests refused so far.
    pub fn refused(&self) -> (u64, u64) {
        let state = &self.state;
        (state.connections_shed.load(Ordering::Relaxed), state.requests_shed.load(Ordering::Relaxed))
    }

    /// Looks again and again, and says in the log when a level begins or ends and how much was refused; never ends. When
    /// nothing is left, `relieve` has to end something that is open, and says what.
    pub async fn watch(self, mut relieve: impl FnMut() -> Option<String>) {
        let limit = self.watched().memory.limit();
        match limit {
            Some((bytes, origin)) => info!(bytes, %origin, used = self.used(), "memory has a ceiling"),
            None => info!("memory has no ceiling: neither AMBIT_MEMORY_CEILING nor the container sets one"),
        }
        let (mut told, mut line, mut relieved) = (self.refused(), Instant::now(), None::<Instant>);
        let mut level = self.level();
        loop {
            tokio::time::sleep(self.pause()).await;
            if line.elapsed() > LINE {
                line = Instant::now();
                self.watched().memory = Memory::find(self.asked);
                told = self.tell(told);
            }
            // Work that did not fit may have raised it since.
            level = self.say(level, self.level());
            self.look(&mut self.watched());
            level = self.say(level, self.level());
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
        let Account { used, charged, ceiling } = self.account();
        if ceiling > 0 && used + charged >= part(ceiling, HALF) { CLOSE_LOOK } else { LOOK }
    }

    fn is_last_moment(&self) -> bool {
        self.ceiling().is_some_and(|ceiling| self.used() >= part(ceiling, LAST))
    }

    fn account(&self) -> Account {
        let ceiling = self.ceiling().unwrap_or(0);
        Account { used: self.used(), charged: self.charged(), ceiling }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        // A look that panicked has left it as it was.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks, unless somebody does or just has; whether it did.
    fn look_again(&self) -> bool {
        let Ok(mut watched) = self.watched.try_lock() else { return false };
        let stale = watched.looked.elapsed() > FRESH;
        if stale {
            self.look(&mut watched);
        }
        stale
    }

    fn look(&self, watched: &mut Watched) {
        watched.looked = Instant::now();
        self.find(watched.memory.used(), watched.memory.limit().map(|(bytes, _origin)| bytes));
        // Only now: what is forgotten has shown in this look, however late it came.
        if watched.turned.elapsed() >= TURN {
            watched.turned = watched.looked;
            self.state.charges.turn();
        }
    }

    /// Takes up what a look has found, in bytes.
    fn find(&self, used: u64, ceiling: Option<u64>) {
        self.state.used.store(used, Ordering::Relaxed);
        self.state.ceiling.store(ceiling.unwrap_or(0), Ordering::Relaxed);
        let level = match ceiling {
            None => Level::Clear,
            Some(_) => self.level().after(self.account()),
        };
        self.state.level.store(level as u8, Ordering::Relaxed);
    }

    /// Says when a level has begun or ended; returns the one that is.
    fn say(&self, before: Level, level: Level) -> Level {
        let Account { used, charged, ceiling } = self.account();
        match level {
            _ if level == before => {}
            Level::Clear => info!(used, charged, ceiling, "memory suffices again: all work is taken on"),
            Level::Tight => warn!(used, charged, ceiling, "memory is short: new connections are refused"),
            Level::Full => {
                warn!(used, charged, ceiling, "memory is nearly used up: all new work is refused")
            }
        }
        level
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

#[cfg(test)]
mod tests;
