//! One worker's connections towards endpoints: kept per endpoint, port and protocol, used again, closed when the endpoint
//! is gone or they were idle too long.
//!
//! [`Target`] → [`Pool::reach`] → [`Line`] → [`Line::send`] → an answer and a [`Lease`], which gives the connection back
//! once the answer has ended.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ambit_api::workload::Workload;
use ambit_discovery::resolve;

use crate::balance::cluster::Cluster;
use crate::limits::{Kind, Limits, Overflow};

mod dial;
mod line;
mod pool;

pub use dial::{DialFailed, Dialler, Socket, certificate};
pub use line::{Lease, Line, SendFailed};
use pool::Key;
pub use pool::{Home, Pool};

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// One request at a time.
    Http1,
    /// Many at once, with prior knowledge.
    Http2,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A workload, through its tunnel if it has one.
    Endpoint(Arc<Workload>),
    /// Another waypoint, which stands before the destination.
    Waypoint(Arc<resolve::Tunnel>),
}

/// Where one attempt goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// Who.
    pub peer: Peer,
    /// The application's address there, or the service's where another waypoint chooses.
    pub at: SocketAddr,
    /// What to speak.
    pub protocol: Protocol,
    /// Whose limits count; `None` for a pod that was dialled by its own address.
    pub cluster: Option<Arc<Cluster>>,
    /// What the traffic policy says about connections.
    pub terms: Terms,
}

/// What a traffic policy says about connections.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Bound on connecting.
    pub connect: Duration,
    /// Bound on being idle.
    pub idle: Duration,
    /// Connections at once.
    pub connections: Option<NonZeroU32>,
    /// Requests that wait for one.
    pub pending: Option<NonZeroU32>,
    /// Requests one connection may carry.
    pub uses: Option<NonZeroU32>,
    /// Requests at once on one HTTP/2 connection.
    pub streams: Option<NonZeroU32>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ReachFailed {
    /// It could not be made. Shared by all who waited for it.
    #[error("{0}")]
    Dial(Rc<DialFailed>),
    /// A limit.
    #[error("{0}")]
    Overflow(#[from] Overflow),
}

impl Peer {
    /// Whether connections to `self` may serve `other`: the same workload, reached the same way, proving the same
    /// identity.
    fn serves(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Endpoint(one), Self::Endpoint(other)) => {
                Arc::ptr_eq(one, other)
                    || (one.uid == other.uid
                        && one.tunnel == other.tunnel
                        && one.trust_domain == other.trust_domain
                        && one.namespace == other.namespace
                        && one.service_account == other.service_account)
            }
            (Self::Waypoint(one), Self::Waypoint(other)) => {
                one.workload.uid == other.workload.uid && one.expected == other.expected
            }
            _ => false,
        }
    }

    fn via(&self) -> Option<SocketAddr> {
        match self {
            Self::Endpoint(_) => None,
            Self::Waypoint(tunnel) => Some(tunnel.server),
        }
    }

    /// The workload at the other end.
    pub fn workload(&self) -> &Arc<Workload> {
        match self {
            Self::Endpoint(workload) => workload,
            Self::Waypoint(tunnel) => &tunnel.workload,
        }
    }
}

impl Target {
    fn key(&self) -> Key {
        Key { at: self.at, via: self.peer.via(), protocol: self.protocol, cluster: self.cluster.clone() }
    }

    fn limits(&self) -> Option<&Arc<Limits>> {
        self.cluster.as_ref().map(|cluster| &cluster.limits)
    }

    /// Whether more connections are open than the policy permits by now.
    fn is_beyond_limit(&self) -> bool {
        let Some((ceiling, limits)) = self.terms.connections.zip(self.limits()) else { return false };
        limits.held(Kind::Connections) > ceiling.get()
    }
}

impl ReachFailed {
    fn dial(failed: DialFailed) -> Self {
        Self::Dial(Rc::new(failed))
    }
}
