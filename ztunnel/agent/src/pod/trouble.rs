//! What can be in the way of a pod, in words its owner can act on.

use std::io;

use crate::handover::Ended;
use crate::metrics::Failure;
use crate::networks::NetworkError;
use crate::ports::Holder;
use crate::redirect::apply::RedirectError;

/// Something is in the way.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The pod's network is not where it should be.
    #[error("{0}; it is tried again within 5 s")]
    Network(NetworkError),
    /// An application holds ports of the ztunnel's.
    #[error(
        "{}; the pod accepts and opens no connections until this is mended: let the application use another port \
         (15001, 15006 and 15008 belong to the mesh), or label the pod istio.io/dataplane-mode=none",
        list(.0)
    )]
    PortInUse(Vec<Holder>),
    /// The ztunnel could not serve the pod.
    #[error("the ztunnel cannot serve the pod: {0}; it is offered again every 5 s")]
    Refused(String),
    /// The rules could not be changed or read.
    #[error("the redirection rules cannot be written: {0}; it is tried again within 5 s")]
    Rules(RedirectError),
    /// The kubelet's way to the pod could not be opened.
    #[error("the kubelet's probes cannot be let through to the pod: {0}; it is tried again within 5 s")]
    Probes(RedirectError),
    /// Who listens in the pod could not be read.
    #[error("the pod's sockets cannot be listed: {0}; it is tried again within 5 s")]
    Ports(io::Error),
    /// Somebody changed the rules.
    #[error("the redirection rules were changed by somebody else and have been written again")]
    Drifted,
    /// The agent is ending.
    #[error("the agent is ending")]
    Ended,
}

impl Trouble {
    /// How it is counted.
    pub(super) fn failure(&self) -> Option<Failure> {
        match self {
            Trouble::Network(_) => Some(Failure::NetworkMissing),
            Trouble::PortInUse(_) => Some(Failure::PortInUse),
            Trouble::Refused(_) => Some(Failure::ZtunnelRefused),
            Trouble::Rules(_) | Trouble::Ports(_) | Trouble::Probes(_) => Some(Failure::RulesFailed),
            Trouble::Drifted => Some(Failure::RulesDrifted),
            Trouble::Ended => None,
        }
    }

    /// The event's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Trouble::Network(_) => "NetworkMissing",
            Trouble::PortInUse(_) => "PortInUse",
            Trouble::Refused(_) => "ZtunnelRefused",
            Trouble::Rules(_) => "RulesFailed",
            Trouble::Probes(_) => "ProbesFailed",
            Trouble::Ports(_) => "SocketsUnreadable",
            Trouble::Drifted => "RulesDrifted",
            Trouble::Ended => "AgentEnding",
        }
    }
}

impl From<Ended> for Trouble {
    fn from(_: Ended) -> Self {
        Trouble::Ended
    }
}

fn list(holders: &[Holder]) -> String {
    holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
