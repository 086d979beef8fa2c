//! Who is a waypoint's replica, as a table: what a cluster makes of our template, and every way in which a pod only looks like it.

use std::sync::Arc;

use ambit_crds::object::Object;
use ambit_crds::read;

use super::*;

/// What is meant, and how a pod comes to be so.
type Case = (&'static str, fn(&mut Value));

fn shape() -> Shape {
    Shape::new("registry.example/mesh/waypoint:1.4".to_owned(), "ambit-system")
}

/// A pod as kubelet and API server complete what the ReplicaSet controller makes of our template.
fn deployed() -> Value {
    let (key, names, plain) = (Key::new("shop", "wp"), Names::default(), BTreeSet::new());
    let mut spec = shape().spec(&Deployed { key: &key, trust_domain: "td", names: &names, plain: &plain });
    let added = json!({
        "nodeName": "n1", "serviceAccount": "wp", "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler", "priority": 0, "preemptionPolicy": "PreemptLowerPriority",
        "terminationGracePeriodSeconds": 30, "tolerations": [{ "key": "node.kubernetes.io/not-ready", "operator": "Exists" }],
    });
    spec.as_object_mut().unwrap().extend(added.as_object().unwrap().clone());
    let container = &mut spec["containers"][0];
    container["imagePullPolicy"] = "IfNotPresent".into();
    container["terminationMessagePath"] = "/dev/termination-log".into();
    container["terminationMessagePolicy"] = "File".into();
    container["env"][11]["valueFrom"]["fieldRef"]["apiVersion"] = "v1".into();
    container["readinessProbe"]["timeoutSeconds"] = 1.into();
    spec["volumes"][0]["projected"]["defaultMode"] = 420.into();
    spec["volumes"][1]["configMap"]["defaultMode"] = 420.into();
    let owner = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "wp-5c", "uid": "r", "controller": true });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "wp-5c-1", "namespace": "shop", "ownerReferences": [owner],
            "labels": { (GATEWAY_NAME): "wp", (MANAGED): CONTROLLER },
        },
        "spec": spec,
    })
}

fn pod(manifest: &Value) -> Pod {
    match read::objects(&manifest.to_string()).pop().map(Arc::unwrap_or_clone) {
        Some(Object::Pod(pod)) => *pod,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_of_our_template_is_a_replica_also_of_another_version_and_elsewhere() {
    let table: [Case; 6] = [
        ("as deployed", |_| ()),
        ("another version", |pod| {
            pod["spec"]["containers"][0]["image"] = "registry.example/mesh/waypoint:1.3".into()
        }),
        ("by digest", |pod| {
            pod["spec"]["containers"][0]["image"] = "registry.example/mesh/waypoint@sha256:ab".into()
        }),
        ("more memory", |pod| pod["spec"]["containers"][0]["resources"]["limits"]["memory"] = "4Gi".into()),
        ("on a certain node", |pod| pod["spec"]["nodeSelector"] = json!({ "disk": "fast" })),
        ("a trust domain from before", |pod| pod["spec"]["containers"][0]["env"][8]["value"] = "old".into()),
    ];
    for (what, change) in table {
        let mut manifest = deployed();
        change(&mut manifest);
        let (pod, key) = (pod(&manifest), Key::new("shop", "wp"));
        assert_eq!(shape().foreign_part(&pod, &key), None, "{what}");
        assert_eq!(shape().replica_of(&pod), Some(key), "{what}");
    }
}

/// Puts a value at a place of a deployed pod; it must be no replica any more, because of the field `expected`.
fn refused(place: &str, value: Value, expected: &str) {
    let mut manifest = deployed();
    let (parent, last) = place.rsplit_once('/').unwrap();
    match manifest.pointer_mut(parent).unwrap() {
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => items[last.parse::<usize>().unwrap()] = value,
        object => object[last] = value,
    }
    let pod = pod(&manifest);
    let told = shape().foreign_part(&pod, &Key::new("shop", "wp"));
    assert!(told.as_ref().is_some_and(|field| field.ends_with(expected)), "{place}: {told:?}");
    assert_eq!(shape().replica_of(&pod), None, "{place}");
}

#[test]
fn a_container_that_runs_anything_else_is_none() {
    const C: &str = "/spec/containers/0";
    let mount = |path: &str| json!({ "name": "istio-token", "mountPath": path });
    let context = |field: &str| format!("{C}/securityContext/{field}");
    // What is put where, and the field that is told.
    let table = [
        (format!("{C}/image"), json!("evil/waypoint:1.4"), "containers[0].image"),
        (format!("{C}/image"), json!("registry.example/mesh/waypoint-debug:1.4"), "containers[0].image"),
        (format!("{C}/command"), json!(["/bin/sh"]), "containers[0].command"),
        (format!("{C}/args"), json!(["--dump"]), "containers[0].args"),
        (format!("{C}/env/-"), json!({ "name": "ALT_CA_HOSTNAME", "value": "evil" }), "env[ALT_CA_HOSTNAME]"),
        (
            format!("{C}/env/0"),
            json!({ "name": "XDS_ADDRESS", "value": "https://evil:15012" }),
            "env[XDS_ADDRESS]",
        ),
        (
            format!("{C}/env/8"),
            json!({ "name": "TRUST_DOMAIN", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } }),
            "env[TRUST_DOMAIN]",
        ),
        (format!("{C}/envFrom"), json!([{ "configMapRef": { "name": "x" } }]), "containers[0].envFrom"),
        (format!("{C}/lifecycle"), json!({ "preStop": { "exec": {} } }), "containers[0].lifecycle"),
        (format!("{C}/livenessProbe"), json!({ "exec": { "command": ["x"] } }), "livenessProbe.exec"),
        (format!("{C}/volumeMounts/-"), mount("/"), "volumeMounts[istio-token]"),
        (format!("{C}/workingDir"), json!("/elsewhere"), "containers[0].workingDir"),
        (context("runAsUser"), json!(0), "securityContext.runAsUser"),
        (context("privileged"), json!(true), "securityContext.privileged"),
        (context("capabilities"), json!({ "add": ["SYS_PTRACE"] }), "securityContext.capabilities"),
        (context("procMount"), json!("Unmasked"), "securityContext.procMount"),
    ];
    for (place, value, expected) in table {
        refused(&place, value, expected);
    }
}

#[test]
fn a_pod_in_which_anything_else_runs_is_none() {
    let table = [
        ("/spec/containers/-", json!({ "name": "other", "image": "x" }), "spec.containers"),
        ("/spec/initContainers", json!([{ "name": "first" }]), "spec.initContainers"),
        ("/spec/ephemeralContainers", json!([{ "name": "debug" }]), "spec.ephemeralContainers"),
        ("/spec/hostNetwork", json!(true), "spec.hostNetwork"),
        ("/spec/hostPID", json!(true), "spec.hostPID"),
        ("/spec/shareProcessNamespace", json!(true), "spec.shareProcessNamespace"),
        ("/spec/hostAliases", json!([{ "ip": "1.2.3.4", "hostnames": ["x"] }]), "spec.hostAliases"),
        ("/spec/dnsConfig", json!({ "nameservers": ["1.2.3.4"] }), "spec.dnsConfig"),
        ("/spec/dnsPolicy", json!("None"), "spec.dnsPolicy"),
        ("/spec/runtimeClassName", json!("mine"), "spec.runtimeClassName"),
        ("/spec/securityContext/runAsUser", json!(0), "spec.securityContext.runAsUser"),
        ("/spec/volumes/-", json!({ "name": "h", "hostPath": { "path": "/" } }), "volumes[h]"),
        (
            "/spec/volumes/1",
            json!({ "name": "istio-ca-root-cert", "configMap": { "name": "mine" } }),
            "volumes[istio-ca-root-cert]",
        ),
    ];
    for (place, value, expected) in table {
        refused(place, value, expected);
    }
}

#[test]
fn a_pod_of_somebody_else_is_none_whatever_it_runs() {
    let table: [Case; 5] = [
        ("by hand", |pod| pod["metadata"]["ownerReferences"] = json!([])),
        ("of a job", |pod| pod["metadata"]["ownerReferences"][0]["kind"] = "Job".into()),
        ("owned, not controlled", |pod| pod["metadata"]["ownerReferences"][0]["controller"] = false.into()),
        ("of another controller", |pod| {
            pod["metadata"]["labels"][MANAGED] = "istio.io-mesh-controller".into()
        }),
        ("under another account", |pod| pod["spec"]["serviceAccountName"] = "web".into()),
    ];
    for (what, change) in table {
        let mut manifest = deployed();
        change(&mut manifest);
        assert_eq!(shape().replica_of(&pod(&manifest)), None, "{what}");
    }
}

#[test]
fn an_image_is_known_by_its_repository() {
    let table = [
        ("ambit/waypoint", "ambit/waypoint"),
        ("ambit/waypoint:0.1", "ambit/waypoint"),
        ("ambit/waypoint@sha256:0f", "ambit/waypoint"),
        ("ambit/waypoint:0.1@sha256:0f", "ambit/waypoint"),
        ("registry:5000/ambit/waypoint", "registry:5000/ambit/waypoint"),
        ("registry:5000/ambit/waypoint:0.1", "registry:5000/ambit/waypoint"),
    ];
    for (image, expected) in table {
        assert_eq!(repository(image), expected);
    }
}

#[test]
fn a_gateway_on_a_low_port_may_listen_there() {
    let (key, names) = (Key::new("shop", "gw"), Names::default());
    let context = |ports: &[u16]| {
        let plain = ports.iter().copied().collect();
        let of = Deployed { key: &key, trust_domain: "td", names: &names, plain: &plain };
        shape().spec(&of)["securityContext"].clone()
    };
    assert_eq!(context(&[8080])["sysctls"], Value::Null);
    assert_eq!(context(&[80, 8080])["sysctls"][0]["value"], "0");
}
