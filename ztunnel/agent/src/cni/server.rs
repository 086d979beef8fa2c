//! The agent's side of the plugin's socket: takes a question, waits until the pod is served, answers.
//!
//! Only root may connect. Every connection is one packet there and one back, and there are at most [`CONNECTIONS`] at once:
//! who comes beyond that waits in the kernel's queue.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;
use ambit_process::spawn::spawn;
use ambit_transport::fdpass::{Listener, Socket};
use ambit_transport::socket::NetnsId;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

use super::protocol::{Answer, PACKET_LIMIT, Request, Response, VERSION, Verb};
use crate::handover::{Network, PodUid};
use crate::pod::{Handed, Progress};

/// The most questions at once; a kubelet starts a few dozen pods at a time at most.
const CONNECTIONS: usize = 128;
/// How long a plugin may take to ask.
const ASKING: Duration = Duration::from_secs(5);
/// How long an agent that goes on may take to say goodbye for a pod.
const GOODBYE: Duration = Duration::from_secs(2);
/// After this long a pod's owner is told what it waits for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A question about a pod, for whoever knows all of them.
#[derive(Debug)]
pub struct Question {
    /// The pod's name.
    pub object: ObjectRef,
    /// Its UID, if the runtime said it.
    pub uid: Option<PodUid>,
    /// What happens to its network.
    pub network: Happening,
    /// Where the answer goes. Dropped when nobody waits for it any more.
    pub answer: oneshot::Sender<Stands>,
}

/// What happens to a pod's network.
#[derive(Debug, Clone)]
pub enum Happening {
    /// It was made.
    Made(Handed),
    /// It will be taken away.
    Goes(Network),
    /// Nothing.
    Nothing,
}

/// How the pod stands that was asked about.
#[derive(Debug)]
pub enum Stands {
    /// The mesh has nothing to do with it.
    Outside,
    /// It is being enrolled, or is; follow it.
    Lives(watch::Receiver<Progress>),
}

/// Tells the owner of a pod what its start waits for.
pub type Waiting = dyn Fn(&ObjectRef, &str) + Send + Sync;

/// What every question's task uses.
pub struct Desk {
    /// To whoever knows the pods.
    pub questions: mpsc::Sender<Question>,
    /// Tells a pod's owner what it waits for.
    pub waiting: Box<Waiting>,
    /// How long a pod may take to be served.
    pub within: Duration,
}

/// Serves plugins.
pub async fn serve(listener: Listener, desk: Arc<Desk>) {
    let turns = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        match listener.accept().await {
            Ok(socket) => {
                let desk = Arc::clone(&desk);
                spawn("cni question", async move {
                    if let Err(error) = desk.talk(&socket).await {
                        warn!(%error, "a question of the CNI plugin's could not be answered");
                    }
                    drop(turn);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept the CNI plugin");
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Opens the socket, and the folder it lies in.
pub fn listen(path: &Path) -> io::Result<Listener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Listener::bind(path)
}

impl Desk {
    async fn talk(&self, socket: &Socket) -> io::Result<()> {
        let peer = socket.peer()?;
        if !peer.is_trusted() {
            let text = format!("process {:?} of user {} has no business here", peer.pid, peer.uid);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let mut buffer = vec![0; PACKET_LIMIT];
        let (length, network) = timeout(ASKING, socket.recv(&mut buffer)).await??;
        let mut more = [0];
        let answer = match (Request::read(&buffer[..length]), network.map(Network::from_fd)) {
            (Err(error), _) => Answer::Refused(error.to_string()),
            (_, Some(Err(error))) => Answer::Refused(format!("the pod's network: {error}")),
            (Ok(request), None) => Answer::Refused(format!("{:?} comes without a network", request.verb)),
            (Ok(request), Some(Ok(network))) => tokio::select! {
                answer = self.answer(&request, network) => answer,
                // The runtime has given up on the plugin: nobody waits for an answer.
                _ = socket.recv(&mut more) => return Ok(()),
            },
        };
        debug!(?answer, "CNI plugin");
        let packet = serde_json::to_vec(&Response { version: VERSION, answer })?;
        timeout(ASKING, socket.send(&packet, None)).await?
    }

    async fn answer(&self, request: &Request, network: Network) -> Answer {
        let object = ObjectRef::new(Kind::Pod, &request.namespace, &request.name);
        let id = network.netns().id();
        let (happening, within) = match request.verb {
            Verb::Add => {
                (Happening::Made(Handed { network, addresses: request.addresses.clone() }), self.within)
            }
            Verb::Del => (Happening::Goes(network), GOODBYE),
            Verb::Check => (Happening::Nothing, self.within),
        };
        let deadline = Instant::now() + within;
        let (answer, answered) = oneshot::channel();
        let uid = request.uid.as_deref().map(|uid| PodUid(uid.into()));
        let question = Question { object: object.clone(), uid, network: happening, answer };
        if self.questions.send(question).await.is_err() {
            return Answer::NotYet("the node agent is ending".to_owned());
        }
        match timeout_at(deadline, answered).await {
            Ok(Ok(Stands::Outside)) => Answer::Outside,
            Ok(Ok(Stands::Lives(progress))) => {
                self.follow(&object, (request.verb, id), progress, deadline).await
            }
            Ok(Err(_)) => Answer::NotYet("too many pods are starting at once".to_owned()),
            Err(_) => Answer::NotYet(format!(
                "the node agent has not heard of the pod {}/{} from the API server yet",
                object.namespace, object.name
            )),
        }
    }

    /// Until the pod is where it should be.
    async fn follow(
        &self,
        object: &ObjectRef,
        (verb, id): (Verb, NetnsId),
        mut progress: watch::Receiver<Progress>,
        deadline: Instant,
    ) -> Answer {
        let arrived = |progress: &Progress| match (verb, progress) {
            (_, Progress::Outside) => true,
            (Verb::Add | Verb::Check, Progress::Served(served)) => *served == id,
            // It lives in another one.
            (Verb::Del, Progress::Served(served)) => *served != id,
            (Verb::Del, Progress::Parted(parted)) => *parted == id,
            (_, Progress::Begun | Progress::Waiting(_) | Progress::Parted(_)) => false,
        };
        let mut patience = Some(Instant::now() + PATIENCE);
        loop {
            let until = patience.unwrap_or(deadline).min(deadline);
            match timeout_at(until, progress.wait_for(arrived)).await {
                Ok(Ok(stands)) if *stands == Progress::Outside => return Answer::Outside,
                Ok(Ok(_)) => return Answer::Done,
                Ok(Err(_)) => return Answer::Outside,
                Err(_) => {}
            }
            let reason = format!(
                "the pod belongs to the mesh and starts once the ztunnel of its node serves it; {}",
                *progress.borrow()
            );
            if until == deadline {
                return Answer::NotYet(reason);
            }
            patience = None;
            if verb == Verb::Add {
                (self.waiting)(object, &reason);
            }
        }
    }
}

#[cfg(test)]
mod tests;
