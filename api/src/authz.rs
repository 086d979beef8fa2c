//! Layer-4 authorization: which policies apply, and whether they let a connection in. Pure; l4-protocols §6.
//!
//! The same evaluation decides, explains a denial, and re-judges open connections when policies change.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::identity::Identity;
use crate::matching;
use crate::policy::{Policy, PolicyAction, PolicyKey, PolicyScope};
use crate::reason::Reason;
use crate::workload::Workload;

pub mod http;
#[cfg(test)]
mod tests;

/// What a connection is judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The peer's identity from its certificate; `None` for plaintext.
    pub peer: Option<Identity>,
    /// The TCP peer's address.
    pub source: IpAddr,
    /// The pod's address and the application's port.
    pub destination: SocketAddr,
}

/// The policies that apply to one workload: its namespace's, the mesh's, and those it lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySet {
    /// The policies, in no particular order.
    pub policies: Vec<Arc<Policy>>,
    /// Policies the workload names that have not arrived.
    pub missing: Vec<PolicyKey>,
    /// Policies that arrived in a form nobody can evaluate and never had a good version: what they cover is closed.
    pub unusable: Vec<PolicyKey>,
}

/// Proof that a connection was judged and may go on. Only this module makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    attributes: Attributes,
    by: Option<PolicyKey>,
}

/// A refusal, with what a person needs to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.explain())]
pub struct Denied {
    /// Which judgement refused.
    pub layer: Layer,
    /// Why.
    pub reason: Reason,
    /// The DENY policy that matched, the policy that is missing, or the nearest ALLOW.
    pub policy: Option<PolicyKey>,
    /// The rule of that policy (0-based): the one that matched, or the one that came nearest.
    pub rule: Option<usize>,
    /// The first attribute of that rule that did not match, by its Kubernetes name (for example `principals`).
    pub attribute: Option<Cow<'static, str>>,
}

/// The judgements that policy.md tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// A ztunnel's, of connections.
    L4,
    /// A waypoint's, of what is attached to the service or the gateway.
    Target,
    /// A waypoint's, of what applies to the pod.
    Endpoint,
    /// A waypoint's, of what is attached to another service that locks the pod's port.
    Lock,
}

/// What dry-run policies would have done, for counters and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// The policy.
    pub policy: PolicyKey,
    /// Whether it matched.
    pub matched: bool,
}

impl DryRun {
    /// How every proxy counts them: the name, without `_total`, and what it means.
    pub const METRIC: (&'static str, &'static str) =
        ("ambit_policy_dry_run", "How often a policy under trial was judged, and whether it matched");

    /// The labels of [`DryRun::METRIC`].
    pub const LABELS: [&'static str; 3] = ["policy", "layer", "matched"];

    /// The values of [`DryRun::LABELS`].
    pub fn values(&self, layer: Layer) -> [String; 3] {
        [self.policy.to_string(), layer.to_string(), self.matched.to_string()]
    }
}

impl Attributes {
    /// The application's port.
    pub fn port(&self) -> u16 {
        self.destination.port()
    }
}

impl PolicySet {
    /// The set that judges `workload`, out of all policies known: those of its namespace, the mesh's, and those it
    /// lists. A listed policy that is not among them is missing.
    pub fn for_workload<'a>(workload: &Workload, known: impl IntoIterator<Item = &'a Arc<Policy>>) -> Self {
        let mut missing = workload.policies.clone();
        let mut policies = Vec::new();
        for policy in known {
            let listed = missing.contains(&policy.key);
            missing.retain(|key| *key != policy.key);
            let applies = match policy.scope {
                PolicyScope::Global => true,
                PolicyScope::Namespace => *policy.key.namespace == *workload.namespace,
                PolicyScope::WorkloadSelector => listed,
            };
            if applies {
                policies.push(policy.clone());
            }
        }
        Self { policies, missing, unusable: Vec::new() }
    }

    fn enforced(&self, action: PolicyAction) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.iter().filter(move |policy| policy.action == action && !policy.dry_run)
    }
}

impl Permit {
    /// What was judged.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// The ALLOW policy that let it in; `None` when no ALLOW policy applies.
    pub fn by(&self) -> Option<&PolicyKey> {
        self.by.as_ref()
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::L4 => "l4",
            Self::Target => "T",
            Self::Endpoint => "S",
            Self::Lock => "lock",
        })
    }
}

impl Denied {
    /// One line for logs: layer, reason, policy, rule and the attribute that failed.
    pub fn explain(&self) -> String {
        let mut line = format!("layer={} reason={}", self.layer, self.reason);
        let mut add = |name: &str, value: Option<&dyn fmt::Display>| {
            if let Some(value) = value {
                line.push_str(&format!(" {name}={value}"));
            }
        };
        add("policy", self.policy.as_ref().map(|policy| policy as &dyn fmt::Display));
        add("rule", self.rule.as_ref().map(|rule| rule as &dyn fmt::Display));
        add("attribute", self.attribute.as_ref().map(|attribute| attribute as &dyn fmt::Display));
        line
    }
}

/// Judges a new connection: a matching DENY refuses it, so does a policy that has not arrived or cannot be evaluated;
/// then, if any ALLOW applies, one must match.
pub fn decide(policies: &PolicySet, attributes: &Attributes) -> Result<Permit, Denied> {
    refuse_denied(policies, attributes, Reason::PolicyDenied)?;
    if let Some(key) = policies.unusable.first().or(policies.missing.first()) {
        return Err(closed_by(key, Reason::PolicyUnknown));
    }
    let by = find_allow(policies, attributes, Reason::PolicyDenied)?;
    Ok(Permit { attributes: attributes.clone(), by })
}

/// Judges an open connection again after a change. A policy that has not arrived leaves it open until it does
/// (policy.md rule 15): it may be the ALLOW that let the connection in under another name. One that cannot be evaluated
/// closes what it covers, open connections included (rule 17): nothing better is on its way.
pub fn recheck(policies: &PolicySet, attributes: &Attributes) -> Result<(), Denied> {
    refuse_denied(policies, attributes, Reason::PolicyChanged)?;
    if let Some(key) = policies.unusable.first() {
        return Err(closed_by(key, Reason::PolicyChanged));
    }
    if policies.missing.is_empty() {
        find_allow(policies, attributes, Reason::PolicyChanged)?;
    }
    Ok(())
}

/// What each dry-run policy would say about a connection. Changes nothing.
pub fn dry_run(policies: &PolicySet, attributes: &Attributes) -> Vec<DryRun> {
    let judged = policies.policies.iter().filter(|policy| policy.dry_run);
    judged
        .map(|policy| DryRun {
            policy: policy.key.clone(),
            matched: matching::matching_rule(policy, attributes).is_some(),
        })
        .collect()
}

fn closed_by(policy: &PolicyKey, reason: Reason) -> Denied {
    Denied { layer: Layer::L4, reason, policy: Some(policy.clone()), rule: None, attribute: None }
}

fn refuse_denied(policies: &PolicySet, attributes: &Attributes, reason: Reason) -> Result<(), Denied> {
    for policy in policies.enforced(PolicyAction::Deny) {
        if let Some(rule) = matching::matching_rule(policy, attributes) {
            return Err(Denied {
                layer: Layer::L4,
                reason,
                policy: Some(policy.key.clone()),
                rule: Some(rule),
                attribute: None,
            });
        }
    }
    Ok(())
}

fn find_allow(
    policies: &PolicySet,
    attributes: &Attributes,
    reason: Reason,
) -> Result<Option<PolicyKey>, Denied> {
    let mut applies = false;
    for policy in policies.enforced(PolicyAction::Allow) {
        if matching::matching_rule(policy, attributes).is_some() {
            return Ok(Some(policy.key.clone()));
        }
        applies = true;
    }
    if applies { Err(nearest(policies, attributes, reason)) } else { Ok(None) }
}

/// Explains why no ALLOW matched by the rule that came nearest; equally near ones are settled by name and place, so
/// that the same connection always gets the same answer.
fn nearest(policies: &PolicySet, attributes: &Attributes, reason: Reason) -> Denied {
    let candidates = policies.enforced(PolicyAction::Allow).flat_map(|policy| {
        let rules = policy.rules.iter().enumerate().map(move |(place, rule)| {
            let fit = matching::fit(rule, attributes);
            (Some(fit), &policy.key, Some(place))
        });
        // A policy without rules allows nothing; it is the nearest only if no other has a rule.
        let bare = policy.rules.is_empty().then_some((None, &policy.key, None));
        rules.chain(bare)
    });
    let best = candidates.max_by_key(|(fit, key, place)| {
        (fit.map(|fit| (fit.matched, Reverse(fit.missed))), Reverse(*key), Reverse(*place))
    });
    let (fit, policy, rule) =
        best.map_or((None, None, None), |(fit, key, place)| (fit, Some(key.clone()), place));
    let attribute = fit.and_then(|fit| fit.first_missed).map(Cow::Borrowed);
    Denied { layer: Layer::L4, reason, policy, rule, attribute }
}
