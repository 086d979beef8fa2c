//! The connections one worker holds, and how a request gets one.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::line::{Shared, Single};
use super::{DialFailed, Dialler, Line, Peer, Protocol, ReachFailed, Target};
use crate::balance::cluster::Cluster;
use crate::limits::Kind;

/// Connections that serve each other's requests. Hashed by address alone; equality looks at all of it.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) at: SocketAddr,
    pub(super) via: Option<SocketAddr>,
    pub(super) protocol: Protocol,
    pub(super) cluster: Option<Arc<Cluster>>,
}

/// One worker's connections. Clones are the same.
#[derive(Clone)]
pub struct Pool(Rc<Inner>);

struct Inner {
    dialler: Dialler,
    entries: RefCell<HashMap<Key, Entry>>,
}

/// The connections of one key.
struct Entry {
    /// Whom they lead to; another workload at the same address starts anew.
    peer: Peer,
    idle: Vec<Single>,
    shared: Vec<Shared>,
    /// Who waits for a connection because no more may be made.
    waiting: VecDeque<oneshot::Sender<Single>>,
    flight: Option<Flight>,
}

/// An HTTP/2 connection being made; carries its failure to those who wait.
type Flight = tokio::sync::watch::Receiver<Option<Rc<DialFailed>>>;

/// What a request for an HTTP/2 connection does next.
enum Step {
    Use(Line),
    Wait(Flight),
    Dial(tokio::sync::watch::Sender<Option<Rc<DialFailed>>>),
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let same_cluster = match (&self.cluster, &other.cluster) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        same_cluster && (self.at, self.via, self.protocol) == (other.at, other.via, other.protocol)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.at.hash(state);
        self.protocol.hash(state);
    }
}

impl Pool {
    /// An empty pool.
    pub fn new(dialler: Dialler) -> Self {
        Self(Rc::new(Inner { dialler, entries: RefCell::default() }))
    }

    /// What dials, for connections that carry no HTTP.
    pub fn dialler(&self) -> &Dialler {
        &self.0.dialler
    }

    /// A connection that takes one request now: one that is open, or a new one.
    pub async fn reach(&self, target: &Target) -> Result<Line, ReachFailed> {
        match target.protocol {
            Protocol::Http1 => self.single(target).await,
            Protocol::Http2 => self.shared(target).await,
        }
    }

    async fn single(&self, target: &Target) -> Result<Line, ReachFailed> {
        let key = target.key();
        while let Some(mut single) = self.0.take_idle(&key, &target.peer) {
            // The connection's own task may not have seen yet that the last answer is over. Where the policy permits
            // fewer by now, this one is closed instead.
            if single.ready().await && !target.is_beyond_limit() {
                return Ok(self.line(key, target, single));
            }
        }
        // Making one is on the heap: most requests find one, and a task is as large as its largest stage.
        Box::pin(self.new_single(key, target)).await
    }

    async fn new_single(&self, key: Key, target: &Target) -> Result<Line, ReachFailed> {
        let Some(limits) = target.limits() else {
            let single = self.0.dialler.single(target, None).await.map_err(ReachFailed::dial)?;
            return Ok(self.line(key, target, single));
        };
        // Counted even where nothing limits them: the next policy may.
        let ceiling = target.terms.connections;
        let slot = match limits.take(Kind::Connections, ceiling) {
            Ok(slot) => slot,
            Err(_full) => {
                let _pending = limits.take(Kind::Pending, target.terms.pending)?;
                let handed = self.0.await_idle(&key, &target.peer);
                tokio::select! {
                    slot = limits.connection(ceiling) => slot,
                    Ok(single) = handed => return Ok(self.line(key, target, single)),
                }
            }
        };
        let single = self.0.dialler.single(target, Some(slot)).await.map_err(ReachFailed::dial)?;
        Ok(self.line(key, target, single))
    }

    fn line(&self, key: Key, target: &Target, single: Single) -> Line {
        let home = Home { pool: Rc::downgrade(&self.0), key, peer: target.peer.clone() };
        Line::Single { single, home }
    }

    async fn shared(&self, target: &Target) -> Result<Line, ReachFailed> {
        let key = target.key();
        loop {
            match self.0.step(&key, target) {
                Step::Use(line) => return Ok(line),
                Step::Wait(mut flight) => {
                    if flight.changed().await.is_ok()
                        && let Some(failed) = flight.borrow().clone()
                    {
                        return Err(ReachFailed::Dial(failed));
                    }
                }
                Step::Dial(news) => return Box::pin(self.new_shared(&key, target, news)).await,
            }
        }
    }

    async fn new_shared(
        &self,
        key: &Key,
        target: &Target,
        news: tokio::sync::watch::Sender<Option<Rc<DialFailed>>>,
    ) -> Result<Line, ReachFailed> {
        let ceiling = target.terms.connections;
        let slot = match target.limits() {
            Some(limits) => match limits.take(Kind::Connections, ceiling) {
                Ok(slot) => Some(slot),
                // One connection carries all of a worker's requests, and other workers' are never idle for long: without
                // one of its own a worker could wait for ever.
                Err(_full) if self.0.has_none(key) => None,
                Err(_full) => {
                    let _pending = limits.take(Kind::Pending, target.terms.pending)?;
                    Some(limits.connection(ceiling).await)
                }
            },
            None => None,
        };
        let made = self.0.dialler.shared(target, slot).await;
        match made {
            Ok(shared) => {
                let line = Line::Shared(shared.enter());
                if let Some(entry) = self.0.entries.borrow_mut().get_mut(key) {
                    entry.flight = None;
                    entry.shared.push(shared);
                }
                Ok(line)
            }
            Err(failed) => {
                let failed = Rc::new(failed);
                // Nobody may wait.
                let _ = news.send(Some(failed.clone()));
                Err(ReachFailed::Dial(failed))
            }
        }
    }

    /// Closes what has been idle too long, and what leads to workloads that are no more.
    pub fn sweep(&self, now: Instant, lives: impl Fn(&Peer) -> bool) {
        self.0.entries.borrow_mut().retain(|_, entry| {
            if !lives(&entry.peer) {
                return false;
            }
            entry.idle.retain(|single| !single.is_closed() && !single.is_stale(now));
            entry.shared.retain(|shared| !shared.is_closed() && !shared.is_stale(now));
            !(entry.idle.is_empty() && entry.shared.is_empty() && entry.is_unwanted())
        });
    }

    /// Connections held, in use or not counting those lent out.
    pub fn held(&self) -> usize {
        self.0.entries.borrow().values().map(|entry| entry.idle.len() + entry.shared.len()).sum()
    }
}

impl Entry {
    fn new(peer: &Peer) -> Self {
        Self {
            peer: peer.clone(),
            idle: Vec::new(),
            shared: Vec::new(),
            waiting: VecDeque::new(),
            flight: None,
        }
    }

    /// Whether nobody waits here.
    fn is_unwanted(&self) -> bool {
        let flying = self.flight.as_ref().is_some_and(|flight| flight.has_changed().is_ok());
        !flying && self.waiting.iter().all(oneshot::Sender::is_closed)
    }
}

impl Inner {
    /// The entry for a peer; connections to whoever had the address before are dropped.
    fn entry<T>(&self, key: &Key, peer: &Peer, act: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = self.entries.borrow_mut();
        if !entries.contains_key(key) {
            entries.insert(key.clone(), Entry::new(peer));
        }
        let entry = entries.get_mut(key).expect("it was there or has just been made");
        if !entry.peer.serves(peer) {
            *entry = Entry::new(peer);
        }
        act(entry)
    }

    fn take_idle(&self, key: &Key, peer: &Peer) -> Option<Single> {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.get_mut(key).filter(|entry| entry.peer.serves(peer))?;
        // The one used last: the others may then reach their idle time.
        while let Some(mut single) = entry.idle.pop() {
            if !single.is_closed() {
                single.set_idle(false);
                return Some(single);
            }
        }
        None
    }

    /// Whether no HTTP/2 connection of that key is open.
    fn has_none(&self, key: &Key) -> bool {
        self.entries.borrow().get(key).is_none_or(|entry| entry.shared.is_empty())
    }

    fn await_idle(&self, key: &Key, peer: &Peer) -> oneshot::Receiver<Single> {
        let (sender, receiver) = oneshot::channel();
        self.entry(key, peer, |entry| {
            entry.waiting.retain(|waiting| !waiting.is_closed());
            entry.waiting.push_back(sender);
        });
        receiver
    }

    /// Takes a connection back after its answer has ended.
    fn give_back(&self, key: &Key, peer: &Peer, mut single: Single) {
        if single.is_closed() || single.is_spent() {
            return;
        }
        let mut entries = self.entries.borrow_mut();
        let entry = match entries.get_mut(key) {
            Some(entry) => entry,
            None => entries.entry(key.clone()).or_insert_with(|| Entry::new(peer)),
        };
        // Another workload has the address meanwhile.
        if !entry.peer.serves(peer) {
            return;
        }
        while let Some(waiting) = entry.waiting.pop_front() {
            match waiting.send(single) {
                Ok(()) => return,
                Err(back) => single = back,
            }
        }
        single.set_idle(true);
        entry.idle.push(single);
    }

    fn step(&self, key: &Key, target: &Target) -> Step {
        self.entry(key, &target.peer, |entry| {
            entry.shared.retain(|shared| !shared.is_closed());
            if let Some(shared) = entry.shared.iter().find(|shared| shared.has_room(target.terms.streams)) {
                return Step::Use(Line::Shared(shared.enter()));
            }
            // A flight whose maker is gone has no sender any more.
            if let Some(flight) = entry.flight.as_ref().filter(|flight| flight.has_changed().is_ok()) {
                return Step::Wait(flight.clone());
            }
            let (news, flight) = tokio::sync::watch::channel(None);
            entry.flight = Some(flight);
            Step::Dial(news)
        })
    }
}

/// Where a connection goes back to.
pub struct Home {
    pool: std::rc::Weak<Inner>,
    key: Key,
    peer: Peer,
}

impl Home {
    pub(super) fn give_back(self, single: Single) {
        if let Some(pool) = self.pool.upgrade() {
            pool.give_back(&self.key, &self.peer, single);
        }
    }
}
