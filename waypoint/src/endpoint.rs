//! Where one attempt goes: an endpoint of the backend, or the waypoint that stands before it.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ambit_api::route::Backend;
use ambit_api::service::{AppProtocol, ServiceKey};
use ambit_api::waypoint::TrafficPolicy;
use ambit_api::workload::{Uid, Workload};
use ambit_discovery::resolve;
use ambit_discovery::resolve::waypoint::{Here, endpoint_address};
use ambit_discovery::view::Snapshot;
use tokio::time::Instant;

use crate::arrive::{Arrival, Bound};
use crate::balance::cluster::ClusterKey;
use crate::balance::{Balancer, Pick};
use crate::known::Known;
use crate::refuse::Refusal;
use crate::settings::Times;
use crate::upstream::{Peer, Terms};

/// Among which endpoints a request's attempts choose.
pub enum Backends {
    /// Those of a cluster.
    Cluster(Rc<Balancer>),
    /// One pod, dialled by its own address.
    Pod(Arc<Workload>, SocketAddr),
    /// Another waypoint's.
    Beyond(Arc<resolve::Tunnel>),
}

/// One endpoint.
pub struct Endpoint {
    /// Who.
    pub peer: Peer,
    /// The application's address, or the service's beyond another waypoint.
    pub at: SocketAddr,
    /// Its load, given back on drop.
    pub pick: Option<Pick>,
}

impl Endpoint {
    /// The pod whose policies judge; beyond another waypoint that one judges.
    pub fn pod(&self) -> Option<Uid> {
        match &self.peer {
            Peer::Endpoint(workload) => Some(workload.uid.clone()),
            Peer::Waypoint(_) => None,
        }
    }

    /// Its policies refused what it was chosen for.
    pub fn refused(&self) {
        self.pick.iter().for_each(Pick::refused);
    }
}

impl Backends {
    /// Of a route's backend.
    pub fn of(snapshot: &Arc<Snapshot>, arrival: &Arrival, backend: &Backend) -> Result<Self, Refusal> {
        let port = backend.port.map_or(arrival.dialled.port(), std::num::NonZeroU16::get);
        Self::service(snapshot, arrival, &backend.service, (backend.subset.as_ref(), port))
    }

    /// Of a service, one of its ports, and perhaps a subset.
    pub fn service(
        snapshot: &Arc<Snapshot>,
        arrival: &Arrival,
        key: &ServiceKey,
        (subset, port): (Option<&Arc<str>>, u16),
    ) -> Result<Self, Refusal> {
        let unknown = || {
            Refusal::Unknown(match subset {
                Some(subset) => format!("{key} {subset}"),
                None => key.to_string(),
            })
        };
        let known = Known::of(arrival, snapshot);
        let pod = known.here.as_ref().ok_or(Refusal::Unready)?;
        let here = Here { snapshot, pod };
        let entry = snapshot.services.get(key).ok_or_else(unknown)?;
        if here.is_beyond(&entry.service) {
            let tunnel = here.beyond(entry, port, &mut rand::rng()).map_err(|_closed| Refusal::NoEndpoint)?;
            return Ok(Self::Beyond(Arc::new(tunnel)));
        }
        let cluster = ClusterKey { service: key.clone(), port, subset: subset.cloned() };
        arrival.world.balancers.get(snapshot, cluster, pod).map(Self::Cluster).ok_or_else(unknown)
    }

    /// Of what was dialled, where no route says otherwise.
    pub fn dialled(snapshot: &Arc<Snapshot>, arrival: &Arrival) -> Result<Self, Refusal> {
        match &arrival.bound {
            Bound::Service(key) => Self::service(snapshot, arrival, key, (None, arrival.dialled.port())),
            Bound::Workload(uid) => {
                let workload = snapshot.workload(uid).ok_or(Refusal::NoEndpoint)?;
                Ok(Self::Pod(workload.clone(), arrival.dialled))
            }
            Bound::Listener(_) => Err(Refusal::NoRoute),
        }
    }

    /// Chooses an endpoint, of `family` if it can.
    pub fn choose(&self, tried: &[Uid], family: IpAddr) -> Result<Endpoint, Refusal> {
        match self {
            Self::Cluster(balancer) => {
                let pick =
                    balancer.choose(tried, Instant::now(), &mut rand::rng()).ok_or(Refusal::NoEndpoint)?;
                let ip = endpoint_address(&pick.workload, family).ok_or(Refusal::NoEndpoint)?;
                let at = SocketAddr::new(ip, pick.port);
                Ok(Endpoint { peer: Peer::Endpoint(pick.workload.clone()), at, pick: Some(pick) })
            }
            Self::Pod(workload, at) => {
                Ok(Endpoint { peer: Peer::Endpoint(workload.clone()), at: *at, pick: None })
            }
            Self::Beyond(tunnel) => {
                Ok(Endpoint { peer: Peer::Waypoint(tunnel.clone()), at: tunnel.authority, pick: None })
            }
        }
    }

    /// The cluster's balancer.
    pub fn balancer(&self) -> Option<&Rc<Balancer>> {
        match self {
            Self::Cluster(balancer) => Some(balancer),
            Self::Pod(..) | Self::Beyond(_) => None,
        }
    }

    /// The cluster's name, for people.
    pub fn cluster(&self) -> Option<ClusterKey> {
        match self {
            Self::Cluster(balancer) => Some(balancer.cluster().key().clone()),
            Self::Pod(..) => None,
            Self::Beyond(tunnel) => {
                let service = tunnel.service.as_ref()?.key.clone();
                Some(ClusterKey { service, port: tunnel.authority.port(), subset: None })
            }
        }
    }

    /// The traffic policy, if there is one.
    pub fn policy(&self) -> Option<&TrafficPolicy> {
        self.balancer().map(|balancer| &**balancer.policy())
    }

    /// What the port declares, where a service has it.
    pub fn declared(&self, snapshot: &Snapshot) -> AppProtocol {
        let (service, port) = match self {
            Self::Cluster(balancer) => {
                let key = balancer.cluster().key();
                (snapshot.services.get(&key.service).map(|entry| entry.service.clone()), key.port)
            }
            Self::Beyond(tunnel) => (tunnel.service.clone(), tunnel.authority.port()),
            Self::Pod(..) => (None, 0),
        };
        let mut ports = service.iter().flat_map(|service| &service.ports);
        let declared = ports.find(|declared| declared.service_port == port);
        declared.map_or(AppProtocol::Unknown, |declared| declared.protocol)
    }
}

/// What a traffic policy says about connections.
pub fn terms(policy: Option<&TrafficPolicy>, times: &Times) -> Terms {
    let or = |said: Option<Duration>, default| said.unwrap_or(default);
    Terms {
        connect: or(policy.and_then(|policy| policy.connect_timeout), times.connect),
        idle: or(policy.and_then(|policy| policy.idle_timeout), times.idle),
        connections: policy.and_then(|policy| policy.max_connections),
        pending: policy.and_then(|policy| policy.max_pending_requests),
        uses: policy.and_then(|policy| policy.max_requests_per_connection),
        streams: policy.and_then(|policy| policy.max_concurrent_streams),
    }
}
