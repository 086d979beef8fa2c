//! How bytes move safely: sockets, certificates, TLS, HBONE, relay, descriptors over unix sockets.
//!
//! Read upwards from [`relay`]: a relay joins a socket with a stream of a tunnel, a tunnel is HTTP/2 in mutual TLS, TLS
//! stands on [`certificate`] and [`trust`], and everything stands on [`socket`].

pub mod addr;
pub mod buffer;
pub mod certificate;
pub mod fdpass;
pub mod hbone;
pub mod relay;
pub mod socket;
mod sys;
pub mod tls;
pub mod trust;
