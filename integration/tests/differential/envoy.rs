//! A table as Envoy's own configuration, written after what Istio's fields mean and not after what our translator makes
//! of them; and the program that runs it.

#[path = "envoy/rbac.rs"]
mod rbac;
#[path = "envoy/run.rs"]
mod run;

use serde_json::{Value, json};

use crate::table::{
    Action, BACKEND, Changes, Form, Match, Named, Path, Redirect, RedirectPort, Rule, Table, Target, Text,
};

pub(crate) use run::{Envoy, NAME, address};

pub(super) const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// The connection manager of one port of a table.
pub(crate) fn manager(table: &Table, port: u16) -> Value {
    let mut filters = rbac::filters(&table.policies);
    let router = json!({"@type": format!("{TYPES}.filters.http.router.v3.Router")});
    filters.push(json!({"name": "envoy.filters.http.router", "typed_config": router}));
    json!({
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": table.name,
        // BASE.
        "normalize_path": true, "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        // Mutual TLS is the mesh's own matter; what it carries is plain HTTP.
        "scheme_header_transformation": {"scheme_to_overwrite": "http"},
        "stream_idle_timeout": "0s", "server_header_transformation": "PASS_THROUGH",
        "http_filters": filters,
        "route_config": {
            "virtual_hosts": [{
                "name": table.name, "domains": ["*"], "routes": routes(table, port),
                "include_request_attempt_count": true,
            }],
        },
    })
}

/// Every match is a route of its own, in the order in which Envoy shall try them.
fn routes(table: &Table, port: u16) -> Vec<Value> {
    let everything = Match::default();
    let mut all: Vec<(&Rule, &Match)> = Vec::new();
    for rule in &table.rules {
        let here = rule.matches.iter().filter(|one| one.port.is_none_or(|own| own == port));
        all.extend(here.map(|one| (rule, one)));
        if rule.matches.is_empty() {
            all.push((rule, &everything));
        }
    }
    if table.form == Form::HttpRoute {
        // The closest first, as Gateway API has it; what is alike keeps its order.
        all.sort_by_key(|(_, one)| std::cmp::Reverse(closeness(one)));
    }
    all.into_iter().map(|(rule, one)| route(table.form, rule, one, port)).collect()
}

/// Kind and length of the path, method, headers, parameters.
fn closeness(one: &Match) -> (u8, usize, bool, usize, usize) {
    let (kind, length) = match &one.path {
        Some(Text::Exact(path)) => (3, path.len()),
        Some(Text::Prefix(path)) if path != "/" => (2, path.trim_end_matches('/').len()),
        // Gateway API leaves their place open; Istio puts them behind prefixes, but before what takes everything.
        Some(Text::Regex(path)) => (1, path.len()),
        Some(Text::Prefix(_)) | None => (0, 1),
    };
    (kind, length, one.method.is_some(), one.headers.len(), one.query.len())
}

fn route(form: Form, rule: &Rule, one: &Match, port: u16) -> Value {
    let mut value = json!({"match": condition(form, one)});
    headers(&mut value, "request", &rule.request_headers);
    headers(&mut value, "response", &rule.response_headers);
    match &rule.action {
        Action::Forward { to, rewrite } => {
            let mut action = json!({"timeout": "0s"});
            match to.as_slice() {
                [only] => {
                    let cluster = cluster(only);
                    action["weighted_clusters"] = json!({"clusters": [with_weight(cluster, 1)]});
                }
                several => {
                    let clusters = several.iter().map(|target| with_weight(cluster(target), target.weight));
                    action["weighted_clusters"] = json!({"clusters": clusters.collect::<Vec<_>>()});
                }
            }
            if let Some(path) = &rewrite.path {
                change_path(&mut action, form, one, path, "path_rewrite");
            }
            if let Some(authority) = &rewrite.authority {
                action["host_rewrite_literal"] = authority.as_str().into();
            }
            value["route"] = action;
        }
        Action::Redirect(redirect) => value["redirect"] = redirected(form, one, redirect, port),
        Action::Respond { status, body } => {
            value["direct_response"] = json!({"status": status, "body": {"inline_string": body}});
        }
    }
    value
}

fn with_weight(mut cluster: Value, weight: u32) -> Value {
    cluster["weight"] = weight.into();
    cluster
}

fn cluster(target: &Target) -> Value {
    let mut value = json!({"name": target.backend});
    headers(&mut value, "request", &target.request_headers);
    value["response_headers_to_add"] = json!([header(BACKEND, target.backend, "OVERWRITE_IF_EXISTS_OR_ADD")]);
    value
}

fn headers(value: &mut Value, of: &str, changes: &Changes) {
    let set = changes.set.iter().map(|(name, text)| header(name, text, "OVERWRITE_IF_EXISTS_OR_ADD"));
    let add = changes.add.iter().map(|(name, text)| header(name, text, "APPEND_IF_EXISTS_OR_ADD"));
    value[format!("{of}_headers_to_add")] = set.chain(add).collect();
    value[format!("{of}_headers_to_remove")] = changes.remove.clone().into();
}

fn header(name: &str, value: &str, action: &str) -> Value {
    json!({"header": {"key": name, "value": value}, "append_action": action})
}

fn condition(form: Form, one: &Match) -> Value {
    let mut value = match &one.path {
        None => json!({"prefix": "/"}),
        Some(Text::Exact(path)) => json!({"path": path}),
        Some(Text::Regex(pattern)) => json!({"safe_regex": {"regex": pattern}}),
        Some(Text::Prefix(path)) => match (form, path.trim_end_matches('/')) {
            (Form::VirtualService, _) | (Form::HttpRoute, "") => json!({"prefix": path}),
            (Form::HttpRoute, segments) => json!({"path_separated_prefix": segments}),
        },
    };
    if one.ignore_case {
        value["case_sensitive"] = false.into();
    }
    let special = [(":method", &one.method), (":authority", &one.authority)];
    let special = special
        .into_iter()
        .filter_map(|(name, wanted)| Some(json!({"name": name, "string_match": text(wanted.as_ref()?)})));
    let wanted = one.headers.iter().map(named);
    let unwanted = one.without.iter().map(|one| {
        let mut value = named(one);
        value["invert_match"] = true.into();
        if one.1.is_some() {
            value["treat_missing_header_as_empty"] = true.into();
        }
        value
    });
    value["headers"] = special.chain(wanted).chain(unwanted).collect();
    value["query_parameters"] = one.query.iter().map(named).collect();
    value
}

fn named((name, wanted): &Named) -> Value {
    match wanted {
        None => json!({"name": name, "present_match": true}),
        Some(wanted) => json!({"name": name, "string_match": text(wanted)}),
    }
}

fn text(text: &Text) -> Value {
    match text {
        Text::Exact(text) => json!({"exact": text}),
        Text::Prefix(text) => json!({"prefix": text}),
        Text::Regex(text) => json!({"safe_regex": {"regex": text}}),
    }
}

/// `whole` is what Envoy calls the change of a whole path in this place.
fn change_path(action: &mut Value, form: Form, one: &Match, path: &Path, whole: &str) {
    let substituted = |pattern: &str, by: &str| json!({"pattern": {"regex": pattern}, "substitution": by});
    match (form, path) {
        (_, Path::Regex { pattern, substitution }) => {
            action["regex_rewrite"] = substituted(pattern, substitution);
        }
        (Form::VirtualService, Path::Full(path)) if whole == "path_rewrite" => {
            action["prefix_rewrite"] = path.as_str().into();
        }
        (_, Path::Full(path)) if whole == "path_rewrite" => {
            action["regex_rewrite"] = substituted("^.*$", path);
        }
        (_, Path::Full(path)) => action[whole] = path.as_str().into(),
        (Form::VirtualService, Path::Prefix(path)) => action["prefix_rewrite"] = path.as_str().into(),
        (Form::HttpRoute, Path::Prefix(path)) => {
            let matched = match &one.path {
                Some(Text::Prefix(matched)) => matched.trim_end_matches('/'),
                _ => "",
            };
            match (matched, path.trim_end_matches('/')) {
                ("", "") => {}
                ("", by) => action["prefix_rewrite"] = format!("{by}/").into(),
                (matched, "") => {
                    action["regex_rewrite"] = substituted(&format!("^{}/?", escaped(matched)), "/")
                }
                (_, by) => action["prefix_rewrite"] = by.into(),
            }
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('.', "[.]")
}

fn redirected(form: Form, one: &Match, redirect: &Redirect, port: u16) -> Value {
    let codes = [
        (301, "MOVED_PERMANENTLY"),
        (302, "FOUND"),
        (303, "SEE_OTHER"),
        (307, "TEMPORARY_REDIRECT"),
        (308, "PERMANENT_REDIRECT"),
    ];
    let code = codes.into_iter().find(|(status, _)| *status == redirect.status).map(|(_, name)| name);
    let mut value = json!({"response_code": code});
    if let Some(scheme) = redirect.scheme {
        value["scheme_redirect"] = scheme.into();
    }
    if let Some(authority) = redirect.authority {
        value["host_redirect"] = authority.into();
    }
    // What Gateway API says of ports: the scheme's own if a scheme is named, else that of the listener; and a port that
    // goes without saying is not said.
    let by_gateway = |redirect: &Redirect| match (redirect.port, redirect.scheme) {
        (RedirectPort::Number(port), _) => Some(port),
        (_, Some("https")) => Some(443),
        (_, Some(_)) => Some(80),
        (_, None) => Some(port),
    };
    let number = match (form, redirect.port) {
        (Form::HttpRoute, _) => by_gateway(redirect),
        (Form::VirtualService, RedirectPort::Number(port)) => Some(port),
        (Form::VirtualService, RedirectPort::OfRequest) => Some(port),
        (Form::VirtualService, RedirectPort::OfScheme) => {
            Some(if redirect.scheme == Some("https") { 443 } else { 80 })
        }
        (Form::VirtualService, RedirectPort::Unsaid) => None,
    };
    if let Some(number) = number {
        value["port_redirect"] = number.into();
    }
    if let Some(path) = &redirect.path {
        change_path(&mut value, form, one, path, "path_redirect");
    }
    value
}
