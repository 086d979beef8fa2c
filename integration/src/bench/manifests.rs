//! The manifests of `bench l7`: the same pods for everybody, and for our waypoint its Gateway, two routes and one policy.

use std::path::Path;

use super::gateway::{Between, PORT};
use super::wire::{SINK, WEB};

/// What a competitor's lab is made of.
pub(super) fn of(program: &Path, between: &Between) -> String {
    match between {
        Between::Nothing | Between::Envoy(_) => pods(program, "none"),
        Between::Ours(_) => {
            let listener = format!("name: http, port: {PORT}, protocol: HTTP");
            let gateway = "group: gateway.networking.k8s.io, kind: Gateway, name: gateway";
            pods(program, "none") + &rules("ambit", &listener, gateway)
        }
        Between::Mesh(_) => {
            let listener = "name: mesh, port: 15008, protocol: HBONE";
            pods(program, "ambient")
                + &rules("ambit-waypoint", listener, "group: \"\", kind: Service, name: server")
        }
    }
}

fn pods(program: &Path, mode: &str) -> String {
    let program = serde_json::json!(program.to_string_lossy());
    let marker = crate::standin::MARKER;
    format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{name: bench, labels: {{istio.io/dataplane-mode: {mode}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client, namespace: bench, labels: {{app: client}}}}
spec:
  nodeName: node-1
  containers: [{{name: client, image: none, command: [sleep, infinity]}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: proxy, namespace: bench, labels: {{app: proxy}}}}
spec:
  nodeName: node-1
  containers: [{{name: proxy, image: none, command: [sleep, infinity]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: server, namespace: bench, labels: {{istio.io/use-waypoint: gateway}}}}
spec: {{selector: {{app: server}}, ports: [{{name: http, port: {WEB}}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: server, namespace: bench, labels: {{app: server}}}}
spec:
  nodeName: node-2
  containers:
    - name: server
      image: none
      command: [{program}, {marker}, bench-server]
      ports: [{{containerPort: {WEB}}}, {{containerPort: {SINK}}}]
      readinessProbe: {{tcpSocket: {{port: {SINK}}}, periodSeconds: 1}}
"#
    )
}

/// Two routes and one policy; both belong to `parent`.
fn rules(class: &str, listener: &str, parent: &str) -> String {
    format!(
        r#"---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gateway, namespace: bench}}
spec: {{gatewayClassName: {class}, listeners: [{{{listener}}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: server, namespace: bench}}
spec:
  parentRefs: [{{{parent}}}]
  rules:
    - matches: [{{path: {{type: PathPrefix, value: /api}}}}]
      backendRefs: [{{name: server, port: {WEB}}}]
    - matches: [{{path: {{type: PathPrefix, value: /}}}}]
      backendRefs: [{{name: server, port: {WEB}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: reads, namespace: bench}}
spec:
  targetRefs: [{{{parent}}}]
  rules: [{{to: [{{operation: {{methods: [GET]}}}}]}}]
"#
    )
}
