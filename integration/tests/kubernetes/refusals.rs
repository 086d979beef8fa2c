//! Wrong objects: the schema and the webhook refuse them and name field and mend; what slips past while the webhook is away
//! is told in its status, and closes what it names.

use ambit_lab::cluster::{Cluster, SYSTEM, eventually};
use libtest_mimic::Failed;

use crate::mesh::{AMBIENT, SOON, Space, condition, installed};
use crate::support::{Check, check};

/// What is wrong, and what the refusal names. The first is the schema's to refuse, the others are valid by every schema.
const WRONG: [(&str, &str); 4] = [
    (
        "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: wrong}, spec: {mtls: {mode: STRIKT}}}",
        "spec.mtls.mode",
    ),
    (
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: wrong}, spec: {rules: [{to: [{operation: {ports: [http]}}]}]}}",
        "ports",
    ),
    (
        "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: wrong}, spec: {hosts: [web], http: [{match: [{uri: {regex: '('}}], route: [{destination: {host: web}}]}]}}",
        "regex",
    ),
    (
        "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: wrong}, spec: {hosts: [web], http: [{timeout: soon, route: [{destination: {host: web}}]}]}}",
        "timeout",
    ),
];
/// The same kinds, right: the controls.
const RIGHT: [&str; 2] = [
    "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: right}, spec: {action: DENY, rules: [{to: [{operation: {ports: ['9']}}]}]}}",
    "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: right}, spec: {hosts: [web], http: [{timeout: 1s, route: [{destination: {host: web}}]}]}}",
];
/// A policy that means to allow somebody and cannot be read, on the web server.
const SLIPPED: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: slipped}
spec:
  selector: {matchLabels: {app: web}}
  rules:
  - to: [{operation: {ports: [http]}}]
";
const MANIFESTS: &str = "
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 5678}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}}, spec: {terminationGracePeriodSeconds: 1,
  containers: [{name: web, image: 'hashicorp/http-echo:1.0', args: [-text=hello]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client}, spec: {terminationGracePeriodSeconds: 1,
  containers: [{name: curl, image: 'curlimages/curl:8.17.0', command: [sleep, infinity]}]}}
";
const CONTROLLER: &str = "deployment/ambit-controller";

/// The cluster without a controller, and so without a webhook; with one again when this is dropped.
struct Away<'a>(&'a Cluster, String);

impl<'a> Away<'a> {
    fn begin(cluster: &'a Cluster) -> Result<Self, Failed> {
        let words = ["get", "-n", SYSTEM, CONTROLLER, "-o", "jsonpath={.spec.replicas}"];
        let away = Self(cluster, cluster.must(&words)?);
        away.scale("0")?;
        cluster.gone(SYSTEM, "pods", "app=controller", SOON)?;
        Ok(away)
    }

    fn scale(&self, replicas: &str) -> Check {
        self.0.must(&["scale", "-n", SYSTEM, CONTROLLER, &format!("--replicas={replicas}")])?;
        Ok(())
    }

    fn end(self) -> Check {
        let cluster = self.0;
        drop(self);
        Ok(cluster.ready(SYSTEM, SOON)?)
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        let _as_before = self.scale(&self.1);
    }
}

pub(crate) fn refused(cluster: &Cluster) -> Check {
    installed(cluster)?;
    let space = Space::new(cluster, "refusals", AMBIENT)?;
    for right in RIGHT {
        space.apply(right)?;
    }
    for (wrong, field) in WRONG {
        let said = cluster.fed(&["apply", "-n", space.name, "-f", "-"], wrong)?;
        check(!said.well() && said.err.contains(field), || format!("{wrong}: {}", said.all()))?;
        println!("{}", said.err.trim());
    }
    slipped(&space)
}

/// While nobody judges what comes, the cluster takes it; the mesh does not obey it, and is closed.
fn slipped(space: &Space<'_>) -> Check {
    for right in RIGHT {
        let _gone = space.cluster.fed(&["delete", "-n", space.name, "-f", "-"], right)?;
    }
    space.apply(MANIFESTS)?;
    space.ready()?;
    space.comes_to("client", &["web"], 200)?;
    let without = Away::begin(space.cluster)?;
    space.apply(SLIPPED)?;
    without.end()?;
    space.comes_to("client", &["web"], 0)?;
    let said = eventually("a status that says so", SOON, || {
        let policy = space.get("authorizationpolicy", "slipped").map_err(|failed| format!("{failed:?}"))?;
        let found = ["Accepted", "Enforced", "Ready"].iter().find_map(|kind| condition(&policy, kind));
        match found {
            Some((status, reason, message)) if status == "False" && message.contains("ports") => {
                Ok((reason, message))
            }
            _ => Err(policy["status"].to_string()),
        }
    })?;
    println!("{said:?}");
    space.must(&["delete", "authorizationpolicy", "slipped"])?;
    space.comes_to("client", &["web"], 200)
}
