//! The Kubernetes objects Ambit reads, in parsed form, and the [`source::Source`] they come from.
//!
//! Text → [`document`] (a tree with lines) → [`read`] (typed, validated) → [`directory`] (last good versions,
//! overrides, changes) → [`source::SourceEvent`]s. One file per kind.

pub mod authorization_policy;
mod check;
pub mod code;
pub mod complete;
pub mod destination_rule;
pub mod directory;
pub mod document;
pub mod endpoint_slice;
pub mod enrolment;
pub mod fault;
pub mod gateway;
pub mod gateway_api;
pub mod gateway_class;
pub mod grpc_route;
pub mod http_route;
pub mod kind;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod mesh_config;
pub mod meta;
pub mod namespace;
pub mod node;
pub mod object;
pub mod origin;
pub mod peer_authentication;
pub mod pod;
pub mod read;
pub mod reference_grant;
pub mod review;
pub mod schema;
pub mod service;
pub mod service_account;
pub mod source;
pub mod status;
pub mod value;
pub mod virtual_service;
pub mod workload_set;

pub use code::Code;
pub use directory::{DirectorySource, Loaded, load_beside, load_once};
pub use fault::{Fault, Severity};
pub use kind::{Kind, Standing};
pub use meta::{ObjectMeta, ObjectRef, Order};
pub use object::{InvalidObject, Object};
pub use source::{Source, SourceEvent, Started};
pub use status::{Condition, Event, StatusWriter};
