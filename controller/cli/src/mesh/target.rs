//! Names to addresses, as the calling pod would find them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ambit_api::service::Service;
use ambit_api::workload::Workload;
use ambit_discovery::view::Snapshot;

use crate::failure::Failure;

/// Names that are suggested in place of one that is none.
const SUGGESTED: usize = 8;

/// What is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The addresses that the name stands for; a client takes any.
    pub(crate) dialled: Vec<SocketAddr>,
    /// The authority a client sends.
    pub(crate) authority: String,
}

/// The calling pod, by `namespace/name`.
pub(crate) fn source<'s>(mesh: &'s Snapshot, name: &str) -> Result<&'s Arc<Workload>, Failure> {
    let Some((namespace, pod)) = name.split_once('/') else {
        return Err(Failure::new(format!("{name:?} is no pod"), "write NAMESPACE/POD"));
    };
    find_pod(mesh, namespace, pod).ok_or_else(|| {
        let mut known: Vec<String> = mesh
            .workloads
            .iter()
            .filter(|one| one.namespace == namespace && !one.name.is_empty())
            .map(|one| format!("{}/{}", one.namespace, one.name))
            .collect();
        known.sort();
        Failure::new(
            format!("there is no running pod {name}"),
            suggest(&known, "no pod runs in that namespace"),
        )
    })
}

/// What a name or address stands for, to a caller in `namespace`.
pub(crate) fn target(mesh: &Snapshot, namespace: &str, text: &str) -> Result<Target, Failure> {
    if let Ok(dialled) = text.parse::<SocketAddr>() {
        return Ok(Target {
            authority: authority(&dialled.ip().to_string(), dialled.port()),
            dialled: vec![dialled],
        });
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(Failure::new(format!("{text} has no port"), "write IP:PORT"));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => {
            let number = port.parse::<u16>();
            let number = number
                .map_err(|_| Failure::new(format!("{port:?} is no port"), "write a number from 1 to 65535"));
            (name, Some(number?))
        }
        None => (text, None),
    };
    let (within, own) = name.split_once('/').unwrap_or((namespace, name));
    if let Some(service) = find_service(mesh, within, own, name) {
        let host = if name.contains('/') { format!("{own}.{within}") } else { name.to_owned() };
        return of_service(mesh, &service, port, &host);
    }
    let Some(pod) = find_pod(mesh, within, own) else {
        return Err(unknown(mesh, within, own));
    };
    let no_port = || Failure::new(format!("{text} is a pod"), "write its port too: NAMESPACE/POD:PORT");
    let port = port.ok_or_else(no_port)?;
    let no_address = || Failure::new(format!("the pod {text} has no address"), "wait until it runs");
    let ip = *pod.addresses.first().ok_or_else(no_address)?;
    Ok(Target { dialled: vec![SocketAddr::new(ip, port)], authority: authority(&ip.to_string(), port) })
}

fn unknown(mesh: &Snapshot, namespace: &str, name: &str) -> Failure {
    let all = || mesh.services.iter().map(|entry| &entry.service);
    let named = |service: &&Arc<Service>| service.name == name || *service.key.namespace == *namespace;
    let mut known: Vec<String> =
        all().filter(named).map(|service| format!("{}/{}", service.key.namespace, service.name)).collect();
    known.sort_by_key(|full| (!full.ends_with(&format!("/{name}")), full.clone()));
    let says = format!("there is no Service or running pod {namespace}/{name}");
    Failure::new(says, suggest(&known, "no Service has that name or is in that namespace"))
}

/// What there is instead.
fn suggest(known: &[String], none: &str) -> String {
    match known {
        [] => none.to_owned(),
        known => format!("there is {}", known[..known.len().min(SUGGESTED)].join(", ")),
    }
}

fn of_service(mesh: &Snapshot, service: &Service, port: Option<u16>, host: &str) -> Result<Target, Failure> {
    let name = &service.key.hostname;
    let port = match (port, &service.ports[..]) {
        (Some(port), _) => port,
        (None, [only]) => only.service_port,
        (None, ports) => {
            let ports: Vec<String> = ports.iter().map(|port| port.service_port.to_string()).collect();
            let mend = match ports.as_slice() {
                [] => "give it one".to_owned(),
                ports => format!("write which: {host}:{}", ports.join(&format!(" or {host}:"))),
            };
            return Err(Failure::new(format!("{name} has several ports or none"), mend));
        }
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
        let says = format!("the name {name} stands for no address: it has no virtual one and no ready pod");
        return Err(Failure::new(
            says,
            format!("see why its pods are not ready: ambit describe service {host}"),
        ));
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
