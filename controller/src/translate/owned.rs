//! What we deploy for an accepted Gateway: ServiceAccount, Deployment and Service of its name (apis §1.5); and the Gateway
//! itself where a namespace asks for one.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_crds::gateway::Gateway;
use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;
use ambit_crds::object::Object;
use serde_json::{Map, Value, json};

use super::gateways::{
    CONTROLLER, GATEWAY_CLASS, GATEWAY_NAME, MANAGED, PORT, Standing, Waypoint, is_left_over,
};
use super::shape::{Deployed, METRICS_PORT, STATUS_PORT};
use super::state::State;
use crate::objects::Key;
use crate::write_back::Owned;

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
            let trust_domain = self.mesh.domains.own.as_str();
            let of = Deployed { key, trust_domain, names: &self.names, plain: &waypoint.plain };
            for (kind, manifest) in deployed(gateway, waypoint, &of, self.shape.spec(&of)) {
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

fn deployed(gateway: &Gateway, waypoint: &Waypoint, of: &Deployed<'_>, spec: Value) -> [(Kind, Value); 3] {
    let key = of.key;
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
    // How many replicas there are is its users' to say.
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
        "spec": { "selector": { "matchLabels": selector }, "template": template(key, labels, annotations, spec) },
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

fn template(
    key: &Key,
    mut labels: Map<String, Value>,
    mut annotations: Map<String, Value>,
    spec: Value,
) -> Value {
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
        ("prometheus.io/port", &METRICS_PORT.to_string()),
        ("prometheus.io/path", "/stats/prometheus"),
    ] {
        annotations.insert(name.to_owned(), value.into());
    }
    json!({ "metadata": { "labels": labels, "annotations": annotations }, "spec": spec })
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
    use crate::translate::names::Names;
    use crate::translate::shape::Shape;

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
        let (key, names) = (Key::new("a", "wp"), Names::default());
        let of = Deployed { key: &key, trust_domain: "td", names: &names, plain: &waypoint.plain };
        deployed(&gateway, &waypoint, &of, Shape::default().spec(&of))
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
