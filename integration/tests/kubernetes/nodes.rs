//! What happens on the nodes: pods start once the mesh has them, the kubelet alone reaches what policy denies, and a power cut
//! leaves nobody outside.

use ambit_lab::cluster::{Cluster, SYSTEM, eventually};
use libtest_mimic::Failed;

use crate::mesh::{AMBIENT, READY, SOON, Space, installed};
use crate::support::{Check, check};

/// The node that things happen to.
const NODE: &str = "node2";
/// What says that a pod is in the mesh.
const REDIRECTION: &str = "jsonpath={.metadata.annotations.ambient\\.istio\\.io/redirection}";
/// A server that mutual TLS and one identity alone get through to, and one that nobody does; the kubelet asks both in every
/// way it knows, and one failure is one too many.
const SERVERS: &str = "
{apiVersion: v1, kind: ServiceAccount, metadata: {name: client}}
---
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default}, spec: {mtls: {mode: STRICT}}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: shut}, spec: {selector: {matchLabels: {app: shut}}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: store}
spec:
  selector: {matchLabels: {app: store}}
  rules: [{from: [{source: {serviceAccounts: [client]}}]}]
---
{apiVersion: v1, kind: Service, metadata: {name: store}, spec: {selector: {app: store}, ports: [{name: http, port: 8080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: shut}, spec: {selector: {app: shut}, ports: [{name: http, port: 8080}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: store, labels: {app: store}}
spec:
  nodeName: node2
  terminationGracePeriodSeconds: 1
  containers:
  - name: store
    image: ambit/echo:0.1
    args: [--port=8080]
    ports: [{name: http, containerPort: 8080}]
    startupProbe: {tcpSocket: {port: http}, periodSeconds: 1, failureThreshold: 30}
    readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 1, failureThreshold: 1}
    livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: shut, labels: {app: shut}}
spec:
  nodeName: node2
  terminationGracePeriodSeconds: 1
  containers:
  - name: shut
    image: ambit/echo:0.1
    args: [--port=8080]
    startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 30}
    readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1, failureThreshold: 1}
    livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 1}
  - name: by-command
    image: curlimages/curl:8.17.0
    command: [sleep, infinity]
    readinessProbe: {exec: {command: [curl, --version]}, periodSeconds: 1}
";
/// One call at the very start of a pod, before anything else runs in it.
const FIRST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  nodeName: node2
  serviceAccountName: client
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: first, image: 'curlimages/curl:8.17.0', args: [-s, --fail, -m, '20', 'http://store:8080/']}
  containers:
  - {name: then, image: 'curlimages/curl:8.17.0', args: [-s, --fail, -m, '20', 'http://store:8080/']}
";
/// Somebody who stays: in the mesh, outside of it, or on the node's network.
const CALLER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  nodeName: node2
  hostNetwork: ON_NODE
  dnsPolicy: ClusterFirstWithHostNet
  serviceAccountName: ACCOUNT
  terminationGracePeriodSeconds: 1
  containers: [{name: curl, image: 'curlimages/curl:8.17.0', command: [sleep, infinity], securityContext: {runAsUser: 0}}]
";

fn caller(name: &str, account: &str, on_node: &str) -> String {
    CALLER.replace("NAME", name).replace("ACCOUNT", account).replace("ON_NODE", on_node)
}

/// A program of the mesh on the node that stands still as long as this lives.
struct Frozen<'a> {
    cluster: &'a Cluster,
    pid: String,
}

impl<'a> Frozen<'a> {
    /// `name` as the kernel has it: 15 letters at most.
    fn new(cluster: &'a Cluster, name: &str) -> Result<Self, Failed> {
        let pid = cluster.on_node(NODE, &["pgrep", "-x", name])?.trim().to_owned();
        check(pid.parse::<u32>().is_ok(), || format!("{name} on {NODE}: {pid:?}"))?;
        cluster.on_node(NODE, &["kill", "-STOP", &pid])?;
        Ok(Self { cluster, pid })
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _goes_on = self.cluster.on_node(NODE, &["kill", "-CONT", &self.pid]);
    }
}

/// An event of a pod says so.
fn told(space: &Space<'_>, pod: &str, reason: &str, words: &str) -> Check {
    let about = format!("involvedObject.name={pod},reason={reason}");
    let listed = ["get", "events", "--field-selector", &about, "-o", "jsonpath={.items[*].message}"];
    Ok(eventually(&format!("event {reason} of {pod}"), SOON, || {
        let said = space.must(&listed).map_err(|failed| format!("{failed:?}"))?;
        if said.contains(words) { Ok(()) } else { Err(said) }
    })?)
}

/// Nothing has run in it.
fn waits(space: &Space<'_>, pod: &str) -> Check {
    let started = "jsonpath={.status.initContainerStatuses[*].state.running}{.status.initContainerStatuses[*].state.terminated}";
    let started = space.must(&["get", "pod", pod, "-o", started])?;
    check(started.is_empty(), || format!("{pod} has started: {started}"))
}

fn succeeds(space: &Space<'_>, pod: &str) -> Check {
    Ok(eventually(&format!("success of {pod}"), READY, || {
        let phase = space.must(&["get", "pod", pod, "-o", "jsonpath={.status.phase}"]);
        let phase = phase.map_err(|failed| format!("{failed:?}"))?;
        if phase == "Succeeded" { Ok(()) } else { Err(phase) }
    })?)
}

/// Neither ztunnel nor agent away lets a pod start outside of the mesh that belongs into it.
pub(crate) fn starts(cluster: &Cluster) -> Check {
    installed(cluster)?;
    let space = Space::new(cluster, "starts", AMBIENT)?;
    let outside = Space::new(cluster, "starts-outside", "")?;
    space.apply(SERVERS)?;
    space.ready()?;

    let frozen = Frozen::new(cluster, "ztunnel")?;
    space.apply(&FIRST.replace("NAME", "without-ztunnel"))?;
    outside.apply(&caller("without-ztunnel", "default", "false"))?;
    told(&space, "without-ztunnel", "WaitingForMesh", "starts once the ztunnel of its node serves it")?;
    outside.ready()?;
    waits(&space, "without-ztunnel")?;
    drop(frozen);
    succeeds(&space, "without-ztunnel")?;

    let frozen = Frozen::new(cluster, "ambit-node-agen")?;
    space.apply(&FIRST.replace("NAME", "without-agent"))?;
    told(
        &space,
        "without-agent",
        "FailedCreatePodSandBox",
        "only it knows whether this pod belongs to the mesh",
    )?;
    // What the cluster itself needs starts all the same.
    let essential = caller("essential", "default", "false");
    cluster.fed(&["apply", "-n", "kube-system", "-f", "-"], &essential)?;
    let ready = cluster.ready("kube-system", READY);
    cluster.fed(&["delete", "-n", "kube-system", "-f", "-"], &essential)?;
    ready?;
    waits(&space, "without-agent")?;
    drop(frozen);
    succeeds(&space, "without-agent")
}

/// Under STRICT and a policy that denies everything every probe gets through, and nobody else does.
pub(crate) fn probes(cluster: &Cluster) -> Check {
    installed(cluster)?;
    let space = Space::new(cluster, "probes", AMBIENT)?;
    let outside = Space::new(cluster, "probes-outside", "")?;
    space.apply(SERVERS)?;
    space.apply(&caller("client", "client", "false"))?;
    outside.apply(&caller("stranger", "default", "false"))?;
    outside.apply(&caller("on-the-node", "default", "true"))?;
    space.ready()?;
    outside.ready()?;
    space.comes_to("client", &["store:8080"], 200)?;
    // The ports that the kubelet reaches at this moment, on the same node.
    for (caller, name) in
        [("stranger", "shut.probes"), ("on-the-node", "shut.probes"), ("on-the-node", "store.probes")]
    {
        outside.comes_to(caller, &[&format!("{name}:8080")], 0)?;
    }
    space.comes_to("client", &["shut:8080"], 0)?;
    // An agent that is started anew makes no gap.
    cluster.must(&["rollout", "restart", "-n", SYSTEM, "daemonset/ambit-node"])?;
    cluster.must(&["rollout", "status", "-n", SYSTEM, "daemonset/ambit-node", "--timeout=120s"])?;
    let restarts = "jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    let restarts = space.must(&["get", "pods", "-o", restarts])?;
    check(restarts.split(' ').all(|count| count == "0"), || format!("restarts: {restarts}"))?;
    let failed =
        ["get", "events", "--field-selector", "reason=Unhealthy", "-o", "jsonpath={.items[*].message}"];
    let failed = space.must(&failed)?;
    check(!failed.contains("Readiness") && !failed.contains("Liveness"), || format!("probes: {failed}"))
}

/// A node whose power is cut: every sandbox is made anew, and every pod is in the mesh before it runs again.
pub(crate) fn power_cut(cluster: &Cluster) -> Check {
    installed(cluster)?;
    let space = Space::new(cluster, "power", AMBIENT)?;
    let outside = Space::new(cluster, "power-outside", "")?;
    space.apply(SERVERS)?;
    space.apply(&caller("client", "client", "false"))?;
    outside.apply(&caller("stranger", "default", "false"))?;
    space.ready()?;
    outside.ready()?;
    let started = "jsonpath={.status.containerStatuses[0].restartCount}";
    check(space.must(&["get", "pod", "store", "-o", started])? == "0", || "restarted too early".to_owned())?;
    cluster.keeper(&["stop", NODE, "--kill"])?;
    cluster.keeper(&["start", NODE])?;
    for pod in ["store", "client"] {
        eventually(&format!("restart of {pod}"), READY, || {
            let count =
                space.must(&["get", "pod", pod, "-o", started]).map_err(|failed| format!("{failed:?}"))?;
            if count == "0" { Err(count) } else { Ok(()) }
        })?;
    }
    cluster.ready(SYSTEM, READY)?;
    space.ready()?;
    outside.ready()?;
    for pod in ["store", "client", "shut"] {
        let redirection = space.must(&["get", "pod", pod, "-o", REDIRECTION])?;
        check(redirection == "enabled", || format!("{pod}: {redirection:?}"))?;
    }
    space.comes_to("client", &["store:8080"], 200)?;
    outside.comes_to("stranger", &["store.power:8080"], 0)?;
    // What was there before was not only the label: the pod's first packet is in the mesh.
    space.apply(&FIRST.replace("NAME", "afterwards"))?;
    succeeds(&space, "afterwards")
}
