//! Rollouts under load: an application that leaves as its pods are asked to loses no request behind a waypoint, and none
//! more in the mesh than without one; endpoints that have gone are not asked any more.

use std::time::Duration;

use ambit_lab::cluster::{Cluster, eventually};
use ambit_lab::load::Outcome;
use libtest_mimic::Failed;

use crate::mesh::{AMBIENT, RATE, READY, SOON, Space, all_good, condition, installed, is_long};
use crate::support::{Check, check};

/// Pods of the application.
const REPLICAS: usize = 4;
/// How long a load may have to go on so that all of a rollout falls into it.
const SPAN: u64 = if cfg!(debug_assertions) { 60 } else { 40 };
/// Most pods of the scaled application: two nodes on two processors start about one a second.
const MOST: (&str, &str) = ("12", "50");

/// Drains for five seconds on SIGTERM, as long as it may take until nobody sends new requests.
fn application(replicas: usize) -> String {
    format!(
        "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: client}}}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: app}}, spec: {{selector: {{app: app}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: app}}
spec:
  replicas: {replicas}
  strategy: {{rollingUpdate: {{maxUnavailable: 0, maxSurge: 1}}}}
  selector: {{matchLabels: {{app: app}}}}
  template:
    metadata: {{labels: {{app: app}}}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: app
        image: ambit/echo:0.1
        args: [--port=8080, --drain=5, --text=an answer]
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /readyz, port: 8080}}, periodSeconds: 1, timeoutSeconds: 5}}
"
    )
}

/// A waypoint of the namespace.
pub(crate) const WAYPOINT: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, labels: {istio.io/waypoint-for: service}}
spec:
  gatewayClassName: ambit-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
";

/// A load on kept connections, as clients have them, over one restart of every pod.
fn restarted(space: &Space<'_>) -> Result<Outcome, Failed> {
    space.apply(&application(REPLICAS))?;
    space.ready()?;
    let (rate, seconds) = (format!("--rate={RATE}"), format!("--seconds={SPAN}"));
    let words = ["--url=http://app/", &rate, &seconds, "--connections=8", "--replaced", "--expect=an answer"];
    let load = space.load("load", "client", &words)?;
    space.must(&["rollout", "restart", "deployment/app"])?;
    space.must(&["rollout", "status", "deployment/app", "--timeout=120s"])?;
    load.still_runs()?;
    load.outcome(READY)
}

/// Waits until the namespace's waypoint serves, and says how long it took since the Gateway was made.
pub(crate) fn programmed(space: &Space<'_>) -> Result<Duration, Failed> {
    let began = std::time::Instant::now();
    eventually("a Gateway that is Programmed", READY, || {
        let gateway = space
            .get("gateways.gateway.networking.k8s.io", "waypoint")
            .map_err(|failed| format!("{failed:?}"))?;
        match condition(&gateway, "Programmed") {
            Some((status, _, _)) if status == "True" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    Ok(began.elapsed())
}

pub(crate) fn restart(cluster: &Cluster) -> Check {
    installed(cluster)?;
    let without = restarted(&Space::new(cluster, "rollout-plain", "")?)?;
    let tunnelled = restarted(&Space::new(cluster, "rollout-l4", AMBIENT)?)?;
    check(tunnelled.failures() <= without.failures(), || {
        format!("without a mesh {without:?}, with ztunnels {tunnelled:?}")
    })?;
    let space = Space::new(cluster, "rollout-l7", &format!("{AMBIENT}, istio.io/use-waypoint: waypoint"))?;
    space.apply(WAYPOINT)?;
    programmed(&space)?;
    all_good("behind a waypoint", &restarted(&space)?)
}

pub(crate) fn scale(cluster: &Cluster) -> Check {
    installed(cluster)?;
    let most = if is_long() { MOST.1 } else { MOST.0 };
    let space = Space::new(cluster, "scale", AMBIENT)?;
    space.apply(&application(1))?;
    space.ready()?;
    let (rate, seconds) = (format!("--rate={RATE}"), format!("--seconds={}", 2 * SPAN));
    // New connections: each is led to a pod of that moment.
    let words = ["--url=http://app/", &rate, &seconds, "--connections=16", "--new", "--expect=an answer"];
    let load = space.load("load", "client", &words)?;
    for replicas in [most, "1"] {
        space.must(&["scale", "deployment/app", &format!("--replicas={replicas}")])?;
        space.must(&["rollout", "status", "deployment/app", "--timeout=180s"])?;
        eventually(&format!("{replicas} endpoints"), SOON, || {
            let words = ["get", "endpointslices", "-l", "kubernetes.io/service-name=app", "-o", ENDPOINTS];
            let ready = space.must(&words).map_err(|failed| format!("{failed:?}"))?;
            let ready = ready.split_whitespace().filter(|ready| *ready == "true").count();
            if ready.to_string() == replicas { Ok(()) } else { Err(format!("{ready} are ready")) }
        })?;
    }
    load.still_runs()?;
    all_good(&format!("from 1 to {most} pods and back"), &load.outcome(READY)?)
}

/// `true` or `false` for each endpoint.
const ENDPOINTS: &str = "jsonpath={range .items[*].endpoints[*]}{.conditions.ready}{\" \"}{end}";
