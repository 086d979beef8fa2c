//! The controller: Kubernetes objects in, what proxies are told out.

pub mod snapshot;
