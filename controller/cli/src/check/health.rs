//! An installation as it is: whether its programs are ready, of one version, on every node, and have every pod.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Finding;
use crate::chart;
use crate::cluster::{Cluster, kinds, label, name, namespace, told};
use crate::enroll;
use crate::failure::Failure;
use crate::install::{lagging, trouble};
use crate::version::{self, MANAGED, MANAGED_BY_US, PROGRAMS};
use crate::waypoint;

/// Everything about the installation.
pub(super) fn health(cluster: &Cluster, namespaces: &[Value]) -> Result<Vec<Finding>, Failure> {
    let failed = |what: &'static str| move |refused| cluster.failed(what, &refused);
    let get = |kind, name: &str| cluster.get(kind, chart::NAMESPACE, name);
    let mut programs = Vec::new();
    for (kind, name) in [
        (&kinds::DEPLOYMENT, "ambit-controller"),
        (&kinds::DAEMON_SET, "ambit-node"),
        (&kinds::DAEMON_SET, "ztunnel"),
    ] {
        match get(kind, name).map_err(failed(name))? {
            Some(held) => programs.push(held),
            None => {
                let says = format!("there is no {} {}/{name}", kind.kind.to_lowercase(), chart::NAMESPACE);
                return Ok(vec![Finding::error(says, format!("ambit install{}", cluster.flags))]);
            }
        }
    }
    let pods = cluster.list(&kinds::POD, "", "").map_err(failed("pods"))?;
    let nodes = cluster.list(&kinds::NODE, "", "").map_err(failed("nodes"))?;
    let policies =
        cluster.list(&kinds::AUTHORIZATION_POLICY, "", "").map_err(failed("AuthorizationPolicies"))?;
    let webhook = cluster.get(&kinds::WEBHOOK, "", "ambit-validation").map_err(failed("ambit-validation"))?;
    let mut findings: Vec<Finding> = programs.iter().map(|one| program(one, &pods, cluster)).collect();
    findings.push(versions(&pods));
    findings.extend(uncovered(&nodes, &pods));
    findings.extend(webhook.as_ref().and_then(unarmed));
    findings.extend(enrolment(namespaces, &pods));
    findings.extend(unenforced(&policies));
    findings.extend(
        waypoint::waypoints(cluster, "")?.iter().filter_map(|gateway| unprogrammed(gateway, cluster)),
    );
    Ok(findings)
}

fn program(held: &Value, pods: &[Value], cluster: &Cluster) -> Finding {
    let Some(lag) = lagging(held) else { return Finding::ok(format!("{} is ready", told(held))) };
    let own =
        pods.iter().filter(|pod| namespace(pod) == chart::NAMESPACE && label(pod, "app") == Some(name(held)));
    let troubles: Vec<String> = own.filter_map(trouble).collect();
    let why = if troubles.is_empty() { String::new() } else { format!(" ({})", troubles.join("; ")) };
    let mend = format!(
        "see why: kubectl{} logs -n {} -l app={} --tail 20",
        cluster.flags,
        chart::NAMESPACE,
        name(held)
    );
    Finding::error(format!("{}: {lag}{why}", told(held)), mend)
}

/// Control plane and data plane belong together.
fn versions(pods: &[Value]) -> Finding {
    let mut by_version: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for pod in pods {
        let app = label(pod, "app").filter(|_| namespace(pod) == chart::NAMESPACE);
        let own = PROGRAMS.iter().find(|(known, _)| Some(*known) == app).map(|(_, program)| *program);
        let waypoint = (label(pod, MANAGED) == Some(MANAGED_BY_US)).then_some("waypoint");
        if let Some(program) = own.or(waypoint) {
            by_version.entry(version::of(pod)).or_default().insert(program);
        }
    }
    let told: Vec<String> = by_version
        .iter()
        .map(|(version, programs)| {
            format!("{version}: {}", programs.iter().copied().collect::<Vec<_>>().join(", "))
        })
        .collect();
    match by_version.len() {
        0 | 1 => Finding::ok(format!("one version ({})", told.join("; "))),
        _ => Finding::warning(
            format!("several versions ({})", told.join("; ")),
            "finish the upgrade: ambit install",
        ),
    }
}

/// Nodes without a ready ztunnel or agent.
fn uncovered(nodes: &[Value], pods: &[Value]) -> Vec<Finding> {
    let is_ready = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
    };
    let has = |node: &Value, app: &str| {
        pods.iter().any(|pod| {
            label(pod, "app") == Some(app)
                && namespace(pod) == chart::NAMESPACE
                && pod["spec"]["nodeName"] == name(node)
                && is_ready(pod)
        })
    };
    let linux = nodes.iter().filter(|node| label(node, "kubernetes.io/os").is_none_or(|os| os == "linux"));
    let mut findings = Vec::new();
    for node in linux.filter(|node| is_ready(node)) {
        for app in ["ambit-node", "ztunnel"].into_iter().filter(|app| !has(node, app)) {
            findings.push(Finding::error(
                format!("node {} has no ready {app}: its pods cannot be in the mesh", name(node)),
                format!(
                    "see why: kubectl get pods -n {} -l app={app} --field-selector spec.nodeName={}",
                    chart::NAMESPACE,
                    name(node)
                ),
            ));
        }
    }
    findings
}

/// A webhook without a certificate is never asked.
fn unarmed(webhook: &Value) -> Option<Finding> {
    let hooks = webhook["webhooks"].as_array().into_iter().flatten();
    let bare = hooks.filter(|one| one["clientConfig"]["caBundle"].as_str().is_none_or(str::is_empty)).count();
    (bare > 0).then(|| {
        Finding::warning(
            "the webhook has no certificate yet: wrong objects are not refused, only told of in their status",
            format!("see why: kubectl logs -n {} -l app=ambit-controller --tail 20", chart::NAMESPACE),
        )
    })
}

/// Pods that ask for the mesh and are not in it.
fn enrolment(namespaces: &[Value], pods: &[Value]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in namespaces {
        let own: Vec<&Value> = pods.iter().filter(|pod| namespace(pod) == name(one)).collect();
        let (inside, late) = enroll::counted(one, own.into_iter());
        if !late.is_empty() {
            findings.push(Finding::warning(
                format!(
                    "namespace {}: not in the mesh yet, though they ask for it: {}",
                    name(one),
                    late.join(", ")
                ),
                format!("see why: kubectl logs -n {} -l app=ambit-node --tail 20", chart::NAMESPACE),
            ));
        } else if inside > 0 {
            findings.push(Finding::ok(format!("namespace {}: {inside} pods are in the mesh", name(one))));
        }
    }
    findings
}

/// A waypoint that carries nothing.
fn unprogrammed(gateway: &Value, cluster: &Cluster) -> Option<Finding> {
    let programmed = waypoint::condition(gateway, "Programmed");
    if programmed.is_some_and(|one| one["status"] == "True") {
        return None;
    }
    let message =
        programmed.and_then(|one| one["message"].as_str()).unwrap_or("no controller has taken it up");
    let mend = format!("see why: ambit waypoint status -n {}{}", namespace(gateway), cluster.flags);
    Some(Finding::warning(format!("{} is not ready: {message}", told(gateway)), mend))
}

/// Policies that their status says are not in force; the message there ends with the mend.
fn unenforced(policies: &[Value]) -> Vec<Finding> {
    let verdict = |policy: &Value| {
        let conditions = policy["status"]["conditions"].as_array()?;
        conditions.iter().find(|one| one["type"] == "Enforced" && one["status"] == "False").cloned()
    };
    let told = |policy: &Value| {
        let verdict = verdict(policy)?;
        let (namespace, name) = (namespace(policy), name(policy));
        let message = verdict["message"].as_str().unwrap_or_default();
        let says = format!("authorizationpolicy {namespace}/{name} is not enforced: {message}");
        Some(Finding::warning(
            says,
            format!("see its status: kubectl describe -n {namespace} authorizationpolicy {name}"),
        ))
    };
    policies.iter().filter_map(told).collect()
}
