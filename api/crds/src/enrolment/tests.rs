//! The truth table of enrolment.

use super::{DATAPLANE_MODE, Enrolment, Why, enrolled};
use crate::namespace::Namespace;
use crate::pod::{Phase, Pod};

fn world(namespace: Option<&str>, pod: Option<&str>) -> (Namespace, Pod) {
    let (mut on_namespace, mut on_pod) = (Namespace::default(), Pod::default());
    on_namespace.meta.name = "shop".to_owned();
    on_pod.meta.namespace = "shop".to_owned();
    on_pod.status.pod_ip = "10.0.0.1".to_owned();
    on_pod.status.phase = Phase::Running;
    if let Some(mode) = namespace {
        on_namespace.meta.labels.insert(DATAPLANE_MODE.to_owned(), mode.to_owned());
    }
    if let Some(mode) = pod {
        on_pod.meta.labels.insert(DATAPLANE_MODE.to_owned(), mode.to_owned());
    }
    (on_namespace, on_pod)
}

#[test]
fn the_truth_table_of_labels() {
    let table = [
        (Some("ambient"), None, Enrolment::In),
        (Some("ambient"), Some("none"), Enrolment::Out(Why::OptedOut)),
        (None, Some("ambient"), Enrolment::In),
        (Some("none"), Some("ambient"), Enrolment::In),
        (Some("none"), None, Enrolment::Out(Why::NotAsked)),
        (Some("ambient"), Some("ambient"), Enrolment::In),
        (Some("ambient"), Some("other"), Enrolment::In),
        (None, None, Enrolment::Out(Why::NotAsked)),
        (None, Some("none"), Enrolment::Out(Why::OptedOut)),
        (Some("Ambient"), None, Enrolment::Out(Why::NotAsked)),
    ];
    for (on_namespace, on_pod, expected) in table {
        let (namespace, pod) = world(on_namespace, on_pod);
        assert_eq!(enrolled(&namespace, &pod), expected, "{on_namespace:?} {on_pod:?}");
    }
}

#[test]
fn what_no_label_overrides() {
    type Change = fn(&mut Pod);
    let table: [(Change, Why); 11] = [
        (|pod| pod.spec.host_network = true, Why::HostNetwork),
        (|pod| pod.meta.namespace = "kube-system".to_owned(), Why::ExcludedNamespace),
        (|pod| pod.meta.namespace = "kube-public".to_owned(), Why::ExcludedNamespace),
        (|pod| pod.meta.namespace = "kube-node-lease".to_owned(), Why::ExcludedNamespace),
        (
            |pod| {
                pod.meta.annotations.insert("sidecar.istio.io/status".to_owned(), String::new());
            },
            Why::Sidecar,
        ),
        (
            |pod| {
                pod.meta.annotations.insert("kubernetes.io/config.mirror".to_owned(), "5cd0".to_owned());
            },
            Why::Static,
        ),
        (
            |pod| {
                pod.meta.namespace = "ambit-system".to_owned();
                pod.meta.labels.insert("app".to_owned(), "ztunnel".to_owned());
            },
            Why::NodeProxy,
        ),
        (|pod| pod.status.phase = Phase::Succeeded, Why::Terminal),
        (|pod| pod.status.phase = Phase::Failed, Why::Terminal),
        (|pod| pod.status.pod_ip.clear(), Why::NoAddress),
        (|pod| pod.status.pod_ip = "nonsense".to_owned(), Why::NoAddress),
    ];
    for (change, why) in table {
        let (namespace, mut pod) = world(Some("ambient"), Some("ambient"));
        change(&mut pod);
        assert_eq!(enrolled(&namespace, &pod), Enrolment::Out(why));
    }
}
