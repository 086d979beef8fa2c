//! What a waypoint makes of a connection: what was dialled, who calls, and where a backend leads.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ambit_api::identity::Identity;
use ambit_api::reason::Reason;
use ambit_api::route::Client;
use ambit_api::select::Chosen;
use ambit_api::service::{AppProtocol, GatewayAddress, GatewayDestination, Service, ServiceKey};
use ambit_api::waypoint::Serves;
use ambit_api::workload::{NetworkAddress, Uid, Workload};
use rand::Rng;

use super::{Ask, Hop, Tunnel, Unresolved, outbound};
use crate::view::{Found, ServiceEntry, Snapshot};

/// A waypoint at one moment: what it knows, and its own pod.
#[derive(Clone, Copy)]
pub struct Here<'a> {
    /// What it knows.
    pub snapshot: &'a Snapshot,
    /// Its own pod.
    pub pod: &'a Workload,
}

/// What a dialled address means to a waypoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// A service it stands before.
    Service(ServiceKey),
    /// A pod by its own address.
    Workload(Uid),
}

/// Whether a waypoint stands before what a connection was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does: callers are led to it.
    Before,
    /// Callers are led past it by now; it still has what it takes to serve what is under way.
    Leaving,
    /// It knows nothing of it any more.
    Gone,
}

/// A CONNECT that a waypoint takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What it is for.
    pub behind: Behind,
    /// The address that was dialled.
    pub dialled: SocketAddr,
    /// What the dialled port declares.
    pub declared: AppProtocol,
}

/// Why a CONNECT is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Its authority cannot be read.
    #[error("authority {0:?} is neither address:port nor hostname:port")]
    Authority(String),
    /// The waypoint does not stand before that.
    #[error("{0} is not behind this waypoint")]
    Elsewhere(String),
    /// It does not know its own settings.
    #[error("our configuration has not arrived")]
    Unready,
}

/// Where a backend leads.
#[derive(Clone, Debug)]
pub enum Backend<'a> {
    /// To these endpoints, each with its rank: the highest comes first, equals share the load.
    Endpoints(Vec<(usize, Chosen<'a>)>),
    /// To the waypoint that stands before it.
    Beyond(Tunnel),
}

impl NotTaken {
    /// The reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Authority(_) => Reason::BadRequest,
            Self::Elsewhere(_) => Reason::NoRoute,
            Self::Unready => Reason::WorkloadUnknown,
        }
    }
}

impl<'a> Here<'a> {
    /// What a CONNECT asks for.
    pub fn take(&self, authority: &str) -> Result<Taken, NotTaken> {
        let gateway = self.snapshot.waypoint.gateway.as_ref().ok_or(NotTaken::Unready)?;
        let elsewhere = || NotTaken::Elsewhere(authority.to_owned());
        let Ok(dialled) = authority.parse::<SocketAddr>() else {
            return self.take_name(authority, &gateway.namespace);
        };
        let dialled = SocketAddr::new(dialled.ip().to_canonical(), dialled.port());
        let address = NetworkAddress::new(self.pod.network.clone(), dialled.ip());
        match self.snapshot.find(&address, &gateway.namespace).ok_or_else(elsewhere)? {
            Found::Service(entry) => {
                let declared = self.declared(&entry, dialled.port()).ok_or_else(elsewhere)?;
                Ok(Taken { behind: Behind::Service(entry.service.key.clone()), dialled, declared })
            }
            Found::Workload(workload) => {
                let serves = matches!(gateway.serves, Serves::Workloads | Serves::All);
                if !serves || !workload.waypoint.as_ref().is_some_and(|waypoint| self.is_own(waypoint)) {
                    return Err(elsewhere());
                }
                let declared = AppProtocol::Unknown;
                Ok(Taken { behind: Behind::Workload(workload.uid.clone()), dialled, declared })
            }
        }
    }

    /// Clients of other networks send the service's name; it stands for its first address.
    fn take_name(&self, authority: &str, namespace: &str) -> Result<Taken, NotTaken> {
        let (hostname, number) = authority
            .rsplit_once(':')
            .and_then(|(hostname, number)| Some((hostname, number.parse::<u16>().ok()?)))
            .ok_or_else(|| NotTaken::Authority(authority.to_owned()))?;
        let elsewhere = || NotTaken::Elsewhere(authority.to_owned());
        let entry = self.snapshot.services.by_hostname(hostname, namespace).ok_or_else(elsewhere)?;
        let declared = self.declared(entry, number).ok_or_else(elsewhere)?;
        let vip = entry.service.vips.first().ok_or_else(elsewhere)?;
        let dialled = SocketAddr::new(vip.prefix.addr(), number);
        Ok(Taken { behind: Behind::Service(entry.service.key.clone()), dialled, declared })
    }

    /// What a port of a service we stand before declares; `None` if it has no such port, or stands before another
    /// waypoint or none.
    fn declared(&self, entry: &ServiceEntry, number: u16) -> Option<AppProtocol> {
        self.snapshot.waypoint.services.get(&entry.service.key)?;
        let port = entry.service.ports.iter().find(|port| port.service_port == number)?;
        Some(port.protocol)
    }

    /// Whether a waypoint is us or a replica of ours.
    pub fn is_own(&self, waypoint: &GatewayAddress) -> bool {
        match &waypoint.destination {
            GatewayDestination::Service(key) => self.pod.services.contains_key(key),
            GatewayDestination::Address(address) => match self.snapshot.find(address, &self.pod.namespace) {
                Some(Found::Service(entry)) => self.pod.services.contains_key(&entry.service.key),
                Some(Found::Workload(workload)) => workload.uid == self.pod.uid,
                None => false,
            },
        }
    }

    /// Whether the waypoint stands before something.
    pub fn standing(&self, behind: &Behind) -> Standing {
        let known = &self.snapshot.waypoint;
        let own = |waypoint: &GatewayAddress| self.is_own(waypoint);
        let (held, named) = match behind {
            Behind::Service(key) => {
                let entry = self.snapshot.services.get(key);
                let named = entry.is_some_and(|entry| waypoints(&entry.service).any(own));
                (known.services.contains_key(key), named)
            }
            Behind::Workload(uid) => {
                let workload = self.snapshot.workload(uid);
                let named = workload.is_some_and(|workload| workload.waypoint.as_ref().is_some_and(own));
                (known.workloads.contains_key(uid), named)
            }
        };
        match (held, named) {
            (true, true) => Standing::Before,
            (true, false) => Standing::Leaving,
            (false, _) => Standing::Gone,
        }
    }

    /// Where a service, one of its ports and perhaps a subset lead; `None` if there is no such service or subset.
    pub fn backend(
        &self,
        key: &ServiceKey,
        (subset, port): (Option<&str>, u16),
        rng: &mut impl Rng,
    ) -> Option<Result<Backend<'a>, Unresolved>> {
        let entry = self.snapshot.services.get(key)?;
        if self.is_beyond(&entry.service) {
            return Some(self.beyond(entry, port, rng).map(Backend::Beyond));
        }
        let known = &self.snapshot.waypoint;
        let subset = match subset {
            Some(name) => Some(known.destinations.get(key)?.subsets.get(name)?),
            None => None,
        };
        let belongs = |workload: &Workload| {
            subset.is_none_or(|subset| {
                known.workloads.get(&workload.uid).is_some_and(|pod| subset.holds(&pod.labels))
            })
        };
        let endpoints = entry.endpoints.ranked_for(self.pod, port);
        Some(Ok(Backend::Endpoints(endpoints.filter(|(_, chosen)| belongs(chosen.workload)).collect())))
    }

    /// Whether another waypoint stands before a service. One that follows us there would take us for the client, so what is
    /// still under way does not go through it.
    pub fn is_beyond(&self, service: &Service) -> bool {
        let mut named = waypoints(service).peekable();
        named.peek().is_some()
            && !self.snapshot.waypoint.services.contains_key(&service.key)
            && !named.any(|waypoint| self.is_own(waypoint))
    }

    /// The way to the waypoint before a service. It is closed until that can be found (policy.md rule 12).
    pub fn beyond(&self, entry: &ServiceEntry, port: u16, rng: &mut impl Rng) -> Result<Tunnel, Unresolved> {
        let closed = || {
            let detail = format!("the waypoint before {} cannot be found", entry.service.key);
            Unresolved::new(Reason::NoHealthyEndpoint, detail)
        };
        let vips = &entry.service.vips;
        let vip = vips.iter().find(|vip| vip.network == self.pod.network).or(vips.first());
        let dialled = SocketAddr::new(vip.ok_or_else(closed)?.prefix.addr(), port);
        match outbound(self.snapshot, Ask { source: self.pod, dialled, tried: &[] }, rng) {
            Ok(Hop::Tunnel(tunnel)) => Ok(tunnel),
            Ok(Hop::Plain(_)) | Err(_) => Err(closed()),
        }
    }
}

/// The waypoints through which callers are led to a service.
fn waypoints(service: &Service) -> impl Iterator<Item = &GatewayAddress> {
    let weighted = service.weighted_waypoints.iter().map(|weighted| &weighted.waypoint);
    service.waypoint.iter().chain(weighted)
}

/// Who calls, as routes ask for it.
pub fn client(snapshot: &Snapshot, at: &NetworkAddress, identity: Option<&Identity>) -> Client {
    let workload = client_pod(snapshot, at, identity);
    let pod = workload.and_then(|workload| snapshot.waypoint.workloads.get(&workload.uid));
    let namespace = match (identity, workload) {
        (Some(identity), _) => identity.namespace().into(),
        (None, Some(workload)) => workload.namespace.as_str().into(),
        (None, None) => Arc::from(""),
    };
    Client {
        identity: identity.cloned(),
        ip: at.ip,
        namespace,
        labels: pod.map_or_else(Arc::<BTreeMap<_, _>>::default, |pod| pod.labels.clone()),
    }
}

/// The client's pod, by its address. A proven identity outranks the address: a pod of another identity is not the one
/// that called.
pub fn client_pod<'s>(
    snapshot: &'s Snapshot,
    at: &NetworkAddress,
    identity: Option<&Identity>,
) -> Option<&'s Arc<Workload>> {
    let found = snapshot.workloads.by_address(at)?;
    identity.is_none_or(|proven| found.identity().as_ref() == Some(proven)).then_some(found)
}

/// The address of a pod to dial from a waypoint: of the family that was dialled, else any.
pub fn endpoint_address(workload: &Workload, family: IpAddr) -> Option<IpAddr> {
    let own = &workload.addresses;
    own.iter().find(|ip| ip.is_ipv4() == family.is_ipv4()).or(own.first()).copied()
}
