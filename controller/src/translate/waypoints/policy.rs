//! AuthorizationPolicy → `ambit.waypoint.Policy`: everything it says, with every name of the mesh's trust domain.

use std::sync::Arc;

use ambit_api::policy::{ServiceAccountMatch, StringMatch};
use ambit_api::wire::waypoint as wire;
use ambit_crds::authorization_policy::{
    Action, AuthorizationPolicy, Condition, ConditionKey, Operation, Rule, Source, Values,
};
use ipnet::IpNet;

use super::place::encoded;
use super::{View, resource_name};
use crate::objects::Key;
use crate::snapshot::WaypointResources;
use crate::translate::authorization::parse::{TrustDomains, key_name};
use crate::translate::state::{State, put};

impl State {
    /// One policy: its resource while something names it.
    pub(super) fn settle_policy(&self, key: &Key, view: &View, resources: &mut WaypointResources) {
        let name: Arc<str> = resource_name(key).into();
        if !view.policies.contains(key) || !self.policies.all.contains_key(key) {
            resources.policies.remove(&name);
            return;
        }
        let message = match self.objects.get::<AuthorizationPolicy>(key) {
            Some(policy) => message(key, policy, &self.mesh.domains),
            // Never valid: it closes what names it.
            None => wire::Policy {
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                closed: true,
                ..wire::Policy::default()
            },
        };
        put(&mut resources.policies, encoded(&name, &message));
    }
}

/// What a waypoint is told of a valid policy.
pub(crate) fn message(key: &Key, policy: &AuthorizationPolicy, domains: &TrustDomains) -> wire::Policy {
    use wire::policy::Action as WireAction;
    let (action, provider) = match &policy.spec.action {
        Action::Allow => (WireAction::Allow, ""),
        Action::Deny => (WireAction::Deny, ""),
        Action::Audit => (WireAction::Audit, ""),
        Action::Custom { provider } => (WireAction::Custom, provider.as_str()),
    };
    wire::Policy {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        action: action.into(),
        dry_run: policy.is_dry_run(),
        rules: policy.spec.rules.iter().map(|one| rule(one, domains)).collect(),
        closed: false,
        provider: provider.to_owned(),
    }
}

fn rule(rule: &Rule, domains: &TrustDomains) -> wire::PolicyRule {
    wire::PolicyRule {
        from: rule.from.iter().map(|one| source(one, domains)).collect(),
        to: rule.to.iter().map(operation).collect(),
        when: rule.when.iter().map(|one| condition(one, domains)).collect(),
    }
}

fn source(source: &Source, domains: &TrustDomains) -> wire::Source {
    let principals = |list: &[StringMatch]| texts(&domains.principals(list));
    let trusted = |list: &[StringMatch]| texts(&domains.names(list));
    wire::Source {
        principals: principals(&source.principals),
        not_principals: principals(&source.not_principals),
        request_principals: texts(&source.request_principals),
        not_request_principals: texts(&source.not_request_principals),
        namespaces: texts(&source.namespaces),
        not_namespaces: texts(&source.not_namespaces),
        service_accounts: accounts(&source.service_accounts),
        not_service_accounts: accounts(&source.not_service_accounts),
        ip_blocks: networks(&source.ip_blocks),
        not_ip_blocks: networks(&source.not_ip_blocks),
        remote_ip_blocks: networks(&source.remote_ip_blocks),
        not_remote_ip_blocks: networks(&source.not_remote_ip_blocks),
        trust_domains: trusted(&source.trust_domains),
        not_trust_domains: trusted(&source.not_trust_domains),
    }
}

fn operation(operation: &Operation) -> wire::Operation {
    let ports = |list: &[u16]| list.iter().map(|port| u32::from(*port)).collect();
    wire::Operation {
        hosts: texts(&operation.hosts),
        not_hosts: texts(&operation.not_hosts),
        ports: ports(&operation.ports),
        not_ports: ports(&operation.not_ports),
        methods: texts(&operation.methods),
        not_methods: texts(&operation.not_methods),
        paths: operation.paths.clone(),
        not_paths: operation.not_paths.clone(),
    }
}

fn condition(condition: &Condition, domains: &TrustDomains) -> wire::Condition {
    let values = |values: &Values| match (values, &condition.key) {
        (Values::Text(list), ConditionKey::SourcePrincipal) => patterns(&domains.principals(list)),
        (Values::Text(list), ConditionKey::SourceTrustDomain) => patterns(&domains.names(list)),
        (Values::Text(list), _) => patterns(list),
        (Values::Networks(list), _) => networks(list),
        (Values::Ports(list), _) => list.iter().map(u16::to_string).collect(),
        (Values::ServiceAccounts(list), _) => accounts(list),
    };
    wire::Condition {
        key: key_name(&condition.key),
        values: values(&condition.values),
        not_values: values(&condition.not_values),
    }
}

fn texts(list: &[StringMatch]) -> Vec<wire::Text> {
    use wire::text::Kind;
    let kind = |one: &StringMatch| match one {
        StringMatch::Exact(text) => Kind::Exact(text.clone()),
        StringMatch::Prefix(text) => Kind::Prefix(text.clone()),
        StringMatch::Suffix(text) => Kind::Suffix(text.clone()),
        StringMatch::Presence => Kind::Present(true),
    };
    list.iter().map(|one| wire::Text { kind: Some(kind(one)) }).collect()
}

/// As their author wrote them.
fn patterns(list: &[StringMatch]) -> Vec<String> {
    let each = list.iter().map(|one| match one {
        StringMatch::Exact(text) => text.clone(),
        StringMatch::Prefix(text) => format!("{text}*"),
        StringMatch::Suffix(text) => format!("*{text}"),
        StringMatch::Presence => "*".to_owned(),
    });
    each.collect()
}

fn accounts(list: &[ServiceAccountMatch]) -> Vec<String> {
    list.iter().map(|one| format!("{}/{}", one.namespace, one.service_account)).collect()
}

fn networks(list: &[IpNet]) -> Vec<String> {
    list.iter().map(IpNet::to_string).collect()
}
