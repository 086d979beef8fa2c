//! Other meshes in the same cluster.

use serde_json::Value;

use super::Finding;
use crate::chart;
use crate::cluster::{label, name, namespace, told};
use crate::enroll;

/// What is found of whom, and what it means for Ambit.
pub(super) fn meshes(deployments: &[Value], daemons: &[Value], namespaces: &[Value]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let apps = |objects: &[Value], app: &str| {
        objects.iter().filter(|one| label(one, "app") == Some(app)).map(told).collect::<Vec<_>>()
    };
    for istiod in apps(deployments, "istiod") {
        findings.push(Finding::warning(
            format!("{istiod} is there: both would take Gateways of class istio-waypoint"),
            "leave these to Istio: ambit install --set controller.istioWaypoints=false",
        ));
    }
    let nodes = daemons.iter().filter(|one| label(one, "k8s-app") == Some("istio-cni-node"));
    for node in nodes {
        findings.push(Finding::error(
            format!("{} is there: Istio's node agent takes the same pods into its mesh", told(node)),
            "remove Istio's ambient mode first: istioctl uninstall, or its chart cni",
        ));
    }
    let foreign = daemons
        .iter()
        .filter(|one| label(one, "app") == Some("ztunnel") && namespace(one) != chart::NAMESPACE);
    for ztunnel in foreign {
        findings.push(Finding::error(
            format!("{} is there: two ztunnels of a node would ask for the same pods", told(ztunnel)),
            "remove Istio's ambient mode first: istioctl uninstall, or its chart ztunnel",
        ));
    }
    for linkerd in
        deployments.iter().filter(|one| label(one, "linkerd.io/control-plane-component").is_some()).take(1)
    {
        findings.push(Finding::warning(
            format!(
                "Linkerd is there (namespace {}): pods with its proxy must stay out of Ambit",
                namespace(linkerd)
            ),
            "enrol only namespaces without the annotation linkerd.io/inject",
        ));
    }
    findings.extend(twice(namespaces));
    findings
}

/// Namespaces that ask for two meshes.
fn twice(namespaces: &[Value]) -> Vec<Finding> {
    let injects = |one: &&Value| {
        let istio = label(one, "istio-injection") == Some("enabled");
        let linkerd = crate::cluster::annotation(one, "linkerd.io/inject") == Some("enabled");
        enroll::is_enrolled(one) && (istio || linkerd)
    };
    let both = namespaces.iter().filter(injects);
    both.map(|one| {
        Finding::warning(
            format!(
                "namespace {} asks for Ambit and for sidecars: pods with a sidecar stay outside Ambit",
                name(one)
            ),
            format!("decide: ambit unenroll {0}, or take away its injection and restart its pods", name(one)),
        )
    })
    .collect()
}
