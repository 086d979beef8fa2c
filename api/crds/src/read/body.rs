//! The part of a document that differs by kind.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error, IgnoredAny};
use serde_json::Value;

use crate::authorization_policy::AuthorizationPolicy;
use crate::check::Check;
use crate::destination_rule::DestinationRule;
use crate::document::{self, DecodeError, Node};
use crate::endpoint_slice::EndpointSlice;
use crate::gateway::{Gateway, MANAGED};
use crate::gateway_class::GatewayClass;
use crate::grpc_route::GrpcRoute;
use crate::http_route::HttpRoute;
use crate::kind::Kind;
use crate::mesh_config::{self, MeshConfig};
use crate::meta::ObjectMeta;
use crate::namespace::Namespace;
use crate::node::Node as ClusterNode;
use crate::object::Object;
use crate::peer_authentication::PeerAuthentication;
use crate::pod::{Pod, PodSpec};
use crate::reference_grant::ReferenceGrant;
use crate::service::Service;
use crate::service_account::ServiceAccount;
use crate::virtual_service::VirtualService;
use crate::workload_set::{WorkloadSet, WorkloadSetSpec};

/// The top of a kind whose fields are Kubernetes' business; what we do not know is let through.
#[derive(Deserialize)]
struct Tolerant<S, T = IgnoredAny> {
    #[serde(default = "Option::default")]
    spec: Option<S>,
    #[serde(default = "Option::default")]
    status: Option<T>,
}

/// The top of a kind of ours: what we do not know is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict<S> {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(rename = "metadata")]
    _metadata: IgnoredAny,
    #[serde(default = "Option::default")]
    spec: Option<S>,
    #[serde(default, rename = "status")]
    _status: Option<IgnoredAny>,
}

pub(super) fn read(kind: Kind, meta: ObjectMeta, node: &Node) -> Result<Object, DecodeError> {
    Ok(match kind {
        Kind::Namespace => Object::Namespace(Namespace { meta }),
        Kind::ServiceAccount => Object::ServiceAccount(ServiceAccount { meta }),
        Kind::Node => {
            let (spec, status) = tolerant(node)?;
            Object::Node(ClusterNode { meta, spec, status })
        }
        Kind::Pod => pod(meta, node)?,
        Kind::Service => service(meta, node)?,
        Kind::EndpointSlice => Object::EndpointSlice(EndpointSlice { meta, spec: document::decode(node)? }),
        Kind::AuthorizationPolicy => {
            Object::AuthorizationPolicy(AuthorizationPolicy::new(meta, strict(node)?))
        }
        Kind::PeerAuthentication => {
            Object::PeerAuthentication(PeerAuthentication { meta, spec: strict(node)? })
        }
        Kind::ConfigMap => Object::MeshConfig(Box::new(mesh(meta, node)?)),
        Kind::Deployment => Object::Deployment(Box::new(workload_set(meta, node)?)),
        Kind::StatefulSet => Object::StatefulSet(Box::new(workload_set(meta, node)?)),
        Kind::VirtualService => {
            Object::VirtualService(Box::new(VirtualService { meta, spec: checked(node)? }))
        }
        Kind::DestinationRule => {
            Object::DestinationRule(Box::new(DestinationRule { meta, spec: checked(node)? }))
        }
        Kind::Gateway => Object::Gateway(Box::new(Gateway { meta, spec: checked(node)? })),
        Kind::GatewayClass => Object::GatewayClass(GatewayClass { meta, spec: required(node)? }),
        Kind::HttpRoute => Object::HttpRoute(Box::new(HttpRoute { meta, spec: checked(node)? })),
        Kind::GrpcRoute => Object::GrpcRoute(Box::new(GrpcRoute { meta, spec: checked(node)? })),
        Kind::ReferenceGrant => Object::ReferenceGrant(ReferenceGrant { meta, spec: required(node)? }),
        other => Object::NotYetEnforced(other, meta),
    })
}

fn tolerant<S: DeserializeOwned + Default, T: DeserializeOwned + Default>(
    node: &Node,
) -> Result<(S, T), DecodeError> {
    let whole: Tolerant<S, T> = document::decode(node)?;
    Ok((whole.spec.unwrap_or_default(), whole.status.unwrap_or_default()))
}

fn strict<S: DeserializeOwned + Default>(node: &Node) -> Result<S, DecodeError> {
    let whole: Strict<S> = document::decode(node)?;
    Ok(whole.spec.unwrap_or_default())
}

/// A kind of ours that says nothing without a spec.
fn required<S: DeserializeOwned>(node: &Node) -> Result<S, DecodeError> {
    let whole: Strict<S> = document::decode(node)?;
    whole.spec.ok_or_else(|| wrong(node, "spec", "it is missing; write what the object is to say"))
}

fn checked<S: DeserializeOwned + Check>(node: &Node) -> Result<S, DecodeError> {
    let spec: S = required(node)?;
    spec.check().map_err(|error| {
        let error = error.under("spec");
        wrong(node, &error.field, &error.sentence).coded(error.code)
    })?;
    Ok(spec)
}

fn workload_set(meta: ObjectMeta, node: &Node) -> Result<WorkloadSet, DecodeError> {
    let whole: Tolerant<_> = document::decode(node)?;
    let mut spec: WorkloadSetSpec =
        whole.spec.ok_or_else(|| <DecodeError as Error>::missing_field("spec"))?;
    spec.template.spec.as_written = written(&meta, node.at(&["spec", "template", "spec"]));
    Ok(WorkloadSet { meta, spec })
}

/// The whole specification of pods that a controller has made for a Gateway.
fn written(meta: &ObjectMeta, spec: Option<&Node>) -> Option<Arc<Value>> {
    meta.label(MANAGED)?;
    document::decode(spec?).ok().map(Arc::new)
}

fn pod(meta: ObjectMeta, node: &Node) -> Result<Object, DecodeError> {
    let (mut spec, status): (PodSpec, _) = tolerant(node)?;
    spec.as_written = written(&meta, node.get("spec"));
    let pod = Pod { meta, spec, status };
    let listed =
        pod.status.pod_ips.iter().enumerate().map(|(at, one)| (format!("status.podIPs[{at}].ip"), &one.ip));
    for (field, text) in listed.chain([("status.podIP".to_owned(), &pod.status.pod_ip)]) {
        check_ip(node, &field, text)?;
    }
    Ok(Object::Pod(Box::new(pod)))
}

fn service(meta: ObjectMeta, node: &Node) -> Result<Object, DecodeError> {
    let (spec, _) = tolerant::<_, IgnoredStatus>(node)?;
    let service = Service { meta, spec };
    let listed = service.spec.cluster_ips.iter().chain([&service.spec.cluster_ip]);
    for text in listed.filter(|text| *text != "None") {
        check_ip(node, "spec.clusterIP", text)?;
    }
    for text in &service.spec.external_ips {
        check_ip(node, "spec.externalIPs", text)?;
    }
    if let Some(at) = service.spec.ports.iter().position(|port| port.port == 0) {
        return Err(wrong(
            node,
            &format!("spec.ports[{at}].port"),
            "0 is not a port; write a number from 1 to 65535",
        ));
    }
    Ok(Object::Service(Box::new(service)))
}

#[derive(Default, Deserialize)]
struct IgnoredStatus {}

/// An empty text is "none yet", which the API server writes.
fn check_ip(node: &Node, field: &str, text: &str) -> Result<(), DecodeError> {
    if text.is_empty() || text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(wrong(node, field, &format!("{text:?} is not an IP address; write one, for example 10.0.0.7")))
}

/// An error at a field, on the line of the deepest part of its path that can be found.
fn wrong(node: &Node, field: &str, sentence: &str) -> DecodeError {
    let mut here = node;
    for step in field.split('.') {
        let (name, places) = step.split_once('[').unwrap_or((step, ""));
        here = here.get(name).unwrap_or(here);
        for place in places.split('[') {
            let place = place.trim_end_matches(']').parse().ok();
            here = place.and_then(|place| here.item(place)).unwrap_or(here);
        }
    }
    <DecodeError as Error>::custom(sentence).under(field, here.line)
}

fn mesh(meta: ObjectMeta, node: &Node) -> Result<MeshConfig, DecodeError> {
    let field = "data.mesh";
    let Some(data) = node.at(&["data", mesh_config::KEY]) else {
        return Err(wrong(node, field, "the mesh configuration is missing; add the key mesh"));
    };
    let Some(text) = data.text() else {
        return Err(wrong(node, field, "wrong type; write the configuration as a text, after `mesh: |`"));
    };
    let spec: mesh_config::MeshConfigSpec = if text.trim().is_empty() {
        mesh_config::MeshConfigSpec::default()
    } else {
        let inner = document::parse(text, data.line).map_err(|error| {
            let sentence = format!("not YAML: {}; correct the text", error.message);
            <DecodeError as Error>::custom(sentence).under(field, error.line)
        })?;
        match inner.value {
            document::Value::Null => mesh_config::MeshConfigSpec::default(),
            _ => document::decode(&inner).map_err(|error| error.under(field, data.line))?,
        }
    };
    spec.check().map_err(|error| {
        <DecodeError as Error>::custom(error.sentence).under(&format!("{field}.{}", error.field), data.line)
    })?;
    Ok(MeshConfig { meta, spec })
}
