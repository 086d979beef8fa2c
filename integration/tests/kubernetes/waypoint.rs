//! A waypoint by kubectl: it serves within seconds of its Gateway, routes and policies do what they do in the lab, and
//! `kubectl get` says who enforces what and what is not enforced yet.

use std::time::Duration;

use ambit_lab::cluster::{Cluster, eventually};

use crate::mesh::{AMBIENT, SOON, Space, condition, installed};
use crate::rollout::{WAYPOINT, programmed};
use crate::support::{Check, check};

/// Longest time from a Gateway to its condition Programmed, on two busy processors.
const SECONDS: Duration = Duration::from_secs(if cfg!(debug_assertions) { 40 } else { 15 });

const SERVERS: &str = "
{apiVersion: v1, kind: ServiceAccount, metadata: {name: client}}
---
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web, version: v1}, ports: [{name: http, port: 80, targetPort: 5678}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web-v2}, spec: {selector: {app: web, version: v2}, ports: [{name: http, port: 80, targetPort: 5678}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-v1, labels: {app: web, version: v1}}, spec: {terminationGracePeriodSeconds: 1,
  containers: [{name: web, image: 'hashicorp/http-echo:1.0', args: [-text=first]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-v2, labels: {app: web, version: v2}}, spec: {terminationGracePeriodSeconds: 1,
  containers: [{name: web, image: 'hashicorp/http-echo:1.0', args: [-text=second]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client}, spec: {serviceAccountName: client, terminationGracePeriodSeconds: 1,
  containers: [{name: curl, image: 'curlimages/curl:8.17.0', command: [sleep, infinity]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: stranger}, spec: {terminationGracePeriodSeconds: 1,
  containers: [{name: curl, image: 'curlimages/curl:8.17.0', command: [sleep, infinity]}]}}
";
/// A route of the Gateway API, one policy that a waypoint enforces and one that a ztunnel does.
const RULES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 80}]
  rules:
  - matches: [{headers: [{name: x-version, value: v2}]}]
    backendRefs: [{name: web-v2, port: 80}]
  - backendRefs: [{name: web, port: 80}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: reading}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  rules:
  - to: [{operation: {methods: [GET]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: the-client}
spec:
  selector: {matchLabels: {app: web, version: v2}}
  rules:
  - from: [{source: {serviceAccounts: [client]}}]
";
/// What comes later, and what a route can do but for one field.
const LATER: &str = "
{apiVersion: telemetry.istio.io/v1, kind: Telemetry, metadata: {name: logs}, spec: {accessLogging: [{providers: [{name: envoy}]}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: second}
spec:
  hosts: [web-v2]
  http:
  - corsPolicy: {allowOrigins: [{exact: 'https://example.com'}]}
    route: [{destination: {host: web-v2}}]
";
/// Kind, name, and what the condition Enforced must say: status, reason, and a part of its message.
const SAID: [(&str, &str, &str, &str, &str); 5] = [
    ("httproute", "web", "True", "", "by waypoint waypoint/waypoint"),
    ("authorizationpolicy", "reading", "True", "Waypoint", "by waypoint waypoint/waypoint"),
    ("authorizationpolicy", "the-client", "True", "", "ztunnel"),
    ("telemetry", "logs", "False", "NotYetEnforced", "nothing obeys it yet"),
    ("virtualservice", "second", "", "", "corsPolicy"),
];

pub(crate) fn by_kubectl(cluster: &Cluster) -> Check {
    installed(cluster)?;
    let space = Space::new(cluster, "waypoint", &format!("{AMBIENT}, istio.io/use-waypoint: waypoint"))?;
    space.apply(SERVERS)?;
    space.ready()?;
    space.apply(WAYPOINT)?;
    let took = programmed(&space)?;
    println!("Programmed after {took:.1?}");
    check(took < SECONDS, || format!("Programmed after {took:?}"))?;
    space.apply(RULES)?;
    space.apply(LATER)?;
    behaves(&space)?;
    for said in SAID {
        is_said(&space, said)?;
    }
    // The same in the columns that people see first.
    let table = space.must(&["get", "authorizationpolicies"])?;
    println!("{table}");
    check(table.contains("ENFORCED") && table.contains("Waypoint"), || table.clone())
}

fn behaves(space: &Space<'_>) -> Check {
    let answers = |pod: &str, words: &[&str], text: &str| {
        eventually(&format!("{text} for {words:?} from {pod}"), SOON, || match space.curl(pod, words) {
            Ok((200, body)) if body.contains(text) => Ok(()),
            other => Err(format!("{other:?}")),
        })
    };
    answers("client", &["web"], "first")?;
    answers("client", &["-H", "x-version: v2", "web"], "second")?;
    answers("client", &["web-v2"], "second")?;
    space.comes_to("client", &["-X", "DELETE", "web"], 403)?;
    space.comes_to("stranger", &["web-v2"], 403)?;
    // The way round the waypoint.
    let pods = ["v1", "v2"].map(|version| space.get("pod", &format!("web-{version}")));
    for pod in pods {
        let address = pod?["status"]["podIP"].as_str().unwrap_or_default().to_owned();
        space.comes_to("stranger", &[&format!("http://{address}:5678/")], 0)?;
    }
    Ok(answers("stranger", &["web"], "first")?)
}

fn is_said(space: &Space<'_>, (kind, name, status, reason, part): (&str, &str, &str, &str, &str)) -> Check {
    let said = eventually(&format!("what {kind} {name} says"), SOON, || {
        let object = space.get(kind, name).map_err(|failed| format!("{failed:?}"))?;
        match enforced(&object) {
            Some(said) if said.0.contains(status) && said.1.contains(reason) && said.2.contains(part) => {
                Ok(said)
            }
            _ => Err(object["status"].to_string()),
        }
    })?;
    println!("{kind} {name}: {said:?}");
    Ok(())
}

/// The condition Enforced, which routes of the Gateway API have for each of their parents.
fn enforced(object: &serde_json::Value) -> Option<(String, String, String)> {
    let parents = object["status"]["parents"].as_array().into_iter().flatten();
    let mut found =
        parents.filter_map(|parent| condition(&serde_json::json!({ "status": parent }), "Enforced"));
    found.next().or_else(|| condition(object, "Enforced"))
}
