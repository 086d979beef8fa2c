//! Random routes, subsets, and leave to refer across namespaces.

use ambit_crds::destination_rule::DestinationRule;
use ambit_crds::grpc_route::GrpcRoute;
use ambit_crds::http_route::HttpRoute;
use ambit_crds::object::Object;
use ambit_crds::reference_grant::ReferenceGrant;
use ambit_crds::virtual_service::VirtualService;
use rand::Rng as _;
use rand::rngs::SmallRng;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{NAMESPACES, meta, pick};

/// A route or what routes depend on, of any kind.
pub(super) fn random_route(rng: &mut SmallRng, namespace: &str) -> Object {
    match rng.random_range(0..10) {
        0..4 => virtual_service(rng, namespace),
        4..6 => destination_rule(rng, namespace),
        6..8 => http_route(rng, namespace),
        8 => grpc_route(rng, namespace),
        _ => reference_grant(rng, namespace),
    }
}

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a spec")
}

fn host(rng: &mut SmallRng) -> String {
    let service = format!("svc{}", rng.random_range(0..4));
    match rng.random_range(0..10) {
        0..7 => service,
        7 | 8 => format!("{service}.{}.svc.cluster.local", pick(rng, &NAMESPACES)),
        _ => format!("*.{}.svc.cluster.local", pick(rng, &NAMESPACES)),
    }
}

/// Of one Service.
fn destination(rng: &mut SmallRng) -> Value {
    let host = loop {
        let host = host(rng);
        if !host.starts_with('*') {
            break host;
        }
    };
    let subset = pick(rng, &["", "", "v1", "v2"]);
    json!({ "host": host, "subset": subset })
}

fn client(rng: &mut SmallRng) -> Value {
    match rng.random_range(0..6) {
        0 => json!({ "sourceLabels": { "app": pick(rng, &["web", "api"]) } }),
        1 => json!({ "sourceLabels": { "version": "v1" }, "sourceNamespace": pick(rng, &NAMESPACES) }),
        2 => json!({ "sourceNamespace": pick(rng, &NAMESPACES) }),
        3 => json!({ "uri": { "prefix": "/x" } }),
        _ => json!({}),
    }
}

fn virtual_service(rng: &mut SmallRng, namespace: &str) -> Object {
    let meta = meta(rng, namespace, "route", 4);
    let rule = |rng: &mut SmallRng| {
        let mut rule = json!({ "route": [{ "destination": destination(rng) }] });
        if rng.random_bool(0.6) {
            rule["match"] = json!([client(rng)]);
        }
        if rng.random_bool(0.2) {
            rule["route"] = json!([
                { "destination": destination(rng), "weight": 90 },
                { "destination": destination(rng), "weight": 10 },
            ]);
        }
        if rng.random_bool(0.1) {
            rule["mirror"] = destination(rng);
        }
        if rng.random_bool(0.1) {
            let child = format!("route{}", rng.random_range(0..4));
            rule = json!({ "delegate": { "name": child, "namespace": pick(rng, &NAMESPACES) } });
        }
        rule
    };
    let mut spec = json!({ "http": (0..rng.random_range(1..3)).map(|_| rule(rng)).collect::<Vec<_>>() });
    if rng.random_bool(0.8) {
        spec["hosts"] = (0..rng.random_range(1..3)).map(|_| Value::from(host(rng))).collect();
    }
    if rng.random_bool(0.2) {
        let subnet = json!({ "route": [{ "destination": destination(rng) }], "match": [{ "port": 80 }] });
        spec["tcp"] = json!([subnet]);
    }
    if rng.random_bool(0.1) {
        spec["exportTo"] = json!([pick(rng, &[".", "*", "a"])]);
    }
    if rng.random_bool(0.1) {
        spec["gateways"] = json!([pick(rng, &["mesh", "ingress"])]);
    }
    Object::VirtualService(Box::new(VirtualService { meta, spec: read(spec) }))
}

fn destination_rule(rng: &mut SmallRng, namespace: &str) -> Object {
    let meta = meta(rng, namespace, "rule", 3);
    let mut spec = json!({ "host": host(rng) });
    if rng.random_bool(0.7) {
        let key = pick(rng, &["version", "version", "app"]);
        spec["subsets"] = json!([
            { "name": "v1", "labels": { key: "v1" } },
            { "name": "v2", "labels": { key: pick(rng, &["v2", "web"]) } },
        ]);
    }
    if rng.random_bool(0.4) {
        let simple = pick(rng, &["ROUND_ROBIN", "RANDOM"]);
        spec["trafficPolicy"] = json!({ "loadBalancer": { "simple": simple } });
    }
    Object::DestinationRule(Box::new(DestinationRule { meta, spec: read(spec) }))
}

/// What both kinds of Gateway API's routes are attached to.
fn parents(rng: &mut SmallRng) -> Value {
    let mut parent =
        json!({ "group": "", "kind": "Service", "name": format!("svc{}", rng.random_range(0..4)) });
    if rng.random_bool(0.2) {
        parent["namespace"] = pick(rng, &NAMESPACES).into();
    }
    if rng.random_bool(0.2) {
        parent["port"] = 80.into();
    }
    if rng.random_bool(0.25) {
        parent = json!({ "name": pick(rng, &["waypoint", "second"]), "namespace": pick(rng, &NAMESPACES) });
    }
    json!([parent])
}

fn backends(rng: &mut SmallRng) -> Value {
    let mut backend = json!({ "name": format!("svc{}", rng.random_range(0..4)), "port": 80 });
    if rng.random_bool(0.3) {
        backend["namespace"] = pick(rng, &NAMESPACES).into();
    }
    json!([backend])
}

fn http_route(rng: &mut SmallRng, namespace: &str) -> Object {
    let meta = meta(rng, namespace, "http", 3);
    let path = pick(rng, &["/", "/x"]);
    let rule = json!({ "matches": [{ "path": { "value": path } }], "backendRefs": backends(rng) });
    let spec = json!({ "parentRefs": parents(rng), "rules": [rule] });
    Object::HttpRoute(Box::new(HttpRoute { meta, spec: read(spec) }))
}

fn grpc_route(rng: &mut SmallRng, namespace: &str) -> Object {
    let meta = meta(rng, namespace, "grpc", 2);
    let rule = json!({ "matches": [{ "method": { "service": "s" } }], "backendRefs": backends(rng) });
    let spec = json!({ "parentRefs": parents(rng), "rules": [rule] });
    Object::GrpcRoute(Box::new(GrpcRoute { meta, spec: read(spec) }))
}

fn reference_grant(rng: &mut SmallRng, namespace: &str) -> Object {
    let from = json!({
        "group": "gateway.networking.k8s.io", "kind": pick(rng, &["HTTPRoute", "GRPCRoute"]),
        "namespace": pick(rng, &NAMESPACES),
    });
    let spec = json!({ "from": [from], "to": [{ "group": "", "kind": "Service" }] });
    Object::ReferenceGrant(ReferenceGrant { meta: meta(rng, namespace, "grant", 2), spec: read(spec) })
}
