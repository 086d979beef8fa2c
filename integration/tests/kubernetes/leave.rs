//! The way out: a namespace leaves the mesh while its pods run, an install that finds everything as it should be writes
//! nothing, and an uninstall leaves nodes and pods as they were and takes nothing of its users' away.

use std::collections::BTreeMap;

use ambit_lab::cluster::{Cluster, SYSTEM, eventually};
use libtest_mimic::Failed;

use crate::mesh::{AMBIENT, SOON, Space, ambit, install, installed};
use crate::support::{Check, check};

const MANIFESTS: &str = "
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 5678}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}}, spec: {terminationGracePeriodSeconds: 1,
  containers: [{name: web, image: 'hashicorp/http-echo:1.0', args: [-text=hello]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client}, spec: {terminationGracePeriodSeconds: 1,
  containers: [{name: curl, image: 'curlimages/curl:8.17.0', command: [sleep, infinity]}]}}
---
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default}, spec: {mtls: {mode: STRICT}}}
";
/// A caller outside of the mesh.
const STRANGER: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: stranger}, spec: {terminationGracePeriodSeconds: 1,
  containers: [{name: curl, image: 'curlimages/curl:8.17.0', command: [sleep, infinity]}]}}
";
const REDIRECTION: &str = "jsonpath={.metadata.annotations.ambient\\.istio\\.io/redirection}";
/// Everything that an install makes, as kubectl names it.
const MADE: &str = "customresourcedefinitions,clusterroles,clusterrolebindings,serviceaccounts,services,deployments,\
    daemonsets,roles,rolebindings,poddisruptionbudgets,networkpolicies,validatingwebhookconfigurations";

pub(crate) fn twice(cluster: &Cluster) -> Check {
    installed(cluster)?;
    let before = versions(cluster)?;
    check(before.len() > 20, || format!("an install makes {} objects", before.len()))?;
    println!("{}", install(cluster)?);
    let after = versions(cluster)?;
    let changed: Vec<_> =
        after.iter().filter(|(name, version)| before.get(*name) != Some(*version)).collect();
    check(changed.is_empty() && before.len() == after.len(), || format!("changed: {changed:?}"))
}

/// Resource versions of what an install makes. Statuses are other people's: of what has one the generation counts.
fn versions(cluster: &Cluster) -> Result<BTreeMap<String, String>, Failed> {
    let listed = cluster.get(&["--all-namespaces", "-l", "app.kubernetes.io/part-of=ambit", MADE])?;
    let items = listed["items"].as_array().into_iter().flatten();
    let version = |item: &serde_json::Value| {
        let about = &item["metadata"];
        let name = format!("{} {}/{}", item["kind"], about["namespace"], about["name"]);
        let has_status =
            item.get("status").is_some_and(|status| status.as_object().is_some_and(|all| !all.is_empty()));
        let field = if has_status { "generation" } else { "resourceVersion" };
        (name, about[field].to_string())
    };
    Ok(items.map(version).collect())
}

/// Every file below a node's folder of network plugins and of their configuration, with what it holds.
fn node_files(cluster: &Cluster, node: &str) -> Result<String, Failed> {
    let script =
        "cd / && for file in $(find etc/cni/net.d opt/cni/bin -type f | sort); do sha256sum $file; done";
    Ok(cluster.on_node(node, &["sh", "-c", script])?)
}

/// nftables' tables of a node, without kube-proxy's own.
fn tables(cluster: &Cluster, node: &str) -> Result<String, Failed> {
    Ok(cluster.on_node(node, &["nft", "list", "tables"])?)
}

pub(crate) fn uninstall(cluster: &Cluster) -> Check {
    let nodes = ["node1", "node2"];
    installed(cluster)?;
    let space = Space::new(cluster, "leave", AMBIENT)?;
    let outside = Space::new(cluster, "leave-outside", "")?;
    space.apply(MANIFESTS)?;
    outside.apply(STRANGER)?;
    space.ready()?;
    outside.ready()?;
    space.comes_to("client", &["web"], 200)?;
    outside.comes_to("stranger", &["web.leave"], 0)?;
    let pods = uids(&space)?;
    // A namespace leaves: its policy has nobody to enforce it any more.
    space.cluster.must(&["label", "namespace", space.name, "istio.io/dataplane-mode-"])?;
    outside.comes_to("stranger", &["web.leave"], 200)?;
    redirection(&space, "")?;
    space.cluster.must(&["label", "namespace", space.name, "istio.io/dataplane-mode=ambient"])?;
    outside.comes_to("stranger", &["web.leave"], 0)?;
    for node in nodes {
        check(node_files(cluster, node)?.contains("ambit-cni"), || format!("{node} has no plugin"))?;
    }
    let said = ambit(cluster, &["uninstall"])?;
    check(said.well(), || format!("uninstall: {}", said.all()))?;
    println!("{}", said.out);
    for node in nodes {
        let (files, tables) = (node_files(cluster, node)?, tables(cluster, node)?);
        check(!files.contains("ambit"), || format!("{node}: {files}"))?;
        check(!tables.contains("ambit"), || format!("{node}: {tables}"))?;
        let entry = cluster.on_node(node, &["sh", "-c", "cat /etc/cni/net.d/*"])?;
        check(!entry.contains("ambit"), || format!("{node}: {entry}"))?;
    }
    redirection(&space, "")?;
    outside.comes_to("stranger", &["web.leave"], 200)?;
    space.comes_to("client", &["web"], 200)?;
    check(uids(&space)? == pods, || "pods were started again".to_owned())?;
    // New pods start as on any cluster.
    outside.apply(&STRANGER.replace("name: stranger", "name: newcomer"))?;
    outside.ready()?;
    // What users wrote is still there.
    space.must(&["get", "peerauthentication", "default"])?;
    gone(cluster)
}

fn redirection(space: &Space<'_>, expected: &str) -> Check {
    Ok(eventually(&format!("redirection {expected:?} of leave/web"), SOON, || {
        let have =
            space.must(&["get", "pod", "web", "-o", REDIRECTION]).map_err(|failed| format!("{failed:?}"))?;
        if have == expected { Ok(()) } else { Err(have) }
    })?)
}

fn uids(space: &Space<'_>) -> Result<String, Failed> {
    let of_each =
        "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}";
    space.must(&["get", "pods", "-o", of_each])
}

/// Nothing of the mesh is left but its definitions.
fn gone(cluster: &Cluster) -> Check {
    let kinds =
        "clusterroles,clusterrolebindings,validatingwebhookconfigurations,deployments,daemonsets,services";
    let words = ["get", kinds, "--all-namespaces", "-l", "app.kubernetes.io/part-of=ambit", "-o", "name"];
    let left = cluster.must(&words)?;
    check(left.trim().is_empty(), || format!("left: {left}"))?;
    let pods = cluster.kubectl(&["get", "pods", "-n", SYSTEM, "-o", "name"])?;
    check(!pods.out.contains("pod/"), || format!("left: {}", pods.out))
}
