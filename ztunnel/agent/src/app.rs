//! The agent as a whole: objects in, one life for each pod of this node, the hand-over beside them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ambit_crds::source::{SourceEvent, Started};
use ambit_process::admin::{Addresses, Admin, BindError};
use ambit_process::metrics::Metrics;
use ambit_process::readiness::{Hold, Readiness};
use ambit_process::signal::{self, Quit};
use ambit_process::spawn::spawn;
use ambit_process::telemetry::LogHandle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::enrol::{Change, Identity, Planner, Wanted};
use crate::handover::server::{Prepared, prepare};
use crate::handover::{Handover, PodUid};
use crate::metrics::AgentMetrics;
use crate::pod::live;
use crate::pod::node::Node;
use crate::settings::Settings;

/// How long the pods' first looks may hold back the ztunnel's connection.
const FIRST_LOOK: Duration = Duration::from_secs(20);

/// Why the agent could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The objects cannot be read.
    #[error("cannot read objects: {0}")]
    Source(io::Error),
    /// The ztunnel's socket cannot be opened.
    #[error("cannot listen on the ztunnel's socket: {0}")]
    Socket(io::Error),
    /// The admin address cannot be opened.
    #[error(transparent)]
    Admin(#[from] BindError),
    /// The source has ended.
    #[error("the source of objects has ended")]
    SourceEnded,
}

/// The lives of this node's pods.
struct Lives {
    planner: Planner,
    node: Arc<Node>,
    handover: Handover,
    wanted: BTreeMap<PodUid, watch::Sender<Wanted>>,
    looks: Readiness,
}

/// Runs until it is told to stop. Rules stay in place: pods stay enrolled without their agent.
pub async fn run(settings: Settings, log: LogHandle) -> Result<(), AgentError> {
    let (metrics, readiness, quit) = (Metrics::new(), Readiness::new(), Quit::new());
    log.register(&metrics);
    let addresses = Addresses { admin: vec![settings.admin], ..Addresses::default() };
    let admin = Admin::new(readiness.clone(), metrics.clone(), log, quit.clone());
    let _serving = admin.serve(&addresses).await?;
    let listed = readiness.hold("first listing of objects");
    let listening = readiness.hold("socket for the ztunnel");

    let Started { mut events, status, rescan: _rescan } =
        settings.origin.open().await.map_err(AgentError::Source)?;
    let node = Node::new(
        settings.redirector,
        settings.netns_dir,
        settings.check,
        AgentMetrics::new(&metrics),
        Arc::clone(&status),
    );
    let (handover, prepared) = prepare();
    let looks = Readiness::new();
    let mut lives = Lives {
        planner: Planner::new(&settings.node),
        node: Arc::new(node),
        handover,
        wanted: BTreeMap::new(),
        looks: looks.clone(),
    };
    let (begun, settled) = oneshot::channel();
    let (failed, mut failure) = mpsc::channel(1);
    spawn("zds server", serve(prepared, settings.socket, settled_after(settled, looks), (failed, listening)));
    let mut start = Some((begun, listed));
    info!(node = settings.node, "node agent started");
    let stop = signal::shutdown_or(&quit);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            cause = &mut stop => {
                info!(%cause, "node agent stops; pods stay enrolled");
                return Ok(());
            }
            Some(error) = failure.recv() => return Err(AgentError::Socket(error)),
            event = events.recv() => {
                let event = event.ok_or(AgentError::SourceEnded)?;
                lives.take(&event).await;
                let done = start.take_if(|_| event == SourceEvent::InitDone);
                if let Some((begun, _listed)) = done {
                    // The receiver waits for this alone.
                    let _ = begun.send(());
                }
            }
        }
    }
}

/// Serves ztunnels once the pods have had their first look, so that the first list they are told is complete.
async fn serve(
    mut prepared: Prepared,
    socket: PathBuf,
    settled: impl Future<Output = ()>,
    (failed, listening): (mpsc::Sender<io::Error>, Hold),
) {
    prepared.collect(settled).await;
    match prepared.listen(&socket) {
        Ok(server) => {
            info!(socket = %socket.display(), "waiting for ztunnels");
            drop(listening);
            server.run().await;
        }
        Err(error) => {
            // The main loop ends on this; if it has ended already, nobody needs to know.
            let _ = failed.send(error).await;
        }
    }
}

async fn settled_after(begun: oneshot::Receiver<()>, looks: Readiness) {
    if begun.await.is_err() {
        return;
    }
    let all = async {
        while !looks.is_ready() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(FIRST_LOOK, all).await.is_err() {
        warn!(pods = ?looks.pending(), "some pods could not be looked at in time; ztunnels are served without them");
    }
}

impl Lives {
    async fn take(&mut self, event: &SourceEvent) {
        if let SourceEvent::Reported(fault) = event {
            tracing::debug!(?fault, "reported by the source");
        }
        for change in self.planner.take(event) {
            self.change(change).await;
        }
    }

    async fn change(&mut self, Change { pod, wanted }: Change) {
        if wanted == Wanted::Gone {
            // Here and not in the pod's own life: a successor of the same name must not lose its annotation to it.
            self.node.annotate(&pod, None).await;
            if let Some(sender) = self.wanted.remove(&pod.uid) {
                sender.send_replace(wanted);
            }
            return;
        }
        match self.wanted.get(&pod.uid) {
            Some(sender) => {
                sender.send_replace(wanted);
            }
            None => self.begin(pod, wanted),
        }
    }

    fn begin(&mut self, pod: Identity, wanted: Wanted) {
        let (sender, follow) = watch::channel(wanted);
        self.wanted.insert(pod.uid.clone(), sender);
        let first = self.looks.hold(pod.uid.to_string());
        spawn("pod", live(pod, follow, Arc::clone(&self.node), self.handover.clone(), first));
    }
}
