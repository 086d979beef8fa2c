//! Configuration from the controller: delta xDS of what a ztunnel needs, or a waypoint.
//!
//! [`session`] decides (pure), [`stream`] does: it connects, sends what the session says and hands pushes to a [`Sink`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use ambit_api::wire;
use prost_types::value::Kind as ValueKind;
use prost_types::{Struct, Value};

pub mod metrics;
pub mod session;
pub mod stream;

pub use metrics::XdsMetrics;
pub use stream::{Config, run};

/// The kinds of resource that a program of ours may subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `istio.security.Authorization`.
    Authorization,
    /// `ambit.waypoint.Policy`.
    Policy,
    /// `ambit.waypoint.Workload`.
    Workload,
    /// `istio.workload.Address`.
    Address,
    /// `ambit.waypoint.Destination`.
    Destination,
    /// `ambit.waypoint.Service`.
    Service,
    /// `ambit.waypoint.Gateway`.
    Gateway,
}

/// Which proxy we are: what the controller is asked for depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A node's proxy.
    Ztunnel,
    /// A waypoint or a gateway.
    Waypoint,
}

/// A decoded resource under the name the controller gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Named<T> {
    /// Its name.
    pub name: String,
    /// The message.
    pub body: T,
}

/// One response of the controller, decoded: everything in it is applied at once.
#[derive(Clone, Debug, PartialEq)]
pub enum Push {
    /// Workloads and services.
    Address {
        /// New or changed.
        upserts: Vec<Named<wire::workload::Address>>,
        /// Names that are no more.
        removed: Vec<String>,
    },
    /// Authorization policies.
    Authorization {
        /// New or changed.
        upserts: Vec<Named<wire::security::Authorization>>,
        /// Names of those that cannot even be decoded: what they cover is unknown, so nobody may pretend they are not there.
        unreadable: Vec<String>,
        /// Names that are no more.
        removed: Vec<String>,
    },
    /// A waypoint's policies.
    Policy(Changes<wire::waypoint::Policy>),
    /// What pods demand of a waypoint.
    Workload(Changes<wire::waypoint::Workload>),
    /// Where a waypoint's requests may go.
    Destination(Changes<wire::waypoint::Destination>),
    /// The services a waypoint stands before.
    Service(Changes<wire::waypoint::Service>),
    /// A waypoint's own settings.
    Gateway(Changes<wire::waypoint::Gateway>),
}

/// What a response changes of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes<T> {
    /// New or changed.
    pub upserts: Vec<Named<T>>,
    /// Names of those that cannot even be decoded.
    pub unreadable: Vec<String>,
    /// Names that are no more.
    pub removed: Vec<String>,
}

/// A resource that cannot be used; it alone is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its name.
    pub name: String,
    /// Why, for the controller's log.
    pub reason: String,
}

/// Where pushes go.
pub trait Sink: Send {
    /// Applies what can be applied and returns what cannot; a rejected resource's last good version stays in force.
    fn apply(&mut self, push: Push) -> Vec<Rejection>;
}

/// Who we are, as told to the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Which proxy we are.
    pub role: Role,
    /// Our address, if known (INSTANCE_IP).
    pub instance_ip: Option<IpAddr>,
    /// Our pod's name (POD_NAME).
    pub pod_name: String,
    /// Our pod's namespace (POD_NAMESPACE).
    pub pod_namespace: String,
    /// The Kubernetes node we run on (NODE_NAME).
    pub node_name: String,
    /// Ambit's version, announced as `AMBIT_VERSION`: a controller sends a constraint only to a proxy that obeys it.
    pub version: String,
    /// Further metadata (ISTIO_META_* with the prefix stripped).
    pub metadata: BTreeMap<String, String>,
}

impl Kind {
    /// Every kind.
    const ALL: [Self; 7] = [
        Self::Authorization,
        Self::Policy,
        Self::Workload,
        Self::Address,
        Self::Destination,
        Self::Service,
        Self::Gateway,
    ];

    /// The type URL.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Authorization => "type.googleapis.com/istio.security.Authorization",
            Self::Policy => "type.googleapis.com/ambit.waypoint.Policy",
            Self::Workload => "type.googleapis.com/ambit.waypoint.Workload",
            Self::Address => "type.googleapis.com/istio.workload.Address",
            Self::Destination => "type.googleapis.com/ambit.waypoint.Destination",
            Self::Service => "type.googleapis.com/ambit.waypoint.Service",
            Self::Gateway => "type.googleapis.com/ambit.waypoint.Gateway",
        }
    }

    /// The kind of a type URL.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }
}

impl Role {
    /// What we subscribe to, in this order: what is named before what names it, and policies before what they protect.
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Ztunnel => &[Kind::Authorization, Kind::Address],
            Self::Waypoint => &[
                Kind::Policy,
                Kind::Workload,
                Kind::Address,
                Kind::Destination,
                Kind::Service,
                Kind::Gateway,
            ],
        }
    }

    /// As Istio's control plane names it in a node's id.
    fn name(self) -> &'static str {
        match self {
            Self::Ztunnel => "ztunnel",
            Self::Waypoint => "waypoint",
        }
    }
}

impl Node {
    /// The node's id as Istio's control plane parses it.
    pub fn id(&self) -> String {
        let ip = self.instance_ip.map_or_else(|| "1.1.1.1".to_owned(), |ip| ip.to_string());
        let (name, namespace) = (&self.pod_name, &self.pod_namespace);
        let role = self.role.name();
        format!("{role}~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local")
    }

    /// The wire form.
    pub fn to_wire(&self) -> wire::core::Node {
        let mut metadata = self.metadata.clone();
        let own = [
            ("NAME", self.pod_name.clone()),
            ("NAMESPACE", self.pod_namespace.clone()),
            ("INSTANCE_IPS", self.instance_ip.map(|ip| ip.to_string()).unwrap_or_default()),
            ("NODE_NAME", self.node_name.clone()),
            ("AMBIT_VERSION", self.version.clone()),
        ];
        metadata.extend(own.map(|(key, value)| (key.to_owned(), value)));
        let text = |value| Value { kind: Some(ValueKind::StringValue(value)) };
        wire::core::Node {
            id: self.id(),
            cluster: String::new(),
            metadata: Some(Struct {
                fields: metadata.into_iter().map(|(key, value)| (key, text(value))).collect(),
            }),
        }
    }
}
