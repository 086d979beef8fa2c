//! API server, nodes, and the container network.

use serde_json::Value;

use super::Finding;
use crate::chart;
use crate::cluster::{label, name};

/// The oldest API server that takes every object of an installation.
const KUBERNETES: (u32, u32) = (1, 30);

/// The oldest kernel whose rules and sockets do what a node needs (nftables with `socket` and `ct`, in every namespace).
const KERNEL: (u32, u32) = (5, 10);

/// Container networks by the names of their DaemonSets, as far as they need a word.
const NETWORKS: [(&str, &str); 8] = [
    ("cilium", "Cilium"),
    ("calico-node", "Calico"),
    ("kube-flannel-ds", "Flannel"),
    ("aws-node", "Amazon VPC CNI"),
    ("kindnet", "kindnet"),
    ("antrea-agent", "Antrea"),
    ("weave-net", "Weave Net"),
    ("kube-router", "kube-router"),
];

/// The API server's version.
pub(super) fn version(version: &Value) -> Finding {
    let told = version["gitVersion"].as_str().unwrap_or("of an unknown version");
    match numbers(told.trim_start_matches('v')) {
        Some(held) if held >= KUBERNETES => Finding::ok(format!("Kubernetes {told}")),
        Some(_) => Finding::error(
            format!("Kubernetes {told} is older than {}.{}", KUBERNETES.0, KUBERNETES.1),
            "upgrade the cluster",
        ),
        None => {
            Finding::warning(format!("Kubernetes {told}"), "see whether it is 1.30 or newer: kubectl version")
        }
    }
}

/// Nodes' systems and kernels.
pub(super) fn nodes(nodes: &[Value]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut well = 0;
    for node in nodes {
        let info = &node["status"]["nodeInfo"];
        let text = |field: &str| info[field].as_str().unwrap_or_default();
        if text("operatingSystem") != "linux" {
            findings.push(Finding::warning(
                format!(
                    "node {} runs {}: its pods stay outside the mesh",
                    name(node),
                    text("operatingSystem")
                ),
                "keep enrolled applications on Linux nodes",
            ));
            continue;
        }
        match numbers(text("kernelVersion")) {
            Some(kernel) if kernel < KERNEL => findings.push(Finding::error(
                format!("the kernel of node {} is {}", name(node), text("kernelVersion")),
                format!(
                    "use nodes with Linux {}.{} or newer, or keep Ambit off it: --set ztunnel.nodeSelector.NAME=VALUE and node.nodeSelector likewise",
                    KERNEL.0, KERNEL.1
                ),
            )),
            _ => well += 1,
        }
    }
    if well > 0 {
        findings.push(Finding::ok(format!("{well} of {} nodes have a kernel that serves", nodes.len())));
    }
    findings
}

/// The container network, and how it must be set.
pub(super) fn network(daemons: &[Value], cilium: &Option<Value>) -> Vec<Finding> {
    let known = |daemon: &Value| NETWORKS.iter().find(|(known, _)| *known == name(daemon));
    let found: Vec<&str> = daemons.iter().filter_map(known).map(|(_, told)| *told).collect();
    let mut findings: Vec<Finding> =
        found.iter().map(|told| Finding::ok(format!("container network: {told}"))).collect();
    let Some(config) = cilium else { return findings };
    let set = |key: &str| config["data"][key].as_str().unwrap_or_default();
    let patch = |key: &str, value: &str| {
        format!(
            "kubectl -n kube-system patch configmap cilium-config --type merge -p '{{\"data\":{{\"{key}\":\"{value}\"}}}}' && kubectl -n kube-system rollout restart daemonset cilium"
        )
    };
    if set("cni-exclusive") != "false" {
        findings.push(Finding::error(
            "Cilium removes every other plugin from the nodes' CNI configuration (cni-exclusive)",
            patch("cni-exclusive", "false"),
        ));
    }
    let replaces = matches!(set("kube-proxy-replacement"), "true" | "strict") || set("bpf-lb-sock") == "true";
    if replaces && set("bpf-lb-sock-hostns-only") != "true" {
        findings.push(Finding::error(
            "Cilium replaces Services' addresses in pods' sockets, before ztunnel sees them (bpf-lb-sock)",
            patch("bpf-lb-sock-hostns-only", "true"),
        ));
    }
    findings
}

/// Our namespace, if it is there already.
pub(super) fn namespace(namespaces: &[Value]) -> Vec<Finding> {
    let own = namespaces.iter().find(|one| name(one) == chart::NAMESPACE);
    let level = own.and_then(|own| label(own, "pod-security.kubernetes.io/enforce"));
    match level {
        Some(level) if level != "privileged" => vec![Finding::error(
            format!(
                "namespace {} admits only {level} pods; ztunnel and the node agent need more",
                chart::NAMESPACE
            ),
            format!(
                "kubectl label --overwrite namespace {} pod-security.kubernetes.io/enforce=privileged",
                chart::NAMESPACE
            ),
        )],
        _ => Vec::new(),
    }
}

/// Major and minor of a version such as `6.1.0-18-amd64`.
pub(super) fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}
