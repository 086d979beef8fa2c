//! Every kind Ambit has heard of, and what it does with it today.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What Ambit does with a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Read and obeyed.
    Enforced,
    /// Meant for a mesh and known, but nothing obeys it yet; its owner is told.
    NotYetEnforced,
    /// Somebody else's business; skipped without a word.
    Ignored,
}

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In a namespace; `default` where none is written.
    Namespaced,
    /// Cluster-wide.
    Cluster,
}

/// What is known of one kind.
struct Entry {
    kind: Kind,
    name: &'static str,
    group: &'static str,
    standing: Standing,
    placement: Placement,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $group:literal $name:literal $standing:ident $placement:ident;)*) => {
        /// A kind of object.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        const TABLE: &[Entry] = &[$(Entry {
            kind: Kind::$kind, name: $name, group: $group,
            standing: Standing::$standing, placement: Placement::$placement,
        },)*];

        impl Kind {
            /// A name no other kind has; equal to the kind's own name wherever that is unique.
            pub fn id(self) -> &'static str {
                match self { $(Kind::$kind => stringify!($kind),)* }
            }
        }
    };
}

kinds! {
    /// A namespace.
    Namespace = "" "Namespace" Enforced Cluster;
    /// A node.
    Node = "" "Node" Enforced Cluster;
    /// A service account.
    ServiceAccount = "" "ServiceAccount" Enforced Namespaced;
    /// A pod.
    Pod = "" "Pod" Enforced Namespaced;
    /// A service.
    Service = "" "Service" Enforced Namespaced;
    /// Part of a service's endpoints.
    EndpointSlice = "discovery.k8s.io" "EndpointSlice" Enforced Namespaced;
    /// An authorization policy of Istio's API.
    AuthorizationPolicy = "security.istio.io" "AuthorizationPolicy" Enforced Namespaced;
    /// Who must use mutual TLS.
    PeerAuthentication = "security.istio.io" "PeerAuthentication" Enforced Namespaced;
    /// Only `ambit-system/ambit`, the mesh configuration, is read.
    ConfigMap = "" "ConfigMap" Enforced Namespaced;
    /// A workload set that the lab expands.
    Deployment = "apps" "Deployment" Enforced Namespaced;
    /// A workload set that the lab expands.
    StatefulSet = "apps" "StatefulSet" Enforced Namespaced;

    /// Istio's routing rules.
    VirtualService = "networking.istio.io" "VirtualService" Enforced Namespaced;
    /// Istio's subsets and traffic policy.
    DestinationRule = "networking.istio.io" "DestinationRule" Enforced Namespaced;
    /// Istio's ingress listeners.
    IstioGateway = "networking.istio.io" "Gateway" NotYetEnforced Namespaced;
    /// A host outside the cluster.
    ServiceEntry = "networking.istio.io" "ServiceEntry" NotYetEnforced Namespaced;
    /// A workload outside Kubernetes.
    WorkloadEntry = "networking.istio.io" "WorkloadEntry" NotYetEnforced Namespaced;
    /// A template of workload entries.
    WorkloadGroup = "networking.istio.io" "WorkloadGroup" NotYetEnforced Namespaced;
    /// Scope of a sidecar.
    Sidecar = "networking.istio.io" "Sidecar" NotYetEnforced Namespaced;
    /// A patch of Envoy's configuration.
    EnvoyFilter = "networking.istio.io" "EnvoyFilter" NotYetEnforced Namespaced;
    /// A proxy's own settings.
    ProxyConfig = "networking.istio.io" "ProxyConfig" NotYetEnforced Namespaced;
    /// A WebAssembly filter.
    WasmPlugin = "extensions.istio.io" "WasmPlugin" NotYetEnforced Namespaced;
    /// Who may present which JWT.
    RequestAuthentication = "security.istio.io" "RequestAuthentication" NotYetEnforced Namespaced;
    /// What is logged, traced and counted.
    Telemetry = "telemetry.istio.io" "Telemetry" NotYetEnforced Namespaced;
    /// An installation file.
    IstioOperator = "install.istio.io" "IstioOperator" NotYetEnforced Namespaced;
    /// A gateway or waypoint.
    Gateway = "gateway.networking.k8s.io" "Gateway" Enforced Namespaced;
    /// A class of gateways.
    GatewayClass = "gateway.networking.k8s.io" "GatewayClass" Enforced Cluster;
    /// HTTP routing.
    HttpRoute = "gateway.networking.k8s.io" "HTTPRoute" Enforced Namespaced;
    /// gRPC routing.
    GrpcRoute = "gateway.networking.k8s.io" "GRPCRoute" Enforced Namespaced;
    /// TCP routing.
    TcpRoute = "gateway.networking.k8s.io" "TCPRoute" NotYetEnforced Namespaced;
    /// TLS routing.
    TlsRoute = "gateway.networking.k8s.io" "TLSRoute" NotYetEnforced Namespaced;
    /// UDP routing.
    UdpRoute = "gateway.networking.k8s.io" "UDPRoute" NotYetEnforced Namespaced;
    /// Permission to refer across namespaces.
    ReferenceGrant = "gateway.networking.k8s.io" "ReferenceGrant" Enforced Namespaced;
    /// TLS towards a backend.
    BackendTlsPolicy = "gateway.networking.k8s.io" "BackendTLSPolicy" NotYetEnforced Namespaced;
    /// Listeners beside a gateway.
    ListenerSet = "gateway.networking.k8s.io" "ListenerSet" NotYetEnforced Namespaced;
    /// SMI's weights.
    TrafficSplit = "split.smi-spec.io" "TrafficSplit" NotYetEnforced Namespaced;
    /// SMI's route matches.
    HttpRouteGroup = "specs.smi-spec.io" "HTTPRouteGroup" NotYetEnforced Namespaced;
    /// SMI's access rules.
    TrafficTarget = "access.smi-spec.io" "TrafficTarget" NotYetEnforced Namespaced;
    /// Linkerd's port description.
    LinkerdServer = "policy.linkerd.io" "Server" NotYetEnforced Namespaced;
    /// Linkerd's permission for a port.
    LinkerdServerAuthorization = "policy.linkerd.io" "ServerAuthorization" NotYetEnforced Namespaced;
    /// Linkerd's authorization policy.
    LinkerdAuthorizationPolicy = "policy.linkerd.io" "AuthorizationPolicy" NotYetEnforced Namespaced;
    /// Linkerd's identity requirement.
    LinkerdMeshTlsAuthentication = "policy.linkerd.io" "MeshTLSAuthentication" NotYetEnforced Namespaced;
    /// Linkerd's network requirement.
    LinkerdNetworkAuthentication = "policy.linkerd.io" "NetworkAuthentication" NotYetEnforced Namespaced;
    /// Linkerd's routes.
    LinkerdHttpRoute = "policy.linkerd.io" "HTTPRoute" NotYetEnforced Namespaced;
    /// Linkerd's route metrics.
    LinkerdServiceProfile = "linkerd.io" "ServiceProfile" NotYetEnforced Namespaced;

    /// Not read.
    Secret = "" "Secret" Ignored Namespaced;
    /// Superseded by slices.
    Endpoints = "" "Endpoints" Ignored Namespaced;
    /// Not read.
    Event = "" "Event" Ignored Namespaced;
    /// Not read.
    PersistentVolume = "" "PersistentVolume" Ignored Cluster;
    /// Not read.
    PersistentVolumeClaim = "" "PersistentVolumeClaim" Ignored Namespaced;
    /// Not read.
    ReplicationController = "" "ReplicationController" Ignored Namespaced;
    /// Not read.
    ResourceQuota = "" "ResourceQuota" Ignored Namespaced;
    /// Not read.
    LimitRange = "" "LimitRange" Ignored Namespaced;
    /// Not read.
    DaemonSet = "apps" "DaemonSet" Ignored Namespaced;
    /// Its pods are read.
    ReplicaSet = "apps" "ReplicaSet" Ignored Namespaced;
    /// Not read.
    Job = "batch" "Job" Ignored Namespaced;
    /// Not read.
    CronJob = "batch" "CronJob" Ignored Namespaced;
    /// Kubernetes' own ingress.
    Ingress = "networking.k8s.io" "Ingress" Ignored Namespaced;
    /// Not read.
    IngressClass = "networking.k8s.io" "IngressClass" Ignored Cluster;
    /// Enforced by the cluster's network.
    NetworkPolicy = "networking.k8s.io" "NetworkPolicy" Ignored Namespaced;
    /// Not read.
    Role = "rbac.authorization.k8s.io" "Role" Ignored Namespaced;
    /// Not read.
    RoleBinding = "rbac.authorization.k8s.io" "RoleBinding" Ignored Namespaced;
    /// Not read.
    ClusterRole = "rbac.authorization.k8s.io" "ClusterRole" Ignored Cluster;
    /// Not read.
    ClusterRoleBinding = "rbac.authorization.k8s.io" "ClusterRoleBinding" Ignored Cluster;
    /// Not read.
    CustomResourceDefinition = "apiextensions.k8s.io" "CustomResourceDefinition" Ignored Cluster;
    /// Not read.
    Lease = "coordination.k8s.io" "Lease" Ignored Namespaced;
    /// Not read.
    HorizontalPodAutoscaler = "autoscaling" "HorizontalPodAutoscaler" Ignored Namespaced;
    /// Not read.
    PodDisruptionBudget = "policy" "PodDisruptionBudget" Ignored Namespaced;
    /// Not read.
    StorageClass = "storage.k8s.io" "StorageClass" Ignored Cluster;
    /// Not read.
    PriorityClass = "scheduling.k8s.io" "PriorityClass" Ignored Cluster;
    /// Not read.
    MutatingWebhookConfiguration = "admissionregistration.k8s.io" "MutatingWebhookConfiguration" Ignored Cluster;
    /// Not read.
    ValidatingWebhookConfiguration = "admissionregistration.k8s.io" "ValidatingWebhookConfiguration" Ignored Cluster;
}

impl Kind {
    /// Finds the kind a document names; the version within the group is not looked at.
    pub fn find(api_version: &str, name: &str) -> Option<Self> {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        TABLE.iter().find(|entry| entry.name == name && entry.group == group).map(|entry| entry.kind)
    }

    /// The groups that have a kind of this name: what a wrong `apiVersion` may have meant.
    pub fn groups_with(name: &str) -> Vec<&'static str> {
        TABLE.iter().filter(|entry| entry.name == name).map(|entry| entry.group).collect()
    }

    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|entry| entry.kind)
    }

    /// Every name of a kind, for suggestions.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|entry| entry.name)
    }

    /// Finds a kind by [`Kind::id`].
    pub fn from_id(id: &str) -> Option<Self> {
        TABLE.iter().map(|entry| entry.kind).find(|kind| kind.id() == id)
    }

    /// The kind's name in manifests.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The API group; empty for Kubernetes' first one.
    pub fn group(self) -> &'static str {
        self.entry().group
    }

    /// What Ambit does with it.
    pub fn standing(self) -> Standing {
        self.entry().standing
    }

    /// Whether its objects live in a namespace.
    pub fn placement(self) -> Placement {
        self.entry().placement
    }

    fn entry(self) -> &'static Entry {
        &TABLE[self as usize]
    }

    /// The versions of the API that are read, the one to prefer first; empty means any.
    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Self::AuthorizationPolicy | Self::PeerAuthentication | Self::RequestAuthentication => {
                &["v1", "v1beta1"]
            }
            Self::VirtualService
            | Self::DestinationRule
            | Self::IstioGateway
            | Self::ServiceEntry
            | Self::WorkloadEntry
            | Self::WorkloadGroup
            | Self::Sidecar => &["v1", "v1beta1", "v1alpha3"],
            Self::EnvoyFilter => &["v1alpha3"],
            Self::ProxyConfig => &["v1beta1"],
            Self::Telemetry => &["v1", "v1alpha1"],
            Self::Gateway | Self::GatewayClass | Self::HttpRoute => &["v1", "v1beta1"],
            Self::GrpcRoute => &["v1", "v1alpha2"],
            Self::ReferenceGrant => &["v1", "v1beta1", "v1alpha2"],
            Self::EndpointSlice | Self::Deployment | Self::StatefulSet => &["v1"],
            _ if self.entry().group.is_empty() => &["v1"],
            _ => &[],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_indexed_by_kind_and_ids_are_unique() {
        let mut ids = std::collections::BTreeSet::new();
        for entry in TABLE {
            assert_eq!(TABLE[entry.kind as usize].kind, entry.kind);
            assert!(ids.insert(entry.kind.id()), "{} twice", entry.kind.id());
            assert_eq!(Kind::from_id(entry.kind.id()), Some(entry.kind));
        }
    }

    #[test]
    fn a_group_tells_two_kinds_of_one_name_apart() {
        assert_eq!(Kind::find("networking.istio.io/v1beta1", "Gateway"), Some(Kind::IstioGateway));
        assert_eq!(Kind::find("gateway.networking.k8s.io/v1", "Gateway"), Some(Kind::Gateway));
        assert_eq!(Kind::find("v1", "Gateway"), None);
        assert_eq!(Kind::find("v1", "Pod"), Some(Kind::Pod));
    }
}
