//! Words of the mesh: wire messages, the model, and the pure decisions made on it.
//!
//! No async, no I/O, no Kubernetes: every program and every other crate of the floor stands on this one.

pub mod authz;
pub mod identity;
pub mod invalid;
pub mod labels;
mod matching;
pub mod normalise;
pub mod policy;
pub mod reason;
pub mod route;
pub mod select;
pub mod service;
pub mod waypoint;
pub mod wire;
pub mod workload;

#[cfg(test)]
mod arbitrary;
