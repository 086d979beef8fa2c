//! The same routes and policy for Envoy, with the defaults that Istio gives it: retries, and no access log.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// One worker, as ours; only what is wrong is logged, as ours logs only that.
pub(super) const ARGUMENTS: [&str; 7] =
    ["--concurrency", "1", "--log-level", "warning", "--use-dynamic-base-id", "--drain-time-s", "1"];

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// A listener on `port` before one server.
pub(super) fn configuration(server: SocketAddr, port: u16) -> Value {
    json!({
        "static_resources": {
            "listeners": [{
                "name": "http",
                "address": address(([0, 0, 0, 0], port).into()),
                "filter_chains": [{ "filters": [{
                    "name": "http",
                    "typed_config": {
                        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                        "stat_prefix": "http",
                        "normalize_path": true,
                        "route_config": routes(),
                        "http_filters": [policy(), {
                            "name": "router",
                            "typed_config": { "@type": format!("{TYPES}.filters.http.router.v3.Router") },
                        }],
                    },
                }]}],
            }],
            "clusters": [{
                "name": "server",
                "type": "STATIC",
                "lb_policy": "LEAST_REQUEST",
                "load_assignment": {
                    "cluster_name": "server",
                    "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(server) } }] }],
                },
            }],
        },
    })
}

fn address(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } })
}

fn routes() -> Value {
    let route = |prefix: &str| {
        json!({
            "match": { "prefix": prefix },
            "route": {
                "cluster": "server",
                "timeout": "0s",
                "retry_policy": {
                    "retry_on": "connect-failure,refused-stream,unavailable,cancelled",
                    "num_retries": 2,
                },
            },
        })
    };
    json!({ "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route("/api"), route("/")] }] })
}

/// Only GET.
fn policy() -> Value {
    let get = json!({ "header": { "name": ":method", "string_match": { "exact": "GET" } } });
    json!({
        "name": "policy",
        "typed_config": {
            "@type": format!("{TYPES}.filters.http.rbac.v3.RBAC"),
            "rules": {
                "action": "ALLOW",
                "policies": { "reads": { "permissions": [get], "principals": [{ "any": true }] } },
            },
        },
    })
}
