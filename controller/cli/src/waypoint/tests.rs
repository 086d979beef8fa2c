//! Waypoints on a server in memory.

use serde_json::{Value, json};

use super::list::{Said, Waypoint, waypoints};
use super::make::{gateway, lags, put, remove};
use super::{Applied, Described, Traffic};
use crate::cluster::fake::Fake;
use crate::cluster::{Cluster, To};
use crate::output::Row;

fn described(name: &str) -> Described {
    Described { namespace: "shop".to_owned(), name: name.to_owned(), traffic: None, revision: None }
}

fn applied(name: &str, enroll_namespace: bool, overwrite: bool) -> Applied {
    let described = Described { traffic: Some(Traffic::All), ..described(name) };
    let timeout = std::time::Duration::ZERO;
    Applied { described, enroll_namespace, overwrite, wait: false, timeout, to: To::default() }
}

fn namespace(labels: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop", "labels": labels } })
}

const NAMESPACE: &str = "/api/v1/namespaces/shop";
const GATEWAY: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/gateways/waypoint";

#[test]
fn a_waypoint_is_a_gateway_of_one_listener() {
    let described =
        Described { traffic: Some(Traffic::Workload), revision: Some("r".to_owned()), ..described("w") };
    let expected = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": { "name": "w", "namespace": "shop",
            "labels": { "istio.io/waypoint-for": "workload", "istio.io/rev": "r" } },
        "spec": { "gatewayClassName": "ambit-waypoint",
            "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }] },
    });
    assert_eq!(gateway(&described), Ok(expected));
    let none = gateway(&self::described("none")).unwrap_err().to_string();
    assert!(none.contains("no waypoint may be called none"), "{none}");
}

#[test]
fn a_namespace_gets_its_waypoint_unless_it_has_another() {
    let server = Fake::with(&[namespace(json!({ "istio.io/use-waypoint": "other" }))]);
    let cluster = Cluster::of(server.clone());
    let put = |applied: &Applied| put(&cluster, &gateway(&applied.described).unwrap(), applied);
    let refused = put(&applied("waypoint", true, false)).unwrap_err().to_string();
    assert!(refused.contains("has another waypoint: other; replace it: --overwrite"), "{refused}");
    assert_eq!((server.at(GATEWAY), server.writes().len()), (None, 0), "nothing is half done");
    put(&applied("waypoint", false, false)).unwrap();
    assert_eq!(server.at(NAMESPACE).unwrap()["metadata"]["labels"]["istio.io/use-waypoint"], "other");
    put(&applied("waypoint", true, true)).unwrap();
    assert_eq!(server.at(NAMESPACE).unwrap()["metadata"]["labels"]["istio.io/use-waypoint"], "waypoint");
    assert_eq!(server.at(GATEWAY).unwrap()["metadata"]["labels"]["istio.io/waypoint-for"], "all");
    let elsewhere = Cluster::of(Fake::default());
    let missing = super::make::put(&elsewhere, &json!({}), &applied("waypoint", false, false)).unwrap_err();
    assert!(
        missing.to_string().contains("there is no namespace shop; make it: kubectl create namespace shop")
    );
}

#[test]
fn a_waypoint_that_goes_is_named_nowhere_first() {
    let server = Fake::with(&[
        namespace(json!({ "istio.io/use-waypoint": "waypoint" })),
        gateway(&described("waypoint")).unwrap(),
        gateway(&described("second")).unwrap(),
    ]);
    let cluster = Cluster::of(server.clone());
    let held = waypoints(&cluster, "shop").unwrap();
    assert_eq!(held.len(), 2);
    remove(&cluster, "shop", &held.iter().collect::<Vec<_>>()).unwrap();
    let writes = server.writes();
    let place = |part: &str| writes.iter().position(|write| write.contains(part)).unwrap();
    assert!(place("Merge /api/v1/namespaces/shop") < place("gateways/waypoint"), "{writes:?}");
    assert_eq!(writes.iter().filter(|write| write.starts_with("Merge")).count(), 1);
    assert!(waypoints(&cluster, "shop").unwrap().is_empty());
}

#[test]
fn lists_show_waypoints_alone_and_what_is_said_of_them() {
    let mut ready = gateway(&described("waypoint")).unwrap();
    ready["status"] = json!({ "conditions": [
        { "type": "Accepted", "status": "True", "reason": "Accepted", "message": "taken" },
        { "type": "Programmed", "status": "False", "reason": "AddressNotUsable", "message": "no replica is ready" },
    ] });
    let mut ingress = gateway(&described("ingress")).unwrap();
    ingress["spec"]["gatewayClassName"] = json!("ambit");
    let istios = gateway(&described("plain")).map(|mut one| {
        one["spec"]["gatewayClassName"] = json!("istio-waypoint");
        one
    });
    let server = Fake::with(&[ready, ingress, istios.unwrap()]);
    let held = waypoints(&Cluster::of(server), "").unwrap();
    let rows: Vec<String> = held.iter().map(|one| Waypoint::of(one).cells().join(" ")).collect();
    assert_eq!(rows, ["shop plain default service Unknown", "shop waypoint default service False"]);
    let said: Vec<String> = held.iter().flat_map(Said::of).map(|one| one.cells().join(" ")).collect();
    assert_eq!(said[0], "shop plain Unknown Programmed  no controller has taken it up yet");
    assert_eq!(said[2], "shop waypoint False Programmed AddressNotUsable no replica is ready");
}

#[test]
fn a_waypoint_is_ready_when_its_present_form_is() {
    let with = |condition: Value| {
        let mut held = gateway(&described("waypoint")).unwrap();
        held["metadata"]["generation"] = json!(2);
        held["status"] = json!({ "conditions": [condition] });
        lags(&Cluster::of(Fake::with(&[held.clone()])), &held).unwrap()
    };
    let programmed = |status: &str, generation: Value| json!({ "type": "Programmed", "status": status, "message": "no replica", "observedGeneration": generation });
    assert_eq!(with(programmed("True", json!(2))), Vec::<String>::new());
    assert_eq!(with(programmed("True", Value::Null)), Vec::<String>::new());
    assert_eq!(with(programmed("False", json!(2))), ["gateway shop/waypoint: no replica"]);
    let late = ["gateway shop/waypoint: no controller has taken it up yet"];
    assert_eq!(with(programmed("True", json!(1))), late);
    assert_eq!(with(json!({ "type": "Accepted", "status": "True" })), late);
}
