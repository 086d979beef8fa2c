//! A table as the objects a user writes, and the room it is tried in.

use serde_json::{Map, Value, json};

use crate::table::{
    Action, BACKEND, BACKENDS, CLIENTS, Changes, Field, Form, Match, Named, PORTS, Path, Policy, PolicyRule,
    Redirect, RedirectPort, Rule, Table, Target, Text,
};

/// The namespaces, the waypoint, backends within and outside the mesh, and callers.
pub(crate) fn room() -> Vec<Value> {
    let namespace = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    let mut all = vec![
        namespace("diff", json!({"istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "waypoint"})),
        namespace("other", json!({"istio.io/dataplane-mode": "ambient"})),
        namespace("plain", json!({})),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "waypoint", "namespace": "diff"},
            "spec": {
                "gatewayClassName": "ambit-waypoint",
                "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            },
        }),
    ];
    for backend in BACKENDS {
        for namespace in ["diff", "plain"] {
            all.push(pod(namespace, backend, json!({"app": "pool", "backend": backend}), &["--port=8080"]));
        }
        all.push(service(backend, &json!({"backend": backend})));
    }
    all.push(service("pool", &json!({"app": "pool"})));
    let subsets: Vec<_> =
        BACKENDS.iter().map(|backend| json!({"name": backend, "labels": {"backend": backend}})).collect();
    all.push(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "pool", "namespace": "diff"}, "spec": {"host": "pool", "subsets": subsets},
    }));
    for (namespace, name) in CLIENTS.into_iter().chain([("plain", "envoy")]) {
        all.push(json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace},
        }));
        all.push(pod(namespace, name, json!({"app": name}), &[]));
    }
    all
}

/// With a port it serves HTTP there, without it does nothing.
fn pod(namespace: &str, name: &str, labels: Value, serves: &[&str]) -> Value {
    let container = if serves.is_empty() {
        json!({"name": "idle", "image": "ambit/idle", "command": ["sleep", "infinity"]})
    } else {
        json!({"name": "echo", "image": "ambit/echo", "args": serves, "ports": [{"containerPort": 8080}]})
    };
    let mut spec = json!({"containers": [container]});
    if serves.is_empty() {
        spec["serviceAccountName"] = name.into();
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec,
    })
}

fn service(name: &str, selector: &Value) -> Value {
    let ports = PORTS.map(|port| json!({"name": format!("http-{port}"), "port": port, "targetPort": 8080}));
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "diff"},
        "spec": {"selector": selector, "ports": ports},
    })
}

/// The Service of a table, which has no pods of its own, its routes and its policies.
pub(crate) fn table(table: &Table) -> Vec<Value> {
    let routes = match table.form {
        Form::VirtualService => json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": table.name, "namespace": "diff"},
            "spec": {"hosts": [table.name], "http": table.rules.iter().map(istio_rule).collect::<Vec<_>>()},
        }),
        Form::HttpRoute => json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": table.name, "namespace": "diff"},
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "name": table.name}],
                "rules": table.rules.iter().map(gateway_rule).collect::<Vec<_>>(),
            },
        }),
    };
    let policies = table.policies.iter().enumerate().map(|(number, policy)| {
        let name = format!("{}-{number}", table.name);
        let annotations = if policy.dry_run { json!({"istio.io/dry-run": "true"}) } else { json!({}) };
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": "diff", "annotations": annotations},
            "spec": policy_spec(policy, &table.name),
        })
    });
    let service = service(&table.name, &json!({"app": table.name}));
    [service, routes].into_iter().chain(policies).collect()
}

fn text(text: &Text) -> Value {
    match text {
        Text::Exact(text) => json!({"exact": text}),
        Text::Prefix(text) => json!({"prefix": text}),
        Text::Regex(text) => json!({"regex": text}),
    }
}

fn istio_rule(rule: &Rule) -> Value {
    let mut value = json!({"headers": {
        "request": istio_changes(&rule.request_headers), "response": istio_changes(&rule.response_headers),
    }});
    if !rule.matches.is_empty() {
        value["match"] = rule.matches.iter().map(istio_match).collect();
    }
    match &rule.action {
        Action::Forward { to, rewrite } => {
            value["route"] = to.iter().map(|target| istio_target(target, to.len())).collect();
            match &rewrite.path {
                Some(Path::Prefix(path) | Path::Full(path)) => value["rewrite"]["uri"] = path.as_str().into(),
                Some(Path::Regex { pattern, substitution }) => {
                    value["rewrite"]["uriRegexRewrite"] = json!({"match": pattern, "rewrite": substitution});
                }
                None => {}
            }
            if let Some(authority) = &rewrite.authority {
                value["rewrite"]["authority"] = authority.as_str().into();
            }
        }
        Action::Redirect(redirect) => value["redirect"] = istio_redirect(redirect),
        Action::Respond { status, body } => {
            value["directResponse"] = json!({"status": status, "body": {"string": body}});
        }
    }
    value
}

fn istio_match(one: &Match) -> Value {
    let mut value = json!({});
    let texts = [("uri", &one.path), ("method", &one.method), ("authority", &one.authority)];
    for (name, wanted) in texts {
        if let Some(wanted) = wanted {
            value[name] = text(wanted);
        }
    }
    if one.ignore_case {
        value["ignoreUriCase"] = true.into();
    }
    for (name, list) in
        [("headers", &one.headers), ("withoutHeaders", &one.without), ("queryParams", &one.query)]
    {
        if !list.is_empty() {
            let pair = |(name, wanted): &Named| (name.clone(), wanted.as_ref().map_or(json!({}), text));
            value[name] = Value::Object(list.iter().map(pair).collect());
        }
    }
    if let Some(port) = one.port {
        value["port"] = port.into();
    }
    value
}

fn istio_target(target: &Target, siblings: usize) -> Value {
    let mut value = json!({"destination": {"host": target.backend, "port": {"number": 80}}, "headers": {
        "request": istio_changes(&target.request_headers),
        "response": {"set": {BACKEND: target.backend}},
    }});
    if target.subset {
        value["destination"] = json!({"host": "pool", "subset": target.backend, "port": {"number": 80}});
    }
    if siblings > 1 {
        value["weight"] = target.weight.into();
    }
    value
}

fn istio_redirect(redirect: &Redirect) -> Value {
    let mut value = json!({"redirectCode": redirect.status});
    if let Some(scheme) = redirect.scheme {
        value["scheme"] = scheme.into();
    }
    if let Some(authority) = redirect.authority {
        value["authority"] = authority.into();
    }
    match redirect.port {
        RedirectPort::Unsaid => {}
        RedirectPort::Number(port) => value["port"] = port.into(),
        RedirectPort::OfRequest => value["derivePort"] = "FROM_REQUEST_PORT".into(),
        RedirectPort::OfScheme => value["derivePort"] = "FROM_PROTOCOL_DEFAULT".into(),
    }
    match &redirect.path {
        // `%PREFIX()%` is how a VirtualService writes that the prefix alone is replaced.
        Some(Path::Prefix(path)) => value["uri"] = format!("%PREFIX()%{path}").into(),
        Some(Path::Full(path)) => value["uri"] = path.as_str().into(),
        Some(Path::Regex { .. }) | None => {}
    }
    value
}

fn istio_changes(changes: &Changes) -> Value {
    json!({"set": changes.set, "add": changes.add, "remove": changes.remove})
}

fn gateway_rule(rule: &Rule) -> Value {
    let mut filters = Vec::new();
    let mut change = |kind: &str, field: &str, changes: &Changes| {
        let list = |map: &std::collections::BTreeMap<String, String>| -> Value {
            map.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
        };
        if !(changes.set.is_empty() && changes.add.is_empty() && changes.remove.is_empty()) {
            let body =
                json!({"set": list(&changes.set), "add": list(&changes.add), "remove": changes.remove});
            filters.push(json!({"type": kind, field: body}));
        }
    };
    change("RequestHeaderModifier", "requestHeaderModifier", &rule.request_headers);
    change("ResponseHeaderModifier", "responseHeaderModifier", &rule.response_headers);
    let mut value = json!({});
    if !rule.matches.is_empty() {
        value["matches"] = rule.matches.iter().map(gateway_match).collect();
    }
    match &rule.action {
        Action::Forward { to, rewrite } => {
            let mut body = Map::new();
            if let Some(path) = rewrite.path.as_ref().and_then(gateway_path) {
                body.insert("path".to_owned(), path);
            }
            if let Some(authority) = &rewrite.authority {
                body.insert("hostname".to_owned(), authority.as_str().into());
            }
            if !body.is_empty() {
                filters.push(json!({"type": "URLRewrite", "urlRewrite": body}));
            }
            value["backendRefs"] = to.iter().map(gateway_target).collect();
        }
        Action::Redirect(redirect) => {
            let mut body = json!({"statusCode": redirect.status});
            if let Some(scheme) = redirect.scheme {
                body["scheme"] = scheme.into();
            }
            if let Some(authority) = redirect.authority {
                body["hostname"] = authority.into();
            }
            if let RedirectPort::Number(port) = redirect.port {
                body["port"] = port.into();
            }
            if let Some(path) = redirect.path.as_ref().and_then(gateway_path) {
                body["path"] = path;
            }
            filters.push(json!({"type": "RequestRedirect", "requestRedirect": body}));
        }
        Action::Respond { .. } => {}
    }
    value["filters"] = filters.into();
    value
}

fn gateway_path(path: &Path) -> Option<Value> {
    match path {
        Path::Prefix(path) => Some(json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": path})),
        Path::Full(path) => Some(json!({"type": "ReplaceFullPath", "replaceFullPath": path})),
        Path::Regex { .. } => None,
    }
}

fn gateway_match(one: &Match) -> Value {
    let mut value = json!({});
    let kind = |wanted: &Text| match wanted {
        Text::Exact(text) => ("Exact", text.clone()),
        Text::Prefix(text) => ("PathPrefix", text.clone()),
        Text::Regex(text) => ("RegularExpression", text.clone()),
    };
    if let Some(path) = &one.path {
        let (kind, text) = kind(path);
        value["path"] = json!({"type": kind, "value": text});
    }
    if let Some(Text::Exact(method)) = &one.method {
        value["method"] = method.as_str().into();
    }
    for (name, list) in [("headers", &one.headers), ("queryParams", &one.query)] {
        let of = |(name, wanted): &Named| {
            let (kind, text) = wanted.as_ref().map(kind)?;
            Some(json!({"type": kind, "name": name, "value": text}))
        };
        if !list.is_empty() {
            value[name] = list.iter().filter_map(of).collect();
        }
    }
    value
}

fn gateway_target(target: &Target) -> Value {
    let set = |name: &str, value: &str| json!({"set": [{"name": name, "value": value}]});
    let mut filters: Vec<_> = target
        .request_headers
        .set
        .iter()
        .map(|(name, value)| json!({"type": "RequestHeaderModifier", "requestHeaderModifier": set(name, value)}))
        .collect();
    filters.push(
        json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": set(BACKEND, target.backend)}),
    );
    json!({"name": target.backend, "port": 80, "weight": target.weight, "filters": filters})
}

fn policy_spec(policy: &Policy, service: &str) -> Value {
    json!({
        "targetRefs": [{"group": "", "kind": "Service", "name": service}],
        "action": if policy.deny { "DENY" } else { "ALLOW" },
        "rules": policy.rules.iter().map(policy_rule).collect::<Vec<_>>(),
    })
}

fn policy_rule(rule: &PolicyRule) -> Value {
    let mut value = json!({});
    for (name, inner, list) in [("from", "source", &rule.from), ("to", "operation", &rule.to)] {
        if !list.is_empty() {
            value[name] = list.iter().map(|fields| json!({inner: fields_of(fields)})).collect();
        }
    }
    if !rule.when.is_empty() {
        let conditions = rule.when.iter();
        let of = |one: &crate::table::Condition| {
            let mut value = json!({"key": one.key});
            if !one.values.is_empty() {
                value["values"] = one.values.clone().into();
            }
            if !one.not_values.is_empty() {
                value["notValues"] = one.not_values.clone().into();
            }
            value
        };
        value["when"] = conditions.map(of).collect();
    }
    value
}

fn fields_of(fields: &[Field]) -> Value {
    let of = |field: &Field| {
        let name = if field.not {
            format!("not{}{}", field.name[..1].to_uppercase(), &field.name[1..])
        } else {
            field.name.to_owned()
        };
        (name, Value::from(field.values.clone()))
    };
    Value::Object(fields.iter().map(of).collect())
}
