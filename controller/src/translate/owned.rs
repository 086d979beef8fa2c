//! What we deploy for an accepted Gateway: ServiceAccount, Deployment and Service of its name (apis §1.5); and the Gateway
//! itself where a namespace asks for one.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_crds::gateway::Gateway;
use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;
use ambit_crds::object::Object;
use ambit_crds::pod::Pod;
use serde_json::{Map, Value, json};

use super::gateways::{
    CONTROLLER, GATEWAY_CLASS, GATEWAY_NAME, MANAGED, PORT, Standing, Waypoint, is_left_over,
};
use super::state::State;
use crate::objects::Key;
use crate::write_back::Owned;

/// What a waypoint's container runs.
const IMAGE: &str = "ambit/waypoint";
/// As which user and group.
const USER: u32 = 1337;
/// Where a waypoint says that it is ready.
const STATUS_PORT: u16 = 15021;
/// How often a replica is asked whether it is ready, in seconds, and after how many failures in a row it counts as not: one
/// that hangs gets no new connections four seconds later.
const READINESS: (u32, u32) = (2, 2);
/// Until it was ready once it is asked every second; it is started anew when it was not for ten minutes, since without a
/// controller it cannot be, and starting anew brings none.
const STARTUP: (u32, u32) = (1, 600);
/// On a Gateway (or among its `infrastructure` annotations): which replicas callers choose. They prefer those of their own
/// zone unless it says otherwise.
const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
/// Keys of Gateway API itself are never copied to what is deployed.
const RESERVED: &str = "gateway.networking.k8s.io/";
/// What `kubectl apply` remembers is about the Gateway alone.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Objects of ours, as they should be.
pub(crate) type Wanted = BTreeMap<ObjectRef, Arc<Value>>;

impl State {
    /// Brings what is deployed for one Gateway up to date; what is to be written.
    pub(crate) fn refresh_owned(&mut self, key: &Key) -> Vec<Owned> {
        let wanted = self.wanted(key);
        let kinds = [Kind::Gateway, Kind::ServiceAccount, Kind::Deployment, Kind::Service];
        let mut writes = Vec::new();
        for object in kinds.map(|kind| ObjectRef::new(kind, &key.namespace, &key.name)) {
            let manifest = wanted.get(&object).cloned();
            let before = match &manifest {
                Some(manifest) => self.owned.insert(object.clone(), manifest.clone()),
                None => self.owned.remove(&object),
            };
            // What an earlier run left is seen as an object, and nowhere else.
            let left_over = manifest.is_none() && self.objects.any(&object).is_some_and(is_ours);
            if before != manifest || left_over {
                writes.push(Owned { object, manifest });
            }
        }
        writes
    }

    fn wanted(&self, key: &Key) -> Wanted {
        let mut wanted = Wanted::new();
        let gateway = self.objects.get::<Gateway>(key);
        let is_wished = self.autos.gateway(&key.namespace).as_ref() == Some(key);
        if is_wished && gateway.is_none_or(is_ours_alone) {
            wanted.insert(ObjectRef::new(Kind::Gateway, &key.namespace, &key.name), Arc::new(automatic(key)));
        }
        if let (Some(gateway), Some(Standing::Accepted(waypoint))) = (gateway, self.gateways.get(key)) {
            let replicas = self.objects.any(&ObjectRef::new(Kind::Deployment, &key.namespace, &key.name));
            let replicas = match replicas {
                Some(Object::Deployment(set)) => set.spec.replicas,
                _ => 1,
            };
            for (kind, manifest) in deployed(key, gateway, waypoint, replicas) {
                wanted.insert(ObjectRef::new(kind, &key.namespace, &key.name), Arc::new(manifest));
            }
        }
        wanted
    }
}

/// Ours, and not (or no longer) a user's.
fn is_ours(object: &Object) -> bool {
    match object {
        Object::Gateway(gateway) => is_ours_alone(gateway),
        other => is_left_over(other),
    }
}

fn is_ours_alone(gateway: &Gateway) -> bool {
    gateway.meta.label(MANAGED) == Some(CONTROLLER)
}

/// The Gateway of a namespace that asked for one.
fn automatic(key: &Key) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": { "name": key.name, "namespace": key.namespace, "labels": { (MANAGED): CONTROLLER } },
        "spec": {
            "gatewayClassName": "ambit-waypoint",
            "listeners": [{ "name": "mesh", "port": PORT, "protocol": "HBONE" }],
        },
    })
}

fn deployed(key: &Key, gateway: &Gateway, waypoint: &Waypoint, replicas: u32) -> [(Kind, Value); 3] {
    let mut labels = copied(gateway, |one| &one.labels, &gateway.meta.labels);
    let annotations = copied(gateway, |one| &one.annotations, &gateway.meta.annotations);
    for (name, value) in [(GATEWAY_NAME, &*key.name), (GATEWAY_CLASS, &waypoint.class), (MANAGED, CONTROLLER)]
    {
        labels.insert(name.to_owned(), value.into());
    }
    let owner = json!([{
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": Kind::Gateway.name(), "name": key.name,
        "uid": waypoint.uid, "controller": true, "blockOwnerDeletion": true,
    }]);
    let metadata = json!({
        "name": key.name, "namespace": key.namespace, "labels": labels, "annotations": annotations,
        "ownerReferences": owner,
    });
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata });
    let selector = json!({ (GATEWAY_NAME): key.name });
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {
            "type": "ClusterIP",
            "selector": selector,
            "ipFamilyPolicy": "PreferDualStack",
            "ports": ports(waypoint),
        },
    });
    if !annotations.contains_key(TRAFFIC_DISTRIBUTION) {
        service["spec"]["trafficDistribution"] = "PreferClose".into();
    }
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": selector },
            "template": template(key, labels, annotations),
        },
    });
    [(Kind::ServiceAccount, account), (Kind::Deployment, deployment), (Kind::Service, service)]
}

/// Of its Service.
fn ports(waypoint: &Waypoint) -> Vec<Value> {
    let port = |name: String, port: u16, app: &str| json!({ "name": name, "port": port, "targetPort": port, "protocol": "TCP", "appProtocol": app });
    let mut ports = vec![port("status-port".to_owned(), STATUS_PORT, "tcp")];
    match waypoint.plain.is_empty() {
        true => ports.push(port("mesh".to_owned(), PORT, "hbone")),
        false => ports.extend(waypoint.plain.iter().map(|one| port(format!("http-{one}"), *one, "http"))),
    }
    ports
}

fn template(key: &Key, mut labels: Map<String, Value>, mut annotations: Map<String, Value>) -> Value {
    for (name, value) in [
        ("sidecar.istio.io/inject", "false"),
        ("istio.io/dataplane-mode", "none"),
        ("service.istio.io/canonical-name", key.name.as_str()),
        ("service.istio.io/canonical-revision", "latest"),
    ] {
        labels.insert(name.to_owned(), value.into());
    }
    for (name, value) in [
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/port", "15020"),
        ("prometheus.io/path", "/stats/prometheus"),
    ] {
        annotations.insert(name.to_owned(), value.into());
    }
    let probe = |(period, failures): (u32, u32)| {
        let get = json!({ "path": "/healthz/ready", "port": STATUS_PORT });
        json!({ "httpGet": get, "periodSeconds": period, "failureThreshold": failures })
    };
    json!({
        "metadata": { "labels": labels, "annotations": annotations },
        "spec": {
            "serviceAccountName": key.name,
            "containers": [{
                "name": "waypoint",
                "image": IMAGE,
                "ports": [
                    { "name": "metrics", "containerPort": 15020, "protocol": "TCP" },
                    { "name": "status-port", "containerPort": STATUS_PORT, "protocol": "TCP" },
                    { "name": "mesh", "containerPort": PORT, "protocol": "TCP" },
                ],
                "startupProbe": probe(STARTUP),
                "readinessProbe": probe(READINESS),
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
                    "readOnlyRootFilesystem": true, "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER,
                },
            }],
        },
    })
}

/// Whether a pod is one that the template makes, as far as that decides what runs in it: labels and an account alone would
/// let everybody who may create pods be the waypoint.
pub(crate) fn is_as_deployed(pod: &Pod) -> bool {
    let [container] = pod.spec.containers.as_slice() else { return false };
    let is_ours = pod.meta.owner.as_ref().is_some_and(|owner| owner.controller && owner.kind == "ReplicaSet");
    let user = container.security_context.as_ref().and_then(|context| context.run_as_user);
    is_ours
        && container.image == IMAGE
        && container.command.is_empty()
        && container.args.is_empty()
        && container.env.is_empty()
        && user == Some(USER)
        && pod.spec.init_containers.is_empty()
        && !pod.spec.host_network
}

/// What `infrastructure` says; where it is not written, what the Gateway itself carries.
fn copied(
    gateway: &Gateway,
    of: impl Fn(&ambit_crds::gateway::Infrastructure) -> &ambit_crds::meta::Map,
    own: &ambit_crds::meta::Map,
) -> Map<String, Value> {
    let all = gateway.spec.infrastructure.as_ref().map_or(own, of);
    let kept = all.iter().filter(|(key, _)| {
        // What we wrote about the Gateway is about the Gateway.
        !key.starts_with(RESERVED)
            && !key.starts_with("ambit.mesh/")
            && key.as_str() != APPLIED
            && key.as_str() != MANAGED
    });
    kept.map(|(key, value)| (key.clone(), value.as_str().into())).collect()
}

#[cfg(test)]
mod tests {
    use ambit_api::identity::{Identity, TrustDomain};

    use super::*;

    fn manifests(annotations: &[(&str, &str)]) -> [(Kind, Value); 3] {
        let mut gateway = Gateway::default();
        for (name, value) in annotations {
            gateway.meta.annotations.insert((*name).to_owned(), (*value).to_owned());
        }
        let waypoint = Waypoint {
            identity: Identity::new(&TrustDomain::default(), "a", "wp").expect("an identity"),
            class: "ambit-waypoint".to_owned(),
            uid: "u".to_owned(),
            serves: Default::default(),
            admits: Default::default(),
            plain: Default::default(),
            readiness: Default::default(),
        };
        deployed(&Key::new("a", "wp"), &gateway, &waypoint, 3)
    }

    #[test]
    fn a_replica_that_hangs_is_soon_not_ready_and_one_that_starts_has_time() {
        let [_, (_, deployment), _] = manifests(&[]);
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let times = |probe: &str| {
            let number = |field: &str| container[probe][field].as_u64().expect("a number");
            number("periodSeconds") * number("failureThreshold")
        };
        assert_eq!((times("readinessProbe"), times("startupProbe")), (4, 600));
        assert_eq!(container["readinessProbe"]["httpGet"], container["startupProbe"]["httpGet"]);
    }

    #[test]
    fn callers_prefer_replicas_of_their_zone_unless_the_gateway_says_otherwise() {
        let distribution = |annotations| {
            let [_, _, (_, service)] = manifests(annotations);
            let said = service["metadata"]["annotations"][TRAFFIC_DISTRIBUTION].clone();
            (service["spec"]["trafficDistribution"].clone(), said)
        };
        assert_eq!(distribution(&[]), ("PreferClose".into(), Value::Null));
        assert_eq!(distribution(&[(TRAFFIC_DISTRIBUTION, "Any")]), (Value::Null, "Any".into()));
    }
}
