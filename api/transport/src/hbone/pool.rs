//! A worker's tunnels: shared by streams of one source and destination, more of them only under load.
//!
//! A tunnel that was full or busy is used again as soon as it has room. One caller dials while others wait for it; if
//! the dial fails they all learn it at once and the next caller dials anew.

mod load;

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use ambit_api::identity::Identity;
use ambit_api::reason::Reason;
use tokio::sync::watch;

use super::{ConnectError, ConnectRequest, Settings, Stream, Tunnel};
use crate::addr::ServerAddr;
pub use load::{Directory, TunnelLoad};

/// How often a CONNECT that the peer did not act on is sent again over another tunnel.
const ATTEMPTS: usize = 3;

/// What streams must share to share a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The source pod's uid: the tunnel starts in its namespace.
    pub pod: Arc<str>,
    /// The identity we present.
    pub identity: Identity,
    /// Where the tunnel goes.
    pub to: ServerAddr,
    /// Whom we expect there; in one order always, so that equal sets are equal keys.
    pub expected: Arc<[Identity]>,
}

/// One worker's tunnels. Cheap to clone. `E` is what dialling a tunnel can fail with.
pub struct Pool<E>(Rc<Shared<E>>);

struct Shared<E> {
    worker: usize,
    directory: Directory,
    settings: Settings,
    entries: RefCell<HashMap<Key, Entry<E>>>,
}

struct Entry<E> {
    tunnels: Vec<Tunnel>,
    flight: Option<Flight<E>>,
}

/// A dial under way; carries its failure to those who wait.
type Flight<E> = watch::Receiver<Option<Arc<E>>>;

/// What a caller is to do next.
enum Step<E> {
    Use(Tunnel),
    Wait(Flight<E>),
    Dial,
    Refuse,
}

/// Why no stream could be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError<E> {
    /// The tunnel could not be made; every caller that waited for it gets the same error.
    #[error("{0}")]
    Dial(Arc<E>),
    /// The tunnel is there, the CONNECT failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Too many tunnels.
    #[error("too many tunnels")]
    Full,
}

impl<E> OpenError<E> {
    /// The end this failure means for a connection, given what a dial error means.
    pub fn reason(&self, dial: impl FnOnce(&E) -> Reason) -> Reason {
        match self {
            Self::Dial(cause) => dial(cause),
            Self::Connect(cause) => cause.reason(),
            Self::Full => Reason::Overloaded,
        }
    }
}

impl<E> Clone for Pool<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: 'static> Pool<E> {
    /// The pool of worker number `worker`.
    pub fn new(worker: usize, directory: Directory, settings: Settings) -> Self {
        Self(Rc::new(Shared { worker, directory, settings, entries: RefCell::default() }))
    }

    /// A stream to `key`, over a tunnel there is or a new one that `dial` makes (socket, TLS and
    /// [`super::client::connect`]).
    pub async fn open<F>(
        &self,
        key: &Key,
        request: &ConnectRequest,
        dial: impl Fn() -> F,
    ) -> Result<Stream, OpenError<E>>
    where
        F: Future<Output = Result<Tunnel, E>>,
    {
        // Asking is on the heap too: the caller's task is to be no larger than the relay that follows.
        for _ in 1..ATTEMPTS {
            let tunnel = self.tunnel(key, &dial).await?;
            match Box::pin(tunnel.open(request)).await {
                Err(ConnectError::TunnelClosed) => {}
                outcome => return outcome.map_err(Into::into),
            }
        }
        let tunnel = self.tunnel(key, &dial).await?;
        Ok(Box::pin(tunnel.open(request)).await?)
    }

    /// Retires every tunnel that starts in this pod: GOAWAY, no new streams.
    pub fn retire(&self, pod: &str) {
        self.0.retire(|key| &*key.pod == pod);
    }

    /// Retires every tunnel.
    pub fn retire_all(&self) {
        self.0.retire(|_| true);
    }

    /// Tunnels that take new streams now.
    pub fn tunnels(&self) -> usize {
        self.0
            .entries
            .borrow()
            .values()
            .flat_map(|entry| &entry.tunnels)
            .filter(|tunnel| tunnel.is_usable())
            .count()
    }

    async fn tunnel<F>(&self, key: &Key, dial: &impl Fn() -> F) -> Result<Tunnel, OpenError<E>>
    where
        F: Future<Output = Result<Tunnel, E>>,
    {
        loop {
            match self.0.step(key) {
                Step::Use(tunnel) => return Ok(tunnel),
                Step::Refuse => return Err(OpenError::Full),
                // On the heap: a task is as large as its largest stage, and most callers never dial.
                Step::Dial => return Box::pin(self.dial(key, dial)).await,
                Step::Wait(mut flight) => {
                    // An error here means that the dial is over: done, or its caller gave up. Look again.
                    if flight.changed().await.is_ok()
                        && let Some(cause) = flight.borrow().clone()
                    {
                        return Err(OpenError::Dial(cause));
                    }
                }
            }
        }
    }

    async fn dial<F>(&self, key: &Key, dial: &impl Fn() -> F) -> Result<Tunnel, OpenError<E>>
    where
        F: Future<Output = Result<Tunnel, E>>,
    {
        let (news, flight) = watch::channel(None);
        self.0.entries.borrow_mut().entry(key.clone()).or_insert_with(Entry::empty).flight =
            Some(flight.clone());
        // Dropped last on every path, also when this caller is cancelled: waiters then look again.
        let landing = Landing { shared: &self.0, key, flight: &flight };
        let outcome = dial().await;
        let wanted = landing.is_current();
        drop(landing);
        match outcome {
            Ok(tunnel) if wanted => {
                self.0.admit(key, &tunnel);
                Ok(tunnel)
            }
            // The pod went away meanwhile.
            Ok(tunnel) => {
                tunnel.retire();
                Err(ConnectError::TunnelClosed.into())
            }
            Err(cause) => {
                let cause = Arc::new(cause);
                news.send_replace(Some(cause.clone()));
                Err(OpenError::Dial(cause))
            }
        }
    }
}

impl<E> Entry<E> {
    fn empty() -> Self {
        Self { tunnels: Vec::new(), flight: None }
    }
}

impl<E: 'static> Shared<E> {
    /// Decides between a tunnel there is, one under way, and a new one.
    fn step(&self, key: &Key) -> Step<E> {
        let mut entries = self.entries.borrow_mut();
        let all: usize = entries.values().map(|entry| entry.tunnels.len()).sum();
        let Some(entry) = entries.get_mut(key) else {
            return if all < self.settings.max_tunnels { Step::Dial } else { Step::Refuse };
        };
        entry.tunnels.retain(Tunnel::is_usable);
        let lightest =
            entry.tunnels.iter().filter(|one| one.load().has_room()).min_by_key(|one| one.load().queued());
        let more = entry.tunnels.len() < self.settings.max_tunnels_per_key && all < self.settings.max_tunnels;
        match (lightest, &entry.flight) {
            (Some(tunnel), _) if tunnel.load().is_light() => Step::Use(tunnel.clone()),
            (None, Some(flight)) => Step::Wait(flight.clone()),
            (_, None) if more => Step::Dial,
            (Some(tunnel), _) => Step::Use(tunnel.clone()),
            (None, None) => Step::Refuse,
        }
    }

    fn admit(self: &Rc<Self>, key: &Key, tunnel: &Tunnel) {
        self.entries
            .borrow_mut()
            .entry(key.clone())
            .or_insert_with(Entry::empty)
            .tunnels
            .push(tunnel.clone());
        self.directory.list(key, self.worker, tunnel.load());
        let (key, load, shared) = (key.clone(), tunnel.load().clone(), Rc::downgrade(self));
        let (closed, directory) = (tunnel.closing(), self.directory.clone());
        ambit_process::spawn::spawn_local("tunnel-end", async move {
            closed.await;
            directory.unlist(&key, &load);
            shared.upgrade().inspect(|shared| shared.forget(&key));
        });
    }

    /// Drops tunnels that have ended, and the entry with the last of them.
    fn forget(&self, key: &Key) {
        let mut entries = self.entries.borrow_mut();
        if let Some(entry) = entries.get_mut(key) {
            entry.tunnels.retain(Tunnel::is_usable);
            if entry.tunnels.is_empty() && entry.flight.is_none() {
                entries.remove(key);
            }
        }
    }

    fn retire(&self, matches: impl Fn(&Key) -> bool) {
        let gone: Vec<_> = self.entries.borrow_mut().extract_if(|key, _| matches(key)).collect();
        for tunnel in gone.iter().flat_map(|(_, entry)| &entry.tunnels) {
            tunnel.retire();
        }
    }
}

/// Clears the mark of a dial under way.
struct Landing<'a, E> {
    shared: &'a Shared<E>,
    key: &'a Key,
    flight: &'a Flight<E>,
}

impl<E> Landing<'_, E> {
    fn is_current(&self) -> bool {
        let entries = self.shared.entries.borrow();
        let flight = entries.get(self.key).and_then(|entry| entry.flight.as_ref());
        flight.is_some_and(|flight| flight.same_channel(self.flight))
    }
}

impl<E> Drop for Landing<'_, E> {
    fn drop(&mut self) {
        if self.is_current() {
            let mut entries = self.shared.entries.borrow_mut();
            let last = entries.get_mut(self.key).is_some_and(|entry| {
                entry.flight = None;
                entry.tunnels.is_empty()
            });
            if last {
                entries.remove(self.key);
            }
        }
    }
}
