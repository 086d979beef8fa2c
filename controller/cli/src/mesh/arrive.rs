//! Arrival at a pod: what its ztunnel makes of a connection, if the pod is in the mesh.

use std::net::{IpAddr, SocketAddr};

use ambit_api::authz::{self, Attributes, Denied, Permit};
use ambit_api::identity::Identity;
use ambit_api::reason::Reason;
use ambit_api::workload::{TunnelProtocol, Workload};
use ambit_discovery::resolve::{PROXY_PORTS, inbound};
use ambit_discovery::view::LocalPod;

use super::world::World;

/// Who connects to a pod or a waypoint.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// As proven by mutual TLS; `None` in plain text.
    pub(crate) identity: Option<Identity>,
    /// Its address.
    pub(crate) ip: IpAddr,
}

/// What becomes of a connection to a pod's application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The pod is not in the mesh: whatever is sent to it arrives.
    Unjudged,
    /// It is let in.
    Allowed(Permit),
    /// A policy forbids it.
    Denied(Denied),
    /// It goes nowhere.
    Failed(Reason, String),
}

impl Caller {
    /// A pod that calls an address of `family`.
    pub(crate) fn of(workload: &Workload, identity: Option<Identity>, family: IpAddr) -> Self {
        let ip = address(workload, family).unwrap_or(NOWHERE);
        Self { identity, ip }
    }

    /// Somebody outside the mesh of whom nothing is known.
    pub(crate) fn plain() -> Self {
        Self { identity: None, ip: NOWHERE }
    }
}

/// Nobody's address.
const NOWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

/// The address of a pod: of that family, else any.
pub(crate) fn address(workload: &Workload, family: IpAddr) -> Option<IpAddr> {
    ambit_discovery::resolve::waypoint::endpoint_address(workload, family)
}

/// Judges a connection to a pod's application.
pub(crate) fn judge(world: &World, workload: &Workload, caller: &Caller, application: SocketAddr) -> Arrival {
    if workload.tunnel == TunnelProtocol::Plain {
        return Arrival::Unjudged;
    }
    let local = LocalPod {
        namespace: workload.namespace.as_str().into(),
        name: workload.name.as_str().into(),
        service_account: workload.service_account.as_str().into(),
    };
    let known = world.mesh.local(&local);
    match caller.identity {
        Some(_) => {
            if let Err(unresolved) =
                inbound(&world.mesh, workload, application.ip(), &application.to_string())
            {
                return Arrival::Failed(unresolved.reason, unresolved.detail);
            }
        }
        None if PROXY_PORTS.contains(&application.port()) => {
            let says = format!("port {} may not be reached through the proxy", application.port());
            return Arrival::Failed(Reason::IllegalDestination, says);
        }
        None => {}
    }
    let attributes =
        Attributes { peer: caller.identity.clone(), source: caller.ip, destination: application };
    match authz::decide(&known.policies, &attributes) {
        Ok(permit) => Arrival::Allowed(permit),
        Err(denied) => Arrival::Denied(denied),
    }
}
