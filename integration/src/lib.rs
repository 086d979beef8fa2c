//! The lab: a whole mesh on one machine from a folder of manifests, without Kubernetes, container engine or (where user
//! namespaces serve) root.
//!
//! A program that uses it calls [`sandbox::enter`] first in `main`; from then on it is root of its own namespaces, in
//! which [`Lab::up`] makes nodes as network namespaces, pods as namespaces wired to them, and starts the real programs.
//! When the program ends, by whatever means, all of it is gone.

pub mod address;
mod attend;
pub mod bench;
pub mod capture;
pub mod cluster;
mod command;
pub mod component;
pub mod control;
pub mod demo;
mod dns;
mod error;
mod executor;
mod expand;
mod grpc;
pub mod http;
mod image;
mod lab;
pub mod load;
pub mod manifest;
pub mod metrics;
pub mod network;
mod pod;
mod probe;
mod process;
mod publish;
pub mod sandbox;
pub mod scenario;
mod service;
pub mod settings;
pub mod space;
pub mod standin;
mod state;
pub mod stream;
pub mod tokens;
pub mod visit;
mod waypoint;
mod websocket;

pub use address::{NodeNumber, Pair};
pub use attend::answers;
pub use command::Said;
pub use component::{Component, Programs, Served};
pub use error::LabError;
pub use lab::changes::key_of;
pub use lab::pods::PodHandle;
pub use lab::{Lab, LabOptions, Manifests, MeshMode};
