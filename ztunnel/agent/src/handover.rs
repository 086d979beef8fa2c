//! Hand-over of pods to the ztunnel (ZDS): who is in the mesh, with the network each one lives in.
//!
//! `session` is the protocol as a pure state machine, one for each connected ztunnel; `server` owns the socket, the list
//! of pods and the sessions; `Handover` is what the life of a pod holds of it.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use ambit_api::wire::zds;
use ambit_transport::socket::Netns;
use tokio::sync::{mpsc, oneshot, watch};

pub mod server;
pub mod session;

/// A pod's unique ID, as Kubernetes gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodUid(pub Arc<str>);

/// A pod's network, held open so that it can be handed to every ztunnel that connects.
#[derive(Clone)]
pub struct Network {
    netns: Netns,
    fd: Arc<OwnedFd>,
}

/// A pod of the mesh, as the ztunnel is told of it.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Unique ID.
    pub uid: PodUid,
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Service account.
    pub service_account: String,
    /// Its network; `None` when it could not be opened again after a restart of the agent, so that the ztunnel is told to
    /// keep what it has.
    pub network: Option<Network>,
}

/// What became of a pod that is no longer in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It runs on outside the mesh: its open connections are left to finish.
    LeftMesh,
    /// It is gone.
    Gone,
}

/// How a pod stands with the ztunnels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No ztunnel has answered for it yet.
    Waiting,
    /// The newest ztunnel that answered serves it.
    Accepted,
    /// The newest ztunnel that answered could not serve it, for this reason.
    Refused(String),
}

/// The server of pods is gone: the agent is ending.
#[derive(Debug, thiserror::Error)]
#[error("the hand-over to the ztunnel has ended")]
pub struct Ended;

/// Tells the server of pods what is in the mesh. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handover {
    orders: mpsc::Sender<Order>,
}

/// What the server is asked to do.
#[derive(Debug)]
pub(crate) enum Order {
    Offer { workload: Arc<Workload>, standing: oneshot::Sender<watch::Receiver<Standing>> },
    Withdraw { uid: PodUid, departure: Departure, done: oneshot::Sender<()> },
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Network({:?})", self.netns.id())
    }
}

impl AsFd for Network {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Network {
    /// Opens a pod's network by the path it is mounted at.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::from_fd(File::open(path)?.into())
    }

    /// Takes over a descriptor of a pod's network.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { netns: Netns::from_fd(fd.try_clone()?)?, fd: Arc::new(fd) })
    }

    /// The namespace, to act in.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }
}

impl Workload {
    /// Whether a ztunnel that serves the one serves the other.
    fn same(&self, other: &Workload) -> bool {
        let id = |workload: &Workload| workload.network.as_ref().map(|network| network.netns.id());
        (&self.name, &self.namespace, &self.service_account)
            == (&other.name, &other.namespace, &other.service_account)
            && id(self) == id(other)
    }

    fn info(&self) -> zds::WorkloadInfo {
        zds::WorkloadInfo {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
        }
    }
}

impl Handover {
    /// Puts a pod into the mesh, or renews what is known of it; the answer follows how it stands from then on.
    pub async fn offer(&self, workload: Workload) -> Result<watch::Receiver<Standing>, Ended> {
        let (standing, answer) = oneshot::channel();
        let order = Order::Offer { workload: Arc::new(workload), standing };
        self.orders.send(order).await.map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }

    /// Takes a pod out of the mesh; returns when every connected ztunnel has answered or was dropped for not answering.
    pub async fn withdraw(&self, uid: &PodUid, departure: Departure) -> Result<(), Ended> {
        let (done, answer) = oneshot::channel();
        let order = Order::Withdraw { uid: uid.clone(), departure, done };
        self.orders.send(order).await.map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }
}
