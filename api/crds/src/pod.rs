//! Pod: the unit that is enrolled, named and reached.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::meta::{Map, ObjectMeta};

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
    /// What was asked for.
    pub spec: PodSpec,
    /// What is.
    pub status: PodStatus,
}

/// A pod's spec: what the mesh and the lab need of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// Node it runs on; empty until scheduled.
    pub node_name: String,
    /// Service account; empty means `default` (see [`Pod::service_account`]).
    pub service_account_name: String,
    /// Shares the node's network.
    pub host_network: bool,
    /// Containers that run to completion first, or (restart policy `Always`) beside the others.
    pub init_containers: Vec<Container>,
    /// Containers.
    pub containers: Vec<Container>,
    /// Host name inside the pod.
    pub hostname: String,
    /// Subdomain, for names of headless services.
    pub subdomain: String,
    /// Labels the node must have.
    pub node_selector: Map,
    /// Seconds between SIGTERM and SIGKILL.
    pub termination_grace_period_seconds: Option<u64>,
    /// All of it, kept of what a controller has made for a Gateway: there every field counts.
    #[serde(skip)]
    pub as_written: Option<Arc<Value>>,
}

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    /// Name.
    pub name: String,
    /// Image.
    pub image: String,
    /// Program and first arguments.
    pub command: Vec<String>,
    /// Further arguments.
    pub args: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// Environment; entries with `valueFrom` keep an empty value.
    pub env: Vec<EnvVar>,
    /// Declared ports.
    pub ports: Vec<ContainerPort>,
    /// Decides readiness.
    pub readiness_probe: Option<Probe>,
    /// Holds readiness back until it first succeeds.
    pub startup_probe: Option<Probe>,
    /// Decides restarts.
    pub liveness_probe: Option<Probe>,
    /// What is done at its start and before its end.
    pub lifecycle: Option<Lifecycle>,
    /// `Always` on an init container makes it a sidecar.
    pub restart_policy: String,
    /// User and rights.
    pub security_context: Option<SecurityContext>,
}

/// What a container may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SecurityContext {
    /// User.
    pub run_as_user: Option<u32>,
    /// Group.
    pub run_as_group: Option<u32>,
}

/// What is done at a container's start and before its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Lifecycle {
    /// After the start.
    pub post_start: Option<Hook>,
    /// Before the end.
    pub pre_stop: Option<Hook>,
}

/// One thing that is done; commands and pauses are not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hook {
    /// An HTTP request.
    pub http_get: Option<HttpGet>,
}

/// One environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EnvVar {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// One declared port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerPort {
    /// Name that services may refer to.
    pub name: String,
    /// Number.
    pub container_port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Probe {
    /// An HTTP request.
    pub http_get: Option<HttpGet>,
    /// A TCP connection.
    pub tcp_socket: Option<TcpSocket>,
    /// A gRPC health check.
    pub grpc: Option<GrpcProbe>,
    /// A command.
    pub exec: Option<Exec>,
    /// Before the first check.
    pub initial_delay_seconds: u32,
    /// Between checks; 0 means 10.
    pub period_seconds: u32,
    /// For one check; 0 means 1.
    pub timeout_seconds: u32,
    /// In a row to become ready; 0 means 1.
    pub success_threshold: u32,
    /// In a row to become unready; 0 means 3.
    pub failure_threshold: u32,
}

/// An HTTP health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpGet {
    /// Path.
    pub path: String,
    /// Port.
    pub port: IntOrString,
    /// Host header or address; empty means the pod.
    pub host: String,
    /// `HTTP` or `HTTPS`.
    pub scheme: String,
}

/// A TCP health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TcpSocket {
    /// Port.
    pub port: IntOrString,
    /// Address; empty means the pod.
    pub host: String,
}

/// A gRPC health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GrpcProbe {
    /// Port.
    pub port: u16,
    /// Service name.
    pub service: String,
}

/// A command health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Exec {
    /// Program and arguments.
    pub command: Vec<String>,
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// A number.
    Number(u16),
    /// A container port's name.
    Name(String),
}

/// A pod's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// Phase.
    pub phase: Phase,
    /// First address; empty until there is one.
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    /// All addresses.
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodIp>,
    /// The node's address.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    /// Conditions.
    pub conditions: Vec<PodCondition>,
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Not started.
    #[default]
    Pending,
    /// Running.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Its node is not heard of.
    Unknown,
}

/// One address of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

/// One condition of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodCondition {
    /// Name, for example `Ready`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
}

impl Pod {
    /// Its addresses, each once, the primary one first.
    pub fn ips(&self) -> Vec<IpAddr> {
        let texts = std::iter::once(&self.status.pod_ip).chain(self.status.pod_ips.iter().map(|one| &one.ip));
        let mut ips: Vec<IpAddr> = Vec::new();
        for ip in texts.filter_map(|text| text.parse::<IpAddr>().ok()) {
            if !ips.contains(&ip.to_canonical()) {
                ips.push(ip.to_canonical());
            }
        }
        ips
    }

    /// Its service account.
    pub fn service_account(&self) -> &str {
        if self.spec.service_account_name.is_empty() { "default" } else { &self.spec.service_account_name }
    }

    /// Whether it is ready to be sent traffic.
    pub fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|one| one.kind == "Ready" && one.status == "True")
    }

    /// Whether it has ended for good.
    pub fn is_terminal(&self) -> bool {
        matches!(self.status.phase, Phase::Succeeded | Phase::Failed)
    }

    /// The containers that serve: the ordinary ones and the init containers that keep running.
    pub fn serving_containers(&self) -> impl Iterator<Item = &Container> {
        let sidecars = self.spec.init_containers.iter().filter(|one| one.restart_policy == "Always");
        self.spec.containers.iter().chain(sidecars)
    }

    /// The number of the TCP port that a service's `targetPort` means; `None` if no container has the name.
    pub fn port(&self, target: &IntOrString) -> Option<u16> {
        match target {
            IntOrString::Number(number) => Some(*number),
            IntOrString::Name(name) => {
                let mut ports = self.serving_containers().flat_map(|container| &container.ports);
                let found = ports.find(|port| port.name == *name && port.protocol == Protocol::Tcp);
                found.map(|port| port.container_port)
            }
        }
    }
}

impl Default for IntOrString {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = IntOrString;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a port number (1 to 65535) or a port's name")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
                match u16::try_from(number) {
                    Ok(number) if number > 0 => Ok(IntOrString::Number(number)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Unsigned(number), &self)),
                }
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::invalid_value(serde::de::Unexpected::Signed(number), &self)),
                }
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
                if name.is_empty() {
                    return Err(E::invalid_value(serde::de::Unexpected::Str(name), &self));
                }
                Ok(IntOrString::Name(name.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
