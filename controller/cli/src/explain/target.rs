//! Names to addresses, as the calling pod would find them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ambit_api::service::Service;
use ambit_api::workload::Workload;
use ambit_discovery::view::Snapshot;

use super::question::Unasked;

/// What is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The addresses that the name stands for; a client takes any.
    pub(super) dialled: Vec<SocketAddr>,
    /// The authority a client sends.
    pub(super) authority: String,
}

/// The calling pod, by `namespace/name`.
pub(super) fn source<'s>(mesh: &'s Snapshot, name: &str) -> Result<&'s Arc<Workload>, Unasked> {
    let bad = |text: String| Unasked::Target(text);
    let (namespace, pod) =
        name.split_once('/').ok_or_else(|| bad(format!("{name:?} is no pod; write NAMESPACE/POD")))?;
    find_pod(mesh, namespace, pod).ok_or_else(|| bad(format!("there is no running pod {name}")))
}

/// What a name or address stands for, to a caller in `namespace`.
pub(super) fn target(mesh: &Snapshot, namespace: &str, text: &str) -> Result<Target, Unasked> {
    if let Ok(dialled) = text.parse::<SocketAddr>() {
        return Ok(Target {
            authority: authority(&dialled.ip().to_string(), dialled.port()),
            dialled: vec![dialled],
        });
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(Unasked::Target(format!("{text} has no port; write IP:PORT")));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => {
            let number = port.parse::<u16>();
            (name, Some(number.map_err(|_| Unasked::Target(format!("{port:?} is no port")))?))
        }
        None => (text, None),
    };
    let (within, own) = name.split_once('/').unwrap_or((namespace, name));
    if let Some(service) = find_service(mesh, within, own, name) {
        let host = if name.contains('/') { format!("{own}.{within}") } else { name.to_owned() };
        return of_service(mesh, &service, port, &host);
    }
    let Some(pod) = find_pod(mesh, within, own) else {
        return Err(Unasked::Target(format!("there is no Service or running pod {within}/{own}")));
    };
    let port = port.ok_or_else(|| Unasked::Target(format!("{text} is a pod; write its port too")))?;
    let ip = pod.addresses.first();
    let ip = *ip.ok_or_else(|| Unasked::Target(format!("the pod {text} has no address")))?;
    Ok(Target { dialled: vec![SocketAddr::new(ip, port)], authority: authority(&ip.to_string(), port) })
}

fn of_service(mesh: &Snapshot, service: &Service, port: Option<u16>, host: &str) -> Result<Target, Unasked> {
    let bad = |text: String| Unasked::Target(text);
    let name = &service.key.hostname;
    let port = match (port, &service.ports[..]) {
        (Some(port), _) => port,
        (None, [only]) => only.service_port,
        (None, _) => return Err(bad(format!("{name} has several ports or none; write which"))),
    };
    let vips = service.vips.iter().map(|vip| vip.prefix.addr());
    let mut ips: Vec<IpAddr> = vips.clone().filter(IpAddr::is_ipv4).chain(vips).take(1).collect();
    if ips.is_empty() {
        // Headless: its name stands for its pods.
        let entry = mesh.services.get(&service.key).into_iter();
        let pods = entry.flat_map(|entry| entry.endpoints.endpoints().iter().map(|one| one.workload.clone()));
        ips = pods.filter_map(|pod| pod.addresses.first().copied()).collect();
    }
    if ips.is_empty() {
        return Err(bad(format!(
            "the name {name} stands for no address: it has no virtual one and no ready pod"
        )));
    }
    let dialled = ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    Ok(Target { dialled, authority: authority(host, port) })
}

fn find_pod<'s>(mesh: &'s Snapshot, namespace: &str, name: &str) -> Option<&'s Arc<Workload>> {
    mesh.workloads.by_pod(&namespace.into(), &name.into())
}

/// By its short name in a namespace, or by any name that a pod there would find it by.
fn find_service(mesh: &Snapshot, namespace: &str, own: &str, name: &str) -> Option<Arc<Service>> {
    let all = || mesh.services.iter().map(|entry| &entry.service);
    let short = all().find(|service| *service.key.namespace == *namespace && service.name == own);
    let (first, rest) = name.split_once('.').unwrap_or((name, ""));
    let long = || {
        all().find(|service| {
            let hostname = &*service.key.hostname;
            let starts = hostname.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
            hostname == name || (service.name == first && !rest.is_empty() && starts)
        })
    };
    short.or_else(long).cloned()
}

/// As HTTP clients write it.
fn authority(host: &str, port: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == 80 { host } else { format!("{host}:{port}") }
}
