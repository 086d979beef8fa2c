//! What translation knows of one pod or one Service, for people. Nothing is decided here: these are the values that what
//! the data plane is told is made from.

use std::collections::BTreeSet;

use ambit_api::identity::Identity;
use ambit_crds::meta::ObjectRef;
use ambit_crds::pod;
use ambit_crds::service;

use super::dirty::policy_ref;
use super::levels::Levels;
use super::peer::Outcome;
use super::policies::{Policy, Standing as Obeyed};
use super::record::{Locking, Policies, Record};
use super::state::State;
use super::{Translator, routes};
use crate::objects::Key;

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its traffic is in the mesh.
    pub enrolled: bool,
    /// The Services before it.
    pub services: Vec<Member>,
    /// The waypoints that may stand before it, ready or not (policy.md: WP).
    pub waypoints: BTreeSet<Identity>,
    /// Its S: policies that apply by selector, namespace or root.
    pub policies: Vec<Attached>,
    /// Its ports that only waypoints may reach.
    pub locks: Vec<Lock>,
    /// What becomes of plain text.
    pub mode: Mode,
}

/// One Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its pods.
    pub pods: BTreeSet<Key>,
    /// The Gateway that stands before it, ready or not.
    pub waypoint: Option<Key>,
    /// Its T: policies attached to it, to its waypoint, or to the waypoint's class.
    pub policies: Vec<Attached>,
    /// Why its pods' ports are closed to all but waypoints, if they are.
    pub locked: Option<Lockedness>,
    /// The routes and DestinationRules that speak of it.
    pub routes: BTreeSet<ObjectRef>,
}

/// A Service before a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The Service.
    pub service: Key,
    /// Its ports and the pod's ports they lead to; `None` where the pod has no port of that name.
    pub ports: Vec<(u16, Option<u16>)>,
}

/// A policy that applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The AuthorizationPolicy.
    pub policy: ObjectRef,
    /// Whether it is obeyed.
    pub standing: Standing,
    /// Only a waypoint can judge all of it.
    pub beyond_ztunnel: bool,
}

/// Whether a policy is obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Enforced,
    /// It is counted only.
    DryRun,
    /// It marks for an audit log only.
    Audit,
    /// No version of it was ever valid: it closes what it names.
    Invalid,
}

/// A port that only waypoints may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The pod's port; `None` for all.
    pub port: Option<u16>,
    /// Who may reach it.
    pub waypoints: BTreeSet<Identity>,
}

/// Why the ports of a Service are closed to all but waypoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockedness {
    /// Policies are attached to it.
    Policies,
    /// `ambit.mesh/waypoint-only` says so.
    Annotation,
}

/// What a pod does with plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mode {
    /// It is refused.
    pub strict: bool,
    /// Ports for which the opposite holds.
    pub except: Vec<u16>,
    /// The PeerAuthentications that say so, the narrowest first; none where nothing asks for anything.
    pub decided_by: Vec<ObjectRef>,
}

impl Translator {
    /// One pod; `None` if the data plane has no use for it.
    pub fn about_pod(&self, pod: &Key) -> Option<Pod> {
        let state = &self.state;
        let record = state.records.get(pod)?;
        let labels = &state.objects.get::<pod::Pod>(pod)?.meta.labels;
        let levels = Levels::new(&state.objects, &state.mesh.root, &pod.namespace);
        let (outcome, decided_by) = levels.explained(labels);
        Some(Pod {
            enrolled: record.enrolled,
            services: members(record),
            waypoints: record.waypoints.clone(),
            policies: attached(&state.policies, record.applies.iter()),
            locks: record
                .locks
                .iter()
                .map(|(port, waypoints)| Lock { port, waypoints: waypoints.clone() })
                .collect(),
            mode: mode(outcome, decided_by),
        })
    }

    /// One Service; `None` if it does not exist.
    pub fn about_service(&self, service: &Key) -> Option<Service> {
        let state = &self.state;
        let object = state.objects.get::<service::Service>(service)?;
        let waypoint = state.waypoint_before(service);
        let of_gateway = waypoint.as_ref().map(|gateway| of_gateway(state, gateway)).unwrap_or_default();
        let policies: BTreeSet<Key> = state.policies.of_service(service).cloned().chain(of_gateway).collect();
        let locked = state.policies.locking(object).map(|locking| match locking {
            Locking::Policies => Lockedness::Policies,
            Locking::Annotation => Lockedness::Annotation,
        });
        Some(Service {
            pods: state.members.get(service).cloned().unwrap_or_default(),
            policies: attached(&state.policies, policies.iter()),
            waypoint,
            locked,
            routes: routes::concerning(&state.routes(), service),
        })
    }
}

impl Pod {
    /// The waypoints that alone may reach a port: each lock on it must let a caller through. `None` where there is none.
    pub fn locked_to(&self, port: u16) -> Option<BTreeSet<Identity>> {
        let locks = self.locks.iter().filter(|lock| lock.port.is_none_or(|locked| locked == port));
        let sets: Vec<_> = locks.map(|lock| &lock.waypoints).collect();
        let (first, others) = sets.split_first()?;
        let through = first.iter().filter(|one| others.iter().all(|other| other.contains(one)));
        Some(through.cloned().collect())
    }
}

impl Mode {
    /// Whether plain text to a port of the pod is refused.
    pub fn refuses(&self, port: u16) -> bool {
        self.strict != self.except.contains(&port)
    }

    /// The mode of a port in the words of PeerAuthentication.
    pub fn word(&self, port: u16) -> &'static str {
        if self.refuses(port) { "STRICT" } else { "PERMISSIVE" }
    }
}

fn of_gateway(state: &State, gateway: &Key) -> Vec<Key> {
    let class = state.gateways.get(gateway).and_then(|one| one.waypoint()).map(|one| one.class.as_str());
    state.policies.of_gateway(gateway, class.unwrap_or_default(), &state.mesh.root).collect()
}

fn members(record: &Record) -> Vec<Member> {
    let each = record.members.iter().map(|member| Member {
        service: Key::new(&member.namespace, &member.service),
        ports: member.ports.clone(),
    });
    each.collect()
}

fn attached<'a>(policies: &Policies, keys: impl Iterator<Item = &'a Key>) -> Vec<Attached> {
    let found = keys.filter_map(|key| Some((key, policies.all.get(key)?)));
    found
        .map(|(key, policy)| Attached {
            policy: policy_ref(key),
            standing: standing(policy),
            beyond_ztunnel: policy.is_l7(),
        })
        .collect()
}

fn standing(policy: &Policy) -> Standing {
    match policy.standing {
        Obeyed::Enforced => Standing::Enforced,
        Obeyed::DryRun => Standing::DryRun,
        Obeyed::Audit => Standing::Audit,
        Obeyed::Invalid => Standing::Invalid,
    }
}

fn mode(outcome: Outcome, decided_by: Vec<ObjectRef>) -> Mode {
    let (strict, except) = match outcome {
        Outcome::Open => (false, Vec::new()),
        Outcome::Closed => (true, Vec::new()),
        Outcome::OpenExcept(ports) => (false, ports),
        Outcome::ClosedExcept(ports) => (true, ports),
    };
    Mode { strict, except, decided_by }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ambit_crds::code::Code;
    use ambit_crds::fault::{Effect, Fault, Severity};
    use ambit_crds::kind::Kind;
    use ambit_crds::object::{InvalidObject, Names as Closes};
    use ambit_crds::read;

    use super::*;
    use crate::objects::Change;
    use crate::translate::Names;

    const POD: &str = "{kind: Pod, apiVersion: v1, metadata: {name: p, namespace: a, labels: {app: p}}, \
        spec: {containers: [{name: c, image: x}]}, status: {phase: Running, podIP: 10.0.0.1}}";

    fn peer(namespace: &str, name: &str, spec: &str) -> String {
        format!(
            "---\n{{kind: PeerAuthentication, apiVersion: security.istio.io/v1, \
             metadata: {{name: {name}, namespace: {namespace}}}, spec: {{{spec}}}}}\n"
        )
    }

    fn invalid(closes: Closes) -> Change {
        let object = ObjectRef::new(Kind::PeerAuthentication, "a", "bad");
        let fault = Fault {
            code: Code::BadValue,
            file: String::new(),
            line: 1,
            object: None,
            field: None,
            message: "bad".to_owned(),
            mend: String::new(),
            effect: Effect::Closes,
            severity: Severity::Error,
        };
        Change::Invalid(Arc::new(InvalidObject { object, fault, names: closes, labels: Default::default() }))
    }

    #[test]
    fn the_mode_of_a_pod_and_who_says_so() {
        let root = peer("istio-system", "mesh", "mtls: {mode: STRICT}");
        let own = peer("a", "own", "mtls: {mode: PERMISSIVE}");
        let unset = peer("a", "unset", "");
        let pod = peer("a", "pod", "selector: {matchLabels: {app: p}}, mtls: {mode: STRICT}");
        let ports = "selector: {matchLabels: {app: p}}, portLevelMtls: {'80': {mode: PERMISSIVE}}";
        let ports = peer("a", "ports", ports);
        let other = peer("a", "other", "selector: {matchLabels: {app: q}}, mtls: {mode: STRICT}");
        type Row<'a> = (&'a [&'a String], Option<Closes>, bool, &'a [u16], &'a [&'a str]);
        let table: [Row<'_>; 9] = [
            (&[], None, false, &[], &[]),
            (&[&root], None, true, &[], &["istio-system/mesh"]),
            (&[&root, &own, &other], None, false, &[], &["a/own"]),
            (&[&root, &unset], None, true, &[], &["istio-system/mesh"]),
            (&[&own, &pod], None, true, &[], &["a/pod"]),
            (&[&root, &ports], None, true, &[80], &["a/ports", "istio-system/mesh"]),
            (&[&own, &ports], None, false, &[], &["a/ports", "a/own"]),
            (&[&own], Some(Closes::Namespace), true, &[], &["a/bad"]),
            (&[&pod], Some(Closes::Workloads([("app".into(), "p".into())].into())), true, &[], &["a/bad"]),
        ];
        for (peers, closes, strict, except, by) in table {
            let text = format!("{POD}\n{}", peers.iter().map(|one| one.as_str()).collect::<String>());
            let objects = read::objects(&text).into_iter().map(Change::Applied);
            let mut translator = Translator::new(Names::default());
            translator.apply(objects.chain(closes.clone().map(invalid)));
            let mode = translator.about_pod(&Key::new("a", "p")).expect("it runs").mode;
            let said: Vec<String> =
                mode.decided_by.iter().map(|one| format!("{}/{}", one.namespace, one.name)).collect();
            let seen =
                (mode.strict, mode.except.as_slice(), said.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(seen, (strict, except, by.to_vec()), "{text} {closes:?}");
        }
    }

    #[test]
    fn a_port_with_several_locks_is_reached_by_who_passes_all() {
        let ids = |names: &[&str]| -> BTreeSet<Identity> {
            let domain = ambit_api::identity::TrustDomain::default();
            names.iter().map(|name| Identity::new(&domain, "a", name).unwrap()).collect()
        };
        let lock = |port, names: &[&str]| Lock { port, waypoints: ids(names) };
        let pod = |locks| Pod {
            enrolled: true,
            services: Vec::new(),
            waypoints: BTreeSet::new(),
            policies: Vec::new(),
            locks,
            mode: Mode { strict: false, except: Vec::new(), decided_by: Vec::new() },
        };
        let pod = pod(vec![lock(Some(80), &["x", "y"]), lock(None, &["y", "z"])]);
        assert_eq!((pod.locked_to(80), pod.locked_to(81)), (Some(ids(&["y"])), Some(ids(&["y", "z"]))));
        let open = Pod { locks: vec![lock(Some(80), &[])], ..pod };
        assert_eq!((open.locked_to(80), open.locked_to(81)), (Some(ids(&[])), None));
    }
}
