//! What the CNI plugin tells a pod's life, and what it may learn of it.

use std::fmt;
use std::net::IpAddr;

use ambit_transport::socket::NetnsId;

use crate::handover::Network;

/// A network that was made for a pod.
#[derive(Clone, Debug)]
pub struct Handed {
    /// The network.
    pub network: Network,
    /// The addresses the pod has there.
    pub addresses: Vec<IpAddr>,
}

/// What was said about a pod's network last.
#[derive(Clone, Debug, Default)]
pub enum Given {
    /// Nothing: it has to be found.
    #[default]
    Unsaid,
    /// It was made.
    Handed(Handed),
    /// This one goes away.
    Parted(NetnsId),
}

/// How far a pod's life has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// It has not looked yet.
    #[default]
    Begun,
    /// It belongs to the mesh and is not served yet, for this reason.
    Waiting(String),
    /// The ztunnel serves it in this network, and its connections are redirected.
    Served(NetnsId),
    /// The ztunnel has let go of this network.
    Parted(NetnsId),
    /// It is outside of the mesh, or gone.
    Outside,
}

impl Given {
    /// Whether a network that goes away is news. One that was followed by another is not: runtimes take a sandbox away more
    /// than once, and late.
    pub fn is_superseded(&self, going: NetnsId) -> bool {
        matches!(self, Self::Handed(handed) if handed.network.netns().id() != going)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begun => "its enrolment has just begun",
            Self::Waiting(reason) => reason,
            Self::Served(_) => "it is served",
            Self::Parted(_) => "its network was taken away",
            Self::Outside => "it is outside of the mesh",
        })
    }
}
