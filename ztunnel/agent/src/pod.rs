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
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ambit_process::backoff::Backoff;
use ambit_process::readiness::Hold;
use ambit_transport::socket::NetnsId;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::enrol::{Identity, Membership, Wanted};
use crate::handover::{Departure, Ended, Handover, Network, Standing, Workload};
use crate::metrics::PodState;
use crate::pod::node::{Node, Redirection};
use crate::pod::trouble::Trouble;
use crate::ports;
use crate::redirect::apply;
use crate::redirect::rules::{Found, Ruleset};
use network::Reach;
pub use progress::{Given, Handed, Progress};

mod network;
pub mod node;
pub mod progress;
mod rules;
pub mod trouble;

/// How soon what failed is tried again, at first and at last.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// What a pod's life is told from outside, and where it tells how far it has come.
pub struct Orders {
    /// What is wanted of it.
    pub wanted: watch::Receiver<Wanted>,
    /// What the CNI plugin said of its network.
    pub given: watch::Receiver<Given>,
    /// How far it has come.
    pub progress: watch::Sender<Progress>,
}

/// One pod, and what has been done for it.
struct Life {
    pod: Identity,
    node: Arc<Node>,
    handover: Handover,
    given: watch::Receiver<Given>,
    /// Whether the wait has ended because of what was given.
    is_given: bool,
    progress: watch::Sender<Progress>,
    network: Option<Network>,
    /// The network that was taken away last.
    parted: Option<NetnsId>,
    /// Its addresses, from whoever made its network: they are published later.
    handed: Vec<IpAddr>,
    /// How it stands with the ztunnel, once it was offered.
    offered: Option<watch::Receiver<Standing>>,
    /// What was written into its network last, and what that looked like.
    written: Option<(Ruleset, apply::Standing)>,
    redirection: Option<Redirection>,
    state: Option<PodState>,
    trouble: Option<Trouble>,
    retry: Backoff,
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
pub async fn live(pod: Identity, orders: Orders, node: Arc<Node>, handover: Handover, first: Hold) {
    let mut first = Some(first);
    let Orders { mut wanted, given, progress } = orders;
    let mut life = Life {
        redirection: pod.was_enrolled.then_some(Redirection::Enabled),
        pod,
        node,
        handover,
        given,
        is_given: false,
        progress,
        network: None,
        parted: None,
        handed: Vec::new(),
        offered: None,
        written: None,
        state: None,
        trouble: None,
        retry: Backoff::new(RETRY.0, RETRY.1),
    };
    loop {
        let now = wanted.borrow_and_update().clone();
        let heard = life.hear().await;
        let outcome = match (heard, &now) {
            (_, Wanted::Gone) => return life.gone().await,
            (Err(trouble), _) => Err(trouble),
            (Ok(()), Wanted::In(membership)) => life.join(membership).await,
            (Ok(()), Wanted::Out) => life.leave().await,
        };
        let again = match outcome {
            Ok(again) => again,
            Err(trouble) => life.report(trouble, &now).await,
        };
        first.take();
        if life.wait(&mut wanted, again).await.is_err() {
            return;
        }
    }
}

impl Life {
    /// One step towards membership, from wherever the pod stands; repeated until nothing is left to do.
    async fn join(&mut self, membership: &Membership) -> Result<Again, Trouble> {
        let probes = membership.probes.clone();
        let enrolled = Ruleset::Enrolled { inbound: membership.inbound, probes: probes.clone() };
        let closed = Ruleset::Closed { probes };
        if self.open_network(!membership.addresses.is_empty()).await? == Reach::NotYet {
            self.becomes(PodState::Expected);
            return Ok(Again::AtCheck);
        }
        // Before any rule can keep it out.
        self.open_to_kubelet(membership).await?;
        if self.offered.is_none() {
            // Whatever the first look says: a pod that the ztunnel serves already must be on the list it is told, or it
            // would drop it.
            if self.pod.was_enrolled {
                self.offer().await?;
            }
            self.may_join(&enrolled, &closed).await?;
            if self.offered.is_none() {
                self.offer().await?;
            }
        }
        let standing =
            self.offered.as_mut().map_or(Standing::Waiting, |follow| follow.borrow_and_update().clone());
        match standing {
            Standing::Accepted => {
                if let Err(trouble) = self.write(&enrolled).await {
                    // One that is published already stays with the ztunnel: most likely its rules still stand.
                    if !self.is_published() {
                        self.withdraw(Departure::LeftMesh).await?;
                    }
                    return Err(trouble);
                }
                self.served();
                let told = self.annotate(Some(Redirection::Enabled)).await;
                Ok(told.unless(Again::AtCheck))
            }
            // Nobody has answered yet. A pod that was enrolled before stays so, behind rules that fail it closed.
            Standing::Waiting => {
                let told = if self.is_published() {
                    self.write(&enrolled).await?;
                    Told::Yes
                } else {
                    self.annotate(Some(Redirection::Pending)).await
                };
                self.becomes(PodState::Pending);
                self.tell(Progress::Waiting("no ztunnel of this node has taken it yet".to_owned()));
                Ok(told.unless(Again::AtCheck))
            }
            Standing::Refused(text) => {
                self.close_if_held(&closed).await?;
                Err(Trouble::Refused(text))
            }
        }
    }

    /// Before the first offer: rules that are in already are renewed at once, whatever the ztunnel does; a pod that is
    /// new to the mesh must have the ports free. After a departure the ztunnel itself may still be listening, and
    /// judges for itself.
    async fn may_join(&mut self, enrolled: &Ruleset, closed: &Ruleset) -> Result<(), Trouble> {
        match self.found().await? {
            Found::Enrolled => self.write(enrolled).await,
            _ if self.pod.was_enrolled => self.write(enrolled).await,
            Found::Residual => Ok(()),
            Found::Nothing | Found::Closed | Found::Unknown => self.close_if_held(closed).await,
        }
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
        self.close_to_kubelet().await;
        if !matches!(self.open_network(false).await, Ok(Reach::Here)) {
            // Never made, or gone already: there is nothing to take out of it.
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
            self.write(&Ruleset::Residual).await?;
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
        self.close_to_kubelet().await;
        self.tell(Progress::Outside);
        self.node.metrics.moved(self.state.take(), None);
    }

    async fn withdraw(&mut self, departure: Departure) -> Result<(), Trouble> {
        if self.offered.take().is_some() {
            self.handover.withdraw(&self.pod.uid, departure).await?;
        }
        Ok(())
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

    /// Somebody who waits for the pod's start may let it start.
    fn served(&mut self) {
        self.trouble = None;
        self.retry.reset();
        self.becomes(PodState::Enrolled);
        if let Some(network) = &self.network {
            self.tell(Progress::Served(network.netns().id()));
        }
    }

    fn tell(&self, progress: Progress) {
        self.progress.send_if_modified(|known| std::mem::replace(known, progress.clone()) != progress);
    }

    fn becomes(&mut self, state: PodState) {
        if matches!(state, PodState::Outside | PodState::Residual) {
            self.tell(Progress::Outside);
        }
        if self.state != Some(state) {
            self.node.metrics.moved(self.state, Some(state));
            tracing::info!(pod = %self.pod.object, uid = %self.pod.uid, ?state, "pod");
            self.state = Some(state);
        }
    }

    /// Something is in the way: said once for as long as it stays the same.
    async fn report(&mut self, trouble: Trouble, wanted: &Wanted) -> Again {
        self.tell(Progress::Waiting(trouble.to_string()));
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
        let (pause, is_check) = match again {
            Again::Soon => (Some(self.retry.delay()), false),
            Again::AtCheck => (Some(self.node.check), true),
            Again::Never => (None, false),
        };
        let standing = self.offered.as_mut();
        let is_time = tokio::select! {
            changed = wanted.changed() => return changed.map_err(|_| Ended),
            changed = self.given.changed() => {
                self.is_given = true;
                return changed.map_err(|_| Ended);
            }
            () = changed(standing) => false,
            () = after(pause) => true,
        };
        if is_time && is_check {
            self.follow_network().await;
        }
        Ok(())
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
