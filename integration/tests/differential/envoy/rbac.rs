//! AuthorizationPolicies as Envoy's filters: one that denies, then one that allows.

use serde_json::{Map, Value, json};

use super::TYPES;
use crate::table::{Condition, Field, Policy, PolicyRule};

/// A dry run has no effect, so it has no filter.
pub(super) fn filters(policies: &[Policy]) -> Vec<Value> {
    let of = |deny: bool| {
        let these: Vec<_> = policies.iter().filter(|policy| policy.deny == deny && !policy.dry_run).collect();
        if these.is_empty() {
            return None;
        }
        let rules = these.iter().enumerate().flat_map(|(number, policy)| {
            let rules = policy.rules.iter().enumerate();
            rules.map(move |(place, one)| (format!("{number}-{place}"), rule(one)))
        });
        let rules: Map<String, Value> = rules.collect();
        Some(json!({"name": "envoy.filters.http.rbac", "typed_config": {
            "@type": format!("{TYPES}.filters.http.rbac.v3.RBAC"),
            "rules": {"action": if deny { "DENY" } else { "ALLOW" }, "policies": rules},
        }}))
    };
    [of(true), of(false)].into_iter().flatten().collect()
}

fn rule(rule: &PolicyRule) -> Value {
    let mut permissions = vec![any_of("rules", rule.to.iter().map(|one| all_of("rules", one, permission)))];
    let mut principals = vec![any_of("ids", rule.from.iter().map(|one| all_of("ids", one, principal)))];
    for condition in &rule.when {
        match condition.key.split_once('[') {
            _ if condition.key == "destination.port" => permissions.push(wanted("rules", condition, port)),
            None => principals.push(wanted("ids", condition, |value| match condition.key.as_str() {
                "source.namespace" => namespace(value),
                _ => identity(value),
            })),
            Some((_, name)) => {
                let name = name.trim_end_matches(']');
                permissions.push(wanted("rules", condition, |value| header(name, value)));
            }
        }
    }
    json!({
        "permissions": [{"and_rules": {"rules": permissions}}],
        "principals": [{"and_ids": {"ids": principals}}],
    })
}

/// `what` is `rules` or `ids`. Nothing asked is everything allowed.
fn any_of(what: &str, list: impl Iterator<Item = Value>) -> Value {
    let list: Vec<_> = list.collect();
    if list.is_empty() { json!({"any": true}) } else { json!({format!("or_{what}"): {what: list}}) }
}

fn all_of(what: &str, fields: &[Field], one: impl Fn(&str, &str) -> Value) -> Value {
    let of = |field: &Field| {
        let any = any_of(what, field.values.iter().map(|value| one(field.name, value)));
        if field.not { not(what, any) } else { any }
    };
    json!({format!("and_{what}"): {what: fields.iter().map(of).collect::<Vec<_>>()}})
}

fn not(what: &str, one: Value) -> Value {
    json!({format!("not_{}", what.trim_end_matches('s')): one})
}

fn wanted(what: &str, condition: &Condition, one: impl Fn(&str) -> Value) -> Value {
    let mut all = Vec::new();
    if !condition.values.is_empty() {
        all.push(any_of(what, condition.values.iter().map(|value| one(value))));
    }
    if !condition.not_values.is_empty() {
        all.push(not(what, any_of(what, condition.not_values.iter().map(|value| one(value)))));
    }
    json!({format!("and_{what}"): {what: all}})
}

fn permission(name: &str, value: &str) -> Value {
    match name {
        "paths" => path(value),
        "methods" => header(":method", value),
        "hosts" => host(value),
        "ports" => port(value),
        other => panic!("no field of an operation: {other}"),
    }
}

fn principal(name: &str, value: &str) -> Value {
    match name {
        "principals" => identity(value),
        "namespaces" => namespace(value),
        "serviceAccounts" => {
            // Without a namespace: that of the policy.
            let (namespace, account) = value.split_once('/').unwrap_or(("diff", value));
            authenticated(
                json!({"safe_regex": {"regex": format!("spiffe://[^/]+/ns/{namespace}/sa/{account}")}}),
            )
        }
        other => panic!("no field of a source: {other}"),
    }
}

fn authenticated(name: Value) -> Value {
    json!({"authenticated": {"principal_name": name}})
}

/// Compared without `spiffe://`.
fn identity(value: &str) -> Value {
    authenticated(match wildcard(value) {
        Wildcard::Any => json!({"safe_regex": {"regex": ".+"}}),
        Wildcard::Prefix(text) => json!({"prefix": format!("spiffe://{text}")}),
        Wildcard::Suffix(text) => json!({"suffix": text}),
        Wildcard::Exact(text) => json!({"exact": format!("spiffe://{text}")}),
    })
}

fn namespace(value: &str) -> Value {
    let pattern = value.replace('*', "[^/]*");
    authenticated(json!({"safe_regex": {"regex": format!("spiffe://[^/]+/ns/{pattern}/sa/[^/]+")}}))
}

fn port(value: &str) -> Value {
    json!({"destination_port": value.parse::<u16>().expect("a port")})
}

fn path(value: &str) -> Value {
    if value.contains('{') {
        let template = value.replace("{**}", "**").replace("{*}", "*");
        return json!({"uri_template": {"name": "template", "typed_config": {
            "@type": format!("{TYPES}.path.match.uri_template.v3.UriTemplateMatchConfig"),
            "path_template": template,
        }}});
    }
    json!({"url_path": {"path": text(value)}})
}

fn header(name: &str, value: &str) -> Value {
    json!({"header": {"name": name, "string_match": text(value)}})
}

/// In any case of letters; a host without a port means every port.
fn host(value: &str) -> Value {
    let pattern = match wildcard(value) {
        Wildcard::Any => ".+".to_owned(),
        Wildcard::Prefix(text) => format!("{}.*", text.replace('.', "[.]")),
        Wildcard::Suffix(text) => format!(".*{}(:[0-9]+)?", text.replace('.', "[.]")),
        Wildcard::Exact(text) if text.contains(':') => text.to_owned(),
        Wildcard::Exact(text) => format!("{}(:[0-9]+)?", text.replace('.', "[.]")),
    };
    json!({"header": {"name": ":authority", "string_match": {"safe_regex": {"regex": format!("(?i){pattern}")}}}})
}

enum Wildcard<'a> {
    Any,
    Prefix(&'a str),
    Suffix(&'a str),
    Exact(&'a str),
}

fn wildcard(value: &str) -> Wildcard<'_> {
    match (value, value.strip_suffix('*'), value.strip_prefix('*')) {
        ("*", ..) => Wildcard::Any,
        (_, Some(prefix), _) => Wildcard::Prefix(prefix),
        (_, None, Some(suffix)) => Wildcard::Suffix(suffix),
        (text, None, None) => Wildcard::Exact(text),
    }
}

fn text(value: &str) -> Value {
    match wildcard(value) {
        Wildcard::Any => json!({"safe_regex": {"regex": ".+"}}),
        Wildcard::Prefix(text) => json!({"prefix": text}),
        Wildcard::Suffix(text) => json!({"suffix": text}),
        Wildcard::Exact(text) => json!({"exact": text}),
    }
}
