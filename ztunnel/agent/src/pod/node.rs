//! What the pods of a node share: the tools, where to write back, the counters.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ambit_crds::enrolment::REDIRECTION;
use ambit_crds::meta::ObjectRef;
use ambit_crds::status::{Event, EventSeverity, StatusWriter};
use tokio::sync::Semaphore;

use crate::enrol::Identity;
use crate::metrics::{AgentMetrics, Failure};
use crate::networks::Networks;
use crate::pod::trouble::Trouble;
use crate::probes::Probes;
use crate::redirect::apply::Redirector;

/// How many pods' networks are worked on at once.
const AT_ONCE: usize = 4;

/// What a pod's annotation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirection {
    /// It is redirected and served.
    Enabled,
    /// It belongs to the mesh and is not served yet.
    Pending,
}

/// What works on networks.
#[derive(Debug)]
pub struct Tools {
    /// Writes rules into pods.
    pub redirector: Redirector,
    /// Where pods' networks are found.
    pub networks: Networks,
    /// The kubelet's way to pods.
    pub probes: Probes,
}

/// What every life on this node uses.
pub struct Node {
    /// The tools for redirection.
    pub redirector: Redirector,
    /// Where pods' networks are found.
    pub networks: Networks,
    /// The kubelet's way to pods.
    pub probes: Probes,
    /// How often rules are compared with what was written.
    pub check: Duration,
    /// The counters.
    pub metrics: AgentMetrics,
    status: Arc<dyn StatusWriter>,
    turns: Semaphore,
}

impl Redirection {
    fn text(self) -> &'static str {
        match self {
            Redirection::Enabled => "enabled",
            Redirection::Pending => "pending",
        }
    }
}

impl Node {
    /// Gathers what the lives need.
    pub fn new(tools: Tools, check: Duration, metrics: AgentMetrics, status: Arc<dyn StatusWriter>) -> Self {
        let Tools { redirector, networks, probes } = tools;
        Self { redirector, networks, probes, check, metrics, status, turns: Semaphore::new(AT_ONCE) }
    }

    /// Runs what blocks (programs, namespaces, files) on a thread of its own, a few at a time.
    pub async fn blocking<T: Send + 'static>(
        node: &Arc<Self>,
        action: impl FnOnce(&Node) -> T + Send + 'static,
    ) -> Result<T, Trouble> {
        let _turn = node.turns.acquire().await.map_err(|_| Trouble::Ended)?;
        let shared = Arc::clone(node);
        tokio::task::spawn_blocking(move || action(&shared)).await.map_err(|_| Trouble::Ended)
    }

    /// Sets or removes a pod's annotation; says whether it is written.
    pub async fn annotate(self: &Arc<Self>, pod: &Identity, redirection: Option<Redirection>) -> bool {
        let object = pod.object.clone();
        let value = redirection.map(Redirection::text);
        let written =
            Self::blocking(self, move |node| node.status.annotate(&object, REDIRECTION, value)).await;
        match written {
            Ok(Ok(())) => true,
            // Its annotations went with it.
            Ok(Err(error)) if redirection.is_none() && error.kind() == io::ErrorKind::NotFound => true,
            Ok(Err(error)) => {
                self.metrics.failed(Failure::WriteBack);
                tracing::error!(pod = %pod.object, %error, "cannot write the pod's annotation");
                false
            }
            Err(_) => false,
        }
    }

    /// Tells a pod's owner what is in the way.
    pub async fn tell(self: &Arc<Self>, pod: &Identity, trouble: &Trouble) {
        if let Trouble::Ended = trouble {
            return;
        }
        self.report(pod.object.clone(), trouble.reason(), trouble.to_string()).await;
    }

    /// Tells a pod's owner that its start waits for the mesh.
    pub async fn tell_waiting(self: &Arc<Self>, object: ObjectRef, reason: String) {
        self.report(object, "WaitingForMesh", reason).await;
    }

    async fn report(self: &Arc<Self>, object: ObjectRef, reason: &str, message: String) {
        let severity = EventSeverity::Warning;
        let event = Event { object: object.clone(), reason: reason.to_owned(), message, severity };
        if let Ok(Err(error)) = Self::blocking(self, move |node| node.status.event(&event)).await {
            self.metrics.failed(Failure::WriteBack);
            tracing::error!(pod = %object, %error, "cannot write an event");
        }
    }
}
