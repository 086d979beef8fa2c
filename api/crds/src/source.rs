//! Where objects come from: a folder of manifests or Kubernetes. Nothing else knows the difference.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::fault::Fault;
use crate::meta::ObjectRef;
use crate::object::{InvalidObject, Object};
use crate::status::StatusWriter;

/// One change of what is in force.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceEvent {
    /// A complete listing begins.
    Init,
    /// An object is new or has changed.
    Applied(Arc<Object>),
    /// A policy is invalid and never was valid: what it names is to be closed until `Applied` or `Deleted` ends it.
    Invalid(Arc<InvalidObject>),
    /// An object is gone.
    Deleted(ObjectRef),
    /// The listing is complete; objects not in it do not exist.
    InitDone,
    /// Something is wrong with what was written. Said once for as long as it stays the same.
    Reported(Fault),
    /// The source has taken up what was there when [`Rescan::rescan`] was called.
    Rescanned(u64),
}

/// Where objects come from.
pub trait Source: Send {
    /// Begins to deliver. The channel is bounded: a slow reader holds the source back. It ends when the reader is dropped.
    fn start(self: Box<Self>) -> io::Result<Started>;
}

/// A source at work.
pub struct Started {
    /// The changes.
    pub events: mpsc::Receiver<SourceEvent>,
    /// Writes back.
    pub status: Arc<dyn StatusWriter>,
    /// Asks for an immediate look.
    pub rescan: Arc<dyn Rescan>,
}

/// Asks a source to look now instead of waiting to be told.
pub trait Rescan: Send + Sync {
    /// Asks; the number comes back in [`SourceEvent::Rescanned`] when all that stood there by now was delivered.
    fn rescan(&self) -> u64;
}
