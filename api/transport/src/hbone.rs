//! HBONE: TCP streams as HTTP/2 CONNECT inside mutual TLS, both ends, and the pool of tunnels.
//!
//! client: [`client::connect`] → [`Tunnel`] → [`Tunnel::open`] → [`Stream`]; server: [`server::serve`] → [`Ask`] →
//! [`Respond`] → [`Stream`]; [`pool::Pool`] keeps a worker's tunnels.

pub mod client;
mod io;
mod join;
pub mod pool;
pub mod server;
mod settings;
mod stream;
mod wire;

pub use client::{ConnectError, ConnectRequest, Tunnel, TunnelError};
pub use io::Io;
pub use join::join;
pub use pool::{Directory, Key, OpenError, Pool, TunnelLoad};
pub use server::{Ask, Respond};
pub use settings::Settings;
pub use stream::{Broken, Stream};
