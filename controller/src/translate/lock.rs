//! The lock: a pod port before which a Service stands whose policy only a waypoint can enforce lets nobody but
//! that waypoint in (policy.md rules 10 and 11).

use std::collections::BTreeMap;

use ambit_api::policy::{Match, PolicyAction, Rule, StringMatch};
use ambit_api::wire::security::Scope;

use super::authorization::{Form, Head, Waypoints, clause};
use crate::snapshot::{Resource, digest};

/// What one pod's locks close: a port, or every port where the Service's port cannot be resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Locks(BTreeMap<Option<u16>, Waypoints>);

impl Locks {
    /// Adds a Service: the pod's ports it leads to, and its waypoints.
    pub(crate) fn add(&mut self, targets: impl IntoIterator<Item = Option<u16>>, waypoints: &Waypoints) {
        for target in targets {
            self.0.entry(target).or_default().extend(waypoints.iter().cloned());
        }
    }

    /// Whether nothing is closed.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each port (or all), and who may reach it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Option<u16>, &Waypoints)> {
        self.0.iter().map(|(port, waypoints)| (*port, waypoints))
    }

    /// The names of the resources.
    pub(crate) fn names(&self, namespace: &str) -> impl Iterator<Item = String> {
        let names: Vec<String> =
            self.0.iter().map(|(port, ids)| format!("{namespace}/{}", name(*port, ids))).collect();
        names.into_iter()
    }

    /// The resources, named after what they say, so that pods with equal locks share one.
    pub(crate) fn resources(&self, namespace: &str) -> Vec<Resource> {
        self.0.iter().map(|(port, waypoints)| resource(namespace, *port, waypoints)).collect()
    }
}

fn resource(namespace: &str, port: Option<u16>, waypoints: &Waypoints) -> Resource {
    let mut rule = Rule::default();
    if let Some(port) = port {
        rule.clauses.push(clause(Match { destination_ports: vec![port], ..Match::default() }));
    }
    if !waypoints.is_empty() {
        let not_principals =
            waypoints.iter().map(|one| StringMatch::Exact(one.principal().to_owned())).collect();
        rule.clauses.push(clause(Match { not_principals, ..Match::default() }));
    }
    let head = Head {
        namespace,
        name: &name(port, waypoints),
        scope: Scope::WorkloadSelector,
        action: PolicyAction::Deny,
        dry_run: false,
    };
    Form::new(&[rule], Default::default()).resource(&head)
}

fn name(port: Option<u16>, waypoints: &Waypoints) -> String {
    let port = port.map_or_else(|| "all".to_owned(), |port| port.to_string());
    if waypoints.is_empty() {
        return format!("lock~{port}");
    }
    let parts: Vec<&[u8]> = waypoints.iter().map(|waypoint| waypoint.principal().as_bytes()).collect();
    format!("lock~{port}~{}", &digest(&parts)[..16])
}

#[cfg(test)]
mod tests {
    use ambit_api::identity::{Identity, TrustDomain};
    use ambit_api::policy::Policy;
    use ambit_api::wire::security::Authorization;
    use prost::Message as _;

    use super::*;

    fn waypoint(name: &str) -> Identity {
        Identity::new(&TrustDomain::default(), "a", name).unwrap()
    }

    /// A clause, as (ports, principals let through).
    type Said = (Vec<u16>, usize);

    /// The clauses of each lock's only rule.
    fn said(locks: &Locks) -> Vec<(String, Vec<Said>)> {
        let each = locks.resources("a").into_iter().map(|resource| {
            let policy = Policy::try_from(Authorization::decode(resource.body).unwrap()).unwrap();
            let clauses = policy.rules[0].clauses.iter().map(|clause| {
                let one = &clause.matches[0];
                (one.destination_ports.clone(), one.not_principals.len())
            });
            (resource.name.to_string(), clauses.collect())
        });
        each.collect()
    }

    #[test]
    fn a_port_lets_through_the_waypoints_of_all_its_services() {
        let mut locks = Locks::default();
        locks.add([Some(80), None], &[waypoint("x")].into());
        locks.add([Some(80)], &[waypoint("y")].into());
        locks.add([Some(81)], &Waypoints::new());
        let said = said(&locks);
        let names: Vec<&str> = said.iter().map(|(name, _)| name.rsplit_once('~').unwrap().0).collect();
        assert_eq!(names, ["a/lock~all", "a/lock~80", "a/lock"]);
        let clauses: Vec<_> = said.into_iter().map(|(_, clauses)| clauses).collect();
        assert_eq!(clauses, [vec![(vec![], 1)], vec![(vec![80], 0), (vec![], 2)], vec![(vec![81], 0)]]);
        assert_eq!(
            locks.names("a").collect::<Vec<_>>(),
            locks.resources("a").iter().map(|one| one.name.to_string()).collect::<Vec<_>>()
        );
    }
}
