//! The controller: Kubernetes objects in, what proxies are told out.

pub mod analyze;
pub mod app;
pub mod ca;
pub mod gate;
pub mod home;
pub mod listen;
pub mod objects;
pub mod outage;
pub mod pipeline;
pub mod rpc;
pub mod settings;
pub mod settled;
pub mod snapshot;
pub mod staging;
pub mod status;
pub mod translate;
pub mod webhook;
pub mod write_back;
pub mod xds;
