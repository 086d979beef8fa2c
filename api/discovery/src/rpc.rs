//! Generated gRPC clients of the controller's two services.

pub mod auth;
pub mod discovery;
