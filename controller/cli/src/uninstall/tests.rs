//! An installation in memory, taken away.

use serde_json::json;

use super::left::Left;
use super::*;
use crate::chart::Wanted;
use crate::cluster::fake::Fake;

/// What an installation has, with what its controller and its users have made.
fn installed() -> Fake {
    let objects = chart::render(&Wanted::default().values().unwrap()).unwrap();
    let server = Fake::with(&objects);
    ours().iter().for_each(|definition| server.put(definition));
    let object = |api: &str, kind: &str, namespace: &str, name: &str, labels: Value| {
        let mut object =
            json!({ "apiVersion": api, "kind": kind, "metadata": { "name": name, "labels": labels } });
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = json!(namespace);
        }
        object
    };
    let waypoints = json!({ (MANAGED): MANAGED_BY_US });
    server.put(&object("apps/v1", "Deployment", "shop", "waypoint", waypoints.clone()));
    server.put(&object("v1", "ServiceAccount", "shop", "waypoint", waypoints));
    server.put(&object("apps/v1", "Deployment", "shop", "web", json!({ "app": "web" })));
    let roots = json!({ "app.kubernetes.io/managed-by": "ambit-controller" });
    server.put(&object("v1", "ConfigMap", "shop", "istio-ca-root-cert", roots));
    server.put(&object("v1", "ConfigMap", "shop", "own", json!({})));
    server.put(&object("v1", "Secret", "ambit-system", "ambit-ca-secret", json!({})));
    server.put(&object("coordination.k8s.io/v1", "Lease", "ambit-system", "ambit-controller", json!({})));
    server.put(&object("v1", "Namespace", "", "shop", json!({ "istio.io/dataplane-mode": "ambient" })));
    let mut gateway = object("gateway.networking.k8s.io/v1", "Gateway", "shop", "waypoint", json!({}));
    gateway["spec"] = json!({ "gatewayClassName": "ambit-waypoint" });
    server.put(&gateway);
    server
}

fn uninstall(server: &Fake, purge: bool) -> Result<Left, Failure> {
    let cluster = Cluster::of(server.clone());
    let uninstall = Uninstall { cluster: &cluster };
    uninstall.may_begin(purge)?;
    uninstall.nodes(Duration::ZERO)?;
    uninstall.programs(Duration::ZERO)?;
    if purge {
        uninstall.purge()?;
    }
    Left::look(&cluster)
}

#[test]
fn programs_go_in_order_and_what_people_wrote_stays() {
    let server = installed();
    let left = uninstall(&server, false).unwrap();
    let writes = server.writes();
    let place = |part: &str| writes.iter().position(|write| write.contains(part)).expect(part);
    let order = [
        "validatingwebhookconfigurations/ambit-validation",
        "daemonsets/ambit-node",
        "deployments/ambit-controller",
        "shop/deployments/waypoint",
        "daemonsets/ztunnel",
        "clusterroles/ambit-node",
        "serviceaccounts/ambit-node",
        "shop/configmaps/istio-ca-root-cert",
    ];
    assert!(order.windows(2).all(|pair| place(pair[0]) < place(pair[1])), "{writes:#?}");
    let kept = ["/api/v1/namespaces/shop/configmaps/own", "/apis/apps/v1/namespaces/shop/deployments/web"];
    assert!(kept.iter().all(|path| server.at(path).is_some()));
    let expected = Left {
        namespaces: vec!["shop".to_owned()],
        gateways: vec!["shop/waypoint".to_owned()],
        definitions: ours().len(),
        key: true,
        namespace: true,
        ..Left::default()
    };
    assert_eq!(left, expected);
    assert_eq!(left.end(), End::Yes);
    let again = server.writes().len();
    uninstall(&server, false).unwrap();
    assert_eq!(server.writes().len(), again, "nothing is left to do");
}

#[test]
fn a_purge_takes_definitions_key_and_namespace_but_no_gateway() {
    let server = installed();
    let left = uninstall(&server, true).unwrap();
    assert_eq!((left.definitions, left.key, left.namespace), (0, false, false));
    assert_eq!(left.gateways, ["shop/waypoint"]);
    let istiod = json!({ "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "istiod", "namespace": "istio-system", "labels": { "app": "istiod" } } });
    let server = installed();
    server.put(&istiod);
    let refused = uninstall(&server, true).unwrap_err().to_string();
    assert!(refused.contains("deployment istio-system/istiod uses the definitions"), "{refused}");
    assert!(server.writes().is_empty());
    assert!(uninstall(&server, false).is_ok());
}

#[test]
fn an_agent_that_does_not_end_and_an_installation_of_helms_stop_it() {
    let server = installed();
    server.put(&json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "ambit-node-x", "namespace": "ambit-system", "labels": { "app": "ambit-node" } } }));
    let late = uninstall(&server, false).unwrap_err().to_string();
    assert!(late.contains("pod ambit-node-x is still there") && late.contains("--force"), "{late}");
    assert!(server.at("/apis/apps/v1/namespaces/ambit-system/daemonsets/ztunnel").is_some());
    let server = installed();
    server.put(
        &json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "ambit-controller",
        "namespace": "ambit-system", "labels": { "app.kubernetes.io/managed-by": "Helm" } } }),
    );
    let helms = uninstall(&server, false).unwrap_err().to_string();
    assert!(helms.contains("Helm's; ") && helms.contains("helm uninstall ambit"), "{helms}");
}

#[test]
fn pods_that_stay_redirected_are_named() {
    let server = installed();
    server
        .put(&json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web-1", "namespace": "shop",
        "annotations": { "ambient.istio.io/redirection": "enabled" } } }));
    let left = uninstall(&server, false).unwrap();
    assert_eq!((left.pods.clone(), left.end()), (vec!["shop/web-1".to_owned()], End::No));
}
