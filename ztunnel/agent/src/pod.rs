//! The life of one pod on this node, top to bottom: join the mesh, be checked, leave it, go.
//!
//! Joining: the ztunnel is told first and opens its listeners, then the redirect goes in, then the pod is annotated
//! `enabled` and the controller publishes it as HBONE. So a running pod loses no connection: there is somebody behind
//! the redirect from its first moment. Where something is in the way the pod is annotated `pending`.
//!
//! Leaving is the reverse with one turn: first the residual rules (new connections go plain, open ones stay), then the
//! annotation (peers stop tunnelling), then the ztunnel is told `LEFT_MESH`. It keeps serving what is open, and keeps
//! its HBONE port for peers that have not yet heard. Were the annotation first, peers' plaintext would still be
//! redirected and a STRICT policy would refuse it.
//!
//! A ztunnel that dies changes nothing here: the redirect stays, and connections fail rather than leak.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ambit_process::readiness::Hold;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::enrol::{Identity, Wanted};
use crate::handover::{Departure, Ended, Handover, Network, Standing, Workload};
use crate::metrics::{Failure, PodState};
use crate::pod::node::{Node, Redirection};
use crate::pod::trouble::Trouble;
use crate::ports::{self, Holder};
use crate::redirect::apply;
use crate::redirect::rules::{Found, InboundCapture, Ruleset};

pub mod node;
pub mod trouble;

/// How often what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// One pod, and what has been done for it.
struct Life {
    pod: Identity,
    node: Arc<Node>,
    handover: Handover,
    network: Option<Network>,
    /// How it stands with the ztunnel, once it was offered.
    offered: Option<watch::Receiver<Standing>>,
    /// What was written into its network last, and what that looked like.
    written: Option<(Ruleset, apply::Standing)>,
    redirection: Option<Redirection>,
    state: Option<PodState>,
    trouble: Option<Trouble>,
}

/// When a life looks again, unless something happens before.
enum Again {
    /// Something is in the way.
    Soon,
    /// All is well: look for edits, or for the end of the last connection.
    AtCheck,
    /// Nothing of ours is in the pod.
    Never,
}

/// Whether the pod's annotation says what it should.
#[derive(Clone, Copy)]
enum Told {
    Yes,
    /// It could not be written.
    NotYet,
}

impl Told {
    fn unless(self, again: Again) -> Again {
        match self {
            Told::Yes => again,
            Told::NotYet => Again::Soon,
        }
    }
}

/// Lives until the pod is gone. `first` is dropped when the pod's first look is over.
pub async fn live(
    pod: Identity,
    mut wanted: watch::Receiver<Wanted>,
    node: Arc<Node>,
    handover: Handover,
    first: Hold,
) {
    let mut first = Some(first);
    let mut life = Life {
        redirection: pod.was_enrolled.then_some(Redirection::Enabled),
        pod,
        node,
        handover,
        network: None,
        offered: None,
        written: None,
        state: None,
        trouble: None,
    };
    loop {
        let now = *wanted.borrow_and_update();
        let outcome = match now {
            Wanted::In(inbound) => life.join(inbound).await,
            Wanted::Out => life.leave().await,
            Wanted::Gone => return life.gone().await,
        };
        let again = match outcome {
            Ok(again) => again,
            Err(trouble) => life.report(trouble, now).await,
        };
        first.take();
        if life.wait(&mut wanted, again).await.is_err() {
            return;
        }
    }
}

impl Life {
    /// One step towards membership, from wherever the pod stands; repeated until nothing is left to do.
    async fn join(&mut self, inbound: InboundCapture) -> Result<Again, Trouble> {
        let enrolled = Ruleset::Enrolled { inbound };
        self.open_network().await?;
        if self.offered.is_none() {
            // Whatever the first look says: a pod that the ztunnel serves already must be on the list it is told, or it
            // would drop it.
            if self.pod.was_enrolled {
                self.offer().await?;
            }
            self.may_join(enrolled).await?;
            if self.offered.is_none() {
                self.offer().await?;
            }
        }
        let standing =
            self.offered.as_mut().map_or(Standing::Waiting, |follow| follow.borrow_and_update().clone());
        match standing {
            Standing::Accepted => {
                if let Err(trouble) = self.write(enrolled).await {
                    // One that is published already stays with the ztunnel: most likely its rules still stand.
                    if !self.is_published() {
                        self.withdraw(Departure::LeftMesh).await?;
                    }
                    return Err(trouble);
                }
                let told = self.annotate(Some(Redirection::Enabled)).await;
                self.trouble = None;
                self.becomes(PodState::Enrolled);
                Ok(told.unless(Again::AtCheck))
            }
            // Nobody has answered yet. A pod that was enrolled before stays so, behind rules that fail it closed.
            Standing::Waiting => {
                let told = if self.is_published() {
                    self.write(enrolled).await?;
                    Told::Yes
                } else {
                    self.annotate(Some(Redirection::Pending)).await
                };
                self.becomes(PodState::Pending);
                Ok(told.unless(Again::AtCheck))
            }
            Standing::Refused(text) => {
                self.close_if_held().await?;
                Err(Trouble::Refused(text))
            }
        }
    }

    /// Before the first offer: rules that are in already are renewed at once, whatever the ztunnel does; a pod that is
    /// new to the mesh must have the ports free. After a departure the ztunnel itself may still be listening, and
    /// judges for itself.
    async fn may_join(&mut self, enrolled: Ruleset) -> Result<(), Trouble> {
        match self.found().await? {
            Found::Enrolled => self.write(enrolled).await,
            _ if self.pod.was_enrolled => self.write(enrolled).await,
            Found::Residual => Ok(()),
            Found::Nothing | Found::Closed | Found::Unknown => self.close_if_held().await,
        }
    }

    /// Redirecting to a port that an application holds would hand it the pod's traffic: refuse everything instead.
    async fn close_if_held(&mut self) -> Result<(), Trouble> {
        let mut holders =
            self.inside(|_, network| ports::holders(network.netns())).await?.map_err(Trouble::Ports)?;
        holders.retain(Holder::may_be_application);
        if holders.is_empty() {
            return Ok(());
        }
        self.write(Ruleset::Closed).await?;
        Err(Trouble::PortInUse(holders))
    }

    async fn offer(&mut self) -> Result<(), Trouble> {
        let workload = Workload {
            uid: self.pod.uid.clone(),
            name: self.pod.object.name.clone(),
            namespace: self.pod.object.namespace.clone(),
            service_account: self.pod.service_account.clone(),
            network: self.network.clone(),
        };
        self.offered = Some(self.handover.offer(workload).await?);
        Ok(())
    }

    /// Out of the mesh, in the order the head of this file explains.
    async fn leave(&mut self) -> Result<Again, Trouble> {
        if self.open_network().await.is_err() {
            // Never mounted, or gone already: there is nothing to take out of it.
            self.withdraw(Departure::LeftMesh).await?;
            let told = self.annotate(None).await;
            self.becomes(PodState::Outside);
            return Ok(told.unless(Again::Never));
        }
        self.pod.was_enrolled = false;
        if self.state == Some(PodState::Residual) && self.offered.is_none() && self.redirection.is_none() {
            return self.clean_up().await;
        }
        if self.found().await? != Found::Nothing {
            self.write(Ruleset::Residual).await?;
            self.becomes(PodState::Residual);
        }
        // Peers that were not told go on tunnelling: the ztunnel must serve them until they are.
        if let Told::NotYet = self.annotate(None).await {
            return Ok(Again::Soon);
        }
        self.withdraw(Departure::LeftMesh).await?;
        self.trouble = None;
        if self.state == Some(PodState::Residual) {
            return Ok(Again::AtCheck);
        }
        self.becomes(PodState::Outside);
        self.network = None;
        Ok(Again::Never)
    }

    /// The residual rules go when the ztunnel has let go of its ports and no connection through it is open.
    async fn clean_up(&mut self) -> Result<Again, Trouble> {
        let busy = self.inside(|_, network| {
            let listening = ports::holders(network.netns())?.len();
            Ok::<_, io::Error>(listening + ports::open_connections(network.netns())? > 0)
        });
        if busy.await?.map_err(Trouble::Ports)? {
            return Ok(Again::AtCheck);
        }
        self.inside(|node, network| node.redirector.remove(network.netns()))
            .await?
            .map_err(Trouble::Rules)?;
        self.written = None;
        self.network = None;
        self.becomes(PodState::Outside);
        Ok(Again::Never)
    }

    /// The ztunnel hears of it while the network may still be there; rules and annotation go with the pod.
    async fn gone(&mut self) {
        // An error means that the agent itself is ending.
        let _ = self.handover.withdraw(&self.pod.uid, Departure::Gone).await;
        self.node.metrics.moved(self.state.take(), None);
    }

    async fn withdraw(&mut self, departure: Departure) -> Result<(), Trouble> {
        if self.offered.take().is_some() {
            self.handover.withdraw(&self.pod.uid, departure).await?;
        }
        Ok(())
    }

    /// A pod that was enrolled and whose network cannot be opened again is kept in the mesh as it is.
    async fn open_network(&mut self) -> Result<(), Trouble> {
        if self.network.is_some() {
            return Ok(());
        }
        let path = self.node.netns_dir.join(&*self.pod.uid.0);
        match Network::open(&path) {
            Ok(network) => {
                self.network = Some(network);
                // Known to the ztunnel without a descriptor until now: offer it again, with one.
                self.offered = None;
                Ok(())
            }
            Err(cause) => {
                if self.pod.was_enrolled && self.offered.is_none() {
                    self.offer().await?;
                }
                Err(Trouble::NetworkMissing { path, cause })
            }
        }
    }

    async fn found(&self) -> Result<Found, Trouble> {
        let standing = self.inside(|node, network| node.redirector.standing(network.netns())).await?;
        Ok(standing.map_err(Trouble::Rules)?.kind())
    }

    /// Writes a ruleset, unless it is what was written last and still stands there.
    async fn write(&mut self, ruleset: Ruleset) -> Result<(), Trouble> {
        if let Some((written, expected)) = &self.written
            && *written == ruleset
        {
            let now = self.inside(|node, network| node.redirector.standing(network.netns())).await?;
            if now.map_err(Trouble::Rules)? == *expected {
                return Ok(());
            }
            self.node.metrics.failed(Failure::RulesDrifted);
            self.node.tell(&self.pod, &Trouble::Drifted).await;
            tracing::warn!(pod = %self.pod.object, "its rules were changed by somebody else and are written again");
        }
        let applied =
            self.inside(move |node, network| node.redirector.apply(network.netns(), ruleset)).await?;
        self.written = Some((ruleset, applied.map_err(Trouble::Rules)?));
        Ok(())
    }

    async fn inside<T: Send + 'static>(
        &self,
        action: impl FnOnce(&Node, &Network) -> T + Send + 'static,
    ) -> Result<T, Trouble> {
        let network = self.network.clone().ok_or(Trouble::Ended)?;
        Node::blocking(&self.node, move |node| action(node, &network)).await
    }

    async fn annotate(&mut self, redirection: Option<Redirection>) -> Told {
        if self.redirection != redirection {
            if !self.node.annotate(&self.pod, redirection).await {
                return Told::NotYet;
            }
            self.redirection = redirection;
        }
        Told::Yes
    }

    /// Whether peers have been told to use tunnels. They must not be told otherwise before the pod leaves the mesh: their
    /// plaintext would cross the network and then be redirected all the same. Failing is better than leaking.
    fn is_published(&self) -> bool {
        self.redirection == Some(Redirection::Enabled)
    }

    fn becomes(&mut self, state: PodState) {
        if self.state != Some(state) {
            self.node.metrics.moved(self.state, Some(state));
            tracing::info!(pod = %self.pod.object, uid = %self.pod.uid, ?state, "pod");
            self.state = Some(state);
        }
    }

    /// Something is in the way: said once for as long as it stays the same.
    async fn report(&mut self, trouble: Trouble, wanted: Wanted) -> Again {
        if let Some(failure) = trouble.failure() {
            self.node.metrics.failed(failure);
        }
        let closed = matches!(trouble, Trouble::PortInUse(_));
        self.becomes(if closed { PodState::Closed } else { PodState::Pending });
        if self.trouble.as_ref().map(ToString::to_string) != Some(trouble.to_string()) {
            tracing::warn!(pod = %self.pod.object, reason = trouble.reason(), "{trouble}");
            self.node.tell(&self.pod, &trouble).await;
            self.trouble = Some(trouble);
        }
        if matches!(wanted, Wanted::In(_)) && (closed || !self.is_published()) {
            // Every trouble is looked at again soon, so a failure to say so is, too.
            self.annotate(Some(Redirection::Pending)).await;
        }
        Again::Soon
    }

    /// Until something happens or it is time to look again.
    async fn wait(&mut self, wanted: &mut watch::Receiver<Wanted>, again: Again) -> Result<(), Ended> {
        let pause = match again {
            Again::Soon => Some(RETRY),
            Again::AtCheck => Some(self.node.check),
            Again::Never => None,
        };
        let standing = self.offered.as_mut();
        tokio::select! {
            changed = wanted.changed() => changed.map_err(|_| Ended),
            () = changed(standing) => Ok(()),
            () = after(pause) => Ok(()),
        }
    }
}

async fn changed(standing: Option<&mut watch::Receiver<Standing>>) {
    if let Some(follow) = standing
        && follow.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

async fn after(pause: Option<Duration>) {
    match pause {
        Some(pause) => sleep(pause).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
