//! A VirtualService's rules for connections, and those for TLS, of which the server's name alone decides.

use ambit_api::wire::waypoint::{TcpMatch, TcpRule};
use ambit_crds::code::Code;
use ambit_crds::meta::ObjectRef;
use ambit_crds::virtual_service::{self as crd, VirtualService, WeightedDestination};

use super::super::backend;
use super::super::draft::{Draft, Place, Remark};
use super::super::hosts::Host;
use super::{action, is_of_mesh};

/// Adds them.
pub(super) fn add(place: &Place<'_>, object: &ObjectRef, one: &VirtualService, draft: &mut Draft) {
    for (at, route) in one.spec.tcp.iter().enumerate() {
        let met: Vec<TcpMatch> =
            route.matches.iter().filter(|one| is_of_mesh(&one.gateways)).map(of_tcp).collect();
        if met.is_empty() && !route.matches.is_empty() {
            let text = "it is for gateways only, which nothing serves yet";
            draft.remark(object, Remark::new(Code::IstioGateway, format!("tcp[{at}].match"), text));
            continue;
        }
        if route.matches.iter().any(|one| !one.source_subnet.is_empty()) {
            draft.not_yet(object, format!("tcp[{at}].match.sourceSubnet"));
        }
        push(place, object, &format!("tcp[{at}]"), (met, &route.route), draft);
    }
    let hostname = place.ctx.hostname(place.service);
    let names_it =
        |host: &String| Host::new(host, &object.namespace, place.ctx.names).closeness(&hostname).is_some();
    for (at, route) in one.spec.tls.iter().enumerate() {
        let met = route.matches.iter().filter(|one| is_of_mesh(&one.gateways));
        let met: Vec<TcpMatch> = met.filter(|one| one.sni_hosts.iter().any(names_it)).map(of_tls).collect();
        if route.matches.iter().any(|one| !one.sni_hosts.iter().all(names_it)) {
            let text = format!(
                "the server's name is not read at a waypoint, so sniHosts other than {hostname} are never met"
            );
            draft.remark(object, Remark::new(Code::FieldMeansLess, format!("tls[{at}].match"), text));
        }
        if !met.is_empty() {
            push(place, object, &format!("tls[{at}]"), (met, &route.route), draft);
        }
    }
}

fn of_tcp(one: &crd::TcpMatch) -> TcpMatch {
    TcpMatch {
        destination_subnets: one.destination_subnets.iter().map(ToString::to_string).collect(),
        port: one.port.map_or(0, |port| u32::from(port.get())),
        source_labels: one.source_labels.clone(),
        source_namespace: one.source_namespace.clone(),
    }
}

fn of_tls(one: &crd::TlsMatch) -> TcpMatch {
    TcpMatch {
        destination_subnets: one.destination_subnets.iter().map(ToString::to_string).collect(),
        port: one.port.map_or(0, |port| u32::from(port.get())),
        source_labels: one.source_labels.clone(),
        source_namespace: one.source_namespace.clone(),
    }
}

fn push(
    place: &Place<'_>,
    object: &ObjectRef,
    here: &str,
    (matches, routes): (Vec<TcpMatch>, &[WeightedDestination]),
    draft: &mut Draft,
) {
    let one = |(at, route): (usize, &WeightedDestination)| {
        let found = action::find(place, &object.namespace, &route.destination);
        let mut backend = found.unwrap_or_else(|why| {
            let field = format!("{here}.route[{at}].destination.{}", why.field);
            let text = format!("{why}; its connections are refused");
            draft.remark(object, Remark::new(why.code, field, text));
            backend::broken(503, why.text)
        });
        backend.weight = if routes.len() == 1 { 1 } else { route.weight };
        backend
    };
    let backends = routes.iter().enumerate().map(one).collect();
    let origin = format!("VirtualService/{}/{}#{here}", object.namespace, object.name);
    draft.tcp.push(TcpRule { name: String::new(), origin, matches, backends });
}
