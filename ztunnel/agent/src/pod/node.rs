//! What the pods of a node share: the tools, where to write back, the counters.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ambit_crds::enrolment::REDIRECTION;
use ambit_crds::status::{Event, EventSeverity, StatusWriter};
use tokio::sync::Semaphore;

use crate::enrol::Identity;
use crate::metrics::{AgentMetrics, Failure};
use crate::pod::trouble::Trouble;
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

/// What every life on this node uses.
pub struct Node {
    /// The tools for redirection.
    pub redirector: Redirector,
    /// Where pods' networks are mounted, by UID.
    pub netns_dir: PathBuf,
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
    pub fn new(
        redirector: Redirector,
        netns_dir: PathBuf,
        check: Duration,
        metrics: AgentMetrics,
        status: Arc<dyn StatusWriter>,
    ) -> Self {
        Self { redirector, netns_dir, check, metrics, status, turns: Semaphore::new(AT_ONCE) }
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
        let event = Event {
            object: pod.object.clone(),
            reason: trouble.reason().to_owned(),
            message: trouble.to_string(),
            severity: EventSeverity::Warning,
        };
        if let Ok(Err(error)) = Self::blocking(self, move |node| node.status.event(&event)).await {
            self.metrics.failed(Failure::WriteBack);
            tracing::error!(pod = %pod.object, %error, "cannot write an event");
        }
    }
}
