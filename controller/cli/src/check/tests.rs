//! Findings as tables: a cluster that is well, and the same with one thing wrong.

use serde_json::{Value, json};

use super::*;
use crate::chart::{self, Wanted};
use crate::cluster::fake::Fake;
use crate::install::ours;

fn object(api: &str, kind: &str, place: (&str, &str), rest: Value) -> Value {
    let mut object = json!({ "apiVersion": api, "kind": kind, "metadata": { "name": place.1 } });
    if !place.0.is_empty() {
        object["metadata"]["namespace"] = json!(place.0);
    }
    chart::lay(rest, &mut object);
    object
}

fn node(kernel: &str, system: &str) -> Value {
    let info = json!({ "kernelVersion": kernel, "operatingSystem": system });
    let ready = json!([{ "type": "Ready", "status": "True" }]);
    object("v1", "Node", ("", "n1"), json!({ "status": { "nodeInfo": info, "conditions": ready } }))
}

fn namespace(name: &str, labels: Value) -> Value {
    object("v1", "Namespace", ("", name), json!({ "metadata": { "labels": labels } }))
}

fn gateway_api(version: &str) -> Value {
    let about =
        json!({ "metadata": { "annotations": { "gateway.networking.k8s.io/bundle-version": version } } });
    object(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        ("", "gateways.gateway.networking.k8s.io"),
        about,
    )
}

fn daemon(place: (&str, &str), labels: Value) -> Value {
    object("apps/v1", "DaemonSet", place, json!({ "metadata": { "labels": labels } }))
}

fn deployment(place: (&str, &str), labels: Value) -> Value {
    object("apps/v1", "Deployment", place, json!({ "metadata": { "labels": labels } }))
}

fn enrolled(name: &str) -> Value {
    namespace(name, json!({ "istio.io/dataplane-mode": "ambient" }))
}

/// Ready for an installation.
fn cluster() -> Fake {
    let server = Fake::with(&[node("6.1.0-18-amd64", "linux"), enrolled("shop"), gateway_api("v1.4.0")]);
    server.answer("/version", json!({ "gitVersion": "v1.34.4" }));
    ours().iter().for_each(|definition| server.put(definition));
    server
}

fn wrong(server: &Fake, pre: bool) -> Vec<String> {
    let findings = look(&Cluster::of(server.clone()), pre).unwrap();
    let wrong = findings.0.iter().filter(|finding| finding.severity != Severity::Ok);
    wrong
        .map(|finding| format!("{}; {}", finding.says, finding.mend.as_deref().unwrap_or_default()))
        .filter(|finding| !finding.starts_with("you may not install"))
        .collect()
}

/// What is wrong with a cluster in which one thing is.
fn one(object: &Value) -> String {
    let server = cluster();
    server.put(object);
    let mut wrong = wrong(&server, true);
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    wrong.remove(0)
}

#[test]
fn a_cluster_that_is_well_says_so() {
    assert_eq!(wrong(&cluster(), true), Vec::<String>::new());
}

#[test]
fn whatever_would_break_is_named_with_its_mend() {
    let cilium =
        |data: Value| object("v1", "ConfigMap", ("kube-system", "cilium-config"), json!({ "data": data }));
    let cases = [
        (node("4.18.0-553.el8", "linux"), "the kernel of node n1 is 4.18.0", "Linux 5.10 or newer"),
        (node("10.0.20348", "windows"), "node n1 runs windows", "Linux nodes"),
        (gateway_api("v1.0.0"), "the Gateway API is v1.0.0", "kubectl apply --server-side"),
        (
            namespace("ambit-system", json!({ "pod-security.kubernetes.io/enforce": "baseline" })),
            "admits only baseline pods",
            "kubectl label --overwrite namespace ambit-system",
        ),
        (
            deployment(("istio-system", "istiod"), json!({ "app": "istiod" })),
            "istio-system/istiod",
            "istioWaypoints=false",
        ),
        (
            daemon(("istio-system", "istio-cni-node"), json!({ "k8s-app": "istio-cni-node" })),
            "takes the same pods",
            "istioctl",
        ),
        (daemon(("istio-system", "ztunnel"), json!({ "app": "ztunnel" })), "two ztunnels", "istioctl"),
        (
            deployment(("linkerd", "d"), json!({ "linkerd.io/control-plane-component": "destination" })),
            "Linkerd is there (namespace linkerd)",
            "linkerd.io/inject",
        ),
        (
            namespace("both", json!({ "istio.io/dataplane-mode": "ambient", "istio-injection": "enabled" })),
            "namespace both asks for Ambit and for sidecars",
            "ambit unenroll both",
        ),
        (
            cilium(json!({ "cni-exclusive": "true" })),
            "removes every other plugin",
            "\"cni-exclusive\":\"false\"",
        ),
        (
            cilium(json!({ "cni-exclusive": "false", "kube-proxy-replacement": "true" })),
            "before ztunnel sees them",
            "\"bpf-lb-sock-hostns-only\":\"true\"",
        ),
    ];
    for (object, says, mend) in cases {
        let found = one(&object);
        assert!(found.contains(says) && found.split_once("; ").unwrap().1.contains(mend), "{found}");
    }
    let well = cilium(json!({ "cni-exclusive": "false", "kube-proxy-replacement": "true",
        "bpf-lb-sock-hostns-only": "true" }));
    let server = cluster();
    server.put(&well);
    assert_eq!(wrong(&server, true), Vec::<String>::new());
}

#[test]
fn an_old_api_server_and_old_definitions_are_named() {
    let server = cluster();
    server.answer("/version", json!({ "gitVersion": "v1.29.3-gke.1" }));
    assert_eq!(wrong(&server, true), ["Kubernetes v1.29.3-gke.1 is older than 1.30; upgrade the cluster"]);
    let old = json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": "Helm" } },
        "spec": { "versions": [{ "name": "v1beta1", "served": true }, { "name": "v1", "served": false }] } });
    let name = ("", "virtualservices.networking.istio.io");
    let found = one(&object("apiextensions.k8s.io/v1", "CustomResourceDefinition", name, old));
    assert!(
        found.starts_with("definition virtualservices.networking.istio.io does not serve v1, v1alpha3"),
        "{found}"
    );
}

fn policy(name: &str, selector: Value, side: &str, rules: Value) -> Value {
    let spec = json!({ "podSelector": selector, (side): rules });
    object("networking.k8s.io/v1", "NetworkPolicy", ("shop", name), json!({ "spec": spec }))
}

#[test]
fn network_policies_that_close_the_mesh_are_named_and_others_are_not() {
    let web = || json!({ "matchLabels": { "app": "web" } });
    let ports = |port: Value| json!([{ "ports": [port] }]);
    let found = one(&policy("web", web(), "ingress", ports(json!({ "port": 80 }))));
    assert!(
        found.starts_with("networkpolicy shop/web limits who may reach its pods to ports without 15008"),
        "{found}"
    );
    assert!(
        found.contains("kubectl -n shop patch networkpolicy web")
            && found.contains("/spec/ingress/0/ports/-")
    );
    let found = one(&policy("web", web(), "egress", ports(json!({ "port": "http" }))));
    assert!(found.contains("whom its pods may reach"), "{found}");
    let well = [
        ports(json!({ "port": 15008 })),
        ports(json!({ "port": 15000, "endPort": 15010 })),
        ports(json!({ "protocol": "TCP" })),
        ports(json!({ "port": 53, "protocol": "UDP" })),
        json!([{ "ports": [{ "port": 80 }, { "port": 15008, "protocol": "TCP" }] }]),
        json!([{ "from": [{ "podSelector": {} }] }]),
        json!([]),
    ];
    for rules in well {
        let server = cluster();
        server.put(&policy("web", web(), "ingress", rules.clone()));
        assert_eq!(wrong(&server, true), Vec::<String>::new(), "{rules}");
    }
    let server = cluster();
    server.put(&policy("web", web(), "ingress", ports(json!({ "port": 80 }))));
    server.put(&policy("mesh", json!({}), "ingress", ports(json!({ "port": 15008 }))));
    assert_eq!(wrong(&server, true), Vec::<String>::new(), "another policy lets the mesh in");
    server.put(&policy(
        "mesh",
        json!({ "matchLabels": { "app": "x" } }),
        "ingress",
        ports(json!({ "port": 15008 })),
    ));
    assert_eq!(wrong(&server, true).len(), 1, "but for other pods");
    server.put(&namespace("shop", json!({ "istio.io/dataplane-mode": "none" })));
    assert_eq!(wrong(&server, true), Vec::<String>::new(), "a namespace outside the mesh");
}

#[test]
fn the_rights_that_are_missing_are_listed() {
    let server = cluster();
    let findings = look(&Cluster::of(server), true).unwrap();
    // A server in memory answers no review.
    let rights = findings.0.iter().find(|finding| finding.says.starts_with("you may not install")).unwrap();
    for right in ["create clusterroles", "patch daemonsets", "get customresourcedefinitions"] {
        assert!(rights.says.contains(right), "{rights:?}");
    }
}

/// An installation whose programs are ready.
fn installed() -> Fake {
    let server = cluster();
    for object in chart::render(&Wanted::default().values().unwrap()).unwrap() {
        server.put(&object);
    }
    let ready = |object: &mut Value, count: i64| {
        object["status"] = json!({ "updatedReplicas": count, "availableReplicas": count, "replicas": count,
            "desiredNumberScheduled": count, "updatedNumberScheduled": count, "numberAvailable": count });
        server.put(object);
    };
    for (kind, name, count) in [
        ("deployments", "ambit-controller", 2),
        ("daemonsets", "ztunnel", 1),
        ("daemonsets", "ambit-node", 1),
    ] {
        ready(
            &mut server.at(&format!("/apis/apps/v1/namespaces/ambit-system/{kind}/{name}")).unwrap(),
            count,
        );
    }
    for app in ["ztunnel", "ambit-node", "ambit-controller"] {
        server.put(&pod(("ambit-system", app), json!({ "app": app }), "ambit/x:0.1"));
    }
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ambit-validation";
    let mut webhook = server.at(path).unwrap();
    webhook["webhooks"][0]["clientConfig"]["caBundle"] = json!("Zm9v");
    server.put(&webhook);
    server
}

fn pod(place: (&str, &str), labels: Value, image: &str) -> Value {
    let spec = json!({ "nodeName": "n1", "containers": [{ "name": "a", "image": image }] });
    let status = json!({ "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }],
        "conditions": [{ "type": "Ready", "status": "True" }] });
    object("v1", "Pod", place, json!({ "metadata": { "labels": labels }, "spec": spec, "status": status }))
}

#[test]
fn an_installation_is_looked_at_from_all_sides() {
    assert_eq!(
        wrong(&cluster(), false),
        ["there is no deployment ambit-system/ambit-controller; ambit install"]
    );
    assert_eq!(wrong(&installed(), false), Vec::<String>::new());
    let with = |change: &dyn Fn(&Fake)| {
        let server = installed();
        change(&server);
        let mut wrong = wrong(&server, false);
        assert_eq!(wrong.len(), 1, "{wrong:#?}");
        wrong.remove(0)
    };
    let found =
        with(&|server| server.put(&pod(("ambit-system", "z2"), json!({ "app": "ztunnel" }), "ambit/x:0.2")));
    assert!(found.starts_with("several versions (0.1: agent, controller, ztunnel; 0.2: ztunnel)"), "{found}");
    let found = with(&|server| {
        let mut pod = pod(("ambit-system", "ztunnel"), json!({ "app": "ztunnel" }), "ambit/x:0.1");
        pod["status"]["conditions"][0]["status"] = json!("False");
        server.put(&pod);
    });
    assert!(found.starts_with("node n1 has no ready ztunnel"), "{found}");
    let found = with(&|server| server.put(&pod(("shop", "web"), json!({}), "web")));
    assert!(found.starts_with("namespace shop: not in the mesh yet, though they ask for it: web"), "{found}");
    let found = with(&|server| {
        let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ambit-validation";
        let mut webhook = server.at(path).unwrap();
        webhook["webhooks"][0]["clientConfig"]["caBundle"] = json!("");
        server.put(&webhook);
    });
    assert!(found.starts_with("the webhook has no certificate yet"), "{found}");
    let found = with(&|server| {
        let path = "/apis/apps/v1/namespaces/ambit-system/daemonsets/ztunnel";
        let mut ztunnel = server.at(path).unwrap();
        ztunnel["status"]["numberAvailable"] = json!(0);
        server.put(&ztunnel);
    });
    assert!(
        found.starts_with("daemonset ambit-system/ztunnel: 0 of 1 are ready; see why: kubectl logs"),
        "{found}"
    );
    let found = with(&|server| {
        let spec = json!({ "spec": { "gatewayClassName": "ambit-waypoint" } });
        server.put(&object("gateway.networking.k8s.io/v1", "Gateway", ("shop", "waypoint"), spec));
    });
    assert!(
        found.starts_with("gateway shop/waypoint is not ready: no controller has taken it up; see why"),
        "{found}"
    );
    let found = with(&|server| {
        let verdict = json!([{ "type": "Enforced", "status": "False", "message": "no waypoint" }]);
        let status = json!({ "status": { "conditions": verdict } });
        server.put(&object("security.istio.io/v1", "AuthorizationPolicy", ("shop", "p"), status));
    });
    assert!(
        found.starts_with("authorizationpolicy shop/p is not enforced: no waypoint; see its status"),
        "{found}"
    );
}
