//! How bytes move, end to end over loopback: TLS, tunnels, relays, pools, descriptors.
#![allow(
    clippy::unwrap_used,
    reason = "all of this is test code; clippy exempts only the test functions themselves"
)]

mod fdpass;
mod hbone;
mod pool;
mod relay;
mod support;
mod tls;
