//! Where the networks of pods are found: mounted by pod UID (the lab), or by the processes of a pod (a node of Kubernetes).
//!
//! The CNI plugin hands over the network of a pod that is being started; this is for all the others: those that ran before
//! the agent did, and those whose sandbox was made anew without the plugin.

use std::io;
use std::path::PathBuf;

use ambit_transport::socket::NetnsId;

use crate::handover::{Network, PodUid};

pub mod processes;

pub use processes::Processes;

/// How pods' networks are found.
#[derive(Debug)]
pub enum Networks {
    /// Mounted in a folder, by pod UID.
    Mounted(PathBuf),
    /// Through the processes of each pod.
    Processes(Processes),
}

/// Why a pod's network cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// It is not where it should be.
    #[error("the pod's network {} cannot be opened: {cause}", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The pod has no process on this node.
    #[error("no process of the pod is found on this node, so its network is not known")]
    NoProcess,
    /// What was found is the node's own network, which is never touched.
    #[error("the pod's processes live in the node's own network, which is never redirected")]
    OfTheNode,
    /// The processes of the node cannot be looked through.
    #[error(
        "cannot look through {}: {cause}; the agent needs hostPID and the capability SYS_PTRACE",
        path.display()
    )]
    Processes {
        /// What could not be read.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

impl Networks {
    /// Opens a pod's network. Blocking.
    pub fn open(&self, uid: &PodUid) -> Result<Network, NetworkError> {
        match self {
            Self::Mounted(folder) => {
                let path = folder.join(&*uid.0);
                Network::open(&path).map_err(|cause| NetworkError::Missing { path, cause })
            }
            Self::Processes(processes) => processes.open(uid),
        }
    }

    /// The network a pod lives in by now, if that is another one than `held`: its sandbox was made anew. Blocking.
    pub fn moved(&self, uid: &PodUid, held: NetnsId) -> Option<Network> {
        self.open(uid).ok().filter(|found| found.netns().id() != held)
    }

    /// Whether this is the node's own network. Blocking.
    pub fn is_of_the_node(&self, network: &Network) -> Result<bool, NetworkError> {
        match self {
            Self::Mounted(_) => Ok(false),
            Self::Processes(processes) => Ok(processes.of_the_node()? == network.netns().id()),
        }
    }
}
