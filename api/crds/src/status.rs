//! What Ambit writes back about objects: annotations, events and conditions.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::Severity;
use crate::meta::ObjectRef;

/// Writes back about objects. Calls may block for a small file or a request; they are safe from any thread.
pub trait StatusWriter: Send + Sync {
    /// Sets an annotation, or removes it (`None`).
    fn annotate(&self, object: &ObjectRef, key: &str, value: Option<&str>) -> io::Result<()>;

    /// Reports something that happened to an object.
    fn event(&self, event: &Event) -> io::Result<()>;

    /// Replaces the conditions Ambit owns on an object; none removes them.
    fn conditions(&self, object: &ObjectRef, conditions: &[Condition]) -> io::Result<()>;

    /// Writes an object of Ambit's own in the place of its older version, or removes it (`None`). Whether the object is
    /// ours is the caller's to know.
    fn own(&self, object: &ObjectRef, manifest: Option<&Value>) -> io::Result<()>;
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
