//! What Ambit writes back about objects: annotations, events and conditions.

use std::io;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::Severity;
use crate::kind::Kind;
use crate::meta::ObjectRef;

/// Writes back about objects. Calls may block for a small file or a request; they are safe from any thread.
pub trait StatusWriter: Send + Sync {
    /// Sets an annotation, or removes it (`None`).
    fn annotate(&self, object: &ObjectRef, key: &str, value: Option<&str>) -> io::Result<()>;

    /// Reports something that happened to an object.
    fn event(&self, event: &Event) -> io::Result<()>;

    /// Replaces the conditions Ambit owns on an object; none removes them.
    fn conditions(&self, object: &ObjectRef, conditions: &[Condition]) -> io::Result<()>;

    /// As [`Self::conditions`], with what the status of some kinds says besides. Where nobody reads that, it is not written.
    fn status(&self, object: &ObjectRef, conditions: &[Condition], _: &Details) -> io::Result<()> {
        self.conditions(object, conditions)
    }

    /// Writes an object of Ambit's own in the place of its older version, or removes it (`None`). Whether the object is
    /// ours is the caller's to know.
    fn own(&self, object: &ObjectRef, manifest: Option<&Value>) -> io::Result<()>;
}

/// What a status says besides the conditions of the object itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Details {
    /// Nothing.
    #[default]
    None,
    /// Of a Gateway.
    Gateway(GatewayStatus),
    /// What is said at each parent of a route, in the order of `spec.parentRefs`.
    Parents(Vec<Vec<Condition>>),
}

/// Where a Gateway is reached, and what became of its listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayStatus {
    /// Its addresses, the one to prefer first; none until it has any.
    pub addresses: Vec<Address>,
    /// Its listeners, in the order of `spec.listeners`.
    pub listeners: Vec<ListenerStatus>,
}

/// Where a Gateway is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// By a host name.
    Hostname(String),
    /// By an IP address.
    Ip(IpAddr),
}

/// What became of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// Kinds of routes that may be attached to it.
    pub kinds: Vec<Kind>,
    /// How many are.
    pub attached: u32,
    /// Its conditions.
    pub conditions: Vec<Condition>,
}

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The object.
    pub object: ObjectRef,
    /// Short reason in CamelCase.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// How bad it is.
    pub severity: EventSeverity,
}

/// How bad an event is; Kubernetes knows two degrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventSeverity {
    /// All is well.
    Normal,
    /// Somebody should look.
    Warning,
}

/// One condition of an object's status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type, for example `Enforced`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Short reason in CamelCase.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// The generation of the object this is about; 0 when unknown.
    pub observed_generation: i64,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// Not known.
    Unknown,
}

impl From<Severity> for EventSeverity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Note => Self::Normal,
            Severity::Warning | Severity::Error => Self::Warning,
        }
    }
}
