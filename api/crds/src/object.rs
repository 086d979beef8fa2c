//! One object of any kind.

use std::collections::BTreeMap;

use crate::authorization_policy::{AuthorizationPolicy, TargetRef};
use crate::destination_rule::DestinationRule;
use crate::endpoint_slice::EndpointSlice;
use crate::fault::Fault;
use crate::gateway::Gateway;
use crate::gateway_class::GatewayClass;
use crate::grpc_route::GrpcRoute;
use crate::http_route::HttpRoute;
use crate::kind::Kind;
use crate::mesh_config::MeshConfig;
use crate::meta::{Map, ObjectMeta, ObjectRef};
use crate::namespace::Namespace;
use crate::node::Node;
use crate::peer_authentication::PeerAuthentication;
use crate::pod::Pod;
use crate::reference_grant::ReferenceGrant;
use crate::service::Service;
use crate::service_account::ServiceAccount;
use crate::virtual_service::VirtualService;
use crate::workload_set::WorkloadSet;

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A namespace.
    Namespace(Namespace),
    /// A node.
    Node(Node),
    /// A service account.
    ServiceAccount(ServiceAccount),
    /// A pod.
    Pod(Box<Pod>),
    /// A service.
    Service(Box<Service>),
    /// A slice of endpoints.
    EndpointSlice(EndpointSlice),
    /// An authorization policy.
    AuthorizationPolicy(AuthorizationPolicy),
    /// A PeerAuthentication.
    PeerAuthentication(PeerAuthentication),
    /// The mesh configuration.
    MeshConfig(Box<MeshConfig>),
    /// A Deployment.
    Deployment(Box<WorkloadSet>),
    /// A StatefulSet.
    StatefulSet(Box<WorkloadSet>),
    /// Routing rules of Istio's API.
    VirtualService(Box<VirtualService>),
    /// Subsets and traffic policy of Istio's API.
    DestinationRule(Box<DestinationRule>),
    /// A waypoint or an ingress.
    Gateway(Box<Gateway>),
    /// A class of gateways.
    GatewayClass(GatewayClass),
    /// HTTP routing rules of Gateway API.
    HttpRoute(Box<HttpRoute>),
    /// gRPC routing rules of Gateway API.
    GrpcRoute(Box<GrpcRoute>),
    /// Leave to refer across namespaces.
    ReferenceGrant(ReferenceGrant),
    /// A known kind that nothing obeys yet.
    NotYetEnforced(Kind, ObjectMeta),
}

/// An object of which no version was ever valid. What it names is to be closed.
#[derive(Clone, Debug, PartialEq)]
pub struct InvalidObject {
    /// Its name.
    pub object: ObjectRef,
    /// What is wrong.
    pub fault: Fault,
    /// What it names.
    pub names: Names,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// What an invalid policy names, as far as that can be read; when in doubt, more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// Its whole namespace (the mesh, in the root namespace).
    Namespace,
    /// Workloads with these labels.
    Workloads(Map),
    /// Named objects.
    Targets(Vec<TargetRef>),
}

impl Object {
    /// What it has in common with others.
    pub fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Namespace(one) => &one.meta,
            Self::Node(one) => &one.meta,
            Self::ServiceAccount(one) => &one.meta,
            Self::Pod(one) => &one.meta,
            Self::Service(one) => &one.meta,
            Self::EndpointSlice(one) => &one.meta,
            Self::AuthorizationPolicy(one) => &one.meta,
            Self::PeerAuthentication(one) => &one.meta,
            Self::MeshConfig(one) => &one.meta,
            Self::Deployment(one) | Self::StatefulSet(one) => &one.meta,
            Self::VirtualService(one) => &one.meta,
            Self::DestinationRule(one) => &one.meta,
            Self::Gateway(one) => &one.meta,
            Self::GatewayClass(one) => &one.meta,
            Self::HttpRoute(one) => &one.meta,
            Self::GrpcRoute(one) => &one.meta,
            Self::ReferenceGrant(one) => &one.meta,
            Self::NotYetEnforced(_, meta) => meta,
        }
    }

    pub(crate) fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Namespace(one) => &mut one.meta,
            Self::Node(one) => &mut one.meta,
            Self::ServiceAccount(one) => &mut one.meta,
            Self::Pod(one) => &mut one.meta,
            Self::Service(one) => &mut one.meta,
            Self::EndpointSlice(one) => &mut one.meta,
            Self::AuthorizationPolicy(one) => &mut one.meta,
            Self::PeerAuthentication(one) => &mut one.meta,
            Self::MeshConfig(one) => &mut one.meta,
            Self::Deployment(one) | Self::StatefulSet(one) => &mut one.meta,
            Self::VirtualService(one) => &mut one.meta,
            Self::DestinationRule(one) => &mut one.meta,
            Self::Gateway(one) => &mut one.meta,
            Self::GatewayClass(one) => &mut one.meta,
            Self::HttpRoute(one) => &mut one.meta,
            Self::GrpcRoute(one) => &mut one.meta,
            Self::ReferenceGrant(one) => &mut one.meta,
            Self::NotYetEnforced(_, meta) => meta,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Node(_) => Kind::Node,
            Self::ServiceAccount(_) => Kind::ServiceAccount,
            Self::Pod(_) => Kind::Pod,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::AuthorizationPolicy(_) => Kind::AuthorizationPolicy,
            Self::PeerAuthentication(_) => Kind::PeerAuthentication,
            Self::MeshConfig(_) => Kind::ConfigMap,
            Self::Deployment(_) => Kind::Deployment,
            Self::StatefulSet(_) => Kind::StatefulSet,
            Self::VirtualService(_) => Kind::VirtualService,
            Self::DestinationRule(_) => Kind::DestinationRule,
            Self::Gateway(_) => Kind::Gateway,
            Self::GatewayClass(_) => Kind::GatewayClass,
            Self::HttpRoute(_) => Kind::HttpRoute,
            Self::GrpcRoute(_) => Kind::GrpcRoute,
            Self::ReferenceGrant(_) => Kind::ReferenceGrant,
            Self::NotYetEnforced(kind, _) => *kind,
        }
    }

    /// Its name.
    pub fn reference(&self) -> ObjectRef {
        let meta = self.meta();
        ObjectRef::new(self.kind(), &meta.namespace, &meta.name)
    }
}
