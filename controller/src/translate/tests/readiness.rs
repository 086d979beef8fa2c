//! policy.md rule 12 as a story: a waypoint comes up, loses its replicas, is withdrawn, and comes back.

use ambit_api::wire::workload::{Address, address};
use ambit_crds::gateway::Gateway;
use ambit_crds::meta::Owner;
use ambit_crds::object::Object;
use ambit_crds::pod::{Pod, PodCondition};
use ambit_crds::service::{Service, ServicePort};
use prost::Message as _;
use serde_json::json;

use super::super::*;

fn gateway(notes: &[&str]) -> Object {
    let mut gateway = Gateway::default();
    (gateway.meta.namespace, gateway.meta.name) = ("a".into(), "waypoint".into());
    gateway.spec.gateway_class_name = "ambit-waypoint".into();
    let listener = json!({"name": "mesh", "port": 15008, "protocol": "HBONE"});
    gateway.spec.listeners = vec![serde_json::from_value(listener).expect("a listener")];
    gateway.meta.annotations = notes.iter().map(|note| ((*note).to_owned(), "true".to_owned())).collect();
    Object::Gateway(Box::new(gateway))
}

fn replica(ready: &str) -> Object {
    let mut pod = Pod::default();
    (pod.meta.namespace, pod.meta.name) = ("a".into(), "waypoint-0".into());
    pod.meta.labels.insert(gateways::GATEWAY_NAME.into(), "waypoint".into());
    pod.meta.labels.insert(gateways::MANAGED.into(), gateways::CONTROLLER.into());
    pod.meta.owner = Some(Owner { kind: "ReplicaSet".into(), controller: true, ..Owner::default() });
    pod.spec.service_account_name = "waypoint".into();
    let container = json!({ "image": "ambit/waypoint", "securityContext": { "runAsUser": 1337 } });
    pod.spec.as_written = Some(Arc::new(json!({ "containers": [container] })));
    pod.status.pod_ip = "10.0.0.9".into();
    pod.status.conditions.push(PodCondition { kind: "Ready".into(), status: ready.into() });
    Object::Pod(Box::new(pod))
}

fn service() -> Object {
    let mut service = Service::default();
    (service.meta.namespace, service.meta.name) = ("a".into(), "web".into());
    service.meta.labels.insert("istio.io/use-waypoint".into(), "waypoint".into());
    service.spec.ports.push(ServicePort { port: 80, ..ServicePort::default() });
    Object::Service(Box::new(service))
}

/// Whether ztunnels are told of the waypoint.
fn is_led(applied: &Applied) -> bool {
    let resource = &applied.snapshot.addresses["a/web.a.svc.cluster.local"];
    let message = Address::decode(resource.body.clone()).expect("an address");
    matches!(message.r#type, Some(address::Type::Service(service)) if service.waypoint.is_some())
}

fn notes(applied: &Applied) -> Vec<(&'static str, bool)> {
    applied.writes.annotations.iter().map(|note| (note.key, note.value.is_some())).collect()
}

#[test]
fn a_label_alone_leads_only_to_what_is_or_was_just_now_ready() {
    let mut translator = Translator::new(Names::default());
    let mut apply = |object| {
        let applied = translator.apply([Change::Applied(Arc::new(object))]);
        (applied, translator.absent().len(), translator.census())
    };
    apply(service());
    let (starting, absent, census) = apply(gateway(&[]));
    assert_eq!((is_led(&starting), notes(&starting), absent, census.starting), (false, vec![], 0, 1));
    let (up, absent, census) = apply(replica("True"));
    assert_eq!((is_led(&up), absent, census.ready), (true, 0, 1));
    assert_eq!(notes(&up), [(PROGRAMMED, true)], "restarts and other replicas must know");
    apply(gateway(&[PROGRAMMED]));
    let (lost, absent, census) = apply(replica("False"));
    assert_eq!((is_led(&lost), notes(&lost), absent, census.absent), (true, vec![], 1, 1));
    let (withdrawn, absent, census) = apply(gateway(&[PROGRAMMED, DOWN]));
    assert_eq!((is_led(&withdrawn), notes(&withdrawn), absent, census.withdrawn), (false, vec![], 0, 1));
    let (back, absent, census) = apply(replica("True"));
    assert_eq!((is_led(&back), notes(&back), absent, census.ready), (true, vec![(DOWN, false)], 0, 1));
}
