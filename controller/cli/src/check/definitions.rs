//! CustomResourceDefinitions: those of the Gateway API, and Istio's, whoever brought them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Finding;
use super::nodes::numbers;
use crate::cluster::{annotation, label, name};
use crate::install::{can_bring_gateway_api, ours};

/// The oldest Gateway API with a version `v1` of all that waypoints need.
const GATEWAY_API: (u32, u32) = (1, 1);

/// What stands for the Gateway API.
const GATEWAYS: &str = "gateways.gateway.networking.k8s.io";

/// Definitions, before an installation or after it.
pub(super) fn definitions(held: &[Value], pre: bool) -> Vec<Finding> {
    let mut findings = vec![gateway_api(held, pre)];
    let (mut missing, mut foreign) = (Vec::new(), BTreeSet::new());
    for own in ours() {
        let Some(one) = held.iter().find(|one| name(one) == name(&own)) else {
            missing.push(name(&own).to_owned());
            continue;
        };
        let lacks: Vec<String> = served(&own).difference(&served(one)).cloned().collect();
        if !lacks.is_empty() {
            findings.push(Finding::error(
                format!("definition {} does not serve {}", name(one), lacks.join(", ")),
                format!("if nobody else needs the old one, let Ambit bring its own: kubectl delete crd {} (which removes its objects) && ambit install", name(one)),
            ));
        }
        if label(one, "app.kubernetes.io/part-of") != Some("ambit") {
            foreign.insert(label(one, "app.kubernetes.io/managed-by").unwrap_or("somebody else"));
        }
    }
    if !pre && !missing.is_empty() {
        let says = format!("definitions are missing: {}", missing.join(", "));
        findings.push(Finding::error(says, "ambit install"));
    }
    if !foreign.is_empty() {
        let by: Vec<&str> = foreign.into_iter().collect();
        findings.push(Finding::ok(format!(
            "Istio's definitions were brought by {}: Ambit leaves them",
            by.join(", ")
        )));
    }
    findings
}

fn gateway_api(held: &[Value], pre: bool) -> Finding {
    let Some(one) = held.iter().find(|one| name(one) == GATEWAYS) else {
        return match pre && can_bring_gateway_api() {
            true => Finding::ok("no Gateway API yet: an installation brings it"),
            false => Finding::error(
                "the cluster has no Gateway API",
                "let an ambit that holds it bring it: cargo xtask ambit install",
            ),
        };
    };
    let version =
        annotation(one, "gateway.networking.k8s.io/bundle-version").unwrap_or("of an unknown version");
    match numbers(version.trim_start_matches('v')) {
        Some(held) if held < GATEWAY_API => Finding::error(
            format!("the Gateway API is {version}, without GRPCRoute v1"),
            "upgrade it: kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.6.3/standard-install.yaml",
        ),
        _ => Finding::ok(format!("Gateway API {version}")),
    }
}

fn served(definition: &Value) -> BTreeSet<String> {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let served = versions.filter(|version| version["served"] == true);
    served.filter_map(|version| version["name"].as_str().map(str::to_owned)).collect()
}
