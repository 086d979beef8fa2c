//! Verdicts: what became of an object that asked for something, as conditions. Pure; facts in, words out.

pub(crate) mod waypoint;

use std::collections::BTreeSet;

use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;
use ambit_crds::status::{Condition, ConditionStatus, Details};

/// The conditions of one object; none removes those that were there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The object.
    pub object: ObjectRef,
    /// Its conditions.
    pub conditions: Vec<Condition>,
    /// What its status says besides.
    pub details: Details,
}

/// Which of the pods an object concerns are in the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    pub(crate) pods: usize,
    pub(crate) enrolled: usize,
}

/// What became of an AuthorizationPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PolicyOutcome {
    /// Never valid: everything it names is closed.
    Invalid(String),
    /// AUDIT.
    Audit,
    /// Attached to objects: which of them exist, which do not, and which of those waived the lock.
    Attached(Targets),
    /// CUSTOM: only a waypoint can ask the provider.
    Custom(Fronted),
    /// It has attributes that only a waypoint can judge.
    Beyond(Vec<String>, Fronted),
    /// A DENY that names nothing.
    Empty,
    /// Ztunnels judge it.
    Carried {
        /// The pods it covers.
        coverage: Coverage,
        /// Ports about which Services disagree.
        ambiguous: Vec<u16>,
    },
}

/// The pods of a policy that a waypoint has to judge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fronted {
    pub(crate) pods: usize,
    pub(crate) enrolled: usize,
    /// Those that have a waypoint.
    pub(crate) behind: usize,
    /// All of these, `namespace/name`.
    pub(crate) waypoints: BTreeSet<String>,
    /// The namespaces of those that have none.
    pub(crate) bare: BTreeSet<String>,
}

/// The objects a policy is attached to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    /// The waypoints that judge it, `namespace/name`.
    pub(crate) bound: BTreeSet<String>,
    /// Services that name no waypoint.
    pub(crate) services: Vec<String>,
    pub(crate) missing: Vec<String>,
    pub(crate) waived: Vec<String>,
    /// Where nothing enforces it: ServiceEntries, Gateways that are no waypoints, classes without one.
    pub(crate) others: Vec<String>,
}

/// What became of a PeerAuthentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerOutcome {
    /// Never valid: what it names refuses plaintext.
    Invalid(String),
    /// A selector in the root namespace means nothing.
    SelectorInRoot,
    /// Another one of the same level is older (or invalid, and closes it).
    Overridden(Option<String>),
    /// It counts.
    Counts {
        coverage: Coverage,
        /// It asks for DISABLE.
        disables: bool,
    },
}

/// What became of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServiceOutcome {
    /// Nothing worth saying.
    Open,
    /// Its pods' ports are closed to all but waypoints.
    Locked {
        /// Policies attached to it; none when its annotation asks for it.
        policies: Vec<String>,
        headless: bool,
        /// The waypoint that stands before it, `namespace/name`.
        waypoint: Option<String>,
    },
    /// Policies are attached to it, and its annotation gives them up.
    Waived(Vec<String>),
    /// These other Services lock ports that it shares.
    Shares(Vec<String>),
}

/// Conditions of an AuthorizationPolicy.
pub(crate) fn policy(object: &ObjectRef, dry_run: bool, outcome: &PolicyOutcome) -> Vec<Condition> {
    let label = |fronted: &Fronted| {
        let namespace = fronted.bare.first().unwrap_or(&object.namespace);
        format!("kubectl label namespace {namespace} istio.io/use-waypoint=waypoint")
    };
    match outcome {
        PolicyOutcome::Invalid(why) => {
            let message = format!("never valid, so everything it names is denied: {why}");
            vec![no("Enforced", "Invalid", message.clone()), no("ZtunnelAccepted", "Invalid", message)]
        }
        PolicyOutcome::Audit => {
            let message = "AUDIT only marks for an audit log; nothing is denied".to_owned();
            vec![
                no("Enforced", "AuditOnly", message.clone()),
                no("ZtunnelAccepted", "UnsupportedValue", message),
            ]
        }
        PolicyOutcome::Attached(targets) => attached(object, dry_run, targets),
        PolicyOutcome::Empty => {
            let message = "a DENY without rules matches nothing; give it rules or delete it".to_owned();
            vec![no("Enforced", "NoEffect", message.clone()), yes("ZtunnelAccepted", "Accepted", message)]
        }
        PolicyOutcome::Custom(fronted) => {
            let message = format!(
                "only a waypoint can ask the provider and none stands before {}, so what it matches is denied; {}",
                fronted.without(),
                label(fronted)
            );
            let ztunnel = if fronted.all() { ONLY_WAYPOINT.to_owned() } else { message.clone() };
            let enforced = if dry_run { dry() } else { fronted.enforced(message) };
            vec![enforced, no("ZtunnelAccepted", "UnsupportedValue", ztunnel)]
        }
        PolicyOutcome::Beyond(attributes, fronted) => {
            let message = format!(
                "only a waypoint can judge {} and none stands before {}, so ALLOW rules with them never match and \
                 DENY rules deny without regard to them; {}",
                attributes.join(", "),
                fronted.without(),
                label(fronted)
            );
            let ztunnel = if fronted.all() { ONLY_WAYPOINT.to_owned() } else { message.clone() };
            let enforced = if dry_run { dry() } else { fronted.enforced(message) };
            vec![enforced, yes("ZtunnelAccepted", "UnsupportedValue", ztunnel)]
        }
        PolicyOutcome::Carried { coverage, ambiguous } => {
            let enforced = if dry_run { dry() } else { carried(*coverage, ambiguous) };
            vec![enforced, yes("ZtunnelAccepted", "Accepted", "ztunnels have it".to_owned())]
        }
    }
}

/// Conditions of a PeerAuthentication.
pub(crate) fn peer(outcome: &PeerOutcome) -> Vec<Condition> {
    let one = match outcome {
        PeerOutcome::Invalid(why) => {
            no("Enforced", "Invalid", format!("never valid, so what it names refuses plaintext: {why}"))
        }
        PeerOutcome::SelectorInRoot => {
            let message =
                "a selector has no effect in the root namespace; put it into the namespace of the workloads";
            no("Enforced", "NoEffect", message.to_owned())
        }
        PeerOutcome::Overridden(Some(older)) => {
            no("Enforced", "Duplicate", format!("{older} is older and counts alone; delete one of them"))
        }
        PeerOutcome::Overridden(None) => {
            let message = "an invalid or older PeerAuthentication counts for all its workloads; mend or delete that one";
            no("Enforced", "Duplicate", message.to_owned())
        }
        PeerOutcome::Counts { coverage, disables } => {
            let mut condition = carried(*coverage, &[]);
            if *disables {
                condition
                    .message
                    .push_str("; DISABLE means PERMISSIVE: pods in the mesh speak mutual TLS to each other");
            }
            condition
        }
    };
    vec![one]
}

/// Conditions of a Service.
pub(crate) fn service(object: &ObjectRef, outcome: &ServiceOutcome) -> Vec<Condition> {
    let place = format!("service {} -n {}", object.name, object.namespace);
    let mend = format!(
        "kubectl label {place} istio.io/use-waypoint=waypoint, or kubectl annotate {place} ambit.mesh/waypoint-only=false"
    );
    let (reason, message) = match outcome {
        ServiceOutcome::Open => return Vec::new(),
        ServiceOutcome::Locked { policies, headless, waypoint: Some(waypoint) } => {
            let what = match policies.as_slice() {
                [] => "ambit.mesh/waypoint-only".to_owned(),
                names => format!("AuthorizationPolicy {}", names.join(", ")),
            };
            let pods = if *headless { "; its callers dial pods, and are refused" } else { "" };
            let message =
                format!("{what}: by waypoint {waypoint}, and ztunnels let nobody else to its ports{pods}");
            return vec![yes("Enforced", "Waypoint", message)];
        }
        ServiceOutcome::Locked { policies, headless, waypoint: None } => {
            let why = match policies.as_slice() {
                [] => "ambit.mesh/waypoint-only asks for a waypoint".to_owned(),
                names => format!("AuthorizationPolicy {} needs a waypoint", names.join(", ")),
            };
            let pods = if *headless { " (its callers dial pods, which are closed all the same)" } else { "" };
            (
                "WaypointRequired",
                format!("{why} and none is named, so its ports refuse everyone{pods}; {mend}"),
            )
        }
        ServiceOutcome::Waived(names) => (
            "WaypointRequired",
            format!(
                "AuthorizationPolicy {} is not enforced: ambit.mesh/waypoint-only=false gives it up; name a waypoint: \
                 kubectl label {place} istio.io/use-waypoint=waypoint",
                names.join(", ")
            ),
        ),
        ServiceOutcome::Shares(names) => (
            "SharedPort",
            format!(
                "Service {} locks ports of the same pods, so they refuse this Service's callers too",
                names.join(", ")
            ),
        ),
    };
    vec![no("Enforced", reason, message)]
}

/// Of an object that was never valid and closes nothing.
pub(crate) fn invalid(why: String) -> Condition {
    no("Enforced", "Invalid", format!("never valid, so nothing obeys it: {why}"))
}

/// Conditions of an object whose kind nothing obeys yet.
pub(crate) fn not_yet(kind: Kind) -> Vec<Condition> {
    vec![no("Enforced", "NotYetEnforced", format!("{kind} is known, and nothing obeys it yet"))]
}

fn attached(object: &ObjectRef, dry_run: bool, targets: &Targets) -> Vec<Condition> {
    let mut parts = Vec::new();
    if let Some(first) = targets.services.first() {
        let list = targets.services.join(", ");
        parts.push(format!(
            "Service {list}: no waypoint is named, so {}; kubectl label service {first} -n {} istio.io/use-waypoint=waypoint",
            if dry_run { "nothing counts it" } else { "everyone is refused" },
            object.namespace
        ));
    }
    let mut say = |list: &[String], what: &str| {
        if !list.is_empty() {
            parts.push(format!("{}: {what}", list.join(", ")));
        }
    };
    say(&targets.waived, "ambit.mesh/waypoint-only=false gives the policy up, so it is not enforced");
    say(&targets.others, "nothing enforces policies of this target yet");
    say(&targets.missing, "not found in the policy's namespace");
    let found = !(targets.services.is_empty() && targets.waived.is_empty() && targets.others.is_empty());
    if !targets.bound.is_empty() {
        let names: Vec<&str> = targets.bound.iter().map(String::as_str).collect();
        let by = format!("by waypoint {}", names.join(", "));
        let (reason, message) = match parts.as_slice() {
            [] => ("Accepted", by.clone()),
            parts => ("PartiallyInvalid", format!("{by}; {}", parts.join("; "))),
        };
        let enforced = match (dry_run, found) {
            (true, _) => dry(),
            (false, false) => yes("Enforced", "Waypoint", message.clone()),
            (false, true) => no("Enforced", "WaypointRequired", message.clone()),
        };
        return vec![enforced, yes("WaypointAccepted", reason, message)];
    }
    let (reason, accepted) =
        if found { ("WaypointRequired", "AncestorNotBound") } else { ("TargetNotFound", "TargetNotFound") };
    let message = parts.join("; ");
    vec![no("Enforced", reason, message.clone()), no("WaypointAccepted", accepted, message)]
}

fn carried(coverage: Coverage, ambiguous: &[u16]) -> Condition {
    let Coverage { pods, enrolled } = coverage;
    if pods == 0 {
        return no("Enforced", "NoWorkloads", "no pod is covered by it".to_owned());
    }
    if enrolled == 0 {
        return no("Enforced", "NotEnrolled", "no pod it covers is in the mesh".to_owned());
    }
    let mut message = "by the ztunnels of its pods' nodes".to_owned();
    if enrolled < pods {
        message.push_str("; some pods it covers are not in the mesh");
    }
    if ambiguous.is_empty() {
        return yes("Enforced", "Ztunnel", message);
    }
    let ports: Vec<String> = ambiguous.iter().map(u16::to_string).collect();
    let message = format!(
        "{message}; Services lead port {} to different ports, or to one its pods do not have: an ALLOW takes it \
         literally, a DENY takes all of them; name the pods' own port",
        ports.join(", ")
    );
    yes("Enforced", "AmbiguousPorts", message)
}

/// What ztunnels do of a policy that a waypoint judges.
const ONLY_WAYPOINT: &str =
    "ztunnels have what they can judge of it, and leave the waypoint's own connections to the waypoint";

impl Fronted {
    fn all(&self) -> bool {
        self.pods > 0 && self.behind == self.pods
    }

    fn without(&self) -> String {
        match self.behind {
            0 => "the pods".to_owned(),
            behind => format!("{} of {} pods", self.pods - behind, self.pods),
        }
    }

    /// `missing`: what to say where no waypoint stands.
    fn enforced(&self, missing: String) -> Condition {
        if !self.all() {
            return no("Enforced", "WaypointRequired", missing);
        }
        if self.enrolled == 0 {
            return no("Enforced", "NotEnrolled", "no pod it covers is in the mesh".to_owned());
        }
        let names: Vec<&str> = self.waypoints.iter().map(String::as_str).collect();
        let mut message = format!("by waypoint {}", names.join(", "));
        if self.enrolled < self.pods {
            message.push_str("; some pods it covers are not in the mesh");
        }
        yes("Enforced", "Waypoint", message)
    }
}

fn dry() -> Condition {
    no("Enforced", "DryRun", "istio.io/dry-run: counted and logged, never enforced".to_owned())
}

fn yes(kind: &str, reason: &str, message: String) -> Condition {
    condition(kind, ConditionStatus::True, reason, message)
}

fn no(kind: &str, reason: &str, message: String) -> Condition {
    condition(kind, ConditionStatus::False, reason, message)
}

fn condition(kind: &str, status: ConditionStatus, reason: &str, message: String) -> Condition {
    Condition { kind: kind.to_owned(), status, reason: reason.to_owned(), message, observed_generation: 0 }
}
