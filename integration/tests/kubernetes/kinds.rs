//! What runs on clusters beside Deployments: Jobs that end, CronJobs, StatefulSets with names of their own, pods on their
//! node's network, and what people do with pods.

use std::time::Duration;

use ambit_lab::cluster::{Cluster, eventually};
use ambit_lab::http::request;
use libtest_mimic::Failed;

use crate::mesh::{AMBIENT, READY, SOON, Space, condition, installed};
use crate::support::{Check, check};

/// What says that a pod is in the mesh.
const REDIRECTION: &str = "jsonpath={.metadata.annotations.ambient\\.istio\\.io/redirection}";
/// A server that speaks mutual TLS alone, with a name for each of its pods.
const SERVER: &str = "
{apiVersion: v1, kind: ServiceAccount, metadata: {name: client}}
---
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default}, spec: {mtls: {mode: STRICT}}}
---
apiVersion: v1
kind: Service
metadata: {name: store}
spec: {clusterIP: None, selector: {app: store}, ports: [{name: http, port: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: store}
spec:
  serviceName: store
  replicas: 2
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: store
        image: ambit/echo:0.1
        args: [--port=8080]
        env: [{name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        readinessProbe: {httpGet: {path: /readyz, port: 8080}}
        livenessProbe: {tcpSocket: {port: 8080}}
";
/// Who calls it: in the mesh, and from the node's network, where no mesh is.
const CALLERS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: client}, spec: {serviceAccountName: client, terminationGracePeriodSeconds: 1,
  containers: [{name: curl, image: 'curlimages/curl:8.17.0', command: [sleep, infinity]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: on-the-node}, spec: {hostNetwork: true, dnsPolicy: ClusterFirstWithHostNet, terminationGracePeriodSeconds: 1,
  containers: [{name: curl, image: 'curlimages/curl:8.17.0', command: [sleep, infinity]}]}}
";
/// One call each, at the very start of a pod: whoever is not in the mesh by then is refused.
const WORK: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  backoffLimit: 0
  completions: 2
  template:
    spec:
      serviceAccountName: client
      restartPolicy: Never
      initContainers:
      - {name: first, image: 'curlimages/curl:8.17.0', args: [-s, --fail, -m, '20', 'http://store-0.store:8080/']}
      containers:
      - {name: work, image: 'curlimages/curl:8.17.0', args: [-s, --fail, -m, '20', 'http://store:8080/']}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: every-minute}
spec:
  schedule: '* * * * *'
  suspend: true
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          serviceAccountName: client
          restartPolicy: Never
          containers:
          - {name: work, image: 'curlimages/curl:8.17.0', args: [-s, --fail, -m, '20', 'http://store:8080/']}
";
/// Longest time for one question.
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn all(cluster: &Cluster) -> Check {
    installed(cluster)?;
    let space = Space::new(cluster, "kinds", AMBIENT)?;
    // Everything below takes longer than an agent needs to obey a label.
    let system = System::labelled(cluster)?;
    space.apply(SERVER)?;
    space.apply(CALLERS)?;
    space.ready()?;
    names(&space)?;
    jobs(&space)?;
    outside(&space, &system)?;
    by_hand(&space)
}

/// The namespace kube-system with a label that would bring any other into the mesh; without it when this is dropped.
struct System<'a>(&'a Cluster);

impl<'a> System<'a> {
    fn labelled(cluster: &'a Cluster) -> Result<Self, Failed> {
        cluster.must(&[
            "label",
            "--overwrite",
            "namespace",
            "kube-system",
            "istio.io/dataplane-mode=ambient",
        ])?;
        Ok(Self(cluster))
    }

    fn annotations(&self) -> Result<String, Failed> {
        let words = ["get", "pods", "-n", "kube-system", "-o", "jsonpath={.items[*].metadata.annotations}"];
        Ok(self.0.must(&words)?)
    }
}

impl Drop for System<'_> {
    fn drop(&mut self) {
        let _gone = self.0.kubectl(&["label", "namespace", "kube-system", "istio.io/dataplane-mode-"]);
    }
}

/// Each pod of a StatefulSet under its own name, and each of a headless Service.
fn names(space: &Space<'_>) -> Check {
    for pod in ["store-0", "store-1"] {
        let (status, body) = space.curl("client", &[&format!("http://{pod}.store:8080/")])?;
        check(status == 200 && body.contains(&format!("\"pod\": \"{pod}\"")), || {
            format!("{pod}: {status} {body}")
        })?;
    }
    let (status, body) = space.curl("client", &["http://store:8080/"])?;
    check(status == 200, || format!("the headless Service: {status} {body}"))
}

/// They end, and end well, and so do their pods.
fn jobs(space: &Space<'_>) -> Check {
    space.apply(WORK)?;
    space.must(&["create", "job", "by-hand", "--from=cronjob/every-minute"])?;
    for job in ["once", "by-hand"] {
        eventually(&format!("end of the Job {job}"), READY, || {
            let job = space.get("job", job).map_err(|failed| format!("{failed:?}"))?;
            match (condition(&job, "Complete"), condition(&job, "Failed")) {
                (Some((status, ..)), _) if status == "True" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
    }
    let phases = space.must(&[
        "get",
        "pods",
        "-l",
        "batch.kubernetes.io/job-name",
        "-o",
        "jsonpath={.items[*].status.phase}",
    ])?;
    let phases: Vec<_> = phases.split_whitespace().collect();
    check(phases.len() == 3 && phases.iter().all(|phase| *phase == "Succeeded"), || format!("{phases:?}"))
}

/// Pods on their node's network and those of the system stay outside; and so are refused where mutual TLS is asked for.
fn outside(space: &Space<'_>, system: &System<'_>) -> Check {
    let enrolled = space.must(&["get", "pod", "client", "-o", REDIRECTION])?;
    check(enrolled == "enabled", || format!("the client's redirection is {enrolled:?}"))?;
    let node = space.must(&["get", "pod", "on-the-node", "-o", REDIRECTION])?;
    check(node.is_empty(), || format!("a pod on its node's network is {node:?}"))?;
    let (status, body) = space.curl("on-the-node", &["http://store:8080/"])?;
    check(status == 0, || format!("from the node's network: {status} {body}"))?;
    // Even a label of its own does not bring a namespace of the system in.
    let annotations = system.annotations()?;
    check(!annotations.contains("redirection"), || format!("pods of kube-system: {annotations}"))
}

/// exec has been used all along; the log of a pod, and a port of one.
fn by_hand(space: &Space<'_>) -> Check {
    let log = space.must(&["logs", "job/once", "-c", "first"])?;
    check(log.contains("\"pod\": \"store-0\""), || format!("a Job's log: {log}"))?;
    let way = space.cluster.forward(space.name, "store-1", 8080)?;
    eventually("an answer through port-forward", SOON, || {
        let answer = request("GET", way.address(), "/", LIMIT).map_err(|error| error.to_string())?;
        if answer.body.contains("\"pod\": \"store-1\"") { Ok(()) } else { Err(format!("{answer:?}")) }
    })?;
    Ok(())
}
