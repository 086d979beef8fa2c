//! PeerAuthentication → DENY of plaintext: the effective mode of a pod, and the policies it lists
//! (apis §4.5, l4-protocols §6.3).

use std::collections::BTreeMap;

use ambit_api::policy::{Match, PolicyAction, Rule, StringMatch};
use ambit_api::wire::security::Scope;

use super::authorization::{Form, Head, clause};
use crate::snapshot::Resource;

/// The shared policy of pods that refuse plaintext on every port.
pub(crate) const STATIC_STRICT: &str = "istio_converted_static_strict";

/// What is effective where nothing is inherited any more. DISABLE cannot be had in the mesh and means PERMISSIVE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effective {
    /// Plaintext is accepted.
    #[default]
    Permissive,
    /// Plaintext is refused.
    Strict,
}

/// What one level asks for; `None` is UNSET.
pub(crate) type Asked = Option<Effective>;

/// What a pod's PeerAuthentications come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Plaintext is accepted on every port.
    Open,
    /// Plaintext is refused on every port.
    Closed,
    /// Plaintext is refused except on these ports.
    ClosedExcept(Vec<u16>),
    /// Plaintext is refused on these ports alone.
    OpenExcept(Vec<u16>),
}

/// The narrower level's word, else the wider one's.
pub(crate) fn inherit(asked: Asked, wider: Effective) -> Effective {
    asked.unwrap_or(wider)
}

/// What a workload's PeerAuthentication comes to under the mode of its namespace.
pub(crate) fn outcome(asked: Asked, ports: &BTreeMap<u16, Asked>, wider: Effective) -> Outcome {
    let mode = inherit(asked, wider);
    let differing = ports.iter().filter(|(_, asked)| inherit(**asked, mode) != mode);
    let differing: Vec<u16> = differing.map(|(port, _)| *port).collect();
    match (mode, differing.is_empty()) {
        (Effective::Permissive, true) => Outcome::Open,
        (Effective::Strict, true) => Outcome::Closed,
        (Effective::Strict, false) => Outcome::ClosedExcept(differing),
        (Effective::Permissive, false) => Outcome::OpenExcept(differing),
    }
}

/// The name of a PeerAuthentication's own policy.
pub(crate) fn converted_name(name: &str) -> String {
    format!("converted_peer_authentication_{name}")
}

/// The shared policy; by workload selector, because a global one could not be taken back by one namespace.
pub(crate) fn static_strict(root: &str) -> Resource {
    let rule = Rule { clauses: vec![clause(plaintext())] };
    resource(root, STATIC_STRICT, &[rule])
}

/// A PeerAuthentication's own policy, when the shared one (or none) will not do.
pub(crate) fn converted(namespace: &str, name: &str, outcome: &Outcome) -> Option<Resource> {
    let rules = match outcome {
        Outcome::Open | Outcome::Closed => return None,
        Outcome::ClosedExcept(ports) => {
            let elsewhere = Match { not_destination_ports: ports.clone(), ..Match::default() };
            vec![Rule { clauses: vec![clause(plaintext()), clause(elsewhere)] }]
        }
        Outcome::OpenExcept(ports) => {
            let there = |port: &u16| Match { destination_ports: vec![*port], ..plaintext() };
            ports.iter().map(|port| Rule { clauses: vec![clause(there(port))] }).collect()
        }
    };
    Some(resource(namespace, &converted_name(name), &rules))
}

/// Matches whoever presents no identity.
fn plaintext() -> Match {
    Match { not_principals: vec![StringMatch::Presence], ..Match::default() }
}

fn resource(namespace: &str, name: &str, rules: &[Rule]) -> Resource {
    let head =
        Head { namespace, name, scope: Scope::WorkloadSelector, action: PolicyAction::Deny, dry_run: false };
    Form::new(rules, Default::default()).resource(&head)
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Effective = Effective::Permissive;
    const S: Effective = Effective::Strict;

    /// (workload mode, ports, mode of the namespace) → outcome
    #[test]
    fn modes_inherit_and_ports_are_exceptions() {
        type Row<'a> = (Asked, &'a [(u16, Asked)], Effective, Outcome);
        let table: &[Row<'_>] = &[
            (None, &[], P, Outcome::Open),
            (None, &[], S, Outcome::Closed),
            (Some(P), &[], S, Outcome::Open),
            (Some(S), &[], P, Outcome::Closed),
            (Some(S), &[(80, Some(P))], P, Outcome::ClosedExcept(vec![80])),
            (Some(S), &[(80, Some(S))], P, Outcome::Closed),
            (Some(S), &[(80, None), (81, Some(P))], P, Outcome::ClosedExcept(vec![81])),
            (None, &[(80, Some(P))], S, Outcome::ClosedExcept(vec![80])),
            (None, &[(80, Some(S))], P, Outcome::OpenExcept(vec![80])),
            (Some(P), &[(80, Some(S)), (81, Some(S)), (82, None)], S, Outcome::OpenExcept(vec![80, 81])),
            (Some(P), &[(80, Some(P))], S, Outcome::Open),
        ];
        for (asked, ports, wider, expected) in table {
            let ports = ports.iter().copied().collect();
            assert_eq!(outcome(*asked, &ports, *wider), *expected, "{asked:?} {ports:?} under {wider:?}");
        }
    }
}
