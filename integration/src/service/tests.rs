//! Tables for endpoints, rules and names.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Backend, Service, names, rules};
use crate::address::{Addresses, NodeNumber};
use crate::manifest::parse;

fn service(ports: &str, headless: bool) -> Service {
    let text = format!(
        "kind: Service\nmetadata: {{name: web, namespace: shop}}\nspec: {{selector: {{app: web}}, ports: {ports}}}\n"
    );
    let (documents, _) = parse(Path::new("x"), &text);
    let address = Addresses::default().service("shop/web", None).unwrap();
    Service::read(&documents[0], (!headless).then_some(address)).unwrap()
}

fn pods() -> Vec<Backend> {
    let mut addresses = Addresses::default();
    [("a", "web", true), ("b", "web", true), ("c", "web", false), ("d", "other", true)]
        .map(|(name, app, ready)| Backend {
            namespace: "shop".into(),
            name: name.into(),
            uid: name.into(),
            node: "node-1".into(),
            address: addresses.pod(NodeNumber(1), name).unwrap().1,
            labels: BTreeMap::from([("app".into(), app.into())]),
            ports: BTreeMap::from([("http".into(), 5678)]),
            ready,
        })
        .to_vec()
}

#[test]
fn rules_hold_ready_endpoints_only() {
    let rules = rules(&[service("[{port: 80, targetPort: http}]", false)], &pods());
    assert!(rules.contains("ip daddr 10.96.1.0 tcp dport 80 dnat ip to numgen random mod 2 map { 0 : 10.244.1.2 . 5678, 1 : 10.244.1.3 . 5678 }"), "{rules}");
    assert!(rules.contains("ip6 daddr fd00:10:96::100 tcp dport 80 dnat ip6"), "{rules}");
}

#[test]
fn a_headless_service_is_its_ready_pods() {
    let headless = [service("[{port: 80}]", true)];
    let names = names(&headless, &pods());
    assert_eq!(names.get("web.shop.svc.cluster.local.").map(Vec::len), Some(4));
    assert!(names.contains_key("a.web.shop.svc.cluster.local."));
    assert!(!rules(&headless, &pods()).contains("numgen"));
}

#[test]
fn slices_name_pods_and_their_readiness() {
    let slices = service("[{name: http, port: 80, targetPort: 5678}]", false).slices(&pods());
    assert_eq!(slices.len(), 2);
    let ready: Vec<_> = slices[0]["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|end| end["conditions"]["ready"].as_bool().unwrap())
        .collect();
    assert_eq!(ready, [true, true, false]);
    assert_eq!(slices[0]["ports"][0]["port"], 5678);
}
