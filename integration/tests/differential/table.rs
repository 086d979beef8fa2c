//! A route table with its policies, in terms of neither Ambit nor Envoy, and a request that may fall on it.

use std::collections::BTreeMap;

/// Where requests go: a pod of this name stands behind ours and one behind Envoy.
pub(crate) const BACKENDS: [&str; 3] = ["one", "two", "three"];
/// Ports of every table's Service.
pub(crate) const PORTS: [u16; 2] = [80, 81];
/// Who calls: namespace and service account.
pub(crate) const CLIENTS: [(&str, &str); 2] = [("diff", "alice"), ("other", "bob")];
/// Response header with which a rule says its number.
pub(crate) const RULE: &str = "x-rule";
/// Response header with which a backend of a rule says its name.
pub(crate) const BACKEND: &str = "x-backend";

/// Rules for one Service, and who may call it.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) form: Form,
    pub(crate) rules: Vec<Rule>,
    pub(crate) policies: Vec<Policy>,
}

/// What a table is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    VirtualService,
    HttpRoute,
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// Any; none is everything.
    pub(crate) matches: Vec<Match>,
    pub(crate) action: Action,
    pub(crate) request_headers: Changes,
    pub(crate) response_headers: Changes,
}

/// All that is set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Match {
    pub(crate) path: Option<Text>,
    pub(crate) ignore_case: bool,
    pub(crate) method: Option<Text>,
    pub(crate) authority: Option<Text>,
    pub(crate) headers: Vec<Named>,
    pub(crate) without: Vec<Named>,
    pub(crate) query: Vec<Named>,
    pub(crate) port: Option<u16>,
}

/// A header or parameter; without a text, its presence.
pub(crate) type Named = (String, Option<Text>);

/// A prefix is one of characters in a VirtualService, one of segments in an HTTPRoute.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    Exact(String),
    Prefix(String),
    Regex(String),
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Forward { to: Vec<Target>, rewrite: Rewrite },
    Redirect(Redirect),
    Respond { status: u16, body: String },
}

/// A backend and its share.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) backend: &'static str,
    /// As a subset of the Service of all backends, not as a Service of its own.
    pub(crate) subset: bool,
    pub(crate) weight: u32,
    pub(crate) request_headers: Changes,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Rewrite {
    pub(crate) path: Option<Path>,
    pub(crate) authority: Option<String>,
}

/// A new path.
#[derive(Clone, Debug)]
pub(crate) enum Path {
    /// In the place of the matched prefix.
    Prefix(String),
    /// In the place of the whole.
    Full(String),
    /// In the place of every match.
    Regex { pattern: String, substitution: String },
}

#[derive(Clone, Debug)]
pub(crate) struct Redirect {
    pub(crate) scheme: Option<&'static str>,
    pub(crate) authority: Option<&'static str>,
    pub(crate) port: RedirectPort,
    pub(crate) path: Option<Path>,
    pub(crate) status: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RedirectPort {
    /// Nothing is said.
    Unsaid,
    Number(u16),
    /// `FROM_REQUEST_PORT`.
    OfRequest,
    /// `FROM_PROTOCOL_DEFAULT`.
    OfScheme,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) set: BTreeMap<String, String>,
    pub(crate) add: BTreeMap<String, String>,
    pub(crate) remove: Vec<String>,
}

/// An AuthorizationPolicy for the Service.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) deny: bool,
    pub(crate) dry_run: bool,
    pub(crate) rules: Vec<PolicyRule>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyRule {
    pub(crate) from: Vec<Vec<Field>>,
    pub(crate) to: Vec<Vec<Field>>,
    pub(crate) when: Vec<Condition>,
}

/// `paths: […]` or `notPaths: […]`.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) not: bool,
    pub(crate) values: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) key: String,
    pub(crate) values: Vec<String>,
    pub(crate) not_values: Vec<String>,
}

/// What is sent to both.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Place in [`CLIENTS`].
    pub(crate) client: usize,
    pub(crate) port: u16,
    pub(crate) method: &'static str,
    /// Path and query as they go over the wire.
    pub(crate) target: String,
    pub(crate) authority: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Rule {
    /// The backends it can reach, with their shares.
    pub(crate) fn shares(&self) -> Vec<(&'static str, f64)> {
        let Action::Forward { to, .. } = &self.action else { return Vec::new() };
        if let [one] = to.as_slice() {
            return vec![(one.backend, 1.0)];
        }
        let total: u32 = to.iter().map(|target| target.weight).sum();
        to.iter().map(|target| (target.backend, f64::from(target.weight) / f64::from(total))).collect()
    }
}
