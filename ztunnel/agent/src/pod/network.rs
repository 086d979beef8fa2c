//! A pod's network in the course of its life: handed over by the CNI plugin, found on the node, exchanged when the sandbox
//! is made anew, given up when it goes.

use ambit_transport::socket::NetnsId;

use super::{Life, Trouble};
use crate::handover::{Departure, Network};
use crate::pod::node::Node;
use crate::pod::progress::{Given, Progress};

/// Whether a pod's network is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It is held open.
    Here,
    /// There is none yet, or not any more, and nothing is wrong with that.
    NotYet,
}

impl Life {
    /// Takes up what the plugin said since the last time.
    pub(super) async fn hear(&mut self) -> Result<(), Trouble> {
        let is_given = std::mem::take(&mut self.is_given) || self.given.has_changed().unwrap_or_default();
        if !is_given {
            return Ok(());
        }
        let given = self.given.borrow_and_update().clone();
        match given {
            Given::Unsaid => Ok(()),
            Given::Handed(handed) => {
                let network = handed.network.clone();
                let asked =
                    Node::blocking(&self.node, move |node| node.networks.is_of_the_node(&network)).await?;
                if asked.map_err(Trouble::Network)? {
                    return Err(Trouble::Network(crate::networks::NetworkError::OfTheNode));
                }
                self.handed = handed.addresses;
                self.take(handed.network);
                Ok(())
            }
            Given::Parted(id) => self.part(id).await,
        }
    }

    /// Known to the ztunnel in another network, or without one, until now: it is offered again.
    fn take(&mut self, network: Network) {
        if self.held() != Some(network.netns().id()) {
            self.network = Some(network);
            self.offered = None;
            self.written = None;
        }
    }

    fn held(&self) -> Option<NetnsId> {
        self.network.as_ref().map(|network| network.netns().id())
    }

    /// The ztunnel says goodbye while the pod's cable is still there. What replaces the network will be handed over.
    async fn part(&mut self, id: NetnsId) -> Result<(), Trouble> {
        if self.held().is_some_and(|held| held != id) {
            return Ok(());
        }
        // Its address may be somebody else's next.
        self.handed.clear();
        self.close_to_kubelet().await;
        self.withdraw(Departure::Gone).await?;
        self.network = None;
        self.written = None;
        self.parted = Some(id);
        self.pod.was_enrolled = false;
        self.tell(Progress::Parted(id));
        Ok(())
    }

    /// Opens the pod's network, unless it is held already. A pod that was enrolled and whose network cannot be opened again
    /// is kept in the mesh as it is.
    pub(super) async fn open_network(&mut self, is_published: bool) -> Result<Reach, Trouble> {
        if self.network.is_some() {
            return Ok(Reach::Here);
        }
        let uid = self.pod.uid.clone();
        match Node::blocking(&self.node, move |node| node.networks.open(&uid)).await? {
            Ok(network) if self.parted != Some(network.netns().id()) => {
                self.take(network);
                Ok(Reach::Here)
            }
            Err(cause) if self.parted.is_none() && is_published => {
                if self.pod.was_enrolled && self.offered.is_none() {
                    self.offer().await?;
                }
                Err(Trouble::Network(cause))
            }
            Ok(_) | Err(_) => Ok(Reach::NotYet),
        }
    }

    /// Looks whether the pod lives in another network by now: made without the plugin, while it was not in the chain.
    pub(super) async fn follow_network(&mut self) {
        let Some(held) = self.held() else { return };
        let uid = self.pod.uid.clone();
        if let Ok(Some(network)) =
            Node::blocking(&self.node, move |node| node.networks.moved(&uid, held)).await
        {
            tracing::warn!(pod = %self.pod.object, "its network was made anew without the CNI plugin");
            self.take(network);
        }
    }
}
