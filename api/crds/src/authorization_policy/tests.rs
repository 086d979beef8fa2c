//! Tables of policies that are read and of mistakes that are not.

use ambit_api::policy::{ServiceAccountMatch, StringMatch};

use super::{Action, AuthorizationPolicy, ConditionKey, Scope, Values};
use crate::object::Object;

fn policy(spec: &str) -> AuthorizationPolicy {
    let text = format!(
        "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: p, namespace: ns}}, spec: {spec}}}"
    );
    let loaded = crate::read::tests::object(&text);
    match &*loaded {
        Object::AuthorizationPolicy(policy) => policy.clone(),
        other => panic!("{other:?}"),
    }
}

fn account(namespace: &str, name: &str) -> ServiceAccountMatch {
    ServiceAccountMatch { namespace: namespace.to_owned(), service_account: name.to_owned() }
}

#[test]
fn every_attribute_is_kept() {
    let policy = policy(
        "{rules: [{from: [{source: {principals: [a, 'b*', '*c', '*'], notNamespaces: [x], ipBlocks: [10.0.0.1, 10.9.9.9/8], \
         remoteIpBlocks: ['::1'], requestPrincipals: ['*'], trustDomains: [td]}}, {source: {serviceAccounts: [sa, m/sa2]}}], \
         to: [{operation: {ports: ['80', '65535'], hosts: [h], methods: [GET], paths: ['/a/{*}/b', '/x*'], notPaths: ['/y']}}], \
         when: [{key: 'request.headers[X-A]', values: ['a*b']}, {key: 'request.auth.claims[a][b]', notValues: [c]}, \
         {key: source.serviceAccount, values: [sa]}, {key: destination.port, values: ['1']}]}]}",
    );
    let rule = &policy.spec.rules[0];
    let source = &rule.from[0];
    let exact = |text: &str| StringMatch::Exact(text.to_owned());
    let suffix = StringMatch::Suffix("c".to_owned());
    assert_eq!(
        source.principals,
        [exact("a"), StringMatch::Prefix("b".to_owned()), suffix, StringMatch::Presence]
    );
    assert_eq!(source.not_namespaces, [exact("x")]);
    assert_eq!(source.ip_blocks, ["10.0.0.1/32".parse().unwrap(), "10.0.0.0/8".parse().unwrap()]);
    assert_eq!(source.remote_ip_blocks, ["::1/128".parse().unwrap()]);
    assert_eq!(source.request_principals, [StringMatch::Presence]);
    assert_eq!(source.trust_domains, [exact("td")]);
    assert_eq!(rule.from[1].service_accounts, [account("ns", "sa"), account("m", "sa2")]);
    assert_eq!(rule.to[0].ports, [80, 65535]);
    assert_eq!(rule.to[0].paths, ["/a/{*}/b", "/x*"]);
    assert_eq!(rule.to[0].not_paths, ["/y"]);
    assert_eq!(rule.when[0].key, ConditionKey::RequestHeader("x-a".to_owned()));
    assert_eq!(rule.when[0].values, Values::Text(vec![exact("a*b")]));
    assert_eq!(rule.when[1].key, ConditionKey::RequestClaim(vec!["a".to_owned(), "b".to_owned()]));
    assert!(rule.when[1].values.is_empty() && !rule.when[1].not_values.is_empty());
    assert_eq!(rule.when[2].values, Values::ServiceAccounts(vec![account("ns", "sa")]));
    assert_eq!(rule.when[3].values, Values::Ports(vec![1]));
}

#[test]
fn scopes_and_actions() {
    assert_eq!(policy("{}").spec.scope, Scope::Namespace);
    assert_eq!(policy("null").spec.rules, []);
    assert_eq!(policy("{rules: [{}]}").spec.rules.len(), 1);
    assert_eq!(policy("{selector: {}}").spec.scope, Scope::Namespace);
    assert!(
        matches!(policy("{selector: {matchLabels: {a: b}}}").spec.scope, Scope::Selector(labels) if labels["a"] == "b")
    );
    for refs in ["targetRef: {kind: Service, name: s}", "targetRefs: [{kind: Service, group: '', name: s}]"] {
        assert!(
            matches!(policy(&format!("{{{refs}}}")).spec.scope, Scope::Targets(targets) if targets[0].name == "s")
        );
    }
    assert_eq!(policy("{action: AUDIT}").spec.action, Action::Audit);
    assert_eq!(policy("{action: null}").spec.action, Action::Allow);
    let custom = policy("{action: CUSTOM, provider: {name: opa}}").spec.action;
    assert_eq!(custom, Action::Custom { provider: "opa".to_owned() });
}
