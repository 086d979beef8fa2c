//! What is wrong with a VirtualService beyond the shape of its fields, as Istio's admission sees it.

pub(crate) mod rule;

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{
    Destination, MESH_GATEWAY, TcpMatch, TcpRoute, TlsMatch, TlsRoute, VirtualServiceSpec,
    WeightedDestination,
};
use crate::check::{At, Check, Wrong, each, host, labels};
use crate::code::Code;

impl Check for VirtualServiceSpec {
    fn check(&self) -> Result<(), Wrong> {
        check_hosts(self)?;
        each("gateways", &self.gateways, |name| gateway(name))?;
        if self.http.is_empty() && self.tls.is_empty() && self.tcp.is_empty() {
            return Err(Wrong::new("it has no rules; write http, tcp or tls"));
        }
        each("http", &self.http, |one| rule::check(one, self.hosts.is_empty()))?;
        each("tls", &self.tls, |one| tls(one, self))?;
        each("tcp", &self.tcp, tcp)?;
        each("exportTo", &self.export_to, |to| crate::check::export_to(to))
    }
}

fn check_hosts(spec: &VirtualServiceSpec) -> Result<(), Wrong> {
    if spec.hosts.is_empty() {
        if !spec.gateways.is_empty() {
            return Err(Wrong::new("one without hosts is only delegated to; remove it or write hosts")
                .under("gateways"));
        }
        if spec.http.is_empty() || !spec.tcp.is_empty() || !spec.tls.is_empty() {
            return Err(Wrong::new("no host is named; write the names requests are sent to").under("hosts"));
        }
        return Ok(());
    }
    let on_mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|name| name == MESH_GATEWAY);
    let mut seen = BTreeSet::new();
    each("hosts", &spec.hosts, |text| {
        if text == "*" && on_mesh {
            return Err(Wrong::new("* stands for every host, which only a gateway may have; name the host"));
        }
        if text != "*" && text.parse::<IpAddr>().is_err() {
            host(text)?;
        }
        Ok(())
    })?;
    match spec.hosts.iter().position(|text| !seen.insert(text.to_ascii_lowercase())) {
        Some(place) => {
            let sentence = format!("{:?} is there twice; remove one", spec.hosts[place]);
            Err(Wrong::new(sentence).under(&format!("hosts[{place}]")))
        }
        None => Ok(()),
    }
}

/// `mesh`, `name`, `namespace/name`, or the host name of a gateway.
fn gateway(name: &str) -> Result<(), Wrong> {
    let fine = |part: &str| !part.is_empty() && host(part).is_ok() && !part.starts_with('*');
    let (namespace, rest) = name.split_once('/').unwrap_or(("own", name));
    if fine(namespace) && fine(rest) {
        return Ok(());
    }
    Err(Wrong::new(format!("{name:?} is no gateway; write `name`, `namespace/name` or `mesh`")))
}

fn tls(route: &TlsRoute, spec: &VirtualServiceSpec) -> Result<(), Wrong> {
    if route.matches.is_empty() {
        return Err(Wrong::new("a rule for TLS must say which names it is for; write match").under("match"));
    }
    each("match", &route.matches, |one| tls_match(one, spec))?;
    destinations(&route.route)
}

fn tls_match(one: &TlsMatch, spec: &VirtualServiceSpec) -> Result<(), Wrong> {
    if one.sni_hosts.is_empty() {
        return Err(Wrong::new("no name is there; write the server names").under("sniHosts"));
    }
    each("sniHosts", &one.sni_hosts, |name| {
        if name != "*" {
            host(name)?;
        }
        let covered = spec.hosts.iter().any(|host| match host.strip_prefix('*') {
            Some(suffix) => name.ends_with(suffix),
            None => host == name,
        });
        if covered {
            return Ok(());
        }
        Err(Wrong::new(format!("{name:?} is none of the hosts; add it to hosts, or remove it")))
    })?;
    each("gateways", &one.gateways, |name| gateway(name))?;
    labels(&one.source_labels).at("sourceLabels")
}

fn tcp(route: &TcpRoute) -> Result<(), Wrong> {
    each("match", &route.matches, |one: &TcpMatch| {
        each("gateways", &one.gateways, |name| gateway(name))?;
        labels(&one.source_labels).at("sourceLabels")
    })?;
    destinations(&route.route)
}

fn destinations(route: &[WeightedDestination]) -> Result<(), Wrong> {
    if route.is_empty() {
        return Err(Wrong::new("no destination is there; write where connections go").under("route"));
    }
    weights(route.iter().map(|one| one.weight))?;
    each("route", route, |one| destination(&one.destination).at("destination"))
}

/// Of several destinations one must have a weight.
fn weights(mut weights: impl ExactSizeIterator<Item = u32>) -> Result<(), Wrong> {
    if weights.len() > 1 && weights.all(|weight| weight == 0) {
        let wrong = Wrong::new("the weights sum to 0; give at least one destination a weight");
        return Err(wrong.coded(Code::Weights).under("route"));
    }
    Ok(())
}

fn destination(one: &Destination) -> Result<(), Wrong> {
    if one.host == "*" {
        return Err(Wrong::new("* is no destination; name the service").under("host"));
    }
    if one.host.parse::<IpAddr>().is_err() {
        host(&one.host).at("host")?;
    }
    if !one.subset.is_empty() {
        crate::check::label_name(&one.subset).at("subset")?;
    }
    Ok(())
}
