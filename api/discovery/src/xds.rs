//! Configuration from the controller: delta xDS for workloads, services and authorization policies.
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

/// The kinds of resource we subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `istio.security.Authorization`.
    Authorization,
    /// `istio.workload.Address`.
    Address,
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
    /// Both kinds, in the order we subscribe: policies before what they protect.
    pub const ALL: [Self; 2] = [Self::Authorization, Self::Address];

    /// The type URL.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Address => "type.googleapis.com/istio.workload.Address",
            Self::Authorization => "type.googleapis.com/istio.security.Authorization",
        }
    }

    /// The kind of a type URL.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }
}

impl Node {
    /// The node's id as Istio's control plane parses it.
    pub fn id(&self) -> String {
        let ip = self.instance_ip.map_or_else(|| "1.1.1.1".to_owned(), |ip| ip.to_string());
        let (name, namespace) = (&self.pod_name, &self.pod_namespace);
        format!("ztunnel~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local")
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
