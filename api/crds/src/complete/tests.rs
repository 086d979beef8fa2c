//! What is added to manifests, and what is left as it is.

use std::net::IpAddr;
use std::sync::Arc;

use super::complete;
use crate::enrolment::REDIRECTION;
use crate::object::Object;
use crate::pod::Pod;
use crate::read::objects;

fn pods(objects: &[Arc<Object>]) -> Vec<&Pod> {
    objects
        .iter()
        .filter_map(|object| if let Object::Pod(pod) = &**object { Some(&**pod) } else { None })
        .collect()
}

#[test]
fn sets_have_pods_that_run_and_are_captured_where_the_mesh_is_asked_for() {
    let written = objects(
        "{kind: Namespace, apiVersion: v1, metadata: {name: in, labels: {istio.io/dataplane-mode: ambient}}}
---
{kind: Deployment, apiVersion: apps/v1, metadata: {name: web, namespace: in}, spec: {replicas: 2, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {serviceAccountName: web, containers: [{name: c, image: x}]}}}}
---
{kind: StatefulSet, apiVersion: apps/v1, metadata: {name: db, namespace: out}, spec: {template: {spec: {containers: [{name: c, image: x}]}}}}
---
{kind: Service, apiVersion: v1, metadata: {name: web, namespace: in}, spec: {selector: {app: web}, ports: [{port: 80}]}}
---
{kind: Service, apiVersion: v1, metadata: {name: headless, namespace: in}, spec: {clusterIP: None, ports: [{port: 80}]}}",
    );
    assert_eq!(written.len(), 5);
    let completed = complete(&written);
    let found = pods(&completed);
    let told: Vec<_> = found
        .iter()
        .map(|pod| (pod.meta.name.as_str(), pod.is_ready(), pod.meta.annotation(REDIRECTION).is_some()))
        .collect();
    assert_eq!(told, [("web-0", true, true), ("web-1", true, true), ("db-0", true, false)]);
    assert_eq!((found[0].service_account(), found[0].meta.label("app")), ("web", Some("web")));
    let owners: Vec<_> = found
        .iter()
        .map(|pod| pod.meta.owner.as_ref().map(|owner| (owner.kind.as_str(), owner.name.as_str())))
        .collect();
    let set = Some(("ReplicaSet", "web-0"));
    assert_eq!(owners, [set, set, Some(("StatefulSet", "db"))]);
    let mut ips: Vec<IpAddr> = found.iter().flat_map(|pod| pod.ips()).collect();
    ips.sort();
    ips.dedup();
    assert_eq!(ips.len(), 3, "each has an address of its own");
    let names: Vec<_> = completed.iter().map(|object| object.reference().to_string()).collect();
    assert_eq!(names.len(), 4, "the headless Service stays as it is: {names:?}");
    // Nothing is missing any more.
    let untouched = written.iter().filter(|object| !names.contains(&object.reference().to_string()));
    let all: Vec<_> = untouched.chain(&completed).cloned().collect();
    assert_eq!(complete(&all), []);
}

#[test]
fn what_is_written_stays() {
    let written = objects(
        "{kind: Pod, apiVersion: v1, metadata: {name: p, namespace: out}, spec: {nodeName: one, containers: [{name: c, image: x}]}, status: {phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: 'False'}]}}
---
{kind: Pod, apiVersion: v1, metadata: {name: over, namespace: out}, spec: {nodeName: one, containers: [{name: c, image: x}]}, status: {phase: Succeeded, conditions: [{type: Ready, status: 'False'}]}}
---
{kind: Deployment, apiVersion: apps/v1, metadata: {name: web, namespace: out}, spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: x}]}}}}
---
{kind: Pod, apiVersion: v1, metadata: {name: web-x-y, namespace: out, labels: {app: web}, ownerReferences: [{kind: ReplicaSet, name: web-x, controller: true}]}, spec: {nodeName: one, containers: [{name: c, image: x}]}, status: {phase: Running, podIP: 10.0.0.2, conditions: [{type: Ready, status: 'True'}]}}
---
{kind: Service, apiVersion: v1, metadata: {name: s, namespace: out}, spec: {clusterIP: 10.0.0.3, ports: [{port: 80}]}}",
    );
    assert_eq!(written.len(), 5);
    assert_eq!(complete(&written), []);
}
