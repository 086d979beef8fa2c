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
    /// The cluster: the mesh leaves when the agent's DaemonSet is gone or going, or no longer selects this node.
    #[cfg(feature = "kubernetes")]
    Asked {
        /// The DaemonSet's namespace.
        namespace: String,
        /// Its name.
        daemon_set: String,
        /// This node.
        node: String,
    },
}

impl OnStop {
    /// What this stop means. Nothing is taken away on a guess: where the cluster does not answer, everything stays.
    pub async fn decide(&self) -> Stop {
        match self {
            Self::Always(stop) => *stop,
            #[cfg(feature = "kubernetes")]
            Self::Asked { namespace, daemon_set, node } => asked::decide(namespace, daemon_set, node).await,
        }
    }
}

#[cfg(feature = "kubernetes")]
mod asked {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use ambit_crds::kubernetes::{client, kube};
    use kube::Api;
    use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
    use serde_json::Value;
    use tokio::time::timeout;
    use tracing::warn;

    use super::Stop;

    /// How long the API server may take.
    const PATIENCE: Duration = Duration::from_secs(5);

    pub(super) async fn decide(namespace: &str, daemon_set: &str, node: &str) -> Stop {
        match timeout(PATIENCE, is_going(namespace, daemon_set, node)).await {
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

    async fn is_going(namespace: &str, daemon_set: &str, node: &str) -> Result<bool, kube::Error> {
        let client = client().await.map_err(|error| kube::Error::Service(error.into()))?;
        let resource = |group, kind| ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        let sets: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), namespace, &resource("apps", "DaemonSet"));
        let set = sets.get_opt(daemon_set).await?.filter(|set| !is_deleted(set));
        let Some(set) = set else { return Ok(true) };
        let namespaces: Api<DynamicObject> = Api::all_with(client.clone(), &resource("", "Namespace"));
        if namespaces.get_opt(namespace).await?.is_none_or(|namespace| is_deleted(&namespace)) {
            return Ok(true);
        }
        let nodes: Api<DynamicObject> = Api::all_with(client, &resource("", "Node"));
        let node = nodes.get_opt(node).await?;
        Ok(node.is_some_and(|node| !selects(&set.data, &node.metadata.labels.unwrap_or_default())))
    }

    fn is_deleted(object: &DynamicObject) -> bool {
        object.metadata.deletion_timestamp.is_some()
    }

    /// Whether a DaemonSet's pods may run on a node with these labels, as far as its node selector says.
    fn selects(set: &Value, labels: &BTreeMap<String, String>) -> bool {
        let selector = set["spec"]["template"]["spec"]["nodeSelector"].as_object();
        let mut wanted = selector.into_iter().flatten();
        wanted.all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
    }

    #[cfg(test)]
    mod tests {
        use serde_json::json;

        use super::*;

        #[test]
        fn a_node_selector_is_all_or_nothing() {
            let labels =
                [("os", "linux"), ("mesh", "yes")].map(|(key, value)| (key.to_owned(), value.to_owned()));
            let labels = BTreeMap::from(labels);
            let set = |selector| json!({"spec": {"template": {"spec": {"nodeSelector": selector}}}});
            let rows = [
                (json!(null), true),
                (json!({}), true),
                (json!({"os": "linux"}), true),
                (json!({"os": "linux", "mesh": "yes"}), true),
                (json!({"os": "linux", "mesh": "no"}), false),
                (json!({"other": "linux"}), false),
            ];
            for (selector, expected) in rows {
                assert_eq!(selects(&set(selector.clone()), &labels), expected, "{selector}");
            }
        }
    }
}
