//! Generated gRPC servers of the two services that proxies call.

pub mod auth;
pub mod discovery;
