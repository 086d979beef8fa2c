//! Random objects from small worlds of names, so that they meet.

use std::sync::Arc;

use ambit_crds::authorization_policy::{
    Action, AuthorizationPolicy, AuthorizationPolicySpec, Operation, Rule, Scope, Source, TargetRef,
};
use ambit_crds::code::Code;
use ambit_crds::endpoint_slice::{Endpoint, EndpointPort, EndpointSlice, TargetObject};
use ambit_crds::fault::{Effect, Fault, Severity};
use ambit_crds::gateway::Gateway;
use ambit_crds::gateway_class::GatewayClass;
use ambit_crds::kind::Kind;
use ambit_crds::mesh_config::{MeshConfig, PolicyPlacement};
use ambit_crds::meta::{Map, ObjectMeta, ObjectRef, Owner};
use ambit_crds::namespace::Namespace;
use ambit_crds::node::Node;
use ambit_crds::object::{InvalidObject, Names as Named, Object};
use ambit_crds::peer_authentication::{MtlsMode, PeerAuthentication, PeerAuthenticationSpec};
use ambit_crds::pod::{Container, ContainerPort, IntOrString, Phase, Pod, PodCondition};
use ambit_crds::service::{Service, ServicePort, ServiceType};
use ambit_crds::service_account::ServiceAccount;
use rand::Rng as _;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;

use super::super::{Change, gateways};

mod routes;

const NAMESPACES: [&str; 4] = ["istio-system", "a", "b", "c"];

pub(super) fn pick<T: Clone>(rng: &mut SmallRng, from: &[T]) -> T {
    from.choose(rng).expect("a choice").clone()
}

pub(super) fn labels(rng: &mut SmallRng) -> Map {
    let pairs = [("app", ["web", "api"]), ("version", ["v1", "v2"])];
    let kept = pairs.into_iter().filter(|_| rng.random_bool(0.7)).collect::<Vec<_>>();
    kept.into_iter().map(|(key, values)| (key.to_owned(), pick(rng, &values).to_owned())).collect()
}

pub(super) fn meta(rng: &mut SmallRng, namespace: &str, prefix: &str, count: usize) -> ObjectMeta {
    let mut meta = ObjectMeta {
        namespace: namespace.to_owned(),
        name: format!("{prefix}{}", rng.random_range(0..count)),
        generation: rng.random_range(0..3),
        ..ObjectMeta::default()
    };
    meta.creation.rank = rng.random_range(0..4);
    meta
}

fn random_pod(rng: &mut SmallRng, namespace: &str) -> Object {
    let mut pod = Pod { meta: meta(rng, namespace, "pod", 8), ..Pod::default() };
    pod.meta.labels = labels(rng);
    if rng.random_bool(0.7) {
        let value = if rng.random_bool(0.8) { "enabled" } else { "pending" };
        pod.meta.annotations.insert("ambient.istio.io/redirection".into(), value.into());
    }
    if rng.random_bool(0.2) {
        name_waypoint(rng, &mut pod.meta);
    }
    if rng.random_bool(0.15) {
        let name = pick(rng, &["waypoint", "second"]);
        pod.meta.labels.insert(gateways::GATEWAY_NAME.into(), name.into());
        pod.meta.labels.insert(gateways::MANAGED.into(), gateways::CONTROLLER.into());
        pod.spec.service_account_name = name.into();
    }
    pod.meta.deletion = rng.random_bool(0.1).then(String::new);
    pod.spec.node_name = pick(rng, &["n1", "n2"]).into();
    pod.spec.host_network = rng.random_bool(0.1);
    let port = |name: &str, container_port| ContainerPort {
        name: name.into(),
        container_port,
        ..ContainerPort::default()
    };
    let ports = [port("http", 5678), port("http", 8080), port("admin", 9090), port("", 80)];
    let ports = ports.into_iter().filter(|_| rng.random_bool(0.4)).collect();
    match pod.meta.labels.contains_key(gateways::MANAGED) && rng.random_bool(0.8) {
        true => as_deployed(&mut pod),
        false => pod.spec.containers.push(Container { ports, ..Container::default() }),
    }
    pod.status.phase = if rng.random_bool(0.1) { Phase::Succeeded } else { Phase::Running };
    if rng.random_bool(0.9) {
        pod.status.pod_ip = format!("10.0.0.{}", rng.random_range(1..200));
    }
    let status = if rng.random_bool(0.8) { "True" } else { "False" };
    pod.status.conditions.push(PodCondition { kind: "Ready".into(), status: status.into() });
    Object::Pod(Box::new(pod))
}

/// As a waypoint's template makes its pods.
fn as_deployed(pod: &mut Pod) {
    pod.meta.owner = Some(Owner { kind: "ReplicaSet".into(), controller: true, ..Owner::default() });
    let container =
        serde_json::json!({ "image": "ambit/waypoint", "securityContext": { "runAsUser": 1337 } });
    pod.spec.as_written = Some(Arc::new(serde_json::json!({ "containers": [container] })));
}

/// Labels by which an object names waypoints.
fn name_waypoint(rng: &mut SmallRng, meta: &mut ObjectMeta) {
    if rng.random_bool(0.5) {
        let name = pick(rng, &["waypoint", "second", "none", "missing"]);
        meta.labels.insert("istio.io/use-waypoint".into(), name.into());
    }
    if rng.random_bool(0.1) {
        meta.labels.insert("istio.io/use-waypoint-namespace".into(), pick(rng, &NAMESPACES).into());
    }
    if rng.random_bool(0.1) {
        meta.labels.insert("istio.io/use-waypoint-canary".into(), "second".into());
        meta.annotations.insert("istio.io/use-waypoint-canary-weight".into(), pick(rng, &["10", "x"]).into());
    }
}

fn random_gateway(rng: &mut SmallRng, namespace: &str) -> Object {
    let listener = pick(
        rng,
        &[
            serde_json::json!({"name": "mesh", "port": 15008, "protocol": "HBONE"}),
            serde_json::json!({"name": "mesh", "port": 15008, "protocol": "HBONE",
                "allowedRoutes": {"namespaces": {"from": "All"}}}),
            serde_json::json!({"name": "mesh", "port": 80, "protocol": "HTTP"}),
        ],
    );
    let mut gateway = Gateway::default();
    (gateway.meta.namespace, gateway.meta.uid) = (namespace.into(), "u".into());
    gateway.meta.name = pick(rng, &["waypoint", "second"]).into();
    gateway.spec.gateway_class_name =
        pick(rng, &["ambit-waypoint", "istio-waypoint", "istio", "ambit"]).into();
    gateway.spec.listeners = vec![serde_json::from_value(listener).expect("a listener")];
    if rng.random_bool(0.5) {
        let value = pick(rng, &["all", "workload", "none"]);
        gateway.meta.labels.insert("istio.io/waypoint-for".into(), value.into());
    }
    for note in [gateways::PROGRAMMED, gateways::DOWN] {
        if rng.random_bool(0.4) {
            gateway.meta.annotations.insert(note.into(), "true".into());
        }
    }
    Object::Gateway(Box::new(gateway))
}

/// Somebody else's, of a waypoint's name.
fn random_account(rng: &mut SmallRng, namespace: &str) -> Object {
    let mut account = ServiceAccount::default();
    (account.meta.namespace, account.meta.name) =
        (namespace.into(), pick(rng, &["waypoint", "second"]).into());
    Object::ServiceAccount(account)
}

fn random_service(rng: &mut SmallRng, namespace: &str) -> Object {
    let mut service = Service { meta: meta(rng, namespace, "svc", 4), ..Service::default() };
    if rng.random_bool(0.3) {
        name_waypoint(rng, &mut service.meta);
    }
    if rng.random_bool(0.2) {
        let value = pick(rng, &["true", "false"]);
        service.meta.annotations.insert("ambit.mesh/waypoint-only".into(), value.into());
    }
    if rng.random_bool(0.7) {
        service.spec.selector = labels(rng);
    }
    service.spec.cluster_ip = pick(rng, &["10.1.0.1", "10.1.0.2", "None", ""]).into();
    if rng.random_bool(0.1) {
        service.spec.kind = ServiceType::ExternalName;
    }
    let targets = [
        Some(IntOrString::Number(5678)),
        Some(IntOrString::Name("http".into())),
        Some(IntOrString::Name("admin".into())),
        None,
    ];
    for port in [80, 81, 9090] {
        if rng.random_bool(0.6) {
            let target_port = pick(rng, &targets);
            service.spec.ports.push(ServicePort {
                name: format!("p{port}"),
                port,
                target_port,
                ..ServicePort::default()
            });
        }
    }
    Object::Service(Box::new(service))
}

fn random_slice(rng: &mut SmallRng, namespace: &str) -> Object {
    let mut slice = EndpointSlice { meta: meta(rng, namespace, "slice", 3), ..EndpointSlice::default() };
    let service = format!("svc{}", rng.random_range(0..4));
    slice.meta.labels.insert("kubernetes.io/service-name".into(), service);
    slice.spec.ports.push(EndpointPort {
        name: "p80".into(),
        port: Some(pick(rng, &[5678, 7000])),
        ..EndpointPort::default()
    });
    for _ in 0..rng.random_range(0..3) {
        let pod = TargetObject {
            kind: "Pod".into(),
            name: format!("pod{}", rng.random_range(0..8)),
            ..TargetObject::default()
        };
        slice.spec.endpoints.push(Endpoint {
            addresses: vec![format!("192.0.2.{}", rng.random_range(1..5))],
            target_ref: rng.random_bool(0.5).then_some(pod),
            ..Endpoint::default()
        });
    }
    Object::EndpointSlice(slice)
}

pub(super) fn random_policy(rng: &mut SmallRng, namespace: &str) -> Object {
    let mut meta = meta(rng, namespace, "policy", 4);
    if rng.random_bool(0.1) {
        meta.annotations.insert("istio.io/dry-run".into(), "true".into());
    }
    let target = |rng: &mut SmallRng| TargetRef {
        kind: pick(rng, &["Service", "Service", "Gateway", "GatewayClass"]).into(),
        name: pick(rng, &["svc0", "svc1", "svc2", "svc3", "waypoint", "ambit-waypoint"]).into(),
        ..TargetRef::default()
    };
    let scope = match rng.random_range(0..4) {
        0 => Scope::Selector(labels(rng)),
        1 => Scope::Targets(vec![target(rng)]),
        _ => Scope::Namespace,
    };
    let custom = Action::Custom { provider: "p".into() };
    let action =
        pick(rng, &[Action::Allow, Action::Allow, Action::Deny, Action::Deny, Action::Audit, custom]);
    let from =
        Source { namespaces: vec![ambit_api::policy::StringMatch::Exact("a".into())], ..Source::default() };
    let mut to = Operation { ports: vec![pick(rng, &[80, 81, 5678])], ..Operation::default() };
    if rng.random_bool(0.2) {
        to.paths.push("/x".into());
    }
    let rule =
        Rule { from: vec![from], to: if rng.random_bool(0.6) { vec![to] } else { vec![] }, when: vec![] };
    let rules = (0..rng.random_range(0..3)).map(|_| rule.clone()).collect();
    Object::AuthorizationPolicy(AuthorizationPolicy {
        meta,
        spec: AuthorizationPolicySpec { scope, action, rules },
    })
}

pub(super) fn random_peer(rng: &mut SmallRng, namespace: &str) -> Object {
    let modes = [MtlsMode::Unset, MtlsMode::Disable, MtlsMode::Permissive, MtlsMode::Strict];
    let mut spec = PeerAuthenticationSpec { mode: pick(rng, &modes), ..PeerAuthenticationSpec::default() };
    if rng.random_bool(0.6) {
        spec.selector = labels(rng);
    }
    if !spec.selector.is_empty() && rng.random_bool(0.5) {
        spec.ports.insert(pick(rng, &[80, 5678]), pick(rng, &modes));
    }
    Object::PeerAuthentication(PeerAuthentication { meta: meta(rng, namespace, "peer", 3), spec })
}

fn random_invalid(rng: &mut SmallRng, namespace: &str) -> Change {
    let (kind, prefix) = pick(
        rng,
        &[
            (Kind::AuthorizationPolicy, "policy"),
            (Kind::AuthorizationPolicy, "policy"),
            (Kind::PeerAuthentication, "peer"),
            (Kind::VirtualService, "route"),
        ],
    );
    let object = ObjectRef::new(kind, namespace, &format!("{prefix}{}", rng.random_range(0..4)));
    let target = TargetRef { kind: "Service".into(), name: "svc0".into(), ..TargetRef::default() };
    let names = match rng.random_range(0..3) {
        0 => Named::Namespace,
        1 => Named::Targets(vec![target]),
        _ => Named::Workloads(labels(rng)),
    };
    let fault = Fault {
        code: Code::BadValue,
        file: String::new(),
        line: 1,
        object: Some(object.clone()),
        field: None,
        message: pick(rng, &["one thing", "another"]).into(),
        mend: String::new(),
        effect: Effect::Closes,
        severity: Severity::Error,
    };
    Change::Invalid(Arc::new(InvalidObject { object, fault, names, labels: Map::new() }))
}

fn cluster_wide(rng: &mut SmallRng, names: &[&str]) -> ObjectMeta {
    ObjectMeta { name: pick(rng, names).to_owned(), ..ObjectMeta::default() }
}

fn random_namespace(rng: &mut SmallRng) -> Object {
    let mut meta = cluster_wide(rng, &NAMESPACES);
    name_waypoint(rng, &mut meta);
    if rng.random_bool(0.3) {
        meta.annotations.insert("ambit.mesh/waypoint".into(), "auto".into());
    }
    Object::Namespace(Namespace { meta })
}

fn random_class(rng: &mut SmallRng) -> Object {
    let mut meta = cluster_wide(rng, &["ambit-waypoint", "istio-waypoint", "other"]);
    if rng.random_bool(0.5) {
        meta.labels.insert("istio.io/waypoint-for".into(), pick(rng, &["all", "workload"]).into());
    }
    Object::GatewayClass(GatewayClass { meta, ..GatewayClass::default() })
}

fn random_mesh(rng: &mut SmallRng) -> Object {
    let mut config = MeshConfig::default();
    (config.meta.namespace, config.meta.name) = ("ambit-system".into(), "ambit".into());
    config.spec.root_namespace = pick(rng, &["istio-system", "b"]).into();
    let placements = [PolicyPlacement::Ambit, PolicyPlacement::Ambit, PolicyPlacement::Istio];
    config.spec.policy.placement = pick(rng, &placements);
    Object::MeshConfig(Box::new(config))
}

pub(super) fn random_change(rng: &mut SmallRng) -> Change {
    let namespace = pick(rng, &NAMESPACES);
    let object = match rng.random_range(0..120) {
        0..35 => random_pod(rng, namespace),
        35..50 => random_service(rng, namespace),
        50..58 => random_slice(rng, namespace),
        58..76 => random_policy(rng, namespace),
        76..86 => random_peer(rng, namespace),
        86..89 => return random_invalid(rng, namespace),
        89..92 => random_namespace(rng),
        92 => random_account(rng, namespace),
        93..96 => {
            let mut node = Node { meta: cluster_wide(rng, &["n1", "n2"]), ..Node::default() };
            node.meta.labels.insert("topology.kubernetes.io/zone".into(), pick(rng, &["z1", "z2"]).into());
            Object::Node(node)
        }
        96..99 => random_gateway(rng, namespace),
        99 => random_mesh(rng),
        100 => random_class(rng),
        _ => routes::random_route(rng, namespace),
    };
    if rng.random_bool(0.25) {
        Change::Deleted(object.reference())
    } else {
        Change::Applied(Arc::new(object))
    }
}
