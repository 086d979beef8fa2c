//! `ambit check`: what would break an installation, or breaks it, each with its mend.
//!
//! Every finding is a pure function of objects of the cluster; this file says which are asked, and tells what was found.

mod definitions;
mod health;
mod meshes;
mod network;
mod nodes;
mod rights;

#[cfg(test)]
mod tests;

use clap::Args;
use serde::Serialize;

use crate::cluster::{Cluster, Refused, Resource, To, kinds};
use crate::failure::{End, Failure};
use crate::output::{self, Output, Page, Show};

/// What is asked.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Before an installation: whether the cluster can take one, and whether you may make it.
    #[arg(long)]
    pre: bool,
    #[command(flatten)]
    to: To,
    #[command(flatten)]
    output: Output,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    /// It does not work like this.
    Error,
    /// Something will not work as somebody may expect.
    Warning,
    /// It is as it should be.
    Ok,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    severity: Severity,
    says: String,
    /// The change or the command that mends it; none where nothing has to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

/// All of them, the worst first.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Findings(Vec<Finding>);

/// Ends 0 when nothing is an error, 1 when something is, 2 when that cannot be told.
pub(crate) fn run(arguments: &Arguments) -> Result<End, Failure> {
    let cluster = arguments.to.open()?;
    let findings = look(&cluster, arguments.pre)?;
    output::print(&findings, arguments.output.format)?;
    Ok(findings.end())
}

fn look(cluster: &Cluster, pre: bool) -> Result<Findings, Failure> {
    let version = cluster.read("/version").map_err(|refused| cluster.failed("/version", &refused))?;
    let list = |kind: &Resource| {
        let held = cluster.list(kind, "", "");
        held.map_err(|refused| cluster.failed(&format!("list of {}", kind.plural()), &refused))
    };
    let (daemons, deployments) = (list(&kinds::DAEMON_SET)?, list(&kinds::DEPLOYMENT)?);
    let namespaces = list(&kinds::NAMESPACE)?;
    let mut findings = vec![nodes::version(&version)];
    findings.extend(nodes::nodes(&list(&kinds::NODE)?));
    findings.extend(nodes::network(&daemons, &cluster_config(cluster)?));
    findings.extend(nodes::namespace(&namespaces));
    findings.extend(definitions::definitions(&list(&kinds::DEFINITION)?, pre));
    findings.extend(meshes::meshes(&deployments, &daemons, &namespaces));
    findings.extend(network::policies(&namespaces, &list(&kinds::NETWORK_POLICY)?));
    match pre {
        true => findings.extend(rights::rights(cluster)?),
        false => findings.extend(health::health(cluster, &namespaces)?),
    }
    findings.sort_by_key(|finding| finding.severity);
    Ok(Findings(findings))
}

/// What is wrong with an installation as it is.
pub(crate) fn unwell(cluster: &Cluster) -> Result<Vec<String>, Failure> {
    let namespaces = cluster.list(&kinds::NAMESPACE, "", "");
    let namespaces = namespaces.map_err(|refused| cluster.failed("namespaces", &refused))?;
    let findings = health::health(cluster, &namespaces)?;
    Ok(findings.into_iter().filter(|finding| finding.severity != Severity::Ok).map(Finding::told).collect())
}

/// Cilium's configuration, where there is one that may be read.
fn cluster_config(cluster: &Cluster) -> Result<Option<serde_json::Value>, Failure> {
    match cluster.get(&kinds::CONFIG_MAP, "kube-system", "cilium-config") {
        Ok(held) => Ok(held),
        Err(Refused { code: 403, .. }) => Ok(None),
        Err(refused) => Err(cluster.failed("configmap kube-system/cilium-config", &refused)),
    }
}

impl Finding {
    fn ok(says: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, says: says.into(), mend: None }
    }

    fn warning(says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, says: says.into(), mend: Some(mend.into()) }
    }

    fn error(says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { severity: Severity::Error, ..Self::warning(says, mend) }
    }

    fn told(self) -> String {
        match self.mend {
            Some(mend) => format!("{}; {mend}", self.says),
            None => self.says,
        }
    }
}

impl Findings {
    fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|finding| finding.severity == severity).count()
    }

    fn end(&self) -> End {
        if self.count(Severity::Error) > 0 { End::No } else { End::Yes }
    }
}

impl Show for Findings {
    fn show(&self, page: &mut Page) {
        for finding in &self.0 {
            let word = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Ok => "ok",
            };
            page.line(&format!("{word:<8} {}", finding.clone().told()));
        }
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        page.line(&match (errors, warnings) {
            (0, 0) => "nothing is wrong".to_owned(),
            _ => format!("{errors} errors and {warnings} warnings"),
        });
    }
}
