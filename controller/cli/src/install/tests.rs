//! Installing into a server in memory, and reading what people ask for.

use serde_json::{Value, json};

use super::apply::Outcome;
use super::{Report, all, operator, wait};
use crate::chart::{self, Profile, Wanted};
use crate::cluster::fake::Fake;
use crate::cluster::{Cluster, Verb};
use crate::failure::Failure;

fn objects(profile: Profile) -> Vec<Value> {
    chart::render(&Wanted { profile, ..Wanted::default() }.values().unwrap()).unwrap()
}

/// A Gateway API of one kind.
fn gateway_api(version: &str) -> Vec<Value> {
    vec![json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "gateways.gateway.networking.k8s.io", "annotations": { "version": version } },
    })]
}

fn install(server: &Fake, profile: Profile) -> Result<Report, Failure> {
    all(&Cluster::of(server.clone()), &objects(profile), Some(&gateway_api("new")), Verb::Apply)
}

fn refused(server: &Fake) -> String {
    install(server, Profile::Default).unwrap_err().to_string()
}

#[test]
fn twice_is_the_same_as_once() {
    let server = Fake::default();
    let first = install(&server, Profile::Default).unwrap();
    let count = objects(Profile::Default).len() + super::ours().len() + 1;
    assert_eq!(first.count(Outcome::Created), count);
    let before = server.at("/apis/apps/v1/namespaces/ambit-system/daemonsets/ztunnel").unwrap();
    let second = install(&server, Profile::Default).unwrap();
    // The Gateway API is left alone whoever has brought it.
    assert_eq!((second.count(Outcome::Unchanged), second.count(Outcome::LeftAlone)), (count - 1, 1));
    assert_eq!(server.at("/apis/apps/v1/namespaces/ambit-system/daemonsets/ztunnel"), Some(before));
}

#[test]
fn another_profile_changes_what_differs_and_removes_what_is_no_longer_wanted() {
    let server = Fake::default();
    install(&server, Profile::Default).unwrap();
    let report = install(&server, Profile::Minimal).unwrap();
    assert_eq!(report.count(Outcome::Changed), 3, "{}", report.summary());
    // Webhook, disruption budget, two network policies.
    assert_eq!(report.count(Outcome::Removed), 4, "{}", report.summary());
    let webhook = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ambit-validation";
    assert_eq!(server.at(webhook), None);
    let users = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": "own", "namespace": "ambit-system" } });
    server.put(&users);
    assert_eq!(install(&server, Profile::Minimal).unwrap().count(Outcome::Removed), 0);
}

#[test]
fn nothing_is_taken_from_somebody_else() {
    let account = |labels: Value| {
        json!({ "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": "ztunnel", "namespace": "ambit-system", "labels": labels } })
    };
    let foreign = refused(&Fake::with(&[account(json!({ "app": "ztunnel" }))]));
    assert!(foreign.contains("serviceaccount ambit-system/ztunnel exists and is not Ambit's"), "{foreign}");
    assert!(foreign.ends_with("kubectl delete serviceaccount ztunnel -n ambit-system"), "{foreign}");
    let helms = json!({ "app.kubernetes.io/part-of": "ambit", "app.kubernetes.io/managed-by": "Helm" });
    let helms = refused(&Fake::with(&[account(helms)]));
    assert!(helms.contains("was installed by Helm; ") && helms.contains("helm upgrade"), "{helms}");
    let ours = json!({ "app.kubernetes.io/part-of": "ambit", "app.kubernetes.io/managed-by": "ambit" });
    assert!(install(&Fake::with(&[account(ours)]), Profile::Default).is_ok());
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "ambit-system" } });
    assert!(install(&Fake::with(&[namespace]), Profile::Default).is_ok());
}

#[test]
fn a_conflict_names_the_owner_and_the_field() {
    let server = Fake::default();
    let says = "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using apps/v1: .spec.replicas";
    server.refuse("/apis/apps/v1/namespaces/ambit-system/deployments/ambit-controller", 409, says);
    let failure = refused(&server);
    for part in
        ["deployment ambit-system/ambit-controller", "kubectl-edit", ".spec.replicas", "--force-conflicts"]
    {
        assert!(failure.contains(part), "{failure}");
    }
    server.refuse("/apis/apps/v1/namespaces/ambit-system/deployments/ambit-controller", 403, "forbidden");
    assert!(refused(&server).contains("ambit check --pre"), "{}", refused(&server));
}

#[test]
fn definitions_of_others_stay_as_they_are() {
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let istios = json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "virtualservices.networking.istio.io", "labels": { "app": "istio" } } });
    let server = Fake::with(&[istios, gateway_api("old").remove(0)]);
    let before = server.at(&format!("{path}/virtualservices.networking.istio.io"));
    let report = install(&server, Profile::Default).unwrap();
    assert_eq!(report.count(Outcome::LeftAlone), 2);
    assert_eq!(server.at(&format!("{path}/virtualservices.networking.istio.io")), before);
    let held = server.at(&format!("{path}/gateways.gateway.networking.k8s.io")).unwrap();
    assert_eq!(held["metadata"]["annotations"]["version"], "old");
}

#[test]
fn without_a_gateway_api_it_says_where_to_get_one() {
    let without = |server: Fake| all(&Cluster::of(server), &objects(Profile::Demo), None, Verb::Apply);
    let failure = without(Fake::default()).unwrap_err().to_string();
    assert!(failure.contains("no Gateway API") && failure.contains("cargo xtask ambit"), "{failure}");
    assert!(failure.contains("--gateway-api") && failure.contains("standard-install.yaml"), "{failure}");
    assert!(without(Fake::with(&gateway_api("any"))).is_ok());
}

#[test]
fn what_takes_time_says_what_it_lacks() {
    let of = |kind: &str, spec: Value, status: Value| json!({ "kind": kind, "metadata": { "generation": 2 }, "spec": spec, "status": status });
    let deployment = |status: Value| of("Deployment", json!({ "replicas": 2 }), status);
    let set = |status: Value| of("DaemonSet", json!({}), status);
    let cases = [
        (deployment(json!({ "observedGeneration": 1 })), Some("nobody has taken it up yet")),
        (deployment(json!({ "observedGeneration": 2, "updatedReplicas": 1 })), Some("1 of 2 are new")),
        (
            deployment(json!({ "observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 1 })),
            Some("1 of 2 are ready"),
        ),
        (
            deployment(
                json!({ "observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 2, "replicas": 3 }),
            ),
            Some("1 old ones are still there"),
        ),
        (
            deployment(
                json!({ "observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 2, "replicas": 2 }),
            ),
            None,
        ),
        (set(json!({ "observedGeneration": 2 })), Some("no node is one of its nodes; see its nodeSelector")),
        (
            set(json!({ "observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2,
                "numberAvailable": 1 })),
            Some("1 of 2 are ready"),
        ),
        (
            set(json!({ "observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2,
                "numberAvailable": 2 })),
            None,
        ),
        (json!({ "kind": "CustomResourceDefinition" }), Some("it is not served yet")),
        (
            json!({ "kind": "CustomResourceDefinition",
                "status": { "conditions": [{ "type": "Established", "status": "True" }] } }),
            None,
        ),
    ];
    for (object, lacks) in cases {
        assert_eq!(wait::lagging(&object).as_deref(), lacks, "{object}");
    }
}

#[test]
fn an_istio_operator_is_understood_as_far_as_it_goes() {
    let said = json!({
        "apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator",
        "spec": {
            "profile": "ambient", "hub": "docker.io/istio", "tag": "1.30.0", "revision": "blue",
            "meshConfig": { "trustDomain": "td", "accessLogFile": "/dev/stdout", "nonsense": 1,
                "defaultConfig": { "concurrency": 2 } },
            "components": {
                "pilot": { "k8s": { "replicaCount": 3, "resources": { "requests": { "cpu": "1" } },
                    "hpaSpec": { "maxReplicas": 5 } } },
                "ztunnel": { "enabled": true, "k8s": { "resources": { "limits": { "memory": "2Gi" } } } },
                "cni": { "enabled": false },
                "ingressGateways": [{ "name": "istio-ingressgateway", "enabled": true }],
            },
            "values": {
                "global": { "imagePullPolicy": "Never", "multiCluster": { "clusterName": "blue" } },
                "cni": { "cniBinDir": "/opt/bin" }, "ztunnel": { "nodeSelector": { "disk": "ssd" } },
                "sidecarInjectorWebhook": { "rewriteAppHTTPProbe": true },
            },
        },
    });
    assert!(operator::is_one(&said));
    let understood = operator::read(&said);
    assert_eq!(understood.profile, Some(Profile::Default));
    let expected = json!({
        "mesh": { "trustDomain": "td", "accessLogFile": "/dev/stdout", "defaultConfig": { "concurrency": 2 } },
        "controller": { "replicas": 3, "resources": { "requests": { "cpu": "1" } } },
        "ztunnel": { "resources": { "limits": { "memory": "2Gi" } }, "nodeSelector": { "disk": "ssd" } },
        "image": { "pullPolicy": "Never" }, "cluster": { "name": "blue" },
        "node": { "cni": { "binDir": "/opt/bin" } },
    });
    assert_eq!(understood.values, expected);
    let paths = [
        "hub",
        "tag",
        "components.cni.enabled",
        "meshConfig.nonsense",
        "components.ingressGateways",
        "components.pilot.k8s.hpaSpec.maxReplicas",
        "revision",
        "values.sidecarInjectorWebhook.rewriteAppHTTPProbe",
    ];
    assert_eq!(understood.left.len(), paths.len(), "{:#?}", understood.left);
    for path in paths {
        let named = format!("spec.{path} is not taken over: ");
        assert!(
            understood.left.iter().any(|left| left.starts_with(&named)),
            "{path}: {:#?}",
            understood.left
        );
    }
    let wanted = Wanted { files: vec![understood.values], ..Wanted::default() };
    assert!(wanted.values().is_ok());
    let own = json!({ "kind": "IstioOperator", "apiVersion": "install.istio.io/v1alpha1",
        "spec": { "hub": "registry.example/ambit", "tag": "0.2" } });
    assert_eq!(
        operator::read(&own).values,
        json!({ "image": { "hub": "registry.example/ambit", "tag": "0.2" } })
    );
    assert!(!operator::is_one(&json!({ "kind": "IstioOperator", "apiVersion": "other/v1" })));
}

#[test]
fn a_mesh_configuration_is_read_before_it_is_applied() {
    assert_eq!(operator::mesh(&json!({ "trustDomain": "a" })), Ok(Vec::new()));
    let unused = operator::mesh(&json!({ "connectTimeout": "5s" })).unwrap();
    assert_eq!(unused, ["mesh.connectTimeout is known, but nothing obeys it yet"]);
    let wrong = operator::mesh(&json!({ "trustDomian": "a" })).unwrap_err().to_string();
    assert!(wrong.starts_with("mesh: unknown field `trustDomian`"), "{wrong}");
}
