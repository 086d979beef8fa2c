//! Arrival at a pod: its ztunnel judges, if it is in the mesh.

use std::net::{IpAddr, SocketAddr};

use ambit_api::authz::{self, Attributes};
use ambit_api::identity::Identity;
use ambit_api::policy::PolicyKey;
use ambit_api::reason::Reason;
use ambit_api::workload::{TunnelProtocol, Workload};
use ambit_discovery::resolve::{PROXY_PORTS, inbound};
use ambit_discovery::view::LocalPod;

use super::way::{End, Way};
use super::world::World;

/// Who judges what arrives.
pub(super) const DESTINATION: &str = "ztunnel of the pod";

/// Who connects to a pod or a waypoint.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// As proven by mutual TLS; `None` in plain text.
    pub(super) identity: Option<Identity>,
    /// Its address.
    pub(super) ip: IpAddr,
}

impl Caller {
    /// A pod that calls an address of `family`.
    pub(super) fn of(workload: &Workload, identity: Option<Identity>, family: IpAddr) -> Self {
        let ip = address(workload, family).unwrap_or(IpAddr::from([0, 0, 0, 0]));
        Self { identity, ip }
    }
}

/// The address of a pod: of that family, else any.
pub(super) fn address(workload: &Workload, family: IpAddr) -> Option<IpAddr> {
    ambit_discovery::resolve::waypoint::endpoint_address(workload, family)
}

/// What becomes of a connection to a pod's application.
pub(super) fn deliver(world: &World, workload: &Workload, caller: &Caller, application: SocketAddr) -> Way {
    if workload.tunnel == TunnelProtocol::Plain {
        return outside(workload, application);
    }
    let local = LocalPod {
        namespace: workload.namespace.as_str().into(),
        name: workload.name.as_str().into(),
        service_account: workload.service_account.as_str().into(),
    };
    let known = world.mesh.local(&local);
    let resolved = match caller.identity {
        Some(_) => {
            let found = inbound(&world.mesh, workload, application.ip(), &application.to_string());
            found.map(drop).map_err(|unresolved| (unresolved.reason, unresolved.detail))
        }
        None if PROXY_PORTS.contains(&application.port()) => {
            let says = format!("port {} may not be reached through the proxy", application.port());
            Err((Reason::IllegalDestination, says))
        }
        None => Ok(()),
    };
    if let Err((reason, says)) = resolved {
        return End::Failed { reason, says }.at(DESTINATION);
    }
    let attributes =
        Attributes { peer: caller.identity.clone(), source: caller.ip, destination: application };
    match authz::decide(&known.policies, &attributes) {
        Ok(permit) => End::Delivered("the pod".to_owned())
            .at(DESTINATION)
            .after(DESTINATION, format!("connection allowed {}", by(permit.by()))),
        Err(denied) => End::Denied(denied).at(DESTINATION),
    }
}

/// A pod that is not in the mesh: whatever is sent to it arrives.
pub(super) fn outside(workload: &Workload, application: SocketAddr) -> Way {
    let says =
        format!("port {} of the pod, which is not in the mesh: nobody judges there", application.port());
    let at = if workload.name.is_empty() { "endpoint" } else { "pod" };
    End::Delivered(says).at(at)
}

/// Which policy let something pass.
pub(super) fn by(policy: Option<&PolicyKey>) -> String {
    policy.map_or_else(|| "(no ALLOW policy applies)".to_owned(), |policy| format!("by {policy}"))
}
