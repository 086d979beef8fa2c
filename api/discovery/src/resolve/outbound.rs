//! One connection leaving a pod: the dialled address, looked up in the mesh, becomes a hop.

use std::net::SocketAddr;
use std::sync::Arc;

use ambit_api::reason::Reason;
use ambit_api::service::{BalanceMode, GatewayAddress, GatewayDestination, IpFamilies, Service};
use ambit_api::workload::{NetworkAddress, TunnelProtocol, Uid, Workload};
use rand::Rng;

use super::{HBONE_PORT, Hop, PROXY_PORTS, Plain, Tunnel, Unresolved, address_of};
use crate::view::{Found, ServiceEntry, Snapshot};

/// What a connection asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The pod that opened the connection.
    pub source: &'a Workload,
    /// The address it dialled.
    pub dialled: SocketAddr,
    /// Endpoints that have failed for this connection already.
    pub tried: &'a [Uid],
}

/// Finds the way for one connection.
pub fn outbound(snapshot: &Snapshot, ask: Ask<'_>, rng: &mut impl Rng) -> Result<Hop, Unresolved> {
    let dialled = ask.dialled;
    // Not only on the loopback: whoever dials 15001 from outside is not redirected, and would be sent round in circles.
    let own = dialled.ip().is_loopback() || ask.source.addresses.contains(&dialled.ip());
    if own && PROXY_PORTS.contains(&dialled.port()) {
        return Err(Unresolved::new(Reason::IllegalDestination, format!("{dialled} is the proxy's own")));
    }
    let address = NetworkAddress::new(ask.source.network.clone(), dialled.ip());
    match snapshot.find(&address, &ask.source.namespace) {
        Some(Found::Service(entry)) => to_service(snapshot, ask, &entry, rng),
        Some(Found::Workload(workload)) => match &workload.waypoint {
            Some(waypoint) if !is_waypoint(snapshot, ask.source, waypoint) => {
                to_waypoint(snapshot, ask, waypoint, None, rng)
            }
            _ => to_workload(ask, workload, None, dialled.port()),
        },
        None => Ok(Hop::Plain(Plain { server: dialled, workload: None, service: None })),
    }
}

fn to_service(
    snapshot: &Snapshot,
    ask: Ask<'_>,
    entry: &ServiceEntry,
    rng: &mut impl Rng,
) -> Result<Hop, Unresolved> {
    let service = &entry.service;
    if let Some(waypoint) = pick_waypoint(service, rng) {
        return to_waypoint(snapshot, ask, waypoint, Some(service.clone()), rng);
    }
    if service.load_balancing.mode == BalanceMode::Passthrough {
        return Ok(Hop::Plain(Plain { server: ask.dialled, workload: None, service: Some(service.clone()) }));
    }
    let (workload, port) = choose(ask, entry, ask.dialled.port(), rng)?;
    to_workload(ask, workload, Some(service.clone()), port)
}

fn choose(
    ask: Ask<'_>,
    entry: &ServiceEntry,
    port: u16,
    rng: &mut impl Rng,
) -> Result<(Arc<Workload>, u16), Unresolved> {
    let chosen = entry.endpoints.choose(ask.source, port, ask.tried, rng);
    chosen.map(|chosen| (chosen.workload.clone(), chosen.port)).ok_or_else(|| {
        let detail = format!("service {} has no ready endpoint for port {port}", entry.service.key);
        Unresolved::new(Reason::NoHealthyEndpoint, detail)
    })
}

fn to_workload(
    ask: Ask<'_>,
    workload: Arc<Workload>,
    service: Option<Arc<Service>>,
    port: u16,
) -> Result<Hop, Unresolved> {
    let families = service.as_ref().map_or(IpFamilies::Automatic, |service| service.ip_families);
    let allowed = |ip: &std::net::IpAddr| match families {
        IpFamilies::V4Only => ip.is_ipv4(),
        IpFamilies::V6Only => ip.is_ipv6(),
        IpFamilies::Automatic | IpFamilies::Dual => true,
    };
    let Some(ip) = address_of(&workload, ask.dialled.ip())
        .filter(allowed)
        .or_else(|| workload.addresses.iter().copied().find(allowed))
    else {
        let detail = format!("workload {} has no address of the service's family", workload.uid);
        return Err(Unresolved::new(Reason::NoHealthyEndpoint, detail));
    };
    let authority = SocketAddr::new(ip, port);
    if workload.tunnel == TunnelProtocol::Plain {
        return Ok(Hop::Plain(Plain { server: authority, workload: Some(workload), service }));
    }
    let expected = expected(&workload, service.as_deref());
    Ok(Hop::Tunnel(Tunnel {
        server: SocketAddr::new(ip, HBONE_PORT),
        authority,
        expected,
        workload,
        service,
    }))
}

/// The identities an endpoint may present: its own, and those the service vouches for.
fn expected(workload: &Workload, service: Option<&Service>) -> Arc<[ambit_api::identity::Identity]> {
    let vouched = service.into_iter().flat_map(|service| service.subject_alt_names.iter().cloned());
    workload.identity().into_iter().chain(vouched).collect()
}

/// A destination with a waypoint is reached through it or not at all: a waypoint that cannot be found closes
/// the connection (policy.md rule 12).
fn to_waypoint(
    snapshot: &Snapshot,
    ask: Ask<'_>,
    waypoint: &GatewayAddress,
    service: Option<Arc<Service>>,
    rng: &mut impl Rng,
) -> Result<Hop, Unresolved> {
    let missing =
        || Unresolved::new(Reason::WaypointUnresolved, format!("waypoint {waypoint:?} is not known"));
    let (workload, vouched) = match &waypoint.destination {
        GatewayDestination::Address(address) => {
            match snapshot.find(address, &ask.source.namespace).ok_or_else(missing)? {
                Found::Workload(workload) => (workload, None),
                Found::Service(entry) => {
                    let (workload, _) =
                        choose(ask, &entry, waypoint.hbone_port, rng).map_err(|_| missing())?;
                    (workload, Some(entry.service.clone()))
                }
            }
        }
        GatewayDestination::Service(key) => {
            let entry = snapshot.service(key).ok_or_else(missing)?;
            let (workload, _) = choose(ask, entry, waypoint.hbone_port, rng).map_err(|_| missing())?;
            (workload, Some(entry.service.clone()))
        }
    };
    let ip = address_of(&workload, ask.dialled.ip()).ok_or_else(missing)?;
    Ok(Hop::Tunnel(Tunnel {
        server: SocketAddr::new(ip, waypoint.hbone_port),
        authority: ask.dialled,
        expected: expected(&workload, vouched.as_deref()),
        workload,
        service,
    }))
}

fn pick_waypoint<'a>(service: &'a Service, rng: &mut impl Rng) -> Option<&'a GatewayAddress> {
    let total: u64 = service.weighted_waypoints.iter().map(|weighted| u64::from(weighted.weight)).sum();
    if total == 0 {
        return service.waypoint.as_ref();
    }
    let mut mark = rng.random_range(0..total);
    for weighted in &service.weighted_waypoints {
        let weight = u64::from(weighted.weight);
        if mark < weight {
            return Some(&weighted.waypoint);
        }
        mark -= weight;
    }
    None
}

/// Whether the source is a replica of that waypoint, which must not be sent back to itself.
fn is_waypoint(snapshot: &Snapshot, source: &Workload, waypoint: &GatewayAddress) -> bool {
    match &waypoint.destination {
        GatewayDestination::Service(key) => source.services.contains_key(key),
        GatewayDestination::Address(address) => {
            let own = source.network == address.network && source.addresses.contains(&address.ip);
            own || matches!(snapshot.find(address, &source.namespace),
                Some(Found::Service(entry)) if source.services.contains_key(&entry.service.key))
        }
    }
}
