//! The rules of one pod, as its life reads and writes them: in its own network, and in the node's for the kubelet.

use super::{Life, Trouble};
use crate::enrol::Membership;
use crate::handover::Network;
use crate::metrics::Failure;
use crate::pod::node::Node;
use crate::ports::{self, Holder};
use crate::redirect::rules::{Found, InboundCapture, Ruleset};

impl Life {
    /// Redirecting to a port that an application holds would hand it the pod's traffic: refuse everything instead.
    pub(super) async fn close_if_held(&mut self, closed: &Ruleset) -> Result<(), Trouble> {
        let mut holders =
            self.inside(|_, network| ports::holders(network.netns())).await?.map_err(Trouble::Ports)?;
        holders.retain(Holder::may_be_application);
        if holders.is_empty() {
            return Ok(());
        }
        self.write(closed).await?;
        Err(Trouble::PortInUse(holders))
    }

    pub(super) async fn found(&self) -> Result<Found, Trouble> {
        let standing = self.inside(|node, network| node.redirector.standing(network.netns())).await?;
        Ok(standing.map_err(Trouble::Rules)?.kind())
    }

    /// Writes a ruleset, unless it is what was written last and still stands there.
    pub(super) async fn write(&mut self, ruleset: &Ruleset) -> Result<(), Trouble> {
        if let Some((written, expected)) = &self.written
            && written == ruleset
        {
            let now = self.inside(|node, network| node.redirector.standing(network.netns())).await?;
            if now.map_err(Trouble::Rules)? == *expected {
                return Ok(());
            }
            self.node.metrics.failed(Failure::RulesDrifted);
            self.node.tell(&self.pod, &Trouble::Drifted).await;
            tracing::warn!(pod = %self.pod.object, "its rules were changed by somebody else and are written again");
        }
        let wanted = ruleset.clone();
        let applied =
            self.inside(move |node, network| node.redirector.apply(network.netns(), &wanted)).await?;
        self.written = Some((ruleset.clone(), applied.map_err(Trouble::Rules)?));
        Ok(())
    }

    pub(super) async fn inside<T: Send + 'static>(
        &self,
        action: impl FnOnce(&Node, &Network) -> T + Send + 'static,
    ) -> Result<T, Trouble> {
        let network = self.network.clone().ok_or(Trouble::Ended)?;
        Node::blocking(&self.node, move |node| action(node, &network)).await
    }

    /// Lets the kubelet's probes through to the pod, at the addresses it has or will have.
    pub(super) async fn open_to_kubelet(&self, membership: &Membership) -> Result<(), Trouble> {
        let ports = match membership.inbound {
            InboundCapture::On => membership.probes.0.clone(),
            InboundCapture::Bypassed => Default::default(),
        };
        let addresses = membership.addresses.iter().chain(&self.handed).copied();
        let openings = addresses.flat_map(|address| ports.iter().map(move |port| (address, *port))).collect();
        let uid = self.pod.uid.clone();
        let opened = Node::blocking(&self.node, move |node| node.probes.open(uid, openings)).await?;
        opened.map_err(Trouble::Probes)
    }

    /// The pod's addresses may soon be somebody else's.
    pub(super) async fn close_to_kubelet(&self) {
        let uid = self.pod.uid.clone();
        if let Ok(Err(error)) = Node::blocking(&self.node, move |node| node.probes.close(&uid)).await {
            self.node.metrics.failed(Failure::RulesFailed);
            tracing::error!(pod = %self.pod.object, %error, "cannot close the kubelet's way to the pod");
        }
    }
}
