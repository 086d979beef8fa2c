//! How configuration arrives: delta xDS, certificates, the view of the mesh, resolution of addresses.

pub mod channel;
pub mod control;
pub mod credentials;
pub mod resolve;
pub mod rpc;
pub mod view;
pub mod xds;
