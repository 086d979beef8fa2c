//! Ports of policies that are none of the pods'.

use std::collections::BTreeSet;

use ambit_crds::authorization_policy::{AuthorizationPolicy, Scope, Values};
use ambit_crds::code::Code;
use ambit_crds::pod::{Pod, Protocol};
use ambit_crds::service::Service;

use super::{Context, Report, policy};
use crate::objects::Key;
use crate::translate::record::Record;
use crate::translate::service::tcp_ports;

/// The ports that pods are known to have, and those that lead to them.
#[derive(Debug, Default)]
pub(super) struct Known {
    own: BTreeSet<u16>,
    services: BTreeSet<u16>,
}

/// What a pod's containers declare for TCP.
pub(super) fn declared(pod: &Pod) -> impl Iterator<Item = u16> {
    let ports = pod.serving_containers().flat_map(|container| &container.ports);
    ports.filter(|port| port.protocol == Protocol::Tcp).map(|port| port.container_port)
}

impl Known {
    /// Of these pods; nothing if there are none, or if one of them declares no port, so that it may listen anywhere.
    pub(super) fn of<'a>(
        ctx: &Context<'_>,
        pods: impl Iterator<Item = (&'a Key, &'a Record)>,
    ) -> Option<Self> {
        let mut known = Self::default();
        for (key, record) in pods {
            let pod = ctx.state.objects.get::<Pod>(key)?;
            declared(pod).next()?;
            known.own.extend(declared(pod));
            for (port, target) in record.members.iter().flat_map(|member| &member.ports) {
                known.services.insert(*port);
                known.own.extend(*target);
            }
        }
        (!known.own.is_empty()).then_some(known)
    }

    /// Whether a number is one of them.
    pub(super) fn has(&self, port: u16) -> bool {
        self.own.contains(&port) || self.services.contains(&port)
    }

    /// Whether a number is one of the pods' own.
    pub(super) fn is_own(&self, port: u16) -> bool {
        self.own.contains(&port)
    }

    /// The pods' own, for people.
    pub(super) fn list(&self) -> String {
        list(&self.own)
    }
}

fn list(ports: &BTreeSet<u16>) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

/// Ports of an AuthorizationPolicy.
pub(super) fn of_policy(ctx: &Context<'_>, key: &Key, one: &AuthorizationPolicy, report: &mut Report) {
    if written(one).next().is_none() {
        return;
    }
    if let Scope::Targets(_) = &one.spec.scope {
        return of_services(ctx, key, one, report);
    }
    let Some(known) = Known::of(ctx, policy::covered(ctx, key)) else { return };
    for (field, port) in written(one).filter(|(_, port)| !known.has(*port)) {
        let message = format!("no pod that it covers has port {port}");
        let mend = format!("write a port of the pods: {}", known.list());
        report.warning(Code::PolicyPort, &field, message, mend);
    }
}

/// A policy of Services sees the port that was dialled.
fn of_services(ctx: &Context<'_>, key: &Key, one: &AuthorizationPolicy, report: &mut Report) {
    let Scope::Targets(targets) = &one.spec.scope else { return };
    let mut ports = BTreeSet::new();
    for target in targets {
        let service = ctx.state.objects.get::<Service>(&Key::new(&key.namespace, &target.name));
        let Some(service) = service.filter(|_| target.kind == "Service") else { return };
        ports.extend(tcp_ports(service).map(|port| port.port));
    }
    for (field, port) in written(one).filter(|(_, port)| !ports.contains(port)) {
        let message =
            format!("port {port} is none of the Service's, and the policy sees the port that is dialled");
        report.warning(
            Code::PolicyPort,
            &field,
            message,
            format!("write a port of the Service: {}", list(&ports)),
        );
    }
}

/// Every port that it names, with its field.
fn written(one: &AuthorizationPolicy) -> impl Iterator<Item = (String, u16)> {
    one.spec.rules.iter().enumerate().flat_map(|(at, rule)| {
        let operations = rule.to.iter().enumerate().flat_map(move |(place, operation)| {
            let lists = [("ports", &operation.ports), ("notPorts", &operation.not_ports)];
            lists.into_iter().flat_map(move |(name, ports)| {
                let field = format!("spec.rules[{at}].to[{place}].operation.{name}");
                ports.iter().enumerate().map(move |(number, port)| (format!("{field}[{number}]"), *port))
            })
        });
        let conditions = rule.when.iter().enumerate().flat_map(move |(place, condition)| {
            let lists = [("values", &condition.values), ("notValues", &condition.not_values)];
            lists.into_iter().flat_map(move |(name, values)| {
                let Values::Ports(ports) = values else { return Vec::new() };
                let field = format!("spec.rules[{at}].when[{place}].{name}");
                let numbered = ports.iter().enumerate();
                numbered.map(|(number, port)| (format!("{field}[{number}]"), *port)).collect()
            })
        });
        operations.chain(conditions)
    })
}
