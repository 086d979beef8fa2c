//! AuthorizationPolicy: who may do what, in Istio's words, every attribute kept.
//!
//! Parsed strictly: a misspelt or wrong-typed field makes the whole object invalid, so that it never widens anything.

pub mod condition;
mod rule;
mod text;

use serde::Deserialize;
use serde::de::Error;

pub use condition::{Condition, ConditionKey, Values};
pub use rule::{Operation, Rule, Source};

use crate::meta::{Map, ObjectMeta};

/// The most rules one policy may have.
pub const MAX_RULES: usize = 512;
/// The most objects one policy may name as targets.
pub const MAX_TARGETS: usize = 16;
/// The annotation that makes a policy counted and logged, never enforced.
pub const DRY_RUN: &str = "istio.io/dry-run";

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
    /// What it says.
    pub spec: AuthorizationPolicySpec,
}

/// What a policy says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawSpec")]
pub struct AuthorizationPolicySpec {
    /// What it applies to.
    pub scope: Scope,
    /// What it does when it matches.
    pub action: Action,
    /// Any rule suffices; without rules it matches nothing.
    pub rules: Vec<Rule>,
}

/// What a policy applies to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Every workload of its namespace (of the mesh, in the root namespace).
    #[default]
    Namespace,
    /// Workloads with these labels.
    Selector(Map),
    /// Named objects; enforced by waypoints.
    Targets(Vec<TargetRef>),
}

/// What a policy does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Allows; its presence denies what no ALLOW matches.
    #[default]
    Allow,
    /// Denies.
    Deny,
    /// Marks for the audit log; never denies.
    Audit,
    /// Asks an external authorizer.
    Custom {
        /// Its name in the mesh configuration's extension providers.
        provider: String,
    },
}

/// One object a policy is attached to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetRef {
    /// API group; empty for Service.
    #[serde(default)]
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace; only the policy's own is allowed.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// The spec as written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RawSpec {
    selector: Option<Selector>,
    target_ref: Option<TargetRef>,
    target_refs: Vec<TargetRef>,
    action: RawAction,
    provider: Option<Provider>,
    rules: Vec<Rule>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Selector {
    match_labels: Map,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    name: String,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum RawAction {
    #[default]
    Allow,
    Deny,
    Audit,
    Custom,
}

impl AuthorizationPolicy {
    /// Completes a parsed spec with what its metadata decides.
    pub(crate) fn new(meta: ObjectMeta, mut spec: AuthorizationPolicySpec) -> Self {
        for rule in &mut spec.rules {
            rule.resolve_service_accounts(&meta.namespace);
        }
        Self { meta, spec }
    }

    /// Whether it is only counted and logged.
    pub fn is_dry_run(&self) -> bool {
        self.meta.annotation(DRY_RUN).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

impl TryFrom<RawSpec> for AuthorizationPolicySpec {
    type Error = String;

    fn try_from(raw: RawSpec) -> Result<Self, String> {
        if raw.rules.len() > MAX_RULES {
            return Err(format!(
                "{} rules, at most {MAX_RULES} are allowed; split the policy",
                raw.rules.len()
            ));
        }
        let scope = scope(raw.selector, raw.target_ref, raw.target_refs)?;
        let action = action(raw.action, raw.provider)?;
        Ok(Self { scope, action, rules: raw.rules })
    }
}

fn scope(
    selector: Option<Selector>,
    one: Option<TargetRef>,
    mut targets: Vec<TargetRef>,
) -> Result<Scope, String> {
    if one.is_some() && !targets.is_empty() {
        return Err("both targetRef and targetRefs are set; keep targetRefs".to_owned());
    }
    targets.extend(one);
    if targets.len() > MAX_TARGETS {
        return Err(format!(
            "{} targetRefs, at most {MAX_TARGETS} are allowed; split the policy",
            targets.len()
        ));
    }
    let labels = selector.map(|selector| selector.match_labels).unwrap_or_default();
    if !labels.is_empty() && !targets.is_empty() {
        return Err("both selector and targetRefs are set; keep one of them".to_owned());
    }
    text::check_labels(&labels)?;
    targets.iter().try_for_each(check_target)?;
    if !targets.is_empty() {
        return Ok(Scope::Targets(targets));
    }
    Ok(if labels.is_empty() { Scope::Namespace } else { Scope::Selector(labels) })
}

fn check_target(target: &TargetRef) -> Result<(), String> {
    let known = matches!(
        (target.group.as_str(), target.kind.as_str()),
        ("" | "core", "Service")
            | ("gateway.networking.k8s.io", "Gateway" | "GatewayClass")
            | ("networking.istio.io", "ServiceEntry")
    );
    if !known {
        return Err(format!(
            "targetRefs: {:?} of group {:?} cannot carry a policy; use a Service (group \"\"), a Gateway or GatewayClass \
             (group \"gateway.networking.k8s.io\") or a ServiceEntry (group \"networking.istio.io\")",
            target.kind, target.group
        ));
    }
    if target.name.is_empty() {
        return Err("targetRefs: a target has no name; write its name".to_owned());
    }
    Ok(())
}

fn action(action: RawAction, provider: Option<Provider>) -> Result<Action, String> {
    let provider = provider.map(|provider| provider.name).filter(|name| !name.is_empty());
    match (action, provider) {
        (RawAction::Custom, Some(provider)) => Ok(Action::Custom { provider }),
        (RawAction::Custom, None) => Err("action CUSTOM has no provider; set provider.name".to_owned()),
        (_, Some(_)) => Err("provider is set without action CUSTOM; set the action or remove it".to_owned()),
        (RawAction::Allow, None) => Ok(Action::Allow),
        (RawAction::Deny, None) => Ok(Action::Deny),
        (RawAction::Audit, None) => Ok(Action::Audit),
    }
}

/// A parse error of any deserializer, from a sentence of ours.
fn fail<E: Error>(sentence: String) -> E {
    E::custom(sentence)
}

#[cfg(test)]
mod tests;
