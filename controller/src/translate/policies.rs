//! A policy after reading, and what of it is published in one namespace (policy.md rule 9).

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_api::policy::PolicyAction;
use ambit_api::wire::security::Scope;
use ambit_crds::authorization_policy::{self as crd, AuthorizationPolicy, TargetRef};
use ambit_crds::meta::{Map, selects};
use ambit_crds::object::{InvalidObject, Names as Named};

use super::authorization::parse::{self, Read, TrustDomains};
use super::authorization::{Form, Head, Waypoints};
use super::ports::PodPorts;
use crate::objects::Key;
use crate::snapshot::Resource;

/// One AuthorizationPolicy.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) reach: Reach,
    pub(crate) standing: Standing,
    /// What ztunnels can judge of it; nothing for AUDIT.
    pub(crate) read: Option<Read>,
    /// Its form where neither ports nor waypoints make a difference.
    plain: Option<Arc<Form>>,
    uses_ports: bool,
    is_custom: bool,
}

/// Whether a policy is obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Enforced,
    DryRun,
    /// Marks for the audit log.
    Audit,
    /// Never valid: closes what it names.
    Invalid,
}

/// What a policy applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Namespace,
    Workloads(Map),
    Targets(Vec<TargetRef>),
}

/// One policy in one namespace: the forms its pods need, counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spread {
    forms: BTreeMap<Arc<str>, (Arc<Form>, usize)>,
    ambiguous: BTreeMap<u16, usize>,
    pub(crate) pods: usize,
    pub(crate) enrolled: usize,
    /// Resources now in the snapshot.
    pub(crate) published: Vec<Arc<str>>,
    pub(crate) listing: Listing,
}

/// The names under which pods list a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Listing {
    /// They do not: it has namespace scope, or there is nothing.
    #[default]
    Unlisted,
    /// All by one name.
    One(String),
    /// By the form they need.
    Many(BTreeMap<Arc<str>, String>),
}

impl Policy {
    /// Of a valid object.
    pub(crate) fn new(policy: &AuthorizationPolicy, domains: &TrustDomains) -> Self {
        let read = parse::read(policy, domains);
        let standing = match (&read, policy.is_dry_run()) {
            (None, _) => Standing::Audit,
            (Some(_), true) => Standing::DryRun,
            (Some(_), false) => Standing::Enforced,
        };
        let reach = match &policy.spec.scope {
            crd::Scope::Namespace => Reach::Namespace,
            crd::Scope::Selector(labels) => Reach::Workloads(labels.clone()),
            crd::Scope::Targets(targets) => Reach::Targets(targets.clone()),
        };
        let is_custom = matches!(policy.spec.action, crd::Action::Custom { .. });
        Self { is_custom, ..Self::from_parts(reach, standing, read) }
    }

    /// Of an object that was never valid.
    pub(crate) fn invalid(object: &InvalidObject) -> Self {
        let reach = match &object.names {
            Named::Namespace => Reach::Namespace,
            Named::Workloads(labels) => Reach::Workloads(labels.clone()),
            Named::Targets(targets) => Reach::Targets(targets.clone()),
        };
        Self::from_parts(reach, Standing::Invalid, Some(parse::closed()))
    }

    fn from_parts(reach: Reach, standing: Standing, read: Option<Read>) -> Self {
        let carried = read.as_ref().map(|read| &read.carried);
        let uses_ports = carried.is_some_and(super::authorization::Carried::uses_ports);
        let plain = carried.map(|carried| Arc::new(carried.form(&PodPorts::default(), &Waypoints::new())));
        Self { reach, standing, read, plain, uses_ports, is_custom: false }
    }

    /// Whether ztunnels are sent anything of it: a DENY without rules can deny nothing.
    pub(crate) fn is_sent(&self) -> bool {
        let carried = self.read.as_ref().map(|read| &read.carried);
        carried.is_some_and(|carried| carried.action == PolicyAction::Allow || !carried.rules.is_empty())
    }

    /// Whether it is part of the S of a pod with these labels.
    pub(crate) fn applies(&self, labels: &Map) -> bool {
        match &self.reach {
            Reach::Namespace => true,
            Reach::Workloads(wanted) => selects(wanted, labels),
            Reach::Targets(_) => false,
        }
    }

    /// Whether it is part of what ztunnels are sent of the S of a pod with these labels.
    pub(crate) fn covers(&self, labels: &Map) -> bool {
        self.is_sent() && self.applies(labels)
    }

    /// Whether it is an L7 policy: enforced, and only a waypoint can judge all of it.
    pub(crate) fn is_l7(&self) -> bool {
        let is_beyond = self.read.as_ref().is_some_and(|read| !read.beyond.is_empty());
        self.standing == Standing::Enforced && (self.is_custom || is_beyond)
    }

    /// Whether it belongs to the T of the Services it names.
    pub(crate) fn is_obeyed(&self) -> bool {
        matches!(self.standing, Standing::Enforced | Standing::Invalid)
    }

    /// The Services of its namespace that it is attached to.
    pub(crate) fn services<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = Key> + 'a {
        self.targets_of("Service", namespace)
    }

    /// The Gateways of its namespace that it is attached to.
    pub(crate) fn gateways<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = Key> + 'a {
        self.targets_of("Gateway", namespace)
    }

    /// The classes of Gateways that it is attached to, which it is in the root namespace alone.
    pub(crate) fn names_class(&self, class: &str) -> bool {
        self.targets().iter().any(|target| target.kind == "GatewayClass" && target.name == class)
    }

    /// Whether it is attached to a class at all.
    pub(crate) fn names_classes(&self) -> bool {
        self.targets().iter().any(|target| target.kind == "GatewayClass")
    }

    fn targets(&self) -> &[TargetRef] {
        if let Reach::Targets(targets) = &self.reach { targets } else { &[] }
    }

    fn targets_of<'a>(&'a self, kind: &'static str, namespace: &'a str) -> impl Iterator<Item = Key> + 'a {
        let targets = self.targets().iter().filter(move |target| {
            target.kind == kind
                && target.namespace.as_ref().is_none_or(|own| own.is_empty() || own == namespace)
        });
        targets.map(move |target| Key::new(namespace, &target.name))
    }

    /// What a pod with these ports and waypoints is sent.
    pub(crate) fn form(&self, ports: &PodPorts, waypoints: &Waypoints) -> Option<Arc<Form>> {
        if waypoints.is_empty() && (!self.uses_ports || *ports == PodPorts::default()) {
            return self.plain.clone();
        }
        self.read.as_ref().map(|read| Arc::new(read.carried.form(ports, waypoints)))
    }
}

impl Spread {
    pub(crate) fn add(&mut self, form: &Arc<Form>, enrolled: bool) {
        self.forms.entry(form.id.clone()).or_insert_with(|| (form.clone(), 0)).1 += 1;
        form.ambiguous.iter().for_each(|port| *self.ambiguous.entry(*port).or_default() += 1);
        self.pods += 1;
        self.enrolled += usize::from(enrolled);
    }

    pub(crate) fn remove(&mut self, form: &Form, enrolled: bool) {
        if let Some((_, count)) = self.forms.get_mut(&form.id) {
            *count -= 1;
        }
        self.forms.retain(|_, (_, count)| *count > 0);
        for port in &form.ambiguous {
            if let Some(count) = self.ambiguous.get_mut(port) {
                *count -= 1;
            }
        }
        self.ambiguous.retain(|_, count| *count > 0);
        self.pods -= 1;
        self.enrolled -= usize::from(enrolled);
    }

    /// Ports about which Services disagree.
    pub(crate) fn ambiguous(&self) -> impl Iterator<Item = u16> + '_ {
        self.ambiguous.keys().copied()
    }

    /// What is to be published in `namespace` for the policy `key`, and how pods list it.
    pub(crate) fn plan(&self, key: &Key, policy: &Policy, namespace: &str) -> (Listing, Vec<Resource>) {
        let Some(action) = policy.read.as_ref().map(|read| read.carried.action).filter(|_| policy.is_sent())
        else {
            return (Listing::Unlisted, Vec::new());
        };
        let own = key.namespace == namespace;
        let name = if own { key.name.clone() } else { format!("root~{}", key.name) };
        let dry_run = policy.standing == Standing::DryRun;
        let resource =
            |form: &Form, name: &str, scope| form.resource(&Head { namespace, name, scope, action, dry_run });
        let forms: Vec<&Arc<Form>> = self.forms.values().map(|(form, _)| form).collect();
        match (&policy.reach, forms.as_slice()) {
            (Reach::Targets(_), _) | (Reach::Workloads(_), []) => (Listing::Unlisted, Vec::new()),
            (Reach::Namespace, []) => {
                let all = policy.plain.iter().map(|form| resource(form, &name, Scope::Namespace)).collect();
                (Listing::Unlisted, all)
            }
            (Reach::Namespace, [form]) => (Listing::Unlisted, vec![resource(form, &name, Scope::Namespace)]),
            (Reach::Workloads(_), [form]) => {
                let all = vec![resource(form, &name, Scope::WorkloadSelector)];
                (Listing::One(format!("{namespace}/{name}")), all)
            }
            (_, several) => {
                let variant = |form: &Form| format!("{name}~{}", &form.id[..16]);
                let all = several
                    .iter()
                    .map(|form| resource(form, &variant(form), Scope::WorkloadSelector))
                    .collect();
                let list =
                    several.iter().map(|form| (form.id.clone(), format!("{namespace}/{}", variant(form))));
                (Listing::Many(list.collect()), all)
            }
        }
    }
}

impl Listing {
    /// The name by which a pod that needs this form lists the policy.
    pub(crate) fn name(&self, form: &Form) -> Option<&str> {
        match self {
            Self::Unlisted => None,
            Self::One(name) => Some(name),
            Self::Many(names) => names.get(&form.id).map(String::as_str),
        }
    }
}
