//! DestinationRules → where requests to a Service may go: its subsets, and the policy in force for each port.

mod policy;

use std::collections::BTreeSet;

use ambit_api::wire::waypoint::{Destination, PortPolicy, Subset as WireSubset};
use ambit_crds::destination_rule::{DestinationRule, PortTrafficPolicy, Subset, TrafficPolicy};
use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;

use super::Context;
use super::draft::Place;
use super::hosts::{Closeness, Host, is_exported};
use crate::objects::Key;

pub(crate) use policy::remarks;

/// The DestinationRules of a Service taken together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Merged<'a> {
    /// Oldest first.
    pub(crate) rules: Vec<(&'a Key, &'a DestinationRule)>,
}

/// Names a DestinationRule.
pub(crate) fn reference(key: &Key) -> ObjectRef {
    ObjectRef::new(Kind::DestinationRule, &key.namespace, &key.name)
}

/// The host of a DestinationRule.
pub(crate) fn host(ctx: &Context<'_>, one: &DestinationRule) -> Host {
    Host::new(&one.spec.host, &one.meta.namespace, ctx.names)
}

/// Whether some DestinationRule in force defines the subset.
pub(crate) fn has_subset(place: &Place<'_>, service: &Key, name: &str) -> bool {
    Merged::new(place.ctx, service, place.viewer).subsets().any(|subset| subset.name == name)
}

impl<'a> Merged<'a> {
    /// Those in force for a Service as seen from a namespace: of the first namespace that has any (the viewer's, the
    /// Service's, the root), those that name it most closely.
    pub(crate) fn new(ctx: &Context<'a>, service: &Key, viewer: &str) -> Self {
        let hostname = ctx.hostname(service);
        for namespace in [viewer, &service.namespace, &ctx.mesh.root] {
            let seen = ctx.objects.within::<DestinationRule>(namespace).filter(|(key, one)| {
                // A selector picks clients' own proxies, which a waypoint is not.
                one.spec.workload_selector.match_labels.is_empty()
                    && is_exported(&one.spec.export_to, &key.namespace, viewer)
            });
            let mut found: Vec<(Closeness, &Key, &DestinationRule)> = seen
                .filter_map(|(key, one)| Some((host(ctx, one).closeness(&hostname)?, key, one)))
                .collect();
            let Some(closest) = found.iter().map(|(close, ..)| *close).min() else { continue };
            found.retain(|(close, ..)| *close == closest);
            found.sort_by_key(|(_, key, one)| (one.meta.creation.clone(), *key));
            return Self { rules: found.into_iter().map(|(_, key, one)| (key, one)).collect() };
        }
        Self::default()
    }

    /// Of the oldest that has one.
    pub(crate) fn policy(&self) -> Option<&'a TrafficPolicy> {
        self.rules.iter().find_map(|(_, one)| one.spec.traffic_policy.as_ref())
    }

    /// All of them; of two with one name the older one.
    pub(crate) fn subsets(&self) -> impl Iterator<Item = &'a Subset> + use<'a> {
        let mut names = BTreeSet::new();
        let all = self.rules.clone().into_iter().flat_map(|(_, one)| &one.spec.subsets);
        all.filter(move |subset| names.insert(subset.name.as_str()))
    }
}

/// The destination, and the labels that its subsets ask for.
pub(crate) fn translate(ctx: &Context<'_>, service: &Key, viewer: &str) -> (Destination, BTreeSet<String>) {
    let merged = Merged::new(ctx, service, viewer);
    let top = merged.policy();
    let top_ports = top.map_or(&[][..], |policy| &policy.port_level_settings);
    let subsets: Vec<WireSubset> = merged.subsets().map(|one| subset(top, top_ports, one)).collect();
    let labels = subsets.iter().flat_map(|subset| subset.labels.keys().cloned()).collect();
    let wire = Destination {
        namespace: service.namespace.clone(),
        hostname: ctx.hostname(service),
        policy: top.map(|top| policy::wire(&policy::Blocks::of(top))),
        ports: ports(top_ports).map(|(port, blocks)| port_policy(port, &blocks)).collect(),
        subsets,
    };
    (wire, labels)
}

/// The policies of single ports; nothing of them is inherited.
fn ports(settings: &[PortTrafficPolicy]) -> impl Iterator<Item = (u32, policy::Blocks<'_>)> {
    let numbered = settings.iter().filter_map(|one| Some((u32::from(one.port?.number.get()), one)));
    numbered.map(|(port, one)| (port, policy::Blocks::of_port(one)))
}

fn port_policy(port: u32, blocks: &policy::Blocks<'_>) -> PortPolicy {
    PortPolicy { port, policy: Some(policy::wire(blocks)) }
}

/// A subset's blocks lie over the Service's, and over those of its single ports.
fn subset(top: Option<&TrafficPolicy>, top_ports: &[PortTrafficPolicy], one: &Subset) -> WireSubset {
    let own = one.traffic_policy.as_ref();
    let base = top.map(policy::Blocks::of).unwrap_or_default();
    let blocks = own.map(policy::Blocks::of).unwrap_or_default();
    let own_ports = own.map_or(&[][..], |policy| &policy.port_level_settings);
    let named: BTreeSet<u32> = ports(own_ports).map(|(port, _)| port).collect();
    let inherited = ports(top_ports).filter(|(port, _)| !named.contains(port));
    let inherited = inherited.map(|(port, base)| port_policy(port, &blocks.over(&base)));
    WireSubset {
        name: one.name.clone(),
        labels: one.labels.clone(),
        policy: (top.is_some() || own.is_some()).then(|| policy::wire(&blocks.over(&base))),
        ports: ports(own_ports).map(|(port, blocks)| port_policy(port, &blocks)).chain(inherited).collect(),
    }
}
