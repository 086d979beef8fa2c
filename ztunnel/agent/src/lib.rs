//! The node agent: which pods of this node belong to the mesh, the redirection rules in their networks, and the
//! hand-over of those networks to the ztunnel.
//!
//! Life of a pod: `Pod` → *enrol?* → *rules* → apply → hand over → acknowledged → annotated `enabled`.

pub mod app;
pub mod enrol;
pub mod handover;
pub mod metrics;
pub mod pod;
pub mod ports;
pub mod redirect;
pub mod settings;
