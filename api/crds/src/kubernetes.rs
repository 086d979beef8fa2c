//! The Kubernetes source: one watch per kind, read by the same readers as files.
//!
//! [`discovery`] (which kinds are served) → [`follow`] (one watch each) → [`store`] (what is in force, changes only) → the
//! channel; [`writer`] goes the other way. What is known stays in force while the API server is away.

mod arrival;
mod conditions;
mod discovery;
mod follow;
pub mod lease;
mod own;
pub mod roots;
pub mod secrets;
mod store;
pub mod tokens;
pub mod upkeep;
mod writer;

use std::io;
use std::sync::Arc;

use ambit_process::spawn::spawn;
use kube::Client;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

pub use kube;

pub(crate) use crate::gateway::MANAGED;
pub(crate) use crate::gateway_class::CONTROLLER_NAME;
use crate::kind::{Kind, Standing};
use crate::origin::View;
use crate::source::{Rescan, Source, SourceEvent, Started};
use discovery::Served;
use follow::Follower;
use store::{Store, Told};
use writer::{Known, Writer};

/// How many events wait for a slow reader before the source waits too.
const CHANNEL: usize = 1024;
/// How many changes of the watches wait for the store.
const TOLD: usize = 256;

/// A cluster.
pub struct KubernetesSource {
    /// The way to its API server.
    pub client: Client,
    /// What is read: for a mesh every kind it depends on, for a node namespaces and its own pods.
    pub view: View,
    /// Who writes back: field manager, and reporter of events.
    pub writer: String,
    /// Whether this process is the one that writes; without it, it always is.
    pub leading: Option<watch::Receiver<bool>>,
}

/// Asks for a new listing of everything.
struct Asker {
    tickets: watch::Sender<u64>,
}

impl KubernetesSource {
    /// A source that writes under the name of the program that has this view.
    pub fn new(client: Client, view: View, leading: Option<watch::Receiver<bool>>) -> Self {
        let writer = match &view {
            View::Mesh { .. } => "ambit-controller",
            View::Node(_) => "ambit-node-agent",
        };
        Self { client, view, writer: writer.to_owned(), leading }
    }
}

/// The kinds that are read.
fn kinds(view: &View) -> Vec<Kind> {
    match view {
        // What the lab expands into pods is pods here already.
        View::Mesh { .. } => Kind::all()
            .filter(|kind| kind.standing() != Standing::Ignored && *kind != Kind::StatefulSet)
            .collect(),
        View::Node(_) => vec![Kind::Namespace, Kind::Pod],
    }
}

/// The way to the cluster that this process runs in, or that `KUBECONFIG` names.
pub async fn client() -> io::Result<Client> {
    Client::try_default().await.map_err(io::Error::other)
}

impl Source for KubernetesSource {
    /// Must be called within a runtime.
    fn start(self: Box<Self>) -> io::Result<Started> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let kinds = kinds(&self.view);
        let (tickets, asked) = watch::channel(0);
        let (answers, served) = watch::channel(Arc::new(Served::default()));
        let (told, changes) = mpsc::channel(TOLD);
        let (sender, events) = mpsc::channel(CHANNEL);
        spawn(
            "kubernetes discovery",
            discovery::run(self.client.clone(), kinds.clone(), asked.clone(), answers),
        );
        for kind in &kinds {
            let follower = Follower {
                kind: *kind,
                client: self.client.clone(),
                view: self.view.clone(),
                served: served.clone(),
                tickets: asked.clone(),
                told: told.clone(),
                is_cut_off: false,
            };
            spawn("kubernetes watch", follower.run());
        }
        let known = Arc::new(Known::default());
        let closed = sender.clone();
        let status = Arc::new(Writer::new(*self, runtime, served, known.clone(), closed));
        spawn("kubernetes store", serve(kinds, changes, sender, known, status.clone()));
        Ok(Started { events, status, rescan: Arc::new(Asker { tickets }) })
    }
}

/// Turns what the watches tell into events until the reader is gone.
async fn serve(
    kinds: Vec<Kind>,
    mut changes: mpsc::Receiver<Told>,
    events: mpsc::Sender<SourceEvent>,
    known: Arc<Known>,
    status: Arc<Writer>,
) {
    let (mut store, begun) = Store::new(&kinds);
    if events.send(begun).await.is_err() {
        return;
    }
    loop {
        let told = tokio::select! {
            () = events.closed() => return,
            told = changes.recv() => told,
        };
        let Some(told) = told else { return };
        // The writer knows an object before its reader can ask to write about it.
        known.learn(&told);
        let outcomes = store.take(told);
        for event in outcomes.events {
            if events.send(event).await.is_err() {
                return;
            }
        }
        for (object, kept) in outcomes.keep {
            let status = status.clone();
            spawn("kubernetes last good", async move { status.keep(&object, kept.as_deref()).await });
        }
    }
}

impl Rescan for Asker {
    fn rescan(&self) -> u64 {
        let mut ticket = 0;
        self.tickets.send_modify(|last| {
            *last += 1;
            ticket = *last;
        });
        ticket
    }
}

#[cfg(test)]
mod tests;
