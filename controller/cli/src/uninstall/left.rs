//! What an uninstall leaves, and how to get rid of it.

use ambit_crds::enrolment::REDIRECTION;
use serde::Serialize;
use serde_json::Value;

use crate::chart;
use crate::cluster::{Cluster, Resource, annotation, kinds, label, name, namespace};
use crate::enroll;
use crate::failure::{End, Failure};
use crate::install::ours;
use crate::output::{Page, Show};

/// What is still there.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Left {
    /// Pods that are still redirected.
    pub(super) pods: Vec<String>,
    /// Namespaces that still ask for the mesh.
    pub(super) namespaces: Vec<String>,
    /// Gateways that were ours to serve.
    pub(super) gateways: Vec<String>,
    /// Definitions of Istio's kinds, and objects of these kinds.
    pub(super) definitions: usize,
    /// Whether the authority's key is there.
    pub(super) key: bool,
    /// Whether our namespace is there.
    pub(super) namespace: bool,
}

impl Left {
    /// Looks for it.
    pub(super) fn look(cluster: &Cluster) -> Result<Self, Failure> {
        let list = |kind: &Resource| {
            let held = cluster.list(kind, "", "");
            held.map_err(|refused| cluster.failed(&format!("list of {}", kind.plural()), &refused))
        };
        let get = |kind: &Resource, namespace: &str, name: &str| {
            let held = cluster.get(kind, namespace, name);
            held.map_err(|refused| cluster.failed(name, &refused))
        };
        let full = |object: &Value| format!("{}/{}", namespace(object), name(object));
        let redirected = |pod: &&Value| annotation(pod, REDIRECTION).is_some();
        let classes = ["ambit", "ambit-waypoint"];
        let is_ours = |one: &&Value| {
            one["spec"]["gatewayClassName"].as_str().is_some_and(|class| classes.contains(&class))
        };
        let known: Vec<Value> = ours();
        let definitions = list(&kinds::DEFINITION)?;
        let is_known = |one: &&Value| {
            let part = label(one, "app.kubernetes.io/part-of") == Some("ambit");
            part && one["metadata"]["deletionTimestamp"].is_null()
                && known.iter().any(|own| name(own) == name(one))
        };
        let namespaces = list(&kinds::NAMESPACE)?;
        let own = namespaces.iter().find(|one| name(one) == chart::NAMESPACE);
        Ok(Self {
            pods: list(&kinds::POD)?.iter().filter(redirected).map(full).collect(),
            namespaces: namespaces
                .iter()
                .filter(|one| enroll::is_enrolled(one))
                .map(|one| name(one).to_owned())
                .collect(),
            gateways: list(&kinds::GATEWAY)?.iter().filter(is_ours).map(full).collect(),
            definitions: definitions.iter().filter(is_known).count(),
            key: get(&kinds::SECRET, chart::NAMESPACE, "ambit-ca-secret")?.is_some(),
            namespace: own.is_some_and(|own| own["metadata"]["deletionTimestamp"].is_null()),
        })
    }

    /// 1 where pods cannot reach others any more, else 0.
    pub(super) fn end(&self) -> End {
        if self.pods.is_empty() { End::Yes } else { End::No }
    }
}

impl Show for Left {
    fn show(&self, page: &mut Page) {
        let mut lines = Vec::new();
        if !self.pods.is_empty() {
            let pods = self.pods.join(", ");
            lines.push(format!(
                "pods that no agent has let go, and that reach nobody until they are replaced: {pods}"
            ));
        }
        if !self.namespaces.is_empty() {
            let names = self.namespaces.join(" ");
            lines.push(format!("labels of namespaces that ask for the mesh: ambit unenroll {names}"));
        }
        if !self.gateways.is_empty() {
            lines.push(format!("Gateways, which nobody serves now: {}", self.gateways.join(", ")));
        }
        if self.definitions > 0 {
            let count = self.definitions;
            lines.push(format!(
                "{count} definitions of Istio's kinds, and the objects of these kinds: --purge"
            ));
        }
        if self.key {
            lines.push(
                "the certificate authority's key, secret ambit-system/ambit-ca-secret: --purge".to_owned(),
            );
        }
        if self.namespace {
            lines.push("namespace ambit-system: --purge".to_owned());
        }
        if lines.is_empty() {
            page.line("Ambit is uninstalled; nothing is left");
        } else {
            page.section("Ambit is uninstalled. Left:", |page| lines.iter().for_each(|line| page.line(line)));
        }
    }
}
