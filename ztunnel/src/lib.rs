//! The node proxy: carries the traffic of every enrolled pod of its node in mutual TLS, under layer-4 policy.
//!
//! Three lives, each one function read top to bottom: [`outbound`], [`inbound`], [`plaintext`].

pub mod app;
pub mod application;
pub mod capture;
pub mod dial;
pub mod dump;
pub mod handover;
pub mod headers;
pub mod inbound;
pub mod limit;
pub mod mesh;
pub mod outbound;
pub mod plaintext;
pub mod pods;
pub mod report;
pub mod revoke;
pub mod settings;
