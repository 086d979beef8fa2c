//! The rules of one Service while they are made, with what their owners should hear about them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ambit_api::wire::waypoint::{HttpMatch, HttpRule, TcpRule, http_rule};
use ambit_crds::code::Code;
use ambit_crds::meta::ObjectRef;

use super::{Context, Routed};
use crate::objects::Key;

/// Whose rules are made (a Service's, or those of a Gateway of this name), and from where they are seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) ctx: &'a Context<'a>,
    pub(crate) service: &'a Key,
    /// The waypoint's namespace.
    pub(crate) viewer: &'a str,
}

/// What was made so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    pub(crate) http: Vec<HttpRule>,
    pub(crate) tcp: Vec<TcpRule>,
    pub(crate) sources: BTreeSet<ObjectRef>,
    /// What is worth telling an object's owner.
    pub(crate) remarks: Remarks,
}

/// What the owners of objects should hear.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remarks {
    /// Consequences of what they wrote.
    pub(crate) said: BTreeMap<ObjectRef, BTreeSet<Remark>>,
    /// Fields that nothing obeys yet.
    pub(crate) not_yet: BTreeMap<ObjectRef, BTreeSet<String>>,
}

/// One consequence of what is written in a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Remark {
    /// Path below `spec`; empty where it is the whole object's.
    pub(crate) field: String,
    pub(crate) text: String,
    pub(crate) code: Code,
}

impl Remark {
    pub(crate) fn new(code: Code, field: impl Into<String>, text: impl Into<String>) -> Self {
        Self { field: field.into(), text: text.into(), code }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.text)
    }
}

impl Draft {
    /// Notes something for the owner of an object.
    pub(crate) fn remark(&mut self, object: &ObjectRef, remark: Remark) {
        self.remarks.said.entry(object.clone()).or_default().insert(remark);
    }

    /// Notes a field that nothing obeys yet.
    pub(crate) fn not_yet(&mut self, object: &ObjectRef, field: String) {
        self.remarks.not_yet.entry(object.clone()).or_default().insert(field);
    }

    /// The finished rules.
    pub(crate) fn finish(self, ctx: &Context<'_>) -> Routed {
        let mut destinations: BTreeSet<Key> = BTreeSet::new();
        let mut client_labels = BTreeSet::new();
        let mut add = |service: &str| {
            let key = service.split_once('/').and_then(|(namespace, host)| {
                let name = host.split('.').next()?;
                Some(Key::new(namespace, name))
            });
            destinations.extend(key.filter(|key| ctx.served(key).is_some()));
        };
        for rule in &self.http {
            if let Some(http_rule::Action::Forward(forward)) = &rule.action {
                forward.backends.iter().filter(|one| one.broken == 0).for_each(|one| add(&one.service));
            }
            rule.mirrors.iter().for_each(|one| add(&one.service));
            let labels = rule.matches.iter().flat_map(|one: &HttpMatch| one.source_labels.keys());
            client_labels.extend(labels.cloned());
        }
        for rule in &self.tcp {
            rule.backends.iter().filter(|one| one.broken == 0).for_each(|one| add(&one.service));
            client_labels.extend(rule.matches.iter().flat_map(|one| one.source_labels.keys()).cloned());
        }
        Routed { http: self.http, tcp: self.tcp, destinations, client_labels, sources: self.sources }
    }
}
