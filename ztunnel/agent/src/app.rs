//! The agent as a whole: objects in, one life for each pod of this node, the hand-over and the CNI plugin beside them.

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
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use crate::cni::install::Installation;
use crate::cni::server::{self as cni, Desk, Question};
use crate::enrol::Planner;
use crate::handover::server::{Prepared, prepare};
use crate::lives::Lives;
use crate::metrics::AgentMetrics;
use crate::pod::node::Node;
use crate::probes;
use crate::settings::{Plugin, Settings};
use crate::stop::Stop;

/// How long the pods' first looks may hold back the ztunnel's connection.
const FIRST_LOOK: Duration = Duration::from_secs(20);
/// How long pods may take to leave the mesh when it leaves the node.
const LEAVING: Duration = Duration::from_secs(40);
/// Questions of the CNI plugin that may wait.
const QUESTIONS: usize = 16;

/// Why the agent could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The objects cannot be read.
    #[error("cannot read objects: {0}")]
    Source(io::Error),
    /// The ztunnel's socket cannot be opened.
    #[error("cannot listen on the ztunnel's socket: {0}")]
    Socket(io::Error),
    /// The CNI plugin's socket cannot be opened.
    #[error("cannot listen on the CNI plugin's socket {}: {cause}", path.display())]
    Plugin {
        /// Where.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The admin address cannot be opened.
    #[error(transparent)]
    Admin(#[from] BindError),
    /// The source has ended.
    #[error("the source of objects has ended")]
    SourceEnded,
}

/// What the main loop listens to.
struct Inbox {
    events: mpsc::Receiver<SourceEvent>,
    questions: mpsc::Receiver<Question>,
    /// The ztunnel's socket has failed.
    failure: mpsc::Receiver<io::Error>,
}

/// The CNI plugin, and the task that keeps it where it belongs.
struct Installed {
    installation: Installation,
    socket: PathBuf,
    end: oneshot::Sender<()>,
    keeper: JoinHandle<()>,
}

/// Runs until it is told to stop. Rules stay in place then, pods stay enrolled without their agent, unless the mesh leaves
/// the node.
pub async fn run(settings: Settings, log: LogHandle) -> Result<(), AgentError> {
    let (metrics, readiness, quit) = (Metrics::new(), Readiness::new(), Quit::new());
    log.register(&metrics);
    let addresses = Addresses { admin: vec![settings.admin], ..Addresses::default() };
    let admin = Admin::new(readiness.clone(), metrics.clone(), log, quit.clone());
    let _serving = admin.serve(&addresses).await?;
    let listed = readiness.hold("first listing of objects");
    let listening = readiness.hold("socket for the ztunnel");

    let Started { events, status, rescan: _rescan } =
        settings.origin.open().await.map_err(AgentError::Source)?;
    let node = Arc::new(Node::new(settings.tools, settings.check, AgentMetrics::new(&metrics), status));
    let (handover, prepared) = prepare();
    let looks = Readiness::new();
    let planner = Planner::new(&settings.node);
    let mut lives = Lives::new(planner, Arc::clone(&node), handover, looks.clone());
    let (begun, settled) = oneshot::channel();
    let (failed, failure) = mpsc::channel(1);
    let settled = settled_after(settled, looks);
    spawn("zds server", serve(prepared, settings.socket, settled, (failed, listening), Arc::clone(&node)));
    let (asking, questions) = mpsc::channel(QUESTIONS);
    let plugin = settings.plugin.map(|plugin| start_plugin(plugin, &node, asking, &readiness)).transpose()?;
    let mut inbox = Inbox { events, questions, failure };
    let mut start = Some((begun, listed));
    info!(node = settings.node, "node agent started");
    let stop = signal::shutdown_or(&quit);
    tokio::pin!(stop);
    loop {
        let event = tokio::select! {
            cause = &mut stop => {
                return match settings.on_stop.decide().await {
                    Stop::Stay => {
                        info!(%cause, "node agent stops; pods stay enrolled");
                        Ok(())
                    }
                    Stop::Leave => leave(&mut lives, &mut inbox, &node, plugin).await,
                };
            }
            event = inbox.next(&mut lives) => event?,
        };
        let done = start.take_if(|_| event == Some(SourceEvent::InitDone));
        if let Some((begun, _listed)) = done {
            // The receiver waits for this alone.
            let _ = begun.send(());
        }
    }
}

impl Inbox {
    /// Lets the lives take the next thing that happens; returns it if it is an event of the source.
    async fn next(&mut self, lives: &mut Lives) -> Result<Option<SourceEvent>, AgentError> {
        tokio::select! {
            Some(error) = self.failure.recv() => Err(AgentError::Socket(error)),
            Some(question) = self.questions.recv() => {
                lives.ask(question);
                Ok(None)
            }
            event = self.events.recv() => {
                let event = event.ok_or(AgentError::SourceEnded)?;
                lives.take(&event).await;
                Ok(Some(event))
            }
        }
    }
}

/// The plugin's socket first, then its entry: whoever finds the entry finds somebody behind it.
fn start_plugin(
    plugin: Plugin,
    node: &Arc<Node>,
    questions: mpsc::Sender<Question>,
    readiness: &Readiness,
) -> Result<Installed, AgentError> {
    let Plugin { installation, socket } = plugin;
    let listener =
        cni::listen(&socket).map_err(|cause| AgentError::Plugin { path: socket.clone(), cause })?;
    let node = Arc::clone(node);
    let waiting = move |object: &_, reason: &str| {
        let (node, object, reason) = (Arc::clone(&node), Clone::clone(object), reason.to_owned());
        spawn("cni event", async move { node.tell_waiting(object, reason).await });
    };
    let within = installation.entry.within;
    spawn(
        "cni server",
        cni::serve(listener, Arc::new(Desk { questions, waiting: Box::new(waiting), within })),
    );
    let (end, ended) = oneshot::channel();
    let first = readiness.hold("CNI plugin in the runtime's chain");
    let keeper = spawn("cni installation", installation.clone().keep(first, ended));
    Ok(Installed { installation, socket, end, keeper })
}

/// The mesh leaves this node: no new pods, then none at all, then nothing of ours.
async fn leave(
    lives: &mut Lives,
    inbox: &mut Inbox,
    node: &Arc<Node>,
    plugin: Option<Installed>,
) -> Result<(), AgentError> {
    info!("the mesh leaves this node");
    if let Some(Installed { installation, socket, end, keeper }) = plugin {
        drop(end);
        // What it is about must be over before it is undone.
        let _ = keeper.await;
        let removed = tokio::task::spawn_blocking(move || installation.remove()).await;
        if let Ok(Err(error)) = removed {
            warn!(%error, "the CNI plugin could not be taken away");
        }
        // Whoever asked still has its connection.
        let _ = std::fs::remove_file(socket);
    }
    lives.leave().await;
    let deadline = Instant::now() + LEAVING;
    while lives.inside() > 0 {
        tokio::select! {
            () = sleep_until(deadline) => {
                warn!(pods = lives.inside(), "some pods could not be taken out of the mesh in time");
                break;
            }
            // Progress is looked at; it says nothing by itself.
            () = sleep(Duration::from_millis(50)) => {}
            event = inbox.next(lives) => drop(event?),
        }
    }
    if let Ok(Err(error)) = Node::blocking(node, |node| node.probes.remove()).await {
        warn!(%error, "the node's rules could not be taken away");
    }
    info!("the mesh has left this node");
    Ok(())
}

/// Serves ztunnels once the pods have had their first look, so that the first list they are told is complete.
async fn serve(
    mut prepared: Prepared,
    socket: PathBuf,
    settled: impl Future<Output = ()>,
    (failed, listening): (mpsc::Sender<io::Error>, Hold),
    node: Arc<Node>,
) {
    prepared.collect(settled).await;
    // Until now the rules of a former agent let the kubelet through.
    spawn("kubelet's way", probes::follow(node));
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
