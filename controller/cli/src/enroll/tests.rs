//! Labels on a server in memory, and how pods are counted.

use super::*;
use crate::cluster::fake::Fake;

fn pod(name: &str, rest: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "shop" },
        "spec": { "nodeName": "n1", "containers": [{ "name": "a" }] },
        "status": { "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }] },
    });
    chart::lay(rest, &mut pod);
    pod
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } })
}

fn captured() -> Value {
    json!({ "metadata": { "annotations": { (REDIRECTION): "enabled" } } })
}

#[test]
fn pods_are_counted_by_what_is_so_and_not_by_what_is_asked() {
    let pods = [
        pod("in", captured()),
        pod("coming", json!({})),
        pod("starting", json!({ "status": { "podIP": null, "podIPs": null } })),
        pod("host", json!({ "spec": { "hostNetwork": true } })),
        pod("own", json!({ "metadata": { "labels": { (DATAPLANE_MODE): "none" } } })),
        pod(
            "leaving",
            json!({ "metadata": { "labels": { (DATAPLANE_MODE): "none" },
            "annotations": { (REDIRECTION): "enabled" } } }),
        ),
        pod("done", json!({ "status": { "phase": "Succeeded" } })),
    ];
    let pods = Pods::of(&namespace("shop", json!({ (DATAPLANE_MODE): "ambient" })), pods.iter());
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let expected = Pods {
        inside: names(&["in"]),
        under_way: names(&["coming", "starting", "leaving"]),
        outside: vec![("host".to_owned(), Why::HostNetwork), ("own".to_owned(), Why::OptedOut)],
    };
    assert_eq!(pods, expected);
}

#[test]
fn labels_come_and_go_and_are_written_only_where_they_differ() {
    let server = Fake::with(&[namespace("shop", json!({ "team": "x" })), pod("a", json!({}))]);
    let cluster = Cluster::of(server.clone());
    let label = |what: &str, direction| Subject::read(what, direction).unwrap().label(&cluster, direction);
    let at = |path: &str| server.at(path).unwrap()["metadata"]["labels"].clone();
    label("shop", Direction::In).unwrap();
    assert_eq!(at("/api/v1/namespaces/shop"), json!({ "team": "x", (DATAPLANE_MODE): "ambient" }));
    label("shop", Direction::In).unwrap();
    assert_eq!(server.writes().len(), 1);
    label("shop/a", Direction::Out).unwrap();
    assert_eq!(at("/api/v1/namespaces/shop/pods/a"), json!({ (DATAPLANE_MODE): "none" }));
    label("shop", Direction::Out).unwrap();
    assert_eq!(at("/api/v1/namespaces/shop"), json!({ "team": "x" }));
    let missing = label("shpo", Direction::In).unwrap_err().to_string();
    assert!(
        missing.contains("there is no namespace shpo; ") && missing.contains("kubectl get namespaces"),
        "{missing}"
    );
}

#[test]
fn what_the_mesh_stands_on_stays_out_of_it() {
    for system in SYSTEM {
        let refused = Subject::read(system, Direction::In).unwrap_err().to_string();
        assert!(refused.contains("stays out of the mesh"), "{refused}");
        assert!(Subject::read(&format!("{system}/pod"), Direction::In).is_err());
        // Who has labelled it by hand must be able to undo that.
        assert!(Subject::read(system, Direction::Out).is_ok());
    }
    for nothing in ["", "/", "shop/", "/pod"] {
        assert!(Subject::read(nothing, Direction::In).is_err(), "{nothing:?}");
    }
}
