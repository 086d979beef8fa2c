//! What a stop means: the agent is started anew, or the mesh leaves the node.

/// What happens to pods and node when the agent stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// They stay as they are: somebody starts the agent again.
    Stay,
    /// The mesh leaves them.
    Leave,
}

/// Who decides it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// Whoever started the agent.
    Always(Stop),
    /// The cluster: the mesh leaves when the agent's DaemonSet is gone or going.
    #[cfg(feature = "kubernetes")]
    Asked {
        /// The DaemonSet's namespace.
        namespace: String,
        /// Its name.
        daemon_set: String,
    },
}

impl OnStop {
    /// What this stop means. Nothing is taken away on a guess: where the cluster does not answer, everything stays.
    pub async fn decide(&self) -> Stop {
        match self {
            Self::Always(stop) => *stop,
            #[cfg(feature = "kubernetes")]
            Self::Asked { namespace, daemon_set } => asked::decide(namespace, daemon_set).await,
        }
    }
}

#[cfg(feature = "kubernetes")]
mod asked {
    use std::time::Duration;

    use ambit_crds::kubernetes::{client, kube};
    use kube::Api;
    use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
    use tokio::time::timeout;
    use tracing::warn;

    use super::Stop;

    /// How long the API server may take.
    const PATIENCE: Duration = Duration::from_secs(5);

    pub(super) async fn decide(namespace: &str, daemon_set: &str) -> Stop {
        match timeout(PATIENCE, is_going(namespace, daemon_set)).await {
            Ok(Ok(true)) => Stop::Leave,
            Ok(Ok(false)) => Stop::Stay,
            Ok(Err(error)) => {
                warn!(%error, "it cannot be told whether the mesh leaves this node; everything stays");
                Stop::Stay
            }
            Err(_) => {
                warn!("the API server does not say whether the mesh leaves this node; everything stays");
                Stop::Stay
            }
        }
    }

    async fn is_going(namespace: &str, daemon_set: &str) -> Result<bool, kube::Error> {
        let client = client().await.map_err(|error| kube::Error::Service(error.into()))?;
        let namespaces = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Namespace"));
        let daemon_sets = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "DaemonSet"));
        let of: Api<DynamicObject> = Api::all_with(client.clone(), &namespaces);
        let sets: Api<DynamicObject> = Api::namespaced_with(client, namespace, &daemon_sets);
        let going = |object: Option<DynamicObject>| {
            object.is_none_or(|object| object.metadata.deletion_timestamp.is_some())
        };
        Ok(going(sets.get_opt(daemon_set).await?) || going(of.get_opt(namespace).await?))
    }
}
