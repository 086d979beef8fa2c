//! The node agent: which pods of this node belong to the mesh, the redirection rules in their networks, and the
//! hand-over of those networks to the ztunnel.
//!
//! Life of a pod: `Pod` → *enrol?* → *rules* → apply → hand over → acknowledged → annotated `enabled`. On a node of
//! Kubernetes the CNI plugin holds a pod's start until then ([`cni`]), and the kubelet's probes have a way of their own
//! ([`probes`]).

pub mod app;
pub mod cni;
pub mod enrol;
pub mod handover;
pub mod lives;
pub mod metrics;
pub mod networks;
pub mod pod;
pub mod ports;
pub mod probes;
pub mod redirect;
pub mod settings;
pub mod stop;
