//! Our workloads' certificates: asked for before they are needed, renewed at half life, dropped with the last workload.
//!
//! want → [`schedule`] (pure) says whose turn it is → the CA answers → watchers see [`State::Ready`].

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ambit_api::identity::Identity;
use ambit_transport::certificate::{Certificate, Roots};
use ambit_transport::tls::{self, MeshClient, TlsError};
use ambit_transport::trust::Accepted;
use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinSet};

pub mod ca;
pub mod dump;
pub mod schedule;

pub use ca::{CaClient, IssueError, Issuer};
pub use dump::Dumped;
pub use schedule::Priority;
use schedule::{CONCURRENT, Outcome, Schedule};

/// The clock may jump and a machine may sleep: look again at least this often.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Where a certificate stands.
#[derive(Clone, Debug)]
pub enum State {
    /// Asked for, not there yet.
    Pending,
    /// Usable.
    Ready(Arc<Held>),
    /// Not obtained, and no valid one is held; it is asked for again by itself.
    Failed {
        /// What the CA or the way to it said.
        reason: Arc<str>,
        /// When it is asked for again.
        retry_at: SystemTime,
    },
}

/// A certificate and all that is made from it once.
#[derive(Debug)]
pub struct Held {
    /// The certificate and its key.
    pub certificate: Certificate,
    /// The roots that came with it.
    pub roots: Roots,
    /// For accepting tunnels.
    pub server: Arc<rustls::ServerConfig>,
    /// For opening tunnels.
    pub client: MeshClient,
}

/// The certificates of this node's workloads. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    shared: Arc<Shared>,
}

struct Shared {
    accepted: Accepted,
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Default)]
struct Inner {
    schedule: Schedule,
    states: HashMap<Identity, watch::Sender<State>>,
}

impl State {
    /// The certificate, if there is one that may still be presented.
    pub fn usable_at(&self, now: SystemTime) -> Option<&Arc<Held>> {
        match self {
            Self::Ready(held) if held.certificate.is_valid_at(now) => Some(held),
            _ => None,
        }
    }
}

impl Held {
    /// Makes the TLS configurations.
    pub fn new(certificate: Certificate, roots: Roots, accepted: &Accepted) -> Result<Self, TlsError> {
        let server = tls::server_config(&certificate, &roots, accepted)?;
        let client = tls::client_config(&certificate, &roots)?;
        Ok(Self { certificate, roots, server, client })
    }
}

impl Credentials {
    /// None held yet. `accepted`: the trust domains whose clients we take.
    pub fn new(accepted: Accepted) -> Self {
        let shared = Shared { accepted, inner: Mutex::default(), wake: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// A connection needs it: ahead of everything else. The state follows the certificate through renewals; it closes
    /// when the identity is forgotten.
    pub fn watch(&self, identity: &Identity) -> watch::Receiver<State> {
        self.want(identity, Priority::RealTime)
    }

    /// A local workload will need it soon.
    pub fn prefetch(&self, identity: &Identity) {
        self.want(identity, Priority::Warmup);
    }

    /// The state now, without asking for anything.
    pub fn peek(&self, identity: &Identity) -> Option<State> {
        self.lock().states.get(identity).map(|state| state.borrow().clone())
    }

    /// The last local workload with this identity is gone: the key is dropped.
    pub fn forget(&self, identity: &Identity) {
        let mut inner = self.lock();
        inner.schedule.forget(identity);
        inner.states.remove(identity);
    }

    /// Everything held, for `/config_dump`: public parts only.
    pub fn dump(&self) -> Vec<Dumped> {
        let inner = self.lock();
        let mut all: Vec<_> =
            inner.states.iter().map(|(identity, state)| Dumped::new(identity, &state.borrow())).collect();
        all.sort_by(|one, other| one.identity.cmp(&other.identity));
        all
    }

    /// Obtains and renews until `stop` resolves.
    pub async fn run<I: Issuer>(self, issuer: I, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let issuer = Arc::new(issuer);
        let mut requests = JoinSet::new();
        let mut asked: HashMap<Id, Identity> = HashMap::new();
        loop {
            while requests.len() < CONCURRENT
                && let Some(identity) = self.next_due()
            {
                let (issuer, for_whom) = (issuer.clone(), identity.clone());
                let task = requests.spawn(async move { issuer.issue(&for_whom).await });
                asked.insert(task.id(), identity);
            }
            let pause = self.pause(requests.len());
            tokio::select! {
                () = &mut stop => return,
                Some(done) = requests.join_next_with_id() => {
                    let (id, answer) = match done {
                        Ok((id, answer)) => (id, answer),
                        Err(lost) => (lost.id(), Err(IssueError::Lost)),
                    };
                    if let Some(identity) = asked.remove(&id) {
                        self.finish(&identity, answer);
                    }
                }
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn want(&self, identity: &Identity, priority: Priority) -> watch::Receiver<State> {
        let mut inner = self.lock();
        inner.schedule.want(identity, priority, SystemTime::now());
        let receiver = match inner.states.get(identity) {
            Some(state) => state.subscribe(),
            None => {
                let (sender, receiver) = watch::channel(State::Pending);
                inner.states.insert(identity.clone(), sender);
                receiver
            }
        };
        drop(inner);
        self.shared.wake.notify_one();
        receiver
    }

    fn next_due(&self) -> Option<Identity> {
        self.lock().schedule.next(SystemTime::now())
    }

    fn pause(&self, asked: usize) -> Duration {
        if asked >= CONCURRENT {
            return LOOK_AGAIN;
        }
        let due = self.lock().schedule.wake_at();
        due.map_or(LOOK_AGAIN, |at| at.duration_since(SystemTime::now()).unwrap_or_default()).min(LOOK_AGAIN)
    }

    /// Takes the CA's answer: a good one replaces what is held, a bad one leaves it in force while it is valid.
    fn finish(&self, identity: &Identity, answer: Result<(Certificate, Roots), IssueError>) {
        let now = SystemTime::now();
        let made = answer.and_then(|(certificate, roots)| {
            check(&certificate, identity, now)?;
            Held::new(certificate, roots, &self.shared.accepted).map_err(IssueError::Tls)
        });
        let mut inner = self.lock();
        let Inner { schedule, states } = &mut *inner;
        // Forgotten meanwhile: the new key is dropped too.
        let Some(state) = states.get(identity) else { return };
        match made {
            Ok(held) => {
                let certificate = &held.certificate;
                let outcome = Outcome::Issued { from: certificate.not_before, until: certificate.not_after };
                let renew_at = schedule.finished(identity, outcome, now, &mut rand::rng());
                tracing::info!(%identity, serial = %certificate.serial, renew_in_s = seconds(renew_at, now), "certificate obtained");
                state.send_replace(State::Ready(Arc::new(held)));
            }
            Err(error) => {
                let retry_at = schedule.finished(identity, Outcome::Failed, now, &mut rand::rng());
                let still = state.borrow().usable_at(now).is_some();
                tracing::warn!(%identity, %error, retry_in_s = seconds(retry_at, now), still_valid = still, "no new certificate");
                if !still {
                    state.send_replace(State::Failed { reason: error.to_string().into(), retry_at });
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(certificate: &Certificate, identity: &Identity, now: SystemTime) -> Result<(), IssueError> {
    if certificate.identity != *identity {
        return Err(IssueError::OtherIdentity(certificate.identity.clone()));
    }
    if !certificate.is_valid_at(now) {
        return Err(IssueError::NotValidNow);
    }
    Ok(())
}

fn seconds(at: SystemTime, now: SystemTime) -> u64 {
    at.duration_since(now).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
