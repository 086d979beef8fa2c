//! `ambit uninstall`: pods leave the mesh first, then its programs go; what people wrote stays unless it is purged.
//!
//! Nodes let their pods go → controller → waypoints → ztunnel and the rest → certificates → (purged: definitions, classes,
//! the authority's key, the namespace) → what is left is told.

mod left;
#[cfg(test)]
mod tests;

use std::time::Duration;

use ambit_process::settings::parse_duration;
use clap::Args;
use serde_json::Value;

use crate::chart;
use crate::cluster::{Cluster, Resource, To, kinds, label, name, told};
use crate::failure::{End, Failure};
use crate::install::{Waiter, ours};
use crate::output;
use crate::version::{MANAGED, MANAGED_BY_US};
use left::Left;

/// What is asked.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Remove the definitions of Istio's kinds too, and with them every object of these kinds; the certificate authority's
    /// key; GatewayClasses; and the namespace. Gateway API's definitions always stay.
    #[arg(long)]
    purge: bool,
    /// Go on though the agent of a node does not let its pods go: they stay redirected until they are replaced.
    #[arg(long)]
    force: bool,
    /// How long nodes may take to let their pods go.
    #[arg(long, value_parser = parse_duration, default_value = "3m", value_name = "DURATION")]
    timeout: Duration,
    #[command(flatten)]
    to: To,
}

/// What makes up an installation, in the order in which it goes. The node agent and the controller have gone before.
const PARTS: [&Resource; 14] = [
    &kinds::DAEMON_SET,
    &kinds::DEPLOYMENT,
    &kinds::DISRUPTION_BUDGET,
    &kinds::NETWORK_POLICY,
    &kinds::RESOURCE_QUOTA,
    &kinds::ADMISSION_BINDING,
    &kinds::ADMISSION_POLICY,
    &kinds::SERVICE,
    &kinds::CONFIG_MAP,
    &kinds::ROLE_BINDING,
    &kinds::ROLE,
    &kinds::CLUSTER_ROLE_BINDING,
    &kinds::CLUSTER_ROLE,
    &kinds::SERVICE_ACCOUNT,
];

/// What the controller makes for a Gateway.
const DEPLOYED: [&Resource; 5] = [
    &kinds::AUTOSCALER,
    &kinds::DISRUPTION_BUDGET,
    &kinds::DEPLOYMENT,
    &kinds::SERVICE,
    &kinds::SERVICE_ACCOUNT,
];

/// Ends 0 when all is gone that was to go, 1 when pods are left in the mesh, 2 when it could not be done.
pub(crate) fn run(arguments: &Arguments) -> Result<End, Failure> {
    let cluster = arguments.to.open()?;
    let uninstall = Uninstall { cluster: &cluster };
    uninstall.may_begin(arguments.purge)?;
    if let Err(failure) = uninstall.nodes(arguments.timeout) {
        match arguments.force {
            true => eprintln!("ambit: {failure}; going on, as --force says"),
            false => return Err(failure),
        }
    }
    uninstall.programs(arguments.timeout)?;
    if arguments.purge {
        uninstall.purge()?;
    }
    let left = Left::look(&cluster)?;
    output::print(&left, output::Format::Table)?;
    Ok(left.end())
}

struct Uninstall<'a> {
    cluster: &'a Cluster,
}

impl Uninstall<'_> {
    /// Whether this is ours to remove.
    fn may_begin(&self, purge: bool) -> Result<(), Failure> {
        let controller = self.get(&kinds::DEPLOYMENT, chart::NAMESPACE, "ambit-controller")?;
        let helms =
            controller.as_ref().and_then(|held| label(held, "app.kubernetes.io/managed-by")) == Some("Helm");
        if helms {
            let mend = "remove it the same way: helm uninstall ambit -n ambit-system";
            return Err(Failure::new("this installation is Helm's", mend));
        }
        let istiod = self.list(&kinds::DEPLOYMENT, "", "app=istiod")?;
        match istiod.first() {
            Some(istiod) if purge => Err(Failure::new(
                format!("{} uses the definitions that --purge would remove", told(istiod)),
                format!("uninstall Ambit alone: ambit uninstall{}", self.cluster.flags),
            )),
            _ => Ok(()),
        }
    }

    /// Agents take their pods out of the mesh when their DaemonSet goes, and put the nodes' files back.
    fn nodes(&self, timeout: Duration) -> Result<(), Failure> {
        // Nobody is told of errors by a controller that goes.
        self.remove_all(&kinds::WEBHOOK, "", chart::LABELS)?;
        let Some(agents) = self.get(&kinds::DAEMON_SET, chart::NAMESPACE, "ambit-node")? else {
            return Ok(());
        };
        self.remove(&agents)?;
        self.until_gone("ambit-node", timeout)
    }

    fn programs(&self, timeout: Duration) -> Result<(), Failure> {
        // While it lives it makes anew what is removed.
        if let Some(controller) = self.get(&kinds::DEPLOYMENT, chart::NAMESPACE, "ambit-controller")? {
            self.remove(&controller)?;
            self.until_gone("ambit-controller", timeout)?;
        }
        let managed = format!("{MANAGED}={MANAGED_BY_US}");
        for kind in DEPLOYED {
            self.remove_all(kind, "", &managed)?;
        }
        for kind in PARTS {
            self.remove_all(kind, chart::NAMESPACE, chart::LABELS)?;
        }
        self.remove_all(&kinds::CONFIG_MAP, "", "app.kubernetes.io/managed-by=ambit-controller")?;
        if let Some(lease) = self.get(&kinds::LEASE, chart::NAMESPACE, "ambit-controller")? {
            self.remove(&lease)?;
        }
        Ok(())
    }

    fn purge(&self) -> Result<(), Failure> {
        for definition in ours() {
            let held = self.get(&kinds::DEFINITION, "", name(&definition))?;
            let is_ours = |held: &Value| label(held, "app.kubernetes.io/part-of") == Some("ambit");
            if let Some(held) = held.filter(is_ours) {
                self.remove(&held)?;
            }
        }
        for class in self.list(&kinds::GATEWAY_CLASS, "", "")? {
            if class["spec"]["controllerName"] == "ambit.mesh/controller" {
                self.remove(&class)?;
            }
        }
        let key = self.get(&kinds::SECRET, chart::NAMESPACE, "ambit-ca-secret")?;
        let namespace = self.get(&kinds::NAMESPACE, "", chart::NAMESPACE)?;
        key.iter().chain(&namespace).try_for_each(|object| self.remove(object))
    }

    fn get(&self, kind: &Resource, namespace: &str, name: &str) -> Result<Option<Value>, Failure> {
        let held = self.cluster.get(kind, namespace, name);
        held.map_err(|refused| self.cluster.failed(&format!("{} {name}", kind.kind.to_lowercase()), &refused))
    }

    fn list(&self, kind: &Resource, namespace: &str, labels: &str) -> Result<Vec<Value>, Failure> {
        let held = self.cluster.list(kind, namespace, labels);
        held.map_err(|refused| self.cluster.failed(&format!("list of {}", kind.plural()), &refused))
    }

    fn remove_all(&self, kind: &Resource, namespace: &str, labels: &str) -> Result<(), Failure> {
        self.list(kind, namespace, labels)?.iter().try_for_each(|object| self.remove(object))
    }

    fn remove(&self, object: &Value) -> Result<(), Failure> {
        let gone = self.cluster.delete(object);
        match gone.map_err(|refused| self.cluster.failed(&told(object), &refused))? {
            true => output::line(&format!("removed    {}", told(object))),
            false => Ok(()),
        }
    }

    fn until_gone(&self, app: &str, timeout: Duration) -> Result<(), Failure> {
        let lags = || {
            let pods = self.list(&kinds::POD, chart::NAMESPACE, &format!("app={app}"))?;
            Ok(pods.iter().map(|pod| format!("pod {} is still there", name(pod))).collect())
        };
        Waiter::new(self.cluster, timeout).until_nothing_lags(lags).map_err(|lags| {
            let says = format!("not gone after {} s: {}", timeout.as_secs(), lags.join("; "));
            let flags = &self.cluster.flags;
            let mend = format!(
                "see why: kubectl{flags} logs -n {} -l app={app}; or go on without: ambit uninstall --force{flags}",
                chart::NAMESPACE
            );
            Failure::new(says, mend)
        })
    }
}
