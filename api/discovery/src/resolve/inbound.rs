//! One CONNECT arriving at a pod: its authority becomes the application's address.

use std::net::{IpAddr, SocketAddr};

use ambit_api::reason::Reason;
use ambit_api::workload::Workload;

use super::{PROXY_PORTS, Unresolved};
use crate::view::Snapshot;

/// Where an inbound connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The application.
    pub application: SocketAddr,
}

/// Finds the application a CONNECT means. `local` is the address the tunnel arrived at.
///
/// The authority is `ip:port` (which must be this pod's address) or `hostname:port` of a service this pod is an
/// endpoint of (l4-protocols §2.4).
pub fn inbound(
    snapshot: &Snapshot,
    workload: &Workload,
    local: IpAddr,
    authority: &str,
) -> Result<Target, Unresolved> {
    let bad = |detail: String| Unresolved::new(Reason::BadRequest, detail);
    if workload.application_tunnel.is_some() {
        // Handing over with a PROXY header is for proxies in pods; without it the address would be lost silently.
        return Err(bad("this pod expects a PROXY header, which this proxy does not send".to_owned()));
    }
    let application = match authority.parse::<SocketAddr>() {
        Ok(asked) if asked.ip().to_canonical() == local => SocketAddr::new(local, asked.port()),
        Ok(_) => {
            return Err(bad(format!("authority {authority} is not this pod's address {local}")));
        }
        Err(_) => {
            let (hostname, port) = authority
                .rsplit_once(':')
                .and_then(|(hostname, port)| Some((hostname, port.parse::<u16>().ok()?)))
                .ok_or_else(|| {
                    bad(format!("authority {authority:?} is not address:port or hostname:port"))
                })?;
            SocketAddr::new(local, service_port(snapshot, workload, hostname, port)?)
        }
    };
    if application.port() == 0 || PROXY_PORTS.contains(&application.port()) {
        let detail = format!("port {} may not be reached through the proxy", application.port());
        return Err(Unresolved::new(Reason::IllegalDestination, detail));
    }
    Ok(Target { application })
}

fn service_port(
    snapshot: &Snapshot,
    workload: &Workload,
    hostname: &str,
    port: u16,
) -> Result<u16, Unresolved> {
    let unknown = || {
        let detail = format!("{hostname}:{port} is not a port of a service this pod serves");
        Unresolved::new(Reason::NoHealthyEndpoint, detail)
    };
    let entry = snapshot.services.by_hostname(hostname, &workload.namespace).ok_or_else(unknown)?;
    let service = &entry.service;
    let mapped = workload.services.get(&service.key).ok_or_else(unknown)?;
    let own = mapped.iter().find(|mapping| mapping.service_port == port).map(|mapping| mapping.target_port);
    own.or_else(|| {
        let declared = service.ports.iter().find(|declared| declared.service_port == port)?;
        Some(declared.target_port).filter(|target| *target != 0)
    })
    .ok_or_else(unknown)
}
