//! The messages on the wire, generated from `api/proto/` (see `api/README.md`); the model's types are made from these.

pub mod auth;
pub mod core;
pub mod discovery;
pub mod rpc_status;
pub mod security;
pub mod waypoint;
pub mod workload;
pub mod zds;
