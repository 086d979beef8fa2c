//! Where a connection goes: pure functions of a snapshot. Source: l4-protocols §2.4 and §8.
//!
//! Outbound, an address becomes a [`Hop`]: a tunnel to a workload or waypoint, or plain TCP. Inbound, the
//! authority of a CONNECT becomes the [`Target`] inside the pod.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ambit_api::identity::Identity;
use ambit_api::reason::Reason;
use ambit_api::service::Service;
use ambit_api::workload::{Uid, Workload};

mod inbound;
mod outbound;
pub mod waypoint;

#[cfg(test)]
mod tests;

pub use inbound::{Target, inbound};
pub use outbound::{Ask, outbound};

/// The port every HBONE server listens on.
pub const HBONE_PORT: u16 = 15008;

/// The proxy's own ports in a pod; nothing may be sent to them through the proxy (l4-protocols §1.5).
pub const PROXY_PORTS: [u16; 3] = [15001, 15006, HBONE_PORT];

/// How to reach what a connection asked for.
#[derive(Clone, Debug)]
pub enum Hop {
    /// Through mutual TLS.
    Tunnel(Tunnel),
    /// Plain TCP: the destination is outside the mesh.
    Plain(Plain),
}

/// A hop through an HBONE tunnel.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// Address of the HBONE server.
    pub server: SocketAddr,
    /// The `:authority` of the CONNECT.
    pub authority: SocketAddr,
    /// The server must present one of these.
    pub expected: Arc<[Identity]>,
    /// The workload at the other end of the tunnel.
    pub workload: Arc<Workload>,
    /// The service that was dialled, if any.
    pub service: Option<Arc<Service>>,
}

/// A hop over plain TCP.
#[derive(Clone, Debug)]
pub struct Plain {
    /// Address to dial.
    pub server: SocketAddr,
    /// The workload there, if it is one we know.
    pub workload: Option<Arc<Workload>>,
    /// The service that was dialled, if any.
    pub service: Option<Arc<Service>>,
}

/// Why there is no way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Unresolved {
    /// The kind of failure.
    pub reason: Reason,
    /// What was looked for and not found.
    pub detail: String,
}

impl Unresolved {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl Hop {
    /// The workload at the other end, if known.
    pub fn workload(&self) -> Option<&Arc<Workload>> {
        match self {
            Self::Tunnel(tunnel) => Some(&tunnel.workload),
            Self::Plain(plain) => plain.workload.as_ref(),
        }
    }

    /// The service that was dialled, if any.
    pub fn service(&self) -> Option<&Arc<Service>> {
        match self {
            Self::Tunnel(tunnel) => tunnel.service.as_ref(),
            Self::Plain(plain) => plain.service.as_ref(),
        }
    }

    /// The endpoint to leave out of another attempt; `None` when there is no choice of endpoints.
    pub fn endpoint(&self) -> Option<&Uid> {
        self.service().and(self.workload()).map(|workload| &workload.uid)
    }
}

/// The address of a workload to dial: the one asked for if it is the workload's own, else the first of the
/// client's family, else any.
fn address_of(workload: &Workload, asked: IpAddr) -> Option<IpAddr> {
    let own = &workload.addresses;
    own.iter()
        .find(|ip| **ip == asked)
        .or_else(|| own.iter().find(|ip| ip.is_ipv4() == asked.is_ipv4()))
        .or_else(|| own.first())
        .copied()
}
