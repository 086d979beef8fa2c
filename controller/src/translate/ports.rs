//! What a port number in a policy means at one pod (policy.md rule 8).
//!
//! Authors write the port they dial, which is often a Service's; ztunnel compares with the port the application
//! listens on. [`PodPorts`] holds exactly the numbers for which the two differ.

use std::collections::{BTreeMap, BTreeSet};

use ambit_api::wire::waypoint::PortAlias;

/// The Service ports before one pod that are no port of the pod itself, with what they lead to.
///
/// Equal values give equal wire forms, so pods can be grouped by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodPorts {
    service_ports: BTreeMap<u16, Targets>,
}

/// Where the Services of the pod's namespace lead one of their ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Targets {
    /// Ports of the pod.
    pub(crate) ports: BTreeSet<u16>,
    /// One of the Services names a port that the pod does not have.
    pub(crate) unresolved: bool,
}

/// A list of ports after rule 8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// These.
    Some(Vec<u16>),
    /// It cannot be said which: the reader takes the closed reading.
    Unknown,
}

impl PodPorts {
    /// From the pod's own (container) ports and the `(service port, target port)` pairs of the Services before it;
    /// a target that is not resolved is `None`.
    pub(crate) fn new(
        container: impl IntoIterator<Item = u16>,
        mappings: impl IntoIterator<Item = (u16, Option<u16>)>,
    ) -> Self {
        let mut own: BTreeSet<u16> = container.into_iter().collect();
        let mut service_ports: BTreeMap<u16, Targets> = BTreeMap::new();
        for (port, target) in mappings {
            let targets = service_ports.entry(port).or_default();
            match target {
                Some(target) => {
                    own.insert(target);
                    targets.ports.insert(target);
                }
                None => targets.unresolved = true,
            }
        }
        service_ports.retain(|port, _| !own.contains(port));
        Self { service_ports }
    }

    /// The one port of the pod that this number also stands for.
    fn also(&self, port: u16) -> Option<u16> {
        let targets = self.service_ports.get(&port)?;
        match (targets.unresolved, targets.ports.len()) {
            (false, 1) => targets.ports.first().copied(),
            _ => None,
        }
    }

    /// The same for a waypoint, which settles doubt by itself: a number that leads nobody knows where has 0 among its
    /// targets, so that a DENY takes it for every port and an ALLOW for none.
    pub(crate) fn aliases(&self) -> Vec<PortAlias> {
        let alias = |(port, targets): (&u16, &Targets)| {
            let unresolved = targets.unresolved.then_some(0);
            let known = targets.ports.iter().copied().map(u32::from);
            PortAlias { port: u32::from(*port), targets: unresolved.into_iter().chain(known).collect() }
        };
        self.service_ports.iter().map(alias).collect()
    }

    /// Whether Services disagree about this number.
    pub(crate) fn is_ambiguous(&self, port: u16) -> bool {
        self.service_ports.contains_key(&port) && self.also(port).is_none()
    }

    /// `ports` of an ALLOW: the literal number always, its target where that is certain.
    pub(crate) fn allowed(&self, ports: &[u16]) -> Vec<u16> {
        sorted(ports.iter().flat_map(|&port| std::iter::once(port).chain(self.also(port))))
    }

    /// `ports` of a DENY and `notPorts` of an ALLOW: everything the number may stand for, so that doubt closes.
    pub(crate) fn closed(&self, ports: &[u16]) -> Ports {
        let targets = || ports.iter().filter_map(|port| self.service_ports.get(port));
        if targets().any(|targets| targets.unresolved) {
            return Ports::Unknown;
        }
        Ports::Some(sorted(
            ports.iter().copied().chain(targets().flat_map(|targets| targets.ports.iter().copied())),
        ))
    }
}

/// Without duplicates and in order, so that equal meanings give equal messages.
fn sorted(ports: impl Iterator<Item = u16>) -> Vec<u16> {
    ports.collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (container ports, mappings, port) → (ALLOW ports, DENY ports, ambiguous)
    #[test]
    fn rule_8() {
        let some = |ports: &[u16]| Ports::Some(ports.to_vec());
        type Row<'a> = (&'a [u16], &'a [(u16, Option<u16>)], u16, &'a [u16], Ports, bool);
        let table: &[Row<'_>] = &[
            (&[], &[], 80, &[80], some(&[80]), false),
            (&[5678], &[(80, Some(5678))], 80, &[80, 5678], some(&[80, 5678]), false),
            (&[5678], &[(80, Some(5678))], 5678, &[5678], some(&[5678]), false),
            (&[80, 5678], &[(80, Some(5678))], 80, &[80], some(&[80]), false),
            (&[], &[(80, Some(5678)), (8080, Some(80))], 80, &[80], some(&[80]), false),
            (&[], &[(80, Some(1)), (80, Some(1))], 80, &[1, 80], some(&[1, 80]), false),
            (&[], &[(80, Some(1)), (80, Some(2))], 80, &[80], some(&[1, 2, 80]), true),
            (&[], &[(80, None)], 80, &[80], Ports::Unknown, true),
            (&[], &[(80, Some(1)), (80, None)], 80, &[80], Ports::Unknown, true),
            (&[], &[(81, None)], 80, &[80], some(&[80]), false),
        ];
        for (container, mappings, port, allow, deny, ambiguous) in table {
            let ports = PodPorts::new(container.iter().copied(), mappings.iter().copied());
            let name = format!("{container:?} {mappings:?} {port}");
            assert_eq!(ports.allowed(&[*port]), *allow, "{name}");
            assert_eq!(ports.closed(&[*port]), *deny, "{name}");
            assert_eq!(ports.is_ambiguous(*port), *ambiguous, "{name}");
        }
    }

    /// mappings of 80 → what a waypoint is told that 80 means.
    #[test]
    fn waypoints_are_told_of_doubt() {
        type Row<'a> = (&'a [(u16, Option<u16>)], &'a [u32]);
        let table: [Row<'_>; 4] = [
            (&[(80, Some(5678))], &[5678]),
            (&[(80, Some(1)), (80, Some(2))], &[1, 2]),
            (&[(80, Some(1)), (80, None)], &[0, 1]),
            (&[(80, None)], &[0]),
        ];
        for (mappings, targets) in table {
            let told = PodPorts::new([], mappings.iter().copied()).aliases();
            assert_eq!(told, [PortAlias { port: 80, targets: targets.to_vec() }], "{mappings:?}");
        }
        assert_eq!(PodPorts::new([80], [(80, Some(5678))]).aliases(), []);
    }

    #[test]
    fn own_ports_do_not_tell_pods_apart() {
        assert_eq!(PodPorts::new([80], [(80, Some(80))]), PodPorts::new([9], []));
    }
}
