//! How configuration arrives: delta xDS, certificates, the view of the mesh, resolution of addresses.

pub mod backoff;
pub mod channel;
pub mod credentials;
pub mod rpc;
pub mod xds;
